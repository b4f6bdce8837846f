"""Segment Editor effects that correct lesion masks.

Slicer's loader takes the package from the folder of an effect's file and the class from the file's
name, so all effects are imported here. What they do is in ``StrokeLesionSegLib.correction`` and
``StrokeLesionSegLib.slicerbridge.editor``; here are widgets, view events and timers.
"""

from .registration import EFFECT_NAMES, registerEffects
from .SegmentEditorLesionReviewEffect import SegmentEditorLesionReviewEffect
from .SegmentEditorStrokeLesionEffect import SegmentEditorStrokeLesionEffect

__all__ = [
    "EFFECT_NAMES",
    "SegmentEditorLesionReviewEffect",
    "SegmentEditorStrokeLesionEffect",
    "registerEffects",
]
