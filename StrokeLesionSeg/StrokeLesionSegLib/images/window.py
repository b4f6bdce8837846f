"""Intensity window: percentiles of the foreground of the whole volume, scaled to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Fine enough that a percentile read from the histogram is off by at most 1/4096 of the range.
_BINS = 4096
# Otsu's threshold is found on a coarser histogram: its position need not be finer.
_OTSU_BINS = 256
# What the low percentile may be taken of.
LOW_OF = ("foreground", "volume")
# Air lies below this fraction of Otsu's threshold, cerebrospinal fluid above it.
_AIR_FRACTION = 0.3


def foreground_threshold(array: NDArray[Any]) -> float:
    """The intensity above which a voxel of ``array`` counts as foreground (tissue).

    A background of one constant value that fills more than a fifth of the volume and is its
    minimum (stripped or masked images) decides alone: all above it is foreground. Otherwise half
    of Otsu's threshold (above the minimum), which lies between noisy air and dark tissue.
    Depends on the values only, not on their places. NaN and infinity are ignored.
    Raises ``ValueError`` if no voxel is finite or all finite voxels are equal.
    """
    values = _finite(array)
    low, high = _limits(values)
    return _threshold(values, low, high)


def window_range(
    array: NDArray[Any], low: float = 0.5, high: float = 99.5, *, low_of: str = "foreground"
) -> tuple[float, float]:
    """Percentiles ``low`` and ``high`` (in percent) of the foreground of the whole volume.

    ``array``: any shape, real. The foreground is what lies above :func:`foreground_threshold`.
    ``low_of``: "foreground", or "volume" to take the low one of all voxels, background included.
    That one does not move when resampling or thick slices blur the edge of the brain: each blurred
    edge fills the gap between air and tissue with values that the foreground's low percentile
    follows. NaN and infinity are ignored. An affine change of the intensities (positive slope)
    changes the range in the same way. Raises ``ValueError`` if the percentiles are not
    0 <= low < high <= 100, ``low_of`` is neither word, no voxel is finite, or all finite voxels
    are equal.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import window_range
    >>> array = np.concatenate([np.zeros(500), np.arange(100, 601)])
    >>> low, high = window_range(array, 0, 100)
    >>> low > 0, high
    (True, 600.0)
    """
    if low_of not in LOW_OF:
        raise ValueError(f"the low percentile is taken of one of {LOW_OF}, not of {low_of!r}")
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles must be 0 <= low < high <= 100, not {low} and {high}")
    values = _finite(array)
    minimum, maximum = _limits(values)
    threshold = _threshold(values, minimum, maximum)
    inside = values[values > threshold]
    bottom, top = (float(v) for v in np.percentile(inside, [low, high]))
    if low_of == "volume":
        bottom = _low_percentile(values, minimum, low)
    if not bottom < top:
        # A single tissue value: the window spans from the background to it.
        bottom, top = minimum, float(inside.max())
    return bottom, top


def _low_percentile(values: NDArray[Any], minimum: float, percent: float) -> float:
    """The percentile; air and padding, most often more voxels than that of one value, are counted
    in a fifth of the time that it takes to put them in order."""
    lowest = np.count_nonzero(values == values.dtype.type(minimum))
    if lowest > percent / 100 * (values.size - 1) + 1:
        return minimum
    return float(np.percentile(values, percent))


def apply_window(
    array: NDArray[Any],
    range: tuple[float, float],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Clip ``array`` to ``range`` and scale it to [0, 1]: float32 of the same shape.

    ``out``, float32 of that shape, may be ``array`` itself. NaN becomes 0.
    Raises ``ValueError`` if the range is empty or not finite.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import apply_window
    >>> apply_window(np.array([0, 100, 150, 900]), (100.0, 200.0)).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    bottom, top = range
    if not (np.isfinite(bottom) and np.isfinite(top) and bottom < top):
        raise ValueError(f"empty or infinite intensity window {bottom} to {top}")
    out = np.subtract(array, bottom, out=out, dtype=np.float32, casting="unsafe")
    np.multiply(out, np.float32(1.0 / (top - bottom)), out=out)
    # fmax and fmin, unlike clip, replace NaN.
    np.fmax(out, np.float32(0), out=out)
    return np.fmin(out, np.float32(1), out=out)


def _finite(array: NDArray[Any]) -> NDArray[Any]:
    # Memory order, whatever the axes: no copy for transposed or flipped views.
    values = np.asarray(array).ravel(order="K")
    if values.dtype.kind == "f" and not np.isfinite(values.sum(dtype=np.float64)):
        values = values[np.isfinite(values)]
    return values


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    if values.size == 0:
        raise ValueError("the image has no finite voxel")
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ValueError(f"the image is constant: every voxel is {low:g}")
    return low, high


def _threshold(values: NDArray[Any], low: float, high: float) -> float:
    # Padding and masks: a heap of voxels at exactly the minimum says nothing about the rest.
    if np.count_nonzero(values == values.dtype.type(low)) > 0.05 * values.size:
        values = values[values > low]
    # The brightest half per cent (fat, vessels, spikes) must not stretch the histogram.
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    top = edges[1 + int(np.searchsorted(np.cumsum(counts), 0.995 * values.size))]
    counts, edges = np.histogram(values, bins=_OTSU_BINS, range=(low, float(top)))
    return low + _AIR_FRACTION * (_otsu(counts, edges) - low)


def _otsu(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> float:
    centres = 0.5 * (edges[:-1] + edges[1:])
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    first = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = first[:-1] / below - (first[-1] - first[:-1]) / above
        between = np.where((below > 0) & (above > 0), below * above * gap**2, 0.0)
    return float(edges[1 + int(np.argmax(between))])
