"""Scans of one person at two times, and what became of the lesions between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from ..lesions.change import total_change_ml

if TYPE_CHECKING:
    from ..images import RigidAlignment, Volume
    from ..lesions import GroupChange, LesionMap


@dataclass(frozen=True, eq=False)
class TimePoint:
    """One of the two scans.

    Attributes
    ----------
    name: what tables and pages call it. volume: the T1. lesion_map: its lesions, on its grid.
    to_mni: 4x4, its RAS mm to MNI RAS mm; None if not known.
    sha256: of the scan's file, None for a folder. mask_sha256: of the mask's, if it was given.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.pipeline import TimePoint
    >>> volume = Volume(np.ones((4, 4, 4), np.float32), np.eye(4))
    >>> TimePoint("first", volume, find_lesions(volume.array, np.eye(4), OperatingPoint(0.5))).name
    'first'
    """

    name: str
    volume: Volume
    lesion_map: LesionMap
    to_mni: NDArray[np.float64] | None = None
    sha256: str | None = None
    mask_sha256: str | None = None

    __repr__ = brief_repr


@dataclass(frozen=True)
class Comparison:
    """What became of the lesions.

    Attributes
    ----------
    a, b: the scans. alignment: how B lies to A. groups: of touching lesions, largest first.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.pipeline import TimePoint, compare_scans
    >>> k, j, i = np.mgrid[-20:21, -20:21, -20:21]
    >>> head = (k**2 / 300 + j**2 / 200 + (i - 3) ** 2 / 100 < 1) * (100.0 + 2 * i + k)
    >>> volume = Volume(head.astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    >>> found = find_lesions(head > 125, volume.affine, OperatingPoint(0.5))
    >>> result = compare_scans(TimePoint("a", volume, found), TimePoint("b", volume, found))
    >>> [group.kind for group in result.groups]
    ['unchanged']
    """

    a: TimePoint
    b: TimePoint
    alignment: RigidAlignment
    groups: tuple[GroupChange, ...]

    @property
    def change_ml(self) -> float:
        """Second minus first, of what both scans cover."""
        return total_change_ml(self.groups)

    def counts(self) -> dict[str, int]:
        """Number of groups by class; classes without one are left out."""
        from ..lesions import CLASSES

        found = [group.kind for group in self.groups]
        return {kind: found.count(kind) for kind in CLASSES if kind in found}
