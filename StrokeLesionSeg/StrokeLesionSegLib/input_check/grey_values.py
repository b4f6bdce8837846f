"""What the grey values of an image say: a head by T1 weighting, or something else.

Everything is measured on about 50^3 voxels of the image, and on one dense block in its middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.volume import Volume
from ..images.window import foreground_threshold

_SAMPLE = 50
_BLOCK = 40
# The share of voxels at exactly the lowest value. Brain-extracted scans measured .78 to .90, whole
# heads (also with a zeroed background) up to .67.
_STRIPPED_SHARE = 0.72
# What is left: of extracted brains 1.1 to 1.9 L, of heads with zeroed face and air from 2.5 L.
_BRAIN_ML = 2200.0


@dataclass(frozen=True)
class GreyValues:
    """Measures of an image.

    Attributes
    ----------
    low, median, high: .5, 50 and 99.5 % of the values.
    stripped: so many voxels are exactly the lowest, and so little is left, that the brain must be
        extracted.
    tail: bright side over dark side of the grey values in the middle of the head. Where fluid is
        dark the values tail off to the dark side. NaN if there is no middle.
    likeness: correlation of neighbouring voxels in the middle, the greatest of the three axes.
    flat: share of pairs of neighbours in the middle, background aside, that are equal.
    values: number of different values in the middle, background aside.
    corner, corner_spread: median of the image's eight corners, and their 5 to 95 % range, both
        within the range of the image (0 dark, 1 bright).
    top: share of what is not background that is within a tenth of the brightest.
    extent_mm: size of what is not background along i, j, k. volume_ml: volume of it.
    air: share of voxels around -1000, of other values than the lowest: air in Hounsfield units.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.input_check import measure
    >>> noise = Volume(np.random.default_rng(0).random((32, 32, 32)), np.eye(4))
    >>> abs(measure(noise).likeness) < 0.1
    True
    """

    low: float
    median: float
    high: float
    stripped: bool
    tail: float
    likeness: float
    flat: float
    values: int
    corner: float
    corner_spread: float
    top: float
    extent_mm: tuple[float, float, float]
    volume_ml: float
    air: float


def measure(volume: Volume) -> GreyValues | None:
    """The measures of ``volume`` (K, J, I); None if (nearly) all of it is one value.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.input_check import measure
    >>> measure(Volume(np.ones((8, 8, 8)), np.eye(4))) is None
    True
    """
    array = volume.array
    step = [max(1, round(n / _SAMPLE)) for n in array.shape]
    small = np.asarray(array[:: step[0], :: step[1], :: step[2]], dtype=np.float32)
    if not np.isfinite(small.sum(dtype=np.float64)):
        small = np.nan_to_num(small, nan=0.0, posinf=0.0, neginf=0.0)
    low, median, high = (float(v) for v in np.percentile(small, [0.5, 50, 99.5]))
    lowest, highest = float(small.min()), float(small.max())
    if not lowest < highest:
        return None
    threshold = foreground_threshold(small)
    there = small > threshold
    inside = small[there]
    box = _box(there)
    spacing = volume.spacing[::-1]
    extent = [(s.stop - s.start) * n * mm for s, n, mm in zip(box, step, spacing, strict=True)]
    voxel_ml = float(np.prod(step) * np.prod(spacing)) / 1000
    block = _dense_block(array, box, step)
    corners = _corners(small)
    scale = max(high - low, 1e-30)
    inner = np.percentile(corners, [5, 50, 95])
    bright = float(np.percentile(inside, 99.9))
    return GreyValues(
        low,
        median,
        high,
        _is_stripped(small, lowest, voxel_ml),
        _tail(small, low, high),
        _likeness(block),
        *_plateaus(block, lowest),
        float(np.clip((inner[1] - low) / scale, -1, 2)),
        float((inner[2] - inner[0]) / scale),
        float((inside > lowest + 0.9 * (bright - lowest)).mean()),
        (extent[2], extent[1], extent[0]),
        float(there.sum()) * voxel_ml,
        float(((small < -850) & (small > -1100) & (small != lowest)).mean()),
    )


def _is_stripped(small: NDArray[np.float32], lowest: float, voxel_ml: float) -> bool:
    left = int(np.count_nonzero(small != lowest))
    return bool(left < (1 - _STRIPPED_SHARE) * small.size and left * voxel_ml < _BRAIN_ML)


def _box(there: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The box of what is there, its outermost two per cent aside."""
    out = []
    for axis in range(3):
        counts = there.sum(axis=tuple(a for a in range(3) if a != axis))
        whole = np.cumsum(counts)
        first = int(np.searchsorted(whole, 0.005 * whole[-1], side="right"))
        last = int(np.searchsorted(whole, 0.995 * whole[-1]))
        out.append(slice(first, max(last, first) + 1))
    return out[0], out[1], out[2]


def _dense_block(
    array: NDArray[Any], box: tuple[slice, slice, slice], step: list[int]
) -> NDArray[np.float32]:
    """Up to 40^3 neighbouring voxels in the middle of the box."""
    where = []
    for s, n, size in zip(box, step, array.shape, strict=True):
        middle = (s.start + s.stop) * n // 2
        first = max(0, min(middle - _BLOCK // 2, size - _BLOCK))
        where.append(slice(first, first + _BLOCK))
    return np.asarray(array[tuple(where)], dtype=np.float32)


def _likeness(block: NDArray[np.float32]) -> float:
    found = []
    for axis in range(3):
        if block.shape[axis] < 2:
            continue
        moved = np.moveaxis(block, axis, 0)
        a, b = moved[:-1].ravel(), moved[1:].ravel()
        with np.errstate(all="ignore"):
            found.append(np.corrcoef(a, b)[0, 1])
    return float(np.nanmax(found)) if len(found) and np.isfinite(found).any() else 0.0


def _plateaus(block: NDArray[np.float32], lowest: float) -> tuple[float, int]:
    """(share of equal neighbours, number of values), background aside."""
    equal = pairs = 0
    for axis in range(3):
        moved = np.moveaxis(block, axis, 0)
        a, b = moved[:-1], moved[1:]
        both = (a != lowest) & (b != lowest)
        pairs += int(np.count_nonzero(both))
        equal += int(np.count_nonzero(both & (a == b)))
    values = np.unique(block)
    return equal / max(1, pairs), int(np.count_nonzero(values != lowest))


def _corners(small: NDArray[np.float32]) -> NDArray[np.float32]:
    size = [max(1, n // 10) for n in small.shape]
    parts = [
        small[k][:, j][:, :, i].ravel()
        for k in (slice(0, size[0]), slice(-size[0], None))
        for j in (slice(0, size[1]), slice(-size[1], None))
        for i in (slice(0, size[2]), slice(-size[2], None))
    ]
    return np.concatenate(parts)


def _tail(small: NDArray[np.float32], low: float, high: float) -> float:
    if not low < high:
        return float("nan")
    scaled = np.clip((small - low) / (high - low), 0, 1)
    foreground = np.argwhere(scaled > 0.6 * _otsu(scaled))
    if len(foreground) < 500:
        return float("nan")
    first, last = np.percentile(foreground, [2, 98], axis=0)
    middle, half = (first + last) / 2, (last - first) / 4
    box = tuple(
        slice(int(max(0, m - h)), int(m + h) + 1) for m, h in zip(middle, half, strict=True)
    )
    dark, median, bright = np.percentile(scaled[box], [2, 50, 98])
    return float((bright - median) / (median - dark + 1e-6))


def _otsu(scaled: NDArray[np.float32]) -> float:
    """Otsu's threshold of values in [0, 1]."""
    counts, edges = np.histogram(scaled, 128, (0.0, 1.0))
    weight = np.cumsum(counts) / counts.sum()
    mean = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2) / counts.sum()
    between = (mean[-1] * weight - mean) ** 2 / np.maximum(weight * (1 - weight), 1e-9)
    return float(edges[int(between.argmax()) + 1])
