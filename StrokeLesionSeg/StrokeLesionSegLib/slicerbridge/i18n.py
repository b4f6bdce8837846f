"""``tr``: the text in the language of Slicer, or as it is where there is no Slicer.

Slicer's own function itself, not one around it: it takes the context of a translation from the file
that calls it. Import it as ``_``, the name that the tool which collects the texts looks for, and
fill in values afterwards: ``_("{count} lesions").format(count=3)``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def _as_it_is(text: str) -> str:
    return text


def _find() -> Callable[[str], str]:
    # Not imported for this alone: the engine's process has no use for Slicer.
    if "slicer" not in sys.modules:
        return _as_it_is
    try:
        from slicer.i18n import tr
    except ImportError:  # Slicer's libraries without its desktop
        return _as_it_is
    found: Callable[[str], str] = tr
    return found


tr: Callable[[str], str] = _find()
