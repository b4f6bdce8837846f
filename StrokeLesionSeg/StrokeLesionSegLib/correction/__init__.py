"""Correction: clicks and strokes that change a lesion mask, answered by the volumetric network.

Names are resolved on first use (PEP 562), so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Change": "change",
        "Click": "change",
        "CorrectionSession": "session",
        "merge": "merge",
    },
)

__all__ = ["Change", "Click", "CorrectionSession", "merge"]

if TYPE_CHECKING:
    from .change import Change, Click
    from .merge import merge
    from .session import CorrectionSession
