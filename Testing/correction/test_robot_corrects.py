"""The bench's robot user, through the session that people use."""

from __future__ import annotations

import numpy as np
import pytest
from correction_support import BallAnswers, head_map, session_on
from StrokeLesionSegLib.correction.robot import largest_error, robot_corrections
from StrokeLesionSegLib.images import Grid
from StrokeLesionSegLib.inference.head_box import HEAD_ORIGIN_ZYX, HEAD_SHAPE

AFFINE = np.eye(4)
AFFINE[:3, 3] = HEAD_ORIGIN_ZYX[::-1]
GRID = Grid(HEAD_SHAPE, AFFINE)


def two_balls() -> np.ndarray:
    return (BallAnswers((70, 80, 60), 9).field >= 0.5) | (
        BallAnswers((90, 120, 100), 6).field >= 0.5
    )


class Both(BallAnswers):
    """Knows two lesions, of which the mask has none."""

    def __init__(self) -> None:
        super().__init__((70, 80, 60), 9)
        self.field = two_balls().astype(np.float32)


def test_every_click_mends_the_largest_error() -> None:
    session = session_on(GRID, Both(), head=head_map(GRID))
    dice = robot_corrections(session, two_balls(), 3, rng=np.random.default_rng(0))
    large, small = (two_balls()[..., part].sum() for part in (slice(0, 80), slice(80, None)))
    assert dice == [0.0, pytest.approx(2 * large / (2 * large + small)), 1.0, 1.0]
    assert [click.lesion for click in session.clicks] == [True, True]


def test_a_hand_that_slips_stays_in_the_axial_slice() -> None:
    found = []
    head = head_map(GRID)
    for seed in (1, 1, 2):
        session = session_on(GRID, Both(), head=head)
        robot_corrections(session, two_balls(), 1, noise_mm=2.0, rng=np.random.default_rng(seed))
        found.append(session.clicks[0].voxel)
    assert found[0] == found[1] != found[2]
    assert {voxel[0] for voxel in found} == {70}
    with pytest.raises(ValueError, match="truth of shape"):
        robot_corrections(session, two_balls()[1:], 1, rng=np.random.default_rng(0))


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


def test_where_nothing_is_wrong_nothing_is_clicked() -> None:
    session = session_on(GRID, Both(), mask=two_balls(), head=head_map(GRID))
    assert robot_corrections(session, two_balls(), 2, rng=np.random.default_rng(0)) == [1.0] * 3
    assert session.clicks == ()
