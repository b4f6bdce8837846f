"""The modules that our Segment Editor effects import, over PySide6: qt, ctk, SegmentEditorEffects.

See ``pythonqt_stand_in`` for what it is worth, and ``editor_stand_in`` for the editor itself, which
is Slicer's real logic.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import pythonqt_stand_in as stand_in
from PySide6 import QtCore, QtGui, QtWidgets
from pythonqt_stand_in import Proxy, raw

CLASSES = (
    "QApplication",
    "QAbstractItemView",
    "QCheckBox",
    "QComboBox",
    "QCursor",
    "QFormLayout",
    "QFrame",
    "QHBoxLayout",
    "QIcon",
    "QKeySequence",
    "QLabel",
    "QPushButton",
    "QShortcut",
    "QTableWidget",
    "QTableWidgetItem",
    "QTimer",
)


class _Class:
    """``qt.QLabel`` and the like: makes proxied objects; static members take and give them."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __call__(self, *arguments: Any) -> Proxy:
        return Proxy(self._kind(*(raw(a) for a in arguments)))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._kind, name)
        if not callable(value) or isinstance(value, type):
            return value

        def call(*arguments: Any) -> Any:
            return stand_in.plain(value(*(raw(a) for a in arguments)))

        return call


class Slider(stand_in.SliderWidget):
    """ctkSliderWidget with a suffix."""

    suffix = QtCore.Property(
        str, lambda self: self.spin.suffix(), lambda self, text: self.spin.setSuffix(text)
    )

    def setValue(self, value: float) -> None:
        self.spin.setValue(value)


class NodeSelector(Proxy):
    """qMRMLNodeComboBox, for the class of nodes that it is told."""

    def __init__(self) -> None:
        object.__setattr__(self, "_node", None)
        object.__setattr__(self, "_settings", {})
        super().__init__(_NodeCombo())

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("nodeTypes", "noneEnabled", "addEnabled", "removeEnabled"):
            raise AttributeError(f"qMRMLNodeComboBox has no property {name!r}")
        self._settings[name] = value

    def setMRMLScene(self, scene: Any) -> None:
        assert self._settings["nodeTypes"] == ["vtkMRMLMarkupsROINode"]

    def currentNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        changed = node is not self._node
        object.__setattr__(self, "_node", node)
        combo = raw(self)
        combo.setItemText(0, node.GetName() if node is not None else "Choose or make an ROI")
        if changed:
            combo.currentNodeChanged.emit(None)


class _NodeCombo(QtWidgets.QComboBox):
    currentNodeChanged = QtCore.Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.addItem("Choose or make an ROI")


class AbstractScriptedSegmentEditorEffect:
    """The base class that Slicer gives to scripted effects."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        registered.append(self.scriptedEffect)


registered: list[Any] = []


def make_qt() -> types.ModuleType:
    """The module ``qt``."""
    qt = types.ModuleType("qt")
    for name in CLASSES:
        home = next(h for h in (QtWidgets, QtGui, QtCore) if hasattr(h, name))
        setattr(qt, name, _Class(getattr(home, name)))
    qt.Qt = QtCore.Qt  # type: ignore[attr-defined]
    return qt


def install(slicer: Any, monkeypatch: Any) -> Any:
    """Make the effects importable anew; returns the package ``StrokeLesionSegEffects``."""
    import importlib
    from pathlib import Path

    stand_in.application()
    folder = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
    monkeypatch.syspath_prepend(str(folder))
    ctk = types.ModuleType("ctk")
    ctk.ctkSliderWidget = _Class(Slider)  # type: ignore[attr-defined]
    effects = types.ModuleType("SegmentEditorEffects")
    effects.AbstractScriptedSegmentEditorEffect = (  # type: ignore[attr-defined]
        AbstractScriptedSegmentEditorEffect
    )
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text  # type: ignore[attr-defined]
    for name, module in (
        ("qt", make_qt()),
        ("ctk", ctk),
        ("SegmentEditorEffects", effects),
        ("slicer.i18n", i18n),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    for name in [n for n in sys.modules if n.split(".")[0] == "StrokeLesionSegEffects"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(slicer, "qMRMLNodeComboBox", NodeSelector, raising=False)
    package = importlib.import_module("StrokeLesionSegEffects")
    monkeypatch.delitem(sys.modules, "StrokeLesionSegEffects", raising=False)
    monkeypatch.setitem(sys.modules, "StrokeLesionSegEffects", package)
    return package


class Options(QtWidgets.QFrame):
    """The frame below the effects' buttons, laid out as Slicer does it."""

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.form = QtWidgets.QFormLayout(self)
        self.form.setContentsMargins(4, 4, 4, 4)
        self.form.setSpacing(4)
        head = QtWidgets.QLabel(f"<b>{title}</b>")
        self.form.addRow(head)
        help_label = QtWidgets.QLabel(text)
        help_label.setWordWrap(True)
        self.form.addRow(help_label)

    def addOptionsWidget(self, item: Any) -> None:
        self.form.addRow(raw(item))

    def addLabeledOptionsWidget(self, label: str, item: Any) -> Proxy:
        made = QtWidgets.QLabel(label)
        self.form.addRow(made, raw(item))
        return Proxy(made)
