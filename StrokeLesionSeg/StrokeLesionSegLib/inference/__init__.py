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
        "Expectation": "expectation",
        "expected_run": "expectation",
        "CANONICAL": "placing",
        "NATIVE": "placing",
        "PlacedScan": "placing",
        "TargetGrid": "placing",
        "GridPrediction": "predictor",
        "Predictor": "predictor",
        "make_predictor": "predictor",
        "SlicesPredictor": "slices",
        "STAGES": "progress",
        "Prediction": "stages",
        "ReadyScan": "stages",
        "after_network": "stages",
        "before_network": "stages",
        "run_network": "stages",
        "segment_volume": "stages",
        "SlicesOptions": "predict",
        "SlicesPrediction": "predict",
        "predict_volume": "predict",
        "PreparedNetwork": "prepare",
        "prepare_network": "prepare",
    },
)

__all__ = [
    "CANONICAL",
    "NATIVE",
    "STAGES",
    "Device",
    "Expectation",
    "GridPrediction",
    "PlacedScan",
    "Prediction",
    "Predictor",
    "PreparedNetwork",
    "ReadyScan",
    "SegmentOptions",
    "SlicesOptions",
    "SlicesPrediction",
    "SlicesPredictor",
    "TargetGrid",
    "after_network",
    "available_threads",
    "before_network",
    "choose_device",
    "expected_run",
    "make_predictor",
    "predict_volume",
    "prepare_environment",
    "prepare_network",
    "run_network",
    "segment_volume",
]

if TYPE_CHECKING:
    from .device import Device, available_threads, choose_device, prepare_environment
    from .expectation import Expectation, expected_run
    from .options import SegmentOptions
    from .placing import CANONICAL, NATIVE, PlacedScan, TargetGrid
    from .predict import SlicesOptions, SlicesPrediction, predict_volume
    from .predictor import GridPrediction, Predictor, make_predictor
    from .prepare import PreparedNetwork, prepare_network
    from .progress import STAGES
    from .slices import SlicesPredictor
    from .stages import (
        Prediction,
        ReadyScan,
        after_network,
        before_network,
        run_network,
        segment_volume,
    )
