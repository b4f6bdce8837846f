"""Grids as scanners write them: other axes, unequal spacing, oblique, sheared."""

from __future__ import annotations

import numpy as np
from correction_support import rotation
from numpy.typing import NDArray
from StrokeLesionSegLib.images import Grid

Axes = NDArray[np.float64]


def _turned(axis: int, degrees: float) -> Axes:
    return rotation([degrees if n == axis else 0.0 for n in range(3)])


# name: (3x3 of ijk to RAS, shape kji)
_AXES: dict[str, tuple[Axes, tuple[int, int, int]]] = {
    "ras": (np.eye(3), (44, 56, 48)),
    "lps": (np.diag([-1.0, -1.0, 1.0]), (44, 56, 48)),
    "sagittal, pir": (np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), (48, 44, 56)),
    "thick": (np.diag([0.9, 0.9, 4.0]), (11, 60, 52)),
    "oblique": (_turned(0, 12) @ _turned(2, 9) @ np.diag([1.0, -1.1, 1.2]), (40, 52, 52)),
    "oblique, thick": (_turned(1, 17) @ np.diag([-1.0, 1.0, 3.0]), (18, 56, 52)),
    "sheared": (np.array([[1.0, 0.15, 0], [0, 1.0, 0.2], [0, 0, 1.1]]), (40, 56, 50)),
}


def _grid(axes: Axes, shape: tuple[int, int, int]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


#: By name; the middle of each lies at RAS (0, 0, 0).
GRIDS = {name: _grid(*entry) for name, entry in _AXES.items()}


def places(grid: Grid) -> NDArray[np.float64]:
    """(K, J, I, 3) RAS mm of the voxels."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    return np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
