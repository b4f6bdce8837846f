"""The one type that carries an image: voxels together with their place in the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


# Arrays have no truth value, so that a generated __eq__ would raise: volumes and grids are equal if
# they are the same object. ``Grid.same_as`` compares grids.
@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """A voxel grid in the world.

    Attributes
    ----------
    shape: (K, J, I), the shape of an array on this grid.
    affine: 4x4 float64; maps homogeneous voxel indices (i, j, k, 1) to RAS coordinates in mm
        (nibabel's convention; mind that arrays here are indexed [k, j, i]).

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Grid
    >>> grid = Grid((10, 20, 30), np.diag([1.0, 1.0, 2.5, 1.0]))
    >>> grid
    Grid(10 x 20 x 30 voxels (k, j, i), 1 x 1 x 2.5 mm (i, j, k))
    >>> grid.voxel_volume_ml
    0.0025
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __repr__(self) -> str:
        k, j, i = self.shape
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing)
        return f"Grid({k} x {j} x {i} voxels (k, j, i), {spacing} mm (i, j, k))"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths along (i, j, k) in mm."""
        si, sj, sk = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(si), float(sj), float(sk)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL, right for sheared grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def left_handed(self) -> bool:
        """Whether i, j and k are to each other as the fingers of a left hand."""
        return bool(np.linalg.det(self.affine[:3, :3]) < 0)

    def slices_reversed(self) -> Grid:
        """The same voxels in the opposite order of k, as of ``array[::-1]``."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, 2] * (self.shape[0] - 1)
        affine[:3, 2] *= -1
        return Grid(self.shape, affine)

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """True if shape agrees and no corner is further than ``tolerance_mm`` off."""
        if self.shape != other.shape:
            return False
        k, j, i = self.shape
        corners = np.array(
            [[a, b, c, 1.0] for a in (0, i - 1) for b in (0, j - 1) for c in (0, k - 1)]
        )
        shift = corners @ (self.affine - other.affine).T
        return bool(np.abs(shift[:, :3]).max() <= tolerance_mm)


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """A scalar 3D image.

    Attributes
    ----------
    array: (K, J, I), usually float32; k is the slowest axis. This is the order of SimpleITK's
        and Slicer's arrays, the transpose of nibabel's.
    affine: 4x4 float64; maps (i, j, k, 1) to RAS coordinates in mm.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> volume = Volume(np.zeros((10, 20, 30), np.float32), np.eye(4))
    >>> volume
    Volume(float32, Grid(10 x 20 x 30 voxels (k, j, i), 1 x 1 x 1 mm (i, j, k)))
    >>> volume.with_array(volume.array > 0).array.dtype
    dtype('bool')
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a volume has three axes, not {self.array.ndim}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"an affine is 4x4, not {self.affine.shape}")

    def __repr__(self) -> str:
        return f"Volume({self.array.dtype}, {self.grid})"

    @property
    def grid(self) -> Grid:
        k, j, i = self.array.shape
        return Grid((k, j, i), self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths along (i, j, k) in mm."""
        return self.grid.spacing

    def with_array(self, array: NDArray[Any]) -> Volume:
        """The same grid with other values; raises ``ValueError`` if the shape differs."""
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} on a grid of {self.array.shape}")
        return Volume(array, self.affine)
