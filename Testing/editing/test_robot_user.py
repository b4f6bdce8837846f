"""The robot user clicks where a person would, through the session that people use."""

from __future__ import annotations

import numpy as np
import pytest
from editing_support import DARK, FAINT, PLAIN, ball, head, listening_model, random_model
from StrokeLesionSegLib.correction.robot import largest_error
from StrokeLesionSegLib.editing import EditingSession
from StrokeLesionSegLib.errors import InputError
from stroketrain.bench.robot import robot_clicks

pytestmark = pytest.mark.usefixtures("silent_judge")


def test_the_largest_error_is_clicked_in_its_middle() -> None:
    wanted, marked = np.zeros((20, 20, 30), bool), np.zeros((20, 20, 30), bool)
    wanted[2:9, 2:9, 2:9] = True  # missed, 343
    marked[10:12, 10:12, 10:12] = True  # false, 8
    assert largest_error(marked, wanted, (1, 1, 1)) == (5, 5, 5)
    marked[1:19, 1:19, 15:28] = True  # false, larger
    place = largest_error(marked, wanted, (1, 1, 1))
    assert place is not None
    assert marked[place]
    assert place[2] in (20, 21, 22)
    assert largest_error(wanted, wanted, (1, 1, 1)) is None


@pytest.mark.parametrize("name", ["oblique", "sagittal, pir", "thick"])
def test_dice_rises_with_the_clicks(name: str) -> None:
    volume = head(name)
    truth = ball(volume, *DARK) | ball(volume, *FAINT)
    session = EditingSession.open(volume, listening_model(), options=PLAIN)
    dice = robot_clicks(session, truth.astype(np.uint8), 2, rng=np.random.default_rng(0))
    assert len(dice) == 3
    assert dice[0] < 0.7
    assert dice[1] > dice[0] + 0.1
    assert max(dice[1:]) > (0.7 if name == "thick" else 0.8)
    first = session.clicks[0]
    assert first.positive
    assert np.linalg.norm(np.array(first.ras_mm) - FAINT[0]) < 3
    # Made in an axial slice.
    assert first.axis == {"sagittal, pir": 1}.get(name, 0)


def test_noise_comes_from_the_generator_and_stays_in_the_slice() -> None:
    volume = head("ras")
    truth = ball(volume, *DARK) | ball(volume, *FAINT)
    clicks, scores = [], []
    for seed in (1, 1, 2):
        session = EditingSession.open(volume, listening_model(), options=PLAIN)
        rng = np.random.default_rng(seed)
        scores.append(robot_clicks(session, truth, 1, noise_mm=2.0, rng=rng))
        clicks.append(session.clicks[0].ras_mm)
    exact = EditingSession.open(volume, listening_model(), options=PLAIN)
    robot_clicks(exact, truth, 1, rng=np.random.default_rng(1))
    assert clicks[0] == clicks[1] != clicks[2]
    assert scores[0] == scores[1]
    assert clicks[0][2] == exact.clicks[0].ras_mm[2]
    assert clicks[0][:2] != exact.clicks[0].ras_mm[:2]


def test_nothing_to_do_and_nothing_possible() -> None:
    volume = head("ras")
    empty = np.zeros(volume.array.shape)
    given = empty.astype(np.float32)
    session = EditingSession.open(volume, listening_model(), options=PLAIN, probability=given)
    assert robot_clicks(session, empty, 2, rng=np.random.default_rng(0)) == [1.0, 1.0, 1.0]
    assert session.clicks == ()
    with pytest.raises(ValueError, match="shape"):
        robot_clicks(session, empty[1:], 1, rng=np.random.default_rng(0))
    deaf = EditingSession.open(volume, random_model(1), options=PLAIN, probability=given)
    with pytest.raises(InputError, match="clicks"):
        robot_clicks(deaf, ball(volume, *DARK), 1, rng=np.random.default_rng(0))
