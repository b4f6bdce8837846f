"""The official scorers by name: ``atlas2022``, ``isles2022`` and ``isles2026``.

Where the three agree: Dice is 1 if both masks are empty and 0 if one is; the lesion-wise F1 is 1
if neither mask has a lesion. On a lesion-free scan one false voxel therefore turns both to 0.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..find import check_affine
from . import atlas2022, isles2022, isles2026
from .agreement import AGREEMENT, agreement, volume_agreement, volume_correlation
from .folders import CaseScore, FolderScores, MaskChoice, ScoreOptions, score_folders
from .summary import summarise_scores
from .values import lesion_mask

#: The official scorers by name: modules with ``METRICS`` and ``score``.
SCORERS: dict[str, ModuleType] = {
    "atlas2022": atlas2022,
    "isles2022": isles2022,
    "isles2026": isles2026,
}

__all__ = [
    "AGREEMENT",
    "SCORERS",
    "CaseScore",
    "FolderScores",
    "MaskChoice",
    "ScoreOptions",
    "agreement",
    "metrics_of",
    "score_case",
    "score_folders",
    "summarise_scores",
    "volume_agreement",
    "volume_correlation",
]


def metrics_of(scorer: str) -> dict[str, bool]:
    """The scorer's official metrics, in order, to True if higher is better.

    Raises ``ValueError`` for an unknown scorer.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import metrics_of
    >>> metrics_of("atlas2022")["dice"]
    True
    """
    if scorer not in SCORERS:
        raise ValueError(f"unknown scorer {scorer!r}; known are {', '.join(SCORERS)}")
    return dict(SCORERS[scorer].METRICS)


def score_case(
    pred: ArrayLike,
    truth: ArrayLike,
    affine: ArrayLike,
    scorer: str,
    soft: ArrayLike | None = None,
    *,
    distances: bool = False,
) -> dict[str, float]:
    """Score one prediction against its reference.

    Parameters
    ----------
    pred, truth: (K, J, I) masks on the same grid, of any one value (1, 255, .9999); for maps of
        labels and soft maps see ``values.lesion_mask``.
    affine: 4x4, (i, j, k, 1) to RAS mm; gives the voxel's volume.
    scorer: ``atlas2022``, ``isles2022`` or ``isles2026``.
    soft: (K, J, I) probabilities, used by ``isles2026`` only; its ``pr_auc`` is NaN without.
    distances: add the measures of ``agreement``, which are no part of any official score.

    Returns the scorer's official metrics (``metrics_of``) first, then the counts and volumes (mL)
    behind them: ``n_pred``, ``n_truth``, ``lesions_found``, ``lesions_false``,
    ``lesions_missed``, ``pred_volume_ml``, ``truth_volume_ml``.

    Raises ``ValueError`` for an unknown scorer, shapes that differ, a probability map or a map of
    labels in place of a mask, a soft map that is not finite, or an unusable affine.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import score_case
    >>> truth = np.zeros((8, 8, 8), np.uint8)
    >>> truth[2:6, 2:6, 2:6] = 1
    >>> scores = score_case(truth, truth, np.eye(4), "atlas2022")
    >>> scores["dice"], scores["lesions_found"]
    (1.0, 1.0)
    """
    metrics_of(scorer)
    matrix = check_affine(affine, "affine")
    pred_mask, reference = _mask("prediction", pred), _mask("reference", truth)
    if pred_mask.shape != reference.shape:
        raise ValueError(f"prediction of shape {pred_mask.shape}, reference {reference.shape}")
    voxel_ml = abs(float(np.linalg.det(matrix[:3, :3]))) / 1000.0
    scores: dict[str, float] = SCORERS[scorer].score(pred_mask, reference, voxel_ml, soft)
    return {**scores, **agreement(pred_mask, reference, matrix)} if distances else scores


def _mask(which: str, values: ArrayLike) -> NDArray[np.bool_]:
    try:
        return lesion_mask(values)[0]
    except ValueError as error:
        raise ValueError(f"the {which} is no mask: {error}") from error
