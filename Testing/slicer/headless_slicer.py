"""Slicer's real MRML libraries without its desktop, for the tests of the bridge.

``slicer-core`` brings the classes but sets up no application. ``start()`` makes what the bridge
and ``slicer.util`` expect: a scene that can read ``.mrb``, the application logic with its default
colours, and the logics that live at ``slicer.modules.<name>.logic()``.
"""

from __future__ import annotations

import os
import re
import sys
import types
from typing import Any

ERROR_LOG = "vtk.log"
# What a bare slicer-core says because Slicer's own resource files are not beside it.
KNOWN = re.compile(
    r"FindDefaultColorFiles|preset name: Reformat|FileGenericColors"
    r"|DefaultTerminologies|DefaultRegionContexts"
    r"|(Terminology|RegionContext)FromFile: Failed to load .*Master|SlicerGeneralAnatomy"
)
MODULE_LOGICS = {
    "volumes": "vtkSlicerVolumesLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "colors": "vtkSlicerColorLogic",
    "tables": "vtkSlicerTablesLogic",
    "transforms": "vtkSlicerTransformLogic",
}


class Module:
    """What ``slicer.modules.<name>`` is to a script: a logic and a path."""

    def __init__(self, logic: Any, path: str = "") -> None:
        self._logic = logic
        self.path = path

    def logic(self) -> Any:
        return self._logic


class Application:
    """The few members of ``slicer.app`` that have nothing to do with Qt."""

    applicationName = "Slicer"
    applicationVersion = "slicer-core"
    extensionsInstallPath = ""

    def __init__(self, logic: Any, temporary: str) -> None:
        self._logic = logic
        self.temporaryPath = temporary

    def applicationLogic(self) -> Any:
        return self._logic

    def testingEnabled(self) -> bool:
        return True

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass

    def processEvents(self, *_: Any) -> None:
        pass

    def setOverrideCursor(self, cursor: Any) -> None:
        pass

    def restoreOverrideCursor(self) -> None:
        pass

    def layoutManager(self) -> None:
        return None

    def userSettings(self) -> None:
        return None

    def connect(self, *_: Any) -> bool:
        return True

    def disconnect(self, *_: Any) -> bool:
        return True

    def moduleManager(self) -> Application:
        return self

    def translate(self, context: str, text: str) -> str:
        return text


def import_slicer() -> Any:
    """``import slicer`` without this folder taken for a part of it.

    The package of slicer-core imports every module of every folder called "slicer" below
    ``sys.path``, and pytest puts the parent of this folder there.
    """
    path, here = list(sys.path), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [p for p in path if os.path.abspath(p or os.curdir) != here]
    try:
        import slicer
        import slicer.util
    finally:
        sys.path[:] = path
    return slicer


def start(temporary: str) -> Any:
    """Create scene, application and logics; returns the ``slicer`` package.

    ``temporary`` is the folder in which scene bundles are unpacked. A second call in the same
    process returns what the first one made.
    """
    if _started:
        return _started[0]
    slicer = import_slicer()
    import vtk

    # VTK's errors do not raise: they go into a file that the tests look into.
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    vtk.vtkLogger.LogToFile(
        os.path.join(temporary, ERROR_LOG), vtk.vtkLogger.TRUNCATE, vtk.vtkLogger.VERBOSITY_WARNING
    )
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetTemporaryPath(temporary)
    slicer.app = Application(application_logic, temporary)
    application_logic.SetMRMLScene(scene)
    # Views look themselves up here and do not expect to find nothing at all.
    application_logic.SetSliceLogics(vtk.vtkCollection())
    application_logic.SetViewLogics(vtk.vtkCollection())

    # Without these two a scene cannot read or write the storage nodes of a bundle.
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(os.path.join(temporary, "cache"))
    remote.AddDataIOToScene()
    data = slicer.vtkDataIOManagerLogic()
    data.SetMRMLApplicationLogic(application_logic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())

    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    slicer.modules = types.SimpleNamespace()
    for name, class_name in MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application_logic)
        setattr(slicer.modules, name, Module(logic))
        application_logic.SetModuleLogic(name.capitalize(), logic)
    application_logic.SetModuleLogic("Segmentations", slicer.modules.segmentations.logic())
    slicer.modules.colors.logic().AddDefaultColorNodes()
    _keep.extend([remote, data])
    for name in ("Red", "Green", "Yellow"):
        node = slicer.vtkMRMLSliceNode()
        node.SetName(name)
        node.SetLayoutName(name)
        node.SetSingletonTag(name)
        scene.AddNode(node)
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetLayoutName(name)
        composite.SetSingletonTag(name)
        scene.AddNode(composite)
    scene.AddNode(slicer.vtkMRMLSelectionNode())
    scene.AddNode(slicer.vtkMRMLInteractionNode())
    _started.append(slicer)
    return slicer


_started: list[Any] = []
_keep: list[Any] = []  # logics that nothing else refers to


def vtk_errors(temporary: str) -> list[str]:
    """Errors and warnings that VTK wrote since ``start()``, without those of a bare slicer-core."""
    with open(os.path.join(temporary, ERROR_LOG), encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file]
    return [line for line in lines if re.search(r"(ERR|WARN)\|", line) and not KNOWN.search(line)]
