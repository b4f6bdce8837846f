"""The brush of Stroke Lesion: where it is, how large, and its outline in the views."""

from StrokeLesionSegLib.slicerbridge.editor.stroke import Brush
from StrokeLesionSegLib.slicerbridge.editor.views import brush_circle, pixel_size, xy_to_world

from .base import KEY, WHEEL_UP
from .sliceactors import sliceNode

ZOOM = 0.2
LARGER, SMALLER = ("plus", "equal"), ("minus", "underscore")


class BrushTool:
    """The size is Paint's common parameter; the outline follows the mouse."""

    def __init__(self, scriptedEffect, actors):
        self.scriptedEffect, self.actors = scriptedEffect, actors
        self.mouse = None  # (slice widget, xy) where the brush is

    def brush(self, threshold, erase):
        """The brush as it is now."""
        effect = self.scriptedEffect
        return Brush(
            self.diameter() / 2,
            threshold,
            bool(effect.integerParameter("Sphere")),
            erase,
            bool(effect.integerParameter("Follow")),
        )

    def diameter(self):
        """In mm, in the view where it is."""
        effect = self.scriptedEffect
        node = sliceNode(self.mouse[0]) if self.mouse else None
        if not effect.integerParameter("BrushDiameterIsRelative") or node is None:
            return effect.doubleParameter("BrushAbsoluteDiameter")
        window = effect.renderWindow(self.mouse[0])
        height = window.GetScreenSize()[1] if window is not None else 1000
        share = effect.doubleParameter("BrushRelativeDiameter") / 100.0
        return share * height * pixel_size(node)

    def setDiameter(self, value):
        """In mm, from now on in all views."""
        self.scriptedEffect.setCommonParameter("BrushDiameterIsRelative", 0)
        self.scriptedEffect.setCommonParameter("BrushAbsoluteDiameter", float(value))

    def changeSize(self, callerInteractor, eventId):
        """Keys and wheel that change its size; whether they do."""
        if eventId == KEY:
            key = callerInteractor.GetKeySym()
            larger, mine = key in LARGER, key in LARGER + SMALLER
        else:
            larger, mine = eventId in WHEEL_UP, bool(callerInteractor.GetShiftKey())
        if mine:
            self._scale(1 + ZOOM if larger else 1 - ZOOM)
        return mine

    def _scale(self, factor):
        relative = self.scriptedEffect.integerParameter("BrushDiameterIsRelative")
        name = "BrushRelativeDiameter" if relative else "BrushAbsoluteDiameter"
        size = self.scriptedEffect.doubleParameter(name) * factor
        low, high = (0.2, 25.0) if relative else (0.5, 100.0)
        self.scriptedEffect.setCommonParameter(name, min(max(size, low), high))

    def draw(self, shown, color):
        """Draw its outline where it is, or take it out of the views."""
        node = sliceNode(self.mouse[0]) if self.mouse and shown else None
        for viewWidget in self.actors.visibleWidgets():
            circle = None
            if node is not None:
                circle = brush_circle(
                    sliceNode(viewWidget),
                    xy_to_world(node, self.mouse[1]),
                    self.diameter() / 2,
                    bool(self.scriptedEffect.integerParameter("Sphere")),
                    viewWidget == self.mouse[0],
                )
            self.actors.circle(viewWidget, circle, color)
