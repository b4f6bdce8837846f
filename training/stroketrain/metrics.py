"""Metrics of both papers, each labelled by what it is a mean of (PAPERS.md A11, B4).

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
    probability: np.ndarray,
    truth: np.ndarray,
    voxel_mm: float = 1.0,
    threshold: float = 0.5,
    *,
    lesionwise: bool = True,
) -> dict[str, float]:
    """All numbers of one scan, (K, J, I) probabilities and mask on one grid.

    ``voxel_mm`` is the edge of a cubic voxel. Lesion-wise F1 is the Lib's, by all three scorers,
    and left out without ``lesionwise``: it takes longer than all the rest. The means over slices
    are NaN if no slice is non-empty.
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
    for scorer in SCORERS if lesionwise else ():
        scores[f"lesion_f1_{scorer}"] = score_case(pred, true, affine, scorer)["lesion_f1"]
    return scores


class PixelCurves:
    """AUC, precision and recall over all pixels seen, in bounded memory.

    Pixels are counted by their probability in ``BINS`` steps, apart for lesion and not: a
    validation set has a hundred million of them. Within a step they count as tied, which leaves
    the AUC right to about 1/BINS. Precision and recall are at .5, exactly. torchmetrics would
    compare every pixel with each of the thousand steps, one pass over the data for each.
    """

    BINS = 1000

    def __init__(self) -> None:
        self.counts = torch.zeros(2, self.BINS, dtype=torch.int64)
        self.above = torch.zeros(2, dtype=torch.int64)

    def update(self, probability: Tensor, truth: Tensor) -> None:
        """Any shape, probabilities in [0, 1] and a 0/1 truth, on one device."""
        p, t = probability.flatten().float(), (truth.flatten() > 0).long()
        steps = (p * self.BINS).long().clamp(0, self.BINS - 1) + self.BINS * t
        self.counts += torch.bincount(steps, minlength=2 * self.BINS).view(2, -1).cpu()
        self.above += torch.bincount(t[p > 0.5], minlength=2).cpu()

    def add(self, others: Iterable[PixelCurves]) -> None:
        """Count what other processes saw as well."""
        for other in others:
            self.counts += other.counts
            self.above += other.above

    def compute(self) -> dict[str, float]:
        """``auc`` is NaN where only one class was seen, of which no curve can be had."""
        healthy, lesion = self.counts.double()
        pairs = float(healthy.sum() * lesion.sum())
        # Pairs in which the lesion's pixel ranks higher; half of those in the same step.
        higher = float((lesion * (healthy.cumsum(0) - 0.5 * healthy)).sum())
        false, true = (float(v) for v in self.above)
        total = float(lesion.sum())
        return {
            "auc": higher / pairs if pairs else float("nan"),
            "precision": true / (true + false) if true + false else 0.0,
            "recall": true / total if total else 0.0,
        }


def summarise_scans(rows: Iterable[dict[str, float]]) -> dict[str, Any]:
    """Means over scans, means over slices, and pooled; lesion-free scans apart.

    ``volume_dice`` and ``volume_iou`` are means over scans with lesion; ``empty_share`` is the
    share of lesion-free scans that stay exactly empty. Lesion-wise F1 only where the rows have it.
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
        key = f"lesion_f1_{scorer}"
        if any(key in row for row in rows):
            summary[key] = mean(key, sick)
    return summary


def probability_of(logits: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Probabilities from a network's logits; of a deeply supervised one at full resolution."""
    full = logits[0] if isinstance(logits, tuple) else logits
    return torch.sigmoid(full.float())
