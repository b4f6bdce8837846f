"""What clicks say of their surroundings: obeyed where they are, fading with distance and tissue."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from StrokeLesionSegLib.editing.spread import Evidence, Spread, log_odds

WHOLE = (slice(0, 60), slice(0, 70), slice(0, 64))
MIDDLE = (30.0, 34.0, 31.0)  # ijk


def tissue(seed: int = 0) -> np.ndarray:
    """Two kinds, one on each side of j = 40, with texture."""
    t1 = np.full((60, 70, 64), 0.7, np.float32)
    t1[:, 40:] = 0.35
    noise = np.random.default_rng(seed).normal(0, 0.02, t1.shape)
    return (t1 + noise).astype(np.float32)


def at(field: np.ndarray, ijk) -> float:
    return float(field[tuple(int(n) for n in ijk[::-1])])


@pytest.mark.parametrize("positive", [True, False])
def test_a_click_turns_its_place_and_fades_with_distance(positive: bool):
    sign = 1 if positive else -1
    spread = Spread(tissue(), [Evidence(MIDDLE, positive, -2.0 * sign)])
    push = sign * spread.push(WHOLE)
    # Up to the margin, but for the click's own error.
    assert 4.0 < at(push, MIDDLE) < 4.5
    along = [at(push, (30 + d, 34, 31)) for d in (0, 4, 8, 12, 20, 28)]
    assert all(a > b for a, b in itertools.pairwise(along))
    assert along[1] > 2.5
    assert along[-1] < 0.1
    # As far away, but of the other tissue: only what lies close is taken along.
    assert at(push, (30, 34 + 10, 31)) < 0.3 * at(push, (30, 34 - 10, 31))
    far = np.linalg.norm(np.indices(push.shape).T - np.array([31, 34, 30])[[0, 1, 2]], axis=-1).T
    assert not push[far > 54].any()


def test_a_click_on_what_is_so_already_changes_nothing():
    spread = Spread(tissue(), [Evidence(MIDDLE, True, 3.0), Evidence((10, 10, 10), False, -4.0)])
    assert not spread.push(WHOLE).any()
    assert spread.box == (slice(0, 0),) * 3
    assert not Spread(tissue(), []).push(WHOLE).any()


def test_clicks_that_say_the_same_do_not_add_up():
    one = Spread(tissue(), [Evidence(MIDDLE, True, -2.0)]).push(WHOLE)
    many = [Evidence(tuple(np.add(MIDDLE, (d, 0, 0))), True, -2.0) for d in (0, 1, -1, 2)]
    four = Spread(tissue(), many).push(WHOLE)
    assert at(four, MIDDLE) < 1.1 * at(one, MIDDLE)


def test_each_of_two_clicks_against_each_other_has_its_place():
    other = tuple(np.add(MIDDLE, (9, 0, 0)))
    push = Spread(tissue(), [Evidence(MIDDLE, True, -1.0), Evidence(other, False, 1.0)]).push(WHOLE)
    assert at(push, MIDDLE) > 2.5
    assert at(push, other) < -2.5


def test_the_mean_of_a_gaussian_process():
    """Against the textbook's formula, written out for every voxel at once."""
    t1 = tissue(3)
    blurred = gaussian_filter(t1, 1.0)
    rng = np.random.default_rng(1)
    places = [tuple(float(n) for n in p) for p in rng.integers(8, 56, (5, 3))]
    evidence = [Evidence(p, n % 2 == 0, float(rng.normal())) for n, p in enumerate(places)]
    spread = Spread(t1, evidence)
    wanted = np.array([2.5 if e.positive else -2.5 for e in evidence])
    lack = wanted - np.array([e.before for e in evidence])
    lack[lack * wanted <= 0] = 0
    x = np.array(places)
    t = np.array([at(blurred, p) for p in places])

    def kernel(a, ta, b, tb):
        square = ((a[:, None] - b[None]) ** 2).sum(-1)
        alike = np.exp(-((ta[:, None] - tb[None]) ** 2) / (2 * 0.1**2))
        return 0.6 * np.exp(-square / 200) * alike + 0.4 * np.exp(-square / 32)

    voxels = rng.integers(0, 60, (300, 3)).astype(float)
    values = np.array([at(blurred, v) for v in voxels])
    mean = kernel(voxels, values, x, t) @ np.linalg.inv(kernel(x, t, x, t) + 0.05 * np.eye(5))
    got = spread.push(WHOLE)
    # Cut off at 30 mm along each axis.
    near = (np.abs(voxels[:, None] - x[None]) <= 30).all(-1)
    kept = kernel(voxels, values, x, t) * near
    wanted_mean = kept @ np.linalg.solve(kernel(x, t, x, t) + 0.05 * np.eye(5), lack)
    np.testing.assert_allclose([at(got, v) for v in voxels], wanted_mean, atol=2e-4)
    np.testing.assert_allclose(mean @ lack, wanted_mean, atol=0.15)


def test_any_box_holds_a_part_of_the_whole():
    evidence = [Evidence(MIDDLE, True, -3.0), Evidence((5.0, 60.0, 50.0), False, 1.0)]
    spread = Spread(tissue(), evidence)
    whole = spread.push(WHOLE)
    for box in (
        (slice(31, 32), slice(0, 70), slice(0, 64)),
        (slice(0, 60), slice(3, 4), slice(0, 64)),
        (slice(20, 41), slice(25, 70), slice(7, 9)),
    ):
        np.testing.assert_allclose(spread.push(box), whole[box], atol=1e-5)
    inside = np.zeros(whole.shape, bool)
    inside[spread.box] = True
    assert not whole[~inside].any()


def test_log_odds_are_0_at_the_cut_and_bounded():
    p = np.array([0.0, 0.1, 0.3, 1.0], np.float32)
    odds = log_odds(p, 0.1)
    assert odds[1] == pytest.approx(0, abs=1e-5)
    assert odds[2] == pytest.approx(np.log(0.3 / 0.7) - np.log(0.1 / 0.9), abs=1e-5)
    assert np.isfinite(odds).all()
    assert (np.diff(odds) > 0).all()


def test_a_place_beside_the_volume_is_borne():
    push = Spread(tissue(), [Evidence((-5.0, 34.0, 31.0), True, -1.0)]).push(WHOLE)
    assert push[31, 34, 0] > 0.5
    assert not Spread(tissue(), [Evidence((-300.0, 0.0, 0.0), True, -1.0)]).push(WHOLE).any()
