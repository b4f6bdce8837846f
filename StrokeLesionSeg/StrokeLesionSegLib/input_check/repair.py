"""Values that tools and converters leave in a scan, made what the scanner meant, and told.

A background of any constant value becomes what is darkest (0, where nothing is negative); integers
that ran over, scans whose sign was turned and a few absurd voxels are put right. What cannot be
known from the values alone is left to the other checks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..images import Scan

# Of the outer faces, the share that one value fills where the background is constant.
_FACES = 0.3
# Integers that ran over reach both ends of their type.
_WRAPPED = {"int16": 65_536.0, "int8": 256.0}
_NEAR_END = 0.03
# Voxels beyond so many times the usual range are no tissue, if they are as few as this share.
_ABSURD_RANGES, _ABSURD_SHARE = 12.0, 1e-3


def repair(scan: Scan) -> Scan:
    """The scan with its values put right, and a warning for each thing that was done.

    The scan itself where nothing was. Its array is never changed.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.input_check import repair
    >>> array = np.full((9, 9, 9), -1000.0)
    >>> array[3:6, 3:6, 3:6] = np.arange(27).reshape(3, 3, 3)
    >>> scan = repair(checked_scan("t1", array, np.eye(4)))
    >>> float(scan.volume.array.min()), scan.warnings
    (0.0, ('the background of -1000 was set to 0',))
    """
    array, notes = scan.volume.array, []
    for step in (_unwrapped, _without_absurd, _upright, _dark_background):
        array, note = step(array, str(scan.header.get("dtype", "")))
        notes += [note] if note else []
    if not notes:
        return scan
    volume = scan.volume.with_array(array)
    return replace(scan, volume=volume, warnings=(*scan.warnings, *notes))


def _unwrapped(array: NDArray[np.float32], dtype: str) -> tuple[NDArray[np.float32], str]:
    """Unsigned integers that were stored as signed ones: the brightest became negative."""
    size = _WRAPPED.get(dtype)
    if size is None:
        return array, ""
    low, high = -size / 2, size / 2
    if array.min() > low * (1 - _NEAR_END) or array.max() < high * (1 - _NEAR_END):
        return array, ""
    background = _background(array)
    negative = array < 0
    if background is not None and background < 0:
        negative &= array != background
    # Both ends have to be tissue: values go over the edge gradually.
    if not (negative & (array < low * 0.7)).any() or not (array > high * 0.7).any():
        return array, ""
    out = np.where(negative, array + np.float32(size), array)
    share = float(negative.mean())
    return out, f"values above {high - 1:.0f} had run over ({share:.1%} of the voxels); put right"


def _upright(array: NDArray[np.float32], dtype: str) -> tuple[NDArray[np.float32], str]:
    """A scan whose sign was turned: nothing is positive."""
    if array.max() > 0 or not array.min() < 0:
        return array, ""
    background = _background(array)
    # A constant background far below everything is one, and not the brightest tissue.
    if background is not None and background <= array.min():
        return array, ""
    return -array, "all values are negative; the sign was turned"


def _dark_background(array: NDArray[np.float32], dtype: str) -> tuple[NDArray[np.float32], str]:
    """A constant background that is not the darkest value, or far below it."""
    background = _background(array)
    if background is None:
        return array, ""
    lowest = float(array.min())
    if background == 0 and lowest >= 0:
        return array, ""
    outside = array == np.float32(background)
    if outside.all():
        return array, ""
    inside = array[~outside]
    low, high = float(inside.min()), float(inside.max())
    wanted = 0.0 if low >= 0 else low
    if background < low and low - background <= 0.05 * (high - low):
        return array, ""  # dark as it is
    if low <= background <= high:
        # The value occurs in tissue, too: only what hangs together with the border.
        outside = _from_border(outside)
    out = np.where(outside, np.float32(wanted), array)
    return out, f"the background of {background:g} was set to {wanted:g}"


def _without_absurd(array: NDArray[np.float32], dtype: str) -> tuple[NDArray[np.float32], str]:
    """A few voxels far outside the range of all others."""
    sample = array[::2, ::2, ::2]
    tissue = sample[sample != sample.min()]
    if tissue.size < 100:
        return array, ""
    low, high = (float(v) for v in np.percentile(tissue, (0.5, 99.5)))
    reach = (high - min(low, 0.0)) * _ABSURD_RANGES
    bottom, top = low - reach, high + reach
    if array.min() >= bottom and array.max() <= top:
        return array, ""
    absurd = int((array < bottom).sum() + (array > top).sum())
    if absurd > _ABSURD_SHARE * array.size:
        return array, ""
    worst = float(array.max() if array.max() > top else array.min())
    out = np.clip(array, low if array.min() < bottom else None, high if worst > top else None)
    if absurd == 1:
        return out, f"1 voxel of an absurd value ({worst:.3g}) was cut to the others'"
    return out, f"{absurd} voxels of absurd values (such as {worst:.3g}) were cut to the others'"


def _background(array: NDArray[np.float32]) -> float | None:
    """The value that fills much of the outer faces; None if none does."""
    faces = np.concatenate(
        [np.take(array, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]
    )
    values, counts = np.unique(faces, return_counts=True)
    most = int(counts.argmax())
    return float(values[most]) if counts[most] > _FACES * faces.size else None


def _from_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of ``mask`` that reach the border of the volume."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    at_border = np.unique(
        np.concatenate(
            [np.take(labels, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]
        )
    )
    kept = np.zeros(int(labels.max()) + 1, bool)
    kept[at_border] = True
    kept[0] = False
    return np.asarray(kept[labels])
