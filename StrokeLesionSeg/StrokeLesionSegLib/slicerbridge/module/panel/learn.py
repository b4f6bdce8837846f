"""Learning from corrected masks, in a process of its own."""

from __future__ import annotations

from ...engine import batch
from ...engine.process import EngineProcess, Failure, Progress
from ...i18n import tr as _
from . import texts
from .context import Panel, sentence_of, show_crash
from .followed import FollowedProcess
from .models import ModelSection


class LearnSection:
    """Trains a model further on the corrected masks of the folder for results."""

    def __init__(self, panel: Panel, models: ModelSection) -> None:
        self._panel, self._models = panel, models
        self._process = FollowedProcess(panel, self._tell, self._take)
        self._offered = False
        panel.ui.learnButton.enabled = False
        panel.on_click(panel.ui.learnButton, self._on_learn)

    def offer(self, results: bool) -> None:
        """Whether there are results whose masks may have been corrected."""
        self._offered = results
        # What runs can be stopped, whichever folder is shown meanwhile.
        self._panel.ui.learnButton.enabled = results or self.learning

    def poll(self) -> bool:
        """Look after the process; True while it runs."""
        return self._process.poll()

    @property
    def learning(self) -> bool:
        """Whether a model learns."""
        return self._process.running

    def shut_down(self) -> None:
        """End the process; what it has learnt is kept in its folder."""
        self._process.shut_down()

    def _on_learn(self) -> None:
        ui, model = self._panel.ui, self._panel.parameters.model
        if self._process.running:
            if self._process.stop():
                self._end(_("Stopped. Press again to resume."))
            return
        folder = batch.folder_of(str(ui.batchOutputPathLineEdit.currentPath))
        arguments = ["adapt", str(folder)]
        if model:
            arguments += ["--model", model]
        try:
            self._process.start([*arguments, "--progress", "json"])
        except OSError as error:
            self._end(sentence_of(error))
            return
        ui.learnButton.text = _("Stop learning")
        self._panel.show_text(
            ui.learnLabel, _("Learning takes up to an hour. Keep working meanwhile.")
        )

    def _tell(self, event: Progress) -> None:
        said = texts.as_html(batch.learning_text(event))
        self._panel.show_text(self._panel.ui.learnLabel, said)

    def _take(self, process: EngineProcess, failure: Failure | None) -> None:
        result = process.result
        self._end(batch.learnt_text(result) if failure is None else failure.sentence)
        if failure is not None:
            show_crash(failure)
        if result and result.get("installed"):
            self._models.list_models(str(result["installed"]))

    def _end(self, text: str) -> None:
        self._panel.ui.learnButton.text = _("Learn from my corrections")
        self._panel.ui.learnButton.enabled = self._offered
        self._panel.show_text(self._panel.ui.learnLabel, texts.as_html(text))
