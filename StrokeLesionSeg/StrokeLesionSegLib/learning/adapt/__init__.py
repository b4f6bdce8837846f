"""Adapting a model to a lab's corrected masks: pairs, mixture, judgement, card.

Names are resolved on first use (PEP 562), so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {"AdaptOptions": "options", "Outcome": "run", "adapt": "run", "find_pairs": "pairs"},
)

__all__ = ["AdaptOptions", "Outcome", "adapt", "find_pairs"]

if TYPE_CHECKING:
    from .options import AdaptOptions
    from .pairs import find_pairs
    from .run import Outcome, adapt
