"""``stroketrain tune``: thresholds and smallest lesion, chosen on trees."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..values import share


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "tune", help="choose thresholds and smallest lesion on a tree"
    )
    p.add_argument("tree", type=Path, nargs="+")
    p.add_argument("--quiet", type=share, default=0.85, help="share of healthy scans to be empty")
    p.add_argument("--model")
    p.add_argument("--views", default="axial", choices=("axial", "triplanar"))
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Prints every operating point tried, and the one that was chosen."""
    from StrokeLesionSegLib.inference import SegmentOptions
    from StrokeLesionSegLib.models import load_model

    from ..evaluate import predict_tree
    from ..tune import choose_operating_point, search_operating_points

    model, options = load_model(a.model), SegmentOptions(views=a.views)
    cases = [case for tree in a.tree for case in predict_tree(model, tree, options)]
    table = search_operating_points(cases)
    for point in table:
        print(json.dumps(point.row()))
    print("chosen:", json.dumps(choose_operating_point(table, a.quiet).row()))
