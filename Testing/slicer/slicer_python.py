"""Stand-ins for the parts of Slicer's Python layer that slicer-core does not bring.

Small, and stricter than the originals where a mistake would pass: enough to import the module
``StrokeLesionSeg`` and use its logic and parameters without the desktop.
"""

from __future__ import annotations

import sys
import types
import typing
from typing import Any


class WithinRange:
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum


def _accessors(name: str, hint: Any) -> tuple[Any, Any, Any]:
    """(get, set, default) of one parameter, kept in a vtkMRMLScriptedModuleNode."""
    limits = [a for a in getattr(hint, "__metadata__", ()) if isinstance(a, WithinRange)]
    kind = typing.get_args(hint)[0] if limits else hint

    def get(self: Any) -> Any:
        node = self.parameterNode
        if kind in (str, float, int, bool):
            text = node.GetParameter(name)
            return text == "true" if kind is bool else kind(text)
        return node.GetNodeReference(name)

    def put(self: Any, value: Any) -> None:
        node = self.parameterNode
        if kind in (str, float, int, bool):
            if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
                raise TypeError(f"{name} takes {kind.__name__}, not {type(value).__name__}")
            for limit in limits:
                if not limit.minimum <= value <= limit.maximum:
                    raise ValueError(f"{name} = {value} is out of range")
            node.SetParameter(name, ("true" if value else "false") if kind is bool else str(value))
        else:
            if value is not None and not value.IsA(kind.__name__):
                raise TypeError(f"{name} takes {kind.__name__}, not {value.GetClassName()}")
            node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    default = kind() if kind in (str, float, int, bool) else None
    return get, put, default


def parameterNodeWrapper(cls: type) -> type:
    """Typed properties over a vtkMRMLScriptedModuleNode, with values saved in the scene."""
    defaults = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        get, put, default = _accessors(name, hint)
        defaults[name] = cls.__dict__.get(name, default)
        setattr(cls, name, property(get, put))

    def init(self: Any, node: Any) -> None:
        self.parameterNode = node
        for name, value in defaults.items():
            if value is not None and not node.GetParameter(name):
                setattr(self, name, value)

    cls.__init__ = init  # type: ignore[misc]
    cls.connectGui = connect_gui  # type: ignore[attr-defined]
    cls.disconnectGui = disconnect_gui  # type: ignore[attr-defined]
    return cls


def connect_gui(self: Any, ui: Any) -> int:
    """Bind widgets with a SlicerParameterName, both ways, as Slicer's connectors do."""
    import vtk

    bound = []
    state = {"open": True, "writing": False}
    for widget in vars(ui).values():
        name = widget.property("SlicerParameterName")
        if not name:
            continue
        if widget.isNodeSelector():
            signal, read = "currentNodeChanged(vtkMRMLNode*)", widget.currentNode
            write = widget.setCurrentNode
        else:
            signal = "valueChanged(double)"

            def read(w: Any = widget) -> Any:
                return w.value

            def write(value: Any, w: Any = widget) -> None:
                w.value = value

        write(getattr(self, name))

        def changed(*_: Any, n: str = name, r: Any = read) -> None:
            if state["open"] and not state["writing"]:
                setattr(self, n, r())

        widget.connect(signal, changed)
        bound.append((name, write))

    def update(caller: Any, event: str) -> None:
        if not state["open"] or state["writing"]:
            return
        state["writing"] = True
        try:
            for name, write in bound:
                write(getattr(self, name))
        finally:
            state["writing"] = False

    tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, update)
    self._bindings = {**getattr(self, "_bindings", {}), tag: state}
    return int(tag)


def disconnect_gui(self: Any, tag: int) -> None:
    state = self._bindings.pop(tag)
    state["open"] = False
    self.parameterNode.RemoveObserver(tag)


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        import slicer

        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(self.moduleName)
            node = scene.AddNode(node)
        return node


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = parent.layout() if parent is not None else None

    def setup(self) -> None:
        pass

    def resourcePath(self, name: str) -> str:
        from pathlib import Path

        module = sys.modules["StrokeLesionSeg"]
        return str(Path(module.__file__ or "").parent / "Resources" / name)


class ScriptedLoadableModuleTest:
    def delayDisplay(self, message: str, *_: Any) -> None:
        print(message)


def install(qt: Any | None = None) -> None:
    """Make ``import StrokeLesionSeg`` work; ``qt`` is a stand-in for PythonQt's qt, or nothing."""
    import slicer

    def module(name: str, **content: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(content)
        sys.modules[name] = made
        return made

    base = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
    module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    module(
        "slicer.parameterNodeWrapper",
        WithinRange=WithinRange,
        parameterNodeWrapper=parameterNodeWrapper,
    )
    module("slicer.ScriptedLoadableModule", **{c.__name__: c for c in base})
    if qt is not None:
        sys.modules["qt"] = qt
    elif "qt" not in sys.modules:
        module("qt")
    slicer.selfTests = {}
