"""Results in the space of the template: masks, probabilities and the transform as a file.

The space is MNI152NLin2009aSym by its BIDS name, the grid ``MNI_GRID``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Volume
from .alignment import Alignment
from .canonical import to_canonical
from .deformation import Deformation, field_transform, resampled_in_mni
from .nearest import nearest_labels
from .template import MNI_GRID

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _placed(to_mni: NDArray[np.float64]) -> Alignment:
    return Alignment(np.asarray(to_mni, dtype=np.float64), True, "", 0.0, 0.0, 0.0)


def probability_in_mni(
    probability: Volume, to_mni: NDArray[np.float64], deformation: Deformation | None = None
) -> Volume:
    """A probability map on ``MNI_GRID``: float32, linear; 0 outside the scan.

    ``to_mni``: 4x4, RAS mm of the scan to MNI RAS mm; ``deformation`` comes after it.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, probability_in_mni
    >>> probability = Volume(np.full((20, 20, 20), 0.5, np.float32), np.eye(4))
    >>> probability_in_mni(probability, np.eye(4)).array.shape
    (189, 233, 197)
    """
    if deformation is not None:
        moved = resampled_in_mni(probability, to_mni, deformation)
        return Volume(moved.array.clip(0.0, 1.0), MNI_GRID.affine)
    if probability.grid.same_as(MNI_GRID) and np.array_equal(to_mni, np.eye(4)):
        return Volume(np.asarray(probability.array, np.float32), MNI_GRID.affine)
    moved = to_canonical(probability, _placed(to_mni)).volume
    return Volume(moved.array.clip(0.0, 1.0), MNI_GRID.affine)


def mask_in_mni(
    labels: Volume, to_mni: NDArray[np.float64], deformation: Deformation | None = None
) -> Volume:
    """A mask on ``MNI_GRID``: uint8, 1 where at least half of a voxel is lesion.

    ``labels``: mask or label map, more than 0 in lesions; the others as above. It is the mask that
    is resampled (linearly), not the probability, so that what was cleaned away or corrected by
    hand stays so. A lesion of a label map that is too thin to fill half a voxel anywhere is drawn
    by its nearest voxels instead of being lost.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, mask_in_mni
    >>> labels = Volume(np.ones((10, 10, 10), np.int32), np.eye(4))
    >>> int(mask_in_mni(labels, np.eye(4)).array.sum())
    1000
    """
    array = np.asarray(labels.array)
    if deformation is not None:
        return _deformed_mask(labels, to_mni, deformation)
    if labels.grid.same_as(MNI_GRID) and np.array_equal(to_mni, np.eye(4)):
        return Volume((array > 0).astype(np.uint8), MNI_GRID.affine)
    share = to_canonical(labels.with_array((array > 0).astype(np.float32)), _placed(to_mni)).volume
    mask = (share.array >= 0.5).astype(np.uint8)
    found = nearest_labels(labels, np.asarray(to_mni, dtype=np.float64), MNI_GRID)
    if found is not None:
        box, nearest = found
        there = mask[box]
        # A lesion whose nearest voxels are all below one half has left nothing.
        lost = set(np.unique(nearest).tolist()) - {0} - set(np.unique(nearest[there > 0]).tolist())
        if lost:
            there[np.isin(nearest, sorted(lost))] = 1
    return Volume(mask, MNI_GRID.affine)


def _deformed_mask(labels: Volume, to_mni: NDArray[np.float64], deformation: Deformation) -> Volume:
    """``mask_in_mni`` with a deformation."""
    array = np.asarray(labels.array)
    whole = labels.with_array((array > 0).astype(np.float32))
    mask = (resampled_in_mni(whole, to_mni, deformation).array >= 0.5).astype(np.uint8)
    kji = np.nonzero(array)
    ijk = np.stack([*kji[::-1], np.ones(len(kji[0]))]).astype(np.float64)
    there = deformation.to_template((to_mni @ labels.affine @ ijk)[:3])
    near = np.rint(there - MNI_GRID.affine[:3, 3:]).astype(int)
    inside = ((near >= 0) & (near < np.array(MNI_GRID.shape[::-1])[:, None])).all(axis=0)
    (i, j, k), number = near[:, inside], array[kji][inside]
    kept = np.unique(number[mask[k, j, i] > 0])
    lost = ~np.isin(number, kept)
    mask[k[lost], j[lost], i[lost]] = 1
    return Volume(mask, MNI_GRID.affine)


def write_transform(
    path: str | os.PathLike[str],
    to_mni: NDArray[np.float64],
    deformation: Deformation | None = None,
) -> None:
    """Write ``to_mni`` (4x4, RAS mm of the scan to MNI RAS mm) as an ITK transform, HDF5 by name.

    In ITK's convention, which ANTs, fMRIPrep and Slicer share, the transform that takes an image
    from the scan to MNI maps points the other way: LPS mm of MNI to LPS mm of the scan. Resampling
    the scan on the template's grid with it gives the scan in MNI space. With a ``deformation`` the
    file holds both as one composite transform, which the same programs read.

    Raises ``OSError`` if it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from StrokeLesionSegLib.images import read_transform, write_transform
    >>> to_mni = np.array([[1.0, 0, 0, 5], [0, 1, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_transform(f"{folder}/xfm.h5", to_mni)
    ...     bool(np.allclose(read_transform(f"{folder}/xfm.h5"), to_mni))
    True
    """
    import SimpleITK as sitk

    points = _TO_LPS @ np.linalg.inv(to_mni) @ _TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(points[:3, :3].ravel().tolist())
    transform.SetTranslation(points[:3, 3].tolist())
    if deformation is not None:
        # The one that was added last comes first: from the template's points on.
        field = field_transform(deformation, np.array([-1.0, -1.0, 1.0]))
        transform = sitk.CompositeTransform([transform, field])
    try:
        sitk.WriteTransform(transform, os.fspath(path))
    except RuntimeError as error:
        raise OSError(f"the transform cannot be written: {error}") from error
    with Path(path).open("rb+") as file:
        os.fsync(file.fileno())


def read_deformation(path: str | os.PathLike[str]) -> Deformation | None:
    """The deformation in a file of ``write_transform``; None if it holds an affine one alone.

    Raises ``ValueError`` for a file that holds neither.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import read_deformation, write_transform
    >>> write_transform("xfm.h5", np.eye(4))
    >>> read_deformation("xfm.h5") is None
    True
    """
    import SimpleITK as sitk

    transform = _read(path)
    if transform.GetName() != "CompositeTransform":
        read_transform(path)
        return None
    parts = sitk.CompositeTransform(transform)
    try:
        field = sitk.DisplacementFieldTransform(
            parts.GetNthTransform(parts.GetNumberOfTransforms() - 1)
        ).GetDisplacementField()
    except RuntimeError as error:
        raise ValueError(f"no deformation: {Path(path).name} holds another transform") from error
    signs = np.diag(np.array(field.GetDirection()).reshape(3, 3))
    affine = np.diag([*field.GetSpacing(), 1.0])
    affine[:3, 3] = signs * np.array(field.GetOrigin())
    vectors = sitk.GetArrayFromImage(field) * signs
    shifts = np.ascontiguousarray(np.moveaxis(vectors, -1, 0).astype(np.float32))
    return Deformation(shifts, affine)


def _read(path: str | os.PathLike[str]) -> Any:
    import SimpleITK as sitk

    try:
        return sitk.ReadTransform(os.fspath(path))
    except RuntimeError as error:
        name = Path(path).name
        raise ValueError(f"no affine transform: {name} cannot be read") from error


def read_transform(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """The inverse of ``write_transform``: 4x4, RAS mm of the scan to MNI RAS mm.

    Of a composite transform the affine part; ``read_deformation`` reads the other one.

    Raises ``ValueError`` for a file that holds no invertible affine transform.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import read_transform
    >>> read_transform("nowhere.h5")
    Traceback (most recent call last):
    ValueError: no affine transform: nowhere.h5 cannot be read
    """
    import SimpleITK as sitk

    try:
        known = _read(path)
        if known.GetName() == "CompositeTransform":
            known = sitk.CompositeTransform(known).GetNthTransform(0)
        transform = sitk.AffineTransform(known)
    except RuntimeError as error:
        name = Path(path).name
        raise ValueError(f"no affine transform: {name} cannot be read") from error
    points = np.eye(4)
    points[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    points[:3, 3] = np.array(transform.GetTranslation()) + centre - points[:3, :3] @ centre
    if not np.linalg.det(points):
        raise ValueError("the transform cannot be inverted")
    return np.asarray(np.linalg.inv(_TO_LPS @ points @ _TO_LPS))
