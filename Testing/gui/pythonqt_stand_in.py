"""PySide6 that behaves like PythonQt, and stand-ins for the qMRML and ctk widgets of the form.

PythonQt, which Slicer uses, shows Qt properties as attributes (``button.text``), names signals by
their signature (``connect("clicked(bool)", f)``) and takes no keyword arguments. The proxies here
do the same over PySide6 and refuse everything else, so that what runs here is at least written
for PythonQt. It stays an offscreen smoke test: Slicer's own widgets are not here.
"""

from __future__ import annotations

import ctypes
import enum
import inspect
import os
import sys
import types
import weakref
from pathlib import Path
from typing import Any

# Enums as plain numbers, as in PythonQt; has to be set before PySide6 is imported.
os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "0x03")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

if sys.version_info < (3, 12):
    # PySide6 counts on an immortal None, which Python has from 3.12 on: before that, each of its
    # calls takes a reference from None (-1.0 a call with PySide6 6.12), until Python aborts.
    for _constant in (None, True, False):
        ctypes.c_ssize_t.from_address(id(_constant)).value += 1 << 40


def plain(value: Any) -> Any:
    """What PythonQt would hand out: numbers for enums, proxies for objects."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (QtCore.QObject, QtWidgets.QTableWidgetItem)):
        return proxy_of(value)
    return value


def raw(value: Any) -> Any:
    return object.__getattribute__(value, "_widget") if isinstance(value, Proxy) else value


class ProxyClass(type):
    """A class of PythonQt: ``qt.QTimer()`` makes an object, ``qt.QUrl.fromLocalFile`` is static."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return plain(getattr(native_class(cls.__name__), name))


def pass_arguments(slot: Any, arguments: tuple[Any, ...]) -> None:
    """Call a slot as PythonQt does: a function of fixed arguments gets no more than it takes."""
    function = getattr(slot, "__func__", slot)
    code = getattr(function, "__code__", None)
    if code is not None and not code.co_flags & inspect.CO_VARARGS:
        arguments = arguments[: code.co_argcount - (function is not slot)]
    slot(*(plain(a) for a in arguments))


class Signal:
    """A signal as an attribute of its object: ``spin.valueChanged.connect(f)``."""

    def __init__(self, widget: Any, name: str) -> None:
        self._signal, self._key = getattr(widget, name), (id(widget), name)

    def connect(self, slot: Any) -> None:
        def call(*arguments: Any) -> None:
            pass_arguments(slot, arguments)

        _connected[(*self._key, slot)] = call
        self._signal.connect(call)

    def disconnect(self, slot: Any) -> None:
        self._signal.disconnect(_connected.pop((*self._key, slot)))


_connected: dict[Any, Any] = {}
_made: weakref.WeakSet[QtCore.QObject] = weakref.WeakSet()


def destroy(window: QtWidgets.QWidget) -> None:
    """End a window and all objects that were made for it. A connection keeps its slot, hence the
    panel with its volumes, for as long as there is the object that signals."""
    _connected.clear()
    for each in (window, *_made):
        if shiboken6.isValid(each):
            shiboken6.delete(each)
    _made.clear()


class Proxy(metaclass=ProxyClass):
    """One Qt object as PythonQt shows it."""

    def __init__(self, *arguments: Any) -> None:
        native = native_class(type(self).__name__)
        made = native(*(raw(a) for a in arguments))
        object.__setattr__(self, "_widget", made)
        if isinstance(made, QtCore.QObject):
            _made.add(made)

    def __getattr__(self, name: str) -> Any:
        widget = raw(self)
        if _is_property(widget, name):
            return plain(widget.property(name))
        value = getattr(widget, name)
        if isinstance(value, QtCore.SignalInstance):
            return Signal(widget, name)
        if not callable(value):
            return plain(value)

        def call(*arguments: Any, **keywords: Any) -> Any:
            if keywords:
                raise TypeError(f"PythonQt takes no keyword arguments: {name}({keywords})")
            given = [raw(a) for a in arguments]
            if name == "setCheckState":
                given = [QtCore.Qt.CheckState(given[0])]
            elif name == "setVerticalScrollBarPolicy":
                given = [QtCore.Qt.ScrollBarPolicy(given[0])]
            elif name == "setSectionResizeMode":
                given[-1] = QtWidgets.QHeaderView.ResizeMode(given[-1])
            return plain(value(*given))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        widget = raw(self)
        if not _is_property(widget, name):
            raise AttributeError(f"{type(widget).__name__} has no property {name!r}")
        if name in ("nodeTypes", "hiddenNodeIDs"):
            value = list(value)  # of a tuple, as Slicer's connector gives it
        elif not isinstance(value, (str, int, float, bool)) and value is not None:
            raise TypeError(f"{name} = {value!r}")
        widget.setProperty(name, value)
        got = widget.property(name)
        # Visibility is the state of the whole window; everything else has to arrive.
        arrives = isinstance(value, (str, bool)) and name not in ("visible", "enabled")
        if arrives and type(got) is type(value) and got != value:
            raise AttributeError(f"{name} of {type(widget).__name__} is {got!r}, not {value!r}")

    def connect(self, signal: str, slot: Any) -> bool:
        name, _, types_ = signal.partition("(")
        found = getattr(raw(self), name)
        count = 0 if types_ in (")", "") else types_.count(",") + 1
        found.connect(lambda *arguments: pass_arguments(slot, arguments[:count]))
        return True

    def isNodeSelector(self) -> bool:
        return isinstance(raw(self), NodeComboBox)

    def __eq__(self, other: Any) -> bool:
        return raw(self) is raw(other)

    def __hash__(self) -> int:
        return id(raw(self))


def _is_property(widget: Any, name: str) -> bool:
    meta = getattr(widget, "metaObject", None)
    return meta is not None and meta().indexOfProperty(name) >= 0


def native_class(name: str) -> Any:
    """PySide6's class, or our stand-in, of a class name."""
    if name in CUSTOM:
        return CUSTOM[name]
    for home in (QtCore, QtWidgets, QtGui):
        if hasattr(home, name):
            return getattr(home, name)
    raise AttributeError(f"no class {name}")


def proxy_class(name: str) -> Any:
    """The class of PythonQt of that name, always the same one: ``type(x) == qt.QLabel`` holds."""
    return _classes.setdefault(name, ProxyClass(name, (Proxy,), {}))


_classes: dict[str, Any] = {}


def proxy_of(value: Any) -> Proxy:
    """The proxy of an object that is there already."""
    kind = type(value)
    name = next((n for n, c in CUSTOM.items() if c is kind), kind.__name__)
    made: Proxy = object.__new__(proxy_class(name))
    object.__setattr__(made, "_widget", value)
    return made


# -- widgets of Slicer and ctk ------------------------------------------------------------------


class MRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        for child in self.findChildren(NodeComboBox):
            child.setMRMLScene(scene)


class ModuleParent(QtWidgets.QWidget):
    """The area that Slicer hands to a module's widget."""

    entered = True
    isEntered = QtCore.Property(bool, lambda self: self.entered)

    def __init__(self) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)


class ProxyModel(QtCore.QObject):
    """qMRMLSortFilterProxyModel: what of a scene a selector offers."""

    def __init__(self, selector: NodeComboBox) -> None:
        super().__init__(selector)
        self._selector = selector
        self._hidden: list[str] = []

    def _hide(self, ids: list[str]) -> None:
        self._hidden = ids
        self._selector._refill()

    hiddenNodeIDs = QtCore.Property("QStringList", lambda self: self._hidden, _hide)


class NodeComboBox(QtWidgets.QComboBox):
    """qMRMLNodeComboBox: the nodes of a class in a scene, kept up to date."""

    currentNodeChanged = QtCore.Signal(object)

    def _set_types(self, types_: list[str]) -> None:
        self._types = types_

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _set_types)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._types: list[str] = []
        self._ids: list[str | None] = [None]
        self._offered = ProxyModel(self)
        self.addItem("Choose a T1-weighted scan")
        self.currentIndexChanged.connect(lambda *_: self.currentNodeChanged.emit(None))

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self._tags = []
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent):
            self._tags.append(scene.AddObserver(event, self._refill))
        self._refill()

    def forget(self) -> None:
        """Stop looking at the scene; Python's hold on the observers would outlive the widget."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)

    def _refill(self, *_: Any) -> None:
        current = self.currentNode()
        nodes = self._scene.GetNodesByClass("vtkMRMLScalarVolumeNode")
        found = [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
        blocked = self.blockSignals(True)
        self.clear()
        self._ids = [None]
        self.addItem("Choose a T1-weighted scan")
        for node in found:
            if node.GetID() in self._offered._hidden:
                continue
            self.addItem(node.GetName())
            self._ids.append(node.GetID())
        kept = current.GetID() if current is not None else None
        self.setCurrentIndex(self._ids.index(kept) if kept in self._ids else 0)
        self.blockSignals(blocked)
        if self.currentNode() is not current:
            self.currentNodeChanged.emit(None)

    def sortFilterProxyModel(self) -> ProxyModel:
        return self._offered

    def currentNode(self) -> Any:
        index = self.currentIndex()
        node_id = self._ids[index] if 0 <= index < len(self._ids) else None
        return self._scene.GetNodeByID(node_id) if self._scene and node_id else None

    def setCurrentNode(self, node: Any) -> None:
        node_id = node.GetID() if node is not None else None
        if node_id not in self._ids:
            self._refill()
        self.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else 0)


class SliderWidget(QtWidgets.QWidget):
    """ctkSliderWidget: a slider with a spin box."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self.spin = QtWidgets.QDoubleSpinBox()
        self.slider.setMaximum(1000)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.spin)
        self.slider.valueChanged.connect(self._slid)
        self.spin.valueChanged.connect(self._spun)

    def _slid(self, position: int) -> None:
        low, high = self.spin.minimum(), self.spin.maximum()
        self.spin.setValue(low + (high - low) * position / 1000)

    def _spun(self, value: float) -> None:
        low, high = self.spin.minimum(), self.spin.maximum()
        blocked = self.slider.blockSignals(True)
        self.slider.setValue(round(1000 * (value - low) / ((high - low) or 1)))
        self.slider.blockSignals(blocked)
        self.valueChanged.emit(value)

    def _get(name: str) -> Any:
        setter = "set" + name[0].upper() + name[1:]
        kind = int if name == "decimals" else float
        return QtCore.Property(
            kind,
            lambda self: getattr(self.spin, name)(),
            lambda self, value: getattr(self.spin, setter)(value),
        )

    decimals, minimum, maximum, value = map(_get, ("decimals", "minimum", "maximum", "value"))
    singleStep = _get("singleStep")
    pageStep = QtCore.Property(float, lambda self: 0.0, lambda self, value: None)


class CollapsibleButton(QtWidgets.QGroupBox):
    """ctkCollapsibleButton: a titled section; here it only folds."""

    def _text(self) -> str:
        return self.title()

    def _set_text(self, text: str) -> None:
        self.setTitle(text)

    def _is_collapsed(self) -> bool:
        return bool(getattr(self, "_folded", False))

    def _collapse(self, folded: bool) -> None:
        self._folded = folded
        for child in self.findChildren(
            QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        ):
            child.setVisible(not folded)

    text = QtCore.Property(str, _text, _set_text)
    collapsed = QtCore.Property(bool, _is_collapsed, _collapse)

    def childEvent(self, event: Any) -> None:
        super().childEvent(event)
        if self._is_collapsed() and event.added() and event.child().isWidgetType():
            event.child().hide()


class PathLineEdit(QtWidgets.QLineEdit):
    """ctkPathLineEdit: the path as ``currentPath``."""

    currentPathChanged = QtCore.Signal(str)

    def _set(self, path: str) -> None:
        self.setText(path)
        self.currentPathChanged.emit(path)

    currentPath = QtCore.Property(str, lambda self: self.text(), _set)


CUSTOM = {
    "qMRMLWidget": MRMLWidget,
    "qMRMLNodeComboBox": NodeComboBox,
    "ctkSliderWidget": SliderWidget,
    "ctkCollapsibleButton": CollapsibleButton,
    "ctkPathLineEdit": PathLineEdit,
}


class Loader(QtUiTools.QUiLoader):
    def createWidget(self, name: str, parent: Any = None, objectName: str = "") -> Any:
        if name in CUSTOM:
            widget = CUSTOM[name](parent)
            widget.setObjectName(objectName)
            return widget
        return super().createWidget(name, parent, objectName)


def load_ui(path: str) -> Proxy:
    """slicer.util.loadUI"""
    file = QtCore.QFile(str(Path(path)))
    if not file.open(QtCore.QIODevice.OpenModeFlag.ReadOnly):
        raise FileNotFoundError(path)
    widget = Loader().load(file)
    file.close()
    if widget is None:
        raise RuntimeError(f"{path} is no form")
    return proxy_of(widget)


def child_widgets(widget: Proxy) -> types.SimpleNamespace:
    """slicer.util.childWidgetVariables"""
    found = types.SimpleNamespace()
    for child in raw(widget).findChildren(QtWidgets.QWidget):
        if child.objectName() and not child.objectName().startswith("qt_"):
            setattr(found, child.objectName(), proxy_of(child))
    return found


def make_qt() -> types.ModuleType:
    """The module ``qt``: every class of Qt by its name."""
    qt = types.ModuleType("qt")
    vars(qt)["__getattr__"] = _class_of_module
    kinds = (QtCore.Qt.CheckState, QtCore.Qt.ScrollBarPolicy)
    states = {value.name: value.value for kind in kinds for value in kind}
    # plain numbers, as in PythonQt
    qt.Qt = types.SimpleNamespace(**states, WaitCursor=QtCore.Qt.CursorShape.WaitCursor.value)
    return qt


def make_ctk() -> types.ModuleType:
    """The module ``ctk``: classes to compare types with; the form's own are stand-ins."""
    ctk = types.ModuleType("ctk")
    vars(ctk)["__getattr__"] = _class_of_module
    return ctk


def _class_of_module(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return proxy_class(name)


def application() -> QtWidgets.QApplication:
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
