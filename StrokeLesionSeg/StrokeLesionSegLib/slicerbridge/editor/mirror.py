"""The same scan flipped across its mid-sagittal plane, above the image or beside it."""

from __future__ import annotations

from typing import Any

from ...images.volume import Volume
from ..scene.results import IMAGE_ATTRIBUTE
from ..scene.volumes import add_volume_node, fingerprint, node_by_id, set_volume, volume_from_node
from .store import Entry

# Of a segmentation, and of the mirrored scan: whose mirror image it is.
ROLE, _OF = "StrokeLesionSeg.mirrored", "StrokeLesionSeg.mirrorOf"
_MARK = "StrokeLesionSeg"


def mirrored_node(entry: Entry) -> Any:
    """The mirrored scan as a volume node of the scene; made once for a segmentation on a grid, and
    again where the scan was filtered since, or shows another frame of a sequence."""
    segmentation, image = entry.edit_grid.node, fingerprint(entry.volume.array)
    node = node_by_id(segmentation.GetNodeReferenceID(ROLE))
    if node is not None and node.GetNodeReferenceID(_OF) == entry.source_id:
        # Scan and segmentation may have been moved since, and nobody moves what is not shown.
        node.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
        other = node.GetAttribute(IMAGE_ATTRIBUTE) != image
        if other or not volume_from_node(node).grid.same_as(entry.edit_grid.grid):
            node.SetAttribute(IMAGE_ATTRIBUTE, image)
            set_volume(node, Volume(entry.mirrored(), entry.edit_grid.grid.affine))
        return node
    source = node_by_id(entry.source_id)
    volume = Volume(entry.mirrored(), entry.edit_grid.grid.affine)
    node = add_volume_node(volume, f"{source.GetName()} mirrored", like=segmentation)
    node.SetAttribute(_MARK, "mirrored")
    node.SetAttribute(IMAGE_ATTRIBUTE, image)
    node.SetNodeReferenceID(_OF, entry.source_id)
    node.CreateDefaultDisplayNodes()
    shown, display = source.GetDisplayNode(), node.GetDisplayNode()
    if shown is not None and display is not None and shown.IsA("vtkMRMLScalarVolumeDisplayNode"):
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(shown.GetWindowLevelMin(), shown.GetWindowLevelMax())
    segmentation.SetNodeReferenceID(ROLE, node.GetID())
    return node


class MirrorView:
    """Shows the mirrored scan and puts back what the views showed before.

    ``how``: "overlay" blends it over the image in all slice views; "beside" shows image and mirror
    image side by side, scrolling together.
    """

    def __init__(self) -> None:
        self.how = "none"
        self._before: list[tuple[str, dict[str, Any]]] = []
        self._placed: list[tuple[str, tuple[Any, ...]]] = []  # of slice nodes
        self._layout: int | None = None
        self._shown = self._source = ""
        self._observed: Any = None  # scene

    def look(self, source_id: str | None = None) -> str:
        """``how``, after the views were put back if the mirrored scan is gone from the scene, or
        is not that of ``source_id``; and "none" where somebody took it from above the image."""
        node = node_by_id(self._shown) if self.how != "none" else None
        gone = node is None or node.GetAttribute(_MARK) != "mirrored"
        if self.how != "none" and (gone or source_id not in (None, self._source)):
            self.restore()
        elif self.how == "overlay" and all(
            composite.GetForegroundVolumeID() != self._shown for composite in _composites()
        ):
            self.forget()  # what the views show now was chosen since
        return self.how

    def show(self, how: str, entry: Entry | None, opacity: float = 0.5) -> None:
        """Change to ``how``: "none", "overlay" or "beside"."""
        self.restore()
        if how == "none" or entry is None:
            return
        self._observe_scene()
        node = mirrored_node(entry)
        self._shown, self._source = node.GetID(), entry.source_id
        for composite in _composites():
            self._remember(composite)
        if how == "overlay":
            for composite in _composites():
                composite.SetForegroundVolumeID(node.GetID())
                composite.SetForegroundOpacity(opacity)
        else:
            self._beside(node, entry)
        self.how = how

    def _beside(self, node: Any, entry: Entry) -> None:
        import slicer

        layout = _first("vtkMRMLLayoutNode")
        if layout is not None:
            self._layout = layout.GetViewArrangement()
            layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
        red, yellow = (_by_layout_name("vtkMRMLSliceNode", name) for name in ("Red", "Yellow"))
        left, right = (_by_layout_name("vtkMRMLSliceCompositeNode", n) for n in ("Red", "Yellow"))
        if red is not None and yellow is not None:
            self._placed += [(node.GetID(), _placed(node)) for node in (red, yellow)]
            _place(yellow, _placed(red))
        if left is not None and right is not None:
            left.SetBackgroundVolumeID(entry.source_id)
            right.SetBackgroundVolumeID(node.GetID())
            # Unseen, but there: the Segment Editor puts the source volume in the background of
            # views that have it nowhere, at every change of the layout.
            right.SetForegroundVolumeID(entry.source_id)
            for composite in (left, right):
                composite.SetForegroundOpacity(0.0)
                composite.SetLinkedControl(1)

    def fit(self) -> None:
        """Show all of the scan in both views side by side, in the same slice; to be called when the
        views have the size of the new layout."""
        import slicer

        if self.how != "beside":
            return
        red, yellow = (_by_layout_name("vtkMRMLSliceNode", name) for name in ("Red", "Yellow"))
        logic = None if red is None else slicer.app.applicationLogic().GetSliceLogic(red)
        if logic is not None:
            offset = logic.GetSliceOffset()
            logic.FitSliceToBackground()
            logic.SetSliceOffset(offset)
            if yellow is not None:
                _place(yellow, _placed(red))

    def _remember(self, node: Any) -> None:
        kept = {
            "SetBackgroundVolumeID": node.GetBackgroundVolumeID(),
            "SetForegroundVolumeID": node.GetForegroundVolumeID(),
            "SetForegroundOpacity": node.GetForegroundOpacity(),
            "SetLinkedControl": node.GetLinkedControl(),
        }
        self._before.append((node.GetID(), kept))

    def forget(self, *_: Any) -> None:
        """Let go of what the views showed, when the scene closes: the next one has the same ids."""
        self._before, self._placed, self._layout = [], [], None
        self._shown = self._source = ""
        self.how = "none"

    def _observe_scene(self) -> None:
        import slicer

        scene = slicer.mrmlScene
        if self._observed is not scene:
            scene.AddObserver(scene.StartCloseEvent, self.forget)
            self._observed = scene

    def restore(self) -> None:
        """Show what was shown before, but in place of another image that somebody chose since."""
        if self._layout is not None:
            layout = _first("vtkMRMLLayoutNode")
            if layout is not None:
                layout.SetViewArrangement(self._layout)
            self._layout = None
        for node_id, kept in self._before:
            node = node_by_id(node_id)
            if node is None:
                continue
            for ground in ("Background", "Foreground"):
                shown = getattr(node, f"Get{ground}VolumeID")()
                if shown != kept[f"Set{ground}VolumeID"] and self._chosen_since(shown):
                    kept.pop(f"Set{ground}VolumeID")
            if "SetForegroundVolumeID" not in kept:
                kept.pop("SetForegroundOpacity")
            for name, value in kept.items():
                gone = name.endswith("VolumeID") and node_by_id(value) is None
                getattr(node, name)(None if gone else value)
        for node_id, placed in self._placed:
            node = node_by_id(node_id)
            if node is not None:
                _place(node, placed)
        self.forget()

    def _chosen_since(self, volume_id: str | None) -> bool:
        """Whether a view shows an image that is neither the scan nor its mirror image."""
        return node_by_id(volume_id) is not None and volume_id not in (self._shown, self._source)


def _placed(slice_node: Any) -> tuple[Any, ...]:
    """What a slice view shows, in any direction: plane, field of view, and its middle."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(slice_node.GetSliceToRAS())
    return matrix, slice_node.GetFieldOfView(), slice_node.GetXYZOrigin()


def _place(slice_node: Any, placed: tuple[Any, ...]) -> None:
    matrix, field_of_view, origin = placed
    slice_node.GetSliceToRAS().DeepCopy(matrix)
    slice_node.SetFieldOfView(*field_of_view)
    slice_node.SetXYZOrigin(*origin)
    slice_node.UpdateMatrices()


def _composites() -> list[Any]:
    import slicer.util

    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def _first(class_name: str) -> Any | None:
    import slicer

    return slicer.mrmlScene.GetFirstNodeByClass(class_name)


def _by_layout_name(class_name: str, name: str) -> Any | None:
    import slicer.util

    for node in slicer.util.getNodesByClass(class_name):
        if node.GetLayoutName() == name:
            return node
    return None
