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
        "Known": "session",
        "Outline": "outline",
        "Piece": "pieces",
        "PieceList": "pieces",
        "footprint": "brush",
        "load_click_model": "model",
        "merge": "merge_rule",
        "mirrored_scan": "mirror",
        "outlined": "outline",
        "taken": "brush",
    },
)

__all__ = [
    "Change",
    "Click",
    "CorrectionSession",
    "Known",
    "Outline",
    "Piece",
    "PieceList",
    "footprint",
    "load_click_model",
    "merge",
    "mirrored_scan",
    "outlined",
    "taken",
]

if TYPE_CHECKING:
    from .brush import footprint, taken
    from .change import Change, Click
    from .merge_rule import merge
    from .mirror import mirrored_scan
    from .model import load_click_model
    from .outline import Outline, outlined
    from .pieces import Piece, PieceList
    from .session import CorrectionSession, Known
