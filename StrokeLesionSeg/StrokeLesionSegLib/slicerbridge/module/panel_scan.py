"""One story for each scan: what of the panel and the views follows the scan that is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine.torch_setup import TorchState, torch_state
from ..i18n import tr as _
from ..scene.input_check import InputCheck, check_input
from ..scene.look import (
    WINDOWS,
    made_by,
    set_window,
    show_in_3d,
    shown_in_3d,
    term_of,
    window_of,
)
from ..scene.provenance import Provenance
from ..scene.results import find_segmentation, maps_of
from ..scene.scan_views import ScanViews, results_of, show_segmentation_of
from ..scene.volumes import first_scan
from .logic import newest_segment


class PanelScan:
    """The part of ``PanelController`` that follows the chosen scan and what arrives in the scene.

    Its attributes are those of the controller.
    """

    ui: Any
    qt: Any
    logic: Any
    run: Any
    parameters: Any
    views: ScanViews
    _volume: Any
    _sliders_of: tuple[Any, str] | None
    _observed: list[tuple[Any, int]]
    _look: Any
    _arrive: Any
    _input_check: InputCheck
    _torch: TorchState
    _problem: str
    _warnings: tuple[str, ...]
    _applied: tuple[float, float, str] | None
    _kept_apart: bool
    _cancelled: bool
    _step_open: bool
    _searching: bool
    _filling: bool

    # What the other parts do.
    refresh: Callable[[], None]
    _settings: Callable[[], tuple[float, float, str]]
    _set: Callable[..., None]
    _read_rows: Callable[[], None]
    _show_overlay: Callable[[], None]
    _close_step: Callable[[], None]

    # -- the chosen scan --------------------------------------------------------------------------

    def _take_volume(self, keep_result: bool) -> None:
        """Go over to the chosen scan: its result with sliders and table, its image and views.

        ``keep_result``: result and views are those of a scene that was loaded, and stay.
        """
        node, before = self.parameters.inputVolume, self._volume
        if before is not None and before is not node:
            self.views.keep(before)
        self._volume = node
        self._observe(node)
        self._input_check, self._torch = check_input(node), torch_state()
        self._problem, self._warnings = "", ()
        self._kept_apart = self._cancelled = False
        if keep_result:
            self._sliders_of = self._result()
        else:
            found = find_segmentation(node) if node else None
            segment_id = newest_segment(found)
            self._set(segmentation=found if segment_id else None)
            self._sliders_of = None
            if segment_id:
                segment = found.GetSegmentation().GetSegment(segment_id)
                self._show_settings(Provenance.from_segment(segment))
            if node is not None:
                if node is not before and self._input_check.usable:
                    self.views.show(node)
                show_segmentation_of(node, found)
                self._show_overlay()
        self._read_rows()

    def _show_settings(self, made: Provenance) -> None:
        """Put the settings that made a segment into the sliders, without applying them again."""
        self._set(
            threshold=min(max(made.threshold, 0.05), 0.95),
            minimumVolumeMl=min(max(made.min_volume_ml, 0.0), 100.0),
            dropped=made.dropped,
        )
        self._applied = self._settings()
        self._sliders_of = self._result()

    def _segmentation(self) -> Any | None:
        node = self.parameters.segmentation if self.parameters is not None else None
        return node if node is not None and newest_segment(node) else None

    def _result(self) -> tuple[Any, str] | None:
        """What the sliders change now."""
        node = self._segmentation()
        return None if node is None else (node, newest_segment(node))

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
        self._look.start()

    # -- what arrives -----------------------------------------------------------------------------

    def somethingArrived(self) -> None:
        """A node was added to the scene, or a segmentation was changed, by whomever.

        While a scene is loaded or added nothing is chosen: what it says itself counts.
        """
        import slicer

        scene = slicer.mrmlScene
        if not (scene.IsImporting() or scene.IsClosing() or scene.IsRestoring()):
            self._arrive.start()

    def leaveAlone(self) -> None:
        """What arrived until now is not chosen by itself: it came with a scene."""
        self._arrive.stop()

    def _on_arrival(self) -> None:
        """A node of a scan is there before its voxels, so that this looks a little later."""
        import slicer

        scene = slicer.mrmlScene
        if self.parameters is None or scene.IsImporting() or scene.IsBatchProcessing():
            return
        if self.run is not None:  # its end shows its own result
            return
        if self.parameters.inputVolume is None:
            self.chooseScan()
            return
        found = find_segmentation(self.parameters.inputVolume)
        segment_id = newest_segment(found)
        moving = self._step_open or self._searching
        if segment_id and not moving and (found, segment_id) != self._sliders_of:
            self._take_volume(keep_result=False)
        self.refresh()

    def chooseScan(self) -> None:
        """Where no scan is chosen, choose the one that was segmented last, or the first."""
        scan = scan_of_newest_result() or first_scan()
        if scan is not None and self.parameters.inputVolume is None:
            self.parameters.inputVolume = scan

    # -- which result -----------------------------------------------------------------------------

    def _fill_results(self) -> None:
        """List the results of the scan; cheap if nothing changed."""
        combo, now = self.ui.resultComboBox, self._result()
        node = None if now is None else now[0]
        known = results_of(node)
        shown = [(combo.itemData(n), combo.itemText(n)) for n in range(combo.count)]
        ids = [segment_id for segment_id, _name in known]
        if shown != known:
            self._filling = True
            try:
                combo.clear()
                for segment_id, name in known:
                    combo.addItem(name, segment_id)
            finally:
                self._filling = False
        # One result leaves nothing to choose; its row goes to the table.
        self.ui.resultLabel.visible = combo.visible = len(known) > 1
        index = ids.index(now[1]) if now is not None and now[1] in ids else -1
        if combo.currentIndex != index:
            self._filling = True
            combo.currentIndex = index
            self._filling = False

    def _on_result(self, index: int) -> None:
        """Another result of this scan: the sliders are its own from now on."""
        node = self._segmentation()
        if self._filling or node is None or not 0 <= index < self.ui.resultComboBox.count:
            return
        segment_id = self.ui.resultComboBox.itemData(index)
        if segment_id == newest_segment(node):
            return
        self._close_step()
        self.logic.choose(node, segment_id)
        self._take_volume(keep_result=False)
        self.refresh()

    # -- how it looks -----------------------------------------------------------------------------

    def _show_look(self) -> None:
        """The widgets for window, surface and colour show what is; cheap."""
        ui, result = self.ui, self._result()
        ui.windowComboBox.enabled = self._volume is not None and self._input_check.usable
        names = [value for _text, value in WINDOWS]
        self._filling, before = True, self._filling
        ui.windowComboBox.currentIndex = names.index(window_of(self._volume))
        self._filling = before
        ui.surfaceButton.checked = shown_in_3d(None if result is None else result[0])
        ui.colorButton.toolTip = _("Segment an image first.")
        if result is not None:
            segment = result[0].GetSegmentation().GetSegment(result[1])
            texts = [term_of(segment), made_by(segment)]
            ui.colorButton.toolTip = _("Colour of the segment: {term}.").format(
                term=", ".join(filter(None, texts))
            )

    def _on_window(self, index: int) -> None:
        if not self._filling and self._volume is not None and 0 <= index < len(WINDOWS):
            set_window(self._volume, WINDOWS[index][1])

    def _on_surface(self, *_args: Any) -> None:
        node = self._segmentation()
        if node is not None:
            show_in_3d(node, not shown_in_3d(node))
            self.refresh()

    def _on_color(self, *_args: Any) -> None:
        result = self._result()
        if result is None:
            return
        segment = result[0].GetSegmentation().GetSegment(result[1])
        now = self.qt.QColor.fromRgbF(*segment.GetColor())
        chosen = self.qt.QColorDialog.getColor(now)
        if chosen.isValid():
            segment.SetColor(chosen.redF(), chosen.greenF(), chosen.blueF())

    def _has_uncertainty(self) -> bool:
        result = self._result()
        return result is not None and maps_of(*result)[1] is not None


def scan_of_newest_result() -> Any | None:
    """The image of the segmentation that a run of a model made last, if both are there."""
    import slicer
    import slicer.util

    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for node in reversed(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")):
        scan = node.GetNodeReference(role)
        if scan is not None and newest_segment(node):
            return scan
    return None
