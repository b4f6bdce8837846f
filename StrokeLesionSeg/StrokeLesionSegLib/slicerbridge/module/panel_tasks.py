"""What the panel starts besides a run: installations, system check and report."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..engine import system_check
from ..engine.polled_thread import PolledThread
from ..engine.process import EngineProcess, python_executable
from ..engine.torch_setup import TorchDeclined, TorchState, install_torch, verify_arguments
from ..i18n import tr as _
from . import panel_texts
from .in_mni import SegmentInMni, add_region_table
from .report import Report

if TYPE_CHECKING:
    from ...lesions import RegionTable
    from ...models import ChoiceNeeded, ImportChoices

# A run starts Python and torch, hands the image over, aligns it and shows the result.
_AROUND_NETWORK_S = 6.0


class PanelTasks:
    """The part of ``PanelController`` for all but a run and its result.

    Its attributes are those of the controller; nothing here waits, except for dialogs that the
    user answers.
    """

    ui: Any
    logic: Any
    qt: Any
    parameters: Any
    _choices: dict[str, tuple[Any, list[tuple[str, str]]]]
    _poll: Any
    _started: dict[str, float]
    _seconds: float | None
    _problem: str
    _last_log: tuple[str, ...]
    _syncing: bool
    _torch: TorchState
    _asked: bool = False
    _installing_torch: bool = False
    _check: EngineProcess | None = None
    _batch: EngineProcess | None
    _learning: EngineProcess | None
    _report: Report | None = None
    _install: PolledThread[Any] | None = None
    _mni: tuple[PolledThread[Any], Callable[[Any], None]] | None = None
    _installed_file = ""

    # What the other parts do.
    refresh: Callable[[], None]
    _double: Callable[[str], bool]
    _segmentation: Callable[[], Any | None]
    _models: Callable[[], list[tuple[str, str]]]

    def _poll_tasks(self) -> bool:
        """Look after what was started; True while something still runs."""
        if self._check is not None and not self._check.running:
            self._finish_check()
        if self._report is not None and not self._report.poll():
            self._finish_report()
        if self._mni is not None and not self._mni[0].poll():
            self._finish_mni()
        if self._install is not None and not self._install.poll():
            self._finish_install()
        return bool(self._check or self._in_threads())

    def _in_threads(self) -> bool:
        return bool(self._report or self._install or self._mni)

    def _stop_tasks(self) -> None:
        for process in (self._check, self._batch, self._learning):
            if process is not None:
                process.cancel()

    # -- report -----------------------------------------------------------------------------------

    def _on_report(self, *_args: Any) -> None:
        """Write the report of the segment as it is now, in a thread that touches arrays only."""
        node = self._segmentation()
        folder = self.qt.QFileDialog.getExistingDirectory(None, _("Folder for the report"))
        if node is None or not folder:
            return
        try:
            self._report = self.logic.report(node, folder, wait=False)
        except (InputError, ValueError) as error:
            self._problem = str(error)
        else:
            self._poll.start()
        self.refresh()

    def _finish_report(self) -> None:
        report, self._report = self._report, None
        assert report is not None
        try:
            path = report.wait()
        except (InputError, OSError, ValueError) as error:
            self._problem = str(error)
        else:
            self._problem = ""
            self.ui.reportLabel.text = panel_texts.links_html(_("Report:"), path)
            self.qt.QDesktopServices.openUrl(self.qt.QUrl.fromLocalFile(str(path)))
        self.refresh()

    # -- MNI space --------------------------------------------------------------------------------

    def _on_regions(self, *_args: Any) -> None:
        """Volumes by region of the segment as it is now."""
        self._start_mni(lambda there: there.regions(), self._show_regions)

    def _on_mni(self, *_args: Any) -> None:
        """Write the segment as it is now, its probability and the transform in MNI space."""
        folder = self.qt.QFileDialog.getExistingDirectory(None, _("Folder for the files"))
        if folder:
            self._start_mni(lambda there: there.write(folder), self._show_written)

    def _start_mni(
        self, work: Callable[[SegmentInMni], Any], then: Callable[[Any, Any], None]
    ) -> None:
        node = self._segmentation()
        if node is None or self._mni is not None:
            return
        try:
            there = self.logic.in_mni(node)
        except ValueError as error:
            self._problem = str(error)
        else:
            self._mni = (PolledThread(lambda: work(there)), functools.partial(then, node))
            self._poll.start()
        self.refresh()

    def _finish_mni(self) -> None:
        assert self._mni is not None
        work, then = self._mni
        self._mni = None
        try:
            then(work.result())
        except (InputError, OSError, ValueError) as error:
            self._problem = str(error)
        else:
            self._problem = ""
        self.refresh()

    def _show_regions(self, node: Any, table: RegionTable) -> None:
        if node is not self._segmentation():
            return
        rows, widget = table.table_rows(), self.ui.regionTable
        add_region_table(table, self.logic.volume_of(node), node)
        widget.setColumnCount(len(panel_texts.REGION_HEADERS))
        widget.setHorizontalHeaderLabels(list(panel_texts.REGION_HEADERS))
        widget.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(panel_texts.region_cells(row)):
                widget.setItem(number, column, self.qt.QTableWidgetItem(text))
        widget.resizeColumnsToContents()
        widget.visible = bool(rows)
        if not rows:
            self.ui.reportLabel.text = _("There is no lesion to share out among regions.")

    def _show_written(self, _node: Any, paths: list[Path]) -> None:
        self.ui.reportLabel.text = panel_texts.links_html(_("In MNI space:"), paths[0].parent)

    # -- actions: advanced --------------------------------------------------------------------

    def _on_install_model(self, *_args: Any) -> None:
        chosen = self.qt.QFileDialog.getOpenFileName(
            None, _("Install model from file"), "", _("Models (*.zip plans.json config.json)")
        )
        path = chosen[0] if isinstance(chosen, tuple) else chosen
        if not path or self._install is not None:
            return
        # nnU-Net's and SynthStroke's folders are chosen by a file in them.
        folder = os.path.basename(str(path)) in ("plans.json", "config.json")
        self._start_install(os.path.dirname(str(path)) if folder else str(path), None)

    def _start_install(self, path: str, choices: ImportChoices | None) -> None:
        from ...models import install_model

        python: str | None = None
        with contextlib.suppress(OSError):  # a checkpoint is read in a process of its own
            python = python_executable()
        self._installed_file = path
        # Reads and checks a large file.
        self._install = PolledThread(lambda: install_model(path, choices, python=python))
        self._poll.start()
        self.refresh()

    def _finish_install(self) -> None:
        install, self._install = self._install, None
        assert install is not None
        from ...models import ChoiceNeeded

        try:
            manifest = install.result()
        except ChoiceNeeded as needed:
            choices = self._asked_choices(needed)
            if choices is not None:
                self._start_install(self._installed_file, choices)
                return
            self._problem = str(needed)
        except (InputError, OSError) as error:
            self._problem = str(error)
        else:
            self._problem = ""
            self._list_models(manifest.name)
        self.refresh()

    def _asked_choices(self, needed: ChoiceNeeded) -> ImportChoices | None:
        """What a model of others does not say itself, asked of the user; None if nobody answers."""
        from ...models import SPACES, ImportChoices

        found: dict[str, str] = {}
        questions = (
            (
                needed.space,
                "space",
                _("Where did the scans lie that the model was trained on?"),
                SPACES,
            ),
            (
                needed.orientation,
                "orientation",
                _("How were their arrays stored?"),
                ("RAS", "LAS", "LPS", "RPS"),
            ),
        )
        for asked, name, text, choices in questions:
            if not asked:
                continue
            ok = self.qt.BoolResult()
            answer = self.qt.QInputDialog.getItem(
                None, _("Install model from file"), text, list(choices), 0, False, ok
            )
            if not ok:
                return None
            found[name] = str(answer)
        return ImportChoices(space=found.get("space"), orientation=found.get("orientation"))

    def _list_models(self, chosen: str) -> None:
        """List the models anew, with one of them chosen."""
        combo, _entries = self._choices["model"]
        entries = self._models()
        self._choices["model"] = (combo, entries)
        self._syncing = True
        combo.clear()
        for text, value in entries:
            combo.addItem(text, value)
        self._syncing = False
        if self.parameters is not None:
            self.parameters.model = chosen

    def _on_install_torch(self, *_args: Any) -> None:
        self._install_torch()
        self.refresh()

    def _install_torch(self) -> bool:
        """True if PyTorch was installed. Meanwhile Slicer goes on with its events, at each line
        that pip prints: image, scene and panel may be others afterwards."""
        import slicer

        if self._installing_torch:
            return False

        def confirm(text: str) -> bool:
            agreed = bool(slicer.util.confirmOkCancelDisplay(text))
            self.refresh()
            return agreed

        self._installing_torch = True
        try:
            self._torch = install_torch(confirm)
        except (TorchDeclined, RuntimeError) as error:
            self._problem = str(error)
            return False
        finally:
            self._installing_torch = False
        self._problem = ""
        self._start_check()  # an import in a process of its own proves that it works
        return True

    def _on_check(self, *_args: Any) -> None:
        self._start_check()

    def checkDevice(self) -> None:
        """Once in a session: ask, in a process of its own, which device is used and why."""
        if not self._asked and self._torch.installed and not self._installing_torch:
            self._start_check()

    def _start_check(self) -> None:
        if self._check is not None:
            return
        self._asked = True
        self._check = EngineProcess(verify_arguments())
        try:
            self._check.start()
        except OSError as error:
            self._check = None
            text = system_check.report_text(system_check.local_report(), None, str(error))
            self.ui.checkText.setPlainText(text)
            return
        self.ui.checkText.setPlainText(_("Checking the engine in its own process..."))
        self.ui.deviceReasonLabel.text = _("Asking...")
        self._poll.start()

    def _finish_check(self) -> None:
        process, self._check = self._check, None
        assert process is not None
        failure = process.failure()
        facts = process.document if failure is None else None
        self.ui.checkText.setPlainText(
            system_check.report_text(
                system_check.local_report(),
                facts,
                "" if failure is None else str(failure),
                self._last_log,
            )
        )
        section, line = self.ui.checkCollapsibleButton, system_check.device_line(facts)
        if failure is None:
            section.text = _("System check: all is well")
            network = system_check.expected_seconds(facts)
            if self._seconds is None and network is not None:
                self._seconds = network + _AROUND_NETWORK_S
        else:
            section.text = _("System check: the engine does not work")
            section.collapsed = False
        self.ui.deviceReasonLabel.text = panel_texts.as_html(
            line or ("" if failure is None else failure.cause)
        )
        process.close()

    def _on_copy_check(self, *_args: Any) -> None:
        import slicer

        slicer.app.clipboard().setText(self.ui.checkText.plainText)
