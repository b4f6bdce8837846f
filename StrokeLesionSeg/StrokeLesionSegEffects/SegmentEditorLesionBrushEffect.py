"""Lesion Brush: paints only where the model finds lesion, erases only where it finds none."""

from slicer.i18n import tr as _
from StrokeLesionSegLib.boxes import is_empty
from StrokeLesionSegLib.slicerbridge.editor.stroke import Brush, Stroke
from StrokeLesionSegLib.slicerbridge.editor.views import (
    brush_circle,
    pixel_size,
    view_plane,
    xy_to_world,
)

from . import widgets
from .base import (
    DOUBLE,
    KEY,
    LEAVE,
    MOVE,
    PRESS,
    RELEASE,
    WHEEL_DOWN,
    WHEEL_UP,
    LesionEffect,
    exceptModifiers,
    otherKey,
)

ZOOM = 0.2
LARGER, SMALLER = ("plus", "equal"), ("minus", "underscore")
PAINT_COLOR, ERASE_COLOR = (1.0, 0.95, 0.3), (0.4, 0.75, 1.0)


class SegmentEditorLesionBrushEffect(LesionEffect):
    """A round brush that is bounded by the lesion probability."""

    effectName = "LesionBrush"
    effectTitle = _("Lesion Brush")
    iconFile = "LesionBrush.png"

    def __init__(self, scriptedEffect):
        LesionEffect.__init__(self, scriptedEffect)
        self.stroke = None
        self._mouse = None  # (slice widget, xy) where the brush is

    def helpText(self):
        return "<html>" + _(
            "Paint with a round brush, but only where the model finds lesion.<p>"
            '<ul style="margin: 0">'
            "<li><b>Left-button drag:</b> adds voxels inside the brush whose lesion probability is "
            "above the threshold."
            "<li><b>Alt + left-button drag</b> (or <b>Ctrl + Shift</b> where the desktop uses Alt "
            "for windows), or the button <b>Erase</b>: removes voxels inside the brush where the "
            "model finds none."
            "<li><b>Shift + mouse wheel</b> or <b>+/- keys:</b> size of the brush."
            "<li><b>Follow the first touch:</b> a stroke that begins in a faint lesion goes on in "
            "it, below the threshold."
            "</ul><p>One stroke is one step for undo.<p>"
        )

    # -- options ------------------------------------------------------------------------------

    def setupOptionsFrame(self):
        self.addStatusRow()
        add = self.scriptedEffect.addLabeledOptionsWidget
        self.addThresholdRow(_("Lesion probability from which a voxel is painted."))
        self.followCheck = widgets.check(
            _("Follow the first touch"),
            _("Take the probability where the stroke begins as bound, if that is lower."),
        )
        self.eraseButton = widgets.toggle(
            _("Erase"), _("Remove where the model finds none. Alt does the same while held.")
        )
        self.scriptedEffect.addOptionsWidget(widgets.row([self.followCheck, self.eraseButton]))
        self.relativeButton = widgets.toggle(
            "%", _("Size as a part of the screen's height (%) or in the patient (mm), as in Paint.")
        )
        self.diameterSlider = widgets.slider(
            1, 100, 1, 1, _("Diameter of the brush; also Shift + mouse wheel.")
        )
        self.sphereCheck = widgets.check(
            _("Sphere brush"), _("Paint in all directions, not in the slice only.")
        )
        add(_("Diameter:"), widgets.row([self.relativeButton, self.diameterSlider]))
        self.scriptedEffect.addOptionsWidget(self.sphereCheck)
        self.addMirrorRow()
        self.diameterSlider.connect("valueChanged(double)", self.onDiameter)
        self.relativeButton.connect("clicked(bool)", self.onRelative)
        for item in (self.followCheck, self.eraseButton, self.sphereCheck):
            item.connect("clicked(bool)", self.updateMRMLFromGUI)

    def setMRMLDefaults(self):
        effect = self.scriptedEffect
        effect.setParameterDefault("Threshold", 0.0)  # the model's own, once it is known
        effect.setParameterDefault("Follow", 0)
        effect.setParameterDefault("Erase", 0)
        # Those of Paint, so that the brush keeps its size from one effect to the other.
        effect.setCommonParameterDefault("BrushMinimumAbsoluteDiameter", 0.01)
        effect.setCommonParameterDefault("BrushMaximumAbsoluteDiameter", 100.0)
        effect.setCommonParameterDefault("BrushAbsoluteDiameter", 5.0)
        effect.setCommonParameterDefault("BrushRelativeDiameter", 3.0)
        effect.setCommonParameterDefault("BrushDiameterIsRelative", 1)
        effect.setCommonParameterDefault("BrushSphere", 0)

    def updateGUIFromMRML(self):
        effect = self.scriptedEffect
        self.showValues()
        self.followCheck.setChecked(bool(effect.integerParameter("Follow")))
        self.eraseButton.setChecked(bool(effect.integerParameter("Erase")))
        self.sphereCheck.setChecked(bool(effect.integerParameter("BrushSphere")))
        relative = bool(effect.integerParameter("BrushDiameterIsRelative"))
        self.relativeButton.setChecked(relative)
        self.relativeButton.setText("%" if relative else "mm")
        name = "BrushRelativeDiameter" if relative else "BrushAbsoluteDiameter"
        slider = self.diameterSlider
        blocked = slider.blockSignals(True)
        slider.minimum, slider.maximum = (0.2, 25.0) if relative else (0.5, 100.0)
        slider.setValue(effect.doubleParameter(name))
        slider.blockSignals(blocked)
        self.updateCircles()
        self.refresh()

    def updateMRMLFromGUI(self, *_args):
        effect = self.scriptedEffect
        node = effect.parameterSetNode()
        wasModifying = node.StartModify()
        try:
            effect.setParameter("Follow", 1 if self.followCheck.checked else 0)
            effect.setParameter("Erase", 1 if self.eraseButton.checked else 0)
            effect.setCommonParameter("BrushSphere", 1 if self.sphereCheck.checked else 0)
        finally:
            node.EndModify(wasModifying)

    def onDiameter(self, value):
        relative = self.scriptedEffect.integerParameter("BrushDiameterIsRelative")
        name = "BrushRelativeDiameter" if relative else "BrushAbsoluteDiameter"
        self.scriptedEffect.setCommonParameter(name, float(value))
        self.updateCircles()

    def onRelative(self, checked):
        if not checked:  # from % to mm the brush stays as large as it is
            self.scriptedEffect.setCommonParameter("BrushAbsoluteDiameter", self.diameter())
        self.scriptedEffect.setCommonParameter("BrushDiameterIsRelative", 1 if checked else 0)
        self.updateGUIFromMRML()

    def sessionOpened(self):
        self.actors.newOverlay(self.entry.edit_grid)

    def sessionClosed(self):
        self.stroke = None

    def deactivate(self):
        self.stroke = None
        self._mouse = None
        LesionEffect.deactivate(self)

    # -- size ---------------------------------------------------------------------------------

    def diameter(self):
        """Of the brush in mm, in the view where it is."""
        effect = self.scriptedEffect
        node = self.sliceNode(self._mouse[0]) if self._mouse else None
        if not effect.integerParameter("BrushDiameterIsRelative") or node is None:
            return effect.doubleParameter("BrushAbsoluteDiameter")
        window = effect.renderWindow(self._mouse[0])
        height = window.GetScreenSize()[1] if window is not None else 1000
        share = effect.doubleParameter("BrushRelativeDiameter") / 100.0
        return share * height * pixel_size(node)

    def scale(self, factor):
        relative = self.scriptedEffect.integerParameter("BrushDiameterIsRelative")
        name = "BrushRelativeDiameter" if relative else "BrushAbsoluteDiameter"
        size = self.scriptedEffect.doubleParameter(name) * factor
        low, high = (0.2, 25.0) if relative else (0.5, 100.0)
        self.scriptedEffect.setCommonParameter(name, min(max(size, low), high))
        self.updateCircles()

    # -- views --------------------------------------------------------------------------------

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        node = self.sliceNode(viewWidget)
        if node is None or not self._isActive:
            return False
        if eventId == KEY:
            key = callerInteractor.GetKeySym()
            if key not in LARGER + SMALLER:
                return False
            self.scale(1 + ZOOM if key in LARGER else 1 - ZOOM)
            return True
        if eventId in WHEEL_UP or eventId in WHEEL_DOWN:
            if not callerInteractor.GetShiftKey():
                return False
            self.scale(1 + ZOOM if eventId in WHEEL_UP else 1 - ZOOM)
            return True
        if eventId == LEAVE:
            self._mouse = None
            self.updateCircles()
            return False
        xy = callerInteractor.GetEventPosition()
        if eventId in (PRESS, DOUBLE):  # VTK sends the second of two quick presses as DOUBLE
            erase = otherKey(callerInteractor)
            if not erase and not exceptModifiers(callerInteractor):
                return eventId == DOUBLE
            if eventId == DOUBLE and self.stroke is not None:
                return True
            self._mouse, self.lastView = (viewWidget, xy), viewWidget
            self.beginStroke(erase)
            return True
        if eventId == MOVE:
            self._mouse, self.lastView = (viewWidget, xy), viewWidget
            if self.stroke is not None:
                self.touch()
            self.updateCircles()
            return False
        if eventId == RELEASE and self.stroke is not None:
            self._mouse = (viewWidget, xy)
            self.touch()
            self.endStroke()
            return True
        return False

    def viewMoved(self, viewWidget):
        self.updateCircles()

    def beginStroke(self, otherMode):
        """A stroke begins; with the key for the other mode, if ``otherMode``."""
        target = self.target()
        if self.entry is None or target is None:
            self.showStatus()
            return
        if not self.confirmed():
            return
        effect = self.scriptedEffect
        refusal = target.refusal()
        if refusal:
            self.problem = refusal
            self.showStatus()
            return
        erase = bool(effect.integerParameter("Erase")) != otherMode
        brush = Brush(
            self.diameter() / 2,
            self.threshold(),
            bool(effect.integerParameter("BrushSphere")),
            erase,
            bool(effect.integerParameter("Follow")),
        )
        self.stroke = Stroke(self.entry, target, brush)
        overlay = self.actors.overlay
        if overlay is not None:
            overlay.set_color(1, ERASE_COLOR if erase else PAINT_COLOR, 0.6)
        self.touch()

    def touch(self):
        """Paint where the mouse is."""
        viewWidget, xy = self._mouse
        node = self.sliceNode(viewWidget)
        with self.action():
            plane = view_plane(node, self.entry.edit_grid)
            box = self.stroke.touch(xy_to_world(node, xy), plane)
            overlay = self.actors.overlay
            if overlay is not None and not is_empty(box):
                overlay.labels[box] = self.stroke.mask[box]
                overlay.changed()
                self.actors.render()

    def endStroke(self):
        stroke, self.stroke = self.stroke, None
        with self.action():
            stroke.apply(self.scriptedEffect, self.store)
        overlay = self.actors.overlay
        if overlay is not None and not is_empty(stroke.box):
            overlay.labels[stroke.box] = 0
            overlay.changed()
            self.actors.render()

    def updateCircles(self):
        """Draw the brush's outline where it is."""
        if not self._isActive:
            return
        node = self.sliceNode(self._mouse[0]) if self._mouse else None
        erase = bool(self.scriptedEffect.integerParameter("Erase"))
        if self.stroke is not None:
            erase = self.stroke.brush.erase
        for viewWidget in self.actors.visibleWidgets():
            circle = None
            if node is not None:
                circle = brush_circle(
                    self.sliceNode(viewWidget),
                    xy_to_world(node, self._mouse[1]),
                    self.diameter() / 2,
                    bool(self.scriptedEffect.integerParameter("BrushSphere")),
                    viewWidget == self._mouse[0],
                )
            self.actors.circle(viewWidget, circle, ERASE_COLOR if erase else PAINT_COLOR)
