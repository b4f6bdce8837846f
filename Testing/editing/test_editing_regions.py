"""Thresholds within regions, and the brush: counted against plain loops over all voxels."""

from __future__ import annotations

import numpy as np
import pytest
from editing_support import (
    DARK,
    FAINT,
    GRIDS,
    PLAIN,
    ball,
    finish,
    head,
    listening_model,
    places,
    random_model,
    turned,
)
from numpy.typing import NDArray
from scipy import ndimage
from StrokeLesionSegLib.editing import WHOLE, EditingSession, Region
from StrokeLesionSegLib.editing.brush import FLOOR_SHARE, footprint


def with_map(name: str, seed: int = 0) -> tuple[EditingSession, NDArray[np.float32]]:
    """A session with a finished, smooth random map."""
    volume = head(name)
    values = np.random.default_rng(seed).normal(size=volume.array.shape)
    values = ndimage.gaussian_filter(values, 1.5)
    values = ((values - values.min()) / np.ptp(values)).astype(np.float32)
    session = EditingSession.open(volume, random_model(), options=PLAIN, probability=values)
    return session, values


def spread(session: EditingSession, piece) -> NDArray[np.bool_]:
    box, mask = piece
    assert mask.dtype == np.uint8
    whole = np.zeros(session.grid.shape, bool)
    whole[box] = mask
    assert whole.sum() == mask.sum()
    return whole


def test_the_threshold_itself_is_in() -> None:
    session, values = with_map("ras")
    threshold = float(values[20, 20, 20])
    mask = spread(session, session.mask(threshold))
    np.testing.assert_array_equal(mask, values >= np.float32(threshold))
    for bad in (0, -1, 1.01):
        with pytest.raises(ValueError, match="threshold"):
            session.mask(bad)


def test_nothing_is_marked_where_nothing_is_known() -> None:
    session = EditingSession.open(head("ras"), listening_model(), options=PLAIN)
    assert not spread(session, session.mask(0.5)).any()
    box = session.predict_visible(0, 24)
    shown = spread(session, session.mask(0.5))
    assert shown[box].any()
    assert shown.sum() == shown[box].sum()
    finish(session)
    assert spread(session, session.mask(0.5)).sum() > 3 * shown.sum()


@pytest.mark.parametrize("name", ["ras", "sagittal, pir", "oblique, thick", "sheared"])
def test_regions_hold_the_voxels_that_they_say(name: str) -> None:
    session, values = with_map(name)
    grid = session.grid
    ras = places(grid.affine, grid.shape)
    high = values >= 0.5
    middle = [n // 2 for n in grid.shape]

    for axis in range(3):
        only = np.zeros(grid.shape, bool)
        np.moveaxis(only, axis, 0)[middle[axis]] = True
        found = spread(session, session.mask(0.5, region=Region.slice(axis, middle[axis])))
        np.testing.assert_array_equal(found, high & only)

        others = [2 - a for a in range(3) if a != axis]
        normal = np.cross(grid.affine[:3, others[0]], grid.affine[:3, others[1]])
        normal /= np.linalg.norm(normal)
        centre = ras[tuple(middle)]
        near = np.abs((ras - centre) @ normal) <= 4.5 + 1e-9
        region = Region.slab(axis, middle[axis], 9.0)
        np.testing.assert_array_equal(
            spread(session, session.mask(0.5, region=region)), high & near
        )

    turn = turned(0, 25) @ turned(2, 40)
    to_ras = np.eye(4)
    to_ras[:3, :3], to_ras[:3, 3] = turn, (3, -2, 1)
    size = np.array([17.0, 9.0, 21.0])
    own = (ras - to_ras[:3, 3]) @ turn
    inside = (np.abs(own) <= size / 2).all(axis=-1)
    assert inside.sum() > 100
    found = spread(session, session.mask(0.5, region=Region.roi(to_ras, size)))
    np.testing.assert_array_equal(found, high & inside)

    mask = np.random.default_rng(1).random(grid.shape) > 0.8
    mask[:3] = mask[:, -4:] = False
    found = spread(session, session.mask(0.5, region=Region.inside(mask.astype(np.uint8))))
    np.testing.assert_array_equal(found, high & mask)

    normal = np.array([0.3, -0.5, 1.0])
    origin = np.array([1.0, 2.0, -1.5])
    distance = np.abs((ras - origin) @ (normal / np.linalg.norm(normal)))
    found = spread(session, session.mask(1e-9, region=Region.plane(origin, normal, 7)))
    assert found[distance <= 3.5].all()
    half = np.abs(normal / np.linalg.norm(normal) @ grid.affine[:3, :3]).max() / 2
    assert not found[distance > max(3.5, half) + 1e-6].any()


@pytest.mark.parametrize("name", ["ras", "thick", "coronal, oblique"])
def test_a_plane_without_thickness_has_one_voxel_in_every_row(name: str) -> None:
    session, _ = with_map(name)
    normal = np.array([0.2, 0.45, 0.9])
    found = spread(session, session.mask(1e-9, region=Region.plane((0.4, 0.3, 0.2), normal)))
    axis = 2 - int(np.argmax(np.abs(normal @ session.grid.affine[:3, :3])))
    rows = found.sum(axis=axis)
    assert rows.max() == 1
    # In the middle of the scan the plane cuts every row.
    inner = tuple(slice(n // 2 - 3, n // 2 + 3) for n in rows.shape)
    assert (rows[inner] == 1).all()


def test_regions_outside_the_scan_are_empty() -> None:
    session, _ = with_map("oblique")
    beside = np.eye(4)
    beside[:3, 3] = 500
    for region in (
        Region.roi(beside, (10, 10, 10)),
        Region.plane((0, 0, 500), (0, 0, 1)),
        Region.inside(np.zeros(session.grid.shape)),
    ):
        box, mask = session.mask(0.1, region=region)
        assert mask.size == 0
        assert all(part.stop == part.start for part in box)
    with pytest.raises(ValueError, match="no slice"):
        session.mask(0.5, region=Region.slice(0, 4000))
    with pytest.raises(ValueError, match="shape"):
        session.mask(0.5, region=Region.inside(np.zeros((2, 2, 2))))
    with pytest.raises(ValueError, match="normal"):
        Region.plane((0, 0, 0), (0, 0, 0))


@pytest.mark.parametrize("name", ["ras", "thick"])
def test_largest_piece_and_smallest_volume(name: str) -> None:
    session, values = with_map(name, seed=4)
    threshold = float(np.quantile(values, 0.97))
    labels, count = ndimage.label(values >= np.float32(threshold), np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    assert count > 5
    largest = spread(session, session.mask(threshold, largest_only=True))
    np.testing.assert_array_equal(largest, labels == 1 + np.argmax(sizes))
    bound = sorted(sizes)[count // 2]
    volume = float(bound * session.grid.voxel_volume_ml)
    kept = spread(session, session.mask(threshold, min_volume_ml=volume))
    wanted = np.isin(labels, 1 + np.flatnonzero(sizes >= bound))
    np.testing.assert_array_equal(kept, wanted)
    none = spread(session, session.mask(threshold, largest_only=True, min_volume_ml=1e6))
    assert not none.any()
    assert WHOLE.kind == "whole"


def test_pieces_that_never_reach_the_second_bound_go() -> None:
    session, values = with_map("ras", seed=4)
    threshold, sure = (float(np.quantile(values, q)) for q in (0.97, 0.999))
    labels, count = ndimage.label(values >= np.float32(threshold), np.ones((3, 3, 3)))
    reached = np.setdiff1d(np.unique(labels[values >= np.float32(sure)]), [0])
    assert 1 < len(reached) < count
    wanted = np.isin(labels, reached)
    np.testing.assert_array_equal(spread(session, session.mask(threshold, sure=sure)), wanted)
    # Below the threshold the second bound asks for nothing.
    everything = spread(session, session.mask(threshold, sure=threshold / 2))
    np.testing.assert_array_equal(everything, labels > 0)
    # A slice shows what the whole volume will have there, however small the piece is in it.
    volume = float(np.median(np.bincount(labels[wanted])[reached])) * session.grid.voxel_volume_ml
    whole = spread(session, session.mask(threshold, sure=sure, min_volume_ml=volume))
    assert 0 < whole.sum() < wanted.sum()
    for index in np.unique(np.argwhere(wanted)[:, 0]):
        region = Region.slice(0, int(index))
        shown = session.mask(threshold, sure=sure, min_volume_ml=volume, region=region)
        np.testing.assert_array_equal(spread(session, shown)[index], whole[index])
    with pytest.raises(ValueError, match="above 0"):
        session.mask(threshold, sure=0.0)


def test_pieces_are_judged_once_all_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview while the background works costs a comparison, not a search for pieces."""
    from StrokeLesionSegLib.editing import session as module

    session = EditingSession.open(head("ras"), random_model(), options=PLAIN)
    for _ in range(3):
        session.work(1.0)
    assert not session.complete
    searches: list[int] = []
    real = module.keep_pieces
    monkeypatch.setattr(module, "keep_pieces", lambda *a, **k: searches.append(1) or real(*a, **k))
    wanted = {"sure": 0.9, "min_volume_ml": 0.01, "largest_only": True}
    plain = spread(session, session.mask(0.2))
    np.testing.assert_array_equal(spread(session, session.mask(0.2, **wanted)), plain)
    assert plain.any()
    assert not searches
    finish(session)
    values = np.array(session.probability)
    threshold, sure = (float(np.quantile(values, q)) for q in (0.97, 0.999))
    session.mask(threshold, sure=sure)
    session.mask(threshold, sure=sure, region=Region.slice(0, 5))
    assert len(searches) == 1, "the answer is kept for the next slice"
    # An answer that the network gives anew is judged anew.
    candidate = max(session.candidates(threshold), key=lambda c: c.voxels)
    session.rerun(candidate.id)
    session.mask(threshold, sure=sure)
    assert len(searches) == 2


# --- brush


@pytest.mark.parametrize("name", GRIDS)
def test_a_sphere_holds_the_voxels_within_its_radius(name: str) -> None:
    grid = head(name).grid
    ras = places(grid.affine, grid.shape)
    for centre in ((1.3, -2.2, 0.6), (18.0, 20.0, 14.0)):
        box, inside = footprint(grid, np.array(centre), 6.3, None)
        whole = np.zeros(grid.shape, bool)
        whole[box] = inside
        np.testing.assert_array_equal(whole, np.linalg.norm(ras - centre, axis=-1) <= 6.3)


@pytest.mark.parametrize("name", GRIDS)
def test_a_disk_in_a_native_slice_is_one_voxel_thick(name: str) -> None:
    grid = head(name).grid
    ras = places(grid.affine, grid.shape)
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
    grid = head("ras").grid
    centre = np.array([0.0, 0.0, 1.0])  # middle between k = 22 and 23
    _, inside = footprint(grid, centre, 5, np.array([0, 0, 1.0]))
    assert inside.any(axis=(1, 2)).sum() == 1


@pytest.mark.parametrize("name", ["ras", "oblique", "thick"])
def test_dabs_take_what_is_above_and_erase_what_is_below(name: str) -> None:
    session, values = with_map(name, seed=2)
    ras = places(session.grid.affine, session.grid.shape)
    centre = np.array([2.0, 3.0, 1.0])
    sphere = np.linalg.norm(ras - centre, axis=-1) <= 8
    added = spread(session, session.dab(centre, 8, sphere=True, threshold=0.5))
    gone = spread(session, session.dab(centre, 8, sphere=True, threshold=0.5, erase=True))
    np.testing.assert_array_equal(added, sphere & (values >= 0.5))
    np.testing.assert_array_equal(gone, sphere & (values < 0.5))
    assert added.any()
    assert gone.any()
    floor = spread(session, session.dab(centre, 8, sphere=True, threshold=0.9, floor_from=0.7))
    np.testing.assert_array_equal(floor, sphere & (values >= 0.7 * FLOOR_SHARE))
    never = spread(session, session.dab(centre, 8, sphere=True, threshold=0.3, floor_from=1.0))
    np.testing.assert_array_equal(never, sphere & (values >= np.float32(0.3)))


@pytest.mark.parametrize("sphere", [False, True])
def test_the_brush_predicts_what_it_touches(sphere: bool) -> None:
    volume = head("oblique")
    session = EditingSession.open(volume, listening_model(), options=PLAIN)
    piece = session.dab(DARK[0], 9, sphere=sphere, threshold=0.5)
    found = spread(session, piece)
    lesion = ball(volume, *DARK)
    assert found.any()
    assert found[ball(volume, DARK[0], 2.5)].any()
    if sphere:
        assert found[ball(volume, DARK[0], DARK[1] - 1)].all()
    assert found[~ball(volume, DARK[0], DARK[1] + 2)].sum() == 0
    assert (found & lesion).sum() > 0.8 * found.sum()
    # Darkish tissue is below the slider.
    assert not spread(session, session.dab(FAINT[0], 3, sphere=sphere, threshold=0.5)).any()


def test_impossible_brushes() -> None:
    session, _ = with_map("ras")
    for radius in (0, -2, np.nan, np.inf):
        with pytest.raises(ValueError, match="radius"):
            session.dab((0, 0, 0), radius, threshold=0.5)
    with pytest.raises(ValueError, match="normal"):
        session.dab((0, 0, 0), 3, normal_ras=(0, 0, 0), threshold=0.5)
    with pytest.raises(ValueError, match="finite"):
        session.dab((0, 0, np.inf), 3, threshold=0.5)
    box, mask = session.dab((400, 0, 0), 3, threshold=0.5)
    assert mask.size == 0
    assert all(part.stop == part.start for part in box)
