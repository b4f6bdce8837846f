"""What the scripts share that run inside the desktop application."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import slicer


def settle(seconds: float = 0.2, done: Callable[[], bool] = lambda: False) -> bool:
    """Let Slicer work for so long, or until ``done``; whether it came."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= end:
            return False
        slicer.app.processEvents()
        time.sleep(0.005)
    return True


def until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Let Slicer work until ``done``; an error after so many seconds."""
    assert settle(seconds, done), f"{what}: not within {seconds:.0f} s"


def open_editor(segmentation: Any, volume: Any) -> Any:
    """The Segment Editor's widget, on this segmentation and source volume."""
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    settle(0.3)
    return editor


def choose_effect(editor: Any, name: str) -> Any:
    """Our effect's Python object, once Slicer shows its options; None for Slicer's own."""
    editor.setActiveEffectByName(name)
    settle(0.5)
    active = editor.activeEffect()
    assert getattr(active, "name", "") == name
    return active.self() if hasattr(active, "self") else None


def run(main: Callable[[], None]) -> None:
    """Do ``main()`` and leave the application: 0, or 1 after an error, which is printed."""
    try:
        main()
    except Exception:
        traceback.print_exc()
        slicer.util.exit(1)
    else:
        slicer.util.exit(0)
