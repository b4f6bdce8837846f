"""What clicks say of the tissue around them, beyond the slices that the network answers.

The log odds of lesion are taken for a Gaussian process about the model's own: a click is an
observation that they lie on one side by a margin, and what it adds to them fades with distance and
with unlikeness of tissue (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
chapter 2). Tissue that the model was in doubt about turns over easily, tissue that it was sure of
stays as it was, and clicks that say the same do not add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .regions import around, whole_box
from .types import EMPTY, Box, intersect, is_empty, join, within

# Log odds that a click stands for, those that the model may have at most, and the variance of a
# click's own error.
_MARGIN, _MOST, _NOISE = 2.5, 6.0, 0.05
# Two scales: tissue that looks alike (T1 of the window, after a blur) far around, and whatever
# lies close. In mm; the share of the first.
_FAR_MM, _ALIKE, _BLUR_MM = 10.0, 0.1, 1.0
_NEAR_MM, _SHARE = 4.0, 0.6
# Beyond three standard deviations nothing is left.
_REACH_MM = 30


@dataclass(frozen=True)
class Evidence:
    """A click: its place (canonical ijk), whether it says lesion, and the model's log odds there
    (0 where the model's answer is cut)."""

    place: tuple[float, float, float]
    positive: bool
    before: float


def log_odds(probability: NDArray[np.float32], cut: float) -> NDArray[np.float32]:
    """Log odds of ``probability``, 0 at ``cut``, within what counts as certain."""
    tiny = np.float32(1e-6)
    p = np.clip(probability, tiny, 1 - tiny)
    cut = min(max(cut, 1e-6), 1 - 1e-6)
    odds = np.clip(np.log(p / (1 - p)), -_MOST, _MOST)
    return (odds - np.float32(np.log(cut / (1 - cut)))).astype(np.float32)


class Spread:
    """What ``evidence`` adds to the log odds around it.

    Parameters
    ----------
    t1: (K, J, I) float32 in [0, 1], 1 mm voxels.
    """

    def __init__(self, t1: NDArray[np.float32], evidence: Sequence[Evidence]) -> None:
        self._t1 = t1
        self._places = np.array([e.place for e in evidence], np.float64).reshape(-1, 3)
        self._tissue = np.array([self._blurred_at(p) for p in self._places])
        wanted = np.array([_MARGIN if e.positive else -_MARGIN for e in evidence])
        lack = wanted - np.array([e.before for e in evidence])
        # What is as the click says already needs nothing.
        lack = np.where(lack * wanted > 0, lack, 0.0)
        between = ((self._places[:, None] - self._places[None]) ** 2).sum(axis=-1)
        unlike = (self._tissue[:, None] - self._tissue[None]) ** 2
        kernel = _SHARE * np.exp(-between / (2 * _FAR_MM**2) - unlike / (2 * _ALIKE**2))
        kernel += (1 - _SHARE) * np.exp(-between / (2 * _NEAR_MM**2))
        self.weights = np.linalg.solve(kernel + _NOISE * np.eye(len(kernel)), lack)

    def _blurred_at(self, place: NDArray[np.float64]) -> float:
        at = np.clip(np.rint(place[::-1]).astype(int), 0, np.array(self._t1.shape) - 1)
        box = tuple(slice(int(n), int(n) + 1) for n in at)
        return float(self._blurred(box)[0, 0, 0])  # type: ignore[arg-type]

    def _blurred(self, box: Box) -> NDArray[np.float32]:
        from scipy.ndimage import gaussian_filter

        margin = int(4 * _BLUR_MM + 0.5)
        wide = tuple(
            slice(max(0, part.start - margin), min(size, part.stop + margin))
            for part, size in zip(box, self._t1.shape, strict=True)
        )
        return gaussian_filter(self._t1[wide], _BLUR_MM)[within(box, wide)]  # type: ignore[arg-type]

    def box_of(self, number: int) -> Box:
        """Where evidence ``number`` adds anything, cut to the volume; may be empty."""
        if not self.weights[number]:
            return EMPTY
        return around(self._places[number], _REACH_MM, whole_box(self._t1.shape))

    @property
    def box(self) -> Box:
        """Where anything is added."""
        box = EMPTY
        for number in range(len(self.weights)):
            box = join(box, self.box_of(number))
        return box

    def push(self, box: Box) -> NDArray[np.float32]:
        """What is added to the log odds in ``box``, float32 of its shape."""
        result = np.zeros([part.stop - part.start for part in box], np.float32)
        reached = intersect(self.box, box)
        if is_empty(reached):
            return result
        blurred = self._blurred(reached)
        for number, weight in enumerate(self.weights):
            shared = intersect(self.box_of(number), box)
            if is_empty(shared):
                continue
            away = [
                (np.arange(part.start, part.stop) - middle) ** 2
                for part, middle in zip(shared, self._places[number][::-1], strict=True)
            ]
            unlike = blurred[within(shared, reached)] - np.float32(self._tissue[number])
            far = _bell(away, _FAR_MM) * np.exp(unlike**2 * np.float32(-1 / (2 * _ALIKE**2)))
            added = np.float32(_SHARE) * far + np.float32(1 - _SHARE) * _bell(away, _NEAR_MM)
            result[within(shared, box)] += np.float32(weight) * added
        return result


def _bell(away: Sequence[NDArray[np.float64]], scale: float) -> NDArray[np.float32]:
    """(K, J, I): a Gaussian of standard deviation ``scale``, of squared distances by axis."""
    k, j, i = (np.exp(-a / (2 * scale**2)).astype(np.float32) for a in away)
    return k[:, None, None] * j[:, None] * i
