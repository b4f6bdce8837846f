"""What the official scorers share: masks, Dice, components, matching rules, precision-recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...boxes import bounding_box
from ...brief import brief_repr
from ..find import label_components


@dataclass(frozen=True)
class Matches:
    """Lesion-wise outcome: components of truth and prediction, found, false and missed ones."""

    n_pred: int
    n_truth: int
    tp: int
    fp: int
    fn: int

    @property
    def f1(self) -> float:
        """tp / (tp + (fp + fn) / 2); 1 if there is no lesion in either mask."""
        if self.n_pred == 0 and self.n_truth == 0:
            return 1.0
        return self.tp / (self.tp + (self.fp + self.fn) / 2)


def dice(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2 |P and T| / (|P| + |T|); 1 if both are empty."""
    total = np.count_nonzero(pred) + np.count_nonzero(truth)
    if total == 0:
        return 1.0
    return 2 * np.count_nonzero(pred & truth) / total


@dataclass(frozen=True, eq=False)
class Overlap:
    """Components of two masks and how many voxels each pair shares.

    Attributes
    ----------
    pred_sizes, truth_sizes: voxels of the components 1, 2, ... in order.
    truth_index, pred_index, shared: for every pair that shares voxels its two components
        (counted from 0) and the number of voxels; sorted by truth, then by prediction.
    """

    pred_sizes: NDArray[np.int64]
    truth_sizes: NDArray[np.int64]
    truth_index: NDArray[np.int64]
    pred_index: NDArray[np.int64]
    shared: NDArray[np.int64]

    __repr__ = brief_repr


def overlap(pred: NDArray[np.bool_], truth: NDArray[np.bool_], connectivity: int) -> Overlap:
    """Label both masks with connectivity 6, 18 or 26 and count the shared voxels."""
    none = np.zeros(0, dtype=np.int64)
    box = bounding_box(pred | truth)
    if box is None:
        return Overlap(none, none, none, none, none)
    p = label_components(pred[box], connectivity)
    t = label_components(truth[box], connectivity)
    pred_sizes = np.bincount(p[p > 0], minlength=1)[1:]
    truth_sizes = np.bincount(t[t > 0], minlength=1)[1:]
    both = (p > 0) & (t > 0)
    width = len(pred_sizes) + 1
    pairs, shared = np.unique(t[both].astype(np.int64) * width + p[both], return_counts=True)
    return Overlap(pred_sizes, truth_sizes, pairs // width - 1, pairs % width - 1, shared)


def match_touching(pair: Overlap) -> Matches:
    """A true component is found if one voxel of the prediction touches it; a predicted component
    is false if it touches no true one."""
    found = len(np.unique(pair.truth_index))
    touching = len(np.unique(pair.pred_index))
    n_pred, n_truth = len(pair.pred_sizes), len(pair.truth_sizes)
    return Matches(n_pred, n_truth, found, n_pred - touching, n_truth - found)


def match_one_to_one(pair: Overlap, numerator: int = 1, denominator: int = 4) -> Matches:
    """Each true component is matched with at most one predicted one and the other way round.

    Pairs whose intersection over union is at least ``numerator / denominator`` are taken by
    falling IoU, ties by the components' order, as panoptica's ``NaiveThresholdMatching`` does.
    Whole numbers decide the threshold, so that equality is equality.
    """
    union = pair.truth_sizes[pair.truth_index] + pair.pred_sizes[pair.pred_index] - pair.shared
    good = np.flatnonzero(pair.shared * denominator >= union * numerator)
    good = good[np.argsort(-(pair.shared[good] / union[good]), kind="stable")]
    truths: set[int] = set()
    preds: set[int] = set()
    for n in good:
        t, p = int(pair.truth_index[n]), int(pair.pred_index[n])
        if t not in truths and p not in preds:
            truths.add(t)
            preds.add(p)
    tp, n_pred, n_truth = len(truths), len(pair.pred_sizes), len(pair.truth_sizes)
    return Matches(n_pred, n_truth, tp, n_pred - tp, n_truth - tp)


def precision_recall_areas(soft: ArrayLike, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Area under the precision-recall curve of a soft map, and its average precision.

    The first joins the points of the curve by straight lines (trapezoids), from recall 0 at
    precision 1 on, as ``sklearn.metrics.auc`` of ``precision_recall_curve`` does; the second adds
    steps, as ``average_precision_score`` does. Every distinct value is a threshold.

    On an empty truth both are 1 if the map is constant and 0 otherwise.

    Raises ``ValueError`` if shapes differ or the map holds values that are not finite.
    """
    values = np.asarray(soft)
    if values.shape != truth.shape:
        raise ValueError(f"soft map of shape {values.shape} for a mask of {truth.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the soft map holds values that are not finite")
    positives = values[truth]
    if positives.size == 0:
        area = 1.0 if values.size == 0 or values.min() == values.max() else 0.0
        return area, area
    # Below the lowest value in a lesion recall is 1 already and nothing is added, so the bulk of
    # the background need not be sorted.
    lowest = positives.min()
    ranked = np.sort(values[values > lowest], axis=None)
    positives = np.sort(positives)
    first = np.ones(len(ranked), dtype=bool)
    first[1:] = ranked[1:] != ranked[:-1]
    starts = np.flatnonzero(first)
    # Selected voxels at the thresholds from the highest value down to the lowest one.
    selected = np.append((len(ranked) - starts)[::-1], np.count_nonzero(values >= lowest))
    below = np.searchsorted(positives, ranked[starts], side="left")
    found = np.append((len(positives) - below)[::-1], len(positives))
    precision = np.concatenate(([1.0], found / selected))
    recall = np.concatenate(([0.0], found / len(positives)))
    step = np.diff(recall)
    trapezoid = float(np.sum(step * (precision[1:] + precision[:-1]) / 2))
    return trapezoid, float(np.sum(step * precision[1:]))


def facts(matches: Matches, pred: NDArray, truth: NDArray, voxel_ml: float) -> dict[str, float]:
    """The counts behind a score, under the names that all scorers use; volumes in mL."""
    return {
        "n_pred": float(matches.n_pred),
        "n_truth": float(matches.n_truth),
        "lesions_found": float(matches.tp),
        "lesions_false": float(matches.fp),
        "lesions_missed": float(matches.fn),
        "pred_volume_ml": float(np.count_nonzero(pred) * voxel_ml),
        "truth_volume_ml": float(np.count_nonzero(truth) * voxel_ml),
    }
