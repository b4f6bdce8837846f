"""Native grid and head box, against nibabel."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from correction_support import AS_IT_LIES, START, BallAnswers, head_map, rotation, session_on
from nibabel.processing import resample_from_to
from StrokeLesionSegLib.boxes import extents, intersect, whole_box, within
from StrokeLesionSegLib.correction.head_map import HeadMap
from StrokeLesionSegLib.images import Alignment, Grid, Volume, from_canonical, to_canonical
from StrokeLesionSegLib.inference.head_box import HEAD_ORIGIN_ZYX, HEAD_SHAPE

MIDDLE = np.array([5.13, -20.21, 10.17])
BOX_AFFINE = np.eye(4)
BOX_AFFINE[:3, 3] = HEAD_ORIGIN_ZYX[::-1]


def grid_of(shape_ijk, columns, middle=MIDDLE) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = middle - columns @ ((np.array(shape_ijk) - 1) / 2)
    return Grid(tuple(shape_ijk[::-1]), affine)


def orientations() -> list[np.ndarray]:
    """All 48 ways in which voxel axes can lie along the world's."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            columns = np.zeros((3, 3))
            for axis, (row, sign) in enumerate(zip(order, signs, strict=True)):
                columns[row, axis] = sign
            found.append(columns)
    return found


TILTED = Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0)
TILTED.matrix[:3, :3] = rotation((5, -8, 12)) @ np.diag([1.1, 1.05, 1.15])
TILTED.matrix[:3, 3] = [3, -2, 4]
CASES = {
    "1 mm": grid_of((60, 70, 50), np.eye(3)),
    "stored otherwise": grid_of((50, 60, 70), orientations()[29]),
    "thick slices": grid_of((70, 66, 16), np.diag([-0.9, 0.9, 5.0])),
    "oblique": grid_of((50, 44, 40), rotation((20, -13, 31)) @ np.diag([1.2, -1.0, 1.6])),
    "fine": grid_of((90, 80, 100), rotation((0, 0, 4)) @ np.diag([0.5, 0.6, 0.5])),
    "sheared": grid_of((50, 50, 40), np.array([[1, 0.1, 0], [0, 1, 0.2], [0, 0, 1.4]])),
}
each = pytest.mark.parametrize("name", CASES)
aligned = pytest.mark.parametrize("alignment", [AS_IT_LIES, TILTED], ids=["identity", "affine"])


@each
@aligned
def test_places_are_nibabels(name: str, alignment: Alignment) -> None:
    grid = CASES[name]
    voxels = np.random.default_rng(0).integers(0, grid.shape, (20, 3))
    world = nib.affines.apply_affine(alignment.matrix @ grid.affine, voxels[:, ::-1])
    wanted = nib.affines.apply_affine(np.linalg.inv(BOX_AFFINE), world)[:, ::-1]
    np.testing.assert_allclose(head_map(grid, alignment).place_of(voxels), wanted, atol=1e-6)


@each
@aligned
def test_masks_come_to_the_head_box_as_nibabel_brings_them(name, alignment) -> None:
    grid = CASES[name]
    mask = np.random.default_rng(1).random(grid.shape) < 0.5
    mask[0], mask[:, -1] = True, True  # also at the edges
    image = nib.Nifti1Image(mask.T.astype(np.uint8), alignment.matrix @ grid.affine)
    wanted = resample_from_to(image, (HEAD_SHAPE[::-1], BOX_AFFINE), order=0, cval=0)
    wanted = np.asarray(wanted.dataobj).T != 0
    box = (slice(20, 150), slice(10, 180), slice(30, 140))
    found = head_map(grid, alignment).mask_in(mask, box)
    # nibabel gives nothing beyond the centres of the outermost voxels.
    inner = np.ones(grid.shape, np.uint8)
    away = resample_from_to(
        nib.Nifti1Image(inner.T.astype(np.float32), image.affine),
        (HEAD_SHAPE[::-1], BOX_AFFINE),
        order=1,
        cval=-1,
    )
    certain = np.asarray(away.dataobj).T[box] > 0.999
    assert certain.sum() > 20_000
    differ = (found != wanted[box]) & certain
    assert differ.sum() < 0.002 * certain.sum()
    far = np.asarray(away.dataobj).T[box] == -1
    assert found[far].mean() < 0.2  # only the outer half of the outermost voxels


@each
@aligned
def test_answers_come_back_as_from_canonical_brings_them(name, alignment) -> None:
    grid = CASES[name]
    canonical = to_canonical(Volume(np.zeros(grid.shape, np.float32), grid.affine), alignment)
    head = HeadMap(canonical, START)
    values = np.random.default_rng(2).random(HEAD_SHAPE, dtype=np.float32)
    on_canonical = np.zeros(canonical.volume.array.shape, np.float32)
    on_canonical[tuple(slice(a, a + n) for a, n in zip(START, HEAD_SHAPE, strict=True))] = values
    wanted = from_canonical(on_canonical, canonical).array
    np.testing.assert_allclose(head.all_to_native(values), wanted, atol=2e-5)
    # In parts, from the values that the part says it needs.
    window = tuple(slice(n // 3, n // 3 + 9) for n in grid.shape)
    needs = head.native_needs(window)
    part = np.zeros(extents(needs), np.float32)
    shared = intersect(needs, whole_box(HEAD_SHAPE))
    part[within(shared, needs)] = values[shared]
    np.testing.assert_allclose(head.to_native(part, window), wanted[window], atol=2e-5)


@each
def test_native_box_holds_all_that_a_box_of_the_head_changes(name: str) -> None:
    head = head_map(CASES[name], TILTED)
    box = (slice(70, 90), slice(90, 104), slice(76, 96))
    values = np.zeros(HEAD_SHAPE, np.float32)
    values[box] = 1
    changed = head.all_to_native(values) > 0
    assert changed.any()
    changed[head.native_box(box)] = False
    assert not changed.any()


@each
@aligned
def test_probabilities_there_and_back(name: str, alignment: Alignment) -> None:
    grid = CASES[name]
    k, j, i = (np.arange(n, dtype=np.float32) / n for n in grid.shape)
    smooth = (k[:, None, None] + j[None, :, None] + i[None, None, :]) / 3
    head = head_map(grid, alignment)
    back = head.all_to_native(head.from_native(smooth))
    inner = tuple(slice(n // 4, -(n // 4)) for n in grid.shape)
    np.testing.assert_allclose(back[inner], smooth[inner], atol=0.02)


@pytest.mark.parametrize("columns", orientations()[::4])
def test_a_click_finds_its_lesion_however_the_scan_is_stored(columns: np.ndarray) -> None:
    grid = grid_of((40, 44, 48), columns @ np.diag([1.0, 1.3, 1.6]))
    centre = np.array([9.0, -14.0, 16.0])  # RAS mm
    answers = BallAnswers(centre[::-1] - HEAD_ORIGIN_ZYX, 8.0)
    session = session_on(grid, answers)
    change = session.click(session.voxel_at(centre + np.array([1, 2, -1])), True)
    k, j, i = np.nonzero(session.mask)
    found = nib.affines.apply_affine(grid.affine, np.stack([i, j, k], axis=1))
    np.testing.assert_allclose(found.mean(axis=0), centre, atol=0.2)
    assert np.linalg.norm(found - centre, axis=1).max() <= 8.6
    assert change.volume_ml == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.06)
    assert not change.painted_only
    assert not change.whole_head


def test_voxels_are_the_nearest_ones() -> None:
    grid = CASES["oblique"]
    session = session_on(grid, BallAnswers((80, 96, 80), 5.0))
    for voxel in [(0, 0, 0), (7, 30, 12), tuple(n - 1 for n in grid.shape)]:
        place = nib.affines.apply_affine(grid.affine, voxel[::-1])
        assert session.voxel_at(place + 0.2 * grid.affine[:3, 0]) == voxel
