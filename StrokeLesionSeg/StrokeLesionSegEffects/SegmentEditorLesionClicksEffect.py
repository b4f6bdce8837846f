"""Lesion Clicks: "this is lesion", "this is not", and the network follows."""

import qt
from slicer.i18n import tr as _
from StrokeLesionSegLib.slicerbridge.editor.clicks import ClickWork
from StrokeLesionSegLib.slicerbridge.editor.points import ClickPoints
from StrokeLesionSegLib.slicerbridge.editor.views import (
    axis_of_view,
    jump,
    view_plane,
    xy_to_world,
)

from . import widgets
from .base import DOUBLE, MOVE, PRESS, RELEASE, LesionEffect, exceptModifiers, otherKey

STEP_MS = 15


class SegmentEditorLesionClicksEffect(LesionEffect):
    """Clicks guide the network, in the slice at once, then through its neighbours."""

    effectName = "LesionClicks"
    effectTitle = _("Lesion Clicks")
    iconFile = "LesionClicks.png"

    def __init__(self, scriptedEffect):
        LesionEffect.__init__(self, scriptedEffect)
        self.work = None  # ClickWork of the last action
        self.pointsTarget = None
        self.points = ClickPoints(self.onPointMoved, self.onPointRemoved)
        self._pressed = False
        self._told = []
        self.stepTimer = self._timer(STEP_MS, False, self.onStep)
        self.toldTimer = self._timer(0, True, self.onTold)

    def helpText(self):
        return "<html>" + _(
            "Correct the segment by clicking; the model works out the rest.<p>"
            '<ul style="margin: 0">'
            "<li><b>Left click:</b> this is lesion."
            "<li><b>Alt + left click</b> (or <b>Ctrl + Shift</b> where the desktop uses Alt for "
            "windows): this is not."
            "<li>The slice follows at once, its neighbours while you go on working."
            "<li><b>Drag a point</b> to move a click; <b>x</b> takes the last one back."
            "<li><b>Start from this segment:</b> clicks then correct what the segment holds, "
            "however it was made."
            "</ul><p>One click is one step for undo, which takes the point along.<p>"
        )

    def shortcuts(self):
        return [("x", self.onRemoveLast)]

    # -- options ------------------------------------------------------------------------------

    def setupOptionsFrame(self):
        self.addStatusRow()
        add = self.scriptedEffect.addLabeledOptionsWidget
        self.lesionButton = widgets.toggle(
            _("Lesion"), _("A click says: this is lesion. With Alt: this is not.")
        )
        self.otherButton = widgets.toggle(
            _("Not lesion"), _("A click says: this is not lesion. With Alt: this is.")
        )
        add(_("A click says:"), widgets.row([self.lesionButton, self.otherButton]))
        self.addThresholdRow(_("Probability threshold of the corrected segment."))
        self.table = widgets.table(
            [_("Click"), _("Says"), _("R, A, S (mm)")], _("Choose a row to go there.")
        )
        self.scriptedEffect.addOptionsWidget(self.table)
        self.removeButton = widgets.button(
            _("Take back"), _("Take back the click of the chosen row, or the last one.")
        )
        self.clearButton = widgets.button(_("Take back all"), _("Take back all clicks."))
        self.startButton = widgets.button(
            _("Start from this segment"),
            _("Let clicks correct what the segment holds now, made by hand or by any tool."),
        )
        self.scriptedEffect.addOptionsWidget(
            widgets.row([self.removeButton, self.clearButton, self.startButton])
        )
        self.workLabel = widgets.label("")
        self.scriptedEffect.addOptionsWidget(self.workLabel)
        self.addMirrorRow()
        self.lesionButton.connect("clicked(bool)", lambda *_: self.setMode(True))
        self.otherButton.connect("clicked(bool)", lambda *_: self.setMode(False))
        self.table.connect("cellClicked(int,int)", self.onRow)
        self.removeButton.connect("clicked()", self.onRemoveChosen)
        self.clearButton.connect("clicked()", self.onClear)
        self.startButton.connect("clicked()", self.onStart)

    def setMRMLDefaults(self):
        self.scriptedEffect.setParameterDefault("Threshold", 0.0)
        self.scriptedEffect.setParameterDefault("Positive", 1)

    def updateGUIFromMRML(self):
        effect = self.scriptedEffect
        self.showValues()
        positive = bool(effect.integerParameter("Positive"))
        self.lesionButton.setChecked(positive)
        self.otherButton.setChecked(not positive)
        self.refresh()

    def updateMRMLFromGUI(self, *_args):
        """Every widget here sets its own parameter."""

    def setMode(self, positive):
        self.scriptedEffect.setParameter("Positive", 1 if positive else 0)
        self.updateGUIFromMRML()

    def setReady(self, ready):
        clicks = self.entry.session.clicks if self.entry is not None else ()
        for item in (self.removeButton, self.clearButton):
            item.setEnabled(ready and bool(clicks))
        self.startButton.setEnabled(ready and self.entry.session.takes_clicks)

    # -- session and points -------------------------------------------------------------------

    def sessionOpened(self):
        if not self.entry.session.takes_clicks:
            self.problem = _("This model takes no clicks. Use the Lesion Brush.")
        self.showClicks()

    def sessionClosed(self):
        self.stepTimer.stop()
        if self.work is not None and self.work.working and not self.isSceneClosing():
            qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
            try:
                self.work.finish()
            finally:
                qt.QApplication.restoreOverrideCursor()
        self.work = None
        self._told = []
        self.points.set_visible(self.pointsTarget, False)
        self.points.forget()
        self.pointsTarget = None

    def stateRestored(self):
        self.work = None
        self.workLabel.setText("")
        self.showClicks()
        self.stepTimer.start()  # restored clicks are worked out before the next one is made

    def showClicks(self):
        """Points in the views and lines in the list, as the session has them."""
        target = self.target()
        if self.entry is None or target is None:
            return
        if self.pointsTarget is not None and self.pointsTarget != target:
            self.points.set_visible(self.pointsTarget, False)
        self.points.show(self.entry, target)
        self.points.set_visible(target, True)
        self.pointsTarget = target
        rows = []
        for click in self.entry.session.clicks:
            says = _("lesion") if click.positive else _("not lesion")
            rows.append((str(click.id), says, ", ".join(f"{v:.0f}" for v in click.ras_mm)))
        widgets.fill(self.table, rows)

    def _onMoved(self, *args):
        LesionEffect._onMoved(self, *args)
        if not self.isSceneClosing():
            self.points.follow()

    # -- actions ------------------------------------------------------------------------------

    def newWork(self):
        """The work of an action on the selected segment; None if there is nothing to act on."""
        target = self.target()
        if self.entry is None or target is None:
            self.showStatus()
            return None
        self.store.follow(self.entry, target)
        return ClickWork(self.scriptedEffect, self.store, self.entry, target, self.threshold())

    def act(self, call):
        """Do an action with a ``ClickWork``, and go on with its work in the background."""
        effect = self.scriptedEffect
        if effect.confirmCurrentSegmentVisible() == effect.NotConfirmed:
            self.showClicks()  # a point that was dragged goes back
            return
        work = self.newWork()
        if work is None:
            return
        with self.action():
            call(work)
            self.work = work
            if work.working:
                self.workLabel.setText(_("Working through the neighbouring slices ..."))
                self.stepTimer.start()
        self.showClicks()
        self.showStatus()

    def onClick(self, viewWidget, xy, positive):
        node = self.sliceNode(viewWidget)
        if self.entry is None:
            self.showStatus()
            return
        plane = view_plane(node, self.entry.edit_grid)
        local = self.entry.edit_grid.to_local(xy_to_world(node, xy))
        axis = axis_of_view(plane, self.entry.edit_grid)
        self.act(lambda work: work.click(local, positive, axis))

    def onStep(self):
        work, entry = self.work, self.entry
        if entry is None or self.isSceneClosing():
            self.stepTimer.stop()
            return
        more = False
        with self.action():
            if work is not None:
                more = work.step(25.0)
            elif entry.session.is_behind(self.threshold()):
                more = entry.session.refine_more(25.0, self.threshold()) is not None
        if not more:
            self.stepTimer.stop()
            if work is not None and work.working:  # it failed: nobody has to wait for it
                work.stop()
            self.workLabel.setText("")
            self.refresh()

    def clicks(self):
        """Those of the selected segment."""
        target = self.target()
        if self.entry is None or target is None:
            return ()
        if self.store.follow(self.entry, target):
            self.stateRestored()
        return self.entry.session.clicks

    def onRemoveLast(self):
        clicks = self.clicks()
        if clicks:
            self.act(lambda work: work.remove(clicks[-1].id))

    def onRemoveChosen(self):
        clicks = self.clicks()
        row = self.table.currentRow()
        if 0 <= row < len(clicks):
            self.act(lambda work: work.remove(clicks[row].id))
        else:
            self.onRemoveLast()

    def onClear(self):
        self.act(lambda work: work.clear())

    def onStart(self):
        self.act(lambda work: work.start_from_segment())
        self.workLabel.setText(_("Clicks now correct the segment as it is."))

    def onRow(self, row, _column):
        clicks = self.entry.session.clicks if self.entry is not None else ()
        if 0 <= row < len(clicks):
            jump(self.entry.edit_grid, clicks[row].ras_mm)

    # The markups must not be changed while they tell of a change: the timer waits that long.

    def onPointMoved(self, clickId, local):
        self._told.append((self.pointsTarget, clickId, local))
        self.toldTimer.start()

    def onPointRemoved(self, clickId):
        self._told.append((self.pointsTarget, clickId, None))
        self.toldTimer.start()

    def onTold(self):
        told, self._told = self._told, []
        for target, clickId, local in told:
            if target != self.target():
                continue  # the points are put back where the clicks are when they show again
            if local is None:
                self.act(lambda work, i=clickId: work.remove(i))
            else:
                self.act(lambda work, i=clickId, place=local: work.move(i, place))

    # -- views --------------------------------------------------------------------------------

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        node = self.sliceNode(viewWidget)
        if node is None or not self._isActive:
            return False
        if eventId == MOVE:
            self.lastView = viewWidget
            return False
        if eventId == RELEASE and self._pressed:
            self._pressed = False
            return True
        if eventId not in (PRESS, DOUBLE):
            return False
        # The second of two quick presses: a click elsewhere, and never for maximizing the view.
        again = eventId == DOUBLE
        other = otherKey(callerInteractor)
        if not other and not exceptModifiers(callerInteractor):
            return again
        if again and self._pressed:
            return True
        xy = callerInteractor.GetEventPosition()
        if not other and self.points.near(node, xy) is not None:
            return again  # the point is dragged: Markups does that
        self.lastView = viewWidget
        # Button up belongs to us even if a dialog took it.
        self._pressed = self.confirmed()
        if self._pressed:
            positive = bool(self.scriptedEffect.integerParameter("Positive")) != other
            qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
            try:
                self.onClick(viewWidget, xy, positive)
            finally:
                qt.QApplication.restoreOverrideCursor()
        return True
