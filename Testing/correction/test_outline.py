"""What an outline in one slice makes of a mask, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_grids import GRIDS, places
from StrokeLesionSegLib.boxes import is_empty
from StrokeLesionSegLib.correction import Outline, outlined
from StrokeLesionSegLib.correction.outline import REACH_MM, within_polygon
from StrokeLesionSegLib.images import Grid

Vector = NDArray[np.float64]


def native_normal(grid: Grid) -> Vector:
    """Across the slices k."""
    normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def middle(grid: Grid) -> Vector:
    """The place of the voxel in the middle, RAS mm."""
    return places(grid)[tuple(n // 2 for n in grid.shape)]


def circle(centre: Vector, normal: Vector, radius: float) -> Vector:
    u = np.cross(normal, (1.0, 0.3, 0.2))
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)[:, None]
    return np.asarray(centre + radius * (np.cos(angles) * u + np.sin(angles) * v))


def after(mask: NDArray[np.bool_], grid: Grid, *what: Vector, **more: object) -> NDArray[np.bool_]:
    """The whole mask after an outline."""
    box, found = outlined(mask, grid, *what, **more)  # type: ignore[arg-type]
    new = mask.copy()
    new[box] = found
    return new


def apart(grid: Grid, centre: Vector, normal: Vector) -> tuple[Vector, Vector]:
    """Of each voxel how far it lies from a plane, and from the axis across it, in mm."""
    off = places(grid) - centre
    along = off @ normal
    return along, np.linalg.norm(off - along[..., None] * normal, axis=-1)


PLANES = {"native": native_normal, "axial": lambda grid: np.array([0.0, 0.0, 1.0])}


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", GRIDS)
def test_its_own_slice_is_what_was_drawn(name: str, plane: str) -> None:
    grid = GRIDS[name]
    normal, centre = PLANES[plane](grid), middle(grid)
    along, beside = apart(grid, centre, normal)
    # In each row across the plane the voxel that is nearest to it, and no other one.
    half = np.abs(normal @ grid.affine[:3, :3]).max() / 2
    mine = np.abs(along) < half - 1e-6
    mask = np.zeros(grid.shape, bool)
    mask[mine & (np.abs(beside - 9) < 3)] = True  # a ring that the outline meets
    new = after(mask, grid, circle(centre, normal, 9.0), normal, reach_mm=0.0)
    assert not new[np.abs(along) > half + 1e-6].any()
    # A voxel's middle may lie half a row before or behind the plane, and there beside it.
    slack = 0.3 if plane == "native" and name != "sheared" else 1.6
    assert new[mine & (beside < 9 - slack)].all()
    assert not new[mine & (beside > 9 + slack)].any()


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", GRIDS)
def test_slices_around_follow_less_and_less(name: str, plane: str) -> None:
    """A mask that is too small all along its axis by 3 mm."""
    grid = GRIDS[name]
    normal, centre = PLANES[plane](grid), middle(grid)
    along, beside = apart(grid, centre, normal)
    mask = beside <= 6
    new = after(mask, grid, circle(centre, normal, 9.0), normal)
    share = np.clip(1 - np.abs(along) / REACH_MM, 0, 1)
    half = np.abs(normal @ grid.affine[:3, :3]).max() / 2
    slack = 0.9 + half * 3 / REACH_MM + (1.2 if plane == "axial" or name == "sheared" else 0)
    assert new[beside < 6 + 3 * share - slack].all()
    assert not new[beside > 6 + 3 * share + slack].any()
    far = np.abs(along) >= REACH_MM + half
    assert far.any() or name == "thick"
    np.testing.assert_array_equal(new[far], mask[far])


@pytest.mark.parametrize("lesion", [True, False])
@pytest.mark.parametrize("name", ["ras", "sagittal, pir", "oblique, thick", "sheared"])
def test_an_earlier_outline_stops_it(name: str, lesion: bool) -> None:
    grid = GRIDS[name]
    normal, centre = native_normal(grid), middle(grid)
    along, beside = apart(grid, centre, normal)
    step = abs(float(normal @ grid.affine[:3, 2]))
    slices = 2 if step > 2 else 5
    earlier = Outline.along(circle(centre + slices * step * normal, normal, 7.0), normal)
    mask, drawn = beside <= 6, circle(centre, normal, 9.0)
    free = after(mask, grid, drawn, normal, lesion=lesion)
    new = after(mask, grid, drawn, normal, lesion=lesion, earlier=[earlier])
    held = along > (slices - 0.5) * step
    assert (free != mask)[held].any(), "it would have reached there"
    np.testing.assert_array_equal(new[held], mask[held])
    between = (along > 0.5 * step) & ~held
    assert (new != mask)[between].any()
    np.testing.assert_array_equal(new[along < 0.5 * step], free[along < 0.5 * step])
    # One that lies elsewhere, is turned, or is in the same slice, holds nothing.
    beside_it = np.cross(normal, (1.0, 0.3, 0.2)) * 60
    others = [
        Outline.along(circle(centre + 3 * normal + beside_it, normal, 7.0), normal),
        Outline.along(
            circle(centre + 3 * normal, np.array([1.0, 0, 0]), 7.0), np.array([1.0, 0, 0])
        ),
        Outline.along(circle(centre, normal, 7.0), normal),
    ]
    others = others if abs(normal[0]) < 0.9 else others[::2]
    same = after(mask, grid, drawn, normal, lesion=lesion, earlier=others)
    np.testing.assert_array_equal(same, free)


def test_around_what_is_no_lesion_the_inside_goes() -> None:
    grid = GRIDS["ras"]
    normal, centre = native_normal(grid), middle(grid)
    along, beside = apart(grid, centre, normal)
    mask = beside <= 9
    new = after(mask, grid, circle(centre, normal, 5.2), normal, lesion=False)
    own = np.abs(along) < 0.5
    np.testing.assert_array_equal(new[own], (mask & (beside > 5.2))[own])
    assert not (new & ~mask).any()
    assert (mask & ~new)[np.abs(along) > 2].any()


def test_other_pieces_of_the_slice_stay_and_those_that_it_meets_end_at_it() -> None:
    grid = Grid((9, 60, 60), np.eye(4))
    up = np.array([0.0, 0, 1])
    mask = np.zeros(grid.shape, bool)
    mask[:, 20:30, 5:30] = True  # it reaches beyond the outline
    mask[:, 50:55, 50:55] = True
    square = np.array([(19.6, 19.6, 4), (30.4, 19.6, 4), (30.4, 30.4, 4), (19.6, 30.4, 4)])
    new = after(mask, grid, square, up)
    np.testing.assert_array_equal(np.argwhere(new[4, :40, :40]).min(axis=0), (20, 20))
    assert new[4, 20:31, 20:31].all()
    np.testing.assert_array_equal(new[:, 45:, 45:], mask[:, 45:, 45:])
    assert not new[3, 20:30, 5:8].any(), "the slice beside it follows"


def test_what_is_drawn_along_the_edge_changes_nothing() -> None:
    grid = GRIDS["thick"]
    normal = native_normal(grid)
    mask = np.zeros(grid.shape, bool)
    mask[3:8, 10:31, 12:30] = True
    corners = np.array([(11.5, 9.5, 5), (29.5, 9.5, 5), (29.5, 30.5, 5), (11.5, 30.5, 5)])
    ras = corners @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    box, found = outlined(mask, grid, ras, normal)
    assert is_empty(box)
    assert found.size == 0
    far = ras + np.array([900.0, 0, 0])
    assert is_empty(outlined(mask, grid, far, normal)[0])


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_drawn_stays_within_its_reach(seed: int) -> None:
    """Ragged masks, outlines that cross themselves, planes turned anyhow."""
    rng = np.random.default_rng(seed)
    grid = list(GRIDS.values())[seed % len(GRIDS)]
    normal = native_normal(grid) if seed % 2 else rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    centre = middle(grid) + rng.normal(size=3) * 8
    u = np.linalg.svd(normal[None])[2][1:]
    points = centre + rng.normal(size=(int(rng.integers(1, 12)), 2)) * 7 @ u
    mask = rng.random(grid.shape) < rng.choice([0.02, 0.5])
    lesion, reach = bool(rng.integers(2)), float(rng.choice([0, 5, 12]))
    before = mask.copy()
    box, found = outlined(mask, grid, points, normal, lesion=lesion, reach_mm=reach)
    np.testing.assert_array_equal(mask, before)
    if is_empty(box):
        return
    changed = mask[box] != found
    for axis in range(3):
        ends = np.flatnonzero(changed.any(axis=tuple(n for n in range(3) if n != axis)))
        assert ends[0] == 0
        assert ends[-1] == found.shape[axis] - 1
    new = mask.copy()
    new[box] = found
    along = (places(grid) - points.mean(axis=0)) @ normal
    half = np.abs(normal @ grid.affine[:3, :3]).max() / 2
    assert np.abs(along[new != mask]).max() <= max(reach, 0) + half + 1e-6
    own = np.abs(along) < half - 1e-6
    wrong = (mask & ~new if lesion else new & ~mask) & own
    # What an outline of lesion takes away in its slice are pieces that it met; one around what is
    # none adds nothing there.
    assert lesion or not wrong.any()


@pytest.mark.parametrize("seed", range(8))
def test_a_polygon_holds_what_a_ray_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-4, 24, (int(rng.integers(3, 15)), 2))
    wanted = np.zeros((20, 22), bool)
    for row, column in np.ndindex(wanted.shape):
        for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if (r0 < row) != (r1 < row):
                wanted[row, column] ^= c0 + (row - r0) * (c1 - c0) / (r1 - r0) < column
    np.testing.assert_array_equal(within_polygon(corners, wanted.shape), wanted)


def test_impossible_outlines() -> None:
    grid = GRIDS["ras"]
    mask = np.zeros(grid.shape, bool)
    square = circle(np.zeros(3), np.array([0, 0, 1.0]), 4.0)
    for points, normal in (
        (np.zeros((0, 3)), np.array([0, 0, 1.0])),
        (square, np.zeros(3)),
        (square * np.nan, np.array([0, 0, 1.0])),
    ):
        with pytest.raises(ValueError, match="outline"):
            outlined(mask, grid, points, normal)


@pytest.mark.parametrize(("radius", "stays"), [(3.2, False), (6.5, True)])
def test_what_is_cut_off_in_a_slice_around_goes_if_it_is_a_crumb(
    radius: float, stays: bool
) -> None:
    """A disk with a knob in one slice, in one piece until the outline makes the disk smaller."""
    grid = Grid((9, 48, 48), np.eye(4))
    k, j, i = np.ogrid[0:9, 0:48, 0:48]
    mask = (np.abs(k - 4) <= 1) & (np.hypot(j - 20, i - 20) <= 8)
    knob = (k == 5) & (np.hypot(j - 20, i - 20 - 8 - radius) <= radius)
    up = np.array([0.0, 0, 1])
    new = after(mask | knob, grid, circle(np.array([20.0, 20, 4]), up, 6.5), up)
    assert (new & knob).any() == stays
    assert new[5, 20, 20]
    # Drawn itself, it is the last word.
    dot = circle(np.array([40.0, 40, 4]), up, 1.5)
    assert after(mask, grid, dot, up)[4, 40, 40]
