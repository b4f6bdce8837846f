"""Stand-ins for the parts of Slicer's Python layer that slicer-core does not bring.

Small, and stricter than the originals where a mistake would pass: enough to import the module
``StrokeLesionSeg`` and use its logic and parameters without the desktop.

With ``STROKE_LESION_SEG_SLICER_SOURCE`` set to a source tree of Slicer (any version, such as a
checkout of the tag v5.8.1), Slicer's own i18n, parameterNodeWrapper and ScriptedLoadableModule are
taken instead, so that the same tests hold on the real code.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import typing
from pathlib import Path
from typing import Any

SOURCE_VARIABLE = "STROKE_LESION_SEG_SLICER_SOURCE"
MODULE_FILE = Path(__file__).resolve().parents[2] / "StrokeLesionSeg" / "StrokeLesionSeg.py"

# Opening the panel registers what is missing, for which there is no Segment Editor here.
REGISTERED = frozenset({"_registerSample", "_loadTerminology", "_registerEffects"})


def source_tree() -> Path | None:
    """The source tree of Slicer that is to be tried, if there is one."""
    named = os.environ.get(SOURCE_VARIABLE)
    return Path(named) if named else None


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
    cls.connectParametersToGui = connect_parameters  # type: ignore[attr-defined]
    cls.disconnectGui = disconnect_gui  # type: ignore[attr-defined]
    return cls


def connect_parameters(self: Any, mapping: dict[str, Any]) -> int:
    """Bind widgets to parameters, both ways, as Slicer's connectors do."""
    import vtk

    bound = []
    state = {"open": True, "writing": False}
    for name, widget in mapping.items():
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
        super().__init__()
        self.parent = parent
        self.layout = parent.layout() if parent is not None else None

    def setup(self) -> None:
        pass

    def resourcePath(self, name: str) -> str:
        return str(MODULE_FILE.parent / "Resources" / name)


class ScriptedLoadableModuleTest:
    def delayDisplay(self, message: str, *_: Any) -> None:
        print(message)


def install(qt: Any | None = None, ctk: Any | None = None) -> None:
    """Make ``import StrokeLesionSeg`` work; ``qt`` and ``ctk`` are stand-ins for PythonQt's."""
    import slicer

    slicer.selfTests = {}
    slicer.modules.strokelesionseg = types.SimpleNamespace(path=str(MODULE_FILE))
    slicer.modules.strokeLesionSegRegistered = REGISTERED
    for name, given in (("qt", qt), ("ctk", ctk)):
        if given is not None or name not in sys.modules:
            sys.modules[name] = given if given is not None else _names_only(name)
    tree = source_tree()
    if tree is not None:
        _install_real(tree)
        return
    base = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
    _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    _module(
        "slicer.parameterNodeWrapper",
        WithinRange=WithinRange,
        parameterNodeWrapper=parameterNodeWrapper,
    )
    _module("slicer.ScriptedLoadableModule", **{c.__name__: c for c in base})


def _module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(content)
    sys.modules[name] = made
    return made


def _names_only(name: str) -> types.ModuleType:
    """A module that has a class of any name: enough to define functions over widgets."""
    classes: dict[str, type] = {}

    def give(wanted: str) -> type:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return classes.setdefault(wanted, type(wanted, (), {"__init__": lambda self, *_: None}))

    return _module(name, __getattr__=give)


def _install_real(tree: Path) -> None:
    """Slicer's own Python files, over the classes of widgets that ``qt`` and ``ctk`` give."""
    import slicer

    widgets = sys.modules["ctk"]
    for name in ("NodeComboBox", "SliderWidget", "SpinBox", "RangeWidget", "Widget"):
        setattr(slicer, f"qMRML{name}", getattr(widgets, f"qMRML{name}"))
    folder = tree / "Base" / "Python" / "slicer"
    for name in ("i18n", "parameterNodeWrapper", "ScriptedLoadableModule"):
        for known in [k for k in sys.modules if k.split(".")[:2] == ["slicer", name]]:
            del sys.modules[known]
        package = folder / name / "__init__.py"
        file = package if package.is_file() else folder / f"{name}.py"
        spec = importlib.util.spec_from_file_location(
            f"slicer.{name}",
            file,
            submodule_search_locations=[str(package.parent)] if file == package else None,
        )
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[f"slicer.{name}"] = made
        spec.loader.exec_module(made)
        setattr(slicer, name, made)
