"""Metrics of both papers, each labelled by what it is a mean of (papers.md A11, B4).

``slice_*``   mean over slices whose prediction or truth is non-empty (B4)
``lesion_slice_dice``  mean over slices whose truth is non-empty (the BeSt-LeS yardstick)
``volume_*``  of a whole scan; both empty counts 1, one empty 0
``pooled_*``  all voxels of all scans as if they were one
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from StrokeLesionSegLib.lesions.scorers import score_case
from torch import Tensor
from torchmetrics.classification import BinaryAUROC, BinaryPrecision, BinaryRecall

SCORERS = ("atlas2022", "isles2022", "isles2026")


def slice_scores(pred: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Dice and IoU of each slice (first axis) of two masks; NaN where both are empty.

    ``lesion_slice_dice`` is NaN wherever the truth is empty.
    """
    axes = tuple(range(1, pred.ndim))
    both = np.count_nonzero(pred & truth, axis=axes).astype(float)
    p = np.count_nonzero(pred, axis=axes).astype(float)
    t = np.count_nonzero(truth, axis=axes).astype(float)
    with np.errstate(invalid="ignore"):
        dice = 2 * both / (p + t)
        iou = both / (p + t - both)
    return {
        "slice_dice": dice,
        "slice_iou": iou,
        "lesion_slice_dice": np.where(t > 0, dice, np.nan),
    }


def _overlap(both: float, p: float, t: float) -> tuple[float, float]:
    if p + t == 0:
        return 1.0, 1.0
    return 2 * both / (p + t), both / (p + t - both)


def scan_scores(
    probability: np.ndarray, truth: np.ndarray, voxel_mm: float = 1.0, threshold: float = 0.5
) -> dict[str, float]:
    """All numbers of one scan, (K, J, I) probabilities and mask on one grid.

    ``voxel_mm`` is the edge of a cubic voxel. Lesion-wise F1 is the Lib's, by all three scorers;
    the means over slices are NaN if no slice is non-empty.
    """
    pred, true = probability > threshold, truth > 0
    both = float(np.count_nonzero(pred & true))
    p, t = float(np.count_nonzero(pred)), float(np.count_nonzero(true))
    dice, iou = _overlap(both, p, t)
    scores = {"volume_dice": dice, "volume_iou": iou, "tp": both, "fp": p - both, "fn": t - both}
    for name, values in slice_scores(pred, true).items():
        known = values[~np.isnan(values)]
        scores[name] = float(known.mean()) if len(known) else float("nan")
        scores[f"{name}_n"] = float(len(known))
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    for scorer in SCORERS:
        scores[f"lesion_f1_{scorer}"] = score_case(pred, true, affine, scorer)["lesion_f1"]
    return scores


class PixelCurves:
    """AUC, precision and recall over all pixels seen (torchmetrics), in bounded memory."""

    def __init__(self) -> None:
        # 200 thresholds instead of every value: a validation set has a hundred million pixels.
        self.auc = BinaryAUROC(thresholds=200)
        self.precision = BinaryPrecision()
        self.recall = BinaryRecall()

    def update(self, probability: Tensor, truth: Tensor) -> None:
        """Any shape, probabilities in [0, 1] and a 0/1 truth."""
        p, t = probability.flatten().float().cpu(), (truth.flatten() > 0).int().cpu()
        for metric in (self.auc, self.precision, self.recall):
            metric.update(p, t)

    def compute(self) -> dict[str, float]:
        """``auc`` is NaN where only one class was seen, of which no curve can be had."""
        seen = self.precision
        classes = bool(seen.tp + seen.fn > 0) and bool(seen.fp + seen.tn > 0)
        return {
            "auc": float(self.auc.compute()) if classes else float("nan"),
            "precision": float(self.precision.compute()),
            "recall": float(self.recall.compute()),
        }


def summarise_scans(rows: Iterable[dict[str, float]]) -> dict[str, Any]:
    """Means over scans, means over slices, and pooled; lesion-free scans apart.

    ``volume_dice`` and ``volume_iou`` are means over scans with lesion; ``empty_share`` is the
    share of lesion-free scans that stay exactly empty.
    """
    rows = list(rows)
    sick = [r for r in rows if r["tp"] + r["fn"] > 0]
    well = [r for r in rows if r["tp"] + r["fn"] == 0]

    def mean(key: str, chosen: list[dict[str, float]]) -> float:
        values = [r[key] for r in chosen if not np.isnan(r[key])]
        return float(np.mean(values)) if values else float("nan")

    def over_slices(key: str) -> float:
        counted = [(r[key], r[f"{key}_n"]) for r in rows if r[f"{key}_n"] > 0]
        total = sum(n for _, n in counted)
        return sum(v * n for v, n in counted) / total if total else float("nan")

    tp, fp, fn = (sum(r[key] for r in rows) for key in ("tp", "fp", "fn"))
    pooled_dice, pooled_iou = _overlap(tp, tp + fp, tp + fn)
    summary = {
        "scans": len(rows),
        "lesion_free": len(well),
        "volume_dice": mean("volume_dice", sick),
        "volume_iou": mean("volume_iou", sick),
        "pooled_dice": pooled_dice,
        "pooled_iou": pooled_iou,
        "empty_share": mean("volume_dice", well),
    }
    for key in ("slice_dice", "slice_iou", "lesion_slice_dice"):
        summary[key] = over_slices(key)
    for scorer in SCORERS:
        summary[f"lesion_f1_{scorer}"] = mean(f"lesion_f1_{scorer}", sick)
    return summary


def probability_of(logits: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Probabilities from a network's logits; of a deeply supervised one at full resolution."""
    full = logits[0] if isinstance(logits, tuple) else logits
    return torch.sigmoid(full.float())
