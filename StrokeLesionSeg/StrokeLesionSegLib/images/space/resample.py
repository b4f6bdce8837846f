"""Linear resampling with averaging where the target is coarser: separable, or a full affine."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POINT_UP_TO = 1.5  # a target voxel up to so many source voxels long is not averaged over


def _linear_rows(
    positions: NDArray[np.floating], count: int, weights: NDArray[np.float64], share: float
) -> None:
    """Adds ``share`` of linear interpolation at ``positions`` (in source voxels) to ``weights``.

    Positions beyond the last voxel centre take the last voxel.
    """
    clipped = np.clip(positions, 0, count - 1)
    low = np.minimum(np.floor(clipped).astype(int), max(count - 2, 0))
    part = clipped - low
    rows = np.arange(len(positions))
    np.add.at(weights, (rows, low), share * (1 - part))
    if count > 1:
        np.add.at(weights, (rows, low + 1), share * part)


def interpolation_weights(source: int, target: int, step: float) -> NDArray[np.float32]:
    """(target, source) weights of linear interpolation between grids with a common centre.

    ``step`` is the target's spacing in source voxels. Where it is above 1 the triangle widens to
    the target's spacing, which averages instead of aliasing.
    """
    positions = (np.arange(target) - (target - 1) / 2) * step + (source - 1) / 2
    weights: NDArray[np.float64] = np.zeros((target, source))
    if step <= 1:
        _linear_rows(positions, source, weights, 1.0)
    else:
        distance = np.abs(np.arange(source)[None, :] - positions[:, None])
        weights = np.maximum(0.0, 1.0 - distance / step)
        weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def averaging_weights(source: int, target: int, step: float) -> NDArray[np.float32]:
    """(target, source) weights of the mean of the linear interpolant over each target voxel.

    As ``interpolation_weights``, for the way back to a coarser grid. The stretch that is averaged
    is the voxel itself from 2 source voxels on and a point up to 1.5, where linear interpolation
    misses nothing. Target voxels whose centre is outside the source get 0.
    """
    positions = (np.arange(target) - (target - 1) / 2) * step + (source - 1) / 2
    weights = np.zeros((target, source))
    offsets = _subsamples(step)
    for offset in offsets:
        _linear_rows(positions + offset, source, weights, 1.0 / len(offsets))
    weights[(positions < -0.5 - 1e-6) | (positions > source - 0.5 + 1e-6)] = 0
    return weights.astype(np.float32)


def _subsamples(step: float) -> NDArray[np.float64]:
    """Where in a voxel of ``step`` source voxels the interpolant is sampled, from its centre.

    At most eight places: a full affine resampling is made for each of them.
    """
    if step <= _POINT_UP_TO:
        return np.zeros(1)
    width = min(2 * (step - 1), step)
    count = min(max(2, math.ceil(width - 1e-6)), 8)
    return ((np.arange(count) + 0.5) / count - 0.5) * width


def cheapest_order(source: tuple[int, ...], target: tuple[int, ...]) -> list[int]:
    """The array axes, those that shrink most first."""
    return sorted(range(3), key=lambda axis: (target[axis] / source[axis], axis))


def apply_weights(
    array: NDArray[np.float32], weights: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Replaces ``axis`` of a 3D array by ``weights`` @ it; (target, source) weights are banded.

    Sparse, and so one addition after the other: a dense product adds in an order that depends on
    the number of threads, and a cohort's workers would not write what a single process does.
    """
    from scipy.sparse import csr_array

    target, source = weights.shape
    if target == source and np.array_equal(weights, np.eye(target, dtype=np.float32)):
        return array
    shape = list(array.shape)
    shape[axis] = target
    banded = csr_array(weights)
    if axis == 0:
        return (banded @ np.ascontiguousarray(array).reshape(source, -1)).reshape(shape)
    out = np.empty(shape, dtype=np.float32)
    for plane, to in zip(array, out, strict=True):
        if axis == 1:
            to[:] = banded @ np.ascontiguousarray(plane)
        else:
            to[:] = (banded @ np.ascontiguousarray(plane.T)).T
    return out


class _Sampler:
    """Linear interpolation of a (K, J, I) array at ``matrix @ ijk + offset``; ITK, all cores.

    Index space on both sides: ITK's images know no sheared axes, its transforms do. Each target
    voxel is computed by itself, so the number of threads does not show in the result.
    """

    def __init__(self, array: NDArray[np.float32], matrix: NDArray[np.float64]) -> None:
        import SimpleITK as sitk

        self._sitk = sitk
        self._image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        self._matrix = matrix

    def __call__(
        self, offset: NDArray[np.float64], shape: tuple[int, int, int], fill: float
    ) -> NDArray[np.float32]:
        transform = self._sitk.AffineTransform(3)
        transform.SetMatrix(self._matrix.ravel().tolist())
        transform.SetTranslation(offset.tolist())
        resampler = self._sitk.ResampleImageFilter()
        resampler.SetSize([int(n) for n in shape[::-1]])
        resampler.SetTransform(transform)
        resampler.SetInterpolator(self._sitk.sitkLinear)
        resampler.SetDefaultPixelValue(float(fill))
        return self._sitk.GetArrayFromImage(resampler.Execute(self._image))


def gather(
    array: NDArray[Any],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, int, int],
    fill: float,
) -> NDArray[np.float32]:
    """Samples ``array`` (K, J, I) at source ijk = ``matrix`` @ target ijk + ``offset``.

    Source axes finer than the target's voxels are smoothed first: whole groups of voxels are
    averaged, then three taps bring the blur to that of linear interpolation at the target's
    spacing (variances add: (1 - s^2) / 6 for spacing s in target voxels).
    """
    matrix, offset = matrix.copy(), offset.copy()
    fineness = np.sqrt((np.linalg.inv(matrix) ** 2).sum(axis=0))
    array = np.asarray(array)
    for i in range(3):
        axis, s = 2 - i, float(fineness[i])
        group = math.ceil(0.5 / s - 1e-3) if s < 0.5 else 1
        if group > 1:
            array = _group_mean(array, axis, group)
            matrix[i] /= group
            offset[i] = (offset[i] - (group - 1) / 2) / group
            s *= group
        tap = (1 - s * s) / (12 * s * s)
        if tap > 0.05:
            array = _three_taps(array, axis, min(tap, 0.25))
    return _Sampler(array, matrix)(offset, shape, fill)


def _group_mean(array: NDArray[np.float32], axis: int, group: int) -> NDArray[np.float32]:
    """Means over ``group`` neighbours along ``axis``; the last group may hold fewer."""
    starts = np.arange(0, array.shape[axis], group)
    sums = np.add.reduceat(array, starts, axis=axis, dtype=np.float32)
    counts = np.diff(np.append(starts, array.shape[axis])).astype(np.float32)
    means: NDArray[Any] = sums / counts.reshape([-1 if a == axis else 1 for a in range(3)])
    return means


def _three_taps(array: NDArray[np.float32], axis: int, tap: float) -> NDArray[np.float32]:
    """Convolution with (tap, 1 - 2 tap, tap) along ``axis``, edges repeated."""
    side = np.moveaxis(array, axis, 0)
    out = np.empty_like(side)
    out[:] = side
    out *= np.float32(1 - 2 * tap)
    out[1:] += side[:-1] * np.float32(tap)
    out[:-1] += side[1:] * np.float32(tap)
    out[0] += side[0] * np.float32(tap)
    out[-1] += side[-1] * np.float32(tap)
    return np.moveaxis(out, 0, axis)


def gather_averaged(
    array: NDArray[np.float32],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Samples ``array`` as ``gather`` does, averaging over target voxels that are larger.

    Large target voxels are sampled at several points along their long axes, which together are
    about as dense as the source's grid, and averaged. 0 outside.
    """
    steps = np.sqrt((matrix**2).sum(axis=0))
    cuts = [_subsamples(float(s)) / s for s in steps]  # in target voxels, from the centre
    sampler = _Sampler(array, matrix)
    total: NDArray[np.float32] | None = None
    for shift in itertools.product(*cuts):
        sample = sampler(offset + matrix @ np.array(shift), shape, 0.0)
        if total is None:
            total = sample
        else:
            total += sample
    assert total is not None
    count = math.prod(len(c) for c in cuts)
    return total if count == 1 else total * np.float32(1.0 / count)
