"""Lesion Review: the pieces of the segment, largest first, decided one by one from the keyboard."""

import numpy as np
from slicer.i18n import tr as _
from StrokeLesionSegLib.boxes import is_empty
from StrokeLesionSegLib.slicerbridge.editor.review import Reviewer
from StrokeLesionSegLib.slicerbridge.editor.store import map_for
from StrokeLesionSegLib.slicerbridge.editor.target import EditGrid, resampled
from StrokeLesionSegLib.slicerbridge.editor.views import jump

from . import widgets
from .base import LesionEffect

COLOR = (1.0, 0.9, 0.2)


class SegmentEditorLesionReviewEffect(LesionEffect):
    """Every connected piece of the segment is looked at once: keep, drop or split."""

    effectName = "LesionReview"
    effectTitle = _("Lesion Review")
    iconFile = "LesionReview.png"

    def __init__(self, scriptedEffect):
        LesionEffect.__init__(self, scriptedEffect)
        self.reviewer = None
        self.current = None  # id of the piece that is looked at
        self._key = None  # what the reviewer was made for
        self._shownBox = None
        self._phase = 0
        self._told = ""  # why a key did nothing, until the next one

    def helpText(self):
        return "<html>" + _(
            "Keep, drop or split each piece.<br>"
            '<ul style="margin: 0">'
            "<li>The connected pieces of the segment are listed, largest first."
            "<li><b>n:</b> next piece that is undecided; <b>p:</b> the one before."
            "<li><b>k:</b> keep it and go on."
            "<li><b>x:</b> drop it and go on: it leaves the segment but stays listed."
            "<li><b>s:</b> split it where it is thinnest."
            "<li><b>u:</b> take the decision back."
            "</ul>One decision is one step for undo.<br>"
        )

    def inSight(self):
        return self.table if self._built else None

    def shortcuts(self):
        return [
            ("n", self.onNext),
            ("p", self.onPrevious),
            ("k", self.onKeep),
            ("x", self.onDrop),
            ("s", self.onSplit),
            ("u", self.onTakeBack),
        ]

    # -- options ------------------------------------------------------------------------------

    def setupOptionsFrame(self):
        self.addStatusRow()
        self.table = widgets.table(
            [_("mL"), _("State"), _("Mean p"), _("R, A, S (mm)")],
            _("Largest first. Choose a row to go there."),
        )
        self.keepButton = widgets.button(_("Keep"), _("This is lesion; go on (k)."))
        self.dropButton = widgets.button(_("Drop"), _("This is no lesion; go on (x)."))
        self.splitButton = widgets.button(_("Split"), _("Cut it where it is thinnest (s)."))
        self.previousButton = widgets.button("\u25c2", _("Go to the one before (p)."))
        self.nextButton = widgets.button("\u25b8", _("Go to the next undecided one (n)."))
        self.backButton = widgets.button(_("Take back"), _("Take the decision back (u)."))
        buttons = [
            *(self.keepButton, self.dropButton, self.splitButton, self.backButton),
            *(self.previousButton, self.nextButton),
        ]
        row = widgets.row([widgets.narrow(button) for button in buttons])
        self.scriptedEffect.addOptionsWidget(row)
        self.scriptedEffect.addOptionsWidget(self.table)
        self.table.connect("currentCellChanged(int,int,int,int)", self.onRow)
        self.table.connect("cellClicked(int,int)", self.onRow)
        self.keepButton.connect("clicked()", self.onKeep)
        self.dropButton.connect("clicked()", self.onDrop)
        self.splitButton.connect("clicked()", self.onSplit)
        self.previousButton.connect("clicked()", self.onPrevious)
        self.nextButton.connect("clicked()", self.onNext)
        self.backButton.connect("clicked()", self.onTakeBack)
        self._built = True

    def updateGUIFromMRML(self):
        self.refresh()

    def deactivate(self):
        LesionEffect.deactivate(self)
        self.reviewer, self.current, self._key, self._shownBox = None, None, None, None
        self._told = ""

    # -- list ---------------------------------------------------------------------------------

    def refresh(self):
        """Bring the list in step with the segment that is selected; cheap if nothing changed."""
        if not self._built or not self._isActive:
            return
        target, key = self.target(), self.store.key(self.scriptedEffect)
        if target is None or key is None:
            self._key = self.reviewer = self.current = None
            self.showList()
            return
        if (target, key) != self._key or self.hasOtherGrid():
            self.newReviewer(target, key)
        elif self.reviewer is not None and self.reviewer.is_stale():
            self.look()
        else:
            self.showButtons()

    def hasOtherGrid(self):
        """Whether the segmentation is edited on another grid by now than the reviewer's."""
        image = None if self.reviewer is None else self.scriptedEffect.sourceVolumeImageData()
        return image is not None and not self.reviewer.edit_grid.covers(image)

    def newReviewer(self, target, key):
        self._key, self.reviewer, self.current = (target, key), None, None
        self._told = ""
        editor = self.scriptedEffect.parameterSetNode()
        with self.action(True):
            image = self.scriptedEffect.sourceVolumeImageData()
            grid = EditGrid.from_image(image, editor.GetSegmentationNode())
            node = map_for(editor)
            probability = None if node is None else resampled(node, grid)
            self.reviewer = Reviewer(self.scriptedEffect, grid, target, probability)
            self.reviewer.look()
            self.actors.newOverlay(grid)
            self._shownBox = None
            self.followTransform(grid.node)
        self.showList()
        if self.reviewer is not None and self.reviewer.pieces:
            self.goTo(self.reviewer.next_open(None))

    def look(self):
        before = self.piece()
        self._told = ""
        with self.action():
            self.reviewer.look()
        if before is not None and self.piece() is None:  # an undo named the pieces anew
            self.current = self.reviewer.at(before.voxel)
        self.showList()

    def showList(self):
        states = {"open": _("in the segment"), "kept": _("kept"), "dropped": _("dropped")}
        pieces = () if self.reviewer is None else self.reviewer.pieces
        rows = []
        for p in pieces:
            grid = self.reviewer.edit_grid
            place = ", ".join(f"{v:.0f}" for v in grid.to_world(grid.index_to_local(p.voxel)))
            mean = "" if p.mean_probability is None else f"{p.mean_probability:.2f}"
            rows.append((f"{p.volume_ml:.2f}", states[p.state], mean, place))
        blocked = self.table.blockSignals(True)
        widgets.fill(self.table, rows)
        ids = [p.id for p in pieces]
        if self.current not in ids:
            self.current = None
            self.table.clearSelection()
        else:
            self.table.selectRow(ids.index(self.current))
        self.table.blockSignals(blocked)
        self.showPiece()
        self.showButtons()

    def showButtons(self):
        piece, target = self.piece(), self.target()
        refusal = "" if target is None else target.refusal()
        buttons = {
            "keep": self.keepButton,
            "drop": self.dropButton,
            "split": self.splitButton,
            "back": self.backButton,
        }
        for action, button in buttons.items():
            button.setEnabled(not (refusal or self.whyNot(action, piece)))
        pieces = () if self.reviewer is None else self.reviewer.pieces
        self.nextButton.setEnabled(bool(pieces))
        self.previousButton.setEnabled(bool(pieces))
        still = sum(p.state == "open" for p in pieces)
        volume = sum(p.volume_ml for p in pieces if p.state != "dropped")
        if self.reviewer is None:
            text = self.store.readiness(self.scriptedEffect).text
        elif not pieces:
            text = _("The segment is empty: there is nothing to review.")
        elif still:
            text = _("{count} pieces, {ml:.1f} mL; {still} to decide (keys k, x, s).")
        else:
            text = _("{count} pieces, {ml:.1f} mL; all are decided.")
        text = text.format(count=len(pieces), ml=volume, still=still)
        self.showStatus(refusal or self._told or text)

    @staticmethod
    def whyNot(action, piece):
        """Why an action would change nothing of a piece, and what would; empty if it does."""
        if piece is None:
            return _("No piece is chosen: n goes to the next.")
        if piece.state == "dropped" and action != "back":
            return _("This piece is dropped: u brings it back, n goes on.")
        if piece.state == "kept" and action == "keep":
            return _("This piece is kept already: u takes that back, n goes on.")
        if piece.state == "open" and action == "back":
            return _("Nothing is decided about this piece: k keeps it, x drops it.")
        if piece.voxels < 2 and action == "split":
            return _("A single voxel cannot be split: k keeps it, x drops it.")
        return ""

    def piece(self):
        """The piece that is looked at, or None."""
        if self.reviewer is None:
            return None
        return next((p for p in self.reviewer.pieces if p.id == self.current), None)

    def showPiece(self):
        overlay, piece = self.actors.overlay, self.piece()
        if overlay is None:
            return
        if not is_empty(self._shownBox):
            overlay.labels[self._shownBox] = 0
        self._shownBox = None
        if piece is not None:
            overlay.labels[piece.box] = piece.mask.astype(np.uint8)
            self._shownBox = piece.box
        overlay.changed()
        self.actors.render()

    def pulse(self):
        self.refresh()
        overlay = self.actors.overlay
        if overlay is not None:
            self.actors.layoutChanged()
            self._phase = (self._phase + 1) % 10
            overlay.set_color(1, COLOR, 0.25 + 0.06 * min(self._phase, 10 - self._phase))
            self.actors.render()

    # -- actions ------------------------------------------------------------------------------

    def goTo(self, piece):
        if piece is None:
            return
        self.current, self._told = piece.id, ""
        grid = self.reviewer.edit_grid
        jump(grid, grid.index_to_local(piece.voxel))
        # While an effect is being activated, Slicer does not tell it yet that the views moved.
        self.actors.followAll()
        self.showList()

    def onRow(self, row, *_args):
        if self.reviewer is not None and 0 <= row < len(self.reviewer.pieces):
            self.goTo(self.reviewer.pieces[row])

    def onNext(self):
        if self.reviewer is not None:
            self.goTo(self.reviewer.next_open(self.current))

    def onPrevious(self):
        if self.reviewer is not None:
            self.goTo(self.reviewer.previous(self.current))

    def decide(self, action, call, goOn):
        """Do something with the piece that is looked at; then go on to the next undecided one."""
        if self.reviewer is None or not self.reviewer.pieces:
            return
        self._told = self.whyNot(action, self.piece())
        if self._told:
            self.showButtons()
            return
        effect = self.scriptedEffect
        if effect.confirmCurrentSegmentVisible() == effect.NotConfirmed:
            return
        with self.action():
            call(self.current)
        self.showList()
        if goOn and not self.problem and any(p.state == "open" for p in self.reviewer.pieces):
            self.onNext()

    def onKeep(self):
        self.decide("keep", lambda n: self.reviewer.keep(n), True)

    def onDrop(self):
        self.decide("drop", lambda n: self.reviewer.drop(n), True)

    def onTakeBack(self):
        self.decide("back", lambda n: self.reviewer.take_back(n), False)

    def onSplit(self):
        self.decide("split", lambda n: self.reviewer.split(n), False)
