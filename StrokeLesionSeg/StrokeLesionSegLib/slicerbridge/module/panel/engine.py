"""What the engine needs and can do here: PyTorch, and the system check."""

from __future__ import annotations

from ...engine import system_check
from ...engine.process import EngineProcess, Failure
from ...engine.torch_setup import TorchDeclined, install_torch, torch_state, verify_arguments
from ...i18n import tr as _
from . import texts
from .context import Panel
from .followed import FollowedProcess

# A run starts Python and torch, hands the image over, aligns it and shows the result.
_AROUND_NETWORK_S = 6.0


class EngineSection:
    """Installs PyTorch, with consent, and checks the engine in a process of its own."""

    def __init__(self, panel: Panel) -> None:
        self._panel, ui = panel, panel.ui
        self.torch = torch_state()
        #: PyTorch is being installed; Slicer goes on with its events meanwhile.
        self.installing = False
        #: What a check found: how long a run takes on this computer.
        self.expected_seconds: float | None = None
        #: The last lines of a run that failed, for the check's text.
        self.last_log: tuple[str, ...] = ()
        self._asked = False
        self._check = FollowedProcess(panel, lambda _event: None, self._finish_check)
        panel.on_click(ui.installTorchButton, self.press_install)
        panel.on_click(ui.checkDeviceButton, self._start_check)
        panel.on_click(ui.checkButton, self._start_check)
        panel.on_click(ui.copyCheckButton, self._on_copy)

    def look_again(self) -> None:
        """Another module may have installed PyTorch."""
        self.torch = torch_state()

    def check_once(self) -> None:
        """Once in a session: ask, in a process of its own, which device is used and why."""
        if not self._asked and self.torch.installed and not self.installing:
            self._start_check()

    def poll(self) -> bool:
        """Look after a check; True while it runs."""
        return self._check.poll()

    @property
    def checking(self) -> bool:
        """Whether a check runs."""
        return self._check.running

    def shut_down(self) -> None:
        """End a check."""
        self._check.shut_down()

    def show(self, _view: texts.PanelView) -> None:
        """Which PyTorch there is."""
        ui, torch = self._panel.ui, self.torch
        ui.torchLabel.text = torch.version if torch.installed else _("not installed")
        if torch.too_old:
            ui.torchLabel.text = _("{version}: too old").format(version=torch.version)
        ui.installTorchButton.enabled = not (torch.installed or self.installing)
        ui.offlineLabel.visible = not torch.installed
        ui.installTorchButton.toolTip = (
            _("PyTorch is installed already.")
            if torch.installed
            else _("Install PyTorch by the PyTorch extension. You are asked first.")
        )

    # -- PyTorch ----------------------------------------------------------------------------------

    def press_install(self) -> None:
        """The button: install PyTorch."""
        self.install_torch()
        self._panel.refresh()

    def install_torch(self) -> bool:
        """True if PyTorch was installed. Meanwhile Slicer goes on with its events, at each line
        that pip prints: image, scene and panel may be others afterwards."""
        import slicer

        if self.installing:
            return False

        def confirm(text: str) -> bool:
            agreed = bool(slicer.util.confirmOkCancelDisplay(text))
            self._panel.refresh()
            return agreed

        self.installing = True
        try:
            self.torch = install_torch(confirm)
        except (TorchDeclined, RuntimeError) as error:
            self._panel.notes.problem = str(error)
            return False
        finally:
            self.installing = False
        self._panel.notes.problem = ""
        self._start_check()  # an import in a process of its own proves that it works
        return True

    # -- system check -----------------------------------------------------------------------------

    def _start_check(self) -> None:
        if self._check.running:
            return
        self._asked, ui = True, self._panel.ui
        try:
            self._check.start(verify_arguments())
        except OSError as error:
            text = system_check.report_text(system_check.local_report(), None, str(error))
            ui.checkText.setPlainText(text)
            return
        ui.checkText.setPlainText(_("Checking the engine in its own process..."))
        ui.deviceReasonLabel.text = _("Asking...")

    def _finish_check(self, process: EngineProcess, failure: Failure | None) -> None:
        ui = self._panel.ui
        facts = process.document if failure is None else None
        ui.checkText.setPlainText(
            system_check.report_text(
                system_check.local_report(),
                facts,
                "" if failure is None else str(failure),
                self.last_log,
            )
        )
        section, line = ui.checkCollapsibleButton, system_check.device_line(facts)
        if failure is None:
            section.text = _("System check: all is well")
            network = system_check.expected_seconds(facts)
            if network is not None:
                self.expected_seconds = network + _AROUND_NETWORK_S
        else:
            section.text = _("System check: the engine does not work")
            section.collapsed = False
        ui.deviceReasonLabel.text = texts.as_html(
            line or ("" if failure is None else failure.cause)
        )
        self._panel.refresh()  # it is known now how long a run takes

    def _on_copy(self) -> None:
        import slicer

        slicer.app.clipboard().setText(self._panel.ui.checkText.plainText)
