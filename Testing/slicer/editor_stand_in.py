"""Slicer's Segment Editor without its widget: the real logic, history and parameter node.

``ScriptedEffect`` has the methods of ``qSlicerSegmentEditorScriptedEffect`` that our effects call,
over ``vtkSlicerSegmentEditorLogic``, so that masking, overwriting, undo and redo are Slicer's own.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np

MODES = {
    "ModificationModeSet": 0,
    "ModificationModeAdd": 1,
    "ModificationModeRemove": 2,
    "ModificationModeRemoveAll": 3,
}


class Displayer:
    """What hides a segment in vtkMRMLSegmentationsDisplayableManager2D."""

    def __init__(self) -> None:
        self.hidden: dict[int, tuple[str, str]] = {}
        self._tag = 0

    def AddCustomSegmentRenderer(self, display_id: str, segment_id: str) -> int:
        self._tag += 1
        self.hidden[self._tag] = (display_id, segment_id)
        return self._tag

    def GetCustomSegmentRendererTag(self, display_id: str, segment_id: str) -> int:
        return next((t for t, of in self.hidden.items() if of == (display_id, segment_id)), 0)

    def RemoveCustomSegmentRenderer(self, tag: int) -> None:
        del self.hidden[tag]


class SliceWidget:
    """qMRMLSliceWidget: one slice view over a real slice node, without a window."""

    def __init__(self, slicer: Any, name: str, orientation: str, size: int = 200) -> None:
        self.name = name
        self.visible = True
        self.node = next(
            n for n in slicer.util.getNodesByClass("vtkMRMLSliceNode") if n.GetLayoutName() == name
        )
        self.manager = Displayer()
        self.composite = next(
            n
            for n in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
            if n.GetLayoutName() == name
        )
        self.node.SetOrientation(orientation)
        self.node.SetDimensions(size, size, 1)
        self.node.SetFieldOfView(60, 60, 1)
        self.node.UpdateMatrices()

    def className(self) -> str:
        return "qMRMLSliceWidget"

    def isVisible(self) -> bool:
        return self.visible

    def sliceLogic(self) -> Any:
        return types.SimpleNamespace(
            GetSliceNode=lambda: self.node, GetSliceCompositeNode=lambda: self.composite
        )

    def sliceView(self) -> Any:
        return types.SimpleNamespace(
            displayableManagerByClassName=lambda name: self.manager, scheduleRender=lambda: None
        )


class LayoutManager:
    """qSlicerLayoutManager with three slice views."""

    def __init__(self, slicer: Any, size: int = 200) -> None:
        views = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
        self.widgets = {n: SliceWidget(slicer, n, o, size) for n, o in views.items()}

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self.widgets)  # PythonQt hands out tuples

    def sliceWidget(self, name: str) -> SliceWidget:
        return self.widgets[name]


class ScriptedEffect:
    """qSlicerSegmentEditorScriptedEffect over Slicer's real editor logic."""

    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = 0, 1, 2

    def __init__(self, editor: Editor) -> None:
        self.name = self.title = ""
        self.editor = editor
        self.actors: list[tuple[Any, Any]] = []
        self.rows: list[tuple[str, Any]] = []
        self.renders = 0
        self.selected: list[str] = []
        self.answer = self.ConfirmedWithoutDialog
        self.saves = 0

    # parameters, as attributes of the editor's node

    def _read(self, name: str) -> str:
        node = self.parameterSetNode()
        value = node.GetAttribute(f"{self.name}.{name}")
        value = node.GetAttribute(name) if value is None else value
        if value is None:
            raise AssertionError(f"parameter {name} of {self.name} has no default")
        return str(value)

    def parameter(self, name: str) -> str:
        return self._read(name)

    def integerParameter(self, name: str) -> int:
        return int(float(self._read(name)))

    def doubleParameter(self, name: str) -> float:
        return float(self._read(name))

    def setParameter(self, name: str, value: Any) -> None:
        self._write(f"{self.name}.{name}", value)

    def setCommonParameter(self, name: str, value: Any) -> None:
        self._write(name, value)

    def setParameterDefault(self, name: str, value: Any) -> None:
        if self.parameterSetNode().GetAttribute(f"{self.name}.{name}") is None:
            self.setParameter(name, value)

    def setCommonParameterDefault(self, name: str, value: Any) -> None:
        if self.parameterSetNode().GetAttribute(name) is None:
            self.setCommonParameter(name, value)

    def _write(self, name: str, value: Any) -> None:
        if type(value) not in (str, int, float):
            raise TypeError(f"PythonQt takes str, int or float for {name}, not {value!r}")
        text = value if isinstance(value, str) else f"{value:g}"
        node = self.parameterSetNode()
        # Slicer tells all effects, and once only where StartModify has been called.
        if node.GetAttribute(name) != text:
            was = node.GetDisableModifiedEvent()
            node.SetDisableModifiedEvent(True)
            node.SetAttribute(name, text)
            node.SetDisableModifiedEvent(was)
            node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def nodeReference(self, name: str) -> Any:
        return self.parameterSetNode().GetNodeReference(f"{self.name}.{name}")

    def setNodeReference(self, name: str, node: Any) -> None:
        node_id = node.GetID() if node is not None else None
        self.parameterSetNode().SetNodeReferenceID(f"{self.name}.{name}", node_id)

    # editing

    def parameterSetNode(self) -> Any:
        return self.editor.node

    def sourceVolumeImageData(self) -> Any:
        logic = self.editor.logic
        return logic.GetAlignedSourceVolume() if logic.UpdateAlignedSourceVolume() else None

    def saveStateForUndo(self) -> None:
        self.saves += 1
        self.editor.logic.SaveStateForUndo()

    def modifySegmentByLabelmap(self, node: Any, segment_id: str, image: Any, mode: int) -> None:
        logic = self.editor.logic
        name = next(n for n, value in MODES.items() if value == mode)
        logic.ModifySegmentByLabelmap(node, segment_id, image, getattr(logic, name), True, False)

    def confirmCurrentSegmentVisible(self) -> int:
        return self.answer

    def selectEffect(self, name: str) -> None:
        self.selected.append(name)

    # views

    def segmentationDisplayableInView(self, node: Any) -> bool:
        return True

    def addActor2D(self, widget: Any, actor: Any) -> None:
        assert (widget, actor) not in self.actors
        self.actors.append((widget, actor))

    def removeActor2D(self, widget: Any, actor: Any) -> None:
        self.actors.remove((widget, actor))

    def scheduleRender(self, widget: Any) -> None:
        self.renders += 1

    def renderWindow(self, widget: Any) -> Any:
        return types.SimpleNamespace(GetScreenSize=lambda: (1600, 1000))

    # options

    def addOptionsWidget(self, item: Any) -> None:
        self.rows.append(("", item))

    def addLabeledOptionsWidget(self, label: str, item: Any) -> Any:
        self.rows.append((label, item))
        return None


class Editor:
    """A Segment Editor on one volume, with the segments "one" (selected) and "two"."""

    def __init__(self, slicer: Any, volume_node: Any, segmentation_node: Any = None) -> None:
        self.slicer, self.volume = slicer, volume_node
        scene = slicer.mrmlScene
        if segmentation_node is None:
            segmentation_node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Edited")
            segmentation_node.CreateDefaultDisplayNodes()
            segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
            for name in ("one", "two"):
                segmentation_node.GetSegmentation().AddEmptySegment(name, name)
        self.segmentation = segmentation_node
        self.node = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "Editor")
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(scene)
        self.logic.SetSegmentEditorNode(self.node)
        self.history = slicer.vtkSegmentationHistory()
        self.history.SetMaximumNumberOfStates(20)
        self.logic.SetSegmentationHistory(self.history)
        self.logic.SetSegmentationNode(segmentation_node)
        self.history.SetSegmentation(segmentation_node.GetSegmentation())
        self.logic.SetSourceVolumeNode(volume_node)
        self.select(segmentation_node.GetSegmentation().GetNthSegmentID(0))
        self.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        self.node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
        slicer.qSlicerSegmentEditorAbstractEffect = types.SimpleNamespace(**MODES)

    def select(self, segment_id: str) -> None:
        self.node.SetSelectedSegmentID(segment_id)

    def effect(self) -> ScriptedEffect:
        return ScriptedEffect(self)

    def put(self, segment_id: str, mask: np.ndarray) -> None:
        """Give a segment these voxels (K, J, I), past masking and history."""
        from StrokeLesionSegLib.slicerbridge.scene import results, volumes
        from StrokeLesionSegLib.slicerbridge.scene.patch import Patch

        grid = volumes.volume_from_node(self.volume).grid
        patch = Patch(np.asarray(mask, np.uint8), (0, 0, 0), grid)
        results.set_segment_voxels(self.segmentation, segment_id, patch)

    def voxels(self, segment_id: str) -> np.ndarray:
        """A segment's voxels (K, J, I), read by Slicer's own function."""
        array = self.slicer.util.arrayFromSegmentBinaryLabelmap(
            self.segmentation, segment_id, self.volume
        )
        return np.asarray(array) != 0

    def undo(self) -> None:
        assert self.logic.CanUndo()
        self.logic.Undo()

    def redo(self) -> None:
        assert self.logic.CanRedo()
        self.logic.Redo()
