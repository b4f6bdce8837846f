"""What is written and counted of the result: a report, volumes by region, files in MNI space."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import InputError
from ...engine.polled_thread import PolledThread
from ...i18n import tr as _
from ..in_mni import SegmentInMni, add_region_table, forget_regions
from ..report import Report
from . import texts
from .context import ForResult, Panel, sentence_of

if TYPE_CHECKING:
    from ....lesions import RegionTable


class ReportSection:
    """Report and MNI space, each of the segment as it is now and in a thread."""

    def __init__(self, panel: Panel) -> None:
        self._panel, ui = panel, panel.ui
        self._report: Report | None = None
        self._mni: tuple[PolledThread[Any], Callable[[Any], None]] | None = None
        # How often the lesion table was filled, which is of the segment as it was then.
        self._fillings = 0
        self._report_button = ForResult(ui.reportButton)
        self._mni_buttons = [ForResult(ui.regionsButton), ForResult(ui.mniButton)]
        ui.regionTable.visible = False
        panel.on_click(ui.reportButton, self._on_report)
        panel.on_click(ui.regionsButton, self._on_regions)
        panel.on_click(ui.mniButton, self._on_mni)

    def poll(self) -> bool:
        """Look after what was started; True while something still runs."""
        if self._report is not None and not self._report.poll():
            self._finish_report()
        if self._mni is not None and not self._mni[0].poll():
            self._finish_mni()
        return self.busy

    @property
    def busy(self) -> bool:
        """Whether a thread works for it."""
        return bool(self._report or self._mni)

    def show(self, view: texts.PanelView) -> None:
        """Which of the buttons can be pressed."""
        writing = self._report is not None
        tip = _("A report is being written.") if writing else ""
        self._report_button.show(view, usable=not writing, tip=tip)
        for button in self._mni_buttons:
            button.show(view, usable=self._mni is None)

    def hide_regions(self) -> None:
        """The volumes by region are of the segment as it was."""
        self._fillings += 1
        self._panel.ui.regionTable.visible = False
        result = self._panel.result()
        if result is not None:
            forget_regions(*result)

    # -- report -----------------------------------------------------------------------------------

    def _on_report(self) -> None:
        node = self._panel.segmentation()
        folder = self._panel.qt.QFileDialog.getExistingDirectory(None, _("Folder for the report"))
        if node is None or not folder:
            return
        try:
            self._report = self._panel.logic.report(node, folder, wait=False)
        except (InputError, ValueError) as error:
            self._panel.notes.problem = str(error)
        else:
            self._panel.keep_polling()
        self._panel.refresh()

    def _finish_report(self) -> None:
        report, self._report = self._report, None
        assert report is not None
        try:
            path = report.wait()
        except (InputError, OSError, ValueError) as error:
            self._panel.notes.problem = sentence_of(error)
        else:
            qt = self._panel.qt
            self._panel.notes.problem = ""
            self._panel.show_text(self._panel.ui.reportLabel, texts.links_html(_("Report:"), path))
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
        self._panel.refresh()

    # -- MNI space --------------------------------------------------------------------------------

    def _on_regions(self) -> None:
        """Volumes by region of the segment as it is now."""
        then = functools.partial(self._show_regions, self._fillings)
        self._start_mni(lambda there: (there.regions(), there.counted), then)

    def _on_mni(self) -> None:
        """Write the segment as it is now, its probability and the transform in MNI space."""
        folder = self._panel.qt.QFileDialog.getExistingDirectory(None, _("Folder for the files"))
        if folder:
            self._start_mni(lambda there: there.write(folder), self._show_written)

    def _start_mni(
        self, work: Callable[[SegmentInMni], Any], then: Callable[[Any, Any], None]
    ) -> None:
        node = self._panel.segmentation()
        if node is None or self._mni is not None:
            return
        try:
            there = self._panel.logic.in_mni(node)
        except ValueError as error:
            self._panel.notes.problem = str(error)
        else:
            self._mni = (PolledThread(lambda: work(there)), functools.partial(then, node))
            self._panel.keep_polling()
        self._panel.refresh()

    def _finish_mni(self) -> None:
        assert self._mni is not None
        work, then = self._mni
        self._mni = None
        try:
            then(work.result())
        except (InputError, OSError, ValueError) as error:
            self._panel.notes.problem = sentence_of(error)
        else:
            self._panel.notes.problem = ""
        self._panel.refresh()

    def _show_regions(self, fillings: int, node: Any, found: tuple[RegionTable, str]) -> None:
        if node is not self._panel.segmentation():
            return
        if fillings != self._fillings:  # the segment is another one by now
            self._on_regions()
            return
        table, counted = found
        rows, widget = table.table_rows(), self._panel.ui.regionTable
        add_region_table(table, self._panel.logic.volume_of(node), node, counted)
        cells = [texts.region_cells(row) for row in rows]
        self._panel.fill_table(widget, texts.REGION_HEADERS, cells, [row[0] for row in cells])
        # The numbers are seen without scrolling; a long name is in its tip.
        stretch = self._panel.qt.QHeaderView.Stretch
        widget.horizontalHeader().setSectionResizeMode(0, stretch)
        if not rows:
            said = _("There is no lesion to share out among regions.")
            self._panel.show_text(self._panel.ui.reportLabel, said)

    def _show_written(self, _node: Any, paths: list[Path]) -> None:
        said = texts.links_html(_("In MNI space:"), paths[0].parent)
        self._panel.show_text(self._panel.ui.reportLabel, said)
