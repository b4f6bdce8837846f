"""Segment Editor effects that work with the lesion model.

Slicer's loader takes the package from the folder of an effect's file and the class from the file's
name, so all effects are imported here. What they do is in ``StrokeLesionSegLib.editing`` and
``StrokeLesionSegLib.slicerbridge.editor``; here are widgets, view events and timers.
"""

from .registration import EFFECT_NAMES, registerEffects
from .SegmentEditorLesionBrushEffect import SegmentEditorLesionBrushEffect
from .SegmentEditorLesionClicksEffect import SegmentEditorLesionClicksEffect
from .SegmentEditorLesionReviewEffect import SegmentEditorLesionReviewEffect
from .SegmentEditorStrokeLesionEffect import SegmentEditorStrokeLesionEffect

__all__ = [
    "EFFECT_NAMES",
    "SegmentEditorLesionBrushEffect",
    "SegmentEditorLesionClicksEffect",
    "SegmentEditorLesionReviewEffect",
    "SegmentEditorStrokeLesionEffect",
    "registerEffects",
]
