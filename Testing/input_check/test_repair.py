"""Backgrounds of any value, overrun integers, turned signs, absurd voxels: the same scan again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from StrokeLesionSegLib.images import Scan, checked_scan
from StrokeLesionSegLib.input_check import repair

_RNG = np.random.default_rng(5)
_AXES = np.ogrid[:40, :44, :38]
INSIDE = sum(((a - n / 2) / (0.4 * n)) ** 2 for a, n in zip(_AXES, (40, 44, 38), strict=True)) <= 1
BRAIN = np.where(INSIDE, _RNG.integers(60, 900, INSIDE.shape), 0).astype(np.float32)


def _scan(array: NDArray[np.generic]) -> Scan:
    return checked_scan("t1", array, np.eye(4))


def test_a_scan_as_it_should_be_is_left_alone() -> None:
    for array in (BRAIN, np.abs(_RNG.normal(0, 9, BRAIN.shape)).astype(np.float32) + BRAIN):
        scan = _scan(array)
        assert repair(scan) is scan


@pytest.mark.parametrize("value", [-1000, -32768, -1, 32767, 899, 500, 1e6])
def test_a_background_of_any_value_becomes_0(value: float) -> None:
    given_ = _scan(np.where(INSIDE, BRAIN, np.float32(value)))
    before = given_.volume.array.copy()
    scan = repair(given_)
    # Where tissue has the background's value, too, voxels at the brain's edge go with it.
    same = scan.volume.array == BRAIN
    assert same.mean() > 0.999
    assert (scan.volume.array[~INSIDE] == 0).all()
    assert scan.warnings == (f"the background of {value:g} was set to 0",)
    np.testing.assert_array_equal(given_.volume.array, before)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e5, 1e5, width=32), st.booleans())
def test_any_background_at_all(value: float, scores: bool) -> None:
    # As z-scores the brain has negative values, and 0 is the middle of it.
    brain = (BRAIN - 480) / 240 if scores else BRAIN
    scan = repair(_scan(np.where(INSIDE, brain, np.float32(value))))
    outside = scan.volume.array[~INSIDE]
    lowest, span = float(brain[INSIDE].min()), float(np.ptp(brain[INSIDE]))
    assert (outside == outside[0]).all()
    assert outside[0] <= max(lowest, 0.0 if not scores else lowest)
    assert outside[0] >= min(lowest, 0.0) - 0.06 * span
    assert (scan.volume.array[INSIDE] == brain[INSIDE].astype(np.float32)).mean() > 0.99


def test_nan_around_a_brain_is_background() -> None:
    scan = repair(_scan(np.where(INSIDE, BRAIN, np.float32(np.nan))))
    np.testing.assert_array_equal(scan.volume.array, BRAIN)
    assert "NaN" in scan.warnings[0]
    scores = (BRAIN - 480) / 240
    scan = repair(_scan(np.where(INSIDE, scores, np.float32(np.nan))))
    assert (scan.volume.array[~INSIDE] == scores[INSIDE].min()).all()


@pytest.mark.parametrize(("unsigned", "signed"), [("uint16", "int16"), ("uint8", "int8")])
def test_integers_that_ran_over(unsigned: str, signed: str) -> None:
    top = np.iinfo(unsigned).max
    whole = np.round(BRAIN / BRAIN.max() * top).astype(unsigned)
    scan = repair(_scan(whole.view(signed)))
    np.testing.assert_array_equal(scan.volume.array, whole.astype(np.float32))
    assert "had run over" in scan.warnings[0]


def test_a_background_at_the_end_of_the_type_has_not_run_over() -> None:
    bright = np.round(BRAIN * 36).astype(np.int16)
    scan = repair(_scan(np.where(INSIDE, bright, np.int16(-32768))))
    np.testing.assert_array_equal(scan.volume.array, bright)
    assert scan.warnings == ("the background of -32768 was set to 0",)


@pytest.mark.parametrize("noise", [False, True])
def test_a_turned_sign(noise: bool) -> None:
    array = BRAIN + (np.abs(_RNG.normal(0, 9, BRAIN.shape)).astype(np.float32) if noise else 0)
    scan = repair(_scan(-array))
    np.testing.assert_array_equal(scan.volume.array, array)
    assert scan.warnings == ("all values are negative; the sign was turned",)


@pytest.mark.parametrize("worst", [1e9, -1e9])
def test_a_few_absurd_voxels(worst: float) -> None:
    array = BRAIN.copy()
    array[20, 20, 20:23] = worst
    scan = repair(_scan(array))
    assert np.abs(scan.volume.array - BRAIN).max() < 1000
    assert (scan.volume.array != BRAIN).sum() <= 200
    assert any("absurd" in note for note in scan.warnings)
