"""Interactive editing: one session object behind the Segment Editor effects, free of Qt and MRML.

Names are resolved on first use (PEP 562), so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EditingSession": "session",
        "Region": "regions",
        "WHOLE": "regions",
        "Click": "types",
        "Candidate": "types",
        "Box": "types",
    },
)

__all__ = ["WHOLE", "Box", "Candidate", "Click", "EditingSession", "Region"]

if TYPE_CHECKING:
    from .regions import WHOLE, Region
    from .session import EditingSession
    from .types import Box, Candidate, Click
