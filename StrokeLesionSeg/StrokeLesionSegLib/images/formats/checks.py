"""What makes an image usable, whatever format it came in."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..volume import Volume
from .scan import Scan

# More than a whole head at 0.25 mm; as float32 it takes 2 GB.
MAX_VOXELS = 2**29
# A head is about 250 mm long. Wider margins leave neck-to-head scans and small test crops alone,
# and still catch a spacing in metres or micrometres before a grid of 1 mm is built for it.
MAX_EXTENT_MM = 1000.0
MIN_EXTENT_MM = 4.0
_FAR_MM = 1e6
# |cosine| between two voxel axes from which on an affine counts as sheared (about .3 degrees;
# float32 headers and scanner rounding stay below).
SHEAR_COSINE = 5e-3

_CONVERT = "Convert it to a 3D scalar image, for instance with 3D Slicer, and try again"


def check_shape(where: str | os.PathLike[str], shape_ijk: tuple[int, ...]) -> tuple[int, int, int]:
    """(I, J, K) of a scalar 3D image; trailing axes of length one are dropped.

    Raises ``InputError`` for images that are empty, 2D, have several frames or are absurdly large.
    """
    text = " x ".join(map(str, shape_ijk))
    if not shape_ijk or any(n < 1 for n in shape_ijk):
        raise InputError(where, f"the image is empty ({text or 'no'} voxels)", "Export it again")
    frames = int(np.prod([int(n) for n in shape_ijk[3:]], dtype=object)) if shape_ijk[3:] else 1
    if frames > 1:
        raise InputError(
            where,
            f"the image has {frames} frames ({text}), but only one is wanted",
            "Extract the T1-weighted frame into a 3D file of its own",
        )
    shape = tuple(int(n) for n in shape_ijk[:3])
    if len(shape) < 3 or min(shape) == 1:
        raise InputError(
            where,
            f"the image is 2D ({text}), but a 3D volume is needed",
            "Give the whole T1-weighted volume instead of one slice",
        )
    if shape[0] * shape[1] * shape[2] > MAX_VOXELS:
        raise InputError(
            where,
            f"the header claims {text} voxels, which no T1-weighted scan has",
            "The file is probably damaged: export it again",
        )
    return shape  # type: ignore[return-value]


def check_affine(
    where: str | os.PathLike[str], affine: NDArray[np.float64], shape_ijk: tuple[int, int, int]
) -> list[str]:
    """Warnings about an affine (ijk -> RAS mm); ``InputError`` if it places no volume."""
    remedy = "Repair the orientation in the header, or export the scan again from its DICOM files"
    if not np.isfinite(affine).all():
        raise InputError(where, "the affine of the header is not finite", remedy)
    if np.abs(affine).max() > _FAR_MM:
        raise InputError(where, "the affine puts the image kilometres away", remedy)
    axes = affine[:3, :3]
    spacing = np.sqrt((axes**2).sum(axis=0))
    if (spacing <= 0).any():
        raise InputError(where, "the voxel spacing is zero (singular affine)", remedy)
    cosines = axes / spacing
    if abs(np.linalg.det(cosines)) < 1e-3:
        raise InputError(where, "the voxel axes lie in one plane (singular affine)", remedy)
    extent = spacing * np.asarray(shape_ijk)
    if extent.max() > MAX_EXTENT_MM or extent.max() < MIN_EXTENT_MM:
        size = " x ".join(f"{e:.3g}" for e in extent)
        raise InputError(
            where,
            f"the image measures {size} mm, so its voxel spacing cannot be right",
            "Correct the spacing in the header (it has to be in mm)",
        )
    if (shear := shear_of(affine)) > SHEAR_COSINE:
        angle = float(np.degrees(np.arccos(min(1.0, shear))))
        return [
            f"the affine is sheared (two voxel axes meet at {angle:.1f} degrees); "
            "the volume is resampled accordingly"
        ]
    return []


def shear_of(affine: NDArray[np.float64]) -> float:
    """The largest abs. cosine between two voxel axes of an affine, 0 where all are at right angles.

    Examples
    --------
    >>> shear_of(np.eye(4))
    0.0
    """
    axes = affine[:3, :3]
    cosines = axes / np.sqrt((axes**2).sum(axis=0))
    return float(np.abs(cosines.T @ cosines - np.eye(3)).max())


# Around a stripped brain SPM and others leave NaN; less than this is left of no head.
_MOST_NONFINITE = 0.97


def nonfinite_warning(
    where: str | os.PathLike[str], bad: int, voxels: int, *, any_number: bool = False
) -> list[str]:
    """The warning for ``bad`` NaN or infinite voxels set to 0; ``InputError`` if too many.

    ``any_number``: as in a mask that is NaN wherever there is no lesion.
    """
    if bad == 0:
        return []
    if bad > _MOST_NONFINITE * voxels and not any_number:
        raise InputError(
            where,
            f"{bad} of {voxels} voxels are NaN or infinite",
            "Find the step that made them, or export the scan again",
        )
    return [f"{bad} of {voxels} voxels were NaN or infinite and were set to 0"]


def check_range(where: str | os.PathLike[str], low: float, high: float) -> None:
    """``InputError`` if an image's lowest and highest value say that it shows nothing."""
    if not low < high:
        raise InputError(
            where,
            f"the image is constant (every voxel is {low:g})",
            "Check that this is the T1-weighted scan",
        )


def checked_scan(
    where: str | os.PathLike[str],
    array: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    format: str = "memory",
    warnings: tuple[str, ...] = (),
    header: dict[str, Any] | None = None,
    allow_constant: bool = False,
) -> Scan:
    """A ``Scan`` from an array in memory, with the checks that every reader makes.

    ``array`` is (K, J, I) or has leading axes of length one; ``affine`` maps ijk to RAS mm. NaN
    and infinite voxels become 0 with a warning. ``where`` names the source in messages. The array
    is not copied if it is float32, contiguous and finite.

    Raises ``InputError`` as ``read_scan`` does.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> array = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    >>> checked_scan("memory", array, np.eye(4)).volume
    Volume(float32, Grid(4 x 4 x 4 voxels (k, j, i), 1 x 1 x 1 mm (i, j, k)))
    >>> checked_scan("memory", np.zeros((4, 4)), np.eye(4))
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: memory: the image is 2D (4 x 4), but a 3D volume...
    """
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise InputError(where, f"voxels of type {array.dtype} are not scalar", _CONVERT)
    shape_ijk = check_shape(where, array.shape[::-1])
    affine = np.array(affine, dtype=np.float64)
    notes = [*warnings, *check_affine(where, affine, shape_ijk)]
    stored = array.dtype.name
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array.reshape(shape_ijk[::-1]), dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        finite = np.isfinite(values)
        bad = int(values.size - finite.sum())
        notes += nonfinite_warning(where, bad, values.size, any_number=allow_constant)
        values = np.where(finite, values, np.float32(0))
        low, high = float(values.min()), float(values.max())
    if not allow_constant:
        check_range(where, low, high)
    facts = {"dtype": stored, **(header or {})}
    return Scan(Volume(values, affine), Path(where), format, tuple(notes), facts)


def corner_distance_mm(
    a: NDArray[np.float64], b: NDArray[np.float64], shape_ijk: tuple[int, ...]
) -> float:
    """The furthest that two affines put a corner of the volume apart, in mm."""
    corners = [(*c, 1.0) for c in itertools.product(*((0, n - 1) for n in shape_ijk[:3]))]
    shift = (np.array(corners) @ (a - b).T)[:, :3]
    return float(max(math.hypot(*row) for row in shift))
