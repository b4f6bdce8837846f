"""What the hand of a robot does about the largest error of a mask; arrays only.

It knows the expert's outline, and for our brush the probability that the brush follows. What it
chooses is one stroke in the axial slice through the middle of the largest error: a touch, a drag
along the error's middle, or one that begins elsewhere in it; and the brush's radius. Of all these
it takes what makes Dice largest. Slicer's Paint has the same choice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from StrokeLesionSegLib.correction.robot import dice_of, largest_error

RADII_MM = np.array((1.0, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 30))
#: A stroke may begin where the probability in the error is that low, middling or high.
BEGINNINGS = (0.1, 0.5, 0.9)

Voxel = tuple[int, int, int]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Wrong:
    """The largest error: its middle (k, j, i), whether lesion is missing there, and the part of
    slice k that is connected with it, (J, I)."""

    place: Voxel
    missing: bool
    around: Mask


@dataclass(frozen=True)
class Touch:
    """A press at the first voxel of ``path``, a drag along it, and the Dice that it makes."""

    path: tuple[Voxel, ...]
    radius_mm: float
    dice: float


def largest(marked: Mask, wanted: Mask, spacing_kji: tuple[float, float, float]) -> Wrong | None:
    """The largest error of ``marked``; None if there is none."""
    place = largest_error(marked, wanted, spacing_kji)
    if place is None:
        return None
    k, j, i = place
    missing = bool(wanted[place])
    error = wanted[k] & ~marked[k] if missing else marked[k] & ~wanted[k]
    labels, _ = ndimage.label(error, np.ones((3, 3)))
    return Wrong(place, missing, labels == labels[j, i])


def middle_line(piece: Mask, start: tuple[int, int]) -> list[tuple[int, int]]:
    """The longest way through a piece (J, I) that keeps to its middle."""
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]

    def furthest(source: tuple[int, int]) -> list[tuple[int, int]]:
        cost = np.full(piece.shape, np.inf)
        cost[source], waiting, before = 0.0, [(0.0, source)], {}
        while waiting:
            so_far, here = heapq.heappop(waiting)
            for a, b in steps:
                there = (here[0] + a, here[1] + b)
                if not all(0 <= n < size for n, size in zip(there, piece.shape, strict=True)):
                    continue
                further = so_far + np.hypot(a, b) / max(depth[there], 1e-9)
                if piece[there] and further < cost[there]:
                    cost[there], before[there] = further, here
                    heapq.heappush(waiting, (further, there))
        j, i = np.unravel_index(int(np.where(np.isinf(cost), -1, cost).argmax()), cost.shape)
        way = [(int(j), int(i))]
        while way[-1] != source:
            way.append(before[way[-1]])
        return way

    return furthest(furthest(start)[0])


def ways(wrong: Wrong, probability: NDArray[Any] | None = None) -> list[list[Voxel]]:
    """The strokes to choose from, each its voxels in order."""
    k, j, i = wrong.place
    found = [[wrong.place], [(k, a, b) for a, b in middle_line(wrong.around, (j, i))]]
    if probability is None:
        return found
    inside = np.argwhere(wrong.around)
    order = np.argsort(probability[k][wrong.around], kind="stable")
    for share in BEGINNINGS:
        first = inside[order[int(share * (len(order) - 1))]]
        count = int(np.abs(first - (j, i)).max()) + 1
        line = np.rint(np.linspace(first, (j, i), count)).astype(int).tolist()
        found.append([(k, a, b) for a, b in line])
    return found


def distance_mm(
    way: NDArray[np.intp], shape: tuple[int, ...], spacing_kji: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Of all voxels of a window from a way (n, 3) through it."""
    first, last = way[0] * np.array(spacing_kji), way[-1] * np.array(spacing_kji)
    length = float(np.linalg.norm(last - first))
    along = (last - first) / length if length else np.zeros(3)
    off = way * np.array(spacing_kji) - first
    off = off - np.outer(off @ along, along)
    if np.linalg.norm(off, axis=1).max() > 1.0:
        away = np.ones(shape, bool)
        away[tuple(way.T)] = False
        return ndimage.distance_transform_edt(away, sampling=spacing_kji).astype(np.float32)
    # Straight: a distance transform would take ten times as long.
    k, j, i = np.ogrid[tuple(slice(0, n) for n in shape)]
    from_first = [
        (index * step - start).astype(np.float32)
        for index, step, start in zip((k, j, i), spacing_kji, first, strict=True)
    ]
    ahead = np.clip(
        sum(d * np.float32(a) for d, a in zip(from_first, along, strict=True)), 0, length
    )
    return np.sqrt(
        sum((d - np.float32(a) * ahead) ** 2 for d, a in zip(from_first, along, strict=True))
    )


def best_touch(
    marked: Mask,
    wanted: Mask,
    wrong: Wrong,
    spacing_kji: tuple[float, float, float],
    probability: NDArray[Any] | None = None,
    takes: Callable[[NDArray[Any], float], Mask] | None = None,
) -> Touch:
    """The stroke after which Dice is largest.

    ``takes(probability, began)``: which voxels a brush takes that follows the probability where it
    began; what it takes nothing of it paints as a whole, as Slicer's does. None: Slicer's brush.
    """
    sign = 1 if wrong.missing else -1
    total, both = int(marked.sum()) + int(wanted.sum()), int((marked & wanted).sum())
    best = Touch((wrong.place,), RADII_MM[0], -1.0)
    for way in ways(wrong, probability if takes is not None else None):
        reach = [int(RADII_MM[-1] / step) + 1 for step in spacing_kji]
        low = [max(0, int(n) - r) for n, r in zip(np.min(way, axis=0), reach, strict=True)]
        high = [int(n) + r + 1 for n, r in zip(np.max(way, axis=0), reach, strict=True)]
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        distance = distance_mm(np.array(way) - low, marked[window].shape, spacing_kji)
        ring = np.searchsorted(RADII_MM, distance - 1e-3)

        def within(voxels: Mask, ring: NDArray[np.intp] = ring) -> NDArray[np.intp]:
            return np.cumsum(np.bincount(ring[voxels], minlength=len(RADII_MM) + 1))[:-1]

        wrongly, truly = ~marked[window] if wrong.missing else marked[window], wanted[window]
        changed, right = within(wrongly), within(wrongly & truly)
        if takes is not None and probability is not None:
            taken = takes(probability[window], float(probability[way[0]]))
            some = within(taken) > 0
            changed = np.where(some, within(wrongly & taken), changed)
            right = np.where(some, within(wrongly & taken & truly), right)
        left = total + sign * changed
        dice = np.where(left > 0, 2 * (both + sign * right) / np.maximum(left, 1), 1.0)
        n = int(dice.argmax())
        if dice[n] > best.dice:
            best = Touch(tuple(way), float(RADII_MM[n]), float(dice[n]))
    return best


def best_threshold(
    wanted: Mask, found: Callable[[float], Mask], thresholds: tuple[float, ...]
) -> tuple[float, float]:
    """Of some positions of the threshold's slider the best one, and its Dice."""
    reached = {threshold: dice_of(found(threshold), wanted) for threshold in thresholds}
    best = max(reached, key=lambda threshold: reached[threshold])
    return best, reached[best]
