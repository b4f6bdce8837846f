"""The scorer of ISLES'26 (T1w stroke of all phases, ATLAS R3.0)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .common import dice, facts, match_one_to_one, overlap, precision_recall_areas

# Metric to True if higher is better.
METRICS = {
    "dice": True,
    "lesion_f1": True,
    "lesion_count_difference": False,
    "volume_difference_ml": False,
    "pr_auc": True,
}


def score(pred: Any, truth: Any, voxel_ml: float, soft: Any = None) -> dict[str, float]:
    """Boolean (K, J, I) masks and a soft map to metrics: components with 26-connectivity,
    matched one to one at an IoU of at least .25 (panoptica's recognition quality), volumes in mL,
    area under the precision-recall curve by trapezoids. ``average_precision`` is a supplement and
    no metric of the challenge. Both areas are NaN without a soft map."""
    matches = match_one_to_one(overlap(pred, truth, connectivity=26))
    difference = abs(np.count_nonzero(pred) - np.count_nonzero(truth))
    area, average = (math.nan, math.nan) if soft is None else precision_recall_areas(soft, truth)
    return {
        "dice": dice(pred, truth),
        "lesion_f1": matches.f1,
        "lesion_count_difference": float(abs(matches.n_pred - matches.n_truth)),
        "volume_difference_ml": float(difference * voxel_ml),
        "pr_auc": area,
        "average_precision": average,
        **facts(matches, pred, truth, voxel_ml),
    }
