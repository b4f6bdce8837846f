"""Inference: from a T1 volume to a probability of lesion on the scan's own grid.

Names are resolved on first use (PEP 562), so that importing this package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "SegmentOptions": "options",
    "Device": "device",
    "available_threads": "device",
    "choose_device": "device",
    "prepare_environment": "device",
    "Prediction": "pipeline",
    "ReadyScan": "pipeline",
    "after_network": "pipeline",
    "before_network": "pipeline",
    "run_network": "pipeline",
    "segment_volume": "pipeline",
    "CanonicalPrediction": "predict",
    "predict_canonical": "predict",
    "predict_volume": "predict",
    "PreparedNetwork": "prepare",
    "prepare_network": "prepare",
}

__all__ = [
    "CanonicalPrediction",
    "Device",
    "Prediction",
    "PreparedNetwork",
    "ReadyScan",
    "SegmentOptions",
    "after_network",
    "available_threads",
    "before_network",
    "choose_device",
    "predict_canonical",
    "predict_volume",
    "prepare_environment",
    "prepare_network",
    "run_network",
    "segment_volume",
]

if TYPE_CHECKING:
    from .device import Device, available_threads, choose_device, prepare_environment
    from .options import SegmentOptions
    from .pipeline import (
        Prediction,
        ReadyScan,
        after_network,
        before_network,
        run_network,
        segment_volume,
    )
    from .predict import CanonicalPrediction, predict_canonical, predict_volume
    from .prepare import PreparedNetwork, prepare_network


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
