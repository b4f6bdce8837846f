"""``stroketrain heads``: people without stroke and lesion masks, for the volumetric network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..values import count


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "heads", help="prepare healthy heads and lesion masks for fit --network volumetric"
    )
    p.add_argument("data", type=Path, help="folder with t1, ixi and lesions")
    p.add_argument("out", type=Path)
    p.add_argument("--workers", type=count, default=2)
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Prepares them and prints how many each part has."""
    from ..volumetric.heads import prepare_heads

    counts = prepare_heads(a.data, a.out, a.workers)
    print(", ".join(f"{n} {what}" for what, n in counts.items()) + f"; {a.out}")
