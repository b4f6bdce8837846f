"""What is said of the voxels around clicks, against the plain way to work it out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from StrokeLesionSegLib.editing.clues import CLUES, REACH_MM, Connected, Tissue, clues, reach_of
from StrokeLesionSegLib.editing.judge import Judge, before_judging
from StrokeLesionSegLib.editing.spread import Evidence, Spread
from StrokeLesionSegLib.editing.types import extents

SHAPE = (60, 71, 65)
WHOLE = tuple(slice(0, n) for n in SHAPE)
BOX = (slice(20, 41), slice(15, 50), slice(7, 40))
CLICKS = [
    Evidence((30.0, 34.0, 31.0), True, -2.0),
    Evidence((38.0, 30.0, 28.0), True, -1.0),
    Evidence((20.0, 44.0, 33.0), False, 3.0),
]


def t1(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random(SHAPE)
    return (0.3 + 0.5 * gaussian_filter(noise, 2) / gaussian_filter(noise, 2).max()).astype("f4")


def said(image, evidence, box, *, mirrored=True, answered=None) -> tuple[dict, np.ndarray]:
    shape = [p.stop - p.start for p in box]
    rng = np.random.default_rng(1)
    model = rng.normal(size=SHAPE).astype("f4")[box]
    answer = rng.normal(size=SHAPE).astype("f4")[box]
    answered = np.zeros(shape, bool) if answered is None else answered[box]
    tissue = Tissue(image, mirrored)
    whole_model = rng.normal(size=SHAPE).astype("f4")
    joined = [Connected(tissue, e.place, lambda b: whole_model[b]) for e in evidence]
    stack, distance = clues(
        tissue, evidence, joined, Spread(image, evidence), box, model, answer, answered
    )
    return dict(zip(CLUES, stack, strict=True)), distance


def test_distances_and_the_nearest_clicks():
    image = t1()
    got, distance = said(image, CLICKS, BOX)
    kji = np.stack(np.meshgrid(*(np.arange(p.start, p.stop) for p in BOX), indexing="ij"), -1)
    away = [np.linalg.norm(kji - np.array(e.place)[::-1], axis=-1) for e in CLICKS]
    np.testing.assert_allclose(got["to_positive"] * 10, np.minimum(*away[:2]), atol=1e-3)
    np.testing.assert_allclose(got["to_second_positive"] * 10, np.maximum(*away[:2]), atol=1e-3)
    np.testing.assert_allclose(got["to_negative"] * 10, away[2], atol=1e-3)
    np.testing.assert_allclose(distance, np.min(away, axis=0), atol=1e-3)
    first = away[0] < away[1]
    apart = np.linalg.norm(np.subtract(CLICKS[0].place, CLICKS[1].place)) / 10
    np.testing.assert_allclose(got["positive_to_positive"], apart, atol=1e-4)
    np.testing.assert_array_equal(got["model_at_positive"], np.where(first, -2.0, -1.0))
    fine = gaussian_filter(image, 1.0, truncate=3.0)
    levels = [fine[31, 34, 30], fine[28, 30, 38], fine[33, 44, 20]]
    above = (fine[BOX] - np.where(first, *levels[:2])) / 0.1
    np.testing.assert_allclose(got["above_positive"], above, atol=1e-3)
    np.testing.assert_allclose(got["unlike_positive"], np.abs(above), atol=1e-3)
    np.testing.assert_allclose(got["above_negative"], (fine[BOX] - levels[2]) / 0.1, atol=1e-3)


def test_any_box_holds_a_part_of_the_whole():
    image = t1(2)
    far = [*CLICKS, Evidence((3.0, 68.0, 2.0), True, -3.0)]
    answered = np.random.default_rng(3).random(SHAPE) < 0.3
    whole, distance = said(image, far, WHOLE, answered=answered)
    for box in (BOX, (slice(31, 32), slice(0, 71), slice(0, 65)), (slice(59, 60),) * 3):
        part, near = said(image, far, box, answered=answered)
        for name in CLUES:
            np.testing.assert_allclose(part[name], whole[name][box], atol=2e-4, err_msg=name)
        np.testing.assert_allclose(near, distance[box], atol=1e-3)


def test_a_bright_wall_on_the_way_is_seen():
    image = np.full(SHAPE, 0.4, np.float32)
    image[:, 38:42] = 0.8
    got, _ = said(image, CLICKS[:1], WHOLE, mirrored=False)
    # Before the wall nothing is brighter, behind it something is.
    assert abs(got["brighter_between"][31, 30, 30]) < 0.05
    assert got["brighter_between"][31, 50, 30] > 2.5
    assert got["darker_between"].max() < 0.05
    assert got["asymmetry"].max() == got["asymmetry"].min() == 0


def test_the_other_half_of_the_brain():
    image = np.full(SHAPE, 0.6, np.float32)
    image[20:40, 20:40, 44:60] = 0.4
    got, _ = said(image, CLICKS[:1], WHOLE)
    assert got["asymmetry"][30, 30, 52] < -1.5
    assert got["asymmetry"][30, 30, SHAPE[2] - 1 - 52] > 1.5
    np.testing.assert_allclose(got["asymmetry"], -got["asymmetry"][..., ::-1], atol=1.1)


def test_reach_is_cut_to_the_volume():
    assert reach_of(np.array([1.0, 2.0, 59.0]), SHAPE) == (
        slice(59 - REACH_MM, 60), slice(0, 3 + REACH_MM), slice(0, 2 + REACH_MM),
    )  # fmt: skip
    beyond = reach_of(np.array([1.0, 2.0, 59.0 + REACH_MM + 5]), SHAPE)
    assert any(p.start >= p.stop for p in beyond)


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = len(CLUES)
    shapes = {"weight1": (6, n), "bias1": (6,), "weight2": (5, 6), "bias2": (5,)}
    shapes |= {"weight3": (1, 5), "bias3": (1,), "mean": (n,)}
    made = {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    return made | {"scale": rng.uniform(0.5, 2, n).astype("f4")}


def test_the_judge_is_the_perceptron_that_was_trained():
    import torch

    weights = tensors()
    image = t1(4)
    stack, distance = (lambda got, d: (np.stack(list(got.values())), d))(*said(image, CLICKS, BOX))
    x = torch.from_numpy(stack.reshape(len(CLUES), -1).T)
    x = (x - torch.from_numpy(weights["mean"])) / torch.from_numpy(weights["scale"])
    assert (x.abs() > 4).any()
    x = x.clip(-4, 4)
    for n in (1, 2, 3):
        x = x @ torch.from_numpy(weights[f"weight{n}"]).T + torch.from_numpy(weights[f"bias{n}"])
        x = torch.relu(x) if n < 3 else x
    fade = np.clip((REACH_MM - distance) / 10, 0, 1)
    wanted = before_judging(stack) + fade * x[:, 0].numpy().reshape(distance.shape)
    np.testing.assert_allclose(Judge(weights).odds(stack, distance), wanted, atol=2e-3)


def test_the_judge_is_silent_out_of_reach():
    stack = np.zeros((len(CLUES), 1, 1, 3), np.float32)
    stack[0] = -1.5
    distance = np.array([[[0.0, REACH_MM - 1e-3, REACH_MM]]], np.float32)
    odds = Judge(tensors(1)).odds(stack, distance)[0, 0]
    assert odds[0] != -1.5
    assert odds[1:] == pytest.approx(-1.5, abs=1e-2)


def test_weights_that_do_not_fit_are_refused():
    wrong = tensors() | {"weight1": np.zeros((6, 3), np.float32)}
    with pytest.raises(ValueError, match="layer 1"):
        Judge(wrong)


def test_the_shipped_judge_fits_and_obeys():
    """Like tissue beside a click follows it, whichever way it says."""
    image = np.full(SHAPE, 0.7, np.float32)
    image[22:42, 24:44, 22:40] = 0.35
    for positive, before in ((True, -2.0), (False, 2.0)):
        one = [Evidence((30.0, 34.0, 31.0), positive, before)]
        shape = [p.stop - p.start for p in BOX]
        model = np.full(shape, before, np.float32)
        tissue = Tissue(image, False)
        joined = [Connected(tissue, one[0].place, lambda b, n=before: np.full(extents(b), n, "f4"))]
        stack, distance = clues(
            tissue, one, joined, Spread(image, one), BOX, model, model, np.zeros(shape, bool)
        )
        odds = Judge.shipped().odds(stack, distance)
        at = tuple(n - p.start for n, p in zip((31, 34, 30), BOX, strict=True))
        assert (odds[at] > 0) == positive
        assert np.isfinite(odds).all()
