"""What the panel does with a result: its table, overlay, sliders, ticks, undo, and editing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..engine.polled_thread import PolledThread
from ..scene.probability_map import Found, seeds_from_text, seeds_to_text
from ..scene.provenance import Provenance
from ..scene.results import jump_to, maps_of, show_overlay
from . import panel_texts
from .logic import newest_segment
from .measure import LesionRow, rows_of


class PanelResults:
    """The part of ``PanelController`` that works on the segment of a run.

    Its attributes are those of the controller.
    """

    ui: Any
    logic: Any
    qt: Any
    parameters: Any
    rows: list[LesionRow]
    expected_dice: float | None
    _apply: Any
    _settle: Any
    _problem: str
    _applied: tuple[float, float, str] | None
    _overlay_shown: tuple[str, float]
    _apply_due: bool
    _step_open: bool
    _kept_apart: bool
    _sliders_of: tuple[Any, str] | None
    _filling: bool
    _poll: Any
    _searching: bool = False
    _work: PolledThread[Any] | None = None
    _then: Callable[[Any], None] | None = None

    # What the other parts do.
    refresh: Callable[[], None]
    _segmentation: Callable[[], Any | None]
    _result: Callable[[], tuple[Any, str] | None]
    _settings: Callable[[], tuple[float, float, str]]
    _show_settings: Callable[[Provenance], None]

    def _apply_soon(self) -> None:
        # A timer that is started again at every event of a drag would never run out.
        if not self._apply_due:
            self._apply_due = True
            self._apply.start()

    def _stop_applying(self) -> None:
        self._apply_due = self._searching = False
        self._work, self._then = None, None
        self._apply.stop()

    # -- table and overlay ------------------------------------------------------------------------

    def _read_rows(self) -> None:
        """Fill the table with what is in the segment now, once that is measured in a thread."""
        node = self._segmentation()
        self._searching = False
        try:
            work = self.logic.found_later(node) if node is not None else None
        except ValueError as error:
            self._problem, work = str(error), None
        if work is None:
            self._work, self._then = None, None
            self._fill_table([])
        else:
            self._in_thread(work, functools.partial(self._show_rows, node))

    def _show_rows(self, node: Any, found: Found) -> None:
        if node is self._segmentation():
            rows = rows_of(found)
            self._fill_table(rows, found.expected_dice)
            self.logic.tabulate(node, rows)

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """``then(work())``, with ``work`` in a thread; what was under way before is left."""
        self._work, self._then = PolledThread(work), then
        self._poll.start()

    def _poll_work(self, wait: bool = False) -> bool:
        """Go on with what has come from the thread; True while it works."""
        work, then = self._work, self._then
        if work is None or then is None:
            return False
        if not wait and work.poll():
            return True
        self._work, self._then, self._searching = None, None, False
        try:
            then(work.result())
        except ValueError as error:
            self._problem = str(error)
        self.refresh()
        return self._work is not None

    def _fill_table(self, rows: list[LesionRow], expected_dice: float | None = None) -> None:
        table, qt, chosen = self.ui.lesionTable, self.qt, self._chosen_seed()
        self.rows, self.expected_dice = rows, expected_dice
        # Of the segment as it was.
        self.ui.regionTable.visible = False
        self._filling = True
        try:
            headers = list(panel_texts.TABLE_HEADERS)
            table.setColumnCount(len(headers))
            table.setHorizontalHeaderLabels(headers)
            table.setRowCount(len(rows))
            for number, row in enumerate(rows):
                for column, text in enumerate(panel_texts.table_cells(row, self._in_scene(row))):
                    item = qt.QTableWidgetItem(text)
                    if column == 0:
                        item.setCheckState(qt.Qt.Checked if row.keep else qt.Qt.Unchecked)
                    table.setItem(number, column, item)
            table.resizeColumnsToContents()
            seeds = [row.seed for row in rows]
            if chosen in seeds:
                table.setCurrentCell(seeds.index(chosen), 1)
            else:
                table.clearSelection()
                table.setCurrentCell(-1, -1)
        finally:
            self._filling = False

    def _chosen_seed(self) -> Any | None:
        """By which the lesion of the current row is known again in another table."""
        row = self.ui.lesionTable.currentRow()
        return self.rows[row].seed if 0 <= row < len(self.rows) else None

    def _in_scene(self, row: LesionRow) -> tuple[float, float, float]:
        """The centre of a lesion where the views show it, through the image's transform."""
        node, world = self.parameters.inputVolume, [0.0, 0.0, 0.0]
        if node is None:
            return row.centroid_ras_mm
        node.TransformPointToWorld(list(row.centroid_ras_mm), world)
        return world[0], world[1], world[2]

    def _show_overlay(self) -> None:
        parameters = self.parameters
        self._overlay_shown = (parameters.overlay, parameters.overlayOpacity)
        shown = self._segmentation()
        probability, uncertainty = maps_of(shown, newest_segment(shown))
        node = {"probability": probability, "uncertainty": uncertainty}.get(parameters.overlay)
        show_overlay(node, parameters.overlayOpacity)

    # -- actions: sliders, ticks, undo ------------------------------------------------------------

    def _apply_sliders(self) -> None:
        self._apply_due = False
        node = self._segmentation()
        if node is None or self._applied == self._settings():
            return
        if self._searching:  # its end looks at the sliders again
            return
        settings = self._settings()
        try:
            if not self._step_open:
                self._kept_apart = self.logic.begin(node) or self._kept_apart
                self._sliders_of = self._result()
                self._step_open = True
                self._apply_soon()  # the GUI gets a turn between saving and changing
                return
            threshold, smallest, dropped = settings
            values = (threshold, smallest, seeds_from_text(dropped))
            work = self.logic.search(node, *values)
        except ValueError as error:
            self._problem = str(error)
            self._settle.start()
            self.refresh()
            return
        self._searching = True
        self._in_thread(work, functools.partial(self._write_found, node, settings, values))

    def _write_found(self, node: Any, settings: Any, values: Any, found: Found) -> None:
        """The segment follows; if the sliders moved on meanwhile, so does the next search."""
        if node is not self._segmentation():
            return
        rows = self.logic.threshold(node, *values, step=False, measure=False, found=found)
        self._applied = settings
        self._fill_table(rows, found.expected_dice)
        self._settle.start()
        if settings != self._settings():
            self._apply_soon()

    def _close_step(self) -> None:
        """The hand rests: the next change is a step of its own, and the scene's table follows."""
        self._settle.stop()
        if self._searching:
            self._poll_work(wait=True)
            self._settle.stop()
        if self._step_open:
            self._step_open = False
            node = self._segmentation()
            if node is not None:
                self.logic.tabulate(node, self.rows)

    def _on_tick(self, row: int, column: int) -> None:
        if self._filling or column != 0 or not 0 <= row < len(self.rows):
            return
        item = self.ui.lesionTable.item(row, 0)
        keep = item.checkState() != self.qt.Qt.Unchecked
        seed, seeds = self.rows[row].seed, seeds_from_text(self.parameters.dropped)
        if keep == self.rows[row].keep:
            return
        self._close_step()
        if keep:
            # Whichever voxel it was dropped by: all that lie in this lesion are forgotten.
            kept = self.logic.thresholder(self._segmentation()).seeds_outside(seed, seeds)
            self.parameters.dropped = seeds_to_text(kept)
        else:
            self.parameters.dropped = seeds_to_text([*seeds, seed])

    def _on_undo(self, redo: bool) -> None:
        node = self._segmentation()
        if node is None:
            return
        self._close_step()
        self._stop_applying()
        try:
            made = self.logic.undo(node, redo)
        except ValueError as error:
            self._problem = str(error)
            self.refresh()
            return
        self._problem = ""
        if made is None:
            return
        self._kept_apart = False
        self._show_settings(made)
        self._read_rows()
        self.refresh()

    def _on_row(self, row: int, column: int) -> None:
        """A row was clicked, or is the current one by the arrow keys: the views go there."""
        if (
            not self._filling
            and 0 <= row < len(self.rows)
            and self.parameters.inputVolume is not None
        ):
            jump_to(self.rows[row].centroid_ras_mm, self.parameters.inputVolume)

    def _on_edit(self, *_args: Any) -> None:
        """Open the Segment Editor on this segment and image."""
        import slicer

        node = self._segmentation()
        if node is None:
            return
        self._close_step()
        segment_id = newest_segment(node)
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(self.parameters.inputVolume)
        editor.setCurrentSegmentID(segment_id)
