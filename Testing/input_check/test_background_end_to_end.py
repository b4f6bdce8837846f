"""A stripped head with any background gives the mask that it gives with 0, by the shipped model."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from input_support import stripped
from StrokeLesionSegLib.images import Volume, checked_scan
from StrokeLesionSegLib.inference import SegmentOptions, after_network
from StrokeLesionSegLib.models import load_model
from StrokeLesionSegLib.pipeline import ScanRunner, find_in

pytestmark = pytest.mark.slow
# Stands for the largest value of the scan, as some tools write it around a brain.
LARGEST = math.inf


@lru_cache(maxsize=1)
def head() -> Volume:
    return stripped()


@lru_cache(maxsize=1)
def runner() -> ScanRunner:
    model = load_model()
    options = SegmentOptions(align="none", precision="float32")
    return ScanRunner(model, options, model.manifest.operating_point())


# Masks by what the network was shown: for the same it is asked once.
MASKS: dict[bytes, np.ndarray] = {}


def mask_of(background: float) -> np.ndarray:
    inside = head().array
    value = inside.max() if background == LARGEST else np.float32(background)
    scan = checked_scan("head", np.where(inside == 0, value, inside), head().affine)
    run = runner().prepare(Path("head"), scan, {})
    shown = hashlib.sha256(np.ascontiguousarray(run.ready.prepared.image)).digest()
    if shown not in MASKS:
        runner().network(run)
        MASKS[shown] = find_in(after_network(run.ready), runner().point).mask > 0
    return MASKS[shown]


@lru_cache(maxsize=1)
def expected() -> np.ndarray:
    return mask_of(0.0)


@settings(
    max_examples=2,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.floats(-40_000, 70_000, width=32))
@example(-1000.0)
@example(-32768.0)
@example(LARGEST)
@example(math.nan)
def test_the_mask_does_not_depend_on_the_background(background: float) -> None:
    mask, truth = mask_of(background), expected()
    assert truth.any()
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert dice >= 0.99, background
