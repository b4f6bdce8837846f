"""Where in a canonical volume the brain lies: a box around it, and in MNI space a mask of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box, bounding_box, whole_box, widen
from ...once import once
from ..volume import Grid
from ..window import foreground_threshold
from .canonical import Canonical
from .grid_map import nearest_ras
from .template import MNI_GRID, mni_brain_mask, template_brain, upsample_linear

# Between the brain and the sides of the box. An affine alignment leaves a few millimetres.
_MARGIN_MM = 5
# From the top of a head with scalp to the lower end of the cerebellum and some of the brain stem.
# The brain itself is up to 155 mm high, scalp and skull above it up to 20 mm.
_HEAD_HEIGHT_MM = 185
# A plane belongs to the head if this share of the fullest plane's foreground lies in it: less is
# noise, a pillow or wrap-around.
_PLANE_SHARE = 0.02
# Of the bright tissue's intensity: noise stays below, even in low-field scans.
_TISSUE_SHARE = 0.2


def lies_on_mni_grid(grid: Grid) -> bool:
    """True if a scan on ``grid`` was stored on ``MNI_GRID``, with its axes in any order and
    direction: what is done with a scan never depends on these.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Grid, lies_on_mni_grid
    >>> left_to_right = np.diag([-1.0, 1.0, 1.0, 1.0])
    >>> left_to_right[:3, 3] = 98, -134, -72
    >>> lies_on_mni_grid(Grid((189, 233, 197), left_to_right))
    True
    """
    # The shape first: a header of other scans may have axes of no length, which have no order.
    same_shape = sorted(grid.shape) == sorted(MNI_GRID.shape)
    return same_shape and nearest_ras(grid).grid.same_as(MNI_GRID)


def on_mni_grid(canonical: Canonical) -> bool:
    """True if the canonical volume was aligned to MNI152 or has been stored on its grid."""
    return canonical.alignment is not None or canonical.volume.grid.same_as(MNI_GRID)


def brain_box(canonical: Canonical) -> Box:
    """Slices (k, j, i) of a box in ``canonical.volume`` that holds the brain with a margin.

    In MNI space it is the box of the template's brain with 5 mm around it. Elsewhere it is the
    box of the foreground, at most 185 mm down from the top of the head: neck and air are left
    out, the skull is not. The whole array if there is no foreground.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, brain_box, to_canonical
    >>> array = np.zeros((40, 40, 40), np.float32)
    >>> array[10:30, 12:28, 14:26] = 100 + np.arange(20 * 16 * 12).reshape(20, 16, 12) % 7
    >>> [(part.start, part.stop) for part in brain_box(to_canonical(Volume(array, np.eye(4))))]
    [(5, 35), (7, 33), (9, 31)]
    """
    array = canonical.volume.array
    if on_mni_grid(canonical):
        brain = bounding_box(mni_brain_mask().array != 0) or whole_box(array.shape)
        return widen(brain, _MARGIN_MM, array.shape)
    try:
        foreground = array > _tissue_level(array)
    except ValueError:  # nothing finite, or constant
        return whole_box(array.shape)
    k = _extent(foreground.sum(axis=(1, 2)))
    k = slice(max(k.start, k.stop - _HEAD_HEIGHT_MM), k.stop)
    foreground = foreground[k]
    j = _extent(foreground.sum(axis=(0, 2)))
    i = _extent(foreground.sum(axis=(0, 1)))
    return widen((k, j, i), _MARGIN_MM, array.shape)


def brain_mask_for(canonical: Canonical, margin_mm: float = 0.0) -> NDArray[np.bool_]:
    """The MNI brain grown by ``margin_mm``, as a mask on the grid of ``canonical.volume``.

    bool (189, 233, 197) in k, j, i; read-only and shared between callers.
    Raises ``ValueError`` if the volume is not in MNI space, or the margin is negative.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import MNI_GRID, Volume, brain_mask_for, to_canonical
    >>> canonical = to_canonical(Volume(np.zeros(MNI_GRID.shape, np.float32), MNI_GRID.affine))
    >>> bool(brain_mask_for(canonical).sum() < brain_mask_for(canonical, 4.0).sum())
    True
    """
    if not on_mni_grid(canonical):
        raise ValueError("a brain mask is known in MNI space only; this volume is not aligned")
    if not margin_mm >= 0:
        raise ValueError(f"a margin is not negative: {margin_mm} mm")
    return grown_brain_mask(float(margin_mm))


def _tissue_level(array: NDArray[np.float32]) -> float:
    """An intensity that scalp and brain exceed and noise in the air does not."""
    sample = array[::2, ::2, ::2]
    threshold = foreground_threshold(sample)
    bright = float(np.percentile(sample[sample > threshold], 90))
    # The outline is all that counts: dark fluid within it may fall below.
    return max(threshold, float(sample.min()) + _TISSUE_SHARE * (bright - float(sample.min())))


@once
def grown_brain_mask(margin_mm: float) -> NDArray[np.bool_]:
    """The MNI brain grown by ``margin_mm``: bool on ``MNI_GRID``, read-only and shared."""
    brain = mni_brain_mask().array != 0
    if margin_mm > 0:
        from scipy.ndimage import distance_transform_edt

        # At 2 mm, an eighth of the voxels, since a distance is smooth. The edge of the mask lies
        # half a voxel beyond its outermost centres: 1 mm here, half of that on the fine grid.
        distance = distance_transform_edt(template_brain().array < 127.5, sampling=2.0)
        distance = np.maximum(distance - 0.5, 0).astype(np.float32)
        brain = brain | (upsample_linear(distance) <= margin_mm)
    brain.setflags(write=False)
    return brain


def _extent(counts: NDArray[np.int64]) -> slice:
    there = np.flatnonzero(counts > _PLANE_SHARE * counts.max())
    return slice(int(there[0]), int(there[-1]) + 1)
