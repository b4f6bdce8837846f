"""``stroketrain export``: a run becomes a model that the engine installs."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.models import write_model
from StrokeLesionSegLib.models.channels import BY_NUMBER
from StrokeLesionSegLib.operating_point import OperatingPoint

from .data.reading import WINDOW, WINDOW_LOW_OF

# What the engine runs: slice by slice, of any size.
NETWORKS = ("unet", "residual_unet")
_USUAL = OperatingPoint(0.5, min_volume_ml=0.05)


def _read_run(run: Path) -> dict[str, Any]:
    """The record of a finished run of a network that the engine can run; else ``InputError``."""
    for name in ("run.json", "weights.safetensors"):
        if not (run / name).is_file():
            raise InputError(
                run, f"is not a finished run: {name} is missing", "Let it run to its end"
            )
    record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    name = record["network"]["name"]
    if name not in NETWORKS:
        raise InputError(
            run,
            f"the engine cannot run {name}: it gives a network one slice of any size at a time",
            f"Export a run of {' or '.join(NETWORKS)}",
        )
    shrink = record.get("recipe", {}).get("frame", {}).get("shrink", 1)
    if shrink != 1:
        raise InputError(
            run,
            f"was trained on slices averaged down by {shrink}, but the engine uses whole ones",
            "Train with frame.shrink 1",
        )
    return record


def _channels(record: dict[str, Any], asked: Sequence[str] | None) -> list[str]:
    count = int(record["network"].get("in_channels", 1))
    names = list(asked or record.get("channels") or BY_NUMBER.get(count, ()))
    if len(names) != count:
        raise InputError(
            "--channels",
            f"the network takes {count} channels, but {len(names)} are named",
            "Name them in the order of training",
        )
    return names


def _trained_on(record: dict[str, Any]) -> str:
    """One sentence on where the training scans came from, as far as the run tells."""
    scans, simulated = record.get("data", {}).get("scans"), record.get("simulated_scans")
    if record.get("simulated") or (simulated and simulated == scans):
        return "Trained on simulated strokes. "
    if simulated is None:
        return ""
    if simulated:
        return f"Trained on {counted(scans, 'scan')}, {simulated} of them with simulated strokes. "
    return f"Trained on {counted(scans, 'scan')}, none of them simulated. "


@dataclass(frozen=True)
class ExportOptions:
    """What a manifest says besides what the run tells.

    Attributes
    ----------
    name, version, title, description, contrast, label: as in the manifest.
    point: the operating point that it recommends. of_views: those of views that want another.
    training, metrics: entries to add to the manifest's fields of these names.
    default: the model is to be the default one.
    channels: names of the network's inputs in their order, where the run does not tell.
    """

    name: str
    version: str = "0.1.0"
    title: str = "Residual U-Net (stem)"
    description: str = "Chronic stroke lesions in T1-weighted MRI."
    point: OperatingPoint = _USUAL
    of_views: Mapping[str, OperatingPoint] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    default: bool = False
    channels: Sequence[str] | None = None
    contrast: str = "T1w"
    label: str = "stroke lesion"


def export(run: Path, out: Path, options: ExportOptions) -> Path:
    """Write ``manifest.json`` and ``weights.safetensors`` (float16) of a finished run into ``out``.

    Raises ``InputError`` for an unfinished run, a network that the engine cannot run, channels of
    another number than it takes, and weights that do not fit it.
    """
    from safetensors.torch import load_file

    record = _read_run(run)
    names = _channels(record, options.channels)
    state = load_file(str(run / "weights.safetensors"))
    manifest = {
        "schema": 1,
        "name": options.name,
        "version": options.version,
        "title": options.title,
        "description": options.description,
        "license": "Apache-2.0",
        "intended_use": f"Research on {options.label} in {options.contrast} MRI of adults. "
        f"{_trained_on(record)}Not a medical device; not for diagnosis or treatment.",
        "created": datetime.date.today().isoformat(),
        "network": record["network"],
        "channels": names,
        "contrast": options.contrast,
        "labels": {"1": options.label},
        "preprocessing": {
            "grid": "mni152-2009a-1mm",
            "window_percentiles": list(WINDOW),
            "window_low_of": WINDOW_LOW_OF,
            "pad_multiple": max(16, 2 ** (len(record["network"].get("filters", ())) - 1)),
            "brain_mask_margin_mm": 3,
        },
        "inference": {
            **options.point.as_dict(),
            "views": "axial",
            "flip_axes": ["i"],
            "of_views": {views: own.as_dict() for views, own in options.of_views.items()},
        },
        "training": {**record, **options.training},
        "metrics": dict(options.metrics),
    }
    if options.default:
        manifest["default"] = True
    write_model(out, manifest, state, dtype="float16")
    return out
