"""The pieces of a mask: found, decided about, split; the decisions kept as text."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_grids import GRIDS, places
from StrokeLesionSegLib.correction import PieceList
from StrokeLesionSegLib.correction.pieces import split_piece
from StrokeLesionSegLib.images import Grid

# Centre in mm, radius, probability.
BALLS = [
    (np.array([-9.0, 4, 2]), 4.0, 0.95),
    (np.array([8.0, -5, 1]), 5.0, 0.6),
    (np.array([0.0, 14, -3]), 3.0, 0.75),
]
PAIR = [
    (np.array([-7.0, 0, 0]), 5.0, 0.9),
    (np.array([4.0, 0, 0]), 6.5, 0.9),
    (np.array([0.0, 16, 0]), 3.0, 0.9),
]


def probabilities(name: str, balls=BALLS) -> NDArray[np.float32]:
    values = np.full(GRIDS[name].shape, 0.02, np.float32)
    ras = places(GRIDS[name])
    for centre, radius, probability in balls:
        values[np.linalg.norm(ras - centre, axis=-1) < radius] = probability
    return values


@pytest.mark.parametrize("name", ["ras", "oblique", "thick"])
def test_pieces_are_measured_largest_first(name: str) -> None:
    grid, values = GRIDS[name], probabilities(name)
    found = PieceList(grid).look(values >= 0.5, values)
    for piece, (centre, radius, p) in zip(found, [BALLS[n] for n in (1, 0, 2)], strict=True):
        mask = np.linalg.norm(places(grid) - centre, axis=-1) < radius
        whole = np.zeros(grid.shape, bool)
        whole[piece.box] = piece.mask
        np.testing.assert_array_equal(whole, mask)
        assert piece.mean_probability == pytest.approx(p, abs=1e-4)
        volume = abs(np.linalg.det(grid.affine[:3, :3])) / 1000 * mask.sum()
        assert piece.volume_ml == pytest.approx(volume)
        assert mask[piece.voxel]


def test_the_voxel_to_jump_to_belongs_to_the_piece() -> None:
    away = np.linalg.norm(places(GRIDS["ras"]), axis=-1)
    ring = (away < 9) & (away > 6)
    (piece,) = PieceList(GRIDS["ras"]).look(ring)
    assert ring[piece.voxel]
    assert piece.mean_probability is None


def test_decisions_stay_with_their_pieces() -> None:
    values = probabilities("oblique")
    mask = values >= 0.5
    pieces = PieceList(GRIDS["oblique"])
    first, second, third = pieces.look(mask, values)
    pieces.mark(third.id, "kept")
    mask[first.box] &= ~pieces.mark(first.id, "dropped").mask
    again = pieces.look(mask, values)
    assert [(p.id, p.state) for p in again] == [
        (first.id, "dropped"), (second.id, "open"), (third.id, "kept")
    ]  # fmt: skip
    assert again[0].voxels == first.voxels  # stays at hand
    # Drawn again by hand it is a new piece, to be looked at.
    mask[first.box] |= first.mask
    assert [p.state for p in pieces.look(mask, values)] == ["open", "open", "kept"]
    for attempt in (pieces.piece, pieces.split, lambda n: pieces.mark(n, "kept")):
        with pytest.raises(KeyError):
            attempt(99)


def test_joined_balls_are_split_where_they_touch_and_stay_apart() -> None:
    grid, values = GRIDS["oblique"], probabilities("oblique", PAIR)
    mask = values >= 0.5
    pieces = PieceList(grid)
    large = pieces.look(mask, values)[0]
    assert len(pieces.pieces) == 2
    assert pieces.split(large.id) == 2
    parts = [p for p in pieces.pieces if p.part]
    assert parts[0].id == large.id
    total = np.zeros(grid.shape, int)
    for part, (centre, radius, _) in zip(parts, (PAIR[1], PAIR[0]), strict=True):
        total[part.box] += part.mask
        own = np.linalg.norm(places(grid) - centre, axis=-1) < radius
        assert part.voxels == pytest.approx(own.sum(), rel=0.12)
    whole = np.zeros(grid.shape, int)
    whole[large.box] = large.mask
    np.testing.assert_array_equal(total, whole)
    # Looked for anew they stay apart, with what was decided; and from text, too.
    pieces.mark(parts[1].id, "kept")
    expected = sorted((p.voxels, p.state) for p in pieces.pieces)
    assert sorted((p.voxels, p.state) for p in pieces.look(mask, values)) == expected
    other = PieceList(grid)
    other.read_text(pieces.to_text())
    assert sorted((p.voxels, p.state) for p in other.look(mask, values)) == expected
    other.read_text("")
    assert len(other.look(mask, values)) == 2


def test_decisions_are_about_places_not_about_indices() -> None:
    """The grid of a mask may be cropped, moved as a whole, or made finer."""
    grid, values = GRIDS["oblique"], probabilities("oblique")
    mask = values >= 0.5
    pieces = PieceList(grid)
    first = pieces.look(mask, values)[0]
    mask[first.box] &= ~pieces.mark(first.id, "dropped").mask
    text = pieces.to_text()

    def dropped_on(shape: tuple[int, ...], affine: NDArray[np.float64]) -> list[list[int]]:
        other = PieceList(Grid(shape, affine))
        other.read_text(text)
        return [[s.start for s in p.box] for p in other.pieces if p.state == "dropped"]

    start = [s.start for s in first.box]
    assert dropped_on(grid.shape, grid.affine) == [start]
    assert dropped_on(grid.shape, np.diag([-1.0, -1, 1, 1]) @ grid.affine) == [start]
    cropped = grid.affine.copy()
    cropped[:3, 3] += grid.affine[:3, :3] @ np.array([1.0, 2, 1])
    shape = tuple(n - 2 for n in grid.shape)
    assert dropped_on(shape, cropped) == [[start[0] - 1, start[1] - 2, start[2] - 1]]
    finer = grid.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    assert dropped_on(tuple(2 * n for n in grid.shape), finer) == []


@pytest.mark.parametrize(
    "text", ["no json", "7", '[{"box": [1]}]', '[{"box": [0, 99, 0, 9, 0, 9], "state": "kept"}]']
)
def test_text_that_makes_no_sense_is_left_out(text: str) -> None:
    pieces = PieceList(GRIDS["ras"])
    pieces.read_text(text)
    assert pieces.pieces == ()


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
