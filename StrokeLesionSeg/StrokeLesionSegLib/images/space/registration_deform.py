"""Deformable alignment of a scan to the template, with the lesion left out.

Demons (Thirion, Medical Image Analysis 2, 1998) with symmetric forces and composed steps
(Vercauteren et al., NeuroImage 45, 2009), from coarse to fine. A lesion looks like nothing in the
template, so that without care it is shrunk or filled: its voxels pull nowhere (cost-function
masking, Brett et al., NeuroImage 14, 2001), and move as what is around them does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...brief import brief_repr
from ..volume import Grid, Volume
from ..window import apply_window, window_range
from .alignment import Alignment
from .canonical import to_canonical
from .deformation import Deformation, jacobian
from .registration_start import correlation, flatten
from .template import template_brain, template_head, template_t1

# Halvings of the template's 2 mm grid, and steps on each.
_LEVELS = ((2, 30), (1, 30), (0, 20))
# Blur of a step and of the whole field, voxels of the level.
_STEP_SIGMA, _FIELD_SIGMA = 1.6, 1.2
# Longest way of one step, voxels of the level.
_LONGEST = 0.8
# How far around the brain forces count, and around the lesion do not, mm.
_RIM_MM, _LESION_RIM_MM = 4.0, 3.0
# Where less than this share of a voxel's neighbourhood counts, its step fades out.
_LEAST_SHARE = 0.25
#: The field has to make this much of the template anywhere: below, space is about to fold.
LEAST_GROWTH, MOST_GROWTH = 0.1, 10.0
#: What the similarity has to gain.
LEAST_GAIN = 0.005


@dataclass(frozen=True, eq=False)
class DeformableAlignment:
    """A deformation after an affine alignment, judged.

    Attributes
    ----------
    deformation: None if the affine alignment is kept. reason: one sentence that says why; empty
        if not.
    before, after: correlation of scan and template within the brain and outside of the lesion.
    growth: smallest and largest volume change, as a factor. largest_mm: longest displacement.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import DeformableAlignment
    >>> DeformableAlignment(None, "It gains nothing.", 0.9, 0.9).deformation is None
    True
    """

    deformation: Deformation | None
    reason: str
    before: float
    after: float
    growth: tuple[float, float] = (1.0, 1.0)
    largest_mm: float = 0.0

    __repr__ = brief_repr


def deform_to_mni(
    volume: Volume,
    to_mni: NDArray[np.float64],
    lesions: Volume | None = None,
    *,
    check: Callable[[], None] = lambda: None,
) -> DeformableAlignment:
    """Deform a T1 that is aligned by ``to_mni`` (4x4, its RAS mm to MNI RAS mm) to the template.

    ``lesions``: mask on any grid of the same space, > 0 in lesions, whose voxels do not count;
    None takes all of the brain. ``check`` is called at every step and may raise. The same input
    gives the same field bit for bit.

    Nothing is raised where it does not help: ``deformation`` is None then.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, deform_to_mni
    >>> deform_to_mni(Volume(np.zeros((20, 20, 20)), np.eye(4)), np.eye(4)).deformation is None
    True
    """
    fixed, brain, grid = _template_grid()
    aligned = Alignment(np.asarray(to_mni, dtype=np.float64), True, "", 0.0, 0.0, 0.0)
    seen = to_canonical(volume, aligned, grid).volume.array
    check()
    try:
        moving = flatten(apply_window(seen, window_range(seen)), 2.0)
    except ValueError as error:
        return DeformableAlignment(None, f"There is nothing to deform: {error}.", 0.0, 0.0)
    left_out = np.zeros(grid.shape, np.float32)
    if lesions is not None:
        mask = lesions.with_array((np.asarray(lesions.array) > 0).astype(np.float32))
        left_out = to_canonical(mask, aligned, grid).volume.array
    images = _Images(_best(fixed, moving, brain), moving, brain, left_out)
    shifts = np.zeros((3, *grid.shape), np.float32)
    before = images.similarity(shifts)
    size = 0
    for level, steps in _LEVELS:
        part = images.at_level(level)
        shifts = _to_level(shifts, size, level, part.fixed.shape)
        shifts = part.climb(shifts, steps, check)
        size = level
    shifts = shifts * np.float32(2.0)  # voxels to mm
    after = images.similarity(shifts / np.float32(2.0))
    return _judged(shifts, grid, before, after)


def _judged(
    shifts: NDArray[np.float32], grid: Grid, before: float, after: float
) -> DeformableAlignment:
    """The result with its verdict."""
    growth = jacobian(shifts, np.full(3, 2.0))
    least, most = float(growth.min()), float(growth.max())
    largest = float(np.sqrt((shifts.astype(np.float64) ** 2).sum(axis=0)).max())
    reason = ""
    if not np.isfinite(shifts).all() or least < LEAST_GROWTH or most > MOST_GROWTH:
        reason = f"The deformation folds or tears (volumes change by {least:.2f} to {most:.1f})."
    elif after < before + LEAST_GAIN:
        reason = f"The deformation gains nothing (correlation {before:.3f} before, {after:.3f})."
    kept = None if reason else _thinned(shifts, grid)
    return DeformableAlignment(kept, reason, before, after, (least, most), largest)


def _thinned(shifts: NDArray[np.float32], grid: Grid) -> Deformation:
    """Every second place of the field, which is as smooth as that: an eighth of the file."""
    affine = np.array(grid.affine)
    affine[:3, :3] *= 2.0
    return Deformation(np.ascontiguousarray(shifts[:, ::2, ::2, ::2]), affine)


def _template_grid() -> tuple[tuple[NDArray, NDArray], NDArray[np.float32], Grid]:
    """The template without and with skull, flattened; its brain, 0 to 1; their 2 mm grid."""
    brain = template_brain()
    looks = [
        flatten(t.array.astype(np.float32) / 255.0, 2.0) for t in (template_t1(), template_head())
    ]
    return (looks[0], looks[1]), brain.array.astype(np.float32) / 255.0, brain.grid


def _best(
    fixed: tuple[NDArray, NDArray], moving: NDArray[np.float32], brain: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The template with or without skull, whichever is more like the scan around the brain."""
    from scipy import ndimage

    near = ndimage.binary_dilation(brain > 0.5, iterations=4)
    return max(fixed, key=lambda look: correlation(look[near], moving[near]))


@dataclass(frozen=True, eq=False)
class _Images:
    """Template and scan on one grid, how much each voxel counts, and the lesion in the scan."""

    fixed: NDArray[np.float32]
    moving: NDArray[np.float32]
    brain: NDArray[np.float32]
    left_out: NDArray[np.float32]
    step_mm: float = 2.0

    __repr__ = brief_repr

    def at_level(self, level: int) -> _Images:
        """On a grid that is coarser by 2 to the power of ``level``."""
        from scipy import ndimage

        if not level:
            return self
        thin, sigma = (slice(None, None, 2**level),) * 3, 0.5 * 2**level

        def coarser(array: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.ascontiguousarray(ndimage.gaussian_filter(array, sigma)[thin])

        return _Images(
            coarser(self.fixed),
            coarser(self.moving),
            coarser(self.brain),
            coarser(self.left_out),
            2.0 * 2**level,
        )

    def similarity(self, shifts: NDArray[np.float32]) -> float:
        """Correlation within the brain, outside of the lesion as it was aligned."""
        kept = (self.brain > 0.5) & (self.left_out < 0.1)
        return correlation(self.fixed[kept], _moved(self.moving, shifts)[kept])

    def climb(
        self, shifts: NDArray[np.float32], steps: int, check: Callable[[], None]
    ) -> NDArray[np.float32]:
        """``shifts`` (3, K, J, I) in voxels along i, j, k, improved."""
        from scipy import ndimage

        rim = max(1, round(_RIM_MM / self.step_mm))
        inside = ndimage.binary_dilation(self.brain > 0.5, iterations=rim).astype(np.float32)
        slopes = np.stack([np.gradient(self.fixed, axis=axis) for axis in (2, 1, 0)])
        grown = self.left_out
        if grown.any():
            grown = ndimage.gaussian_filter(grown, _LESION_RIM_MM / 2 / self.step_mm)
        for _ in range(steps):
            check()
            seen = _moved(self.moving, shifts)
            counts = inside
            if grown.any():
                counts = inside * (_moved(grown, shifts) < 0.05)
            step = self._step(seen, slopes, counts)
            shifts = step + np.stack([_moved(part, step) for part in shifts])
            shifts = np.stack([ndimage.gaussian_filter(part, _FIELD_SIGMA) for part in shifts])
        return shifts

    def _step(
        self,
        seen: NDArray[np.float32],
        slopes: NDArray[np.float32],
        counts: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """One step of the demons: (3, K, J, I) voxels."""
        there = counts > 0
        a, b = self.fixed[there], seen[there]
        spread = float(b.std())
        scale = float(a.std()) / spread if spread > 1e-6 else 1.0
        misfit = self.fixed - ((seen - b.mean()) * np.float32(scale) + a.mean())
        both = 0.5 * (
            slopes + np.float32(scale) * np.stack([np.gradient(seen, axis=x) for x in (2, 1, 0)])
        )
        power = (both * both).sum(axis=0) + misfit * misfit / np.float32(_LONGEST**2 * 4)
        force = np.where(power > 1e-5, misfit / np.maximum(power, 1e-5), 0) * counts * both
        return _smoothed(force.astype(np.float32), counts)


def _smoothed(force: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blurred over what counts alone; within a large lesion the field's own blur goes on."""
    from scipy import ndimage

    near = ndimage.gaussian_filter(counts, _STEP_SIGMA)
    out = np.stack([ndimage.gaussian_filter(part, _STEP_SIGMA) for part in force])
    out /= np.maximum(near, np.float32(_LEAST_SHARE))
    return out


def _moved(array: NDArray[np.float32], shifts: NDArray[np.float32]) -> NDArray[np.float32]:
    """``array`` at every voxel plus its shift (3, K, J, I; voxels along i, j, k), linear."""
    from scipy import ndimage

    places = np.indices(array.shape, dtype=np.float32)
    places += shifts[::-1]
    return ndimage.map_coordinates(array, places, order=1, mode="nearest", output=np.float32)


def _to_level(
    shifts: NDArray[np.float32], old: int, new: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """A field of one level on the grid of another."""
    from scipy import ndimage

    if old == new and shifts.shape[1:] == shape:
        return shifts
    factor = 2.0 ** (new - old)
    places = np.indices(shape, dtype=np.float32) * np.float32(factor)
    return np.stack(
        [
            ndimage.map_coordinates(part, places, order=1, mode="nearest", output=np.float32)
            / np.float32(factor)
            for part in shifts
        ]
    )
