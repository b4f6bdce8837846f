"""The calibration that makes the expected Dice come true."""

from __future__ import annotations

import numpy as np
import pytest
from StrokeLesionSegLib.calibration import Calibration
from stroketrain.volumetric.calibrate import Answer, error_of, fit_calibration


def _answers(true: Calibration, seed: int) -> list[Answer]:
    """Maps whose voxels are lesion as often as ``true`` says."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(12):
        p = rng.beta(0.4, 0.6, (20, 24, 22)).astype(np.float32)
        truth = rng.random(p.shape) < true.of(p)
        # What nobody would ask for counts as 0 on both sides.
        truth &= p >= 0.05
        mask = p >= rng.uniform(0.2, 0.7)
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        out.append(Answer.of(p, mask, float(dice)))
    return out


@pytest.mark.parametrize("true", [Calibration(0.6, -0.8), Calibration(1.2, 0.3)])
def test_what_was_put_in_is_found(true: Calibration) -> None:
    shown, kept = _answers(true, 0), _answers(true, 1)
    found = fit_calibration(shown)
    assert error_of(kept, found) < 2e-4
    assert error_of(kept, Calibration()) > 4 * error_of(kept, found)


def test_without_anything_marked_nothing_is_changed() -> None:
    p = np.full((4, 4, 4), 0.3, np.float32)
    assert fit_calibration([Answer.of(p, p > 1, 0.0)]) == Calibration()


def test_every_so_many_voxels_are_as_good_as_all() -> None:
    rng = np.random.default_rng(3)
    p = rng.random((60, 60, 60)).astype(np.float32)
    few = Answer.of(p, p >= 0.5, 0.5)
    assert len(few.probability) < 11_000
    exact = 2 * p[p >= 0.5].sum() / ((p >= 0.5).sum() + p[p >= 0.05].sum())
    assert few.expected(Calibration()) == pytest.approx(exact, abs=0.01)
