"""A scan as a network of others wants it, and that network's answer back on the scan's grid.

nnU-Net's order of steps: axes, crop to what is not 0, normalise, resample; and all of it back.
SynthStroke's: RAS, 1 mm, histogram, normalise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from ..errors import InputError
from ..images.volume import Grid
from .window_grid import Window

if TYPE_CHECKING:
    from ..models.window_settings import Resampling, WindowSettings
    from .placing import PlacedScan

_EPS = 1e-8
_BINS = 256
# Of voxels whose edges differ by less MONAI takes no notice.
_SAME_SPACING = 1e-3


@dataclass(frozen=True)
class AxisOrder:
    """Which array axes a network sees, and in which direction.

    ``axes``: array axis (k, j, i as 0, 1, 2) that becomes the network's first, second, third;
    ``flips``: whether it runs the other way then.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """(K, J, I) to the network's axes; a view."""
        view = array.transpose(self.axes)
        return view[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``apply``; a view."""
        view = array[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]
        return view.transpose(np.argsort(self.axes))

    def points(self, indices_kji: NDArray[np.float64], shape: tuple[int, ...]) -> Any:
        """(N, 3) voxel indices of an array of ``shape``, along the network's axes."""
        out = indices_kji[:, self.axes].copy()
        for column, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            if flip:
                out[:, column] = shape[axis] - 1 - out[:, column]
        return out


def axis_order(grid: Grid, settings: WindowSettings) -> AxisOrder:
    """How the voxels of ``grid`` become those that the network of ``settings`` was trained on."""
    order, flips = [0, 1, 2], [False, False, False]
    if settings.space.is_native:
        from ..images.space.grid_map import nearest_ras

        nearest = nearest_ras(grid)
        for target in range(3):
            letter = settings.space.orientation[2 - target]
            world = next(n for n, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
            order[target] = 2 - nearest.axes[world]
            flips[target] = nearest.flips[world] != (letter in "LPI")
    axes = tuple(order[n] for n in settings.transpose)
    return AxisOrder(axes, tuple(flips[n] for n in settings.transpose))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class WindowScan:
    """A scan as a sliding-window network sees it.

    Attributes
    ----------
    placed: the scan where the model wants it.
    image: (A, B, C) float32 along the network's axes, normalised, of the plans' spacing.
    order: how the axes came about. full: the shape before ``crop``. crop: what was kept of it.
    spacing: mm of the network's axes before resampling; step_mm: of ``image``.
    there: where the cropped scan was not 0, before it was resampled.
    brain: (N, 3) places in ``image`` that the brain fills, 4 mm apart; None where the scan is not
        aligned.
    """

    placed: PlacedScan
    image: NDArray[np.float32]
    order: AxisOrder
    full: tuple[int, ...]
    crop: Window
    spacing: tuple[float, float, float]
    step_mm: tuple[float, float, float]
    there: NDArray[np.bool_]
    brain: NDArray[np.float64] | None

    __repr__ = brief_repr


def prepare_scan(placed: PlacedScan, settings: WindowSettings) -> WindowScan:
    """All steps before the network. Raises ``InputError`` for an image without contents."""
    volume = placed.volume
    order = axis_order(volume.grid, settings)
    array = np.array(order.apply(volume.array), np.float32, order="C")
    si, sj, sk = volume.spacing
    sizes = (sk, sj, si)
    spacing = (sizes[order.axes[0]], sizes[order.axes[1]], sizes[order.axes[2]])
    full = array.shape
    crop: Window = tuple(slice(0, n) for n in full)
    if settings.crop_to_nonzero:
        crop = _nonzero_box(array)
    if not array[crop].any():
        raise InputError(
            "image", "is zero everywhere", "Check that it is a T1-weighted scan of a head"
        )
    brain = _brain_points(placed)
    there = array[crop] != 0
    target = _target_spacing(spacing, settings)
    if settings.rule == "monai":
        image = _one_mm(array, spacing)
        image = normalise(image, settings, None)
    else:
        inside = np.ascontiguousarray(array[crop])
        mask = _filled(inside) if settings.normalization == "zscore_mask" else None
        inside = normalise(inside, settings, mask)
        shape = tuple(
            round(n * a / b) for n, a, b in zip(inside.shape, spacing, target, strict=True)
        )
        image = resample(inside[None], shape, spacing, target, settings.resample_image)[0]
    if brain is not None:
        brain = order.points(brain, volume.array.shape) - [part.start for part in crop]
        scale = [n / (c.stop - c.start) for n, c in zip(image.shape, crop, strict=True)]
        if settings.rule == "monai":
            brain = brain * [s if n > 1 else 1 for s, n in zip(spacing, image.shape, strict=True)]
        else:
            brain = (brain + 0.5) * scale - 0.5
    return WindowScan(placed, image, order, full, crop, spacing, target, there, brain)


def map_back(
    logits: NDArray[np.float32], scan: WindowScan, settings: WindowSettings
) -> NDArray[np.float32]:
    """(channels, ...) logits on ``scan.image`` to the lesion's probability (K, J, I) on the placed
    scan; 0 beyond the crop. nnU-Net resamples logits, SynthStroke's chain the probability."""
    shape = tuple(part.stop - part.start for part in scan.crop)
    if settings.rule == "monai":
        back = _from_one_mm(kept_probability(logits, settings), shape, scan.spacing)
    else:
        how = settings.resample_logits
        back = kept_probability(resample(logits, shape, scan.step_mm, scan.spacing, how), settings)
    whole = np.zeros(scan.full, np.float32)
    whole[scan.crop] = back
    return np.ascontiguousarray(scan.order.undo(whole))


def kept_probability(logits: NDArray[np.float32], settings: WindowSettings) -> NDArray[np.float32]:
    """The lesion's probability of logits (channels, ...), float32.

    One channel: what the lesion's logit is above that of the only other class, or the logit of a
    label of its own. More: p / (p + strongest other), whose half is where they are equal.
    """
    if len(logits) == 1:
        above = logits[0]
    else:
        others = np.delete(np.arange(len(logits)), settings.lesion)
        above = logits[settings.lesion] - logits[others].max(axis=0)
    from scipy.special import expit

    return np.asarray(expit(above), np.float32)


def normalise(
    image: NDArray[np.float32], settings: WindowSettings, mask: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Intensities as the network was trained on; ``image`` is overwritten.

    ``mask``: where there is something, for "zscore_mask".
    """
    kind = settings.normalization
    if kind == "none":
        return image
    if kind == "ct":
        numbers = settings.intensity
        np.clip(image, numbers["percentile_00_5"], numbers["percentile_99_5"], out=image)
        image -= numbers["mean"]
        image /= max(numbers["std"], _EPS)
        return image
    if kind == "rescale01":
        image -= image.min()
        image /= max(float(image.max()), _EPS)
        return image
    if kind == "zscore_mask" and mask is not None:
        values = image[mask]
        image[mask] = (values - values.mean()) / max(values.std(), _EPS)
        return image
    if kind == "histogram":
        image = _equalised(image)
    deviation = float(image.std(dtype=np.float64 if kind == "histogram" else None))
    image -= image.mean(dtype=np.float64 if kind == "histogram" else None)
    # MONAI leaves a constant image alone, nnU-Net divides by a small number.
    image /= (deviation or 1.0) if kind == "histogram" else max(deviation, _EPS)
    return image


def _equalised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """MONAI's ``HistogramNormalize``: each intensity becomes its share of voxels, 0 to 255."""
    counts, edges = np.histogram(image.ravel(), _BINS)
    share = counts.cumsum().astype(np.float32)
    low, high = float(share.min()), float(share.max())
    share = (share - low) / (high - low or 1.0) * 255
    centres = (edges[:-1] + edges[1:]) / 2
    return np.interp(image.ravel(), centres, share).astype(np.float32).reshape(image.shape)


# ------------------------------------------------------------------ resampling


def resample(
    data: NDArray[np.float32],
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    target: tuple[float, ...],
    how: Resampling,
) -> NDArray[np.float32]:
    """(channels, A, B, C) float32 to (channels, *shape), as nnU-Net does it.

    Voxel edges match, not centres. Where one axis is much thicker than the others it is resampled
    by itself (``how.separate``), by default to the nearest slice.
    """
    if data.shape[1:] == shape or how.kind == "none":
        return data
    thick = _thick_axis(spacing, target, how)
    plane = list(shape)
    if thick is not None:
        plane[thick] = data.shape[1 + thick]
    result = np.empty((len(data), *shape), np.float32)
    for channel, values in enumerate(data):
        inner = _resized(values, plane, 1 if how.kind == "torch" else how.order, thick)
        if thick is not None and inner.shape != shape:
            inner = _resized(inner, list(shape), how.order_z if how.kind == "spline" else 0, None)
        result[channel] = inner
    return result


def _thick_axis(
    spacing: tuple[float, ...], target: tuple[float, ...], how: Resampling
) -> int | None:
    """The axis that is resampled by itself; None if none is."""
    if how.separate is False:
        return None
    for sizes in (spacing, target):
        if how.separate or max(sizes) / min(sizes) > how.anisotropy:
            thick = [n for n, size in enumerate(sizes) if size == max(sizes)]
            return thick[0] if len(thick) == 1 else None
    return None


def _resized(
    values: NDArray[np.float32], shape: list[int], order: int, thick: int | None
) -> NDArray[np.float32]:
    from scipy.ndimage import zoom

    if list(values.shape) == shape:
        return values
    if thick is not None:
        moved = np.moveaxis(values, thick, 0)
        rest = [n for axis, n in enumerate(shape) if axis != thick]
        slices = [_resized(one, rest, order, None) for one in moved]
        return np.moveaxis(np.stack(slices), 0, thick)
    factors = [n / m for n, m in zip(shape, values.shape, strict=True)]
    if order == 1:
        return _linear(values, shape)
    source = values.astype(np.float64)
    # A spline may overshoot; skimage's resize, which nnU-Net calls, cuts that off.
    out = zoom(source, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(out, source.min(), source.max()).astype(np.float32)


def _linear(values: NDArray[np.float32], shape: list[int]) -> NDArray[np.float32]:
    import torch
    from torch.nn import functional

    mode = {2: "bilinear", 3: "trilinear"}[values.ndim]
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    return functional.interpolate(tensor, tuple(shape), mode=mode)[0, 0].numpy()


def _target_spacing(
    spacing: tuple[float, ...], settings: WindowSettings
) -> tuple[float, float, float]:
    wanted = settings.spacing or spacing
    # A network of slices leaves their distance as it is.
    a, b, c = (spacing[0], *wanted) if len(wanted) == 2 else wanted
    return float(a), float(b), float(c)


def _one_mm(array: NDArray[np.float32], spacing: tuple[float, ...]) -> NDArray[np.float32]:
    """To 1 mm, linear, voxel 0 where it was, as MONAI's ``Spacing`` does it."""
    for axis, size in enumerate(spacing):
        count = round((array.shape[axis] - 1) * size + 1)
        if abs(size - 1) <= _SAME_SPACING and count == array.shape[axis]:
            continue
        array = _sampled(array, np.arange(count) / size, axis)
    return array


def _from_one_mm(
    array: NDArray[np.float32], shape: tuple[int, ...], spacing: tuple[float, ...]
) -> NDArray[np.float32]:
    for axis, size in enumerate(spacing):
        if abs(size - 1) <= _SAME_SPACING and shape[axis] == array.shape[axis]:
            continue
        array = _sampled(array, np.arange(shape[axis]) * size, axis)
    return array


def _sampled(
    array: NDArray[np.float32], positions: NDArray[np.floating], axis: int
) -> NDArray[np.float32]:
    """Linear interpolation along one axis at ``positions`` in voxels, the border beyond it."""
    last = array.shape[axis] - 1
    positions = np.clip(positions, 0, last)
    low = np.minimum(positions.astype(np.intp), max(last - 1, 0))
    part = (positions - low).astype(np.float32)
    part = part.reshape([-1 if n == axis else 1 for n in range(array.ndim)])
    below = np.take(array, low, axis)
    above = np.take(array, np.minimum(low + 1, last), axis)
    above -= below
    above *= part
    return below + above


# ------------------------------------------------------------------ where there is something


def _nonzero_box(array: NDArray[np.float32]) -> Window:
    box = []
    for axis in range(array.ndim):
        others = tuple(n for n in range(array.ndim) if n != axis)
        there = np.flatnonzero((array != 0).any(axis=others))
        if not there.size:
            return tuple(slice(0, n) for n in array.shape)
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def _filled(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes(array != 0))


def _brain_points(placed: PlacedScan) -> NDArray[np.float64] | None:
    """(N, 3) voxel indices k, j, i of ``placed.volume`` where the MNI brain lies, 4 mm apart."""
    from ..images import MNI_GRID, mni_brain_mask

    if placed.in_mni:
        to_mni = np.eye(4)
    elif placed.alignment is not None:
        to_mni = placed.alignment.matrix
    else:
        return None
    kji = np.argwhere(mni_brain_mask().array[::4, ::4, ::4] != 0) * 4.0
    world = kji[:, ::-1] @ MNI_GRID.affine[:3, :3].T + MNI_GRID.affine[:3, 3]
    to_voxels = np.linalg.inv(to_mni @ placed.volume.affine)
    ijk = world @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    return np.ascontiguousarray(ijk[:, ::-1])
