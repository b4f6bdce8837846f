"""What the four effects share: the session and its state in the panel, timers, views, shortcuts."""

import contextlib
import logging
from pathlib import Path

import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.slicerbridge.editor.mirror import MirrorView
from StrokeLesionSegLib.slicerbridge.editor.store import Opening, shared_store
from StrokeLesionSegLib.slicerbridge.editor.target import CannotEdit, EditTarget
from StrokeLesionSegLib.slicerbridge.editor.views import view_plane

from . import widgets
from .registration import newEffect
from .sliceactors import SliceActors

PULSE_MS = 200
WORK_MS = 15
# A view is predicted when scrolling pauses this long; scrolling itself never waits for it.
REST_MS = 40

_mirror = MirrorView()


class LesionEffect(AbstractScriptedSegmentEditorEffect):
    """Base of the effects; a subclass gives names and texts, builds its options and reacts."""

    effectName = ""
    effectTitle = ""
    iconFile = ""

    def __init__(self, scriptedEffect):
        scriptedEffect.name = self.effectName  # not translated: modules find effects by name
        scriptedEffect.title = self.effectTitle
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.store = shared_store()
        self.actors = SliceActors(scriptedEffect)
        self.entry = None
        self.problem = ""
        self.lastView = None  # slice widget that the mouse or the wheel was in last
        self._isActive = False
        self._built = False
        self._pulses = 0
        self._shortcuts = []
        self._resting = []
        self._timers = []
        self.opening = None  # a session on its way
        self._observed = {}  # name: (node, tags)
        self.pulseTimer = self._timer(PULSE_MS, False, self._onPulse)
        self.workTimer = self._timer(WORK_MS, False, self._onWork)
        self.restTimer = self._timer(REST_MS, True, self._onRest)
        self.openTimer = self._timer(WORK_MS, False, self._onOpen)

    def _timer(self, milliseconds, single, call):
        timer = qt.QTimer()
        timer.setInterval(milliseconds)
        timer.setSingleShot(single)
        timer.connect("timeout()", call)
        self._timers.append((timer, call))
        return timer

    # -- Slicer's interface -------------------------------------------------------------------

    def clone(self):
        return newEffect(self.effectName)

    def icon(self):
        return qt.QIcon(str(Path(__file__).resolve().parent / "Icons" / self.iconFile))

    def createCursor(self, widget):
        return qt.QCursor(qt.Qt.CrossCursor)

    def activate(self):
        self._isActive = True
        self.problem = ""
        self.entry = None
        self._makeShortcuts()
        self.pulseTimer.start()
        self.refresh()

    def deactivate(self):
        self._isActive = False
        for timer, _call in self._timers:
            timer.stop()
        self._resting = []
        self._giveUpOpening()
        for name in self._observed:
            self.observe(name, None)
        self._removeShortcuts()
        self.actors.clear()
        self.sessionClosed()
        self.entry = None

    def cleanup(self):
        self.deactivate()
        for timer, call in self._timers:
            timer.disconnect("timeout()", call)
        self._timers = []

    def layoutChanged(self):
        self.actors.layoutChanged()

    def sourceVolumeNodeChanged(self):
        self.refresh()

    def referenceGeometryChanged(self):
        self.refresh()

    def interactionNodeModified(self, interactionNode):
        # Placing markups would click in the same views: end the effect, as Slicer's own do.
        if interactionNode is None:
            return
        mode = interactionNode.GetCurrentInteractionMode()
        if mode != slicer.vtkMRMLInteractionNode.ViewTransform:
            self.scriptedEffect.selectEffect("")

    def processViewNodeEvents(self, callerViewNode, eventId, viewWidget):
        if not self._isActive or callerViewNode is None:
            return
        if not callerViewNode.IsA("vtkMRMLSliceNode"):
            return
        self.lastView = viewWidget
        self.actors.follow(viewWidget)
        if self.entry is not None and not self.entry.session.complete:
            if viewWidget not in self._resting:
                self._resting.append(viewWidget)
            self.restTimer.start()
        self.viewMoved(viewWidget)

    # -- what a subclass may do ----------------------------------------------------------------

    def sessionOpened(self):
        """A session is there now: ``self.entry``."""

    def sessionClosed(self):
        """The session is not the one of what is selected any more."""

    def stateRestored(self):
        """Clicks and decisions changed: another segment was selected, or undo, or redo."""

    def workFailed(self):
        """The background has stopped; ``self.problem`` says why."""

    def probabilityChanged(self, box):
        """More is known in ``box``."""

    def viewMoved(self, viewWidget):
        """A slice view shows another slice."""

    def pulse(self):
        """Several times a second while the effect is active and has a session."""

    def shortcuts(self):
        """[(key, call)] that live while the effect is active; listed in its help."""
        return []

    # -- panel ----------------------------------------------------------------------------------

    def addStatusRow(self):
        """The sentence about what is there, and the button that gets what is missing."""
        self.statusLabel = widgets.label("")
        self.readyButton = widgets.button("", _("Get what is missing before editing."))
        self.readyButton.connect("clicked()", self.onReadyButton)
        self.scriptedEffect.addOptionsWidget(self.statusLabel)
        self.scriptedEffect.addOptionsWidget(self.readyButton)

    def addThresholdRow(self, tip, low=0.05):
        self.thresholdSlider = widgets.slider(low, 0.95, 0.01, 2, tip)
        self.scriptedEffect.addLabeledOptionsWidget(_("Threshold:"), self.thresholdSlider)
        self.bind(self.thresholdSlider, "Threshold")

    def bind(self, slider, name):
        """The slider sets the effect's parameter ``name`` when the user moves it, never before: a
        parameter that is not set means the model's own value, also that of the next model."""
        slider.connect("valueChanged(double)", lambda value: self.onSlider(name, value))

    def onSlider(self, name, value):
        self.scriptedEffect.setParameter(name, float(value))
        self.valueMoved()

    def valueMoved(self):
        """The user has moved a slider."""

    def threshold(self):
        """As the user has set it, else the model's own."""
        own = self.entry.session.threshold if self.entry is not None else 0.5
        return self.scriptedEffect.doubleParameter("Threshold") or own

    def showValues(self):
        """Sliders as the parameters are, or the session's values where those are not set."""
        slider = self.thresholdSlider
        widgets.setQuietly(slider, slider.setValue, self.threshold())

    def addMirrorRow(self):
        """The other hemisphere for comparison."""
        self.mirrorBox = widgets.choice(
            [
                (_("Off"), "none"),
                (_("Over the image"), "overlay"),
                (_("Beside the image"), "beside"),
            ],
            _("Show the same scan flipped from left to right, to compare the two sides."),
        )
        self.mirrorBox.connect("activated(int)", self.onMirror)
        self.scriptedEffect.addLabeledOptionsWidget(_("Mirror image:"), self.mirrorBox)
        self._built = True  # the last row of every effect

    def refresh(self):
        """Bring session, texts and buttons in step with what is selected; cheap."""
        if not self._built or not self._isActive:
            return
        entry = self.store.find(self.scriptedEffect)
        if entry is not self.entry:
            if self.entry is not None:
                self.sessionClosed()
            self.actors.clear()
            self.entry = entry
            node = None if entry is None else entry.edit_grid.node
            moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
            self.observe("segmentation", node, [moved], self._onMoved)
            self.showValues()
            if entry is not None:
                self.sessionOpened()
        target = self.target()
        # Clicks of a segment that was left are worked out to their end first.
        busy = entry is not None and entry.work is not None and entry.work.target != target
        known = entry is not None and target is not None and not busy
        if known and self.store.follow(entry, target):
            self.stateRestored()
        if entry is not None and not entry.session.complete:
            self.workTimer.start()
        self.showStatus()

    def observe(self, name, node, events=(), call=None):
        """Watch a node in place of the former one of that name, until the effect is left."""
        before, tags = self._observed.get(name, (None, []))
        if node is before:
            return
        for tag in tags:
            before.RemoveObserver(tag)
        tags = [] if node is None else [node.AddObserver(event, call) for event in events]
        self._observed[name] = (node, tags)

    def _onMoved(self, *_args):
        for viewWidget in self.actors.visibleWidgets():
            self.actors.follow(viewWidget)
            self.viewMoved(viewWidget)

    def showStatus(self):
        if self.opening is not None:  # asked many times a second: don't look on the disk
            text, button, ready = self.opening.text, _("Cancel"), False
        else:
            found = self.store.readiness(self.scriptedEffect)
            text, button, ready = found.text, found.button, found.kind == "ready"
        if self.entry is not None and self.entry.session.warnings:
            text += " " + " ".join(self.entry.session.warnings)
        self.statusLabel.setText(widgets.asHtml(self.problem or text, bool(self.problem)))
        self.readyButton.setVisible(bool(button))
        self.readyButton.setText(button)
        self.setReady(ready)
        index = ["none", "overlay", "beside"].index(_mirror.look())
        self.mirrorBox.setCurrentIndex(index)
        self.mirrorBox.setEnabled(self.entry is not None)

    def setReady(self, ready):
        """Enable what needs a session and an editable segment."""

    def onReadyButton(self):
        if self.opening is not None:
            self._giveUpOpening()
            self.showStatus()
            return
        kind = self.store.readiness(self.scriptedEffect).kind
        if kind in ("torch", "model"):
            slicer.util.selectModule("StrokeLesionSeg")
            return
        self.statusLabel.setText(widgets.asHtml(_("Loading the model ...")))
        slicer.app.processEvents()
        with self.action(True):
            self.opening = Opening(self.store, self.scriptedEffect)
            self.openTimer.start()
        self.showStatus()

    def openSession(self):
        """Open the session and wait for it, for scripts; raises as the store does."""
        self.store.open(self.scriptedEffect)
        self.refresh()

    def _onOpen(self):
        working = False
        with self.action():
            working = self.opening is not None and self.opening.poll()
        if not working or self.isSceneClosing():
            self._giveUpOpening()
            self.refresh()
        self.showStatus()

    def _giveUpOpening(self):
        self.openTimer.stop()
        if self.opening is not None:
            self.opening.cancel()
        self.opening = None

    def onMirror(self, index):
        how = ["none", "overlay", "beside"][index]
        with self.action(True):
            _mirror.show(how, self.entry)
        self.showStatus()

    def told(self, error):
        """The sentence about an error; any but those with a remedy is our defect, and logged."""
        if isinstance(error, (CannotEdit, InputError)):
            return str(error)
        logging.error("%s: defect of StrokeLesionSeg", self.effectName, exc_info=error)
        return _("A defect of StrokeLesionSeg; the log has the details: {error}").format(
            error=f"{type(error).__name__}: {error}"
        )

    @contextlib.contextmanager
    def action(self, wait=False):
        """Around what the user asked for: problems become a sentence in the panel."""
        self.problem = ""
        if wait:
            qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            yield
        except Cancelled:
            pass
        except Exception as error:
            self.problem = self.told(error)
        finally:
            if wait:
                qt.QApplication.restoreOverrideCursor()
        if self.problem:
            self.showStatus()

    # -- what is selected ------------------------------------------------------------------------

    def target(self):
        """The selected segment, or None."""
        return EditTarget.selected(self.scriptedEffect.parameterSetNode())

    def confirmed(self):
        """Whether the user may go on with a hidden segment, without a dialog in between."""
        answer = self.scriptedEffect.confirmCurrentSegmentVisible()
        return answer == self.scriptedEffect.ConfirmedWithoutDialog

    def sliceNode(self, viewWidget):
        """The slice node of a slice view; None for a 3D view."""
        if viewWidget is None or viewWidget.className() != "qMRMLSliceWidget":
            return None
        return viewWidget.sliceLogic().GetSliceNode()

    def currentView(self):
        """The slice view that the user looked at last, or the first that is visible."""
        visible = self.actors.visibleWidgets()
        if self.lastView in visible:
            return self.lastView
        return visible[0] if visible else None

    def currentPlane(self):
        """What the last view shows of the edited grid, or None."""
        node = self.sliceNode(self.currentView())
        if node is None or self.entry is None:
            return None
        return view_plane(node, self.entry.edit_grid)

    # -- timers ----------------------------------------------------------------------------------

    def _onPulse(self):
        if self.isSceneClosing():
            return
        self._pulses += 1
        # Without a session, what is missing is looked for on disk: once a second is enough.
        if self.entry is not None or self._pulses % 5 == 0:
            self.refresh()
        if self.entry is not None:
            self.pulse()

    def _onWork(self):
        entry = self.entry
        if entry is None or self.isSceneClosing():
            self.workTimer.stop()
            return
        try:
            plane = self.currentPlane()
            aligned = plane is not None and plane.axis is not None
            box = entry.session.work(25.0, (plane.axis, plane.index) if aligned else None)
        except Exception as error:
            self.workTimer.stop()
            self.problem = self.told(error)
            self.workFailed()
            self.showStatus()
            return
        if box is None:
            self.workTimer.stop()
            self.store.keep_map(entry)
            self.refresh()
        self.probabilityChanged(box)

    def _onRest(self):
        resting, self._resting = self._resting, []
        for viewWidget in resting:
            self.predictView(viewWidget)

    def predictView(self, viewWidget):
        """Predict what a slice view shows, if that is not known."""
        node = self.sliceNode(viewWidget)
        if node is None or self.entry is None or self.entry.session.complete:
            return
        plane = view_plane(node, self.entry.edit_grid)
        with self.action():
            if plane.axis is not None:
                box = self.entry.session.predict_visible(plane.axis, plane.index)
            else:
                box = self.entry.session.predict_plane(plane.origin, plane.u, plane.v)
            self.probabilityChanged(box)

    def isSceneClosing(self):
        return slicer.mrmlScene is None or bool(slicer.mrmlScene.IsClosing())

    # -- shortcuts ---------------------------------------------------------------------------------

    def _makeShortcuts(self):
        self._removeShortcuts()
        window = slicer.util.mainWindow()
        if window is None:
            return
        for key, call in self.shortcuts():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.setAutoRepeat(False)  # a key that is held a little long decides once
            shortcut.connect("activated()", call)
            self._shortcuts.append((shortcut, call))

    def _removeShortcuts(self):
        for shortcut, call in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.disconnect("activated()", call)
            shortcut.deleteLater()
        self._shortcuts = []


def exceptModifiers(interactor):
    """Whether no modifier key is down."""
    return not (interactor.GetShiftKey() or interactor.GetControlKey() or interactor.GetAltKey())


def otherKey(interactor):
    """Whether the key is down that turns a brush into an eraser and a click into "not lesion".

    Alt alone, and Ctrl with Shift for desktops whose window manager takes Alt and the mouse; Slicer
    uses neither with the left button.
    """
    shift, control, alt = (
        interactor.GetShiftKey(),
        interactor.GetControlKey(),
        interactor.GetAltKey(),
    )
    return bool((alt and not shift and not control) or (shift and control and not alt))


PRESS = vtk.vtkCommand.LeftButtonPressEvent
RELEASE = vtk.vtkCommand.LeftButtonReleaseEvent
# Two quick presses would also maximize the view.
DOUBLE = vtk.vtkCommand.LeftButtonDoubleClickEvent
MOVE = vtk.vtkCommand.MouseMoveEvent
LEAVE = vtk.vtkCommand.LeaveEvent
ENTER = vtk.vtkCommand.EnterEvent
KEY = vtk.vtkCommand.KeyPressEvent
WHEEL_UP = (vtk.vtkCommand.MouseWheelForwardEvent, vtk.vtkCommand.MouseWheelLeftEvent)
WHEEL_DOWN = (vtk.vtkCommand.MouseWheelBackwardEvent, vtk.vtkCommand.MouseWheelRightEvent)
