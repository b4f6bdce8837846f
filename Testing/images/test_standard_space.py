"""Masks, probabilities and the transform's file in MNI space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import (
    MNI_GRID,
    NiftiFields,
    Volume,
    mask_in_mni,
    probability_in_mni,
    read_transform,
    write_transform,
    write_volume,
)
from StrokeLesionSegLib.spaces import check_spaces, read_spaces

# A turn, a shear, another size and a shift: no two conventions give the same by chance.
TO_MNI = np.array(
    [[0.98, 0.10, -0.05, 6.0], [-0.12, 1.05, 0.08, -9.0], [0.03, -0.06, 0.93, 14.0], [0, 0, 0, 1.0]]
)
# LPI axes, unequal spacing.
AFFINE = np.array([[-1.5, 0, 0, 90.0], [0, -1.2, 0, 100.0], [0, 0, 2.0, -70.0], [0, 0, 0, 1.0]])
SHAPE = (80, 170, 120)


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> Volume:
    """A ball around a point of the scan's RAS mm."""
    k, j, i = np.indices(SHAPE).reshape(3, -1)
    points = AFFINE[:3, :3] @ np.stack([i, j, k]) + AFFINE[:3, 3:]
    near = ((points - np.array(centre_mm)[:, None]) ** 2).sum(axis=0) < radius_mm**2
    return Volume(near.reshape(SHAPE).astype(np.float32), AFFINE)


def image(volume: Volume) -> sitk.Image:
    """As ITK sees it: LPS."""
    made = sitk.GetImageFromArray(volume.array)
    flip = np.diag([-1.0, -1.0, 1.0])
    axes = volume.affine[:3, :3]
    spacing = np.sqrt((axes**2).sum(axis=0))
    made.SetSpacing(spacing.tolist())
    made.SetDirection((flip @ (axes / spacing)).ravel().tolist())
    made.SetOrigin((flip @ volume.affine[:3, 3]).tolist())
    return made


def test_the_file_resamples_as_we_do(tmp_path: Path) -> None:
    """SimpleITK, with the file and the template's grid, puts the scan where our map lies."""
    probability = ball((30.0, -20.0, 10.0), 15.0)
    file = tmp_path / "from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.h5"
    write_transform(file, TO_MNI)
    template = image(Volume(np.zeros(MNI_GRID.shape, np.float32), MNI_GRID.affine))
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(image(probability), template, sitk.ReadTransform(str(file)), sitk.sitkLinear)
    )
    ours = probability_in_mni(probability, TO_MNI)
    assert ours.grid.same_as(MNI_GRID)
    centre = np.array(ndimage.center_of_mass(ours.array))[::-1] + MNI_GRID.affine[:3, 3]
    assert centre == pytest.approx((TO_MNI @ [30.0, -20.0, 10.0, 1.0])[:3], abs=0.3)
    assert np.corrcoef(ours.array.ravel(), theirs.ravel())[0, 1] > 0.999
    mask = mask_in_mni(probability, TO_MNI).array
    expected = theirs >= 0.5
    assert 2 * (mask[expected]).sum() / (mask.sum() + expected.sum()) > 0.98
    assert read_transform(file) == pytest.approx(TO_MNI)


def test_volumes_follow_the_transform() -> None:
    lesion = ball((-25.0, 10.0, 30.0), 12.0)
    moved = mask_in_mni(lesion, TO_MNI)
    growth = np.linalg.det(TO_MNI[:3, :3])
    native_ml = lesion.array.sum() * lesion.grid.voxel_volume_ml
    assert moved.array.sum() / 1000 == pytest.approx(native_ml * growth, rel=0.02)


def test_a_thin_lesion_is_not_lost() -> None:
    """One voxel wide: nowhere half of a template voxel after a shift by half a voxel."""
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    labels = np.zeros((40, 40, 40), np.int32)
    labels[5:35, 20, 20] = 1
    labels[10:20, 5:15, 5:15] = 2
    moved = mask_in_mni(Volume(labels, affine), np.eye(4)).array
    where = np.argwhere(moved)[:, ::-1] + MNI_GRID.affine[:3, 3]
    assert (np.abs(where[:, :2] - 10.0).max(axis=1) <= 0.5).sum() >= 10
    assert 100 <= moved.sum() < 200


def test_what_lies_there_already_is_copied() -> None:
    array = np.zeros(MNI_GRID.shape, np.float32)
    array[90, 100, 60:63] = 0.7
    volume = Volume(array, MNI_GRID.affine)
    assert np.array_equal(probability_in_mni(volume, np.eye(4)).array, array)
    assert np.array_equal(mask_in_mni(volume, np.eye(4)).array, array > 0)


def test_a_file_in_mni_space_says_so(tmp_path: Path) -> None:
    import nibabel

    volume = Volume(np.zeros(MNI_GRID.shape, np.uint8), MNI_GRID.affine)
    write_volume(tmp_path / "a.nii.gz", volume, nifti=NiftiFields(code=4))
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 4)


def test_names_of_spaces() -> None:
    both = ("native", "MNI152NLin2009aSym")
    assert read_spaces("MNI152NLin2009aSym") == both
    assert read_spaces("native, MNI152NLin2009aSym") == both
    assert read_spaces("") == ("native",)
    with pytest.raises(InputError, match=r"MNI152NLin2009cAsym.*there is no such space"):
        read_spaces("native,MNI152NLin2009cAsym")
    check_spaces(("native",), "none")
    with pytest.raises(InputError, match="Leave out --align none"):
        check_spaces(both, "none")


@pytest.mark.parametrize("content", [b"", b"no transform"])
def test_a_file_that_is_no_transform(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.h5"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="no affine transform"):
        read_transform(file)
