"""``stroke-lesion-seg score``: a mask against the truth, by one of the official scorers."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..pipeline import check_source
from .options import path
from .progress import print_json
from .tables import print_table

if TYPE_CHECKING:
    from ..images import Volume

SCORERS = ("atlas2022", "isles2022", "isles2026")
# Headers that went through float32 and quaternions agree to about this.
_TOLERANCE_MM = 0.01


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "score",
        help="compare a mask with the truth",
        description="Score a lesion mask against the true one. Both have to lie on the same grid.",
        allow_abbrev=False,
    )
    parser.add_argument("prediction", type=path, metavar="PRED", help="mask; voxels > 0 are lesion")
    parser.add_argument("truth", type=path, metavar="TRUTH", help="mask; voxels > 0 are lesion")
    parser.add_argument("--scorer", choices=SCORERS, default=SCORERS[0], help="default: atlas2022")
    parser.add_argument(
        "--soft", type=path, metavar="FILE", help="probability map, for isles2026's PR-AUC"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..lesions import score_case

    files = [arguments.prediction, arguments.truth]
    if arguments.soft is not None:
        files.append(arguments.soft)
    volumes = [_read(file) for file in files]
    for file, volume in zip(files[1:], volumes[1:], strict=True):
        _check_same_grid(arguments.prediction, volumes[0], file, volume)
    scores = score_case(
        volumes[0].array > 0,
        volumes[1].array > 0,
        volumes[1].affine,
        arguments.scorer,
        soft=volumes[2].array if arguments.soft is not None else None,
    )
    if arguments.json:
        # NaN and infinity are no JSON.
        clean = {k: v if _finite(v) else None for k, v in scores.items()}
        print_json({"scorer": arguments.scorer, **clean})
    else:
        rows = [[k, f"{v:.4f}" if isinstance(v, float) else str(v)] for k, v in scores.items()]
        print_table(("measure", arguments.scorer), rows)


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _read(file: Path) -> Volume:
    from ..images import read_scan

    check_source(file)
    return read_scan(file, allow_constant=True).volume  # nothing found, or nothing there


def _check_same_grid(file: Path, volume: Volume, other_file: Path, other: Volume) -> None:
    """A mirrored or shifted mask would be scored without complaint and wrongly."""
    if volume.array.shape != other.array.shape:
        cause = f"has {volume.array.shape[::-1]} voxels, {other_file} {other.array.shape[::-1]}"
    elif not volume.grid.same_as(other.grid, _TOLERANCE_MM):
        cause = f"lies elsewhere in space than {other_file}"
    else:
        return
    raise InputError(file, cause, "Resample one onto the grid of the other")
