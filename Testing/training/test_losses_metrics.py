"""Losses, schedules and metrics against formulas written out and numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.networks import build_network

pytest.importorskip("lightning")
pytest.importorskip("monai")
from stroketrain.metrics import PixelCurves, scan_scores, slice_scores, summarise_scans
from stroketrain.papers.losses import LOSSES, build_loss, cascade_loss
from stroketrain.papers.schedules import rate_factor, relative_swing


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 6, 5, generator=g)
    return logits, (torch.rand(3, 1, 6, 5, generator=g) > 0.7).float()


def counts(logits: torch.Tensor, mask: torch.Tensor) -> tuple[float, float, float]:
    p = torch.sigmoid(logits)
    tp, fp, fn = (p * mask).sum(), (p * (1 - mask)).sum(), ((1 - p) * mask).sum()
    return float(tp), float(fp), float(fn)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.5, 0.5), (0.3, 0.7)])
def test_tversky_is_the_papers_equation(pair, a: float, b: float) -> None:
    tp, fp, fn = counts(*pair)
    got = build_loss({"name": "tversky", "a": a, "b": b})(*pair)
    assert float(got) == pytest.approx(1 - (tp + 1) / (tp + a * fp + b * fn + 1), abs=1e-6)


def test_soft_dice_with_smooth_one_over_the_batch(pair) -> None:
    tp, fp, fn = counts(*pair)
    dice = (2 * tp + 1) / (2 * tp + fp + fn + 1)
    assert float(build_loss({"name": "dice"})(*pair)) == pytest.approx(1 - dice, abs=1e-6)
    logits, mask = pair
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
    both = float(build_loss({"name": "dice_ce"})(*pair))
    assert both == pytest.approx(1 - dice + float(entropy), abs=1e-6)


def test_weighted_cross_entropy_is_equation_2_with_its_sign_and_mean(pair) -> None:
    logits, mask = pair
    p = torch.sigmoid(logits.double())
    expected = -(10 * mask * p.log() + (1 - mask) * (1 - p).log()).mean()
    got = build_loss({"name": "weighted_ce", "positive_weight": 10})(logits, mask)
    assert float(got) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_falls_towards_the_truth(pair, name: str) -> None:
    loss = build_loss({"name": name})
    logits, mask = pair
    logits = logits.clone().requires_grad_()
    good, bad = 8 * (2 * mask - 1), -8 * (2 * mask - 1)
    assert loss(good, mask) < loss(logits, mask) < loss(bad, mask)
    loss(logits, mask).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


def test_deep_levels_weigh_less_and_less() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1  # halves exactly at every level
    loss = build_loss({"name": "dice"})
    full = 9 * (2 * mask - 1)
    half = -9 * (2 * mask[..., ::2, ::2] - 1)
    single = float(loss(half, mask[..., ::2, ::2]))
    assert float(loss((full, half), mask)) == pytest.approx(
        float(loss(full, mask)) + 0.5 * single, abs=1e-5
    )


def test_losses_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="unknown loss 'hinge'"):
        build_loss({"name": "hinge"})
    with pytest.raises(InputError, match="tversky"):
        build_loss({"name": "tversky", "gamma": 2})


def test_cascade_learns_slice_box_and_mask() -> None:
    torch.manual_seed(0)
    network = build_network(
        {
            "name": "cascade",
            "filters": [4, 6, 8],
            "mask_filters": [4, 6],
            "crop": [16, 16],
            "dropout": 0.0,
        }
    )
    mask = torch.zeros(6, 1, 32, 32)
    for n in range(4):
        mask[n, 0, 4 + 4 * n : 12 + 4 * n, 18 - 4 * n : 28 - 4 * n] = 1
    x = mask + 0.05 * torch.randn(mask.shape)
    pixels = build_loss({"name": "dice_ce"})
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        g = torch.Generator().manual_seed(step)
        loss = cascade_loss(g, network, x, mask, pixels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.4 * losses[0]
    empty = cascade_loss(torch.Generator(), network, x[4:], mask[4:], pixels)
    assert torch.isfinite(empty)


def test_schedules() -> None:
    assert [rate_factor({"name": "constant"}, p) for p in (0, 0.5, 1)] == [1, 1, 1]
    two = {"name": "two_stage", "switch": 0.5, "drop": 0.2}
    assert [rate_factor(two, p) for p in (0, 0.49, 0.5, 1)] == [1, 1, 0.2, 0.2]
    assert rate_factor({"name": "poly"}, 0.5) == pytest.approx(0.5**0.9)
    assert rate_factor({"name": "poly"}, 1) == 0
    cosine = [rate_factor({"name": "cosine"}, p / 100) for p in range(101)]
    assert cosine[0] < 0.01
    assert max(cosine) > 0.99
    assert cosine[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(cosine[4:]))
    with pytest.raises(InputError, match="unknown schedule"):
        rate_factor({"name": "step"}, 0)
    with pytest.raises(InputError, match="two_stage"):
        rate_factor({"name": "two_stage", "power": 1}, 0)


def test_losses_reckon_in_float32() -> None:
    """A batch's sums in bfloat16 lose what a few pixels add."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.randn(4, 1, 64, 64, generator=g).bfloat16()
    mask = (torch.rand(4, 1, 64, 64, generator=g) > 0.97).float()
    for name in ("dice", "tversky", "weighted_ce", "dice_ce"):
        loss = build_loss({"name": name})
        assert float(loss(coarse, mask)) == float(loss(coarse.float(), mask))
        assert float(loss((coarse, coarse), mask)) == float(loss((coarse.float(),) * 2, mask))


def test_relative_swing() -> None:
    assert relative_swing([0.1, 0.5, 0.4, 0.45]) == pytest.approx(0.8)
    assert relative_swing([0.1, 0.5, 0.4, 0.45], last=3) == pytest.approx(0.2)
    assert relative_swing([0.3]) is None
    assert relative_swing([0.0, 0.0]) is None


@pytest.fixture
def masks() -> tuple[np.ndarray, np.ndarray]:
    """Four slices: half right, missed, invented, both empty."""
    pred, truth = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    truth[0, 0, :2] = pred[0, 0, 1:3] = True
    truth[1, 3, 3] = True
    pred[2, 0, 0] = True
    return pred, truth


def test_slices_by_hand(masks) -> None:
    found = slice_scores(*masks)
    np.testing.assert_allclose(found["slice_dice"], [0.5, 0, 0, np.nan])
    np.testing.assert_allclose(found["slice_iou"], [1 / 3, 0, 0, np.nan])
    np.testing.assert_allclose(found["lesion_slice_dice"], [0.5, 0, np.nan, np.nan])


def test_a_scan_by_hand(masks) -> None:
    row = scan_scores(masks[0].astype(float), masks[1])
    assert row["volume_dice"] == pytest.approx(2 / 6)
    assert row["volume_iou"] == pytest.approx(1 / 5)
    assert row["slice_dice"] == pytest.approx(0.5 / 3)
    assert row["lesion_slice_dice"] == pytest.approx(0.25)
    assert (row["tp"], row["fp"], row["fn"]) == (1, 2, 2)
    # Three predicted: none; truth has two lesions, one is touched. With 6 neighbours the invented
    # voxel of slice 2 is one more lesion.
    assert row["lesion_f1_isles2022"] == pytest.approx(1 / (1 + (1 + 1) / 2))


def test_volume_slice_and_pooled_differ_and_are_named() -> None:
    big, small = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    big[:] = True
    small[0, 0, 0] = True
    none = np.zeros((2, 4, 4), bool)
    rows = [
        scan_scores(big.astype(float), big),
        scan_scores(none.astype(float), small),
        scan_scores(none.astype(float), none),
        scan_scores(small.astype(float), none),
    ]
    quick = scan_scores(big.astype(float), small, lesionwise=False)
    whole = scan_scores(big.astype(float), small)
    assert quick == {k: v for k, v in whole.items() if not k.startswith("lesion_f1")}
    assert "lesion_f1_isles2022" not in summarise_scans([quick])
    found = summarise_scans(rows)
    assert (found["scans"], found["lesion_free"]) == (4, 2)
    assert found["volume_dice"] == pytest.approx(0.5)
    assert found["pooled_dice"] == pytest.approx(2 * 32 / (33 + 33))
    assert found["slice_dice"] == pytest.approx((1 + 1 + 0 + 0) / 4)
    assert found["lesion_slice_dice"] == pytest.approx(2 / 3)
    assert found["empty_share"] == pytest.approx(0.5)


def test_curves_agree_with_ranks() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) > 0.7
    probability = np.round(np.clip(0.3 * truth + 0.7 * rng.random(400), 0, 1), 2)
    curves = PixelCurves()
    for part in range(4):
        chosen = slice(100 * part, 100 * part + 100)
        curves.update(torch.from_numpy(probability[chosen]), torch.from_numpy(truth[chosen]))
    found = curves.compute()
    p, n = probability[truth], probability[~truth]
    ranks = (p[:, None] > n).mean() + 0.5 * (p[:, None] == n).mean()
    assert found["auc"] == pytest.approx(ranks, abs=0.01)
    guess = probability > 0.5
    assert found["precision"] == pytest.approx((guess & truth).sum() / guess.sum())
    assert found["recall"] == pytest.approx((guess & truth).sum() / truth.sum())
    empty = PixelCurves()
    empty.update(torch.zeros(5), torch.zeros(5))
    assert math.isnan(empty.compute()["auc"])
