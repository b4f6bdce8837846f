"""One slice corrected by clicks: the disks that the network sees, and what of its answer counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .regions import plane_box

#: Pixels of 1 mm; the radius that the networks are trained with.
DISK_RADIUS = 5
# A probability that moves by more belongs to the correction, though it crosses no threshold.
_CHANGE = 0.1
# A correction goes on to the next slice where at least so many pixels still have the old answer,
_SMALLEST_AREA = 12
# ... at least so thick (mm from the rim), and so much of what was corrected here.
_SMALLEST_RADIUS = 1.5
_SMALLEST_SHARE = 0.3
# Tissue counts as alike within so many (robust) standard deviations, of at least this size.
_ALIKE = 3.0
_LEAST_DEVIATION = 0.04
# The edge of a correction: between these distances in mm from it; a contrast worth the name; and
# how much of it there has to be in a slice further on.
_RING = (2, 6)
_LEAST_CONTRAST = 0.05
_CONTRAST_SHARE = 0.5
# Intersection over union with the slice before, and with the disk that asked for it.
_SMALLEST_OVERLAP = 0.4
_MERE_DISK = 0.85


@dataclass(frozen=True)
class Disk:
    """A click as one slice sees it: pixel (row, column), what it says, and whether a person did.

    Disks that are not a person's carry a correction on from the neighbouring slice.
    """

    row: int
    column: int
    positive: bool
    real: bool

    def mask(self, shape: tuple[int, int], radius: float = DISK_RADIUS) -> NDArray[np.bool_]:
        """(rows, columns) bool."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return (rows - self.row) ** 2 + (columns - self.column) ** 2 <= radius**2


def channels(
    shape: tuple[int, int], disks: Sequence[Disk], previous: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """The network's guidance channels, (1, rows, columns) float32 each."""
    positive, negative = (np.zeros((1, *shape), np.float32) for _ in range(2))
    for disk in disks:
        (positive if disk.positive else negative)[0][disk.mask(shape)] = 1
    return {
        "click_positive": positive,
        "click_negative": negative,
        "previous_probability": previous[None],
    }


def level(probability: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """The model's own probability, bent so that its threshold comes to lie at one half.

    Answers to clicks are cut at one half, as in training, whatever threshold the automatic
    answer is cut at.
    """
    if threshold == 0.5:
        return probability
    below = probability * np.float32(0.5 / threshold)
    if threshold >= 1:
        return np.where(probability >= 1, np.float32(1), below * np.float32(0.999))
    # Voxels at the threshold itself belong to the lesion.
    above = 0.5 + (probability - np.float32(threshold)) * np.float32(0.5 / (1 - threshold))
    above = np.maximum(above, np.float32(0.5))
    below = np.minimum(below, np.nextafter(np.float32(0.5), np.float32(0)))
    return np.where(probability >= threshold, above, below).astype(np.float32)


def correction(
    answer: NDArray[np.float32],
    before: NDArray[np.float32],
    positive: NDArray[np.bool_],
    negative: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Where the network's answer replaces what was there: only around the clicks.

    A person who clicks on one place expects nothing to change on the other side of the brain. Of
    the pieces (8 neighbours) in which the probability rises, those count that touch a disk of a
    positive click; of those in which it falls, those that touch one of a negative click.
    All arrays (rows, columns); ``before`` is cut at one half, as ``answer`` is.
    """
    rises = (answer > before + _CHANGE) | ((answer >= 0.5) & (before < 0.5))
    falls = (answer < before - _CHANGE) | ((answer < 0.5) & (before >= 0.5))
    return _touching(rises, positive) | _touching(falls, negative)


def within_reach(
    answer: NDArray[np.float32],
    before: NDArray[np.float32],
    squares: Iterable[tuple[NDArray[np.floating], bool]],
) -> NDArray[np.float32]:
    """``answer``, with the old value where it contradicts the nearest click.

    A click speaks for its surroundings: what lies nearer to one that says "lesion" is not taken
    away by another that says "not", and the other way round. Without it a click on the rim of a
    lesion, meant to trim it, often takes all of it.

    ``answer`` and ``before`` of one shape, cut at one half; ``squares``: of each click the squared
    distance in mm from every pixel (broadcast to that shape), and whether it says lesion.
    """
    nearest: dict[bool, NDArray[np.floating]] = {}
    for square, positive in squares:
        other = nearest.get(positive)
        nearest[positive] = square if other is None else np.minimum(other, square)
    if len(nearest) < 2:
        return answer
    was, now = before >= 0.5, answer >= 0.5
    kept = was & ~now & (nearest[True] < nearest[False])
    kept |= ~was & now & (nearest[False] < nearest[True])
    return np.where(kept, before, answer)


def _touching(pieces: NDArray[np.bool_], disks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    if not (pieces & disks).any():
        return np.zeros(pieces.shape, bool)
    labels, _ = label(pieces, structure=np.ones((3,) * pieces.ndim))
    found = np.unique(labels[disks & pieces])
    return np.isin(labels, found)


@dataclass(frozen=True)
class Tissue:
    """What the tissue of a correction looks like in the windowed T1.

    Attributes
    ----------
    middle, deviation: median, and robust standard deviation. contrast: the median against that of
        what is around it.
    """

    middle: float
    deviation: float
    contrast: float

    @classmethod
    def of(cls, t1: NDArray[np.float32], corrected: NDArray[np.bool_]) -> Tissue:
        """The tissue where ``corrected`` is true (somewhere, in a plane ``t1``)."""
        values = t1[corrected]
        middle = float(np.median(values))
        deviation = 1.4826 * float(np.median(np.abs(values - middle)))
        return cls(middle, max(deviation, _LEAST_DEVIATION), _contrast(t1, corrected))

    def alike(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which values this tissue may have."""
        return np.abs(values - self.middle) <= _ALIKE * self.deviation

    def stands_out(self, t1: NDArray[np.float32], corrected: NDArray[np.bool_]) -> bool:
        """Whether ``corrected`` differs from its surroundings as it did where it was clicked.

        A network that has learned to obey marks whatever it is told to; a lesion has an edge.
        Tissue that did not stand out there need not here.
        """
        if abs(self.contrast) < _LEAST_CONTRAST:
            return True
        return _contrast(t1, corrected) / self.contrast >= _CONTRAST_SHARE


def _contrast(t1: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    from scipy.ndimage import distance_transform_edt

    rows, columns = plane_box(inside, _RING[1] + 1)
    near, t1 = inside[rows, columns], t1[rows, columns]
    distance = distance_transform_edt(~near)
    ring = (distance > _RING[0]) & (distance <= _RING[1]) & (t1 > 0)
    if not ring.any():
        return 0.0
    return float(np.median(t1[near]) - np.median(t1[ring]))


def carried_on(corrected: NDArray[np.bool_], before: NDArray[np.bool_], disk: Disk) -> bool:
    """Whether an answer follows the tissue: it fits that of the slice before, and is no mere disk.

    ``corrected`` and ``before`` (rows, columns): what was corrected here and in the last slice.
    """
    return (
        corrected.any()
        and _overlap(corrected, before) >= _SMALLEST_OVERLAP
        and _overlap(corrected, disk.mask(corrected.shape)) <= _MERE_DISK
    )


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return int((a & b).sum()) / max(1, int((a | b).sum()))


def onward(
    corrected: NDArray[np.bool_],
    before: NDArray[np.float32],
    t1: NDArray[np.float32],
    tissue: Tissue,
    positive: bool,
) -> Disk | None:
    """The disk that carries a correction on to the next slice; None where it ends.

    It goes on if enough of the pixels that were corrected still have the old answer in the next
    slice (``before``, ``t1``) and look like the tissue that was corrected; the disk is put where
    they are thickest.
    """
    from scipy.ndimage import distance_transform_edt

    wrong = before < 0.5 if positive else before >= 0.5
    left = corrected & wrong & tissue.alike(t1)
    area = int(left.sum())
    if area < max(_SMALLEST_AREA, _SMALLEST_SHARE * int(corrected.sum())):
        return None
    box = plane_box(left, 0)
    depth = distance_transform_edt(np.pad(left[box], 1))[1:-1, 1:-1]
    if depth.max() < _SMALLEST_RADIUS:
        return None
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return Disk(int(row) + box[0].start, int(column) + box[1].start, positive, False)
