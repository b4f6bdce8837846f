"""How well a mask will agree with a rater's, judged from the model's own probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..boxes import bounding_box
from ..calibration import Calibration
from .find import label_components
from .measure import peaks

#: Probabilities below this count as 0: a million voxels of brain at .001 are no missed litre.
FLOOR = 0.05


@dataclass(frozen=True)
class ExpectedDice:
    """The Dice coefficient that a mask is expected to reach, see ``expected_dice``.

    Attributes
    ----------
    value: 0 to 1.
    low, high: the same if every voxel's probability were off by its uncertainty to the mask's
        disadvantage or advantage; None without an uncertainty. No confidence interval: voxels do
        not err all together, so the truth lies in between far more often than not.
    agreement: how much the passes agree with one another on what is lesion, 0 to 1; None without
        an uncertainty.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import expected_dice
    >>> probability = np.full((4, 4, 4), 0.5)
    >>> expected_dice(probability, probability >= 0.5).low is None
    True
    """

    value: float
    low: float | None
    high: float | None
    agreement: float | None


def expected_dice(
    probability_kji: ArrayLike,
    mask_kji: ArrayLike,
    uncertainty_kji: ArrayLike | None = None,
    *,
    floor: float = FLOOR,
    calibration: Calibration | None = None,
) -> ExpectedDice:
    """The Dice coefficient to expect between a mask and a truth that nobody has drawn.

    With probabilities p that are calibrated (by ``calibration``), the expected overlap of the mask
    M with the truth is the sum of p over M, and the expected size of the truth is the sum of p over
    the scan:

        value = 2 sum(p over M) / (|M| + sum(p)),

    a ratio of expectations, also known as the soft Dice of the map with its own mask. An empty
    mask is right if the scan is free of lesions. Each connected piece (26 neighbours) of at least
    ``floor`` may be one, with its highest probability, whatever the others are: the value is then
    the chance that none is, the product of 1 less the highest probabilities; without any piece, 1
    less the highest probability of all.

    With the uncertainty s (``Prediction.uncertainty``), ``agreement`` is
    sum(p^2) / sum(p^2 + s^2): the soft Dice of single passes with their mean if s is their
    standard deviation, and the p-weighted mean of p if s is sqrt(p (1 - p)), as it is after a
    single pass.

    Parameters
    ----------
    probability_kji: (K, J, I) in [0, 1]; NaN counts as 0.
    mask_kji: same shape, not 0 is lesion; it need not be the map at one threshold: what a reader
        rejected or added counts as such.
    uncertainty_kji: same shape, at least 0, or None.
    floor: lower probabilities count as 0 outside of the mask.
    calibration: of the model's probabilities; None: p is taken as it is. The uncertainty is of
        p before it, and is scaled with it.

    It knows nothing that the model does not: lesions which the model misses with certainty lower
    no figure here. Raises ``ValueError`` for shapes that differ, or a floor outside [0, 1).

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import expected_dice
    >>> probability = np.zeros((4, 4, 4))
    >>> probability[0] = 0.8
    >>> round(expected_dice(probability, probability >= 0.5).value, 3)
    0.889
    """
    p = np.asarray(probability_kji, dtype=np.float32)
    mask = np.asarray(mask_kji) != 0
    if p.shape != mask.shape:
        raise ValueError(f"a map of shape {p.shape} for a mask of {mask.shape}")
    if not 0 <= floor < 1:
        raise ValueError(f"the floor must be at least 0 and below 1, not {floor}")
    # Most of a scan is neither: everything below needs the few voxels that are left.
    chosen = mask | (p >= floor)
    inside = mask[chosen]
    q = np.clip(np.nan_to_num(p[chosen].astype(np.float64)), 0.0, 1.0)
    places = _places(p, chosen) if not inside.any() else np.zeros(0, np.int64)
    highest = np.clip(np.nan_to_num(p.reshape(-1)[places].astype(np.float64)), 0.0, 1.0)
    worth = (calibration or Calibration()).of
    weighed = worth(q)
    value = _dice(weighed, weighed, inside, worth(highest))
    if uncertainty_kji is None:
        return ExpectedDice(value, None, None, None)
    uncertainty = np.asarray(uncertainty_kji, dtype=np.float32)
    if uncertainty.shape != p.shape:
        raise ValueError(f"an uncertainty of shape {uncertainty.shape} for a map of {p.shape}")
    s = np.nan_to_num(uncertainty[chosen].astype(np.float64))
    less, more = worth(np.clip(q - s, 0.0, 1.0)), worth(np.clip(q + s, 0.0, 1.0))
    at_peaks = np.nan_to_num(uncertainty.reshape(-1)[places].astype(np.float64))
    low = _dice(less, more, inside, worth(np.minimum(1.0, highest + at_peaks)))
    high = _dice(more, less, inside, worth(np.maximum(0.0, highest - at_peaks)))
    squares = float((q**2).sum())
    total = squares + float((s**2).sum())
    return ExpectedDice(value, low, high, squares / total if total > 0 else 1.0)


def _places(p: NDArray[np.float32], candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where the pieces of ``candidates`` are highest, as places in the flat map; where the map is,
    if there are none. Empty for an empty map."""
    box = bounding_box(candidates)
    if box is None:
        return np.array([int(np.nan_to_num(p).argmax())] if p.size else [], np.int64)
    labels = label_components(candidates[box], connectivity=26)
    offset = [part.start for part in box]
    found = np.array(peaks(p[box], labels, list(range(1, int(labels.max()) + 1)))) + offset
    return np.ravel_multi_index(tuple(found.T), p.shape)


def _dice(
    within: NDArray[np.float64],
    beyond: NDArray[np.float64],
    inside: NDArray[np.bool_],
    highest: NDArray[np.float64],
) -> float:
    """Expected Dice if the truth has ``within`` in the mask and ``beyond`` outside of it; with an
    empty mask, if each of ``highest`` is the chance of a lesion."""
    size = int(np.count_nonzero(inside))
    if size == 0:
        return float(np.prod(1.0 - highest))
    overlap = float(within[inside].sum())
    value = 2 * overlap / (size + overlap + float(beyond[~inside].sum()))
    return value if math.isfinite(value) else 0.0
