"""``stroketrain prepare``: an ATLAS tree of any layout as a cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "prepare", help="turn an ATLAS tree of any layout into a cache"
    )
    p.add_argument("tree", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--layout", default="auto", choices=("auto", "r2.0", "r3.0", "r1.1", "r1.2"))
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Writes the cache."""
    from ..data.cache import prepare

    prepare(a.tree, a.out, layout=a.layout)
