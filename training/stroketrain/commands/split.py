"""``stroketrain split``: which scans of a cache are for training, validation and test."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..values import whole


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "split", help="split a cache 60/20/20 and write the split as JSON"
    )
    p.add_argument("cache", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--by", default="subject", choices=("subject", "site", "scan", "slice"))
    p.add_argument("--seed", type=whole, default=0)
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Writes the split and prints its sizes."""
    from ..data.cache import Cache
    from ..data.splits import make_split

    cache = Cache.open(a.cache)
    split = make_split(cache.scans, a.by, seed=a.seed, fingerprint=cache.fingerprint)
    split.save(a.out)
    counts = ", ".join(f"{len(names)} {part}" for part, names in split.parts.items())
    print(f"split by {a.by}, scans: {counts}; {a.out}")
