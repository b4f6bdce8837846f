"""Combo boxes whose items are the values of a parameter."""

from __future__ import annotations

import functools
from typing import Any

from ...i18n import tr as _
from .context import Panel

Entries = list[tuple[str, str]]


class Choice:
    """One combo box and its items: ``entries``, each the text and the value of the parameter."""

    def __init__(self, combo: Any, entries: Entries) -> None:
        self.combo, self.entries = combo, entries
        self.fill(entries)

    def fill(self, entries: Entries) -> None:
        """Offer other items."""
        self.entries = entries
        self.combo.clear()
        for text, value in entries:
            self.combo.addItem(text, value)

    def show(self, wanted: str, keep_unknown: bool) -> None:
        """Show a value; one that is not offered is added, or the first one is shown instead."""
        entries, missing = self.entries, _("{name} (not installed)")
        values = [value for _text, value in entries]
        if keep_unknown and wanted not in values:
            # A scene from another computer: keep what it says, the run explains what to do.
            values.append(wanted)
            entries.append((missing.format(name=wanted), wanted))
            self.combo.addItem(*entries[-1])
        index = values.index(wanted) if wanted in values else 0
        if self.combo.currentIndex != index:
            self.combo.currentIndex = index
        for old in reversed(range(len(entries))):  # what an earlier scene had asked for
            text, value = entries[old]
            if value != wanted and text == missing.format(name=value):
                del entries[old]
                self.combo.removeItem(old)


class Choices:
    """All of them, by the name of their parameter; the models are listed by ``ModelSection``."""

    def __init__(self, panel: Panel) -> None:
        self._panel, ui = panel, panel.ui
        self._by_name = {
            "views": Choice(
                ui.viewsComboBox,
                [
                    (_("As the model recommends"), ""),
                    (_("Fast: axial slices"), "axial"),
                    (_("Accurate: three directions"), "triplanar"),
                ],
            ),
            "align": Choice(
                ui.alignComboBox,
                [
                    (_("Automatic"), "auto"),
                    (_("Always to MNI152"), "mni"),
                    (_("None: resample only"), "none"),
                ],
            ),
            "device": Choice(
                ui.deviceComboBox,
                [
                    (_("Automatic"), "auto"),
                    (_("Processor (CPU)"), "cpu"),
                    (_("NVIDIA graphics (CUDA)"), "cuda"),
                    (_("Apple graphics (MPS)"), "mps"),
                ],
            ),
            "precision": Choice(
                ui.precisionComboBox,
                [(_("Automatic"), "auto"), *((n, n) for n in ("float32", "bfloat16", "float16"))],
            ),
            "overlay": Choice(
                ui.overlayComboBox,
                [
                    (_("None"), "none"),
                    (_("Lesion probability"), "probability"),
                    (_("Uncertainty"), "uncertainty"),
                ],
            ),
            "model": Choice(ui.modelComboBox, []),
        }
        for name, choice in self._by_name.items():
            chosen = functools.partial(self._on_choice, name)
            panel.connect(choice.combo, "currentIndexChanged(int)", chosen)

    def __getitem__(self, name: str) -> Choice:
        return self._by_name[name]

    def sync(self) -> None:
        """Show the values of the parameters."""
        for name, choice in self._by_name.items():
            choice.show(getattr(self._panel.parameters, name), keep_unknown=name == "model")

    def _on_choice(self, name: str, index: int) -> None:
        parameters, entries = self._panel.parameters, self._by_name[name].entries
        if parameters is None or not 0 <= index < len(entries):
            return
        if getattr(parameters, name) != entries[index][1]:
            setattr(parameters, name, entries[index][1])
