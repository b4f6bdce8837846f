"""Candidates in order of doubt, verdicts on them, splitting, asking again; the mirror image."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from editing_support import (
    DARK,
    PLAIN,
    ball,
    finish,
    grid_affine,
    head,
    listening_model,
    places,
    random_model,
    turned,
)
from numpy.typing import NDArray
from StrokeLesionSegLib.editing import EditingSession
from StrokeLesionSegLib.editing.mirror import find_mirror_plane, mirror, mni_reflection, reflection
from StrokeLesionSegLib.editing.pieces import split_piece
from StrokeLesionSegLib.errors import Cancelled
from StrokeLesionSegLib.images import Alignment, Volume
from StrokeLesionSegLib.inference import segment_volume

# Centre in mm, radius, probability.
BALLS = [
    (np.array([-9.0, 4, 2]), 4.0, 0.95),
    (np.array([8.0, -5, 1]), 5.0, 0.6),
    (np.array([0.0, 14, -3]), 3.0, 0.75),
]


def with_balls(name: str = "oblique", balls=BALLS) -> tuple[EditingSession, NDArray[np.float32]]:
    volume = head(name)
    values = np.full(volume.array.shape, 0.02, np.float32)
    for centre, radius, probability in balls:
        values[ball(volume, centre, radius)] = probability
    session = EditingSession.open(volume, random_model(), options=PLAIN, probability=values)
    return session, values


@pytest.mark.parametrize("name", ["ras", "oblique", "thick"])
def test_candidates_are_measured_and_ordered_by_doubt(name: str) -> None:
    session, _ = with_balls(name)
    found = session.candidates(0.5)
    assert [round(c.mean_probability, 4) for c in found] == [0.6, 0.75, 0.95]
    for candidate, (centre, radius, p) in zip(found, [BALLS[n] for n in (1, 2, 0)], strict=True):
        mask = ball(head(name), centre, radius)
        entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        assert candidate.doubt == pytest.approx(entropy, abs=1e-4)
        assert candidate.voxels == mask.sum()
        volume = abs(np.linalg.det(session.grid.affine[:3, :3])) / 1000 * mask.sum()
        assert candidate.volume_ml == pytest.approx(volume)
        ras = places(session.grid.affine, session.grid.shape)[mask]
        np.testing.assert_allclose(candidate.centroid_ras_mm, ras.mean(axis=0), atol=1e-6)
        assert np.linalg.norm(ras - candidate.voxel_ras_mm, axis=1).min() < 1e-6
        box, own = session.candidate_mask(candidate.id)
        whole = np.zeros(mask.shape, bool)
        whole[box] = own
        np.testing.assert_array_equal(whole, mask)
    assert len(session.candidates(0.7)) == 2
    bound = sorted(c.volume_ml for c in found)[1]
    assert len(session.candidates(0.5, bound)) == 2
    with pytest.raises(ValueError, match="threshold"):
        session.candidates(0)


def test_a_middle_that_is_not_lesion_is_not_jumped_to() -> None:
    volume = head("ras")
    ring = ball(volume, np.zeros(3), 9) & ~ball(volume, np.zeros(3), 6)
    values = np.where(ring, 0.9, 0).astype(np.float32)
    session = EditingSession.open(volume, random_model(), options=PLAIN, probability=values)
    (candidate,) = session.candidates(0.5)
    assert np.linalg.norm(candidate.centroid_ras_mm) < 1
    index = np.linalg.inv(volume.affine) @ [*candidate.voxel_ras_mm, 1]
    assert ring[tuple(np.rint(index[2::-1]).astype(int))]


def test_verdicts_stay_with_the_pieces() -> None:
    session, _ = with_balls()
    first, second, third = session.candidates(0.5)
    assert session.reject(first.id).state == "rejected"
    assert session.accept(third.id).state == "accepted"
    again = session.candidates(0.5)
    assert [c.id for c in again] == [first.id, second.id, third.id]
    assert [c.state for c in again] == ["rejected", "open", "accepted"]
    # What is rejected stays listed, and its mask stays at hand.
    assert session.candidate_mask(first.id)[1].sum() == first.voxels
    # Also where the bounds leave it out; what is open goes then.
    for bounds in ((0.65, 0.0), (0.5, 1e6)):
        there = session.candidates(*bounds)
        assert (first.id, "rejected") in [(c.id, c.state) for c in there]
        assert session.candidate_mask(first.id)[1].sum() == first.voxels
    assert [c.state for c in there] == ["rejected", "accepted"]
    assert [c.state for c in session.candidates(0.5)] == ["rejected", "open", "accepted"]
    session.take_back(first.id)
    assert [c.state for c in session.candidates(0.7)] == ["open", "accepted"]
    assert session.take_back(third.id).state == "open"
    for attempt in (session.accept, session.reject, session.take_back, session.split):
        with pytest.raises(KeyError):
            attempt(99)
    with pytest.raises(KeyError):
        session.candidate_mask(99)


def test_verdicts_are_kept_in_the_scene() -> None:
    session, _ = with_balls()
    found = session.candidates(0.5)
    session.reject(found[0].id)
    session.accept(found[2].id)
    state = json.loads(json.dumps(session.to_state()))
    other, _ = with_balls()
    other.restore(state)
    assert [c.state for c in other.candidates(0.5)] == ["rejected", "open", "accepted"]
    # Restored once more, after the candidates are known.
    other.accept(other.candidates(0.5)[1].id)
    other.restore(state)
    assert [c.state for c in other.candidates(0.5)] == ["rejected", "open", "accepted"]


def test_joined_balls_are_split_where_they_touch() -> None:
    pair = [
        (np.array([-7.0, 0, 0]), 5.0, 0.9),
        (np.array([4.0, 0, 0]), 6.5, 0.9),
        (np.array([0.0, 16, 0]), 3.0, 0.9),
    ]
    session, values = with_balls("oblique", pair)
    found = session.candidates(0.5)
    assert len(found) == 2
    large = max(found, key=lambda c: c.voxels)
    session.accept(large.id)
    parts = session.split(large.id)
    assert len(parts) == 2
    assert parts[0].id == large.id
    assert [p.state for p in parts] == ["open", "open"]
    ras = places(session.grid.affine, session.grid.shape)
    total = np.zeros(values.shape, int)
    for part, (centre, radius, _) in zip(parts, (pair[1], pair[0]), strict=True):
        box, mask = session.candidate_mask(part.id)
        total[box] += mask
        assert np.linalg.norm(np.array(part.centroid_ras_mm) - centre) < 1.0
        own = np.linalg.norm(ras - centre, axis=-1) < radius
        assert mask.sum() == pytest.approx(own.sum(), rel=0.12)
    assert total.max() == 1
    joined = ball(head("oblique"), pair[0][0], 5.0) | ball(head("oblique"), pair[1][0], 6.5)
    np.testing.assert_array_equal(total > 0, joined)
    # Looked for anew, they stay apart, and so do the verdicts on them.
    session.reject(parts[1].id)
    again = {c.id: c for c in session.candidates(0.5)}
    assert len(again) == 3
    assert again[parts[1].id].state == "rejected"
    assert again[parts[0].id].state == "open"
    assert again[parts[0].id].voxels == parts[0].voxels
    # Kept in the scene; and undo, which restores the state from before, joins them again.
    state = json.loads(json.dumps(session.to_state()))
    other, _ = with_balls("oblique", pair)
    before = other.to_state()
    for _ in range(2):
        other.restore(state)
        found = other.candidates(0.5)
        assert sorted((c.voxels, c.state) for c in found) == sorted(
            (c.voxels, c.state) for c in again.values()
        )
        other.restore(before)
        assert len(other.candidates(0.5)) == 2


def test_splitting_always_comes_to_an_end() -> None:
    spacing = (1.0, 1.0, 1.0)
    cube = np.ones((4, 4, 10), bool)
    labels = split_piece(cube, np.full(cube.shape, 0.7, np.float32), spacing)
    assert set(np.unique(labels)) == {1, 2}
    sizes = np.bincount(labels.ravel())[1:]
    assert abs(int(sizes[0]) - int(sizes[1])) <= 16
    # Across the long axis.
    assert np.abs(np.diff(labels.mean(axis=(0, 1)))).max() > 0.5
    one = np.zeros((3, 3, 3), bool)
    one[1, 1, 1] = True
    assert split_piece(one, one.astype(np.float32), spacing).sum() == 1
    two = np.zeros((3, 3, 3), bool)
    two[1, 1, :2] = True
    assert sorted(split_piece(two, two.astype(np.float32), spacing)[two]) == [1, 2]


def test_splitting_follows_the_probability() -> None:
    bar = np.zeros((5, 5, 24), bool)
    bar[1:4, 1:4, 1:23] = True
    probability = np.where(bar, 0.95, 0).astype(np.float32)
    probability[:, :, 8] *= 0.6
    labels = split_piece(bar, probability, (1.0, 1.0, 1.0))
    assert labels.max() == 2
    assert (labels[2, 2, 1:8] == 2).all()
    assert (labels[2, 2, 9:23] == 1).all()


def test_a_single_voxel_is_not_split() -> None:
    session, values = with_balls("ras", [])
    values = np.array(values)
    values[20, 20, 20] = 0.9
    session = EditingSession.open(head("ras"), random_model(), options=PLAIN, probability=values)
    (candidate,) = session.candidates(0.5)
    assert session.split(candidate.id) == (candidate,)


def test_asking_again_gives_the_mean_of_three_views() -> None:
    volume = head("oblique")
    session = EditingSession.open(volume, random_model(), options=PLAIN)
    finish(session)
    axial = np.array(session.probability)
    threshold = float(np.quantile(axial, 0.99))
    candidate = max(session.candidates(threshold), key=lambda c: c.voxels)
    with pytest.raises(Cancelled):
        session.rerun(candidate.id, cancel=lambda: True)
    np.testing.assert_array_equal(session.probability, axial)
    box = session.rerun(candidate.id)
    changed = session.probability != axial
    assert changed[candidate.box].any()
    changed[box] = False
    assert not changed.any()
    # On a scan as small as this the context is the whole head: the same as a triplanar run.
    options = replace(PLAIN, views="triplanar", tta=True)
    wanted = segment_volume(volume, random_model(), options).probability.array
    np.testing.assert_allclose(session.probability[candidate.box], wanted[candidate.box], atol=0.02)
    assert session.complete
    assert session.work() is None


def test_asking_again_reaches_the_clicks_too() -> None:
    session = EditingSession.open(head("ras"), listening_model(), options=PLAIN)
    finish(session)
    session.add_click(DARK[0], True, axis=0)
    while session.refine_more(1000) is not None:
        pass
    (candidate,) = session.candidates(0.5)
    session.rerun(candidate.id)
    assert session.refine_more(1000) is not None
    while session.refine_more(1000) is not None:
        pass
    assert session.guided_mask()[1].any()


# --- mirror image


def lopsided(name: str, turn: NDArray[np.float64], shift: NDArray[np.float64]) -> Volume:
    """A head that is symmetric but for a ball, turned and moved in the world."""
    affine, shape = grid_affine(name)
    ras = (places(affine, shape) - shift) @ turn
    x, y, z = (ras[..., n] for n in range(3))
    values = 700 + 150 * np.cos(x / 3) * np.sin(y / 4 + 0.5) * np.cos(z / 5)
    values = np.where(np.linalg.norm(ras - [7, 3, 1], axis=-1) < 4, 150, values)
    inside = (ras[..., 0] / 17) ** 2 + (y / 21) ** 2 + (z / 15) ** 2 < 1
    return Volume(np.where(inside, values, 0).astype(np.float32), affine)


@pytest.mark.parametrize("name", ["ras", "sagittal, pir", "oblique", "sheared"])
def test_the_mirror_plane_is_found(name: str) -> None:
    turn = turned(2, 11) @ turned(1, -8)
    shift = np.array([2.5, 1.0, -1.0])
    volume = lopsided(name, turn, shift)
    normal, offset = find_mirror_plane(volume)
    true = turn @ [1.0, 0, 0]
    assert np.degrees(np.arccos(min(1, abs(normal @ true)))) < 1.5
    assert abs(offset - normal @ shift) < 0.5
    session = EditingSession.open(volume, random_model(), options=PLAIN)
    image = session.mirrored()
    assert image.shape == volume.array.shape
    assert image.dtype == np.float32
    ball_at = np.rint(
        np.linalg.inv(volume.affine)[:3] @ [*(turn @ np.array([-7, 3, 1]) + shift), 1]
    ).astype(int)[::-1]
    assert abs(image[tuple(ball_at)] - 150) < 60
    assert volume.array[tuple(ball_at)] > 400
    assert session.mirrored() is session.mirrored() or np.shares_memory(
        session.mirrored(), session.mirrored()
    )


@pytest.mark.parametrize("name", ["ras", "sagittal, pir", "thick"])
def test_mirrored_twice_is_the_scan(name: str) -> None:
    volume = head(name)
    across = reflection(np.array([1.0, 0, 0]), 0.0)
    once = mirror(volume, across)
    ras = places(volume.affine, volume.grid.shape)
    flipped = np.argwhere(np.abs(ras[0, 0, :, 0] + ras[0, 0, ::-1, 0]).max() < 1e-6)
    twice = mirror(volume.with_array(once), across)
    np.testing.assert_allclose(twice, volume.array, atol=1e-2)
    if flipped.size and name != "sagittal, pir":
        np.testing.assert_allclose(once, volume.array[:, :, ::-1], atol=1e-2)
    assert np.abs(once - volume.array).max() > 100


def test_the_alignment_gives_the_plane_where_there_is_one() -> None:
    volume = head("oblique")
    matrix = np.eye(4)
    matrix[:3, :3] = 1.1 * turned(2, 6) @ turned(1, 4)
    matrix[:3, 3] = 4, -18, 8
    found = Alignment(matrix, True, "", 1.0, 1.0, 0.0)
    options = replace(PLAIN, align="auto")
    session = EditingSession.open(volume, random_model(), options=options, alignment=found)
    wanted = mirror(volume, mni_reflection(matrix))
    np.testing.assert_array_equal(session.mirrored(), wanted)
    # A place and its image lie on opposite sides in MNI space.
    image = mni_reflection(matrix) @ [5.0, 6, 7, 1]
    there, here = matrix @ image, matrix @ [5.0, 6, 7, 1]
    np.testing.assert_allclose(there, here * [-1, 1, 1, 1], atol=1e-9)
    with pytest.raises(ValueError, match="read-only"):
        session.mirrored()[0, 0, 0] = 1


def test_looking_for_the_plane_can_be_cancelled() -> None:
    session = EditingSession.open(head("ras"), random_model(), options=PLAIN)
    with pytest.raises(Cancelled):
        session.mirrored(cancel=lambda: True)
