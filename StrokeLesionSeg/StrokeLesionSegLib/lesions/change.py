"""What became of the lesions of a person between two scans: new, grown, shrunken, gone and so on.

Lesions of the two scans that touch are one group: where a lesion falls into two pieces, or two run
into one, volumes of pieces compare to nothing. Volumes are measured on each scan's own voxels, of
what both scans cover.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import bounding_box

NEW, GONE, GROWN, SHRUNKEN, UNCHANGED = "new", "gone", "grown", "shrunken", "unchanged"
MERGED, SPLIT, NOT_COVERED = "merged", "split", "not covered"
#: The classes of a group of lesions, in the order of a table.
CLASSES = (NEW, GROWN, MERGED, SPLIT, UNCHANGED, SHRUNKEN, GONE, NOT_COVERED)
#: The least change that is none of two scans on one day, mL: ``REPEAT_ML`` and ``REPEAT_SHARE`` of
#: the mean volume; see docs/compare.md.
REPEAT_ML = 0.3
REPEAT_SHARE = 0.15
_CENTRE = ("centre_r_mm", "centre_a_mm", "centre_s_mm")
# Lesions that are less than half covered by the other scan are not compared.
_LEAST_COVERED = 0.5

#: The columns of change.tsv.
CHANGE_COLUMNS: dict[str, str] = {
    "group": "Number of the group of touching lesions, largest first",
    "class": "new, grown, merged, split, unchanged, shrunken, gone or not covered (by the other "
    "scan)",
    "lesions_a": "Numbers of its lesions in the first scan's table",
    "lesions_b": "Numbers of its lesions in the second scan's table",
    "volume_a_ml": "Volume in the first scan, of what both cover",
    "volume_b_ml": "Volume in the second scan, of what both cover",
    "change_ml": "Second minus first; n/a if it is not covered",
    "change_percent": "The same in percent of the first",
    "repeat_noise_ml": "Change that two scans on one day can show",
    "beyond_noise": "Whether the change is larger than that",
    "not_covered_ml": "Volume in either scan that lies outside the other's field",
    "side": "left, right or both (the patient's), as in the lesions' tables",
    "centre_r_mm": "Centre of mass towards right, RAS coordinates of the first scan",
    "centre_a_mm": "Centre of mass towards anterior",
    "centre_s_mm": "Centre of mass towards superior",
}


@dataclass(frozen=True)
class GroupChange:
    """One group of lesions that touch, in either scan or both.

    Attributes
    ----------
    number: 1 for the largest. kind: one of ``CLASSES``.
    lesions_a, lesions_b: numbers of the lesions in either scan.
    a_ml, b_ml: their volumes, of what both scans cover. not_covered_ml: the rest.
    side: "left", "right", "both", or "". centre_mm: of mass, RAS mm of the first scan; None if it
    is not known.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import GroupChange
    >>> group = GroupChange(1, "grown", (1,), (1,), 4.0, 6.0, 0.0, "left")
    >>> group.change_ml, round(group.noise_ml, 2), group.beyond_noise
    (2.0, 1.05, True)
    """

    number: int
    kind: str
    lesions_a: tuple[int, ...]
    lesions_b: tuple[int, ...]
    a_ml: float
    b_ml: float
    not_covered_ml: float
    side: str = ""
    centre_mm: tuple[float, float, float] | None = None

    @property
    def change_ml(self) -> float:
        """Second minus first."""
        return self.b_ml - self.a_ml

    @property
    def noise_ml(self) -> float:
        """Change that two scans on one day can show."""
        return repeat_noise_ml(self.a_ml, self.b_ml)

    @property
    def beyond_noise(self) -> bool:
        return abs(self.change_ml) > self.noise_ml

    def row(self) -> dict[str, Any]:
        """By the names of ``CHANGE_COLUMNS``."""
        known = self.kind != NOT_COVERED
        return {
            "group": self.number,
            "class": self.kind,
            "lesions_a": ",".join(map(str, self.lesions_a)) or None,
            "lesions_b": ",".join(map(str, self.lesions_b)) or None,
            "volume_a_ml": self.a_ml,
            "volume_b_ml": self.b_ml,
            "change_ml": self.change_ml if known else None,
            "change_percent": 100 * self.change_ml / self.a_ml if known and self.a_ml else None,
            "repeat_noise_ml": self.noise_ml,
            "beyond_noise": self.beyond_noise if known else None,
            "not_covered_ml": self.not_covered_ml,
            "side": self.side or None,
            **dict(zip(_CENTRE, self.centre_mm or (None,) * 3, strict=True)),
        }


def repeat_noise_ml(a_ml: float, b_ml: float) -> float:
    """Change in mL that two scans on one day can show of a lesion of these volumes.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import repeat_noise_ml
    >>> repeat_noise_ml(10, 10)
    1.8
    """
    return REPEAT_ML + REPEAT_SHARE * (a_ml + b_ml) / 2


def total_change_ml(groups: Iterable[GroupChange]) -> float:
    """Second minus first of all groups, of what both scans cover.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.change import GroupChange, total_change_ml
    >>> total_change_ml([GroupChange(1, "grown", (1,), (1,), 4.0, 6.0, 0.0)])
    2.0
    """
    return sum(group.change_ml for group in groups if group.kind != NOT_COVERED)


def touching_groups(
    a: NDArray[np.integer], b: NDArray[np.integer]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Groups of lesions of two label maps on one grid that touch or overlap.

    ``a``, ``b``: (K, J, I), 0 outside lesions. Two lesions touch if a voxel of the one is a voxel
    of the other or lies beside it (26 neighbours).

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import touching_groups
    >>> a = np.zeros((1, 1, 8), int)
    >>> b = a.copy()
    >>> a[..., 0:2], a[..., 3:5], b[..., 1:4], b[..., 7] = 1, 2, 1, 2
    >>> touching_groups(a, b)
    [((1, 2), (1,)), ((), (2,))]
    """
    from scipy import ndimage

    box = bounding_box((a > 0) | (b > 0))
    pairs: set[tuple[int, int]] = set()
    if box is not None:
        a, b = a[box], b[box]
        k, j, i = np.nonzero((b > 0) & (ndimage.grey_dilation(a, size=3) > 0))
        others, padded = b[k, j, i].astype(np.int64), np.pad(a.astype(np.int64), 1)
        width = int(others.max(initial=0)) + 1
        for dk, dj, di in itertools.product(range(3), repeat=3):
            codes = padded[k + dk, j + dj, i + di] * width + others
            # Neighbours mostly repeat the pair before them.
            told = np.unique(codes[np.diff(codes, prepend=-1) != 0])
            pairs.update((int(n), int(m)) for n, m in zip(*divmod(told, width), strict=True) if n)
    left = {(0, int(n)) for n in np.unique(a[a > 0])} | {(1, int(n)) for n in np.unique(b[b > 0])}
    beside: dict[tuple[int, int], set[tuple[int, int]]] = {node: set() for node in left}
    for n, m in pairs:
        beside[0, n].add((1, m))
        beside[1, m].add((0, n))
    groups = []
    for start in sorted(left):
        if start not in left:
            continue
        found, todo = {start}, [start]
        while todo:
            fresh = beside[todo.pop()] - found
            found |= fresh
            todo += sorted(fresh)
        left -= found
        groups.append(
            (
                tuple(sorted(n for side, n in found if side == 0)),
                tuple(sorted(n for side, n in found if side == 1)),
            )
        )
    return groups


def classify(
    groups: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    covered_a: Mapping[int, float],
    covered_b: Mapping[int, float],
    whole_a: Mapping[int, float],
    whole_b: Mapping[int, float],
    sides: Mapping[tuple[int, int], str] | None = None,
    centres: Mapping[tuple[int, int], tuple[float, float, float]] | None = None,
) -> list[GroupChange]:
    """The groups with their classes, largest first.

    ``covered_*``: mL of each lesion that both scans cover; ``whole_*``: mL of each lesion.
    ``sides``, ``centres`` (RAS mm of the first scan): of lesions by (0 or 1 for the scan, number).

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import classify
    >>> [group.kind for group in classify([((1,), ()), ((2,), (1,))],
    ...     {1: 1.0, 2: 5.0}, {1: 9.0}, {1: 1.0, 2: 5.0}, {1: 9.0})]
    ['grown', 'gone']
    """
    changes = []
    for mine, theirs in groups:
        a_ml = sum(covered_a[n] for n in mine)
        b_ml = sum(covered_b[n] for n in theirs)
        whole = sum(whole_a[n] for n in mine) + sum(whole_b[n] for n in theirs)
        rest = max(0.0, whole - a_ml - b_ml)
        known = {(0, n) for n in mine} | {(1, n) for n in theirs}
        of_side = {(sides or {}).get(key, "") for key in known}
        side = of_side.pop() if len(of_side) == 1 else "both"
        kind = _kind(mine, theirs, a_ml, b_ml, (whole - rest) / whole if whole else 1.0)
        weights = {(0, n): whole_a[n] for n in mine} | {(1, n): whole_b[n] for n in theirs}
        centre = _centre_of(weights, centres or {})
        changes.append(GroupChange(0, kind, mine, theirs, a_ml, b_ml, rest, side, centre))
    changes.sort(key=lambda one: (-max(one.a_ml, one.b_ml), one.lesions_a, one.lesions_b))
    return [replace(change, number=n) for n, change in enumerate(changes, 1)]


def _centre_of(
    weights: Mapping[tuple[int, int], float],
    centres: Mapping[tuple[int, int], tuple[float, float, float]],
) -> tuple[float, float, float] | None:
    """Mean of the centres of lesions by volume; None if one is not known."""
    if not weights or not all(key in centres for key in weights):
        return None
    points = np.array([centres[key] for key in weights])
    x, y, z = np.average(points, axis=0, weights=list(weights.values()))
    return float(x), float(y), float(z)


def _kind(
    mine: Sequence[int], theirs: Sequence[int], a_ml: float, b_ml: float, covered: float
) -> str:
    if covered < _LEAST_COVERED:
        return NOT_COVERED
    if not mine:
        return NEW
    if not theirs:
        return GONE
    if len(mine) != len(theirs):
        return MERGED if len(mine) > len(theirs) else SPLIT
    if abs(b_ml - a_ml) <= repeat_noise_ml(a_ml, b_ml):
        return UNCHANGED
    return GROWN if b_ml > a_ml else SHRUNKEN
