"""Stroke Lesion: clicks, a brush and outlines that correct the segment with the lesion model."""

import time

import numpy as np
import slicer
from slicer.i18n import tr as _
from StrokeLesionSegLib.slicerbridge.editor import correct, outline, write
from StrokeLesionSegLib.slicerbridge.editor.mirror import MirrorView
from StrokeLesionSegLib.slicerbridge.editor.store import STATE_TAG, Opening
from StrokeLesionSegLib.slicerbridge.editor.stroke import Stroke
from StrokeLesionSegLib.slicerbridge.editor.views import view_plane, xy_to_world
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance, get_tag

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
from .brushtool import BrushTool
from .gesture import Gesture
from .sliceactors import sliceNode
from .strokedrawing import LESION_COLOR, OTHER_COLOR, StrokeDrawing
from .strokeoptions import MODES, StrokeOptions, hint, setDefaults

OPEN_MS = 15
# Views take the size of a new layout after it was chosen.
FIT_MS = 100
# A press that moves less than this, in pixels, is a click.
STILL = 4

_mirror = MirrorView()


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
        self.queue = []  # (key of the session, target, voxels, lesion) that wait for it
        self._said, self._saidOf = "", None
        self._refused = ""  # why the last click was refused
        self._thresholdOf = None  # (id of the scan, threshold) that were seen last
        self.seconds = 0.0  # of the last correction, from mouse release to the labelmap
        self._failed = None  # key of a session that could not be opened
        self.drawing = StrokeDrawing(self.actors)
        self.brushTool = BrushTool(scriptedEffect, self.actors)
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
            "<li><b>Brush:</b> paints what is as likely lesion as where a stroke begins, and with "
            "the right button or Ctrl erases what is as unlikely. <b>Shift + mouse wheel</b> or "
            "<b>+/-:</b> its size."
            "<li><b>Outline:</b> draw around a lesion in one slice, and the slices around follow, "
            "up to the next outline; with the right button or Ctrl around what is none."
            "<li><b>m:</b> from click to brush, outline and back."
            "<li><b>Threshold:</b> fills the segment anew from the model's probability; the "
            "preview pulses, nothing changes before Apply."
            "</ul>A click changes one connected region. What was painted or erased by hand changes "
            "only where it is clicked. Each action is one step for undo.<br>"
        )

    def inSight(self):
        return self.options.applyButton if self._built else None

    def shortcuts(self):
        return [("m", self.onOtherMode)]

    # -- options ------------------------------------------------------------------------------

    def setupOptionsFrame(self):
        self.addStatusRow()
        self.options = StrokeOptions(self)
        self._built = True

    def setMRMLDefaults(self):
        setDefaults(self.scriptedEffect)

    def updateGUIFromMRML(self):
        self.options.showParameters(self.brushTool.diameter(), self.threshold())
        self.updateCircles()
        self.refresh()

    def setMode(self, mode):
        self.scriptedEffect.setParameter("Mode", mode)
        self.updateGUIFromMRML()

    def mode(self):
        """What the mouse does, of ``MODES``."""
        mode = self.scriptedEffect.parameter("Mode")
        return mode if mode in MODES else "click"

    def onOtherMode(self):
        self.setMode(MODES[(MODES.index(self.mode()) + 1) % len(MODES)])

    def isBrush(self):
        return self.mode() == "brush"

    def onMirror(self, how):
        with self.action(True):
            _mirror.show(how, self.entry)
            self.fitTimer.start()
        self.refresh()

    # -- session --------------------------------------------------------------------------------

    def activate(self):
        self.said, self._failed = "", None
        LesionEffect.activate(self)

    def deactivate(self):
        self._giveUpOpening()
        self.gesture, self.entry, self.brushTool.mouse, self.queue = None, None, None, []
        self.drawing.clear()
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
        self._followRefusal()
        self._followScan()
        self._followSelection()
        self._takeUpClicks()
        self._followUndo()
        if self.entry is not None:
            self._answerQueue()
        self.showTexts(readiness)
        self.options.showThreshold(self.threshold())
        self.drawMarks()

    @property
    def said(self):
        """What is told of the last correction, as long as the segment is as it left it."""
        return self._said

    @said.setter
    def said(self, text):
        self._said, self._saidOf = text, write.voxels_stamp(self.target())

    def _takeUpClicks(self):
        """Clicks that the segment keeps from another session or a saved scene are there at once."""
        target, entry = self.target(), self.entry
        if entry is None or target is None or target in entry.works:
            return
        if get_tag(target.segment, STATE_TAG):
            with self.action():
                self.store.work(entry, target)

    def _followUndo(self):
        """Undo, redo, another effect or segment: what was said of the last click holds no more."""
        target = self.target()
        work = None if self.entry is None else self.entry.works.get(target)
        if work is None:
            if self.said and write.voxels_stamp(target) != self._saidOf:
                self.said = ""  # of a segment that is not the selected one
            return
        undone = get_tag(target.segment, STATE_TAG) != work.texts[-1]
        if undone or (self.said and write.voxels_stamp(target) != self._saidOf):
            self.said = ""
            with self.action():
                self.store.work(self.entry, target)
                self.said = self.volumeText(target)

    def _followRefusal(self):
        """Why a click was refused is told no more once that holds no more."""
        target = self.target()
        refusal = "" if target is None else target.refusal()
        if self._refused and self._refused != refusal:
            if self.problem == self._refused:
                self.problem = ""
            self._refused = ""

    def _followScan(self):
        """A threshold that was set for another scan does not hold: the model's own does."""
        if self.entry is None:
            return
        value = self.scriptedEffect.doubleParameter("Threshold")
        before, self._thresholdOf = self._thresholdOf, (self.entry.source_id, value)
        if before is not None and before[0] != self.entry.source_id and before[1] == value > 0:
            self.scriptedEffect.setParameter("Threshold", 0.0)
            self.said = ""

    def _followSelection(self):
        """Another segment was selected while the preview of one pulses: its own takes the place."""
        if self.drawing.preview is not None and self.drawing.previewOf != self.target():
            self.drawing.endPreview()
            self.previewTimer.start()

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
            self._failed = key
            self.queue = [waiting for waiting in self.queue if waiting[0] != key]
        self.openTimer.stop()
        self.opening = None
        self.refresh()

    def _giveUpOpening(self):
        self.openTimer.stop()
        if self.opening is not None:
            self.opening.cancel()
        self.opening = None

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
            waiting = sum(key == self.opening.key for key, *_click in self.queue)
            if waiting == 1:
                text += " " + _("A click waits.")
            elif waiting:
                text += " " + _("{count} clicks wait.").format(count=waiting)
            elif self.mode() == "click":  # brush and outline need the session
                text += " " + _("You may click already.")
        elif ready:
            text = self.said or hint(self.mode())
            warnings = self.entry.session.warnings
            text = " ".join([text, *warnings] if not self.said else [text])
        else:
            text = readiness.text
        self.showStatus(text)
        moved = self.drawing.preview is not None
        editor = self.scriptedEffect.parameterSetNode()
        source = None if editor is None else editor.GetSourceVolumeNode()
        self.options.showState(
            ready,
            canApply=ready and (moved or self.hasOwnThreshold()),
            canCancel=moved,
            remedy=_("Try again") if failed else readiness.button,
            mirror=_mirror.look(None if source is None else source.GetID()),
        )

    # -- threshold ------------------------------------------------------------------------------

    def hasOwnThreshold(self):
        return self.scriptedEffect.doubleParameter("Threshold") > 0

    def threshold(self):
        """As the user has set it, else the model's own."""
        own = self.entry.session.recommended.threshold if self.entry is not None else 0.5
        return self.scriptedEffect.doubleParameter("Threshold") or own

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
            found = correct.found(work.session, self.threshold())
            self.drawing.showPreview(found, target)
            volume = np.count_nonzero(found) * work.session.grid.voxel_volume_ml
            self.said = _("{ml:.1f} mL at this threshold: Apply or Cancel.").format(ml=volume)
        self.refresh()

    def onApply(self):
        target, effect = self.target(), self.scriptedEffect
        if target is None or self.entry is None:
            return
        if effect.confirmCurrentSegmentVisible() == effect.NotConfirmed:
            return
        with self.action(True):
            correct.fill(effect, self.store, self.entry, target, self.threshold())
            self.drawing.endPreview()
            self.said = self.volumeText(target)
        self.refresh()

    def onCancel(self):
        self.scriptedEffect.setParameter("Threshold", 0.0)
        self.drawing.endPreview()
        self.said = ""
        self.refresh()

    def tell(self, target, text):
        """Say what was done to a segment, if it is the selected one."""
        if target == self.target():
            self.said = text

    def volumeText(self, target):
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
        if self.drawing.prepare(grid):
            self.gesture = None  # it was begun on the grid before
            if grid is not None:
                self.followTransform(grid.node)

    def drawMarks(self):
        """Clicks, those that wait too, and the preview of the threshold."""
        target = self.target()
        if self.gesture is not None:
            return
        key = self.store.key(self.scriptedEffect)
        waiting = [(vs, lesion) for *of, vs, lesion in self.queue if of == [key, target]]
        clicks = [(v, lesion) for vs, lesion in waiting for v in vs]
        if self.entry is not None and target is not None and target in self.entry.works:
            clicks += [(c.voxel, c.lesion) for c in self.entry.works[target].session.clicks]
        self.drawing.drawClicks(target, clicks)

    def pulse(self):
        self.refresh()
        self.drawing.pulse(self.target())

    def viewMoved(self, viewWidget):
        self.updateCircles()

    # -- brush ----------------------------------------------------------------------------------

    def onDiameter(self, value):
        self.brushTool.setDiameter(value)
        self.updateCircles()

    def updateCircles(self):
        """Draw the brush's outline where it is."""
        if self._isActive:
            lesion = self.gesture is None or self.gesture.lesion
            self.brushTool.draw(self.isBrush(), LESION_COLOR if lesion else OTHER_COLOR)

    # -- views ----------------------------------------------------------------------------------

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        node = sliceNode(viewWidget)
        if node is None or not self._isActive:
            return False
        if eventId == KEY or eventId in WHEEL_UP or eventId in WHEEL_DOWN:
            return self.onSize(callerInteractor, eventId)
        if eventId == LEAVE:
            self.brushTool.mouse = None
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
            self.brushTool.mouse = (viewWidget, xy)
            self.begin(viewWidget, xy, lesion)
            if self.gesture is not None:
                self.gesture.release = RIGHT_RELEASE if eventId == RIGHT_PRESS else LEFT_RELEASE
            return True
        if eventId == MOVE:
            self.brushTool.mouse = (viewWidget, xy)
            if self.gesture is not None:
                self.move(viewWidget, xy)
            if self.isBrush():
                self.updateCircles()
            return False
        if self.gesture is not None and eventId == self.gesture.release:
            self.move(viewWidget, xy)
            self.end()
            return True
        return False

    def onSize(self, callerInteractor, eventId):
        """Keys and wheel that change the brush; whether they do."""
        mine = self.isBrush() and self.brushTool.changeSize(callerInteractor, eventId)
        if mine:
            self.updateCircles()
        return mine

    def begin(self, viewWidget, xy, lesion):
        """A button went down."""
        target = self.target()
        if target is None or self.drawing.grid is None:
            self.refresh()
            return
        if not self.confirmed():
            return
        refusal = target.refusal()
        if refusal:
            self.problem = self._refused = refusal
            self.refresh()
            return
        self.problem = ""
        if self.drawing.preview is not None:
            self.drawing.endPreview()
        mode = self.mode()
        if mode != "click" and self.entry is None:
            return
        self.gesture = gesture = Gesture(viewWidget, xy, lesion, target, mode)
        if mode != "click":
            # Before anything changes: the volume of now is what changes are told against.
            work = self.store.work(self.entry, target)
        if mode == "brush":
            brush = self.brushTool.brush(self.threshold(), erase=not lesion)
            gesture.stroke = Stroke(self.drawing.grid, work.session.probability, target, brush)
        self.move(viewWidget, xy)
        if self.scriptedEffect.integerParameter("ShowFirst") and mode == "click":
            self.showFirst()

    def move(self, viewWidget, xy):
        """The mouse moved with the button down."""
        gesture, node, grid = self.gesture, sliceNode(viewWidget), self.drawing.grid
        if viewWidget is not gesture.viewWidget and viewWidget != gesture.viewWidget:
            return
        far = max(abs(xy[0] - gesture.start[0]), abs(xy[1] - gesture.start[1])) > STILL
        if gesture.path and not far and not gesture.moved and gesture.stroke is None:
            return
        gesture.moved = gesture.moved or far
        with self.action():
            world = xy_to_world(node, xy)
            gesture.path.append(grid.to_local(world))
            if gesture.stroke is not None:
                box = gesture.stroke.touch(world, view_plane(node, grid))
                self.drawing.drawBrushed(box, gesture.stroke.mask, gesture.lesion)
            else:
                self.drawing.drawPath(gesture.path[-2:], gesture.lesion)

    def showFirst(self):
        """What a click here would change, before it is taken."""
        gesture = self.gesture
        if self.entry is None:
            return
        with self.action():
            voxels = correct.voxels_along(self.drawing.grid, gesture.path[:1])
            work = self.store.work(self.entry, gesture.target)
            work.session.change_threshold(self.threshold())
            change = work.session.stroke(voxels, gesture.lesion, work.mask)
            work.session.undo(work.mask)
            self.drawing.drawChange(change, gesture.lesion)

    def end(self):
        """The button went up: the segment changes."""
        released = time.perf_counter()
        gesture, self.gesture = self.gesture, None
        self.drawing.drawAgain()
        with self.action():
            if gesture.stroke is not None:
                self.tell(gesture.target, self.endStroke(gesture.stroke))
            elif gesture.mode == "outline":
                self.tell(gesture.target, self.endOutline(gesture))
            else:
                path = gesture.path if gesture.moved else gesture.path[:1]
                voxels = correct.voxels_along(self.drawing.grid, path)
                if self.entry is None:
                    key = self.opening.key
                    self.queue.append((key, gesture.target, voxels, gesture.lesion))
                else:
                    self.answer(gesture.target, voxels, gesture.lesion)
        self.seconds = time.perf_counter() - released
        self.refresh()

    def answer(self, target, voxels, lesion):
        change = correct.correct(
            self.scriptedEffect, self.store, self.entry, target, voxels, lesion, self.threshold()
        )
        self.tell(target, f"{correct.change_text(change)} {self.volumeText(target)}")

    def _answerQueue(self):
        """The clicks that waited for this session; those for another model wait on."""
        ready = [waiting for waiting in self.queue if waiting[0] == self.entry.key]
        self.queue = [waiting for waiting in self.queue if waiting not in ready]
        for _key, target, voxels, lesion in ready:
            with self.action():
                self.answer(target, voxels, lesion)

    def endStroke(self, stroke):
        """The segment changes; what to say of it."""
        changed = stroke.apply(self.scriptedEffect)
        if not changed:
            return correct.unchanged_text()
        volume = self.volumeText(stroke.target)
        if not stroke.by_hand:
            return volume
        said = (
            _("Erased; the model finds lesion here. {volume}")
            if stroke.brush.erase
            else _("Painted; the model finds no lesion here. {volume}")
        )
        return said.format(volume=volume)

    def endOutline(self, gesture):
        """The segment changes; what to say of it."""
        changed = outline.draw(
            self.scriptedEffect,
            gesture.target,
            self.drawing.grid,
            gesture.path,
            view_plane(sliceNode(gesture.viewWidget), self.drawing.grid).normal,
            lesion=gesture.lesion,
            around=bool(self.scriptedEffect.integerParameter("Sphere")),
        )
        return self.volumeText(gesture.target) if changed else correct.unchanged_text()
