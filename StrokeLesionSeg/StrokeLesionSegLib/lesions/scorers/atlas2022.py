"""The scorer of the ISLES'22 ATLAS challenge (T1w, ATLAS R2.0)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .common import dice, facts, match_touching, overlap

# Metric to True if higher is better.
METRICS = {
    "dice": True,
    "lesion_f1": True,
    "lesion_count_difference": False,
    "volume_difference_voxels": False,
}


def score(pred: Any, truth: Any, voxel_ml: float, soft: Any = None) -> dict[str, float]:
    """Boolean (K, J, I) masks to metrics: components with 6-connectivity, a true lesion counts as
    found if touched, volumes in **voxels**. The soft map is not used."""
    matches = match_touching(overlap(pred, truth, connectivity=6))
    return {
        "dice": dice(pred, truth),
        "lesion_f1": matches.f1,
        "lesion_count_difference": float(abs(matches.n_pred - matches.n_truth)),
        "volume_difference_voxels": float(abs(np.count_nonzero(pred) - np.count_nonzero(truth))),
        **facts(matches, pred, truth, voxel_ml),
    }
