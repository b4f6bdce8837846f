"""Makes the effects known to Slicer's Segment Editor."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
EFFECT_NAMES = ("StrokeLesion", "LesionReview")


def effectFile(name):
    """Path of an effect's file, with the slashes that Slicer's loader wants."""
    return (FOLDER / f"SegmentEditor{name}Effect.py").as_posix()


def newEffect(name):
    """A ``qSlicerSegmentEditorScriptedEffect`` that runs the effect ``name``."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    scriptedEffect = effects.qSlicerSegmentEditorScriptedEffect(None)
    scriptedEffect.setPythonSource(effectFile(name))
    return scriptedEffect


def registerEffects():
    """Register all effects; a second call changes nothing, the factory knows their names."""
    for name in EFFECT_NAMES:
        newEffect(name).self().register()
