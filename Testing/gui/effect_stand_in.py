"""The modules that our Segment Editor effects import, over PySide6: qt, ctk, SegmentEditorEffects.

As PythonQt does it: properties are attributes, signals are named by their signature, nothing takes
keywords. It stays an offscreen smoke test: Slicer's own widgets are not here. The editor is
Slicer's real logic, see ``editor_stand_in``.
"""

from __future__ import annotations

import enum
import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "0x03")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtWidgets

CLASSES = (
    "QApplication",
    "QAbstractItemView",
    "QCheckBox",
    "QComboBox",
    "QCursor",
    "QFormLayout",
    "QHBoxLayout",
    "QIcon",
    "QKeySequence",
    "QLabel",
    "QPushButton",
    "QRadioButton",
    "QShortcut",
    "QTableWidget",
    "QTableWidgetItem",
    "QTimer",
)


def application() -> QtWidgets.QApplication:
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication([])


def raw(value: Any) -> Any:
    """The PySide6 object behind a ``Thing``."""
    return object.__getattribute__(value, "_native") if isinstance(value, Thing) else value


def shown(value: Any) -> Any:
    """What PythonQt would hand out."""
    if isinstance(value, enum.Enum):
        return value.value
    return Thing(value) if isinstance(value, QtCore.QObject) else value


class Thing:
    """One Qt object as PythonQt shows it."""

    def __init__(self, native: Any) -> None:
        object.__setattr__(self, "_native", native)
        object.__setattr__(self, "_calls", {})

    def _property(self, name: str) -> bool:
        meta = getattr(raw(self), "metaObject", None)
        return meta is not None and meta().indexOfProperty(name) >= 0

    def __getattr__(self, name: str) -> Any:
        if self._property(name):
            return shown(raw(self).property(name))
        if name == "className":
            return lambda: raw(self).metaObject().className()
        value = getattr(raw(self), name)
        if not callable(value):
            return shown(value)
        return lambda *arguments: shown(value(*(raw(a) for a in arguments)))

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._property(name):
            raise AttributeError(f"{type(raw(self)).__name__} has no property {name!r}")
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError(f"{name} = {value!r}")
        raw(self).setProperty(name, value)

    def connect(self, signal: str, slot: Any) -> bool:
        name, _, kinds = signal.partition("(")
        count = 0 if kinds in (")", "") else kinds.count(",") + 1

        def call(*arguments: Any) -> None:
            slot(*(shown(a) for a in arguments[:count]))

        getattr(raw(self), name).connect(call)
        self._calls[signal, slot] = call
        return True

    def disconnect(self, signal: str, slot: Any) -> bool:
        getattr(raw(self), signal.partition("(")[0]).disconnect(self._calls.pop((signal, slot)))
        return True

    def __eq__(self, other: Any) -> bool:
        return raw(self) is raw(other)

    def __hash__(self) -> int:
        return id(raw(self))


class Maker:
    """``qt.QLabel`` and the like: makes objects; static members take and give them."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __call__(self, *arguments: Any) -> Thing:
        return Thing(self._kind(*(raw(a) for a in arguments)))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._kind, name)
        if not callable(value) or isinstance(value, (type, enum.Enum)):
            return value
        return lambda *arguments: shown(value(*(raw(a) for a in arguments)))


class Slider(QtWidgets.QWidget):
    """ctkSliderWidget: a slider with a spin box."""

    valueChanged = QtCore.Signal(float)

    def __init__(self) -> None:
        super().__init__()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.bar = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self.bar.setMaximum(1000)
        self.spin = QtWidgets.QDoubleSpinBox()
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.spin)
        self.spin.valueChanged.connect(self._spun)

    def _spun(self, value: float) -> None:
        low, high = self.spin.minimum(), self.spin.maximum()
        self.bar.setValue(round(1000 * (value - low) / ((high - low) or 1)))
        self.valueChanged.emit(value)

    def setValue(self, value: float) -> None:
        self.spin.setValue(value)

    def _of_spin(kind: type, name: str) -> Any:
        setter = "set" + name[0].upper() + name[1:]
        return QtCore.Property(
            kind,
            lambda self: getattr(self.spin, name)(),
            lambda self, value: getattr(self.spin, setter)(value),
        )

    decimals = _of_spin(int, "decimals")
    minimum = _of_spin(float, "minimum")
    maximum = _of_spin(float, "maximum")
    value = _of_spin(float, "value")
    singleStep = _of_spin(float, "singleStep")
    suffix = _of_spin(str, "suffix")


class Section(QtWidgets.QFrame):
    """ctkCollapsibleButton: a title, and what it folds away."""

    def __init__(self) -> None:
        super().__init__()
        self._text, self._collapsed = "", False

    def _get_text(self) -> str:
        return self._text

    def _set_text(self, value: str) -> None:
        self._text = value

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, value: bool) -> None:
        self._collapsed = value
        self.setMaximumHeight(0 if value else 16777215)

    text = QtCore.Property(str, _get_text, _set_text)
    collapsed = QtCore.Property(bool, _get_collapsed, _set_collapsed)


registered: list[Any] = []


class AbstractScriptedSegmentEditorEffect:
    """The base class that Slicer gives to scripted effects."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        registered.append(self.scriptedEffect)


def make_qt() -> types.ModuleType:
    """The module ``qt``."""
    qt = types.ModuleType("qt")
    for name in CLASSES:
        home = next(h for h in (QtWidgets, QtGui, QtCore) if hasattr(h, name))
        setattr(qt, name, Maker(getattr(home, name)))
    qt.Qt = QtCore.Qt  # type: ignore[attr-defined]
    return qt


def install(slicer: Any, monkeypatch: Any) -> Any:
    """Make the effects importable anew; returns the package ``StrokeLesionSegEffects``."""
    application()
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "StrokeLesionSeg"))
    contents: dict[str, dict[str, Any]] = {
        "ctk": {"ctkSliderWidget": Maker(Slider), "ctkCollapsibleButton": Maker(Section)},
        "SegmentEditorEffects": {
            "AbstractScriptedSegmentEditorEffect": AbstractScriptedSegmentEditorEffect
        },
        "slicer.i18n": {"tr": lambda text: text},
    }
    monkeypatch.setitem(sys.modules, "qt", make_qt())
    for name, content in contents.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in [n for n in sys.modules if n.split(".")[0] == "StrokeLesionSegEffects"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("StrokeLesionSegEffects")


class Options(QtWidgets.QFrame):
    """The frame below the effects' buttons, laid out as Slicer does it."""

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.form = QtWidgets.QFormLayout(self)
        self.form.setContentsMargins(4, 4, 4, 4)
        self.form.setSpacing(4)
        self.form.addRow(QtWidgets.QLabel(f"<b>{title}</b>"))
        help_label = QtWidgets.QLabel(text)
        help_label.setWordWrap(True)
        self.form.addRow(help_label)

    def addOptionsWidget(self, item: Any) -> None:
        self.form.addRow(raw(item))

    def addLabeledOptionsWidget(self, label: str, item: Any) -> Thing:
        made = QtWidgets.QLabel(label)
        self.form.addRow(made, raw(item))
        return Thing(made)
