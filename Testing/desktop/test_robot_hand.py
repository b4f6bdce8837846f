"""The hand of the robot that corrects in the desktop; no Slicer is needed."""

from __future__ import annotations

import json

import correction_table
import numpy as np
import pytest
import robot_hand
from StrokeLesionSegLib.correction import taken

SPACING = (1.0, 1.0, 1.0)


def distance(shape: tuple[int, int, int], middle: tuple[int, int, int]) -> np.ndarray:
    k, j, i = np.ogrid[tuple(slice(0, n) for n in shape)]
    return np.sqrt((k - middle[0]) ** 2 + (j - middle[1]) ** 2 + (i - middle[2]) ** 2)


def test_a_missing_ball_is_one_touch_of_its_size() -> None:
    wanted = distance((30, 30, 30), (14, 15, 16)) <= 8
    marked = np.zeros_like(wanted)
    wrong = robot_hand.largest(marked, wanted, SPACING)
    assert wrong is not None
    assert wrong.missing
    assert wrong.place == (14, 15, 16)
    touch = robot_hand.best_touch(marked, wanted, wrong, SPACING)
    assert (touch.path, touch.radius_mm, touch.dice) == (((14, 15, 16),), 8.0, 1.0)
    assert robot_hand.largest(wanted, wanted, SPACING) is None


def test_what_is_long_is_dragged_along_its_middle() -> None:
    wanted, marked = np.zeros((20, 60, 30), bool), np.zeros((20, 60, 30), bool)
    marked[8:13, 5:55, 10:15] = True
    wrong = robot_hand.largest(marked, wanted | (distance(marked.shape, (3, 3, 25)) < 2), SPACING)
    assert wrong is not None
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
    threshold = 0.25 if erases else 0.6
    wrong = robot_hand.largest(marked, wanted, SPACING)
    assert wrong is not None
    ours = robot_hand.best_touch(
        marked,
        wanted,
        wrong,
        SPACING,
        probability,
        lambda p, began: taken(p, threshold, began, erase=erases),
    )
    paint = robot_hand.best_touch(marked, wanted, wrong, SPACING)
    assert ours.dice == 1.0
    assert paint.dice < 0.9
    assert probability[ours.path[0]] == 0.4


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
