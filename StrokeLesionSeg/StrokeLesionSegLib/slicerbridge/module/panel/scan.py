"""The chosen scan: its check, its window, its views, and which of its results is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...scene.input_check import InputCheck, check_input
from ...scene.look import WINDOWS, set_window, window_of
from ...scene.provenance import Provenance
from ...scene.results import find_segmentation, show_background
from ...scene.scan_views import (
    ScanViews,
    results_of,
    scan_in_all_views,
    show_segmentation,
)
from ...scene.volumes import first_scan, image_of, own_maps
from ..logic import SEGMENT_ATTRIBUTE, newest_segment
from ..measure import rows_of
from . import texts
from .context import ForResult, Notes, Panel
from .look import LookSection
from .result import ResultSection

_LOOK_MS = 100
_ARRIVE_MS = 200


class ScanSection:
    """The scan that the panel works on, its window, and the list of its results.

    ``busy``: whether a run is under way, whose end shows its own result.
    """

    def __init__(
        self,
        panel: Panel,
        result: ResultSection,
        look: LookSection,
        *,
        busy: Callable[[], bool],
    ) -> None:
        self._panel, self._result, self._look, self._busy = panel, result, look, busy
        self.volume: Any = None
        self.check = InputCheck(False, "")
        self._views = ScanViews()
        self._observed: list[tuple[Any, int]] = []
        self._filling = False
        self._chooser = ForResult(panel.ui.resultComboBox)
        self._look_soon = panel.timer(_LOOK_MS, self.look_again)
        self._arrive = panel.timer(_ARRIVE_MS, self.look_for_results)
        ui = panel.ui
        for text, value in WINDOWS:
            ui.windowComboBox.addItem(text, value)
        panel.connect(ui.windowComboBox, "currentIndexChanged(int)", self._on_window)
        panel.connect(ui.resultComboBox, "currentIndexChanged(int)", self._on_result)
        panel.on_click(ui.sampleButton, self._on_sample)

    # -- the chosen scan --------------------------------------------------------------------------

    def choose(self) -> None:
        """Where no scan is chosen, choose the one that was segmented last, or the first."""
        scan = scan_of_newest_result() or first_scan()
        if scan is not None and self._panel.parameters.inputVolume is None:
            self._panel.parameters.inputVolume = scan

    def take(self, keep_result: bool) -> None:
        """Go over to the chosen scan: its result with sliders and table, its image and views.

        ``keep_result``: result and views are those of a scene that was loaded, and stay.
        """
        panel = self._panel
        node, before = panel.parameters.inputVolume, self.volume
        if before is not None and before is not node:
            self._views.keep(before)
        if before is not node:
            panel.show_text(panel.ui.reportLabel, "")  # the report of another scan
        self.volume = node
        self._observe(node)
        self.check = check_input(node)
        panel.notes = Notes()
        if not keep_result:
            found = find_segmentation(node) if node else None
            segment_id = newest_segment(found)
            panel.set(segmentation=found if segment_id else None)
            self._result.let_go()
            if segment_id:
                if found.GetAttribute(SEGMENT_ATTRIBUTE) != segment_id:
                    panel.logic.choose(found, segment_id)  # the one that was chosen is gone
                segment = found.GetSegmentation().GetSegment(segment_id)
                self._result.show_settings(Provenance.from_segment(segment))
            if node is not None:
                if node is not before and self.check.usable:
                    self._views.show(node)
                # A result that came for the same scan may be one of two that are compared.
                show_segmentation(found, alone=node is not before)
                self._look.show_overlay()
        self._result.read_rows()

    def take_results(self, results: Any) -> None:
        """Show what a run of this scan gave."""
        self._result.stop()  # that was for the result before
        self._panel.set(segmentation=results.segmentation_node)
        self._result.show_settings(results.provenance)
        show_background(self.volume)
        show_segmentation(results.segmentation_node)
        self._result.table.fill(rows_of(results.found), results.found.expected_dice)
        self._look.show_overlay()

    def hide_others(self) -> None:
        """Show the segmentation of the chosen scan, and none of another one."""
        if self.volume is not None:
            show_segmentation(find_segmentation(self.volume))

    def let_go(self) -> None:
        """No scan is chosen; the parameters of another scene come next, if any."""
        self.volume = None

    def close(self) -> None:
        """Let go of the scan and of what was remembered of it: its scene is gone."""
        self._observe(None)
        self.check = check_input(None)

    def forget(self) -> None:
        """Let go of the nodes of a scene that closes."""
        self._views.forget()
        self.leave_alone()

    def shut_down(self) -> None:
        """The panel goes."""
        self._look_soon.stop()
        self._arrive.stop()
        self._observe(None)

    def look_again(self) -> None:
        """The image may have moved or changed: check it again, and where its lesions lie."""
        if self._panel.parameters is not None:
            self.check_again()
            self._result.follow_image()
            self._panel.refresh()

    def check_again(self) -> None:
        """Check the image of the parameters."""
        self.check = check_input(self._panel.parameters.inputVolume)

    def _observe(self, node: Any | None) -> None:
        import slicer

        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed = []
        if node is not None:
            for event in (
                slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
                slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
            ):
                tag = node.AddObserver(event, self._on_volume_changed)
                self._observed.append((node, tag))

    def _on_volume_changed(self, caller: Any, event: Any) -> None:
        # Other modules may change it many times a second, and each look goes through all voxels.
        self._look_soon.start()

    def _on_sample(self) -> None:
        import slicer

        from ..sample import add_sample

        slicer.app.setOverrideCursor(self._panel.qt.Qt.WaitCursor)
        try:
            self._panel.parameters.inputVolume = add_sample()
        finally:
            slicer.app.restoreOverrideCursor()

    # -- what arrives -----------------------------------------------------------------------------

    def something_arrived(self) -> None:
        """A node was added to the scene, or a segmentation was changed, by whomever.

        While a scene is loaded or added nothing is chosen: what it says itself counts.
        """
        import slicer

        scene = slicer.mrmlScene
        if not (scene.IsImporting() or scene.IsClosing() or scene.IsRestoring()):
            # A node of a scan is there before its voxels.
            self._arrive.start()

    def leave_alone(self) -> None:
        """What arrived until now is not chosen by itself: it came with a scene."""
        self._arrive.stop()

    def look_for_results(self) -> None:
        """Choose a scan that has come, or show a result that came for the chosen one."""
        import slicer

        scene, parameters = slicer.mrmlScene, self._panel.parameters
        if parameters is None or scene.IsImporting() or scene.IsBatchProcessing() or self._busy():
            return
        if parameters.inputVolume is None:
            self.choose()
            return
        found = find_segmentation(parameters.inputVolume)
        segment_id = newest_segment(found)
        now = (found, segment_id) if segment_id else None
        if now != self._result.shown and not self._result.moving:
            self.take(keep_result=False)
        self._panel.refresh()

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def shown_instead(self) -> str:
        """The name of another scan that the views show, such as one that has just been loaded."""
        shown = scan_in_all_views() if self.volume is not None else None
        return "" if shown is None or shown is self.volume else str(shown.GetName())

    def show(self, view: texts.PanelView) -> None:
        """Input check, window, and the results there are."""
        ui = self._panel.ui
        self._offer_scans()
        said = self.check.text if self.volume is not None else ""
        ui.inputCheckLabel.text = texts.as_html(said)
        ui.sampleButton.visible = self.volume is None
        ui.windowComboBox.enabled = self.volume is not None and self.check.usable
        names = [value for _text, value in WINDOWS]
        self._fill(lambda: _point_to(ui.windowComboBox, names.index(window_of(self.volume))))
        self._list_results()
        self._chooser.show(view)

    def _offer_scans(self) -> None:
        """Our own maps are not among the images to choose from; of a scene that is gone none is
        left out, since the next one may have a scan with the same ID."""
        parameters, ui = self._panel.parameters, self._panel.ui
        maps = [] if parameters is None else own_maps()
        for selector in (ui.inputSelector, ui.earlierSelector):
            chosen = selector.currentNode()
            hidden = [node.GetID() for node in maps if node is not chosen]
            offered = selector.sortFilterProxyModel()
            if list(offered.hiddenNodeIDs) != hidden:
                offered.hiddenNodeIDs = hidden

    def _list_results(self) -> None:
        """List the results of the scan; cheap if nothing changed."""
        combo, now = self._panel.ui.resultComboBox, self._panel.result()
        known = results_of(None if now is None else now[0])
        listed = [(combo.itemData(n), combo.itemText(n)) for n in range(combo.count)]

        def fill() -> None:
            combo.clear()
            for segment_id, name in known:
                combo.addItem(name, segment_id)

        if listed != known:
            self._fill(fill)
        # One result leaves nothing to choose; its row goes to the table.
        self._panel.ui.resultLabel.visible = combo.visible = len(known) > 1
        ids = [segment_id for segment_id, _name in known]
        index = ids.index(now[1]) if now is not None and now[1] in ids else -1
        self._fill(lambda: _point_to(combo, index))

    def _fill(self, change: Callable[[], None]) -> None:
        """Change combo boxes without taking it for the user's choice."""
        before, self._filling = self._filling, True
        try:
            change()
        finally:
            self._filling = before

    def _on_result(self, index: int) -> None:
        """Another result of this scan: the sliders are its own from now on."""
        node, combo = self._panel.segmentation(), self._panel.ui.resultComboBox
        if self._filling or node is None or not 0 <= index < combo.count:
            return
        segment_id = combo.itemData(index)
        if segment_id == newest_segment(node):
            return
        self._result.close_step()
        self._panel.logic.choose(node, segment_id)
        self.take(keep_result=False)
        self._panel.refresh()

    def _on_window(self, index: int) -> None:
        if not self._filling and self.volume is not None and 0 <= index < len(WINDOWS):
            set_window(self.volume, WINDOWS[index][1])


def _point_to(combo: Any, index: int) -> None:
    if combo.currentIndex != index:
        combo.currentIndex = index


def scan_of_newest_result() -> Any | None:
    """The image of the segmentation that a run of a model made last, if both are there."""
    import slicer.util

    for node in reversed(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")):
        scan = image_of(node)
        if scan is not None and newest_segment(node):
            return scan
    return None
