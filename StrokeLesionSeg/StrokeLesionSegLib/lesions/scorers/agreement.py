"""Measures that no official scorer of stroke lesions has, but readers of papers expect: distances
of the surfaces, sensitivity and precision by voxels, and how volumes correlate over cases.

Definitions as in Maier-Hein et al. 2024 (Metrics reloaded, Nature Methods 21), at voxel centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...boxes import bounding_box
from ..find import check_affine

#: Measure to True if higher is better.
AGREEMENT = {"sensitivity": True, "precision": True, "hd95_mm": False, "assd_mm": False}


def agreement(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], affine: ArrayLike
) -> dict[str, float]:
    """Sensitivity, precision, and distances between the surfaces of two masks.

    Parameters
    ----------
    pred, truth: (K, J, I) bool on the same grid.
    affine: 4x4, (i, j, k, 1) to RAS mm. Oblique and sheared grids are measured as they lie.

    Returns
    -------
    ``sensitivity``: share of the truth that was found. ``precision``: share of what was found that
    is true. ``hd95_mm``: the larger of the two 95th percentiles of the distances from each surface
    to the other. ``assd_mm``: mean of all these distances. A surface is the mask's voxels with one
    of the six neighbours outside of it. Both masks empty: 1, 1, 0 and 0. One empty: there is no
    distance (NaN), nor sensitivity without a truth and precision without a prediction.

    Raises ``ValueError`` for an unusable affine.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers.agreement import agreement
    >>> truth = np.zeros((8, 8, 8), bool)
    >>> truth[2:6, 2:6, 2:6] = True
    >>> agreement(np.roll(truth, 1, axis=0), truth, np.diag([1, 1, 3, 1]))["hd95_mm"]
    3.0
    """
    matrix = check_affine(affine, "affine")[:3, :3]
    found, true = int(np.count_nonzero(pred)), int(np.count_nonzero(truth))
    both = int(np.count_nonzero(pred & truth))
    if not found and not true:
        return {"sensitivity": 1.0, "precision": 1.0, "hd95_mm": 0.0, "assd_mm": 0.0}
    result = {
        "sensitivity": both / true if true else math.nan,
        "precision": both / found if found else math.nan,
    }
    if not found or not true:
        return {**result, "hd95_mm": math.nan, "assd_mm": math.nan}
    here, there = (_surface_mm(mask, matrix) for mask in (pred, truth))
    ways = [_nearest(here, there), _nearest(there, here)]
    hd95 = max(float(np.percentile(way, 95)) for way in ways)
    return {**result, "hd95_mm": hd95, "assd_mm": float(np.concatenate(ways).mean())}


def volume_correlation(pred_ml: Sequence[float], truth_ml: Sequence[float]) -> float | None:
    """Pearson's correlation of the volumes over cases; None for fewer than three, or if one of the
    two is the same in all.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers.agreement import volume_correlation
    >>> volume_correlation([1, 2, 3], [2, 4, 6])
    1.0
    """
    a, b = (np.asarray(values, np.float64) for values in (pred_ml, truth_ml))
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 12)


def volume_agreement(
    pred_ml: Sequence[float], truth_ml: Sequence[float]
) -> dict[str, float | None]:
    """How far the volumes (mL) of many cases agree, after Bland and Altman 1986 (Lancet 327).

    ``correlation``: Pearson's (``volume_correlation``). ``bias_ml``: mean of prediction minus
    reference. ``limit_low_ml``, ``limit_high_ml``: the limits of agreement, 1.96 standard
    deviations (of a sample) around it, within which 95 % of the differences would lie if they were
    normal. None where there are too few cases: one for the bias, two for the limits.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers.agreement import volume_agreement
    >>> volume_agreement([2, 3], [1, 2])["bias_ml"]
    1.0
    """
    difference = np.asarray(pred_ml, np.float64) - np.asarray(truth_ml, np.float64)
    bias = float(difference.mean()) if len(difference) else None
    low = high = None
    if bias is not None and len(difference) > 1:
        reach = 1.96 * float(difference.std(ddof=1))
        low, high = bias - reach, bias + reach
    correlation = volume_correlation(pred_ml, truth_ml)
    return {"correlation": correlation, "bias_ml": bias, "limit_low_ml": low, "limit_high_ml": high}


def _surface_mm(mask: NDArray[np.bool_], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) RAS mm, but for a shift, of the voxels on the surface of ``mask``."""
    from scipy import ndimage

    box = bounding_box(mask)
    assert box is not None
    # What lies beyond the scan is outside of the mask.
    padded = np.pad(mask[box], 1)
    kji = np.argwhere(padded & ~ndimage.binary_erosion(padded)) - 1 + [part.start for part in box]
    return np.asarray(kji[:, ::-1] @ matrix.T, np.float64)


def _nearest(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(others).query(points)[0])
