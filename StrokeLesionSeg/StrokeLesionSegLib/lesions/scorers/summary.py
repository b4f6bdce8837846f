"""What the scores of many cases add up to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .agreement import AGREEMENT, volume_agreement


def summarise_scores(
    cases: Sequence[dict[str, float]], scorer: str, *, seed: int = 0, resamples: int = 10_000
) -> dict[str, Any]:
    """Mean, median and the mean's bootstrap 95 % interval over cases, for every official metric,
    and for the measures of ``agreement`` where the cases have them; of the volumes over all cases,
    how far they agree (``volume_agreement``).

    ``cases`` are dicts of ``score_case``. Values that are NaN (no soft map or surface) are left
    out, and ``n`` says how many remained. Lesion-free references are also reported apart, with the
    share of predictions that are exactly empty. The same seed gives the same interval.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import score_case
    >>> from StrokeLesionSegLib.lesions.scorers import summarise_scores
    >>> mask = np.ones((4, 4, 4), np.uint8)
    >>> case = score_case(mask, mask, np.eye(4), "atlas2022")
    >>> summarise_scores([case], "atlas2022")["metrics"]["dice"]["mean"]
    1.0
    """
    from . import metrics_of

    result: dict[str, Any] = {"scorer": scorer, "n": len(cases), "seed": seed, "metrics": {}}
    shown = metrics_of(scorer)
    if cases and all(name in case for case in cases for name in AGREEMENT):
        shown |= AGREEMENT
    for name, higher in shown.items():
        values = np.array([c[name] for c in cases if not math.isnan(c[name])], dtype=np.float64)
        low, high = bootstrap_interval(values, seed=seed, resamples=resamples)
        result["metrics"][name] = {
            "n": len(values),
            "mean": float(values.mean()) if len(values) else None,
            "median": float(np.median(values)) if len(values) else None,
            "ci95_low": low,
            "ci95_high": high,
            "higher_is_better": higher,
        }
    result["volumes"] = volume_agreement(
        [c["pred_volume_ml"] for c in cases], [c["truth_volume_ml"] for c in cases]
    )
    free = [c for c in cases if c["n_truth"] == 0]
    empty = sum(c["n_pred"] == 0 for c in free)
    result["lesion_free"] = {
        "n": len(free),
        "exactly_empty": empty,
        "share_exactly_empty": empty / len(free) if free else None,
    }
    return result


def bootstrap_interval(
    values: NDArray[np.float64], *, seed: int = 0, resamples: int = 10_000
) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean: percentile bootstrap of ``resamples`` draws.

    (None, None) for fewer than two values, of which no interval can be had.
    """
    if len(values) < 2:
        return None, None
    from scipy import stats

    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        # Thousands of cases times all resamples at once would be hundreds of megabytes.
        batch=max(1, 1_000_000 // len(values)),
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
