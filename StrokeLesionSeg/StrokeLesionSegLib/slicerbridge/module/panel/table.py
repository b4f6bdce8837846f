"""The lesion table of the panel and the line with its total."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...i18n import tr as _
from ...scene.results import jump_to, maps_of
from ..measure import LesionRow, total_text
from . import texts
from .context import ForResult, Panel


class LesionTable:
    """One row a lesion; the views go to the one that is clicked.

    ``ticked(row, keep)``: the user unticked a lesion or took it back. ``refilled()``: the table
    shows another segment, or the same after a change.
    """

    def __init__(
        self,
        panel: Panel,
        ticked: Callable[[LesionRow, bool], None],
        refilled: Callable[[], None],
    ) -> None:
        self._panel, self._ticked, self._refilled = panel, ticked, refilled
        self._widget = panel.ui.lesionTable
        self._for_result = ForResult(self._widget)
        self.rows: list[LesionRow] = []
        self._expected_dice: float | None = None
        self._filling = False
        panel.connect(self._widget, "cellClicked(int,int)", self._on_row)
        panel.connect(self._widget, "currentCellChanged(int,int,int,int)", self._on_row)
        panel.connect(self._widget, "cellChanged(int,int)", self._on_tick)

    def fill(self, rows: list[LesionRow], expected_dice: float | None = None) -> None:
        """Show these lesions; the one that was chosen stays so."""
        table, qt, chosen = self._widget, self._panel.qt, self._chosen_seed()
        self.rows, self._expected_dice = rows, expected_dice
        self._refilled()
        self._filling = True
        try:
            headers = list(texts.TABLE_HEADERS)
            table.setColumnCount(len(headers))
            table.setHorizontalHeaderLabels(headers)
            table.setRowCount(len(rows))
            for number, row in enumerate(rows):
                for column, text in enumerate(texts.table_cells(row, self._in_scene(row))):
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

    def fill_again(self) -> None:
        """The same lesions, elsewhere in the scene."""
        self.fill(self.rows, self._expected_dice)

    def forget(self) -> None:
        """Its lesions are those of other parameters; what is shown follows with the next."""
        self.rows = []

    def show(self, view: texts.PanelView) -> None:
        """Whether it can be used, and the total."""
        self._for_result.show(view)
        result, label = self._panel.result(), self._panel.ui.totalLabel
        label.text = total_text(self.rows, self._expected_dice) if result is not None else ""
        if (
            result is not None
            and self._panel.parameters.overlay == "uncertainty"
            and maps_of(*result)[1] is None
        ):
            label.text += _(
                " There is no uncertainty to show: no lesion is likely, or the segment comes from "
                "a batch or a comparison, which keep none. Press Segment for it."
            )

    def _chosen_seed(self) -> Any | None:
        """By which the lesion of the current row is known again in another table."""
        row = self._widget.currentRow()
        return self.rows[row].seed if 0 <= row < len(self.rows) else None

    def _in_scene(self, row: LesionRow) -> tuple[float, float, float]:
        """The centre of a lesion where the views show it, through the image's transform."""
        node, world = self._panel.parameters.inputVolume, [0.0, 0.0, 0.0]
        if node is None:
            return row.centroid_ras_mm
        node.TransformPointToWorld(list(row.centroid_ras_mm), world)
        return world[0], world[1], world[2]

    def _on_row(self, row: int, _column: int, *_before: int) -> None:
        """A row was clicked, or is the current one by the arrow keys: the views go there."""
        if self._filling or not 0 <= row < len(self.rows):
            return
        if self._widget.currentRow() != row:  # a click on its tick does not do that
            self._widget.setCurrentCell(row, 1)  # and so comes here again
            return
        node = self._panel.parameters.inputVolume
        if node is not None:
            jump_to(self.rows[row].centroid_ras_mm, node)

    def _on_tick(self, row: int, column: int) -> None:
        if self._filling or column != 0 or not 0 <= row < len(self.rows):
            return
        keep = self._widget.item(row, 0).checkState() != self._panel.qt.Qt.Unchecked
        if keep != self.rows[row].keep:
            self._ticked(self.rows[row], keep)
