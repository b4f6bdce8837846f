"""The button Segment: a run from its start to its result, or to its Cancel."""

from __future__ import annotations

from typing import Any

from ....errors import InputError
from ...engine.process import failure_of
from ...engine.run import RunError, SegmentationRun
from .context import Notes, Panel, Started, show_crash
from .engine import EngineSection
from .result import ResultSection
from .scan import ScanSection
from .texts import PanelView


class RunSection:
    """Starts a run of the chosen scan, shows how far it is, and hands its result on."""

    def __init__(
        self, panel: Panel, engine: EngineSection, scan: ScanSection, result: ResultSection
    ) -> None:
        self._panel, self._engine = panel, engine
        self._scan, self._result = scan, result
        #: The run that was started last, until its end is dealt with.
        self.current: SegmentationRun | None = None
        self._started = Started()
        self._seconds: float | None = None
        self._missed_result = False
        panel.on_click(panel.ui.segmentButton, self.press)

    @property
    def active(self) -> bool:
        """Whether a run goes on."""
        return self.current is not None and self.current.active

    @property
    def busy(self) -> bool:
        """Whether a thread of the run works."""
        return self.current is not None and self.current.active and self.current.working

    @property
    def seconds(self) -> float | None:
        """How long a run takes on this computer, as far as that is known."""
        return self._engine.expected_seconds if self._seconds is None else self._seconds

    def take_missed(self) -> bool:
        """Whether a run ended while there were no parameters to put its result into; asked once."""
        missed, self._missed_result = self._missed_result, False
        return missed

    def press(self) -> None:
        """The button: start a run, or cancel the one that goes on."""
        if self.active:
            if not self._started.just_now:
                self._panel.notes.cancelled = True
                self.cancel()
            return
        panel = self._panel
        panel.notes = Notes(kept_apart=panel.notes.kept_apart)
        self._engine.look_again()
        if not self._engine.torch.installed:
            ready = self._engine.install_torch()
            # It took minutes, in which everything but this button could be used.
            self._scan.look_again()
            if not ready or panel.parameters is None or not self._scan.check.usable:
                panel.refresh()
                return
        self._result.close_step()
        try:
            self.current = panel.logic.start(panel.parameters.inputVolume, panel.run_parameters())
        except OSError as error:
            self.current, failure = None, failure_of(error)
            panel.notes.problem = failure.sentence
        except InputError as error:
            self.current = None
            panel.notes.problem = str(error)
        else:
            self._started.now()
            panel.keep_polling()
        panel.refresh()

    def cancel(self) -> None:
        """End the run, if there is one; the scene stays as it is."""
        if self.current is not None and self.current.active:
            self.current.cancel()
            self._end()

    def poll(self) -> bool:
        """Look after the run; True while it goes on."""
        if self.current is not None and self.current.active:
            if self.current.poll():
                self._show_progress(self.current)
            else:
                self._end()
        return self.active

    def show(self, view: PanelView) -> None:
        """The button, and how far a run is."""
        ui = self._panel.ui
        ui.segmentButton.text = view.segment_text
        ui.segmentButton.enabled = view.segment_enabled
        ui.segmentButton.toolTip = view.segment_tooltip
        ui.inputSelector.enabled = not self.active
        ui.progressBar.visible = self.active
        if self.current is not None and self.current.active:
            self._show_progress(self.current)

    def _show_progress(self, run: SegmentationRun) -> None:
        bar = self._panel.ui.progressBar
        bar.value = int(100 * run.fraction)
        bar.format = run.stage_text

    def _end(self) -> None:
        run, self.current = self.current, None
        if run is None:
            return
        panel = self._panel
        if run.failure is not None:
            panel.notes.problem = run.failure.sentence
            self._engine.last_log = run.failure.lines
        elif run.results is not None:
            try:
                results = panel.logic.accept(run)
            except RunError as error:
                panel.notes.problem = str(error)
            else:
                self._take(results)
        panel.refresh()
        if run.failure is not None:
            show_crash(run.failure)

    def _take(self, results: Any) -> None:
        panel = self._panel
        if panel.parameters is None:
            self._missed_result = True
        elif panel.logic.volume_of(results.segmentation_node) is self._scan.volume:
            self._seconds = results.seconds
            panel.notes.warnings, panel.notes.kept_apart = results.warnings, False
            self._scan.take_results(results)
        else:  # another scan was chosen meanwhile: the views show that one
            self._scan.hide_others()
