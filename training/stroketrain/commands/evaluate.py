"""``stroketrain evaluate``: scores of a model on an ATLAS tree."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..values import amount, threshold


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "evaluate", help="score a model on an ATLAS tree"
    )
    p.add_argument("tree", type=Path)
    p.add_argument("--model", help="name or folder of a model; default the one that ships")
    p.add_argument("--threshold", type=threshold)
    p.add_argument("--min-volume", type=amount)
    p.add_argument("--views", default="axial", choices=("axial", "triplanar"))
    p.add_argument("--tta", action="store_true")
    p.add_argument(
        "--scorer", default="all", choices=("all", "atlas2022", "isles2022", "isles2026")
    )
    p.add_argument("--split", type=Path, help="score one part of this split alone")
    p.add_argument("--part", choices=("train", "val", "test"), help="of --split; default test")
    p.add_argument("--out", type=Path, help="JSON with every case")
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Prints the scores as JSON; raises ``InputError`` for a part of no split."""
    from StrokeLesionSegLib.errors import InputError
    from StrokeLesionSegLib.inference import SegmentOptions
    from StrokeLesionSegLib.models import load_model
    from StrokeLesionSegLib.operating_point import OperatingPointChoice

    from ..evaluate import SCORER_NAMES, evaluate, part_of_split

    if a.part and not a.split:
        raise InputError("--part", "is of a split, but none is given", "Add --split")
    result = evaluate(
        load_model(a.model),
        a.tree,
        SegmentOptions(views=a.views, tta=a.tta),
        OperatingPointChoice(a.threshold, min_volume_ml=a.min_volume),
        out=a.out,
        scorers=SCORER_NAMES if a.scorer == "all" else (a.scorer,),
        names=part_of_split(a.split, a.part or "test") if a.split else None,
    )
    print(json.dumps(result, indent=2))
