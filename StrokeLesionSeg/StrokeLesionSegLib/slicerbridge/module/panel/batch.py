"""A folder of scans: preview, start, progress, cancel."""

from __future__ import annotations

from typing import Any

from ....errors import InputError
from ...engine import batch
from ...engine.process import EngineProcess
from ...i18n import tr as _
from ...scene.provenance import Provenance
from . import texts
from .context import Panel, Started, show_crash
from .results import BatchResults


class BatchSection:
    """Runs a batch in a process of its own; ``results`` shows what it wrote."""

    def __init__(self, panel: Panel, results: BatchResults) -> None:
        self._panel, self._results, ui = panel, results, panel.ui
        self._process: EngineProcess | None = None
        self._previewing = False
        self._started = Started()
        ui.batchProgressBar.visible = False
        # No dead buttons: what the installed engine cannot do is not offered.
        ui.batchCollapsibleButton.visible = batch.batch_available()
        panel.on_click(ui.batchButton, self._on_batch)
        panel.on_click(ui.previewButton, self._on_preview)

    def poll(self) -> bool:
        """Look after a batch; True while it runs."""
        if self._process is not None:
            self._follow(self._process)
        return self.running

    @property
    def running(self) -> bool:
        """Whether a batch or its preview runs."""
        return self._process is not None

    def shut_down(self) -> None:
        """End the batch; it can be resumed."""
        if self._process is not None:
            self._process.cancel()

    def _on_preview(self) -> None:
        """What would be done and what is left out, and why; writes nothing."""
        if self._process is None:
            self._start(preview=True)

    def _on_batch(self) -> None:
        if self._process is None:
            self._start(preview=False)
        elif not self._started.just_now:
            self._process.cancel()
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
        try:
            self._process = batch.start_batch(wanted)
        except (ValueError, OSError) as error:
            self._results.tell(str(error), strong=True)
            return
        self._previewing = preview
        self._started.now()
        ui.batchButton.text = _("Cancel batch")
        ui.batchProgressBar.visible = True
        self._panel.show_text(ui.batchLabel, _("Looking for scans..."))
        self._panel.keep_polling()

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

    def _follow(self, process: EngineProcess) -> None:
        bar = self._panel.ui.batchProgressBar
        for event in process.poll():
            if event.total:
                bar.maximum = event.total
                bar.value = event.done
            self._results.tell(batch.progress_text(event, self._started.seconds))
        if process.running:
            return
        # With a result, some scans may have failed (exit code 3), but the batch went through.
        result = process.result
        failure = process.failure() if result is None else None
        if failure is not None:
            self._end(failure.sentence, strong=True)
            show_crash(failure)
        elif self._previewing:
            self._end(batch.plan_text(result))
            self._results.list_rows(batch.plan_rows(result))
        else:
            self._end(batch.result_text(result), result)

    def _end(self, text: str, result: dict[str, Any] | None = None, strong: bool = False) -> None:
        if self._process is not None:
            self._process.close()
        self._process, ui = None, self._panel.ui
        ui.batchButton.text = _("Start batch")
        ui.batchProgressBar.visible = False
        self._results.tell(text, strong=strong)
        if result and result.get("output"):
            links = texts.links_html(_("Results:"), str(result["output"]))
            self._panel.show_text(ui.batchLabel, ui.batchLabel.text + "<br>" + links)
        self._results.list_folder()
