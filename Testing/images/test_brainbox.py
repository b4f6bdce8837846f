"""The box and the mask of the brain in canonical space."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Alignment,
    Canonical,
    Volume,
    brain_box,
    brain_mask_for,
    mni_brain_mask,
    read_scan,
    to_canonical,
)


def canonical(array, affine=None, alignment=None) -> Canonical:
    volume = Volume(np.asarray(array, np.float32), np.eye(4) if affine is None else affine)
    return Canonical(volume, volume.grid, alignment, True)


def ellipsoid(shape, centre, radii):
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1


def test_box_in_mni_space_is_the_template_brain_with_a_margin():
    box = brain_box(canonical(np.zeros(MNI_GRID.shape), MNI_GRID.affine))
    brain = mni_brain_mask().array != 0
    outside = brain.copy()
    outside[box] = False
    assert not outside.any()
    there = np.nonzero(brain)
    for part, indices, size in zip(box, there, brain.shape, strict=True):
        assert part.start == max(0, indices.min() - 5)
        assert part.stop == min(size, indices.max() + 6)


def test_box_of_an_aligned_volume_is_the_same():
    aligned = Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0)
    array = np.zeros(MNI_GRID.shape)
    assert brain_box(canonical(array, MNI_GRID.affine, aligned)) == brain_box(
        canonical(array, MNI_GRID.affine)
    )


def test_box_elsewhere_leaves_out_neck_and_air():
    shape = (300, 260, 220)
    head = ellipsoid(shape, (195, 130, 105), (95, 100, 80))
    neck = ellipsoid(shape, (60, 120, 105), (110, 60, 60))
    rng = np.random.default_rng(0)
    array = np.abs(rng.normal(0, 8, shape)) + 500 * (head | neck)
    array[296, :20, :20] = 600  # a bright corner in the air above: a marker, not a head
    k, j, i = brain_box(canonical(array))
    assert 285 <= k.stop <= 296
    assert 100 <= k.start <= 115  # 185 mm down from the top, and the margin
    assert j.start <= 32 < 228 <= j.stop
    assert j.stop - j.start < 215
    assert i.start <= 27 < 183 <= i.stop
    assert i.stop - i.start < 175


@pytest.mark.parametrize("array", [np.zeros((9, 8, 7)), np.full((9, 8, 7), 3.0)])
def test_box_without_foreground_is_everything(array):
    assert brain_box(canonical(array)) == (slice(0, 9), slice(0, 8), slice(0, 7))


def test_mask_is_the_brain_grown_by_the_margin():
    volume = canonical(np.zeros(MNI_GRID.shape), MNI_GRID.affine)
    brain = mni_brain_mask().array != 0
    np.testing.assert_array_equal(brain_mask_for(volume), brain)
    # A quarter of the head is enough, and four times as fast.
    part = (slice(0, 95), slice(100, 233), slice(0, 100))
    distance = distance_transform_edt(~brain[part])
    grown = brain_mask_for(volume, 6)[part]
    inner = (slice(0, 85), slice(15, 133), slice(0, 85))  # away from where the part was cut
    assert grown[inner][distance[inner] <= 5].all()
    assert not grown[inner][distance[inner] > 7].any()
    with pytest.raises(ValueError, match="read-only"):
        grown[0, 0, 0] = True


def test_mask_needs_mni_space():
    with pytest.raises(ValueError, match="not aligned"):
        brain_mask_for(canonical(np.zeros((9, 8, 7))), 5)
    with pytest.raises(ValueError, match="negative"):
        brain_mask_for(canonical(np.zeros(MNI_GRID.shape), MNI_GRID.affine), -1)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["heads/uih1_T1w", "brains/ds002748_sub-02_T1w_brain"])
def test_box_of_real_scans_holds_the_brain(shared_data, aligned, name):
    """The witness: the template's brain, brought to the scan by the affine alignment."""
    file = shared_data / "t1" / f"{name}.nii.gz"
    volume, alignment = read_scan(file).volume, aligned(file)
    assert alignment.ok
    where = to_canonical(volume)
    brain = mni_brain_mask()
    k, j, i = (3 * n for n in np.nonzero(brain.array[::3, ::3, ::3]))
    points = brain.affine @ np.stack([i, j, k, np.ones_like(i)])
    i, j, k, _ = np.linalg.inv(alignment.matrix @ where.volume.affine) @ points
    box = brain_box(where)
    inside = np.ones(len(k), bool)
    for index, part in zip((k, j, i), box, strict=True):
        inside &= (index >= part.start - 0.5) & (index < part.stop + 0.5)
    assert inside.mean() > 0.999
    assert np.prod([part.stop - part.start for part in box]) < 0.7 * where.volume.array.size
