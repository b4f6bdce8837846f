"""``stroketrain export``: a run becomes a model that can be installed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.operating_point import OperatingPoint

from ..values import json_object


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser(
        "export", help="turn a run into a model that can be installed"
    )
    p.add_argument("folder", metavar="run", type=Path, help="what fit wrote")
    p.add_argument("out", type=Path)
    p.add_argument("--name", required=True)
    p.add_argument("--version", default="0.1.0")
    p.add_argument("--title", default="Residual U-Net (stem)")
    p.add_argument("--description", default="Chronic stroke lesions in T1-weighted MRI.")
    p.add_argument("--channels", nargs="+", help="names of the input channels; default t1 (and "
                   "clicks, where the network takes four)")  # fmt: skip
    p.add_argument("--contrast", default="T1w", help="the MR contrast that it was trained on")
    p.add_argument("--label", default="stroke lesion", help="what the mask marks")
    p.add_argument("--threshold", type=float, default=0.5)
    p.add_argument("--second-threshold", type=float, help="see segment --second-threshold")
    p.add_argument("--min-volume", type=float, default=0.05)
    p.add_argument("--min-mean-probability", type=float, default=0.0)
    p.add_argument("--triplanar", type=float, nargs=3, metavar=("P", "SECOND", "ML"),
                   help="the first three with --views triplanar")  # fmt: skip
    p.add_argument("--training", type=Path, help="JSON to merge into the manifest's training field")
    p.add_argument("--metrics", type=Path, help="JSON for the manifest's metrics field")
    p.add_argument("--default", action="store_true")
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Writes the model's folder."""
    from ..export import ExportOptions, export

    options = ExportOptions(
        name=a.name,
        version=a.version,
        title=a.title,
        description=a.description,
        point=_point(a.threshold, a.second_threshold, a.min_volume, a.min_mean_probability),
        of_views={"triplanar": _point(*a.triplanar)} if a.triplanar else {},
        training=json_object(a.training),
        metrics=json_object(a.metrics),
        channels=a.channels,
        contrast=a.contrast,
        label=a.label,
        default=a.default,
    )
    print(export(a.folder, a.out, options))


def _point(*values: float | None) -> OperatingPoint:
    """The operating point of these values; ``InputError`` if they make none."""
    try:
        return OperatingPoint(*values)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError("operating point", str(error), "Correct the value") from None
