"""The Dice coefficient to expect, worked out by hand and against simulated truths."""

from __future__ import annotations

import numpy as np
import pytest
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.lesions import expected_dice, find_lesions
from StrokeLesionSegLib.operating_point import OperatingPoint


def test_values_worked_out_by_hand() -> None:
    p = np.zeros((1, 1, 6))
    p[0, 0] = [0.9, 0.8, 0.6, 0.3, 0.1, 0.01]
    mask = p >= 0.5
    # 2 (.9 + .8 + .6) / (3 + .9 + .8 + .6 + .3 + .1); .01 lies under the floor.
    assert expected_dice(p, mask).value == pytest.approx(4.6 / 5.7)
    assert expected_dice(p, mask, floor=0.0).value == pytest.approx(4.6 / 5.71)
    # A reader who takes the third voxel away and adds the last one is taken at his word.
    edited = np.array([[[1, 1, 0, 0, 0, 1]]])
    assert expected_dice(p, edited).value == pytest.approx(2 * 1.71 / (3 + 1.71 + 1.0))


def test_uncertainty_gives_bounds_and_agreement() -> None:
    p = np.array([[[0.8, 0.6, 0.2]]])
    s = np.array([[[0.1, 0.3, 0.1]]])
    found = expected_dice(p, p >= 0.5, s)
    assert found.value == pytest.approx(2.8 / 3.6)
    assert found.low == pytest.approx(2 * (0.7 + 0.3) / (2 + 1.0 + 0.3))
    assert found.high == pytest.approx(2 * (0.9 + 0.9) / (2 + 1.8 + 0.1))
    assert found.agreement == pytest.approx(1.04 / (1.04 + 0.11))
    certain = expected_dice(p, p >= 0.5, np.zeros_like(p))
    assert certain.low == certain.high == certain.value
    assert certain.agreement == 1.0
    without = expected_dice(p, p >= 0.5)
    assert (without.low, without.high, without.agreement) == (None, None, None)


def test_an_empty_mask_is_right_if_nothing_is_there() -> None:
    nothing = np.zeros((3, 4, 5))
    assert expected_dice(nothing, nothing).value == 1.0
    hint = nothing.copy()
    hint[1, 2, 3] = 0.4
    assert expected_dice(hint, nothing).value == pytest.approx(0.6)
    uncertainty = np.where(hint > 0, 0.2, 0.0)
    found = expected_dice(hint, nothing, uncertainty)
    assert (found.low, found.high) == (pytest.approx(0.4), pytest.approx(0.8))
    hint[1, 2, 3] = np.nan
    assert expected_dice(hint, nothing).value == 1.0


def test_calibrated_maps_reach_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    for sharpness in (1.0, 4.0):
        p = 1 / (1 + np.exp(-sharpness * (rng.normal(size=(20, 30, 40)) - 1)))
        mask = find_lesions(p, np.eye(4), OperatingPoint(0.5)).mask
        promised = expected_dice(p, mask, floor=0.0).value
        reached = []
        for _ in range(20):
            truth = rng.uniform(size=p.shape) < p
            reached.append(2 * (truth & (mask > 0)).sum() / (truth.sum() + mask.sum()))
        assert np.mean(reached) == pytest.approx(promised, abs=0.01)


def test_what_does_not_fit_is_refused() -> None:
    p = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match="shape"):
        expected_dice(p, np.zeros((2, 3, 5)))
    with pytest.raises(ValueError, match="uncertainty"):
        expected_dice(p, p, np.zeros((3, 3, 4)))
    with pytest.raises(ValueError, match="floor"):
        expected_dice(p, p, floor=1.0)


def test_an_empty_mask_doubts_every_piece_by_itself() -> None:
    p = np.zeros((9, 10, 12), np.float32)
    p[1, 1, 1:4] = 0.2, 0.4, 0.3  # one piece, and a corner of it
    p[2, 2, 4] = 0.1
    p[7, 8, 9] = 0.25
    p[5, 5, 5] = 0.04  # below the floor
    nothing = np.zeros_like(p)
    assert expected_dice(p, nothing).value == pytest.approx(0.6 * 0.75)
    uncertainty = np.full_like(p, 0.05)
    found = expected_dice(p, nothing, uncertainty)
    assert found.low == pytest.approx(0.55 * 0.7)
    assert found.high == pytest.approx(0.65 * 0.8)
    # With something marked the pieces count as volume.
    mask = p >= 0.4
    assert expected_dice(p, mask).value == pytest.approx(0.8 / (1 + 1.25))
    # Against plain Python, piece after piece.
    from scipy.ndimage import label

    rng = np.random.default_rng(0)
    sparse = np.where(rng.random((20, 21, 22)) < 0.02, rng.random((20, 21, 22)), 0)
    labels, count = label(sparse >= 0.05, structure=np.ones((3, 3, 3)))
    chance = 1.0
    for n in range(1, count + 1):
        chance *= 1 - float(sparse[labels == n].max())
    assert count > 50
    assert expected_dice(sparse, sparse > 1).value == pytest.approx(chance, rel=1e-4, abs=1e-12)


def test_probabilities_are_taken_as_what_they_are_worth() -> None:
    p = np.array([[[0.9, 0.8, 0.3, 0.0]]], np.float32)
    mask = p >= 0.5
    worth = Calibration(0.5, -1.0)
    q = worth.of(p).ravel()
    assert q == pytest.approx(
        [1 / (1 + np.exp(1.0) * ((1 - x) / x) ** 0.5) if x else 0.0 for x in (0.9, 0.8, 0.3, 0)]
    )
    told = expected_dice(p, mask, np.full_like(p, 0.05), calibration=worth)
    assert told.value == pytest.approx(2 * (q[0] + q[1]) / (2 + q.sum()))
    low = worth.of([0.85, 0.75, 0.35, 0.05])
    # The empty voxel lies below the floor and stays out.
    assert told.low == pytest.approx(2 * low[:2].sum() / (2 + low[:2].sum() + worth.of(0.35)))
    assert told.low < told.value < told.high
    # A calibration that changes nothing changes nothing.
    same = expected_dice(p, mask, calibration=Calibration())
    assert same.value == pytest.approx(expected_dice(p, mask).value, abs=1e-9)
    assert expected_dice(p, mask * 0, calibration=worth).value == pytest.approx(1 - q[0])


@pytest.mark.parametrize(
    "wrong", [{"slope": 0}, {"slope": np.nan}, {"shift": np.nan}, {"shift": 11}]
)
def test_calibrations_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Calibration(**wrong)


def test_calibrating_leaves_order_and_ends() -> None:
    p = np.linspace(0, 1, 1001, dtype=np.float32)
    worth = Calibration(0.4, -0.7).of(p)
    assert (worth[0], worth[-1]) == (0.0, 1.0)
    assert (np.diff(worth) >= 0).all()
