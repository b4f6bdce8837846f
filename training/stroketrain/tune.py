"""``stroketrain tune``: the operating point of a model, from validation scans alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.operating_point import OperatingPoint

from .evaluate import Case

LOWS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
HIGHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
VOLUMES_ML = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class Tried:
    """An operating point and what it gives: mean Dice over scans with lesions, and the share of
    the others that it leaves empty."""

    point: OperatingPoint
    dice: float
    empty: float

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **self.point.as_dict(),
            "dice": round(self.dice, 4),
            "empty": round(self.empty, 4),
        }


@dataclass(frozen=True, eq=False)
class _Components:
    """The components of one case at one low threshold, each with size, peak and overlap."""

    sizes: np.ndarray
    peaks: np.ndarray
    hits: np.ndarray
    truth: int
    voxel_ml: float

    __repr__ = brief_repr

    @staticmethod
    def of(case: Case, low: float) -> _Components:
        # The same 26-connected components as find_lesions.
        labels, n = ndimage.label(case.probability >= low, np.ones((3, 3, 3)))
        inside = np.flatnonzero(labels)
        owner = labels.reshape(-1)[inside]
        peaks = np.zeros(n + 1)
        np.maximum.at(peaks, owner, case.probability.reshape(-1)[inside])
        return _Components(
            sizes=np.bincount(owner, minlength=n + 1),
            peaks=peaks,
            hits=np.bincount(owner, weights=case.truth.reshape(-1)[inside] > 0, minlength=n + 1),
            truth=int((case.truth > 0).sum()),
            voxel_ml=abs(float(np.linalg.det(case.affine[:3, :3]))) / 1000,
        )

    def result(self, high: float, smallest: float) -> tuple[float, bool]:
        """Volume Dice (1 where truth and mask are empty), and whether nothing is marked."""
        keep = (self.peaks >= high) & (self.sizes * self.voxel_ml >= smallest) & (self.sizes > 0)
        marked = int(self.sizes[keep].sum())
        if marked + self.truth == 0:
            return 1.0, True
        return 2 * float(self.hits[keep].sum()) / (marked + self.truth), marked == 0


def search_operating_points(cases: Sequence[Case]) -> list[Tried]:
    """Every setting of the grid on the cases: mean Dice over those with lesion, share of the
    others that is left empty (1 if there are none).

    Raises ``InputError`` where no case has a lesion: every setting would be as good.
    """
    if not any((case.truth > 0).any() for case in cases):
        raise InputError("tune", "no scan has a lesion to find", "Add a tree with lesions")
    table = []
    for low in LOWS:
        found = [_Components.of(case, low) for case in cases]
        sick, well = [f for f in found if f.truth], [f for f in found if not f.truth]
        for high in (low, *(h for h in HIGHS if h > low)):
            for smallest in VOLUMES_ML:
                dice = [f.result(high, smallest)[0] for f in sick]
                empty = [f.result(high, smallest)[1] for f in well]
                table.append(
                    Tried(
                        OperatingPoint.at(low, high, smallest),
                        float(np.mean(dice)) if dice else 0.0,
                        float(np.mean(empty)) if empty else 1.0,
                    )
                )
    return table


def choose_operating_point(table: Sequence[Tried], quiet: float = 0.85) -> Tried:
    """The best Dice among the settings that leave at least the share ``quiet`` of the lesion-free
    scans empty; if none does, among the quietest."""
    wanted = min(quiet, max(tried.empty for tried in table))
    return max((t for t in table if t.empty >= wanted), key=lambda t: t.dice)
