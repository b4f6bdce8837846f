"""Stroke Lesion: clicks, strokes and a brush that correct the segment with the lesion model."""

import time

import numpy as np
import slicer
from slicer.i18n import tr as _
from StrokeLesionSegLib.boxes import is_empty
from StrokeLesionSegLib.slicerbridge.editor import correct
from StrokeLesionSegLib.slicerbridge.editor.mirror import MirrorView
from StrokeLesionSegLib.slicerbridge.editor.store import STATE_TAG, Opening
from StrokeLesionSegLib.slicerbridge.editor.stroke import Brush, Stroke
from StrokeLesionSegLib.slicerbridge.editor.views import (
    brush_circle,
    pixel_size,
    view_plane,
    xy_to_world,
)
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance, get_tag

from . import widgets
from .base import (
    DOUBLE,
    KEY,
    LEAVE,
    LEFT_PRESS,
    LEFT_RELEASE,
    MOVE,
    RIGHT_PRESS,
    RIGHT_RELEASE,
    WHEEL_DOWN,
    WHEEL_UP,
    LesionEffect,
)

OPEN_MS = 15
# Views take the size of a new layout after it was chosen.
FIT_MS = 100
# A press that moves less than this, in pixels, is a click.
STILL = 4
ZOOM = 0.2
LARGER, SMALLER = ("plus", "equal"), ("minus", "underscore")
LESION_COLOR, OTHER_COLOR = (1.0, 0.6, 0.1), (0.25, 0.7, 1.0)
MIRRORS = ("none", "overlay", "beside")
PREVIEW, LESION, OTHER = 1, 2, 3  # labels of the overlay

_mirror = MirrorView()


class Gesture:
    """What happens between button down and up in one view."""

    def __init__(self, viewWidget, xy, lesion, target):
        self.viewWidget, self.start, self.lesion, self.target = viewWidget, xy, lesion, target
        self.path = []  # local RAS mm
        self.moved = False
        self.stroke = None  # of the brush


class SegmentEditorStrokeLesionEffect(LesionEffect):
    """Left says lesion, right says not lesion; the network works out the rest."""

    effectName = "StrokeLesion"
    effectTitle = _("Stroke Lesion")
    iconFile = "StrokeLesion.png"

    def __init__(self, scriptedEffect):
        LesionEffect.__init__(self, scriptedEffect)
        self.entry = None
        self.opening = None  # a session on its way
        self.gesture = None
        self.queue = []  # (target, voxels, lesion) that wait for the session
        self.said = ""
        self.seconds = 0.0  # of the last correction, from mouse release to the labelmap
        self._failed = None  # key of a session that could not be opened
        self._grid = None  # EditGrid of the overlay
        self._shown = None  # mask of the threshold's preview
        self._mouse = None  # (slice widget, xy) where the brush is
        self._pulses = 0
        self._marked = None
        self.openTimer = self._timer(OPEN_MS, False, self._onOpen)
        self.previewTimer = self._timer(0, True, self.updatePreview)
        self.fitTimer = self._timer(FIT_MS, True, _mirror.fit)

    def helpText(self):
        return "<html>" + _(
            "Correct by clicks and strokes.<br>"
            '<ul style="margin: 0">'
            "<li><b>Left click:</b> this is lesion. <b>Right click</b> or <b>Ctrl + left "
            "click:</b> this is not."
            "<li><b>Drag:</b> many clicks as one stroke."
            "<li><b>m:</b> brush instead of clicks. It paints what is as likely lesion as where a "
            "stroke begins, and with the right button or Ctrl erases what is as unlikely. "
            "<b>Shift + mouse wheel</b> or <b>+/-:</b> its size."
            "<li><b>Threshold:</b> fills the segment anew from the model's probability; the "
            "preview pulses, nothing changes before Apply."
            "</ul>A click changes one connected region. What was painted or erased by hand changes "
            "only where it is clicked. Each action is one step for undo.<br>"
        )

    def inSight(self):
        return self.applyButton if self._built else None

    def shortcuts(self):
        return [("m", self.onOtherMode)]

    # -- options ------------------------------------------------------------------------------

    def setupOptionsFrame(self):
        self.addStatusRow()
        self.readyButton = widgets.button("", _("Get what is missing."))
        self.readyButton.setVisible(False)
        self.scriptedEffect.addOptionsWidget(self.readyButton)
        self.clickButton = widgets.radio(
            _("Click"), _("Left: lesion. Right or Ctrl: not lesion. Drag: many clicks.")
        )
        self.brushButton = widgets.radio(
            _("Brush"), _("Paint by the probability; right or Ctrl erases (m).")
        )
        self.scriptedEffect.addOptionsWidget(widgets.row([self.clickButton, self.brushButton]))
        self.thresholdSlider = widgets.slider(
            0.05, 0.95, 0.01, 2, _("Lesion probability from which a voxel is lesion.")
        )
        self.scriptedEffect.addLabeledOptionsWidget(_("Threshold:"), self.thresholdSlider)
        self.cancelButton = widgets.button(_("Cancel"), _("Leave the segment as it is."))
        self.applyButton = widgets.button(
            _("Apply"), _("Make the segment what the model finds at this threshold.")
        )
        self.scriptedEffect.addOptionsWidget(widgets.row([self.cancelButton, self.applyButton]))
        self._addBrush()
        self._addMirror()
        self.readyButton.connect("clicked()", self.onReadyButton)
        self.clickButton.connect("clicked(bool)", lambda *_: self.setMode("click"))
        self.brushButton.connect("clicked(bool)", lambda *_: self.setMode("brush"))
        self.thresholdSlider.connect("valueChanged(double)", self.onThreshold)
        self.applyButton.connect("clicked()", self.onApply)
        self.cancelButton.connect("clicked()", self.onCancel)
        self._built = True

    def _addBrush(self):
        self.brushSection, rows = widgets.section(_("Brush and preview"))
        self.diameterSlider = widgets.slider(
            1, 100, 1, 1, _("Diameter of the brush; also Shift + mouse wheel."), " mm"
        )
        self.sphereCheck = widgets.check(
            _("Sphere"), _("Paint in all directions, not in the slice only.")
        )
        self.followCheck = widgets.check(
            _("Follow the first touch"),
            _(
                "Paint what is as likely lesion as where the stroke begins; erase what is as "
                "unlikely."
            ),
        )
        self.showCheck = widgets.check(
            _("Show a click first"),
            _("While the button is down, show what a click changes; take it on release."),
        )
        rows.addRow(_("Diameter:"), self.diameterSlider)
        rows.addRow(widgets.row([self.sphereCheck, self.followCheck]))
        rows.addRow(self.showCheck)
        self.scriptedEffect.addOptionsWidget(self.brushSection)
        self.diameterSlider.connect("valueChanged(double)", self.onDiameter)
        for item in (self.sphereCheck, self.followCheck, self.showCheck):
            item.connect("clicked(bool)", self.onCheck)

    def _addMirror(self):
        self.mirrorSection, rows = widgets.section(_("Mirrored view"))
        self.mirrorButtons = [
            widgets.radio(_("Off"), _("Show the image alone.")),
            widgets.radio(_("Over"), _("The image flipped from left to right, over the image.")),
            widgets.radio(_("Beside"), _("The flipped image beside the image.")),
        ]
        rows.addRow(widgets.row(self.mirrorButtons))
        self.scriptedEffect.addOptionsWidget(self.mirrorSection)
        for button, how in zip(self.mirrorButtons, MIRRORS, strict=True):
            button.connect("clicked(bool)", lambda _on, how=how: self.onMirror(how))

    def setMRMLDefaults(self):
        effect = self.scriptedEffect
        effect.setParameterDefault("Mode", "click")
        effect.setParameterDefault("Threshold", 0.0)  # the model's own, once it is known
        # Not Paint's: that is off at first, and a lesion is no disk.
        effect.setParameterDefault("Sphere", 1)
        effect.setParameterDefault("Follow", 1)
        effect.setParameterDefault("ShowFirst", 0)
        # Those of Paint, so that the brush keeps its size from one effect to the other.
        effect.setCommonParameterDefault("BrushMinimumAbsoluteDiameter", 0.01)
        effect.setCommonParameterDefault("BrushMaximumAbsoluteDiameter", 100.0)
        effect.setCommonParameterDefault("BrushAbsoluteDiameter", 10.0)
        effect.setCommonParameterDefault("BrushRelativeDiameter", 3.0)
        effect.setCommonParameterDefault("BrushDiameterIsRelative", 1)

    def updateGUIFromMRML(self):
        effect = self.scriptedEffect
        brush = effect.parameter("Mode") == "brush"
        self.clickButton.setChecked(not brush)
        self.brushButton.setChecked(brush)
        self.sphereCheck.setChecked(bool(effect.integerParameter("Sphere")))
        self.followCheck.setChecked(bool(effect.integerParameter("Follow")))
        self.showCheck.setChecked(bool(effect.integerParameter("ShowFirst")))
        widgets.setQuietly(self.diameterSlider, self.diameterSlider.setValue, self.diameter())
        self.showThreshold()
        self.updateCircles()
        self.refresh()

    def onCheck(self, *_args):
        effect = self.scriptedEffect
        node = effect.parameterSetNode()
        wasModifying = node.StartModify()
        try:
            effect.setParameter("Sphere", 1 if self.sphereCheck.checked else 0)
            effect.setParameter("Follow", 1 if self.followCheck.checked else 0)
            effect.setParameter("ShowFirst", 1 if self.showCheck.checked else 0)
        finally:
            node.EndModify(wasModifying)

    def setMode(self, mode):
        self.scriptedEffect.setParameter("Mode", mode)
        self.updateGUIFromMRML()

    def onOtherMode(self):
        self.setMode("click" if self.isBrush() else "brush")

    def isBrush(self):
        return self.scriptedEffect.parameter("Mode") == "brush"

    def onMirror(self, how):
        with self.action(True):
            _mirror.show(how, self.entry)
            self.fitTimer.start()
        self.refresh()

    # -- session --------------------------------------------------------------------------------

    def activate(self):
        self.said, self._failed, self._shown = "", None, None
        LesionEffect.activate(self)

    def deactivate(self):
        self._giveUpOpening()
        self.gesture, self.entry, self._mouse, self._shown, self._grid = (
            None,
            None,
            None,
            None,
            None,
        )
        LesionEffect.deactivate(self)

    def refresh(self):
        """Bring session, drawings, texts and buttons in step with what is selected; cheap."""
        if not self._built or not self._isActive:
            return
        readiness = self.store.readiness(self.scriptedEffect)
        self.entry = self.store.find(self.scriptedEffect)
        if readiness.kind == "session":
            self._startOpening()
        if self.opening is not None and self.store.key(self.scriptedEffect) != self.opening.key:
            self._giveUpOpening()
        self._prepareOverlay()
        self._followUndo()
        if self.entry is not None and self.queue:
            self._answerQueue()
        self.showTexts(readiness)
        self.showThreshold()
        self.drawMarks()

    def _followUndo(self):
        """Undo, redo or another segment: what was said of the last click holds no more."""
        target = self.target()
        work = None if self.entry is None else self.entry.works.get(target)
        if work is not None and get_tag(target.segment, STATE_TAG) != work.texts[-1]:
            self.said = ""
            with self.action():
                self.store.work(self.entry, target)
                self.said = self.volumeText()

    def _startOpening(self):
        key = self.store.key(self.scriptedEffect)
        if self.opening is not None or key == self._failed:
            return
        try:
            self.opening = Opening(self.store, self.scriptedEffect)
            self.openTimer.start()
        except Exception as error:
            self.problem, self._failed = self.told(error), key

    def _onOpen(self):
        working = False
        key = self.store.key(self.scriptedEffect)
        with self.action():
            working = self.opening is not None and self.opening.poll()
        if working and not self.isSceneClosing():
            return
        if self.problem:
            self._failed, self.queue = key, []
        self.openTimer.stop()
        self.opening = None
        self.refresh()

    def _giveUpOpening(self):
        self.openTimer.stop()
        if self.opening is not None:
            self.opening.cancel()
        self.opening, self.queue = None, []

    def onReadyButton(self):
        if self._failed is not None:
            self._failed, self.problem = None, ""
            self.refresh()
        else:
            slicer.util.selectModule("StrokeLesionSeg")

    def openSession(self):
        """Open the session and wait for it, for scripts; raises as the store does."""
        self.store.open(self.scriptedEffect)
        self.refresh()

    def showTexts(self, readiness):
        ready = readiness.kind == "ready"
        failed = self._failed is not None and self._failed == self.store.key(self.scriptedEffect)
        if self.opening is not None:
            text = self.opening.text
            if self.queue:
                text += " " + _("{count} clicks wait.").format(count=len(self.queue))
            else:
                text += " " + _("You may click already.")
        elif ready:
            text = self.said or (
                _("Paint: left adds, right or Ctrl erases.")
                if self.isBrush()
                else _("Click: left lesion, right or Ctrl not lesion.")
            )
            warnings = self.entry.session.warnings
            text = " ".join([text, *warnings] if not self.said else [text])
        else:
            text = readiness.text
        self.showStatus(text)
        button = _("Try again") if failed else readiness.button
        self.readyButton.setText(button)
        self.readyButton.setVisible(bool(button))
        moved = self._shown is not None
        self.thresholdSlider.setEnabled(ready)
        self.applyButton.setEnabled(ready and (moved or self.hasOwnThreshold()))
        self.cancelButton.setEnabled(moved)
        how = _mirror.look()
        for button, own in zip(self.mirrorButtons, MIRRORS, strict=True):
            button.setChecked(own == how)
            button.setEnabled(ready)

    # -- threshold ------------------------------------------------------------------------------

    def hasOwnThreshold(self):
        return self.scriptedEffect.doubleParameter("Threshold") > 0

    def threshold(self):
        """As the user has set it, else the model's own."""
        own = self.entry.session.point.threshold if self.entry is not None else 0.5
        return self.scriptedEffect.doubleParameter("Threshold") or own

    def showThreshold(self):
        widgets.setQuietly(self.thresholdSlider, self.thresholdSlider.setValue, self.threshold())

    def onThreshold(self, value):
        self.scriptedEffect.setParameter("Threshold", float(value))
        if self._isActive and self.entry is not None:
            self.previewTimer.start()

    def updatePreview(self):
        """Show what the model finds at the threshold."""
        target = self.target()
        if self.entry is None or target is None:
            return
        with self.action():
            work = self.store.work(self.entry, target)
            self._shown = correct.found(work.session, self.threshold())
            volume = np.count_nonzero(self._shown) * work.session.grid.voxel_volume_ml
            self.said = _("{ml:.1f} mL at this threshold: Apply or Cancel.").format(ml=volume)
        self._marked = None
        self.refresh()

    def onApply(self):
        target, effect = self.target(), self.scriptedEffect
        if target is None or self.entry is None:
            return
        if effect.confirmCurrentSegmentVisible() == effect.NotConfirmed:
            return
        with self.action(True):
            correct.fill(effect, self.store, self.entry, target, self.threshold())
            self._endPreview()
            self.said = self.volumeText()
        self.refresh()

    def onCancel(self):
        self.scriptedEffect.setParameter("Threshold", 0.0)
        self._endPreview()
        self.said = ""
        self.refresh()

    def _endPreview(self):
        self._shown, self._marked = None, None
        self.actors.showSegment()

    def volumeText(self):
        target = self.target()
        work = self.store.work(self.entry, target)
        made = bool(Provenance.from_segment(target.segment).model)
        return correct.volume_text(work, made)

    # -- drawings -------------------------------------------------------------------------------

    def _prepareOverlay(self):
        """The overlay on the grid that is edited, with a session or while it is on its way."""
        grid = None
        if self.entry is not None:
            grid = self.entry.edit_grid
        elif self.opening is not None:
            grid = self.opening.edit_grid
        if grid is self._grid:
            return
        self._grid = grid
        self.actors.clearOverlay()
        self._shown, self._marked = None, None
        if grid is not None:
            overlay = self.actors.newOverlay(grid)
            overlay.set_color(LESION, LESION_COLOR, 0.9)
            overlay.set_color(OTHER, OTHER_COLOR, 0.9)
            self.followTransform(grid.node)

    def drawMarks(self):
        """Clicks, those that wait too, and the preview of the threshold."""
        overlay, target = self.actors.overlay, self.target()
        if overlay is None or self.gesture is not None:
            return
        clicks = [(v, lesion) for of, vs, lesion in self.queue if of == target for v in vs]
        if self.entry is not None and target is not None and target in self.entry.works:
            clicks += [(c.voxel, c.lesion) for c in self.entry.works[target].session.clicks]
        state = (target, tuple(clicks), self._shown is not None)
        if state == self._marked:
            return
        self._marked = state
        overlay.labels[:] = 0 if self._shown is None else self._shown
        for voxel, lesion in clicks:
            overlay.labels[mark(voxel)] = LESION if lesion else OTHER
        overlay.changed()
        self.actors.layoutChanged()
        self.actors.render()

    def pulse(self):
        self.refresh()
        overlay, target = self.actors.overlay, self.target()
        if overlay is None:
            return
        self.actors.layoutChanged()
        if self._shown is None or target is None:
            return
        display = target.node.GetDisplayNode()
        if display is not None:
            color = display.GetSegmentColor(target.segment_id)
            self.actors.hideSegment(display, target.segment_id)
            self._pulses = (self._pulses + 1) % 10
            opacity = 0.4 + 0.08 * min(self._pulses, 10 - self._pulses)
            overlay.set_color(PREVIEW, tuple(color[n] for n in range(3)), opacity)
            self.actors.render()

    def viewMoved(self, viewWidget):
        self.updateCircles()

    # -- brush ----------------------------------------------------------------------------------

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

    def onDiameter(self, value):
        self.scriptedEffect.setCommonParameter("BrushDiameterIsRelative", 0)
        self.scriptedEffect.setCommonParameter("BrushAbsoluteDiameter", float(value))
        self.updateCircles()

    def scale(self, factor):
        relative = self.scriptedEffect.integerParameter("BrushDiameterIsRelative")
        name = "BrushRelativeDiameter" if relative else "BrushAbsoluteDiameter"
        size = self.scriptedEffect.doubleParameter(name) * factor
        low, high = (0.2, 25.0) if relative else (0.5, 100.0)
        self.scriptedEffect.setCommonParameter(name, min(max(size, low), high))
        self.updateCircles()

    def updateCircles(self):
        """Draw the brush's outline where it is."""
        if not self._isActive:
            return
        node = self.sliceNode(self._mouse[0]) if self._mouse and self.isBrush() else None
        lesion = self.gesture is None or self.gesture.lesion
        for viewWidget in self.actors.visibleWidgets():
            circle = None
            if node is not None:
                circle = brush_circle(
                    self.sliceNode(viewWidget),
                    xy_to_world(node, self._mouse[1]),
                    self.diameter() / 2,
                    bool(self.scriptedEffect.integerParameter("Sphere")),
                    viewWidget == self._mouse[0],
                )
            self.actors.circle(viewWidget, circle, LESION_COLOR if lesion else OTHER_COLOR)

    # -- views ----------------------------------------------------------------------------------

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        node = self.sliceNode(viewWidget)
        if node is None or not self._isActive:
            return False
        if eventId == KEY or eventId in WHEEL_UP or eventId in WHEEL_DOWN:
            return self.onSize(callerInteractor, eventId)
        if eventId == LEAVE:
            self._mouse = None
            self.updateCircles()
            return False
        xy = callerInteractor.GetEventPosition()
        if eventId in (LEFT_PRESS, RIGHT_PRESS, DOUBLE):
            # VTK sends the second of two quick presses as DOUBLE; never for maximizing the view.
            again = eventId == DOUBLE
            if callerInteractor.GetShiftKey() or callerInteractor.GetAltKey():
                return again
            if self.gesture is not None:
                return True
            lesion = eventId != RIGHT_PRESS and not callerInteractor.GetControlKey()
            self._mouse = (viewWidget, xy)
            self.begin(viewWidget, xy, lesion)
            return True
        if eventId == MOVE:
            self._mouse = (viewWidget, xy)
            if self.gesture is not None:
                self.move(viewWidget, xy)
            if self.isBrush():
                self.updateCircles()
            return False
        if eventId in (LEFT_RELEASE, RIGHT_RELEASE) and self.gesture is not None:
            self.move(viewWidget, xy)
            self.end()
            return True
        return False

    def onSize(self, callerInteractor, eventId):
        """Keys and wheel that change the brush; whether they do."""
        if not self.isBrush():
            return False
        if eventId == KEY:
            key = callerInteractor.GetKeySym()
            larger, mine = key in LARGER, key in LARGER + SMALLER
        else:
            larger, mine = eventId in WHEEL_UP, bool(callerInteractor.GetShiftKey())
        if mine:
            self.scale(1 + ZOOM if larger else 1 - ZOOM)
        return mine

    def begin(self, viewWidget, xy, lesion):
        """A button went down."""
        target = self.target()
        if target is None or self._grid is None:
            self.refresh()
            return
        if not self.confirmed():
            return
        refusal = target.refusal()
        if refusal:
            self.problem = refusal
            self.refresh()
            return
        self.problem = ""
        if self._shown is not None:
            self._endPreview()
        self.gesture = gesture = Gesture(viewWidget, xy, lesion, target)
        if self.isBrush():
            if self.entry is None:
                self.gesture = None
                return
            work = self.store.work(self.entry, target)
            gesture.stroke = Stroke(
                self._grid, work.session.probability, target, self.brush(not lesion)
            )
        self.move(viewWidget, xy)
        if self.scriptedEffect.integerParameter("ShowFirst") and not self.isBrush():
            self.showFirst()

    def brush(self, erase):
        effect = self.scriptedEffect
        return Brush(
            self.diameter() / 2,
            self.threshold(),
            bool(effect.integerParameter("Sphere")),
            erase,
            bool(effect.integerParameter("Follow")),
        )

    def move(self, viewWidget, xy):
        """The mouse moved with the button down."""
        gesture, node, overlay = self.gesture, self.sliceNode(viewWidget), self.actors.overlay
        if viewWidget is not gesture.viewWidget and viewWidget != gesture.viewWidget:
            return
        far = max(abs(xy[0] - gesture.start[0]), abs(xy[1] - gesture.start[1])) > STILL
        if gesture.path and not far and not gesture.moved and gesture.stroke is None:
            return
        gesture.moved = gesture.moved or far
        with self.action():
            world = xy_to_world(node, xy)
            gesture.path.append(self._grid.to_local(world))
            label = LESION if gesture.lesion else OTHER
            if gesture.stroke is not None:
                box = gesture.stroke.touch(world, view_plane(node, self._grid))
                if overlay is not None and not is_empty(box):
                    overlay.labels[box] = gesture.stroke.mask[box] * np.uint8(label)
            elif overlay is not None:
                inside = [p for p in gesture.path[-2:] if self._grid.inside(p)]
                for voxel in correct.voxels_along(self._grid, inside) if inside else ():
                    overlay.labels[mark(voxel)] = label
            if overlay is not None:
                overlay.changed()
                self.actors.render()

    def showFirst(self):
        """What a click here would change, before it is taken."""
        gesture, overlay = self.gesture, self.actors.overlay
        if self.entry is None:
            return
        with self.action():
            voxels = correct.voxels_along(self._grid, gesture.path[:1])
            work = self.store.work(self.entry, gesture.target)
            change = work.session.stroke(voxels, gesture.lesion, work.mask)
            work.session.undo(work.mask)
            label = LESION if gesture.lesion else OTHER
            if overlay is not None and change.voxels:
                overlay.labels[change.box][outline(change.changed)] = label
                overlay.changed()
                self.actors.render()

    def end(self):
        """The button went up: the segment changes."""
        released = time.perf_counter()
        gesture, self.gesture = self.gesture, None
        self._marked = None
        with self.action():
            if gesture.stroke is not None:
                self.endStroke(gesture.stroke)
            else:
                path = gesture.path if gesture.moved else gesture.path[:1]
                voxels = correct.voxels_along(self._grid, path)
                if self.entry is None:
                    self.queue.append((gesture.target, voxels, gesture.lesion))
                else:
                    self.answer(gesture.target, voxels, gesture.lesion)
        self.seconds = time.perf_counter() - released
        self.refresh()

    def answer(self, target, voxels, lesion):
        change = correct.correct(
            self.scriptedEffect, self.store, self.entry, target, voxels, lesion, self.threshold()
        )
        self.said = f"{change.sentence} {self.volumeText()}"

    def _answerQueue(self):
        waiting, self.queue = self.queue, []
        for target, voxels, lesion in waiting:
            with self.action():
                self.answer(target, voxels, lesion)

    def endStroke(self, stroke):
        changed = stroke.apply(self.scriptedEffect)
        if not changed:
            self.said = _("Already so in the segment; nothing changed.")
        elif stroke.by_hand:
            said = (
                _("The model finds lesion here: erased as brushed. {volume}")
                if stroke.brush.erase
                else _("The model finds no lesion here: painted as brushed. {volume}")
            )
            self.said = said.format(volume=self.volumeText())
        else:
            self.said = self.volumeText()


def mark(voxel):
    """The voxels that show a click: its own and the six around it, cut to indices from 0."""
    k, j, i = voxel
    return (slice(max(0, k), k + 1), slice(max(0, j - 1), j + 2), slice(max(0, i - 1), i + 2))


def outline(mask):
    """The voxels of a mask that have a neighbour outside of it."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)
