"""The part of the panel for many scans: batch, its results, their correction, and learning."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..engine import batch
from ..engine.polled_thread import PolledThread
from ..engine.process import EngineProcess
from ..engine.run import RunParameters, provenance_of
from ..i18n import tr as _
from ..scene import derivative
from ..scene.provenance import Provenance
from . import panel_texts
from .logic import newest_segment

RESULT_HEADERS = (_("Scan"), _("State"), _("Lesions"), _("mL"), _("Corrected"))


class PanelBatch:
    """The part of ``PanelController`` for folders of scans.

    Its attributes are those of the controller.
    """

    ui: Any
    logic: Any
    qt: Any
    parameters: Any
    _poll: Any
    _started: dict[str, float]
    _results: list[dict[str, Any]]
    _batch: EngineProcess | None = None
    _previewing: bool = False
    _learning: EngineProcess | None = None
    _opening: PolledThread[Any] | None = None

    # What the other parts do.
    refresh: Callable[[], None]
    _double: Callable[[str], bool]
    _segmentation: Callable[[], Any | None]
    _list_models: Callable[[str], None]

    def _poll_batches(self) -> bool:
        """Look after what was started here; True while something still runs."""
        if self._batch is not None:
            self._poll_batch()
        if self._learning is not None:
            self._poll_learning()
        if self._opening is not None and not self._opening.poll():
            self._finish_opening()
        return bool(self._batch or self._learning or self._opening)

    # -- batch ------------------------------------------------------------------------------------

    def _on_preview(self, *_args: Any) -> None:
        """What would be done and what is left out, and why; writes nothing."""
        if self._batch is None:
            self._start_batch(preview=True)

    def _on_batch(self, *_args: Any) -> None:
        if self._batch is not None:
            if self._double("batch"):
                return
            self._batch.cancel()
            self._end_batch(_("Stopped. Start again to resume."))
            return
        self._start_batch(preview=False)

    def _start_batch(self, preview: bool) -> None:
        p, ui = self.parameters, self.ui
        wanted = batch.BatchParameters(
            ui.batchInputPathLineEdit.currentPath,
            ui.batchOutputPathLineEdit.currentPath,
            bool(ui.batchResumeCheckBox.checked),
            RunParameters(p.views, p.align, p.device, p.precision, p.model, *self._sliders()),
            preview,
            bool(ui.batchMniCheckBox.checked),
        )
        try:
            self._batch = batch.start_batch(wanted)
        except (ValueError, OSError) as error:
            ui.batchLabel.text = panel_texts.as_html(str(error), strong=True)
            return
        self._previewing = preview
        self._started["batch"] = time.monotonic()
        ui.batchButton.text = _("Cancel batch")
        ui.batchProgressBar.visible = True
        ui.batchLabel.text = _("Looking for scans...")
        self._poll.start()

    def _sliders(self) -> tuple[float | None, float | None]:
        """Threshold and smallest lesion (mL) for a batch: those of the result that is shown, if it
        is the chosen model's; without one the sliders mean nothing, and the model's own count."""
        from ...models import find_model

        node, p = self._segmentation(), self.parameters
        if node is None:
            return None, None
        segment = node.GetSegmentation().GetSegment(newest_segment(node))
        try:
            same = find_model(p.model or None).name == Provenance.from_segment(segment).model
        except InputError:
            same = False  # the batch itself says what is wrong
        return (p.threshold, p.minimumVolumeMl) if same else (None, None)

    def _poll_batch(self) -> None:
        process = self._batch
        assert process is not None
        for event in process.poll():
            if event.total:
                self.ui.batchProgressBar.maximum = event.total
                self.ui.batchProgressBar.value = event.done
            text = batch.progress_text(event, time.monotonic() - self._started["batch"])
            self.ui.batchLabel.text = panel_texts.as_html(text)
        if not process.running:
            # With a result, some scans may have failed (exit code 3), but the batch went through.
            failure = process.failure() if process.result is None else None
            if failure is not None:
                self._end_batch(str(failure))
            elif self._previewing:
                result = process.result
                self._end_batch(batch.plan_text(result))
                self._show_results(batch.plan_rows(result))
            else:
                self._end_batch(batch.result_text(process.result), process.result)

    def _end_batch(self, text: str, result: dict[str, Any] | None = None) -> None:
        if self._batch is not None:
            self._batch.close()
        self._batch = None
        self.ui.batchButton.text = _("Start batch")
        self.ui.batchProgressBar.visible = False
        self.ui.batchLabel.text = panel_texts.as_html(text)
        if result and result.get("output"):
            links = panel_texts.links_html(_("Results:"), str(result["output"]))
            self.ui.batchLabel.text += "<br>" + links
        self._list_results()

    # -- results ----------------------------------------------------------------------------------

    def _list_results(self) -> None:
        """What the folder for results holds by now."""
        folder = self.ui.batchOutputPathLineEdit.currentPath.strip()
        rows = derivative.results_in(Path(folder)) if folder else []
        self._show_results(rows)
        self.ui.learnButton.enabled = bool(rows)

    def _show_results(self, rows: list[dict[str, Any]]) -> None:
        table, qt = self.ui.batchTable, self.qt
        self._results = rows
        table.setColumnCount(len(RESULT_HEADERS))
        table.setHorizontalHeaderLabels(list(RESULT_HEADERS))
        table.setRowCount(len(self._results))
        for number, row in enumerate(self._results):
            volume = "" if row["volume_ml"] is None else f"{row['volume_ml']:.1f}"
            lesions = "" if row["lesions"] is None else str(row["lesions"])
            corrected = _("yes") if row["corrected"] else ""
            for column, text in enumerate((row["scan"], row["state"], lesions, volume, corrected)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(str(row.get("error") or row.get("warnings") or ""))
                table.setItem(number, column, item)
        table.resizeColumnsToContents()
        table.visible = bool(self._results)

    def _on_result_row(self, row: int, _column: int) -> None:
        """A double-click: scan and mask are read in a thread, and shown."""
        if self._opening is not None or not 0 <= row < len(self._results):
            return
        folder, stem = Path(self.ui.batchOutputPathLineEdit.currentPath), self._results[row]["scan"]
        self.ui.batchLabel.text = panel_texts.as_html(_("Reading {scan}...").format(scan=stem))
        self._opening = PolledThread(functools.partial(derivative.read_result, folder, stem))
        self._poll.start()

    def _finish_opening(self) -> None:
        opening, self._opening = self._opening, None
        assert opening is not None
        try:
            read = opening.result()
        except (InputError, OSError, ValueError) as error:
            self.ui.batchLabel.text = panel_texts.as_html(str(error), strong=True)
            return
        volume, segmentation, segment_id = derivative.add_result(read, provenance_of(read.sidecar))
        self.logic.choose(segmentation, segment_id)
        if self.parameters is not None:
            self.parameters.inputVolume = volume
        said = _("{scan} is shown above. Press Edit to correct it, then Save correction.")
        self.ui.batchLabel.text = panel_texts.as_html(said.format(scan=read.stem))
        self.refresh()

    def _on_save_correction(self, *_args: Any) -> None:
        """The segment as it is now goes into the derivative, beside the automatic mask."""
        node = self._segmentation()
        if node is None or not derivative.belongs_to(node):
            return
        try:
            path = derivative.save_correction(
                node, self.logic.segment_id(node), self.ui.whoLineEdit.text.strip()
            )
        except (InputError, OSError, ValueError) as error:
            self.ui.batchLabel.text = panel_texts.as_html(str(error), strong=True)
            return
        self.ui.batchLabel.text = panel_texts.links_html(_("Saved:"), path)
        self._list_results()

    # -- learning ---------------------------------------------------------------------------------

    def _on_learn(self, *_args: Any) -> None:
        """Train the model further on the corrected masks of the folder, in the background."""
        ui = self.ui
        if self._learning is not None:
            if not self._double("learn"):
                self._learning.cancel()
                self._end_learning(_("Stopped. Press again to resume."))
            return
        arguments = ["adapt", str(Path(ui.batchOutputPathLineEdit.currentPath).resolve())]
        if self.parameters.model:
            arguments += ["--model", self.parameters.model]
        self._learning = EngineProcess([*arguments, "--progress", "json"])
        try:
            self._learning.start()
        except OSError as error:
            self._end_learning(str(error))
            return
        self._started["learn"] = time.monotonic()
        ui.learnButton.text = _("Stop learning")
        ui.learnLabel.text = _("Learning takes up to an hour. Keep working meanwhile.")
        self._poll.start()

    def _poll_learning(self) -> None:
        process = self._learning
        assert process is not None
        for event in process.poll():
            self.ui.learnLabel.text = panel_texts.as_html(batch.learning_text(event))
        if process.running:
            return
        result = process.result
        failure = process.failure() if result is None else None
        self._end_learning(batch.learnt_text(result) if failure is None else str(failure))
        if result and result.get("installed"):
            self._list_models(str(result["installed"]))

    def _end_learning(self, text: str) -> None:
        if self._learning is not None:
            self._learning.close()
        self._learning = None
        self.ui.learnButton.text = _("Learn from my corrections")
        self.ui.learnLabel.text = panel_texts.as_html(text)
