"""Many operating points for the price of a few: components counted once for each first threshold.

A component stays or goes as a whole, so its size, its highest probability, its mean and how much of
it is lesion are all that a point's Dice depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...boxes import bounding_box, whole_box
from ...brief import brief_repr
from ...lesions.find import kept_components, label_components
from ...operating_point import OperatingPoint

# Voxels of the head box are of 1 mm.
_VOXEL_ML = 0.001
# What is tried beside the parent's own: thresholds, and what a lesion must reach. Its least volume
# stays: a larger one suits scans whose small lesions are missed, and loses those of others.
# A first threshold further away suits the few scans that choose and shrinks those that judge.
_FIRST = (0.2, 0.35)
_SECOND = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# What comes this near to the second threshold was nearly marked.
_NEARLY = 0.1


@dataclass(frozen=True, eq=False)
class Components:
    """What is above one first threshold in one probability map.

    ``sizes``, ``counted``, ``hits``: voxels by label, all, those that count, those of them that are
    lesion; ``highest``, ``mean``: of the probability. ``truth``: voxels of lesion that count.
    """

    sizes: NDArray[np.int64]
    counted: NDArray[np.int64]
    hits: NDArray[np.int64]
    highest: NDArray[np.float32]
    mean: NDArray[np.float64]
    truth: int

    __repr__ = brief_repr

    @staticmethod
    def of(
        probability: NDArray[np.float32],
        threshold: float,
        lesions: NDArray[np.bool_],
        counts: NDArray[np.bool_] | None = None,
    ) -> Components:
        """``probability``, ``lesions``, ``counts``: (160, 192, 160); without ``counts`` all do."""
        above = probability >= threshold
        box = bounding_box(above) or whole_box((1, 1, 1))
        labels = label_components(above[box], connectivity=26)
        probability, lesions_there = probability[box], lesions[box]
        inside = np.flatnonzero(labels)
        owner, values = labels.reshape(-1)[inside], probability.reshape(-1)[inside]
        sizes = np.bincount(owner, minlength=1)
        count = len(sizes)
        highest = np.zeros(count, np.float32)
        np.maximum.at(highest, owner, values)
        counted = np.ones(len(inside), bool) if counts is None else counts[box].reshape(-1)[inside]
        hit = lesions_there.reshape(-1)[inside] & counted
        return Components(
            sizes,
            np.bincount(owner[counted], minlength=count),
            np.bincount(owner[hit], minlength=count),
            highest,
            np.bincount(owner, values.astype(np.float64), minlength=count) / np.maximum(1, sizes),
            int((lesions if counts is None else lesions & counts).sum()),
        )

    def at(self, point: OperatingPoint) -> tuple[float, float]:
        """Dice and mL of what a point with this first threshold marks, of what counts."""
        second = point.second_threshold
        reached = None if second is None else np.flatnonzero(self.highest >= second)
        keep = kept_components(self.sizes, _VOXEL_ML, point.min_volume_ml, reached)
        if point.min_mean_probability > 0:
            keep &= self.mean >= point.min_mean_probability * (1 - 1e-6)
        found = int(self.counted[keep].sum())
        both = found + self.truth
        dice = 2 * int(self.hits[keep].sum()) / both if both else 1.0
        return dice, found * _VOXEL_ML


def bolder(point: OperatingPoint) -> OperatingPoint:
    """The point that asks a little less of a lesion: what it adds was nearly marked."""
    second = point.second_threshold
    if second is None:
        return point
    return OperatingPoint.at(
        point.threshold, max(point.threshold, second - _NEARLY), point.min_volume_ml,
        point.min_mean_probability,
    )  # fmt: skip


def scores_at(
    points: Sequence[OperatingPoint],
    probability: NDArray[np.float32],
    lesions: NDArray[np.bool_],
    counts: NDArray[np.bool_] | None = None,
) -> list[tuple[float, float]]:
    """Dice and mL of each point on one probability map."""
    by_first = {
        first: Components.of(probability, first, lesions, counts)
        for first in {point.threshold for point in points}
    }
    return [by_first[point.threshold].at(point) for point in points]


def points_about(point: OperatingPoint) -> list[OperatingPoint]:
    """Operating points to choose from, the given one first."""
    seconds = [point.second_threshold, *_SECOND]
    out = [point]
    for first in sorted({point.threshold, *_FIRST}):
        for second in seconds:
            other = OperatingPoint.at(
                first, second, point.min_volume_ml, point.min_mean_probability
            )
            # Without a second threshold nobody sees what was nearly marked.
            shorn = other.second_threshold is None and point.second_threshold is not None
            if other not in out and not shorn:
                out.append(other)
    return out
