"""The panel, joined of its sections: who is shown, polled and stopped when, and nothing else.

A section owns its widgets and what belongs to them (see ``panel``); it is handed the ``Panel`` that
all share and those sections that it uses.
"""

from __future__ import annotations

from typing import Any

from .panel import texts
from .panel.batch import BatchSection
from .panel.change import ChangeSection
from .panel.choices import Choices
from .panel.context import Notes, Panel
from .panel.engine import EngineSection
from .panel.learn import LearnSection
from .panel.look import LookSection
from .panel.models import ModelSection
from .panel.report import ReportSection
from .panel.result import ResultSection
from .panel.results import BatchResults
from .panel.run import RunSection
from .panel.scan import ScanSection


class PanelController:
    """Drives the form ``ui`` (its widgets by name) for the parameter node of the scene."""

    def __init__(self, ui: Any, logic: Any, qt: Any) -> None:
        self.panel = panel = Panel(ui, logic, qt, refresh=self.refresh, poll=self._on_poll)
        self.choices = Choices(panel)
        self.models = ModelSection(panel, self.choices["model"])
        self.engine = EngineSection(panel)
        self.report = ReportSection(panel)
        self.result = ResultSection(panel, refilled=self.report.hide_regions)
        self.look = LookSection(panel, other_image=lambda: self.result.other_image)
        self.scan = ScanSection(
            panel, self.result, self.look, busy=lambda: self.run.current is not None
        )
        self.run = RunSection(panel, self.engine, self.scan, self.result)
        self.change = ChangeSection(panel, settle=self.result.close_step)
        self.learn = LearnSection(panel, self.models)
        self.results = BatchResults(panel, listed=self.learn.offer, settle=self.result.close_step)
        self.batch = BatchSection(panel, self.results)
        # The result comes last: what the others have ended may have started its work.
        self._polled = (
            *(self.run, self.batch, self.learn, self.results, self.change),
            *(self.engine, self.report, self.models, self.result),
        )
        threads = (self.run, self.results, self.change, self.report, self.models, self.result)
        self._with_threads = threads
        self._shown = (
            *(self.scan, self.run, self.result, self.look, self.report),
            *(self.engine, self.results, self.change),
        )
        self._keep_still()

    def _keep_still(self) -> None:
        """Texts of a line more or less and the bar of a run do not move what is below them, and
        sections do not change the panel's width when they are folded."""
        ui = self.panel.ui
        # The section that is widest, and asks for no more than its least: Slicer gives a panel the
        # width that suits it best.
        ui.segmentButton.setMinimumWidth(ui.resultCollapsibleButton.minimumSizeHint.width())
        line = ui.segmentButton.sizeHint.height() * 2 // 3
        ui.nextStepLabel.setMinimumHeight(3 * line + 16)
        ui.inputCheckLabel.setMinimumHeight(2 * line)
        policy = ui.progressBar.sizePolicy
        policy.setRetainSizeWhenHidden(True)
        ui.progressBar.setSizePolicy(policy)
        ui.progressBar.visible = False
        ui.keysLabel.text = texts.keys_html()

    def keepWidth(self, module: Any, keep: bool) -> None:
        """The scroll bar beside the panel stays while that is shown: one that comes and goes as
        sections are folded would move all that is in them. ``module``: the widget that Slicer
        scrolls; other modules have the bar as Slicer has it."""
        names, area = self.panel.qt.Qt, module
        while area is not None and not area.inherits("QScrollArea"):
            area = area.parentWidget()
        if area is not None:
            area.setVerticalScrollBarPolicy(
                names.ScrollBarAlwaysOn if keep else names.ScrollBarAsNeeded
            )

    # -- life of the panel ------------------------------------------------------------------------

    def shutDown(self) -> None:
        """Stop timers and processes and let go of nodes; the widget is about to go."""
        self.cancel()
        self.panel.stop_polling()
        for section in (self.result, self.scan, self.engine, self.batch, self.learn):
            section.shut_down()
        self.panel.parameters = None

    def forget(self) -> None:
        """Let go of the nodes of a scene that closes, and of what is on its way there."""
        self.scan.forget()
        self.results.forget()

    def cancel(self) -> None:
        """End a run and a comparison, if there are any; the scene stays as it is."""
        self.run.cancel()
        self.change.cancel()

    def lookAgain(self) -> None:
        """The user comes back from another module: what is shown has to be what is there now."""
        if self.panel.parameters is None:
            return
        self.engine.look_again()
        self.scan.check_again()
        if self.run.current is None:
            self.result.close_step()
            self.result.show_settings_again()
            self.result.read_rows()
            self.scan.look_for_results()
        self.refresh()

    def leave(self) -> None:
        """The user goes to another module, maybe to correct the segment: the sliders' step ends."""
        if self.panel.parameters is not None and self.run.current is None:
            self.result.close_step()

    def checkDevice(self) -> None:
        """Once in a session: ask, in a process of its own, which device is used and why."""
        self.engine.check_once()

    def chooseScan(self) -> None:
        """Where no scan is chosen, choose the one that was segmented last, or the first."""
        self.scan.choose()

    def somethingArrived(self) -> None:
        """A node was added to the scene, or a segmentation was changed, by whomever."""
        self.scan.something_arrived()

    def leaveAlone(self) -> None:
        """What arrived until now is not chosen by itself: it came with a scene."""
        self.scan.leave_alone()

    # -- parameters -------------------------------------------------------------------------------

    @property
    def parameters(self) -> Any | None:
        """Those that are shown; None while a scene closes."""
        return self.panel.parameters

    def setParameterNode(self, parameters: Any) -> None:
        """Show the parameters of a scene, or of none while it closes."""
        self.result.forget()
        self.look.forget()
        self.scan.let_go()
        self.panel.notes.kept_apart = False
        self.panel.parameters = parameters
        if parameters is None:
            self.scan.close()
            self.refresh()
            return
        self.panel.notes = Notes()
        self.engine.look_again()
        self.choices.sync()
        self.result.take_over()
        # A run may have ended while there were no parameters to put its result into.
        missed = self.run.take_missed()
        self.scan.take(keep_result=self.panel.segmentation() is not None and not missed)
        self.onParametersChanged()

    def onParametersChanged(self) -> None:
        """Called on every change of the parameter node, by the user or a script."""
        parameters = self.panel.parameters
        if parameters is None or self.panel.syncing:
            return
        if parameters.inputVolume is not self.scan.volume:
            self.result.close_step()
            self.result.stop()
            self.engine.look_again()
            self.scan.take(keep_result=False)
        self.choices.sync()
        self.result.follow()
        self.look.follow()
        self.refresh()

    # -- what is shown ----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Texts and what is enabled; cheap."""
        notes, ui = self.panel.notes, self.panel.ui
        view = texts.view(
            texts.PanelState(
                self.scan.check,
                self.engine.torch.installed,
                self.models.has_model,
                self.run.active,
                self.engine.installing,
                has_result=self.panel.segmentation() is not None,
                kept_apart=notes.kept_apart,
                lesions=self.result.lesions,
                corrected=self.result.corrected,
                other_image=self.result.other_image,
                of_batch=self.results.can_save,
                cancelled=notes.cancelled,
                shown_instead=self.scan.shown_instead,
                seconds=self.run.seconds,
                problem=notes.problem,
                warnings=notes.warnings,
            )
        )
        ui.nextStepLabel.text = texts.as_html(view.next_step, strong=bool(notes.problem))
        for section in self._shown:
            section.show(view)

    def _on_poll(self) -> None:
        going = [section.poll() for section in self._polled]
        if not any(going):
            self.panel.stop_polling()
        self.panel.poll_often(any(section.busy for section in self._with_threads))
