"""Regions that belong together, and those that are left out, found by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..lesions.measure import LEFT, RIGHT

#: What the union of the four is called: the atlas draws no pathway.
CORTICOSPINAL = "Corticospinal pathway (approximate)"
# JHU's "corticospinal tract" lies in the brainstem alone; the others carry its fibres further up.
_CORTICOSPINAL = (
    re.compile(r"cortico-?spinal tract"),
    re.compile(r"cerebral peduncle"),
    re.compile(r"(?=.*posterior limb)(?=.*internal capsule)"),
    re.compile(r"superior corona radiata"),
)
_VENTRICLE = re.compile(r"lateral[ _-]*ventric|ventric\w*[ _-]*lateral|inf[ _-]?lat[ _-]?vent")


def is_lateral_ventricle(name: str) -> bool:
    """Whether a region is a lateral ventricle, which holds no tissue that a stroke could hit.

    Examples
    --------
    >>> is_lateral_ventricle("Left-Lateral-Ventricle"), is_lateral_ventricle("Ventral striatum")
    (True, False)
    """
    return bool(_VENTRICLE.search(name.lower()))


def unions_of(regions: Iterable[tuple[str, str]]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Unions that can be made of (name, side): their name, side and the members' names.

    Examples
    --------
    >>> parts = ["Corticospinal Tract", "Cerebral Peduncle", "Superior Corona Radiata"]
    >>> parts.append("Internal Capsule Posterior Limb")
    >>> [(name, side) for name, side, _ in unions_of([(part, "left") for part in parts])]
    [('Corticospinal pathway (approximate)', 'left')]
    """
    regions = list(regions)
    found = []
    for side in (LEFT, RIGHT):
        names = [name for name, where in regions if where == side]
        members = [
            [name for name in names if pattern.search(name.lower().replace("_", " "))]
            for pattern in _CORTICOSPINAL
        ]
        if all(len(one) == 1 for one in members):
            found.append((CORTICOSPINAL, side, tuple(one[0] for one in members)))
    return found
