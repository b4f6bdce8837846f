"""The three official scorers against phantoms worked out by hand, and against independent code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from StrokeLesionSegLib.lesions.scorers import SCORERS, metrics_of, score_case
from StrokeLesionSegLib.lesions.scorers.common import (
    match_one_to_one,
    overlap,
    precision_recall_areas,
)

MM = np.eye(4)
ALL = sorted(SCORERS)


def empty(shape=(12, 12, 12)) -> np.ndarray:
    return np.zeros(shape, dtype=np.uint8)


def box(*slices: slice | int) -> np.ndarray:
    mask = empty()
    mask[slices] = 1
    return mask


# ------------------------------------------------------------------------------- common rules


def test_names_and_metrics():
    assert ALL == ["atlas2022", "isles2022", "isles2026"]
    for scorer in ALL:
        soft = np.linspace(0, 1, 12**3).reshape(12, 12, 12)
        scores = score_case(box(1, 1, 1), box(1, 1, 1), MM, scorer, soft)
        assert list(scores)[: len(metrics_of(scorer))] == list(metrics_of(scorer))
        assert all(type(v) is float for v in scores.values())
    with pytest.raises(ValueError, match="unknown scorer"):
        score_case(empty(), empty(), MM, "isles2030")


@pytest.mark.parametrize("scorer", ALL)
def test_empty_masks(scorer):
    volume = next(m for m in metrics_of(scorer) if m.startswith("volume"))
    unit = 1.0 if scorer == "atlas2022" else 0.001
    lesion = box(slice(2, 4), 2, slice(2, 5))  # six voxels, one component
    both = score_case(empty(), empty(), MM, scorer)
    assert (both["dice"], both["lesion_f1"]) == (1, 1)
    assert (both["lesion_count_difference"], both[volume]) == (0, 0)
    for pred, truth in ((lesion, empty()), (empty(), lesion)):
        one = score_case(pred, truth, MM, scorer)
        assert (one["dice"], one["lesion_f1"]) == (0, 0)
        assert one["lesion_count_difference"] == 1
        assert one[volume] == pytest.approx(6 * unit)


@pytest.mark.parametrize("scorer", ALL)
def test_perfect_prediction(scorer):
    truth = box(slice(2, 4), 2, slice(2, 5)) | box(8, 8, 8)
    scores = score_case(truth, truth, MM, scorer, truth.astype(np.float32))
    for name, higher in metrics_of(scorer).items():
        assert scores[name] == (1 if higher else 0)


def test_dice_by_hand_and_sums_of_booleans():
    truth, pred = empty(), empty()
    truth[:, :, :6] = 1  # 864 voxels: a sum that stayed boolean or 8-bit would be far off
    pred[:, :, 3:9] = 1
    for kind in (bool, np.uint8, np.float32):
        scores = score_case(pred.astype(kind), truth.astype(kind), MM, "isles2022")
        assert scores["dice"] == 2 * 432 / (864 + 864)
        assert scores["pred_volume_ml"] == pytest.approx(0.864)


@pytest.mark.parametrize(
    ("scorer", "count"), [("atlas2022", 3), ("isles2022", 1), ("isles2026", 1)]
)
def test_diagonal_touching_is_one_lesion_for_26_and_several_for_6(scorer, count):
    truth = box(2, 2, 2) | box(3, 3, 3) | box(3, 4, 4)  # by a corner, then by an edge
    scores = score_case(empty(), truth, MM, scorer)
    assert scores["n_truth"] == count
    assert scores["lesion_count_difference"] == count
    assert scores["lesions_missed"] == count


def test_volumes():
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    affine[0, 1] = 1.0  # sheared: the determinant stays 3 mm3
    pred, truth = box(2, 2, slice(0, 10)), box(2, 2, slice(0, 4))
    assert score_case(pred, truth, affine, "atlas2022")["volume_difference_voxels"] == 6
    for scorer in ("isles2022", "isles2026"):
        scores = score_case(pred, truth, affine, scorer)
        assert scores["volume_difference_ml"] == pytest.approx(0.018)
        assert score_case(truth, pred, affine, scorer)["volume_difference_ml"] == pytest.approx(
            0.018
        )


# -------------------------------------------------------------------------- the touching rule


@pytest.mark.parametrize("scorer", ["atlas2022", "isles2022"])
def test_one_voxel_is_enough_and_one_prediction_may_find_several(scorer):
    truth = box(2, 2, slice(1, 4)) | box(2, 2, slice(6, 9)) | box(9, 9, 9)
    bridge = box(2, 2, slice(3, 7))  # touches the first two by one voxel each
    false = box(6, 6, 6)
    scores = score_case(bridge | false, truth, MM, scorer)
    assert scores["lesions_found"] == 2
    assert scores["lesions_false"] == 1
    assert scores["lesions_missed"] == 1
    assert scores["lesion_f1"] == 2 / (2 + (1 + 1) / 2)
    assert scores["lesion_count_difference"] == 1


@pytest.mark.parametrize("scorer", ["atlas2022", "isles2022"])
def test_several_predictions_in_one_lesion_are_one_finding(scorer):
    truth = box(2, 2, slice(1, 9))
    pred = box(2, 2, 1) | box(2, 2, 4) | box(2, 2, 8)
    scores = score_case(pred, truth, MM, scorer)
    assert (scores["lesions_found"], scores["lesions_false"]) == (1, 0)
    assert scores["lesion_f1"] == 1
    assert scores["lesion_count_difference"] == 2


@pytest.mark.parametrize("scorer", ["atlas2022", "isles2022"])
def test_being_next_to_a_lesion_is_not_touching_it(scorer):
    truth, pred = box(2, 2, slice(1, 4)), box(2, 2, slice(4, 7))
    scores = score_case(pred, truth, MM, scorer)
    assert scores["lesion_f1"] == 0
    assert (scores["lesions_false"], scores["lesions_missed"]) == (1, 1)


# ------------------------------------------------------------------------- the IoU .25 matching


@pytest.mark.parametrize(
    ("shared", "pred_size", "truth_size", "matched"),
    [
        (1, 1, 4, True),  # 1/4: equality counts
        (4, 10, 10, True),  # 4/16: equality counts
        (1, 1, 5, False),
        (3, 9, 7, False),  # 3/13
        (30, 100, 100, False),  # IoU .176 but Dice .30: the threshold is on IoU
    ],
)
def test_the_edge_of_the_threshold(shared, pred_size, truth_size, matched):
    truth, pred = (np.zeros((1, 1, 200), dtype=np.uint8) for _ in range(2))
    truth[0, 0, :truth_size] = 1
    pred[0, 0, truth_size - shared : truth_size - shared + pred_size] = 1
    scores = score_case(pred, truth, MM, "isles2026")
    assert scores["lesion_f1"] == (1 if matched else 0)
    assert scores["lesions_found"] == matched
    # Voxel-wise Dice does not care whether lesions match.
    assert scores["dice"] == pytest.approx(2 * shared / (pred_size + truth_size))


def test_a_bridge_finds_only_one_of_two_lesions():
    truth = box(slice(2, 5), slice(2, 5), slice(2, 5)) | box(slice(6, 9), slice(2, 5), slice(2, 5))
    pred = box(slice(2, 9), slice(2, 5), slice(2, 5))
    # Both IoUs are 27/63 = .43.
    scores = score_case(pred, truth, MM, "isles2026")
    assert (scores["lesions_found"], scores["lesions_false"], scores["lesions_missed"]) == (1, 0, 1)
    assert scores["lesion_f1"] == 1 / 1.5
    swapped = score_case(truth, pred, MM, "isles2026")
    assert (swapped["lesions_found"], swapped["lesions_false"]) == (1, 1)
    assert score_case(pred, truth, MM, "isles2022")["lesion_f1"] == 1


def test_the_better_pair_is_taken_first():
    # One true lesion of 10 voxels; two predictions with IoU 3/10 and 4/10 inside it.
    truth = np.zeros((1, 1, 12), dtype=np.uint8)
    truth[..., :10] = 1
    pred = np.zeros_like(truth)
    pred[..., 0:3] = pred[..., 5:9] = 1
    pair = overlap(pred > 0, truth > 0, 26)
    assert sorted(pair.shared.tolist()) == [3, 4]
    result = match_one_to_one(pair)
    assert (result.tp, result.fp, result.fn) == (1, 1, 0)


def chain() -> tuple[np.ndarray, np.ndarray]:
    """IoU .545 of the first prediction with the second truth, .279 with the first, .262 of the
    second prediction with the second truth: best first leaves one pair, any other order two."""
    truth, pred = (np.zeros((1, 1, 60), dtype=np.uint8) for _ in range(2))
    truth[..., 0:12] = truth[..., 13:55] = 1
    pred[..., 0:43] = pred[..., 44:55] = 1
    return pred, truth


def test_pairs_are_taken_by_falling_iou():
    pred, truth = chain()
    scores = score_case(pred, truth, MM, "isles2026")
    assert (scores["n_pred"], scores["n_truth"], scores["lesions_found"]) == (2, 2, 1)
    assert scores["lesion_f1"] == 0.5


def test_small_true_lesion_in_a_big_prediction_is_not_found():
    truth = box(2, 2, 2)
    pred = box(slice(1, 4), slice(1, 4), slice(1, 4))
    assert score_case(pred, truth, MM, "isles2026")["lesion_f1"] == 0  # IoU 1/27
    assert score_case(pred, truth, MM, "isles2022")["lesion_f1"] == 1


@pytest.fixture(scope="module")
def panoptica_score():
    """Recognition quality and counts from panoptica, set up as ISLES'26 describes."""
    panoptica = pytest.importorskip("panoptica", reason="panoptica, the witness, is not installed")
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=0.25),
    )

    def score(pred, truth):
        result = evaluator.evaluate(pred.astype(np.uint8), truth.astype(np.uint8), verbose=False)
        result = next(iter(result.values())) if isinstance(result, dict) else result
        return result

    return score


def lumpy(rng: np.random.Generator, shape=(14, 15, 16)) -> np.ndarray:
    """Several boxes of 1 to 5 voxels' edge."""
    mask = np.zeros(shape, dtype=np.uint8)
    for _ in range(int(rng.integers(1, 7))):
        corner = [int(rng.integers(0, n - 1)) for n in shape]
        edge = rng.integers(1, 6, size=3)
        mask[tuple(slice(c, c + int(e)) for c, e in zip(corner, edge, strict=True))] = 1
    return mask


def test_recognition_quality_against_panoptica(panoptica_score):
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = lumpy(rng)
        # Half of the predictions are the truth, moved: the interesting IoUs lie there.
        pred = np.roll(truth, int(rng.integers(0, 4)), axis=int(rng.integers(0, 3)))
        if seed % 2:
            pred = pred | lumpy(rng)
        ours = score_case(pred, truth, MM, "isles2026")
        theirs = panoptica_score(pred, truth)
        assert ours["n_pred"] == theirs.n_pred_instances
        assert ours["n_truth"] == theirs.n_ref_instances
        counts = (ours["lesions_found"], ours["lesions_false"], ours["lesions_missed"])
        assert counts == (theirs.tp, theirs.fp, theirs.fn), seed
        assert ours["lesion_f1"] == pytest.approx(float(theirs.rq))
        seen.add(round(ours["lesion_f1"], 3))
    assert len(seen) > 8  # not only zeros and ones


def test_panoptica_agrees_on_equality_order_and_diagonals(panoptica_score):
    truth, pred = box(2, 2, slice(2, 6)), box(2, 2, 5)
    assert panoptica_score(pred, truth).rq == 1
    assert panoptica_score(*chain()).rq == 0.5
    corner = box(2, 2, 2) | box(3, 3, 3)
    assert panoptica_score(corner, corner).n_ref_instances == 1


# -------------------------------------------------------------------------------------- PR-AUC


def test_pr_auc_by_hand():
    truth = np.array([1, 0, 1, 0]).reshape(1, 1, 4) > 0
    soft = np.array([0.9, 0.8, 0.7, 0.1]).reshape(1, 1, 4)
    # Points (recall, precision): (0, 1), (1/2, 1), (1/2, 1/2), (1, 2/3)
    area, average = precision_recall_areas(soft, truth)
    assert area == pytest.approx(0.5 * 1 + 0.5 * (1 / 2 + 2 / 3) / 2)
    assert average == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    scores = score_case(truth, truth, MM, "isles2026", soft)
    assert scores["pr_auc"] == area
    assert scores["average_precision"] == average


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 0.99),
    st.sampled_from([2, 5, 1000]),
    st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_pr_auc_against_sklearn(seed, share, levels, kind):
    """With many ties (few levels) and without, including maps that are constant on the lesion."""
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(seed)
    truth = rng.random((3, 5, 7)) < share
    if not truth.any():
        truth[1, 1, 1] = True
    soft = (rng.integers(0, levels, truth.shape) / levels).astype(kind)
    soft[truth] = np.maximum(soft[truth], soft.astype(kind)[::-1, ::-1, ::-1][truth])
    area, average = precision_recall_areas(soft, truth)
    flat, scores = truth.ravel(), soft.astype(np.float64).ravel()
    precision, recall, _ = metrics.precision_recall_curve(flat, scores)
    assert area == pytest.approx(metrics.auc(recall, precision), abs=1e-12)
    assert average == pytest.approx(metrics.average_precision_score(flat, scores), abs=1e-12)


def test_pr_auc_on_an_empty_truth_is_one_only_for_a_constant_map():
    nothing = empty()
    for value in (0.0, 0.3):
        constant = np.full(nothing.shape, value, dtype=np.float32)
        assert score_case(nothing, nothing, MM, "isles2026", constant)["pr_auc"] == 1
    almost = np.zeros(nothing.shape, dtype=np.float32)
    almost[5, 5, 5] = 1e-6
    assert score_case(nothing, nothing, MM, "isles2026", almost)["pr_auc"] == 0


def test_pr_auc_of_a_constant_map_with_a_lesion():
    truth = box(2, 2, slice(0, 6))
    soft = np.zeros(truth.shape)
    scores = score_case(empty(), truth, MM, "isles2026", soft)
    assert scores["pr_auc"] == pytest.approx((1 + 6 / 12**3) / 2)


def test_pr_auc_only_sees_the_order():
    rng = np.random.default_rng(1)
    truth = rng.random((6, 7, 8)) < 0.2
    soft = rng.random(truth.shape)
    assert precision_recall_areas(soft, truth) == precision_recall_areas(
        1 / (1 + np.exp(3 - 7 * soft)), truth
    )


def test_without_a_soft_map_pr_auc_is_unknown_and_others_never_look():
    truth = box(2, 2, 2)
    assert math.isnan(score_case(truth, truth, MM, "isles2026")["pr_auc"])
    bad = np.full(truth.shape, np.nan)
    assert "pr_auc" not in score_case(truth, truth, MM, "isles2022", bad)
    with pytest.raises(ValueError, match="not finite"):
        score_case(truth, truth, MM, "isles2026", bad)
    with pytest.raises(ValueError, match="soft map of shape"):
        score_case(truth, truth, MM, "isles2026", bad[:3])


# ------------------------------------------------------------------------------ masks as found


def test_masks_of_any_type_and_value():
    truth = box(2, 2, slice(2, 6))
    for mask in (truth * 255, truth * 0.9999, truth.astype(bool), truth.astype(np.int16)):
        assert score_case(truth, mask, MM, "isles2022")["dice"] == 1
        assert score_case(mask, truth, MM, "isles2022")["dice"] == 1


def test_a_probability_map_is_no_prediction():
    truth = box(2, 2, 2)
    with pytest.raises(ValueError, match="probability map"):
        score_case(np.full(truth.shape, 0.2), truth, MM, "isles2022")
    with pytest.raises(ValueError, match="reference"):
        score_case(truth[1:], truth, MM, "isles2022")
    with pytest.raises(ValueError, match="three axes"):
        score_case(truth[0], truth[0], MM, "isles2022")


def test_a_mirrored_prediction_scores_what_it_deserves():
    truth = box(slice(2, 6), slice(2, 6), slice(1, 5))
    assert score_case(truth[:, :, ::-1], truth, MM, "isles2026")["dice"] == 0


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ALL))
def test_symmetry_and_invariance(seed, scorer):
    """Swapping the roles keeps Dice and differences; turning both images changes nothing."""
    rng = np.random.default_rng(seed)
    pred, truth = lumpy(rng, (8, 9, 10)), lumpy(rng, (8, 9, 10))
    a, b = score_case(pred, truth, MM, scorer), score_case(truth, pred, MM, scorer)
    for name in metrics_of(scorer):
        if name.startswith(("dice", "lesion_count", "volume")):
            assert a[name] == b[name]
    assert 0 <= a["dice"] <= 1
    assert 0 <= a["lesion_f1"] <= 1
    assert a["lesions_found"] + a["lesions_missed"] == a["n_truth"]
    if scorer == "isles2026":
        # IoU ties could be broken the other way round in a turned image, so only those rules
        # that have no ties are held to be invariant.
        return
    for axes, flip in itertools.product(((0, 2, 1), (2, 0, 1)), (1, -1)):
        turned = score_case(pred.transpose(axes)[::flip], truth.transpose(axes)[::flip], MM, scorer)
        assert {k: turned[k] for k in metrics_of(scorer)} == {k: a[k] for k in metrics_of(scorer)}
