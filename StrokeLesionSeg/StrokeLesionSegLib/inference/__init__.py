"""Inference: from a T1 volume to a probability of lesion on the scan's own grid.

Names are resolved on first use (PEP 562), so that importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
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
    },
)

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
