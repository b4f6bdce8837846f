"""What one touch of a brush covers, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
from odd_grids import GRIDS, places
from StrokeLesionSegLib.correction import footprint, taken
from StrokeLesionSegLib.correction.brush import FLOOR_SHARE, LOWEST_FLOOR


@pytest.mark.parametrize("name", GRIDS)
def test_a_sphere_holds_the_voxels_within_its_radius(name: str) -> None:
    grid = GRIDS[name]
    ras = places(grid)
    for centre in ((1.3, -2.2, 0.6), (18.0, 20.0, 14.0)):
        box, inside = footprint(grid, np.array(centre), 6.3, None)
        whole = np.zeros(grid.shape, bool)
        whole[box] = inside
        np.testing.assert_array_equal(whole, np.linalg.norm(ras - centre, axis=-1) <= 6.3)


@pytest.mark.parametrize("name", GRIDS)
def test_a_disk_in_a_native_slice_is_one_voxel_thick(name: str) -> None:
    grid = GRIDS[name]
    ras = places(grid)
    for axis in range(3):
        others = [2 - a for a in range(3) if a != axis]
        normal = np.cross(grid.affine[:3, others[0]], grid.affine[:3, others[1]])
        index = [n // 2 for n in grid.shape]
        centre = ras[tuple(index)] + 0.2 * grid.affine[:3, others[0]]
        box, inside = footprint(grid, centre, 7.7, normal)
        whole = np.zeros(grid.shape, bool)
        whole[box] = inside
        only = np.zeros(grid.shape, bool)
        np.moveaxis(only, axis, 0)[index[axis]] = True
        wanted = only & (np.linalg.norm(ras - centre, axis=-1) <= 7.7)
        assert wanted.any()
        np.testing.assert_array_equal(whole, wanted)


def test_a_disk_between_two_slices_takes_one_of_them() -> None:
    centre = np.array([0.0, 0.0, 1.0])  # middle between k = 22 and 23
    _, inside = footprint(GRIDS["ras"], centre, 5, np.array([0, 0, 1.0]))
    assert inside.any(axis=(1, 2)).sum() == 1


@pytest.mark.parametrize("name", ["ras", "thick", "oblique, thick"])
def test_an_oblique_disk_has_one_voxel_in_every_row_that_it_crosses(name: str) -> None:
    grid = GRIDS[name]
    normal = np.array([0.2, 0.45, 0.9])
    box, inside = footprint(grid, np.array([0.4, 0.3, 0.2]), 9.0, normal)
    assert box[0].stop > box[0].start
    rows = inside.sum(axis=2 - int(np.argmax(np.abs(normal @ grid.affine[:3, :3]))))
    assert rows.max() == 1
    inner = tuple(slice(n // 2 - 2, n // 2 + 2) for n in rows.shape)
    assert (rows[inner] == 1).all()


def test_impossible_brushes_and_places_beside_the_scan() -> None:
    grid, here = GRIDS["ras"], np.zeros(3)
    for radius in (0, -2, np.nan, np.inf):
        with pytest.raises(ValueError, match="radius"):
            footprint(grid, here, radius, None)
    with pytest.raises(ValueError, match="normal"):
        footprint(grid, here, 3, np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        footprint(grid, np.array([0, 0, np.inf]), 3, None)
    box, inside = footprint(grid, np.array([400.0, 0, 0]), 3, None)
    assert inside.size == 0
    assert all(part.stop == part.start for part in box)


PROBABILITIES = np.linspace(0, 1, 101)


@pytest.mark.parametrize(
    ("threshold", "began", "from_"),
    [
        (0.5, None, 0.5),
        (0.9, 0.7, 0.7 * FLOOR_SHARE),
        (0.3, 1.0, 0.3),  # never above the threshold
        (0.5, 0.001, LOWEST_FLOOR),
    ],
)
def test_a_stroke_that_paints_follows_the_place_where_it_began(
    threshold: float, began: float | None, from_: float
) -> None:
    np.testing.assert_array_equal(taken(PROBABILITIES, threshold, began), from_ <= PROBABILITIES)


@pytest.mark.parametrize(
    ("threshold", "began", "up_to"),
    [
        (0.25, 0.5, 1 - FLOOR_SHARE * 0.5),
        (0.25, 0.3, 1 - FLOOR_SHARE * 0.7),
        (0.25, 1.0, 1.0),  # what is surely lesion to the model can be erased
        (0.9, 0.95, 1 - FLOOR_SHARE * 0.05),
    ],
)
def test_a_stroke_that_erases_follows_the_place_where_it_began(
    threshold: float, began: float, up_to: float
) -> None:
    np.testing.assert_array_equal(
        taken(PROBABILITIES, threshold, began, erase=True), up_to >= PROBABILITIES
    )


@pytest.mark.parametrize("began", [None, 0.0, 0.2])
def test_without_a_lesion_where_it_began_the_threshold_says_what_is_erased(
    began: float | None,
) -> None:
    np.testing.assert_array_equal(
        taken(PROBABILITIES, 0.25, began, erase=True), PROBABILITIES < 0.25
    )
