"""Deformable alignment: its field, its file, what it brings back, and when it is not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from StrokeLesionSegLib.atlases import Atlas, region_table
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Deformation,
    Volume,
    deform_to_mni,
    mask_in_mni,
    probability_in_mni,
    read_deformation,
    read_transform,
    write_transform,
)
from StrokeLesionSegLib.images.space import registration_deform
from StrokeLesionSegLib.images.space.template import template_brain, template_head
from StrokeLesionSegLib.spaces import check_deformable

TO_MNI = np.array(
    [[0.98, 0.10, -0.05, 6.0], [-0.12, 1.05, 0.08, -9.0], [0.03, -0.06, 0.93, 14.0], [0, 0, 0, 1.0]]
)
# LPI axes, unequal spacing.
AFFINE = np.array([[-1.5, 0, 0, 90.0], [0, -1.2, 0, 100.0], [0, 0, 2.0, -70.0], [0, 0, 0, 1.0]])


def field(seed: int, longest_mm: float = 5.0, sigma: float = 8.0) -> Deformation:
    """A smooth field over the brain that fades out towards its edges, 2 mm."""
    random = np.random.default_rng(seed)
    brain = template_brain()
    fade = ndimage.gaussian_filter((brain.array > 127).astype(np.float32), 3)
    shifts = np.stack(
        [
            ndimage.gaussian_filter(random.normal(size=fade.shape).astype(np.float32), sigma)
            for _ in range(3)
        ]
    )
    shifts *= longest_mm / np.abs(shifts).max()
    return Deformation((shifts * fade).astype(np.float32), np.array(brain.affine))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps: enough for fields as smooth as these."""
    monkeypatch.setattr(registration_deform, "_LEVELS", ((2, 12), (1, 12), (0, 2)))


def test_a_field_and_its_inverse() -> None:
    known = field(1)
    points = np.random.default_rng(0).uniform(-60, 60, (3, 500))
    there = known.to_aligned(points)
    assert np.linalg.norm(there - points, axis=0).max() > 2
    assert np.abs(known.to_template(there) - points).max() < 0.02
    # A turn of the other kind: twice as large along x makes twice the volume.
    i = np.arange(20, dtype=np.float32)
    shifts = np.zeros((3, 20, 20, 20), np.float32)
    shifts[0] = i
    assert Deformation(shifts, np.eye(4)).growth == pytest.approx(2.0)


def test_the_file_is_read_by_itk_as_we_use_it(tmp_path: Path) -> None:
    known = field(2)
    file = tmp_path / "from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.h5"
    write_transform(file, TO_MNI, known)
    random = np.random.default_rng(3)
    array = ndimage.gaussian_filter(random.random((80, 170, 120)), 3).astype(np.float32)
    scan = Volume(array - array.min(), AFFINE)
    ours = probability_in_mni(scan, TO_MNI, known)

    image = sitk.GetImageFromArray(scan.array)
    flip = np.diag([-1.0, -1.0, 1.0])
    spacing = np.sqrt((AFFINE[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((flip @ (AFFINE[:3, :3] / spacing)).ravel().tolist())
    image.SetOrigin((flip @ AFFINE[:3, 3]).tolist())
    reference = sitk.Image(*MNI_GRID.shape[::-1], sitk.sitkUInt8)
    reference.SetOrigin((flip @ MNI_GRID.affine[:3, 3]).tolist())
    reference.SetDirection(flip.ravel().tolist())
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(image, reference, sitk.ReadTransform(str(file)), sitk.sitkLinear)
    )
    assert theirs.max() > 0.1
    np.testing.assert_allclose(ours.array, theirs, atol=1e-5)
    # A point of the template leads to where it is in the scan, as the field and the matrix say.
    lps = flip @ np.array([20.0, -30.0, 15.0])
    there = flip @ np.array(sitk.ReadTransform(str(file)).TransformPoint(lps.tolist()))
    moved = known.to_aligned(np.array([[20.0], [-30.0], [15.0]]))[:, 0]
    assert (TO_MNI @ [*there, 1.0])[:3] == pytest.approx(moved, abs=1e-3)

    again = read_deformation(file)
    assert again is not None
    assert np.array_equal(again.shifts, known.shifts)
    assert again.affine == pytest.approx(known.affine)
    assert read_transform(file) == pytest.approx(TO_MNI)
    write_transform(file, TO_MNI)
    assert read_deformation(file) is None


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "xfm.h5"
    sitk.WriteTransform(sitk.CompositeTransform([sitk.AffineTransform(3)]), str(file))
    with pytest.raises(ValueError, match="no deformation"):
        read_deformation(file)
    file.write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot be read"):
        read_deformation(file)


def test_thin_lesions_are_not_lost_on_the_way() -> None:
    labels = np.zeros((60, 60, 60), np.int32)
    labels[30, 20:40, 30] = 1
    labels[10:20, 10:20, 10:20] = 2
    scan = Volume(labels, np.diag([0.4, 0.4, 0.4, 1.0]))
    mask = mask_in_mni(scan, np.eye(4), field(4)).array
    _, count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert count == 2


def warped_head(known: Deformation, hole_mm: float = 0.0) -> tuple[Volume, Volume]:
    """The template's head from where the field leads, 2 mm, with a cavity; and the cavity's mask.

    What is to be found is the field's inverse, which so is needed at few points only."""
    head = template_head()
    k, j, i = np.nonzero(np.ones(head.array.shape, bool))
    points = head.affine[:3, :3] @ np.stack([i, j, k]) + head.affine[:3, 3:]
    ijk = (known.to_aligned(points.astype(np.float64)) - head.affine[:3, 3:]) / 2.0
    seen = ndimage.map_coordinates(head.array.astype(np.float32), ijk[::-1], order=1)
    array = seen.reshape(head.array.shape)
    away = np.linalg.norm(points - np.array([[-38.0], [-12.0], [18.0]]), axis=0)
    hole = (away < hole_mm).reshape(array.shape)
    array[hole] = 25.0
    scan = Volume(ndimage.gaussian_filter(array, 0.4), head.affine)
    return scan, scan.with_array(hole.astype(np.uint8))


def error_mm(found: Deformation | None, known: Deformation, where: Volume) -> float:
    """Mean distance of template points within ``where`` from where they are in the warped head."""
    k, j, i = (x[::5] for x in np.nonzero(where.array))
    points = where.affine[:3, :3] @ np.stack([i, j, k]) + where.affine[:3, 3:]
    there = points if found is None else found.to_aligned(points)
    return float(np.linalg.norm(there - known.to_template(points), axis=0).mean())


@pytest.mark.usefixtures("quick")
def test_it_brings_a_head_back_and_a_lesion_left_out_does_not_mislead_it() -> None:
    known = field(5, longest_mm=8.0)
    scan, hole = warped_head(known, hole_mm=24.0)
    masked, plain = deform_to_mni(scan, np.eye(4), hole), deform_to_mni(scan, np.eye(4))
    assert masked.reason == ""
    assert masked.after > masked.before
    assert masked.growth[0] > 0
    brain = template_brain()
    far = (brain.array > 127) & (ndimage.distance_transform_edt(hole.array == 0) > 10)
    whole, near = brain.with_array(far), hole
    before = error_mm(None, known, whole)
    assert before > 1.5
    assert error_mm(masked.deformation, known, whole) < 0.6 * before
    # In and around the lesion: what all of the brain is used for is misled.
    with_mask, without = (error_mm(d.deformation, known, near) for d in (masked, plain))
    assert with_mask < without
    assert with_mask < error_mm(None, known, near)
    # The same again, bit for bit.
    again = deform_to_mni(scan, np.eye(4), hole).deformation
    assert again is not None
    assert masked.deformation is not None
    assert np.array_equal(again.shifts, masked.deformation.shifts)


@pytest.mark.usefixtures("quick")
def test_what_makes_it_no_better_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    head = template_head()
    same = deform_to_mni(head, np.eye(4))
    assert same.deformation is None
    assert "gains nothing" in same.reason
    scan, _ = warped_head(field(6))
    monkeypatch.setattr(registration_deform, "LEAST_GROWTH", 0.999)
    folded = deform_to_mni(scan, np.eye(4))
    assert folded.deformation is None
    assert "folds or tears" in folded.reason
    flat = deform_to_mni(head.with_array(np.zeros_like(head.array)), np.eye(4))
    assert flat.deformation is None
    assert "nothing to deform" in flat.reason


def test_it_can_be_stopped() -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    with pytest.raises(Stop):
        deform_to_mni(template_head(), np.eye(4), check=check)


def test_regions_lie_where_the_deformation_puts_them() -> None:
    values = np.zeros((40, 40, 40), np.int32)
    values[:, :, 20:] = 1
    atlas = Atlas("halves", values, np.eye(4), {1: "far"})
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[18:22, 18:22, 14:18] = 1
    lesion = Volume(mask, np.eye(4))
    assert region_table(lesion, np.eye(4), atlas).outside_ml == pytest.approx(0.064)
    # What lies at x in the template was 6 mm further left.
    shifts = np.zeros((3, 40, 40, 40), np.float32)
    shifts[0] = -6.0
    moved = region_table(lesion, np.eye(4), atlas, Deformation(shifts, np.eye(4)))
    assert moved.deformable
    assert [(row.region, round(row.volume_ml, 3)) for row in moved.rows] == [("far", 0.064)]
    # The template is half as large along x as the scan: half of the volume counts there.
    shifts[0] = np.arange(40, dtype=np.float32) - 20
    mask[:] = 0
    mask[18:22, 18:22, 24:28] = 1
    grown = region_table(lesion, np.eye(4), atlas, Deformation(shifts, np.eye(4))).rows[0]
    size = float(np.count_nonzero(values)) / 1000
    assert grown.volume_ml == pytest.approx(0.064)
    assert grown.share_of_region == pytest.approx(0.032 / size, rel=1e-3)


def test_a_deformation_needs_results_in_mni_space() -> None:
    with pytest.raises(InputError, match="needs results in MNI space"):
        check_deformable(True, ("native",))
