"""Interactive editing: one session object behind the Segment Editor effects, free of Qt and MRML.

Names are resolved on first use (PEP 562), so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "EditingSession": "session",
    "Region": "regions",
    "WHOLE": "regions",
    "Click": "types",
    "Candidate": "types",
    "Box": "types",
}

__all__ = ["WHOLE", "Box", "Candidate", "Click", "EditingSession", "Region"]

if TYPE_CHECKING:
    from .regions import WHOLE, Region
    from .session import EditingSession
    from .types import Box, Candidate, Click


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
