"""Between the native grid and the canonical one: RAS axes, 1 mm, optionally aligned to MNI152.

The native volume is first brought to the axis order and directions nearest to RAS, which only
permutes and flips. Everything after that is computed relative to the centre of that reordered
volume, so a scan stored in any of the 48 axis orders gives the same canonical voxels, bit by bit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Grid, Volume
from . import resample

if TYPE_CHECKING:
    from .alignment import Alignment

# A volume counts as lying on a 1 mm RAS grid, or along the world axes, if no corner of it is
# further off than this after matching the centres. Half a tenth of a voxel changes no lesion.
TOLERANCE_MM = 0.05


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
    """

    volume: Volume
    native: Grid
    alignment: Alignment | None = None
    exact: bool = False


@dataclass(frozen=True)
class _Reorder:
    """Native ijk axes in the order and direction nearest to RAS."""

    axes: tuple[int, int, int]  # native (i, j, k) axis that runs along R, A, S
    flips: tuple[bool, bool, bool]  # whether that axis runs the other way
    grid: Grid  # the reordered grid

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """(K, J, I) native to (S, A, R); a view."""
        view = array.transpose([2 - a for a in self.axes[::-1]])
        return view[tuple(slice(None, None, -1 if f else 1) for f in self.flips[::-1])]

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``apply``; a view."""
        view = array[tuple(slice(None, None, -1 if f else 1) for f in self.flips[::-1])]
        return view.transpose(np.argsort([2 - a for a in self.axes[::-1]]))


def nearest_ras(grid: Grid) -> _Reorder:
    """The permutation and flips that bring the voxel axes of ``grid`` nearest to R, A, S."""
    axes = grid.affine[:3, :3]
    cosines = axes / np.sqrt((axes**2).sum(axis=0))

    def preference(order: tuple[int, ...]) -> tuple[float, ...]:
        picked = np.abs(cosines[:, order])
        # Ties (axes at 45 degrees) are settled by the geometry, never by how the file is stored.
        return (round(float(np.trace(picked)), 6), *np.round(picked, 6).ravel().tolist())

    order = max(itertools.permutations(range(3)), key=preference)
    flips = tuple(bool(cosines[row, axis] < 0) for row, axis in enumerate(order))
    shape = grid.shape[::-1]
    affine = grid.affine.copy()
    for row, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        column = grid.affine[:3, axis]
        affine[:3, row] = -column if flip else column
        if flip:
            affine[:3, 3] += column * (shape[axis] - 1)
    si, sj, sk = (shape[a] for a in order)
    return _Reorder(order, flips, Grid((sk, sj, si), affine))  # type: ignore[arg-type]


def _centre(shape_kji: tuple[int, ...]) -> NDArray[np.float64]:
    return (np.asarray(shape_kji[::-1], dtype=np.float64) - 1) / 2


def _drift_mm(axes: NDArray[np.float64], ideal: NDArray[np.float64], grid: Grid) -> float:
    """The furthest that replacing the voxel axes by ``ideal`` moves a corner, centres matched."""
    corners = np.array(list(itertools.product(*((-c, c) for c in _centre(grid.shape)))))
    return float(np.sqrt(((corners @ (axes - ideal).T) ** 2).sum(axis=1)).max())


def _plan(native: Grid) -> tuple[_Reorder, Grid, bool, bool]:
    """(reordering, canonical grid, exact, along the world axes) without alignment."""
    reorder = nearest_ras(native)
    grid = reorder.grid
    axes = grid.affine[:3, :3]
    if _drift_mm(axes, np.eye(3), grid) <= TOLERANCE_MM:
        return reorder, grid, True, True
    spacing = np.sqrt((axes**2).sum(axis=0))
    straight = _drift_mm(axes, np.diag(spacing), grid) <= TOLERANCE_MM
    counts = np.asarray(grid.shape[::-1])
    extent = spacing * counts if straight else np.abs(axes) @ counts
    # A hundredth of a voxel of excess is rounding and earns no further slice.
    size = np.maximum(np.ceil(extent - 0.01), 1).astype(int)
    affine = np.eye(4)
    shape = (int(size[2]), int(size[1]), int(size[0]))
    affine[:3, 3] = axes @ _centre(grid.shape) + grid.affine[:3, 3] - _centre(shape)
    return reorder, Grid(shape, affine), False, straight


def _index_map(source: Grid, target: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(matrix, offset) from target ijk to source ijk when both share the world's coordinates."""
    inverse = np.linalg.inv(source.affine[:3, :3])
    matrix = inverse @ target.affine[:3, :3]
    return matrix, inverse @ (target.affine[:3, 3] - source.affine[:3, 3])


def _centred_map(source: Grid, target: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As ``_index_map`` for grids with the same centre; free of the rounding of their origins."""
    matrix = np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3]
    return matrix, _centre(source.shape) - matrix @ _centre(target.shape)


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
    """
    array = np.asarray(volume.array, dtype=np.float32)
    native = volume.grid
    fill = min(0.0, float(array.min()))
    if alignment is not None:
        from .template import MNI_GRID

        grid = MNI_GRID if mni_grid is None else mni_grid
        reorder = nearest_ras(native)
        moved = Grid(reorder.grid.shape, alignment.matrix @ reorder.grid.affine)
        matrix, offset = _index_map(moved, grid)
        values = resample.gather(reorder.apply(array), matrix, offset, grid.shape, fill)
        return Canonical(Volume(values, grid.affine.copy()), native, alignment, False)
    reorder, grid, exact, straight = _plan(native)
    ordered = reorder.apply(array)
    if exact:
        values = np.array(ordered, dtype=np.float32, order="C", copy=True)
    elif straight:
        spacing = grid_spacing(reorder.grid)
        values = ordered
        for axis in resample.cheapest_order(ordered.shape, grid.shape):
            step = 1.0 / spacing[axis]
            weights = resample.interpolation_weights(ordered.shape[axis], grid.shape[axis], step)
            values = resample.apply_weights(values, weights, axis)
        values = np.ascontiguousarray(values)
    else:
        matrix, offset = _centred_map(reorder.grid, grid)
        values = resample.gather(ordered, matrix, offset, grid.shape, fill)
    return Canonical(Volume(values, grid.affine), native, None, exact)


def from_canonical(array_kji: NDArray[Any], canonical: Canonical) -> Volume:
    """Brings an array on the canonical grid back to the native one.

    ``array_kji`` has the shape of ``canonical.volume`` and is real (a probability map, say).
    Returns float32 on ``canonical.native``, C-contiguous: unchanged voxels where ``exact``,
    otherwise linear interpolation; a native voxel that is larger than the canonical one gets the
    mean over its extent, so that a thin lesion is diluted in a thick slice and not missed. 0
    outside the canonical grid. Raises ``ValueError`` if the shape is another.
    """
    target = canonical.volume
    if array_kji.shape != target.array.shape:
        raise ValueError(f"array of shape {array_kji.shape}, not {target.array.shape}")
    array = np.asarray(array_kji, dtype=np.float32)
    native = canonical.native
    if canonical.alignment is not None:
        reorder = nearest_ras(native)
        moved = Grid(reorder.grid.shape, canonical.alignment.matrix @ reorder.grid.affine)
        matrix, offset = _index_map(target.grid, moved)
        values = resample.spread(array, matrix, offset, reorder.grid.shape)
    else:
        reorder, grid, exact, straight = _plan(native)
        if exact:
            values = array
        elif straight:
            values = array
            spacing = grid_spacing(reorder.grid)
            goal = reorder.grid.shape
            for axis in resample.cheapest_order(array.shape, goal):
                weights = resample.averaging_weights(array.shape[axis], goal[axis], spacing[axis])
                values = resample.apply_weights(values, weights, axis)
        else:
            matrix, offset = _centred_map(grid, reorder.grid)
            values = resample.spread(array, matrix, offset, reorder.grid.shape)
    back = np.array(reorder.undo(values), dtype=np.float32, order="C", copy=True)
    return Volume(back, native.affine.copy())


def grid_spacing(grid: Grid) -> tuple[float, float, float]:
    """Voxel edge lengths in mm along the array's axes (k, j, i)."""
    si, sj, sk = grid.spacing
    return sk, sj, si
