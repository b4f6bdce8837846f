"""Atlases in MNI space: the one that is shipped, those of users, lesion volumes by region.

Names are resolved on first use (PEP 562), so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Atlas": "atlas",
        "AtlasChoice": "choice",
        "region_table": "measure",
        "read_atlas": "reading",
        "SHIPPED_TITLE": "shipped",
        "shipped_atlas": "shipped",
        "CORTICOSPINAL": "unions",
    },
)

__all__ = [
    "CORTICOSPINAL",
    "SHIPPED_TITLE",
    "Atlas",
    "AtlasChoice",
    "read_atlas",
    "region_table",
    "shipped_atlas",
]

if TYPE_CHECKING:
    from .atlas import Atlas
    from .choice import AtlasChoice
    from .measure import region_table
    from .reading import read_atlas
    from .shipped import SHIPPED_TITLE, shipped_atlas
    from .unions import CORTICOSPINAL
