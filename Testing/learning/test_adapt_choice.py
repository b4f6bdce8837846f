"""Which operating point and which network between parent and child; lesions carried over."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from adapt_support import tiny_model
from StrokeLesionSegLib.inference.head_box import HEAD_SHAPE
from StrokeLesionSegLib.learning.adapt import choose as choosing
from StrokeLesionSegLib.learning.adapt.choose import between, choose
from StrokeLesionSegLib.learning.adapt.measure import find
from StrokeLesionSegLib.learning.adapt.mixing import RegressionScan, carried
from StrokeLesionSegLib.learning.adapt.tuning import bolder, points_about, scores_at
from StrokeLesionSegLib.learning.heads import save_head
from StrokeLesionSegLib.learning.strokes.anatomy import Head
from StrokeLesionSegLib.lesions.scorers.common import dice
from StrokeLesionSegLib.models import load_model, write_model
from StrokeLesionSegLib.operating_point import OperatingPoint
from torch import nn

POINT = OperatingPoint(0.22, 0.85, 0.1)


def box(*where: slice) -> np.ndarray:
    mask = np.zeros(HEAD_SHAPE, bool)
    mask[where] = True
    return mask


def test_counted_components_say_what_masks_say() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    small = gaussian_filter(rng.normal(size=[n // 4 for n in HEAD_SHAPE]), 1)
    p = np.kron(small, np.ones((4, 4, 4))).astype(np.float32)
    p = np.clip((p - 0.2 * p.max()) / (0.7 * p.max()), 0, 1)
    lesions, counts = p > 0.45, np.ones(HEAD_SHAPE, bool)
    lesions[:80] = False
    counts[:, :60] = False
    points = [*points_about(POINT)[::9], OperatingPoint(0.3, min_mean_probability=0.5)]
    for point, (score, ml) in zip(points, scores_at(points, p, lesions, counts), strict=True):
        mask = find(p, point) & counts
        assert score == pytest.approx(dice(mask, lesions & counts), abs=1e-12)
        assert ml == pytest.approx(mask.sum() / 1000)
    empty = np.zeros(HEAD_SHAPE, np.float32)
    assert scores_at([POINT], empty, lesions & False) == [(1.0, 0.0)]


def test_points_begin_with_the_parents_own() -> None:
    points = points_about(POINT)
    assert points[0] == POINT
    assert len(points) == len(set(points))
    assert all(p.second_threshold is None or p.second_threshold > p.threshold for p in points)


class Answers(nn.Module):
    """Says what its one weight says: a stand-in for a network."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))


def choices(tmp_path: Path, child: float, healthy: float) -> list[choosing.Chosen]:
    """The choices where the parent gives the lesion .5, a child ``child``, and ``healthy`` to a
    spot of a healthy head, times what it gives to lesions."""
    lesion, spot = box(*[slice(60, 70)] * 3), box(*[slice(90, 104)] * 3)

    def ask(network: nn.Module, image: np.ndarray) -> np.ndarray:
        value = float(network.value)  # type: ignore[arg-type]
        p = value * (image == 200) + value * healthy * (image == 100)
        return p.astype(np.float32)

    image = np.where(lesion, 200, 0).astype(np.uint8)
    save_head(tmp_path / "a.npz", Head(image, lesion & False, False, "a", lesion))
    simulated = [
        RegressionScan("own", image, lesion, ~(lesion & False)),
        RegressionScan("healthy", np.where(spot, 100, 0).astype(np.uint8), spot & False, ~spot),
        RegressionScan("healthy", np.where(spot, 100, 0).astype(np.uint8), spot & False, spot),
    ]
    parent, heads = Answers(0.5), [tmp_path / "a.npz"]
    return choose(parent, Answers(child), heads, simulated, POINT, ask)


def chosen(tmp_path: Path, child: float, healthy: float) -> choosing.Chosen:
    """The first of them."""
    return choices(tmp_path, child, healthy)[0]


def test_a_parent_that_was_too_shy_takes_another_point(tmp_path: Path) -> None:
    found = chosen(tmp_path, child=0.5, healthy=0.2)
    assert found.share == 0
    assert found.dice == 1
    assert found.point.second_threshold is None or found.point.second_threshold <= 0.5


def test_a_child_is_taken_where_no_point_of_the_parent_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert chosen(tmp_path, child=1.1, healthy=0.2).share == 0
    monkeypatch.setattr(choosing, "points_about", lambda point: [point])
    found = chosen(tmp_path, child=1.1, healthy=0.2)
    assert (found.share, found.point) == (0.7, POINT)


def test_each_share_that_is_better_has_its_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For those who judge to refuse one of them and take the next."""
    monkeypatch.setattr(choosing, "points_about", lambda point: [point])
    # At .4 of the way the lesion is still missed, which is no better than the parent.
    found = choices(tmp_path, child=1.1, healthy=0.2)
    assert [c.share for c in found] == [0.7, 1.0]
    assert [c.worth for c in found] == pytest.approx([1.0, 1.0])
    assert [round(float(c.network.value), 2) for c in found] == [0.92, 1.1]  # type: ignore[arg-type]


def test_what_is_judged_is_what_is_installed(tmp_path: Path) -> None:
    parent = load_model(tiny_model(tmp_path / "tiny"))
    child = copy.deepcopy(parent.network)
    with torch.no_grad():
        for weights in child.parameters():
            weights.mul_(1.1)
    made = between(parent.network, child, 0.7)
    write_model(tmp_path / "new", parent.manifest.to_dict(), made.state_dict())
    installed = load_model(tmp_path / "new").network.state_dict()
    assert all(torch.equal(tensor, installed[name]) for name, tensor in made.state_dict().items())


def tried(*own: tuple[float, float]) -> choosing._Tried:
    return choosing._Tried(own, simulated=0.5, empty=2, fullest=0.0)


def test_no_scan_of_the_training_part_pays_for_the_others() -> None:
    before = tried((0.7, 5.0), (0.0, 0.0))
    assert tried((0.68, 6.0), (0.0, 0.05)).keeps(before)
    # One falls, though the mean rises; or a lesion is missed as before, and more marked elsewhere.
    fallen = tried((0.6, 9.0), (0.5, 1.0))
    assert fallen.dice > before.dice
    assert not fallen.keeps(before)
    assert not tried((0.9, 5.0), (0.0, 0.5)).keeps(before)
    assert tried((0.9, 5.0), (0.2, 0.5)).keeps(before)


def test_what_falls_counts_twice() -> None:
    before = tried((0.5, 5.0), (0.5, 5.0))
    assert tried((0.52, 5.0), (0.49, 5.0)).worth(before) == pytest.approx(0.0)
    assert tried((0.52, 5.0), (0.5, 5.0)).worth(before) == pytest.approx(0.005)
    assert tried((0.52, 5.0), (0.48, 5.0)).worth(before) < 0


def test_what_was_nearly_marked_in_a_healthy_scan_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert bolder(OperatingPoint(0.3, 0.6)) == OperatingPoint(0.3, 0.5)
    assert bolder(OperatingPoint(0.55, 0.6)) == OperatingPoint(0.55)
    assert bolder(OperatingPoint(0.3)) == OperatingPoint(0.3)
    other = OperatingPoint(0.3, 0.6)
    monkeypatch.setattr(choosing, "points_about", lambda point: [point, other])
    # Less than half of the way to .8 the lesion is at .62. A spot at .50 is far enough from the
    # second threshold; at .56 it is not marked either, and will be in the next scan.
    found = chosen(tmp_path, child=0.8, healthy=0.8)
    assert (found.share, found.point) == (0.4, other)
    assert chosen(tmp_path, child=0.8, healthy=0.9).share == 0


def test_nothing_that_marks_healthy_ones_is_taken(tmp_path: Path) -> None:
    """As certain of the spot as of the lesion: the parent stays as it is."""
    found = chosen(tmp_path, child=0.95, healthy=1.0)
    assert (found.share, found.point, found.dice) == (0.0, POINT, 0.0)


def test_a_lesion_is_carried_with_its_look() -> None:
    lesion = box(slice(60, 72), slice(60, 72), slice(30, 42))
    source = Head(np.where(lesion, 40, 180).astype(np.uint8), lesion & False, False, "a", lesion)
    own = box(slice(100, 110), slice(60, 70), slice(110, 120))
    fluid = box(slice(60, 72), slice(60, 72), slice(118, 121))
    target = Head(np.full(HEAD_SHAPE, 150, np.uint8), fluid, False, "b", own)
    places = set()
    for seed in range(6):
        made = carried(torch.Generator().manual_seed(seed), source, target)
        assert made.lesions is not None
        new = made.lesions & ~own
        assert made.lesions[own].all()
        assert (made.image[own] == 150).all()
        places.add(int(np.argwhere(new)[:, 2].mean()))
        assert made.image[new].min() == 40
        # Nothing but the lesion and what is about it has changed.
        far = np.ones(HEAD_SHAPE, bool)
        far[54:78, 54:78] = False
        assert (made.image[far] == 150).all()
        assert not (new & fluid).any()
    # Where the lesion is, and on the other side, less what is too near to the ventricle.
    assert len(places) == 2
    assert min(places) == 35
    nowhere = Head(target.image, ~own, False, "c", own)
    assert carried(torch.Generator().manual_seed(0), source, nowhere) is nowhere
