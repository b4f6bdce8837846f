"""The models that are installed, and installing one from a file."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ....errors import InputError
from ...engine.polled_thread import PolledThread
from ...engine.process import python_executable
from ...i18n import tr as _
from . import texts
from .choices import Choice, Entries
from .context import Panel, sentence_of

if TYPE_CHECKING:
    from ....models import ChoiceNeeded, ImportChoices


class ModelSection:
    """Fills ``choice``, the list of models, and installs one in a thread."""

    def __init__(self, panel: Panel, choice: Choice) -> None:
        self._panel, self._choice = panel, choice
        #: Whether any model is installed.
        self.has_model = False
        self._install: PolledThread[Any] | None = None
        self._installed_file = ""
        self._choice.fill(self._models())
        panel.on_click(panel.ui.installModelButton, self._on_install)

    def list_models(self, chosen: str) -> None:
        """List the models anew, with one of them chosen."""
        with self._panel.quiet():
            self._choice.fill(self._models())
        if self._panel.parameters is not None:
            self._panel.parameters.model = chosen

    def poll(self) -> bool:
        """Look after an installation; True while it works."""
        if self._install is not None and not self._install.poll():
            self._finish()
        return self.busy

    @property
    def busy(self) -> bool:
        """Whether a model is being installed."""
        return self._install is not None

    def _models(self) -> Entries:
        from ....models import list_models

        try:
            known = [(texts.model_text(m), m.name) for m in list_models([])]
        except (InputError, OSError) as error:
            self._panel.notes.problem = sentence_of(error)
            known = []
        self.has_model = bool(known)
        return [(_("Recommended"), ""), *known]

    def _on_install(self) -> None:
        chosen = self._panel.qt.QFileDialog.getOpenFileName(
            None, _("Install model from file"), "", _("Models (*.zip plans.json config.json)")
        )
        path = chosen[0] if isinstance(chosen, tuple) else chosen
        if not path or self._install is not None:
            return
        # nnU-Net's and SynthStroke's folders are chosen by a file in them.
        folder = os.path.basename(str(path)) in ("plans.json", "config.json")
        self._start(os.path.dirname(str(path)) if folder else str(path), None)

    def _start(self, path: str, choices: ImportChoices | None) -> None:
        from ....models import install_model

        python: str | None = None
        with contextlib.suppress(OSError):  # a checkpoint is read in a process of its own
            python = python_executable()
        self._installed_file = path
        # Reads and checks a large file.
        self._install = PolledThread(lambda: install_model(path, choices, python=python))
        self._panel.keep_polling()
        self._panel.refresh()

    def _finish(self) -> None:
        install, self._install = self._install, None
        assert install is not None
        from ....models import ChoiceNeeded

        try:
            manifest = install.result()
        except ChoiceNeeded as needed:
            choices = self._asked_choices(needed)
            if choices is not None:
                self._start(self._installed_file, choices)
                return
            self._panel.notes.problem = str(needed)
        except (InputError, OSError) as error:
            self._panel.notes.problem = sentence_of(error)
        else:
            self._panel.notes.problem = ""
            self.list_models(manifest.name)
        self._panel.refresh()

    def _asked_choices(self, needed: ChoiceNeeded) -> ImportChoices | None:
        """What a model of others does not say itself, asked of the user; None if nobody answers."""
        from ....models import SPACES, ImportChoices

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
        qt = self._panel.qt
        for asked, name, text, choices in questions:
            if not asked:
                continue
            ok = qt.BoolResult()
            answer = qt.QInputDialog.getItem(
                None, _("Install model from file"), text, list(choices), 0, False, ok
            )
            if not ok:
                return None
            found[name] = str(answer)
        return ImportChoices(space=found.get("space"), orientation=found.get("orientation"))
