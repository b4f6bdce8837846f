"""Between the form and the logic: one method a user action, timers, and nothing that waits.

The form's widgets are used as PythonQt offers them in Slicer: properties are attributes, signals
are named by their signature, calls take no keywords. ``qt`` is handed in, so that the offscreen
tests can drive the same code.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from ...errors import InputError
from ..engine import batch
from ..engine.process import Failure, failure_of
from ..engine.run import RunError, RunParameters, SegmentationRun
from ..engine.torch_setup import torch_state
from ..i18n import tr as _
from ..scene.derivative import belongs_to
from ..scene.input_check import InputCheck, check_input
from ..scene.look import WINDOWS
from ..scene.results import show_background
from ..scene.scan_views import ScanViews, show_segmentation_of
from . import panel_texts
from .measure import LesionRow, rows_of, total_text
from .panel_batch import PanelBatch
from .panel_change import PanelChange
from .panel_results import PanelResults
from .panel_scan import PanelScan
from .panel_tasks import PanelTasks

_POLL_MS = 50
# While a thread of ours works, which gets its turns by polling (see ``process``).
_BUSY_POLL_MS = 5
_APPLY_MS = 20
_LOOK_MS = 100
_ARRIVE_MS = 200
# Within this time after a start, the same button does not mean the reverse: a double-click.
_DOUBLE_S = 0.5
# A pause this long ends a step: until then, all changes of the sliders are one step for undo.
_SETTLE_MS = 700


class PanelController(PanelScan, PanelResults, PanelTasks, PanelBatch, PanelChange):
    """Drives the form ``ui`` (its widgets by name) for the parameter node of the scene."""

    def __init__(self, ui: Any, logic: Any, qt: Any) -> None:
        self.ui, self.logic, self.qt = ui, logic, qt
        self.parameters: Any = None
        self.run: SegmentationRun | None = None
        self.rows: list[LesionRow] = []
        self.expected_dice: float | None = None
        self._input_check = InputCheck(False, "")
        self._problem = ""
        self._warnings: tuple[str, ...] = ()
        self._last_log: tuple[str, ...] = ()
        self._applied: tuple[float, float, str] | None = None
        self._step_open = self._kept_apart = self._filling = self._syncing = False
        self._apply_due = self._polls_often = False
        self._results: list[dict[str, Any]] = []
        self._changes: list[dict[str, Any]] = []
        self._cancelled = False
        self._seconds: float | None = None
        self._started: dict[str, float] = {}
        self.views = ScanViews()
        self._volume: Any = None
        self._sliders_of: tuple[Any, str] | None = None
        self._overlay_shown = ("none", 0.0)
        self._observed: list[tuple[Any, int]] = []
        self._torch, self._has_model = torch_state(), True
        self._missed_result = False
        self._poll = self._timer(_POLL_MS, self._on_poll, single=False)
        self._apply = self._timer(_APPLY_MS, self._apply_sliders)
        self._settle = self._timer(_SETTLE_MS, self._close_step)
        self._look = self._timer(_LOOK_MS, self._judge)
        self._arrive = self._timer(_ARRIVE_MS, self._on_arrival)
        self._fill_choices()
        self._connect()
        form = self.ui
        self._tips = [
            (widget, widget.toolTip)
            for widget in (
                *(form.thresholdSlider, form.minimumVolumeSpinBox, form.lesionTable),
                *(form.undoButton, form.redoButton, form.editButton, form.reportButton),
                *(form.regionsButton, form.mniButton),
                *(form.resultComboBox, form.surfaceButton),
                *(form.overlayComboBox, form.overlayOpacitySlider),
            )
        ]
        self._keep_still()
        self.ui.progressBar.visible = False
        self.ui.batchProgressBar.visible = self.ui.batchTable.visible = False
        self.ui.learnButton.enabled = False
        self.ui.regionTable.visible = False
        self.ui.changeTable.visible = self.ui.turnBackButton.enabled = False
        # No dead buttons: what the installed engine cannot do is not offered.
        self.ui.batchCollapsibleButton.visible = batch.batch_available()

    # -- set-up ---------------------------------------------------------------------------------

    def _timer(self, milliseconds: int, call: Callable[[], None], single: bool = True) -> Any:
        timer = self.qt.QTimer()
        timer.setInterval(milliseconds)
        timer.setSingleShot(single)
        timer.connect("timeout()", self._guarded(call))
        return timer

    def _fill_choices(self) -> None:
        self._choices = {
            "views": (
                self.ui.viewsComboBox,
                [
                    (_("As the model recommends"), ""),
                    (_("Fast: axial slices"), "axial"),
                    (_("Accurate: three directions"), "triplanar"),
                ],
            ),
            "align": (
                self.ui.alignComboBox,
                [
                    (_("Automatic"), "auto"),
                    (_("Always to MNI152"), "mni"),
                    (_("None: resample only"), "none"),
                ],
            ),
            "device": (
                self.ui.deviceComboBox,
                [
                    (_("Automatic"), "auto"),
                    (_("Processor (CPU)"), "cpu"),
                    (_("NVIDIA graphics (CUDA)"), "cuda"),
                    (_("Apple graphics (MPS)"), "mps"),
                ],
            ),
            "precision": (
                self.ui.precisionComboBox,
                [(_("Automatic"), "auto"), *((n, n) for n in ("float32", "bfloat16", "float16"))],
            ),
            "overlay": (
                self.ui.overlayComboBox,
                [
                    (_("None"), "none"),
                    (_("Lesion probability"), "probability"),
                    (_("Uncertainty"), "uncertainty"),
                ],
            ),
            "model": (self.ui.modelComboBox, self._models()),
        }
        for text, value in WINDOWS:
            self.ui.windowComboBox.addItem(text, value)
        for combo, entries in self._choices.values():
            combo.clear()
            for text, value in entries:
                combo.addItem(text, value)

    def _keep_still(self) -> None:
        """Texts of a line more or less and the bar of a run do not move what is below them."""
        ui = self.ui
        line = ui.segmentButton.sizeHint.height() * 2 // 3
        ui.nextStepLabel.setMinimumHeight(3 * line + 16)
        ui.inputCheckLabel.setMinimumHeight(2 * line)
        policy = ui.progressBar.sizePolicy
        policy.setRetainSizeWhenHidden(True)
        ui.progressBar.setSizePolicy(policy)
        ui.keysLabel.text = panel_texts.keys_html()

    def _models(self) -> list[tuple[str, str]]:
        from ...models import list_models

        try:
            known = [(panel_texts.model_text(m), m.name) for m in list_models([])]
        except (InputError, OSError) as error:
            self._problem = str(error)
            known = []
        self._has_model = bool(known)
        return [(_("Recommended"), ""), *known]

    def _guarded(self, action: Callable[..., None]) -> Callable[..., None]:
        """``action`` as a slot whose defects are told: Qt would print and swallow them."""

        def slot(*arguments: Any) -> None:
            try:
                action(*arguments)
            except Exception as error:
                logging.exception("StrokeLesionSeg: %s failed", action)
                self._problem = f"{type(error).__name__}: {error}"
                self.refresh()

        return slot

    def _connect(self) -> None:
        ui = self.ui
        for button, action in (
            (ui.segmentButton, self._on_segment),
            (ui.sampleButton, self._on_sample),
            (ui.undoButton, lambda *_: self._on_undo(False)),
            (ui.redoButton, lambda *_: self._on_undo(True)),
            (ui.editButton, self._on_edit),
            (ui.reportButton, self._on_report),
            (ui.regionsButton, self._on_regions),
            (ui.mniButton, self._on_mni),
            (ui.surfaceButton, self._on_surface),
            (ui.colorButton, self._on_color),
            (ui.installModelButton, self._on_install_model),
            (ui.installTorchButton, self._on_install_torch),
            (ui.checkDeviceButton, self._on_check),
            (ui.checkButton, self._on_check),
            (ui.copyCheckButton, self._on_copy_check),
            (ui.batchButton, self._on_batch),
            (ui.previewButton, self._on_preview),
            (ui.saveCorrectionButton, self._on_save_correction),
            (ui.learnButton, self._on_learn),
            (ui.compareButton, self._on_compare),
            (ui.turnBackButton, self._on_turn_back),
        ):
            button.connect("clicked(bool)", self._guarded(action))
        ui.lesionTable.connect("cellClicked(int,int)", self._guarded(self._on_row))
        moved = self._guarded(lambda row, column, *_: self._on_row(row, column))
        ui.lesionTable.connect("currentCellChanged(int,int,int,int)", moved)
        ui.windowComboBox.connect("currentIndexChanged(int)", self._guarded(self._on_window))
        ui.changeTable.connect("cellClicked(int,int)", self._guarded(self._on_change_row))
        ui.batchTable.connect("cellDoubleClicked(int,int)", self._guarded(self._on_result_row))
        ui.batchOutputPathLineEdit.connect(
            "currentPathChanged(QString)", self._guarded(lambda *_: self._list_results())
        )
        ui.resultComboBox.connect("currentIndexChanged(int)", self._guarded(self._on_result))
        ui.lesionTable.connect("cellChanged(int,int)", self._guarded(self._on_tick))
        for name, (combo, _entries) in self._choices.items():
            chosen = functools.partial(self._on_choice, name)
            combo.connect("currentIndexChanged(int)", self._guarded(chosen))

    def shutDown(self) -> None:
        """Stop timers and processes and let go of nodes; the widget is about to go."""
        self.cancel()
        for timer in (self._poll, self._apply, self._settle, self._look, self._arrive):
            timer.stop()
        self._stop_tasks()
        self._observe(None)
        self.parameters = None

    def forget(self) -> None:
        """Let go of the nodes of a scene that closes."""
        self.views.forget()
        self.leaveAlone()

    def cancel(self) -> None:
        """End a run, if there is one; the scene stays as it is."""
        if self.run is not None and self.run.active:
            self.run.cancel()
            self._after_run()
        if self._comparison is not None:
            self._comparison.cancel()
            self._end_comparison("")
        self._earlier = None

    # -- parameters -----------------------------------------------------------------------------

    def setParameterNode(self, parameters: Any) -> None:
        """Show the parameters of a scene, or of none while it closes."""
        self._stop_applying()
        self._settle.stop()
        self._step_open = self._kept_apart = False
        self.parameters = parameters
        self._applied = None
        self._volume = self._sliders_of = None
        self._overlay_shown = ("none", 0.0)
        self.rows = []
        if parameters is None:
            self._observe(None)
            self._input_check = check_input(None)
            self.refresh()
            return
        self._problem, self._warnings = "", ()
        self._sync_choices()
        self._applied = self._settings()
        # A run may have ended while there were no parameters to put its result into.
        keep = self._segmentation() is not None and not self._missed_result
        self._missed_result = False
        self._take_volume(keep_result=keep)
        self.onParametersChanged()

    def onParametersChanged(self) -> None:
        """Called on every change of the parameter node, by the user or a script."""
        parameters = self.parameters
        if parameters is None or self._syncing:
            return
        node = parameters.inputVolume
        if node is not self._volume:
            self._close_step()
            self._stop_applying()
            self._take_volume(keep_result=False)
        self._sync_choices()
        if self._applied != self._settings() and self._segmentation() is not None:
            self._apply_soon()
        overlay = (parameters.overlay, parameters.overlayOpacity)
        if overlay != self._overlay_shown:
            self._show_overlay()
        self.refresh()

    def lookAgain(self) -> None:
        """The user comes back from another module: what is shown has to be what is there now."""
        if self.parameters is None:
            return
        self._torch, self._input_check = torch_state(), check_input(self.parameters.inputVolume)
        if self.run is None:
            self._close_step()
            self._read_rows()
            self._on_arrival()
        self.refresh()

    def leave(self) -> None:
        """The user goes to another module, maybe to correct the segment: the sliders' step ends."""
        if self.parameters is not None and self.run is None:
            self._close_step()

    def _settings(self) -> tuple[float, float, str]:
        p = self.parameters
        return (p.threshold, p.minimumVolumeMl, p.dropped)

    def _sync_choices(self) -> None:
        missing = _("{name} (not installed)")
        for name, (combo, entries) in self._choices.items():
            values = [value for _text, value in entries]
            wanted = getattr(self.parameters, name)
            if name == "model" and wanted not in values:
                # A scene from another computer: keep what it says, the run explains what to do.
                values.append(wanted)
                entries.append((missing.format(name=wanted), wanted))
                combo.addItem(*entries[-1])
            index = values.index(wanted) if wanted in values else 0
            if combo.currentIndex != index:
                combo.currentIndex = index
            for old in reversed(range(len(entries))):  # what an earlier scene had asked for
                text, value = entries[old]
                if value != wanted and text == missing.format(name=value):
                    del entries[old]
                    combo.removeItem(old)

    def _on_choice(self, name: str, index: int) -> None:
        entries = self._choices[name][1]
        if self.parameters is None or not 0 <= index < len(entries):
            return
        if getattr(self.parameters, name) != entries[index][1]:
            setattr(self.parameters, name, entries[index][1])

    def _set(self, **values: Any) -> None:
        """Set parameters in one go, without acting on each."""
        self._syncing = True
        try:
            for name, value in values.items():
                setattr(self.parameters, name, value)
        finally:
            self._syncing = False

    def _judge(self) -> None:
        if self.parameters is not None:
            self._input_check = check_input(self.parameters.inputVolume)
            self._fill_table(self.rows, self.expected_dice)  # the image may have moved
            self.refresh()

    # -- what is shown ----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Texts and what is enabled; cheap."""
        ui, running = self.ui, self.run is not None and self.run.active
        result = self._segmentation() is not None
        shown = panel_texts.view(
            panel_texts.PanelState(
                self._input_check,
                self._torch.installed,
                self._has_model,
                running,
                self._installing_torch,
                has_result=result,
                kept_apart=self._kept_apart,
                lesions=sum(row.keep for row in self.rows) if self._work is None else None,
                cancelled=self._cancelled,
                seconds=self._seconds,
                problem=self._problem,
                warnings=self._warnings,
            )
        )
        ui.nextStepLabel.text = panel_texts.as_html(shown.next_step, strong=bool(self._problem))
        ui.inputCheckLabel.text = panel_texts.as_html(
            self._input_check.text if self._volume is not None else ""
        )
        ui.sampleButton.visible = self._volume is None
        ui.segmentButton.text = shown.segment_text
        ui.segmentButton.enabled = shown.segment_enabled
        ui.segmentButton.toolTip = shown.segment_tooltip
        ui.inputSelector.enabled = not running
        ui.progressBar.visible = running
        if self.run is not None and running:
            ui.progressBar.value = int(100 * self.run.fraction)
            ui.progressBar.format = self.run.stage_text
        self._fill_results()
        self._show_look()
        ui.saveCorrectionButton.enabled = result and belongs_to(self.parameters.segmentation)
        back, forward = self.logic.steps(self.parameters.segmentation) if result else (False, False)
        for widget in (ui.thresholdSlider, ui.minimumVolumeSpinBox, ui.lesionTable, ui.editButton):
            widget.enabled = shown.result_enabled
        ui.reportButton.enabled = shown.result_enabled and self._report is None
        for widget in (ui.regionsButton, ui.mniButton):
            widget.enabled = shown.result_enabled and self._mni is None
        ui.undoButton.enabled = shown.result_enabled and (back or self._step_open)
        ui.redoButton.enabled = shown.result_enabled and forward
        for widget in (
            ui.resultComboBox,
            ui.overlayComboBox,
            ui.overlayOpacitySlider,
            ui.surfaceButton,
            ui.colorButton,
        ):
            widget.enabled = shown.result_enabled
        for widget, tip in self._tips:
            widget.toolTip = tip if shown.result_enabled else shown.result_tooltip
        if shown.result_enabled and self._report is not None:
            ui.reportButton.toolTip = _("A report is being written.")
        ui.totalLabel.text = total_text(self.rows, self.expected_dice) if result else ""
        if result and self.parameters.overlay == "uncertainty" and not self._has_uncertainty():
            ui.totalLabel.text += _(
                " One view has no uncertainty: choose 'Accurate' and press Segment again."
            )
        ui.torchLabel.text = self._torch.version if self._torch.installed else _("not installed")
        if self._torch.too_old:
            ui.torchLabel.text = _("{version}: too old").format(version=self._torch.version)
        ui.installTorchButton.enabled = not (self._torch.installed or self._installing_torch)
        ui.offlineLabel.visible = not self._torch.installed
        ui.installTorchButton.toolTip = (
            _("PyTorch is installed already.")
            if self._torch.installed
            else _("Install PyTorch by the PyTorch extension. You are asked first.")
        )

    # -- actions: run ---------------------------------------------------------------------------

    def _on_segment(self, *_args: Any) -> None:
        if self.run is not None and self.run.active:
            if not self._double("run"):
                self._cancelled = True
                self.run.cancel()
                self._after_run()
            return
        self._problem, self._warnings, self._cancelled = "", (), False
        if not torch_state().installed:
            ready = self._install_torch()
            self._judge()  # it took minutes, in which everything but this button could be used
            if not ready or self.parameters is None or not self._input_check.usable:
                self.refresh()
                return
        self._close_step()
        p = self.parameters
        settings = RunParameters(p.views, p.align, p.device, p.precision, p.model)
        try:
            self.run = self.logic.start(p.inputVolume, settings)
        except OSError as error:
            self.run, failure = None, failure_of(error)
            self._problem = f"{failure.cause} {failure.remedy}"
        except InputError as error:
            self.run = None
            self._problem = str(error)
        else:
            self._started["run"] = time.monotonic()
            self._poll.start()
        self.refresh()

    def _double(self, what: str) -> bool:
        """Whether this was started just now, so that a click is the second of a double-click."""
        return time.monotonic() - self._started.get(what, -_DOUBLE_S) < _DOUBLE_S

    def _on_poll(self) -> None:
        if self.run is not None and self.run.active:
            if self.run.poll():
                self.ui.progressBar.value = int(100 * self.run.fraction)
                self.ui.progressBar.format = self.run.stage_text
            else:
                self._after_run()
        tasks = self._poll_batches()
        tasks = self._poll_comparison() or tasks
        tasks = self._poll_tasks() or tasks
        working = self._poll_work()  # last: what the others have ended may have started it
        tasks = tasks or working
        run = self.run if self.run is not None and self.run.active else None
        if not tasks and run is None:
            self._poll.stop()
        busy = working or self._in_threads() or self._comparing_in_thread()
        busy = busy or (run is not None and run.working)
        if busy != self._polls_often:  # setting it starts the timer's interval again
            self._polls_often = busy
            self._poll.setInterval(_BUSY_POLL_MS if busy else _POLL_MS)

    def _after_run(self) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        if run.failure is not None:
            self._problem = f"{run.failure.cause} {run.failure.remedy}".strip()
            self._last_log = run.failure.lines
        elif run.results is not None:
            try:
                results = self.logic.accept(run)
            except RunError as error:
                self._problem = str(error)
            else:
                if self.parameters is not None:
                    if self.logic.volume_of(results.segmentation_node) is self._volume:
                        self._take_results(results)
                else:
                    self._missed_result = True
        self.refresh()
        if run.failure is not None:
            self._show_error(run.failure)

    def _take_results(self, results: Any) -> None:
        self._seconds = results.seconds
        self._stop_applying()  # that was for the result before
        self._warnings, self._kept_apart = results.warnings, False
        self._set(segmentation=results.segmentation_node)
        self._show_settings(results.provenance)
        show_background(self._volume)
        show_segmentation_of(self._volume, results.segmentation_node)
        self._fill_table(rows_of(results.found), results.found.expected_dice)
        self._show_overlay()

    def _show_error(self, failure: Failure) -> None:
        """The last lines of a crash in a dialog; what has no lines is told by the panel alone."""
        import slicer

        if failure.lines and not slicer.app.testingEnabled():
            slicer.util.errorDisplay(
                f"{failure.cause}\n\n{failure.remedy}", detailedText="\n".join(failure.lines)
            )

    def _on_sample(self, *_args: Any) -> None:
        import slicer

        from .sample import add_sample

        slicer.app.setOverrideCursor(self.qt.Qt.WaitCursor)
        try:
            self.parameters.inputVolume = add_sample()
        finally:
            slicer.app.restoreOverrideCursor()
