"""A deformation between the affine alignment of a scan and the template, and what it is used for.

It is a field of displacements on a grid in MNI space: what lies at a point of the template was at
that point plus its displacement when the scan was only aligned. Beyond the field nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...brief import brief_repr
from ..volume import Grid, Volume
from .template import MNI_GRID

# Fixed-point steps by which a displacement is inverted, and how near is near enough.
_STEPS = 60
_ENOUGH_MM = 0.01


@dataclass(frozen=True, eq=False)
class Deformation:
    """Displacements between template and aligned scan.

    Attributes
    ----------
    shifts: (3, K, J, I) float32; x, y, z in mm, from a point of the template to where it is in the
        aligned scan, both in MNI RAS mm.
    affine: 4x4, ijk of the field to MNI RAS mm.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Deformation
    >>> shifts = np.zeros((3, 8, 8, 8), np.float32)
    >>> shifts[0, 2:6, 2:6, 2:6] = 0.5
    >>> there = Deformation(shifts, np.eye(4)).to_aligned(np.array([[3.0], [3.0], [3.0]]))
    >>> there[:, 0].tolist()
    [3.5, 3.0, 3.0]
    """

    shifts: NDArray[np.float32]
    affine: NDArray[np.float64]

    __repr__ = brief_repr

    @property
    def grid(self) -> Grid:
        """The grid of the field."""
        k, j, i = self.shifts.shape[1:]
        return Grid((k, j, i), self.affine)

    def shift_at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements (3, N) at points (3, N) of the template, linear; 0 beyond the field."""
        return np.stack([_at(part, self.affine, points) for part in self.shifts])

    def to_aligned(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (3, N) of the template, MNI RAS mm, to where they are in the aligned scan."""
        return points + self.shift_at(points)

    def to_template(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of ``to_aligned``, to a hundredth of a mm where nothing folds."""
        found = points - self.shift_at(points)
        for _ in range(_STEPS):
            error = self.to_aligned(found) - points
            if not error.size or float(np.abs(error).max()) < _ENOUGH_MM:
                break
            found -= error
        return found

    @cached_property
    def growth(self) -> NDArray[np.float32]:
        """(K, J, I): how much larger a piece of the template is in the aligned scan.

        The determinant of the deformation's derivative. 0 or less where space folds.
        """
        return jacobian(self.shifts, np.diag(self.affine)[:3])

    def growth_at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """``growth`` at points (3, N) of the template; 1 beyond the field."""
        return 1.0 + _at(self.growth - np.float32(1), self.affine, points)


def _at(
    array: NDArray[Any], affine: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    from scipy import ndimage

    inverse = np.linalg.inv(affine)
    ijk = np.einsum("ij,jn->in", inverse[:3, :3], points) + inverse[:3, 3:]
    return ndimage.map_coordinates(
        array, ijk[::-1], order=1, mode="constant", cval=0.0, output=np.float64
    )


def jacobian(shifts: NDArray[np.float32], steps_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Determinant (K, J, I) of the derivative of x + shift(x); ``steps_mm`` along i, j, k."""
    rows = []
    for axis in range(3):
        along_kji = np.gradient(shifts[axis], *(float(s) for s in steps_mm[::-1]))
        row = [np.asarray(part, np.float32) for part in along_kji[::-1]]
        row[axis] = row[axis] + np.float32(1)
        rows.append(row)
    (a, b, c), (d, e, f), (g, h, i) = rows
    return np.asarray(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g), np.float32)


def resampled_in_mni(
    volume: Volume, to_mni: NDArray[np.float64], deformation: Deformation
) -> Volume:
    """``volume`` on ``MNI_GRID`` in one interpolation: float32, linear, 0 outside.

    ``to_mni``: 4x4, RAS mm of the scan to MNI RAS mm. Voxels finer than the template's are not
    averaged.
    """
    import SimpleITK as sitk

    array = np.asarray(volume.array, dtype=np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    # Index space as physical space: SimpleITK's directions could not hold a sheared affine.
    to_index = sitk.AffineTransform(3)
    matrix = np.linalg.inv(to_mni @ volume.affine)
    to_index.SetMatrix(matrix[:3, :3].ravel().tolist())
    to_index.SetTranslation(matrix[:3, 3].tolist())
    # The one that was added last comes first.
    whole = sitk.CompositeTransform([to_index, field_transform(deformation, np.ones(3))])
    out = sitk.Resample(
        image,
        list(MNI_GRID.shape[::-1]),
        whole,
        sitk.sitkLinear,
        MNI_GRID.affine[:3, 3].tolist(),
        (1.0, 1.0, 1.0),
        np.eye(3).ravel().tolist(),
        0.0,
    )
    return Volume(sitk.GetArrayFromImage(out), MNI_GRID.affine)


def field_transform(deformation: Deformation, signs: NDArray[np.float64]) -> Any:
    """The field as SimpleITK's ``DisplacementFieldTransform``.

    ``signs``: of x, y, z in the transform's space: all 1 for RAS, -1, -1, 1 for LPS.
    """
    import SimpleITK as sitk

    vectors = np.moveaxis(deformation.shifts.astype(np.float64), 0, -1) * signs
    field = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    steps = np.diag(deformation.affine)[:3]
    field.SetSpacing(steps.tolist())
    field.SetOrigin((signs * deformation.affine[:3, 3]).tolist())
    field.SetDirection(np.diag(signs).ravel().tolist())
    return sitk.DisplacementFieldTransform(field)
