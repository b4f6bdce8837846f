"""``stroketrain release``: a model out of a run of the volumetric network, which may go on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..values import amount, count, positive, share, threshold


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "release", help="cut a model out of a run of fit --network volumetric"
    )
    p.add_argument("heads", type=Path, help="folder made by stroketrain heads")
    p.add_argument("run_folder", metavar="run", type=Path)
    p.add_argument("out", type=Path, help="folder for manifest and weights")
    p.add_argument("--name", required=True)
    p.add_argument("--version", default="0.1.0")
    p.add_argument("--minutes", type=amount, default=30.0, help="tail with a falling rate, 0: none")
    p.add_argument("--rate", type=positive, default=5e-4, help="at which the tail begins")
    p.add_argument("--empty", type=share, default=0.95, help="share of healthy scans to stay empty")
    p.add_argument("--threshold", type=threshold, help="fixed; default: the best on validation")
    p.add_argument("--threads", type=count, default=2)
    p.add_argument("--default", action="store_true", help="the model that is used if none is named")
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Cuts the release and prints operating point and validation as JSON."""
    from ..volumetric.heads import HeadFolder
    from ..volumetric.release import ReleaseOptions, cut_release
    from ..volumetric.trainer import TrainOptions

    options = ReleaseOptions(a.name, a.version, a.minutes, a.empty, a.threshold, default=a.default)
    tail = TrainOptions(rate=a.rate, threads=a.threads)
    print(
        json.dumps(cut_release(HeadFolder(a.heads), a.run_folder, a.out, options, tail), indent=1)
    )
