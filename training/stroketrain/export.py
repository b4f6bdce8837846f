"""``stroketrain export``: a run becomes a model that the engine installs."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.models import write_model

from .data.reading import WINDOW, WINDOW_LOW_OF

CHANNELS = {
    1: ["t1"],
    4: ["t1", "click_positive", "click_negative", "previous_probability"],
}


def export(
    run: Path,
    out: Path,
    *,
    name: str,
    version: str,
    title: str,
    description: str,
    threshold: float = 0.5,
    hysteresis: float | None = None,
    min_volume_ml: float = 0.05,
    training: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    default: bool = False,
) -> Path:
    """Write ``manifest.json`` and ``weights.safetensors`` (float16) of a finished run into ``out``.

    Raises ``InputError`` if the weights do not fit the run's network.
    """
    from safetensors.torch import load_file

    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    state = load_file(str(run / "weights.safetensors"))
    manifest = {
        "schema": 1,
        "name": name,
        "version": version,
        "title": title,
        "description": description,
        "license": "Apache-2.0",
        "intended_use": "Research on chronic stroke in T1-weighted MRI of adults. Trained on "
        "simulated strokes. Not a medical device; not for diagnosis or treatment.",
        "created": datetime.date.today().isoformat(),
        "network": record["network"],
        "channels": CHANNELS[int(record["network"].get("in_channels", 1))],
        "contrast": "T1w",
        "labels": {"1": "stroke lesion"},
        "preprocessing": {
            "grid": "mni152-2009a-1mm",
            "window_percentiles": list(WINDOW),
            "window_low_of": WINDOW_LOW_OF,
            "pad_multiple": 16,
            "brain_mask_margin_mm": 5,
        },
        "inference": {
            "threshold": threshold,
            "hysteresis": hysteresis,
            "min_volume_ml": min_volume_ml,
            "views": "axial",
            "flip_axes": ["i"],
        },
        "training": {**record, **(training or {})},
        "metrics": metrics or {},
    }
    if default:
        manifest["default"] = True
    write_model(out, manifest, state, dtype="float16")
    return out
