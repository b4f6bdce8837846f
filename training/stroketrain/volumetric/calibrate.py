"""Calibration of a model's probabilities, so that the expected Dice comes true on validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.lesions.expected import FLOOR, expected_dice

# What is tried. A finer grid finds nothing that other validation scans would confirm.
SLOPES = tuple(np.round(np.arange(0.2, 1.41, 0.05), 2).tolist())
SHIFTS = tuple(np.round(np.arange(-3.0, 1.01, 0.1), 2).tolist())
_ENOUGH = 5000


@dataclass(frozen=True, eq=False)
class Answer:
    """One scan with something marked.

    ``probability``: (N,) float32 of the voxels that are marked or reach the expected Dice's floor.
    ``marked``: (N,) bool. ``dice``: reached, against the truth.
    """

    probability: NDArray[np.float32]
    marked: NDArray[np.bool_]
    dice: float

    __repr__ = brief_repr

    @classmethod
    def of(cls, probability: NDArray[np.float32], mask: NDArray[np.bool_], dice: float) -> Answer:
        """Of a (K, J, I) map and its mask."""
        chosen = mask | (probability >= FLOOR)
        # Every so many are as good as all: only sums count.
        step = max(1, int(np.count_nonzero(chosen)) // _ENOUGH)
        return cls(probability[chosen][::step], mask[chosen][::step], dice)

    def expected(self, calibration: Calibration) -> float:
        """The Dice coefficient that is expected of it."""
        return expected_dice(self.probability, self.marked, calibration=calibration).value


def fit_calibration(answers: Iterable[Answer]) -> Calibration:
    """The calibration with the least mean squared error of the expected Dice.

    Answers without a marked voxel say nothing and are left out; without any other, nothing is
    changed.
    """
    found = [a for a in answers if a.marked.any()]
    if not found:
        return Calibration()
    tried = [Calibration(slope, shift) for slope in SLOPES for shift in SHIFTS]
    return min(tried, key=lambda one: error_of(found, one))


def error_of(answers: Sequence[Answer], calibration: Calibration) -> float:
    """Mean squared error of the expected Dice."""
    return float(np.mean([(a.expected(calibration) - a.dice) ** 2 for a in answers]))
