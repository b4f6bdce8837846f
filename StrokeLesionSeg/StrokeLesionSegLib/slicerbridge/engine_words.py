"""What the engine says, in the language of Slicer: the one place where its words are translated.

The engine speaks English and knows nothing of Slicer.
"""

from __future__ import annotations

from .i18n import tr as _

#: States of a scan of a batch, by the word that the engine has for them.
STATES = {
    "planned": _("to do"),
    "left out": _("left out"),
    "waiting": _("waiting"),
    "running": _("running"),
    "done": _("done"),
    "failed": _("failed"),
}


def state_name(state: str) -> str:
    """A state of a scan for the user."""
    return STATES.get(state, state)
