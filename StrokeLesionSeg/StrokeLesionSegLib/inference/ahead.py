"""What a network needs besides the scan, made while other things are done."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import Manifest


def import_ahead() -> None:
    """Begin to import torch in a thread, while a scan is read, which decompresses without Python's
    global lock for the most part. For a process that leaves a core free, after
    ``prepare_environment``."""
    if "torch" not in sys.modules:
        threading.Thread(target=_import_torch, daemon=True).start()


def _import_torch() -> None:
    try:
        import torch  # noqa: F401
    except (ImportError, OSError, MemoryError):  # told where it is needed
        return


def make_ahead(manifest: Manifest) -> threading.Thread | None:
    """Begin to make in a thread what is the same for all scans; None if the model needs nothing.

    It costs a quarter of a second, most of it without Python's global lock, and so next to nothing
    while torch is imported.
    """
    if manifest.kind != "volumetric":
        return None
    thread = threading.Thread(
        target=_make, args=(manifest.preprocessing.brain_mask_margin_mm,), daemon=True
    )
    thread.start()
    return thread


def _make(margin_mm: float | None) -> None:
    from ..images.space.brainbox import grown_brain_mask
    from .volumetric import template_channel

    try:
        template_channel()
        if margin_mm is not None:
            grown_brain_mask(margin_mm)
    except (OSError, MemoryError):  # told where they are needed
        return
