"""How a native grid and a canonical one lie to each other: one map, read in both directions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Grid
from . import resample

# A volume counts as lying on a 1 mm RAS grid, or along the world axes, if no corner of it is
# further off than this after matching the centres. Half a tenth of a voxel changes no lesion.
TOLERANCE_MM = 0.05


@dataclass(frozen=True)
class Reorder:
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


def nearest_ras(grid: Grid) -> Reorder:
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
    return Reorder(order, flips, Grid((sk, sj, si), affine))  # type: ignore[arg-type]


def _centre(shape_kji: tuple[int, ...]) -> NDArray[np.float64]:
    return (np.asarray(shape_kji[::-1], dtype=np.float64) - 1) / 2


def _drift_mm(axes: NDArray[np.float64], ideal: NDArray[np.float64], grid: Grid) -> float:
    """The furthest that replacing the voxel axes by ``ideal`` moves a corner, centres matched."""
    corners = np.array(list(itertools.product(*((-c, c) for c in _centre(grid.shape)))))
    return float(np.sqrt(((corners @ (axes - ideal).T) ** 2).sum(axis=1)).max())


@dataclass(frozen=True, eq=False)
class GridMap:
    """A native grid, reordered to the axes nearest to RAS, beside a canonical one.

    Attributes
    ----------
    reorder: the permutation and flips of the native axes.
    ordered: the reordered native grid in the world of the canonical one.
    canonical: the canonical grid.
    exact: True if the reordered voxels are those of the canonical grid.
    straight: True if both lie along the world's axes, so that each axis can be resampled alone.
    centred: True if both have the same centre.
    """

    reorder: Reorder
    ordered: Grid
    canonical: Grid
    exact: bool = False
    straight: bool = False
    centred: bool = False

    def to_ordered(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(matrix, offset) from canonical ijk to reordered native ijk."""
        return (_centred_map if self.centred else _index_map)(self.ordered, self.canonical)

    def to_canonical(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(matrix, offset) from reordered native ijk to canonical ijk."""
        return (_centred_map if self.centred else _index_map)(self.canonical, self.ordered)

    def weights_to_canonical(self, axis: int) -> NDArray[np.float32]:
        """For ``resample.apply_weights`` along array axis ``axis`` of a straight map."""
        step = 1.0 / grid_spacing(self.ordered)[axis]
        sizes = self.ordered.shape[axis], self.canonical.shape[axis]
        return resample.interpolation_weights(*sizes, step)

    def weights_to_ordered(self, axis: int) -> NDArray[np.float32]:
        """As ``weights_to_canonical``, for the way back: means over the native voxels."""
        sizes = self.canonical.shape[axis], self.ordered.shape[axis]
        return resample.averaging_weights(*sizes, grid_spacing(self.ordered)[axis])


def grid_map(native: Grid) -> GridMap:
    """The map to the canonical grid of ``native`` without alignment: 1 mm, RAS, the same centre."""
    reorder = nearest_ras(native)
    grid = reorder.grid
    axes = grid.affine[:3, :3]
    if _drift_mm(axes, np.eye(3), grid) <= TOLERANCE_MM:
        return GridMap(reorder, grid, grid, exact=True, straight=True, centred=True)
    spacing = np.sqrt((axes**2).sum(axis=0))
    straight = _drift_mm(axes, np.diag(spacing), grid) <= TOLERANCE_MM
    counts = np.asarray(grid.shape[::-1])
    extent = spacing * counts if straight else np.abs(axes) @ counts
    # A hundredth of a voxel of excess is rounding and earns no further slice.
    size = np.maximum(np.ceil(extent - 0.01), 1).astype(int)
    affine = np.eye(4)
    shape = (int(size[2]), int(size[1]), int(size[0]))
    affine[:3, 3] = axes @ _centre(grid.shape) + grid.affine[:3, 3] - _centre(shape)
    return GridMap(reorder, grid, Grid(shape, affine), straight=straight, centred=True)


def aligned_grid_map(native: Grid, to_mni: NDArray[np.float64], mni_grid: Grid) -> GridMap:
    """The map to a grid in MNI space; ``to_mni``: 4x4, native RAS mm to MNI RAS mm."""
    reorder = nearest_ras(native)
    moved = Grid(reorder.grid.shape, to_mni @ reorder.grid.affine)
    return GridMap(reorder, moved, mni_grid)


def _index_map(source: Grid, target: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(matrix, offset) from target ijk to source ijk when both share the world's coordinates."""
    inverse = np.linalg.inv(source.affine[:3, :3])
    matrix = inverse @ target.affine[:3, :3]
    return matrix, inverse @ (target.affine[:3, 3] - source.affine[:3, 3])


def _centred_map(source: Grid, target: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As ``_index_map`` for grids with the same centre; free of the rounding of their origins."""
    matrix = np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3]
    return matrix, _centre(source.shape) - matrix @ _centre(target.shape)


def grid_spacing(grid: Grid) -> tuple[float, float, float]:
    """Voxel edge lengths in mm along the array's axes (k, j, i)."""
    si, sj, sk = grid.spacing
    return sk, sj, si
