"""``stroketrain distill``: T1s without masks, labelled by a model, as a cache that fit reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..values import amount, count, threshold, whole


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "distill",
        help="label T1s with an installed model, for a faster network to learn from",
        description="Writes a cache for fit (OUT), the teacher's probabilities in it, and "
        "OUT/heads for fit --network volumetric. Run again to resume, or with "
        "another --threshold to cut the labels anew from what the teacher said.",
    )
    p.add_argument("teacher", help="an installed model's name; see stroke-lesion-seg models list")
    p.add_argument("scans", type=Path, help="folder of T1s, BIDS or not, or a list of them")
    p.add_argument("out", type=Path)
    p.add_argument("--threshold", type=threshold, help="default: what the teacher recommends")
    p.add_argument("--min-volume", type=amount, help="smallest lesion in mL; default: the same")
    p.add_argument("--no-mirror", action="store_true", help="no mean over mirrored windows")
    p.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    p.add_argument("--threads", type=count)
    p.add_argument("--seed", type=whole, default=0, help="of the split into parts")
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Labels what is not labelled yet, and writes the cache."""
    from ..distill.label import DistillOptions, distill

    options = DistillOptions(
        a.threshold, a.min_volume, not a.no_mirror, a.device, a.threads, a.seed
    )
    distill(a.teacher, a.scans, a.out, options)
