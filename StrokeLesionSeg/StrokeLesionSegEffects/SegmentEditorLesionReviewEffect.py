"""Lesion Review: the candidates in order of doubt, decided one by one from the keyboard."""

from slicer.i18n import tr as _
from StrokeLesionSegLib.boxes import is_empty
from StrokeLesionSegLib.slicerbridge.editor.review import Reviewer
from StrokeLesionSegLib.slicerbridge.editor.views import jump

from . import widgets
from .base import LesionEffect

# While the volume is being worked out, the list is made anew every so many pulses.
LOOK_EVERY = 8


class SegmentEditorLesionReviewEffect(LesionEffect):
    """Next, accept, reject: every candidate of the model is looked at once."""

    effectName = "LesionReview"
    effectTitle = _("Lesion Review")
    iconFile = "LesionReview.png"

    def __init__(self, scriptedEffect):
        LesionEffect.__init__(self, scriptedEffect)
        self.reviewer = None
        self.current = None  # id of the candidate that is looked at
        self._shownBox = None
        self._phase = 0
        self._stale = False

    def helpText(self):
        return "<html>" + _(
            "Look at what the model marks, the most doubtful first. All slice views jump there.<p>"
            '<ul style="margin: 0">'
            "<li><b>n:</b> next one that is open; <b>p:</b> the one before, decided or not."
            "<li><b>a:</b> accept, the segment holds it."
            "<li><b>x:</b> reject, it leaves the segment but stays listed."
            "<li><b>u:</b> take the decision back."
            "<li><b>s:</b> split it where it is thinnest."
            "<li><b>k:</b> run the model on it again, more thoroughly."
            "</ul><p>One decision is one step for undo.<p>"
        )

    def shortcuts(self):
        return [
            ("n", self.onNext),
            ("p", self.onPrevious),
            ("a", self.onAccept),
            ("x", self.onReject),
            ("u", self.onTakeBack),
            ("s", self.onSplit),
            ("k", self.onRerun),
        ]

    # -- options ------------------------------------------------------------------------------

    def setupOptionsFrame(self):
        self.addStatusRow()
        add = self.scriptedEffect.addLabeledOptionsWidget
        self.addThresholdRow(_("Lesion probability from which a voxel counts."))
        self.smallestSlider = widgets.slider(
            0, 5, 0.05, 2, _("Pieces smaller than this are not listed."), " mL"
        )
        add(_("Smallest lesion:"), self.smallestSlider)
        self.bind(self.smallestSlider, "SmallestMl")
        self.table = widgets.table(
            [_("State"), _("mL"), _("Mean p"), _("Doubt"), _("R, A, S (mm)")],
            _("Most doubtful first. Choose a row to go there."),
        )
        self.scriptedEffect.addOptionsWidget(self.table)
        self.countLabel = widgets.label("")
        self.scriptedEffect.addOptionsWidget(self.countLabel)
        self.previousButton = widgets.button(
            _("Previous"), _("Go to the one before, decided or not (p).")
        )
        self.nextButton = widgets.button(_("Next"), _("Go to the next one that is open (n)."))
        self.acceptButton = widgets.button(_("Accept"), _("This is lesion (a)."))
        self.rejectButton = widgets.button(_("Reject"), _("This is no lesion (x)."))
        self.backButton = widgets.button(_("Take back"), _("Take the decision back (u)."))
        self.splitButton = widgets.button(_("Split"), _("Cut it where it is thinnest (s)."))
        self.rerunButton = widgets.button(_("Run again"), _("Ask the model again (k)."))
        for items in (
            [self.previousButton, self.acceptButton, self.rejectButton, self.nextButton],
            [self.backButton, self.splitButton, self.rerunButton],
        ):
            self.scriptedEffect.addOptionsWidget(widgets.row(items))
        self.addMirrorRow()
        self.table.connect("cellClicked(int,int)", self.onRow)
        self.previousButton.connect("clicked()", self.onPrevious)
        self.nextButton.connect("clicked()", self.onNext)
        self.acceptButton.connect("clicked()", self.onAccept)
        self.rejectButton.connect("clicked()", self.onReject)
        self.backButton.connect("clicked()", self.onTakeBack)
        self.splitButton.connect("clicked()", self.onSplit)
        self.rerunButton.connect("clicked()", self.onRerun)

    def setMRMLDefaults(self):
        self.scriptedEffect.setParameterDefault("Threshold", 0.0)
        self.scriptedEffect.setParameterDefault("SmallestMl", 0.05)

    def updateGUIFromMRML(self):
        self.showValues()
        self.refresh()

    def showValues(self):
        LesionEffect.showValues(self)
        smallest = self.scriptedEffect.doubleParameter("SmallestMl")
        widgets.setQuietly(self.smallestSlider, self.smallestSlider.setValue, smallest)

    def updateMRMLFromGUI(self, *_args):
        """Every widget here sets its own parameter."""

    def valueMoved(self):
        self._stale = True  # the next pulse makes the list anew

    def setReady(self, ready):
        chosen = self.candidate()
        for item in (self.acceptButton, self.rejectButton, self.splitButton, self.rerunButton):
            item.setEnabled(ready and chosen is not None)
        self.backButton.setEnabled(ready and chosen is not None and chosen.state != "open")
        many = self.reviewer is not None and bool(self.reviewer.candidates)
        self.nextButton.setEnabled(many)
        self.previousButton.setEnabled(many)

    # -- list ---------------------------------------------------------------------------------

    def sessionOpened(self):
        overlay = self.actors.newOverlay(self.entry.edit_grid)
        overlay.set_color(1, (1.0, 0.9, 0.2), 0.5)
        self._shownBox = None
        self.newReviewer()

    def sessionClosed(self):
        self.reviewer = None
        self.current = None
        self._shownBox = None

    def stateRestored(self):
        if self.reviewer is None or self.reviewer.target != self.target():
            self.newReviewer()
        else:
            self.look()

    def newReviewer(self):
        target = self.target()
        if self.entry is None or target is None:
            return
        self.store.follow(self.entry, target)
        self.reviewer = Reviewer(self.scriptedEffect, self.store, self.entry, target)
        self.look()

    def look(self):
        """Make the list anew and keep the chosen candidate, if it is still there."""
        if self.reviewer is None:
            return
        self._stale = False
        effect = self.scriptedEffect
        with self.action():
            self.reviewer.look(self.threshold(), effect.doubleParameter("SmallestMl"))
        self.showList()

    def showList(self):
        states = {"open": _("open"), "accepted": _("lesion"), "rejected": _("no lesion")}
        rows = []
        for c in self.reviewer.candidates:
            place = ", ".join(f"{v:.0f}" for v in c.centroid_ras_mm)
            rows.append(
                (
                    states[c.state],
                    f"{c.volume_ml:.2f}",
                    f"{c.mean_probability:.2f}",
                    f"{c.doubt:.2f}",
                    place,
                )
            )
        widgets.fill(self.table, rows)
        ids = [c.id for c in self.reviewer.candidates]
        if self.current not in ids:
            self.current = None
        else:
            self.table.selectRow(ids.index(self.current))
        still = sum(c.state == "open" for c in self.reviewer.candidates)
        text = _("{count} found, {still} still to decide").format(count=len(ids), still=still)
        if self.entry is not None and not self.entry.session.complete:
            text += _(" (the volume is still being worked out)")
        self.countLabel.setText(text)
        self.showCandidate()
        self.showStatus()

    def candidate(self):
        """The candidate that is looked at, or None."""
        if self.reviewer is None:
            return None
        return next((c for c in self.reviewer.candidates if c.id == self.current), None)

    def showCandidate(self):
        overlay = self.actors.overlay
        if overlay is None:
            return
        if not is_empty(self._shownBox):
            overlay.labels[self._shownBox] = 0
        self._shownBox = None
        if self.candidate() is not None:
            box, mask = self.entry.session.candidate_mask(self.current)
            overlay.labels[box] = mask
            self._shownBox = box
        overlay.changed()
        self.actors.render()

    def pulse(self):
        self._phase += 1
        working = not self.entry.session.complete
        if self.reviewer is not None and self.reviewer.target != self.target():
            self.newReviewer()
        elif self._stale or (working and self._phase % LOOK_EVERY == 0):
            self.look()
        overlay = self.actors.overlay
        if overlay is not None:
            self.actors.layoutChanged()
            phase = self._phase % 10
            overlay.set_color(1, (1.0, 0.9, 0.2), 0.25 + 0.06 * min(phase, 10 - phase))
            self.actors.render()

    def probabilityChanged(self, box):
        if box is None:
            self._stale = True

    # -- actions ------------------------------------------------------------------------------

    def goTo(self, candidate):
        if candidate is None:
            return
        self.current = candidate.id
        jump(self.entry.edit_grid, candidate.voxel_ras_mm)
        self.showList()

    def onRow(self, row, _column):
        if self.reviewer is not None and 0 <= row < len(self.reviewer.candidates):
            self.goTo(self.reviewer.candidates[row])

    def onNext(self):
        if self.reviewer is not None:
            self.goTo(self.reviewer.next_open(self.current))

    def onPrevious(self):
        if self.reviewer is not None:
            self.goTo(self.reviewer.previous(self.current))

    def decide(self, call, goOn, wait=False):
        """Do something with the candidate that is looked at; then go on to the next open one."""
        if self.reviewer is None or self.candidate() is None:
            return
        effect = self.scriptedEffect
        if effect.confirmCurrentSegmentVisible() == effect.NotConfirmed:
            return
        before = [c.id for c in self.reviewer.candidates if c.state == "open"]
        with self.action(wait):
            call(self.current)
        self.showList()
        if goOn and not self.problem and any(n != self.current for n in before):
            self.onNext()

    def onAccept(self):
        self.decide(lambda n: self.reviewer.accept(n), True)

    def onReject(self):
        self.decide(lambda n: self.reviewer.reject(n), True)

    def onTakeBack(self):
        self.decide(lambda n: self.reviewer.take_back(n), False)

    def onSplit(self):
        self.decide(lambda n: self.reviewer.split(n), False)

    def onRerun(self):
        self.decide(lambda n: self.reviewer.rerun(n), False, True)
