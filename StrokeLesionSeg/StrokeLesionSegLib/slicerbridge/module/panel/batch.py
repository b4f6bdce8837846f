"""A folder of scans: preview, start, progress, cancel."""

from __future__ import annotations

from typing import Any

from ....errors import InputError
from ...engine import batch
from ...engine.process import EngineProcess, Failure, Progress
from ...i18n import tr as _
from ...scene.provenance import Provenance
from . import texts
from .context import Panel, sentence_of, show_crash
from .followed import FollowedProcess
from .results import BatchResults


class BatchSection:
    """Runs a batch in a process of its own; ``results`` shows what becomes of each scan."""

    def __init__(self, panel: Panel, results: BatchResults) -> None:
        self._panel, self._results, ui = panel, results, panel.ui
        self._process = FollowedProcess(panel, self._tell, self._take)
        self._previewing = False
        #: How many scans needed nothing more when the batch began.
        self._before: int | None = None
        ui.batchProgressBar.visible = False
        # No dead buttons: what the installed engine cannot do is not offered.
        ui.batchCollapsibleButton.visible = batch.batch_available()
        panel.on_click(ui.batchButton, self._on_batch)
        panel.on_click(ui.previewButton, self._on_preview)

    def poll(self) -> bool:
        """Look after a batch; True while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether a batch or its preview runs."""
        return self._process.running

    def shut_down(self) -> None:
        """End the batch; it can be resumed."""
        self._process.shut_down()

    def _on_preview(self) -> None:
        """What would be done and what is left out, and why; writes nothing."""
        if not self._process.running:
            self._start(preview=True)

    def _on_batch(self) -> None:
        if not self._process.running:
            self._start(preview=False)
        elif self._process.stop():
            self._end(_("Stopped. Start again to resume."))

    def _start(self, preview: bool) -> None:
        ui = self._panel.ui
        wanted = batch.BatchParameters(
            ui.batchInputPathLineEdit.currentPath,
            ui.batchOutputPathLineEdit.currentPath,
            bool(ui.batchResumeCheckBox.checked),
            self._panel.run_parameters(*self.operating_point()),
            preview,
            bool(ui.batchMniCheckBox.checked),
        )
        problem = wanted.problem()
        try:
            if not problem:
                self._process.start(wanted.arguments())
        except OSError as error:
            problem = sentence_of(error)
        if problem:
            self._results.tell(problem, strong=True)
            return
        self._previewing, self._before = preview, None
        self._results.begin()
        ui.batchButton.text = _("Cancel batch")
        ui.batchProgressBar.format = ""
        ui.batchProgressBar.visible = True
        self._panel.show_text(ui.batchLabel, _("Looking for scans..."))

    def operating_point(self) -> tuple[float | None, float | None]:
        """Threshold and smallest lesion (mL) for a batch: those of the result that is shown, if it
        is the chosen model's; without one the sliders mean nothing, and the model's own count."""
        from ....models import find_model

        result, p = self._panel.result(), self._panel.parameters
        if result is None:
            return None, None
        segment = result[0].GetSegmentation().GetSegment(result[1])
        try:
            same = find_model(p.model or None).name == Provenance.from_segment(segment).model
        except InputError:
            same = False  # the batch itself says what is wrong
        return (p.threshold, p.minimumVolumeMl) if same else (None, None)

    def _tell(self, event: Progress) -> None:
        bar = self._panel.ui.batchProgressBar
        if event.total:
            bar.maximum, bar.value = event.total, event.done
            if self._before is None:
                self._before = event.done
                self._results.tell("")  # from now on the line below the bar is that of the table
        self._results.follow(event)
        bar.format = batch.progress_text(event, self._process.seconds, self._before or 0)

    def _take(self, process: EngineProcess, failure: Failure | None) -> None:
        """It has ended by itself; some scans may have failed."""
        result = process.result
        if failure is not None:
            self._end(failure.sentence, strong=True)
            show_crash(failure)
        elif self._previewing:
            self._end(batch.plan_text(result))
            self._results.list_plan(batch.plan_rows(result))
        else:
            self._end(batch.result_text(result), result)

    def _end(self, text: str, result: dict[str, Any] | None = None, strong: bool = False) -> None:
        ui = self._panel.ui
        ui.batchButton.text = _("Start batch")
        ui.batchProgressBar.visible = False
        self._results.tell(text, strong=strong)
        if result and result.get("output"):
            links = texts.links_html(_("Results:"), str(result["output"]))
            self._panel.show_text(ui.batchLabel, ui.batchLabel.text + "<br>" + links)
        self._results.end()
