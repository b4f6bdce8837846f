"""The hand of the robot that corrects in the desktop; no Slicer is needed."""

from __future__ import annotations

import json
import types

import correction_table
import numpy as np
import pytest
import robot_hand
from scipy import ndimage
from StrokeLesionSegLib.correction import outlined
from StrokeLesionSegLib.correction.outline import within_polygon
from StrokeLesionSegLib.correction.robot import dice_of
from StrokeLesionSegLib.images import Grid

SPACING = (1.0, 1.0, 1.0)


def distance(shape: tuple[int, int, int], middle: tuple[int, int, int]) -> np.ndarray:
    k, j, i = np.ogrid[tuple(slice(0, n) for n in shape)]
    return np.sqrt((k - middle[0]) ** 2 + (j - middle[1]) ** 2 + (i - middle[2]) ** 2)


def largest(marked: np.ndarray, wanted: np.ndarray) -> robot_hand.Wrong:
    """The thickest place of the largest error."""
    return robot_hand.errors(marked, wanted, SPACING)[0]


def test_a_missing_ball_is_one_touch_of_its_size() -> None:
    wanted = distance((30, 30, 30), (14, 15, 16)) <= 8
    marked = np.zeros_like(wanted)
    wrong = largest(marked, wanted)
    assert wrong.missing
    assert wrong.place == (14, 15, 16)
    touch = robot_hand.best_touch(marked, wanted, wrong, SPACING)
    assert touch == robot_hand.Touch(((14, 15, 16),), 8.0, True, 1.0)
    assert robot_hand.errors(wanted, wanted, SPACING) == []


def test_the_largest_errors_are_looked_at_where_they_are_thick_and_where_they_are_wide() -> None:
    wanted, marked = np.zeros((40, 40, 40), bool), np.zeros((40, 40, 40), bool)
    wanted[5:12, 5:12, 5:12] = True  # thick
    wanted[20, 2:30, 2:30] = True  # and wide, of one piece with it
    wanted[12:20, 8, 8] = True
    marked[30:34, 30:34, 30:34] = True
    for n in range(6):
        marked[36, 4 * n, 2] = True
    found = robot_hand.errors(marked, wanted, SPACING)
    assert [(w.missing, w.place[0]) for w in found[:3]] == [(True, 8), (True, 20), (False, 31)]
    assert len({w.place for w in found}) == 5, "four errors, the first in two slices"
    np.testing.assert_array_equal(found[1].around, wanted[20])
    np.testing.assert_array_equal(found[2].around, marked[31])
    # Paint takes the stroke of all of them that mends most, be it at the largest error or not.
    touch = robot_hand.best_stroke(marked, wanted, found, SPACING)
    one_by_one = [robot_hand.best_touch(marked, wanted, wrong, SPACING) for wrong in found]
    assert touch.dice == max(t.dice for t in one_by_one) > 0


def test_what_is_long_is_dragged_along_its_middle() -> None:
    wanted, marked = np.zeros((20, 60, 30), bool), np.zeros((20, 60, 30), bool)
    marked[8:13, 5:55, 10:15] = True
    wrong = largest(marked, wanted | (distance(marked.shape, (3, 3, 25)) < 2))
    assert not wrong.missing
    touch = robot_hand.best_touch(marked, wanted, wrong, SPACING)
    along = [place[1] for place in touch.path]
    assert len(touch.path) > 40
    assert sorted(along) in (along, along[::-1])
    assert {place[2] for place in touch.path[5:-5]} == {12}


@pytest.mark.parametrize("erases", [True, False])
def test_a_brush_that_follows_the_probability_takes_a_rim_at_once(erases: bool) -> None:
    """A mask that is too large, or too small, by a rim of one probability all around."""
    away = distance((40, 40, 40), (20, 20, 20))
    probability = np.select([away <= 8, away <= 12], [0.9, 0.4], 0.01)
    wanted, marked = (away <= 8, away <= 12) if erases else (away <= 12, away <= 8)
    point = types.SimpleNamespace(threshold=0.25 if erases else 0.6)
    session = types.SimpleNamespace(probability=probability, point=point)
    wrongs = robot_hand.errors(marked, wanted, SPACING)
    ours = robot_hand.best_stroke(marked, wanted, wrongs, SPACING, session)
    paint = robot_hand.best_stroke(marked, wanted, wrongs, SPACING)
    assert ours.dice == 1.0
    assert ours.adds is not erases
    assert paint.dice < 0.9
    assert probability[ours.path[0]] == 0.4


@pytest.mark.parametrize("seed", range(12))
def test_the_edge_of_a_piece_holds_its_voxels_and_no_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ragged = ndimage.gaussian_filter(rng.normal(size=(40, 50)), seed % 4) > 0
    labels, _ = ndimage.label(ragged, np.ones((3, 3)))
    piece = labels == int(np.bincount(labels[labels > 0]).argmax())
    path = robot_hand.edge(piece)
    steps = np.abs(np.diff(path, axis=0, append=path[:1])).max(axis=1)
    assert steps.max() <= 1.0
    filled = within_polygon(path, piece.shape)
    np.testing.assert_array_equal(filled | piece, filled)
    holes = ndimage.binary_fill_holes(piece)
    # Where pixels meet at corners only, what lies in the fork between them may count as well.
    assert np.count_nonzero(filled & ~holes) <= 0.02 * piece.sum()


def test_an_outline_is_drawn_where_it_mends_most() -> None:
    away = distance((60, 60, 60), (30, 30, 30))
    grid = Grid(away.shape, np.eye(4))
    wanted, marked = away <= 20, away <= 16
    wrongs = robot_hand.errors(marked, wanted, SPACING)
    drawn = robot_hand.best_outline(marked, wanted, wrongs, grid, [])
    assert drawn is not None
    assert drawn.adds
    points = drawn.path[:, ::-1]
    box, found = outlined(marked, grid, points, np.array([0, 0, 1.0]))
    new = marked.copy()
    new[box] = found
    assert drawn.dice == pytest.approx(dice_of(new, wanted))
    assert drawn.dice > dice_of(marked, wanted) + 0.05
    assert 15 < len(points) < 80, "a hand is seen every 2 mm"
    # Where the mask holds no lesion, around what is none.
    marked = wanted | (distance(away.shape, (30, 30, 57)) <= 2)
    wrongs = robot_hand.errors(marked, wanted, SPACING)
    drawn = robot_hand.best_outline(marked, wanted, wrongs, grid, [])
    assert drawn is not None
    assert not drawn.adds
    assert drawn.dice > dice_of(marked, wanted)


def test_a_shaking_hand_misses_by_what_is_asked_for_and_stays_in_its_slice() -> None:
    angles = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    path = np.stack([np.full(80, 7.0), 40 * np.cos(angles), 40 * np.sin(angles)], axis=1)
    off = robot_hand.shaken(path, 1.5, (3.0, 0.5, 2.0), np.random.default_rng(0)) - path
    assert not off[:, 0].any()
    assert np.sqrt(((off[:, 1:] * (0.5, 2.0)) ** 2).mean()) == pytest.approx(1.5)
    jumps = np.abs(np.diff(off * (3.0, 0.5, 2.0), axis=0, append=off[:1] * (3.0, 0.5, 2.0)))
    assert jumps.max() < 2.0, "to one side for a while"


class Clicked:
    """A session that answers a click by a ball of 5 mm around it."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.mask, self.open = np.zeros(shape, bool), 0

    def click(self, place: tuple[int, int, int], lesion: bool, mask: np.ndarray) -> None:
        near = distance(mask.shape, place) <= 5
        self.mask, self.open = mask | near if lesion else mask & ~near, self.open + 1

    def undo(self, mask: np.ndarray) -> None:
        self.mask, self.open = mask, self.open - 1


def test_a_click_is_judged_by_what_it_changes_and_is_taken_back() -> None:
    wanted = distance((24, 24, 24), (12, 12, 12)) <= 6
    marked = np.zeros_like(wanted)
    marked[0:3, 0:3, 0:3] = True
    session = Clicked(marked.shape)
    click = robot_hand.shown_click(marked, wanted, largest(marked, wanted), session)
    after = marked | (distance(marked.shape, (12, 12, 12)) <= 5)
    assert click == robot_hand.Click((12, 12, 12), True, dice_of(after, wanted))
    assert session.open == 0
    np.testing.assert_array_equal(session.mask, marked)


def test_of_the_sliders_positions_the_best_is_taken() -> None:
    probability = np.linspace(0, 1, 1000).reshape(10, 10, 10)
    wanted = probability >= 0.42
    found = robot_hand.best_threshold(wanted, lambda at: probability >= at, (0.2, 0.4, 0.6))
    assert found[0] == 0.4
    assert 0.98 < found[1] < 1


def test_the_table_joins_runs_and_tells_medians_by_kind() -> None:
    far = list(np.linspace(0.5, 0.8, 16))
    lines = [
        {"case": "00-large", "stroke": far, "release_to_labelmap_s": {"click": [], "brush": [0.1]}},
        {"case": "01-faint", "stroke": [0.0] * 16, "release_to_labelmap_s": {"click": [0.2]}},
        {"case": "00-large", "grow": [0.0] * 16},
    ]
    rows = correction_table.joined(map(json.dumps, lines))
    assert correction_table.table(rows) == [
        "| all | 0.250 | 0.300, 0.400 | -, - | 0.000, 0.000 |",
        "| faint | 0.000 | 0.000, 0.000 | -, - | -, - |",
        "| large | 0.500 | 0.600, 0.800 | -, - | 0.000, 0.000 |",
    ]
    assert correction_table.times(rows) == [
        "click: median 200 ms of 1",
        "brush: median 100 ms of 1",
    ]
