"""What the effects share: texts, timers, views, shortcuts, and errors as sentences."""

import contextlib
import logging
from pathlib import Path

import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.slicerbridge.editor.store import shared_store
from StrokeLesionSegLib.slicerbridge.editor.target import CannotEdit, EditTarget
from StrokeLesionSegLib.slicerbridge.engine.process import failure_of

from . import widgets
from .registration import newEffect
from .room import Room
from .sliceactors import SliceActors

PULSE_MS = 200
# Slicer lays the options out after it has activated the effect.
ROOM_MS = 50


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
        self.room = Room()
        self.problem = ""
        self._isActive = False
        self._built = False
        self._shortcuts = []
        self._timers = []
        self._observed = {}  # name: (node, tags)
        self.pulseTimer = self._timer(PULSE_MS, False, self._onPulse)
        self.roomTimer = self._timer(ROOM_MS, True, lambda: self.room.make(self.inSight()))

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
        self._makeShortcuts()
        self.pulseTimer.start()
        self.roomTimer.start()
        self.refresh()

    def deactivate(self):
        self._isActive = False
        for timer, _call in self._timers:
            timer.stop()
        for name in self._observed:
            self.observe(name, None)
        self._removeShortcuts()
        self.room.giveBack()
        self.actors.clear()

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
        if callerViewNode.IsA("vtkMRMLSliceNode"):
            self.actors.follow(viewWidget)
            self.viewMoved(viewWidget)

    def setMRMLDefaults(self):
        """Parameters with their defaults; an effect without any sets none."""

    def updateMRMLFromGUI(self, *_args):
        """Every widget here sets its own parameter."""

    # -- what a subclass may do ----------------------------------------------------------------

    def refresh(self):
        """Bring texts and buttons in step with what is selected; cheap."""

    def viewMoved(self, viewWidget):
        """A slice view shows another slice."""

    def pulse(self):
        """Several times a second while the effect is active."""

    def inSight(self):
        """The widget that has to be seen without scrolling; None while there is none."""

    def shortcuts(self):
        """[(key, call)] that live while the effect is active; listed in its help."""
        return []

    # -- panel ----------------------------------------------------------------------------------

    def addStatusRow(self):
        """The sentence about what to do next."""
        self.statusLabel = widgets.label("\n")
        # A text of two lines moves nothing.
        self.statusLabel.setMinimumHeight(self.statusLabel.sizeHint.height())
        self.statusLabel.setAlignment(qt.Qt.AlignLeft | qt.Qt.AlignTop)
        self.scriptedEffect.addOptionsWidget(self.statusLabel)

    def showStatus(self, text):
        self.statusLabel.setText(widgets.asHtml(self.problem or text, bool(self.problem)))

    def observe(self, name, node, events=(), call=None):
        """Watch a node in place of the former one of that name, until the effect is left."""
        before, tags = self._observed.get(name, (None, []))
        if node is before:
            return
        for tag in tags:
            before.RemoveObserver(tag)
        tags = [] if node is None else [node.AddObserver(event, call) for event in events]
        self._observed[name] = (node, tags)

    def followTransform(self, node):
        """Draw anew when the segmentation is moved."""
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        self.observe("segmentation", node, [moved], self._onMoved)

    def _onMoved(self, *_args):
        self.actors.followAll()
        for viewWidget in self.actors.visibleWidgets():
            self.viewMoved(viewWidget)

    def told(self, error):
        """The sentence about an error; any but those with a remedy is our defect, and logged."""
        if isinstance(error, (CannotEdit, InputError)):
            return str(error)
        if isinstance(error, OSError):  # the disk is full, a file cannot be read
            return failure_of(error).sentence
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
            self.refresh()

    # -- what is selected ------------------------------------------------------------------------

    def target(self):
        """The selected segment, or None."""
        return EditTarget.selected(self.scriptedEffect.parameterSetNode())

    def confirmed(self):
        """Whether the user may go on with a hidden segment, without a dialog in between."""
        answer = self.scriptedEffect.confirmCurrentSegmentVisible()
        return answer == self.scriptedEffect.ConfirmedWithoutDialog

    # -- timers ----------------------------------------------------------------------------------

    def _onPulse(self):
        if self._isActive and not self.isSceneClosing():
            self.pulse()

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


LEFT_PRESS = vtk.vtkCommand.LeftButtonPressEvent
LEFT_RELEASE = vtk.vtkCommand.LeftButtonReleaseEvent
RIGHT_PRESS = vtk.vtkCommand.RightButtonPressEvent
RIGHT_RELEASE = vtk.vtkCommand.RightButtonReleaseEvent
# Two quick presses would also maximize the view.
DOUBLE = vtk.vtkCommand.LeftButtonDoubleClickEvent
MOVE = vtk.vtkCommand.MouseMoveEvent
LEAVE = vtk.vtkCommand.LeaveEvent
KEY = vtk.vtkCommand.KeyPressEvent
WHEEL_UP = (vtk.vtkCommand.MouseWheelForwardEvent, vtk.vtkCommand.MouseWheelLeftEvent)
WHEEL_DOWN = (vtk.vtkCommand.MouseWheelBackwardEvent, vtk.vtkCommand.MouseWheelRightEvent)
