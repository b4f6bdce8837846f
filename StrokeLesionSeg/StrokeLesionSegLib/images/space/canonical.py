"""Between the native grid and the canonical one: RAS axes, 1 mm, optionally aligned to MNI152.

The native volume is first brought to the axis order and directions nearest to RAS, which only
permutes and flips. Everything after that is computed relative to the centre of that reordered
volume, so a scan stored in any of the 48 axis orders gives the same canonical voxels, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Grid, Volume
from . import resample
from .grid_map import GridMap, aligned_grid_map, grid_map

if TYPE_CHECKING:
    from .alignment import Alignment


@dataclass(frozen=True)
class Canonical:
    """A volume on the canonical grid, and the way back.

    Attributes
    ----------
    volume: float32 (K, J, I), C-contiguous, axes along R, A, S, 1 mm. Its affine maps ijk to the
        native RAS mm, or to MNI RAS mm if ``alignment`` is set.
    native: the grid that it came from.
    alignment: the alignment that was applied, or None.
    exact: True if voxels were only permuted and flipped, so that both ways are lossless.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, to_canonical
    >>> lps = Volume(np.zeros((4, 5, 6), np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]))
    >>> canonical = to_canonical(lps)
    >>> canonical.exact, canonical.native.shape
    (True, (4, 5, 6))
    """

    volume: Volume
    native: Grid
    alignment: Alignment | None = None
    exact: bool = False

    def grid_map(self) -> GridMap:
        """How the native grid lies to that of ``volume``."""
        if self.alignment is None:
            return grid_map(self.native)
        return aligned_grid_map(self.native, self.alignment.matrix, self.volume.grid)


def to_canonical(
    volume: Volume, alignment: Alignment | None = None, mni_grid: Grid | None = None
) -> Canonical:
    """Brings ``volume`` onto the canonical grid in one interpolation.

    Without alignment the grid is RAS, 1 mm, and holds the whole volume, centred on it; if the
    volume lies on such a grid already but for the order and direction of its axes the voxels are
    copied unchanged (``exact``). With an alignment (native RAS mm -> MNI RAS mm) it is
    ``MNI_GRID``, 197 x 233 x 189 voxels with the origin at (-98, -134, -72), or ``mni_grid``,
    another one in MNI space, of any spacing.

    Linear interpolation; voxels finer than 1 mm are averaged so that nothing aliases. Outside the
    volume: 0, or the volume's minimum if that is negative. ``alignment.ok`` is the caller's
    business: an alignment that is handed in is applied.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, to_canonical
    >>> thick = Volume(np.ones((4, 10, 10), np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))
    >>> to_canonical(thick).volume
    Volume(float32, Grid(12 x 10 x 10 voxels (k, j, i), 1 x 1 x 1 mm (i, j, k)))
    """
    array = np.asarray(volume.array, dtype=np.float32)
    native = volume.grid
    fill = min(0.0, float(array.min()))
    if alignment is not None:
        from .template import MNI_GRID

        grids = aligned_grid_map(native, alignment.matrix, mni_grid or MNI_GRID)
    else:
        grids = grid_map(native)
    ordered, shape = grids.reorder.apply(array), grids.canonical.shape
    if grids.exact:
        values = np.array(ordered, dtype=np.float32, order="C", copy=True)
    elif grids.straight:
        values = ordered
        for axis in resample.cheapest_order(ordered.shape, shape):
            values = resample.apply_weights(values, grids.weights_to_canonical(axis), axis)
        values = np.ascontiguousarray(values)
    else:
        values = resample.gather(ordered, *grids.to_ordered(), shape, fill)
    return Canonical(Volume(values, grids.canonical.affine.copy()), native, alignment, grids.exact)


def from_canonical(array_kji: NDArray[Any], canonical: Canonical) -> Volume:
    """Brings an array on the canonical grid back to the native one.

    ``array_kji`` has the shape of ``canonical.volume`` and is real (a probability map, say).
    Returns float32 on ``canonical.native``, C-contiguous: unchanged voxels where ``exact``,
    otherwise linear interpolation; a native voxel that is larger than the canonical one gets the
    mean over its extent, so that a thin lesion is diluted in a thick slice and not missed. 0
    outside the canonical grid. Raises ``ValueError`` if the shape is another.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, from_canonical, to_canonical
    >>> thick = Volume(np.ones((4, 10, 10), np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))
    >>> canonical = to_canonical(thick)
    >>> from_canonical(canonical.volume.array > 0, canonical).grid.same_as(thick.grid)
    True
    """
    target = canonical.volume
    if array_kji.shape != target.array.shape:
        raise ValueError(f"array of shape {array_kji.shape}, not {target.array.shape}")
    values = np.asarray(array_kji, dtype=np.float32)
    grids = canonical.grid_map()
    goal = grids.ordered.shape
    if grids.straight and not grids.exact:
        for axis in resample.cheapest_order(values.shape, goal):
            values = resample.apply_weights(values, grids.weights_to_ordered(axis), axis)
    elif not grids.exact:
        values = resample.gather_averaged(values, *grids.to_canonical(), goal)
    back = grids.reorder.undo(values)
    # What was interpolated is nobody else's: one copy less where memory is scarcest.
    own = np.array(back, np.float32, order="C") if grids.exact else np.ascontiguousarray(back)
    return Volume(own, canonical.native.affine.copy())
