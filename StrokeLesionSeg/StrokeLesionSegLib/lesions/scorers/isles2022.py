"""The scorer of ISLES'22 (acute and subacute stroke)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .common import dice, facts, match_touching, overlap

# Metric to True if higher is better.
METRICS = {
    "dice": True,
    "lesion_f1": True,
    "lesion_count_difference": False,
    "volume_difference_ml": False,
}


def score(pred: Any, truth: Any, voxel_ml: float, soft: Any = None) -> dict[str, float]:
    """Boolean (K, J, I) masks to metrics: components with 26-connectivity, a true lesion counts
    as found if touched, volumes in mL. The soft map is not used."""
    matches = match_touching(overlap(pred, truth, connectivity=26))
    difference = abs(np.count_nonzero(pred) - np.count_nonzero(truth))
    return {
        "dice": dice(pred, truth),
        "lesion_f1": matches.f1,
        "lesion_count_difference": float(abs(matches.n_pred - matches.n_truth)),
        "volume_difference_ml": float(difference * voxel_ml),
        **facts(matches, pred, truth, voxel_ml),
    }
