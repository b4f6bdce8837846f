"""Stroke Lesion: fills the selected segment from the model, with a preview that pulses."""

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from StrokeLesionSegLib.boxes import is_empty
from StrokeLesionSegLib.slicerbridge.editor import write
from StrokeLesionSegLib.slicerbridge.editor.regions import region_of, region_voxels

from . import widgets
from .base import ENTER, MOVE, LesionEffect

# Where the sliders of probabilities begin; a lesion that has to reach so little is always kept.
LEAST = 0.05


class SegmentEditorStrokeLesionEffect(LesionEffect):
    """Threshold on the lesion probability: whole volume, visible slice, slab or ROI."""

    effectName = "StrokeLesion"
    effectTitle = _("Stroke Lesion")
    iconFile = "StrokeLesion.png"

    def __init__(self, scriptedEffect):
        LesionEffect.__init__(self, scriptedEffect)
        self._shownBox = None
        self._dirty = True
        self._phase = 0
        self._pending = None  # what Apply waits for: (entry, target, settings, region)
        self.previewTimer = self._timer(0, True, self.updatePreview)

    def helpText(self):
        return "<html>" + _(
            "Fill the selected segment with what the lesion model finds. The preview pulses; "
            "nothing changes before Apply.<p>"
            '<ul style="margin: 0">'
            "<li><b>Threshold:</b> lesion probability from which a voxel is taken."
            "<li><b>Must reach:</b> a lesion is kept only if it has this probability somewhere."
            "<li><b>Region:</b> the whole volume, the slice of the view that you used last, a "
            "slab around it, or a region of interest. What the segment has outside of the "
            "region stays."
            "<li>The visible slice is worked out first; the rest follows while you scroll. "
            "Apply waits for it if it has to."
            "</ul><p>"
        )

    # -- options ------------------------------------------------------------------------------

    def setupOptionsFrame(self):
        self.addStatusRow()
        add = self.scriptedEffect.addLabeledOptionsWidget
        self.addThresholdRow(_("Lesion probability from which a voxel is taken."), LEAST)
        self.sureSlider = widgets.slider(
            LEAST,
            0.99,
            0.01,
            2,
            _(
                "A lesion is kept only if its probability is this high somewhere; below the "
                "threshold it keeps all. Judged once the whole volume is known."
            ),
        )
        add(_("Must reach:"), self.sureSlider)
        self.regionBox = widgets.choice(
            [
                (_("Whole volume"), "whole"),
                (_("Visible slice only"), "slice"),
                (_("Slab around the visible slice"), "slab"),
                (_("Inside a region of interest"), "roi"),
            ],
            _("Where the segment is filled. Outside of it, it stays as it is."),
        )
        add(_("Region:"), self.regionBox)
        self.slabSlider = widgets.slider(
            1, 100, 1, 0, _("Thickness of the slab, across the visible slice."), " mm"
        )
        self.slabLabel = add(_("Slab:"), self.slabSlider)
        self.roiSelector = slicer.qMRMLNodeComboBox()
        self.roiSelector.nodeTypes = ["vtkMRMLMarkupsROINode"]
        self.roiSelector.noneEnabled = True
        self.roiSelector.addEnabled = True
        self.roiSelector.removeEnabled = False
        self.roiSelector.setMRMLScene(slicer.mrmlScene)
        self.roiSelector.setToolTip(_("A box in any direction. Make one here or in Markups."))
        self.roiLabel = add(_("Region of interest:"), self.roiSelector)
        self.smallestSlider = widgets.slider(
            0, 5, 0.05, 2, _("Lesions smaller than this are left out."), " mL"
        )
        add(_("Smallest lesion:"), self.smallestSlider)
        self.largestCheck = widgets.check(
            _("Only the largest lesion"), _("Leave out all but the largest connected piece.")
        )
        self.modeBox = widgets.choice(
            [(_("Replace what is there"), "replace"), (_("Add to what is there"), "add")],
            _("What happens to voxels that the segment has in the region."),
        )
        add(_("Segment:"), widgets.row([self.modeBox, self.largestCheck]))
        self.foundLabel = widgets.label("")
        self.scriptedEffect.addOptionsWidget(self.foundLabel)
        self.cancelButton = widgets.button(_("Cancel"), _("Leave everything as it is."))
        self.applyButton = widgets.button(_("Apply"), _("Fill the selected segment."))
        self.scriptedEffect.addOptionsWidget(widgets.row([self.cancelButton, self.applyButton]))
        self.addMirrorRow()
        self.bind(self.sureSlider, "Sure")
        self.bind(self.smallestSlider, "SmallestMl")
        self.bind(self.slabSlider, "SlabMm")
        self.regionBox.connect("activated(int)", self.updateMRMLFromGUI)
        self.modeBox.connect("activated(int)", self.updateMRMLFromGUI)
        self.largestCheck.connect("clicked(bool)", self.updateMRMLFromGUI)
        self.roiSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.updateMRMLFromGUI)
        self.roiSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onRoiAdded)
        self.applyButton.connect("clicked()", self.onApply)
        self.cancelButton.connect("clicked()", self.onCancel)

    def onRoiAdded(self, roi):
        """A new ROI has no size yet: a third of the image, in the middle of the last view."""
        source = self.scriptedEffect.parameterSetNode().GetSourceVolumeNode()
        if source is None or any(roi.GetSize()):
            return
        bounds = [0.0] * 6
        source.GetRASBounds(bounds)
        ends = [(bounds[2 * n], bounds[2 * n + 1]) for n in range(3)]
        centre = [(low + high) / 2 for low, high in ends]
        node = self.sliceNode(self.currentView())
        if node is not None:
            place = node.GetSliceToRAS()
            centre = [
                min(max(place.GetElement(n, 3), low), high) for n, (low, high) in enumerate(ends)
            ]
        roi.SetCenter(centre)
        roi.SetSize([(high - low) / 3 for low, high in ends])

    def setMRMLDefaults(self):
        default = self.scriptedEffect.setParameterDefault
        default("Threshold", 0.0)  # 0 and -1: the model's own, once it is known
        default("Sure", 0.0)
        default("Region", "whole")
        default("SlabMm", 10.0)
        default("SmallestMl", -1.0)
        default("LargestOnly", 0)
        default("Mode", "replace")

    def updateGUIFromMRML(self):
        effect = self.scriptedEffect
        self.showValues()
        region = effect.parameter("Region")
        self.regionBox.setCurrentIndex(max(0, self.regionBox.findData(region)))
        self.modeBox.setCurrentIndex(max(0, self.modeBox.findData(effect.parameter("Mode"))))
        self.largestCheck.setChecked(bool(effect.integerParameter("LargestOnly")))
        node = effect.nodeReference("Roi")
        widgets.setQuietly(self.roiSelector, self.roiSelector.setCurrentNode, node)
        self.showRows(region)
        self.schedulePreview()
        self.refresh()

    def showValues(self):
        LesionEffect.showValues(self)
        _threshold, sure, _largest, smallest, _mode = self.settings()
        slab = self.scriptedEffect.doubleParameter("SlabMm")
        for slider, value in (
            (self.sureSlider, sure),
            (self.smallestSlider, smallest),
            (self.slabSlider, slab),
        ):
            widgets.setQuietly(slider, slider.setValue, value)

    def valueMoved(self):
        self.schedulePreview()

    def showRows(self, region):
        """Only the rows that the region needs."""
        for item in (self.slabLabel, self.slabSlider):
            item.setVisible(region == "slab")
        for item in (self.roiLabel, self.roiSelector):
            item.setVisible(region == "roi")

    def updateMRMLFromGUI(self, *_args):
        effect = self.scriptedEffect
        node = effect.parameterSetNode()
        wasModifying = node.StartModify()
        try:
            effect.setParameter("Region", self.regionBox.itemData(self.regionBox.currentIndex))
            effect.setParameter("Mode", self.modeBox.itemData(self.modeBox.currentIndex))
            effect.setParameter("LargestOnly", 1 if self.largestCheck.checked else 0)
            effect.setNodeReference("Roi", self.roiSelector.currentNode())
        finally:
            node.EndModify(wasModifying)
        self.showRows(effect.parameter("Region"))
        self.schedulePreview()

    def setReady(self, ready):
        self.applyButton.setEnabled(ready and self._pending is None)
        tip = _("Fill the selected segment.") if ready else self.statusLabel.text
        self.applyButton.setToolTip(tip)
        if self._pending is not None:
            share = int(100 * self._pending[0].session.fraction_done)
            self.applyButton.setText(_("Applying when ready ({share} %)").format(share=share))
        else:
            self.applyButton.setText(_("Apply"))

    # -- preview ------------------------------------------------------------------------------

    def sessionOpened(self):
        self.actors.newOverlay(self.entry.edit_grid)
        self._shownBox = None
        for viewWidget in self.actors.visibleWidgets():
            self.predictView(viewWidget)
        self.schedulePreview()

    def sessionClosed(self):
        self._pending = None

    def deactivate(self):
        self._pending = None
        LesionEffect.deactivate(self)

    def settings(self):
        """(threshold, must reach, only the largest, smallest mL, mode) as they are now."""
        effect = self.scriptedEffect
        session = self.entry.session if self.entry is not None else None
        sure = effect.doubleParameter("Sure")
        smallest = effect.doubleParameter("SmallestMl")
        if session is not None:
            sure = sure or session.sure
            smallest = session.min_volume_ml if smallest < 0 else smallest
        return (
            self.threshold(),
            sure or LEAST,
            bool(effect.integerParameter("LargestOnly")),
            max(0.0, smallest),
            effect.parameter("Mode"),
        )

    def region(self):
        """Where the segment is filled. Raises ``CannotEdit``."""
        effect = self.scriptedEffect
        return region_of(
            effect.parameter("Region"),
            self.entry.edit_grid,
            self.currentPlane(),
            effect.doubleParameter("SlabMm"),
            effect.nodeReference("Roi"),
        )

    def schedulePreview(self):
        """Work the preview out as soon as the events that wait are dealt with."""
        self._dirty = True
        if self._isActive:
            self.previewTimer.start()

    def updatePreview(self):
        overlay = self.actors.overlay
        if self.entry is None or overlay is None:
            return
        self._dirty = False
        roi = self.scriptedEffect.nodeReference("Roi")
        events = (
            []
            if roi is None
            else [
                vtk.vtkCommand.ModifiedEvent,
                roi.PointModifiedEvent,
                roi.TransformModifiedEvent,
            ]
        )
        self.observe("roi", roi, events, lambda *_: self.schedulePreview())
        with self.action():
            region, settings = self.region(), self.settings()
            box, mask = find(self.entry, region, settings)
            if not is_empty(self._shownBox):
                overlay.labels[self._shownBox] = 0
            if not is_empty(box):
                overlay.labels[box] = mask
            self._shownBox = box
            overlay.changed()
            voxels = int(np.count_nonzero(mask))
            volume = voxels * self.entry.edit_grid.grid.voxel_volume_ml
            text = _("{ml:.2f} mL in {voxels} voxels").format(ml=volume, voxels=voxels)
            if not self.entry.session.complete:
                text += " " + _("so far")
            self.foundLabel.setText(text)
            self.pulse()

    def pulse(self):
        overlay, target = self.actors.overlay, self.target()
        if overlay is None or target is None:
            return
        display = target.node.GetDisplayNode()
        color = target.segment.GetColor()
        if display is not None:
            color = display.GetSegmentColor(target.segment_id)
            self.actors.layoutChanged()
            if self.replacesAll():
                self.actors.hideSegment(display, target.segment_id)
            else:
                self.actors.showSegment()
        self._phase = (self._phase + 1) % 10
        overlay.set_color(
            1, tuple(color[n] for n in range(3)), 0.4 + 0.08 * min(self._phase, 10 - self._phase)
        )
        self.actors.render()
        if self._dirty:
            self.previewTimer.start()

    def replacesAll(self):
        """Whether nothing stays of what the segment holds, so that the preview stands for it."""
        effect = self.scriptedEffect
        return effect.parameter("Region") == "whole" and effect.parameter("Mode") != "add"

    def viewMoved(self, viewWidget):
        if self.scriptedEffect.parameter("Region") in ("slice", "slab"):
            self.schedulePreview()

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        moved = eventId in (ENTER, MOVE) and viewWidget is not self.lastView
        if moved and self.sliceNode(viewWidget) is not None:
            self.lastView = viewWidget
            self.viewMoved(viewWidget)
        return False

    def workFailed(self):
        if self._pending is not None:
            self._pending = None
            self.problem += " " + _("Nothing was applied.")

    def probabilityChanged(self, box):
        if box is None or not is_empty(box):
            # While the volume is being worked out, the pulse brings the preview up to date.
            self._dirty = True
        if self._pending is not None:
            self._applyIfKnown()

    # -- apply --------------------------------------------------------------------------------

    def onApply(self):
        effect = self.scriptedEffect
        target = self.target()
        if target is None or self.entry is None:
            return
        if effect.confirmCurrentSegmentVisible() == effect.NotConfirmed:
            return
        with self.action():
            refusal = target.refusal()
            if refusal:
                raise write.CannotEdit(refusal)
            self._pending = (self.entry, target, self.settings(), self.region())
            self._applyIfKnown()
        self.showStatus()

    def _applyIfKnown(self):
        """Apply to the segment that was selected when Apply was pressed, once all is known."""
        entry, target, settings, region = self._pending
        if not isKnown(entry, region):
            self.workTimer.start()
            return
        self._pending = None
        qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            fill(self.scriptedEffect, entry, target, settings, region)
        except write.CannotEdit as error:
            self.problem = str(error)
            self.showStatus()
            return
        finally:
            qt.QApplication.restoreOverrideCursor()
        self.scriptedEffect.selectEffect("")

    def onCancel(self):
        self._pending = None
        self.scriptedEffect.selectEffect("")


def isKnown(entry, region):
    """Whether the whole region has its answer; whole volumes wait until all is complete."""
    if entry.session.complete:
        return True
    if region.kind == "whole":
        return False
    return bool(entry.session.known(region.box(entry.edit_grid.grid)).all())


def find(entry, region, settings):
    """(box, mask) of what the model finds in a region; one voxel type for all callers."""
    threshold, sure, largest, smallest, _mode = settings
    # Keywords are fine here: this is our own Python, not a Qt call.
    return entry.session.mask(
        threshold, region=region, largest_only=largest, min_volume_ml=smallest, sure=sure
    )


def fill(effect, entry, target, settings, region):
    """Fill a segment, as one step for undo. Raises ``CannotEdit``."""
    box, mask = find(entry, region, settings)
    write.begin(effect, target)
    if settings[-1] == "add":
        write.add(effect, target, entry.edit_grid, box, mask)
    else:
        inside = region_voxels(region, entry.edit_grid)
        write.replace(effect, target, entry.edit_grid, inside, box, mask)
