"""What the views show of which scan: its image, its segmentation, the place looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .provenance import get_tag
from .results import show_background
from .volumes import is_scan, node_by_id

# Of the first, second, ... result of a scan, so that two that are shown are told apart; the first
# keeps the colour of its term.
_COLORS = ((0.20, 0.55, 0.90), (0.25, 0.70, 0.35), (0.75, 0.45, 0.80), (0.90, 0.75, 0.20))


@dataclass(frozen=True)
class _View:
    """Where a slice view was: ``to_ras`` 16 numbers, ``field`` and ``origin`` in mm."""

    to_ras: tuple[float, ...]
    field: tuple[float, ...]
    origin: tuple[float, ...]


class ScanViews:
    """Where each scan was looked at, as long as it is in the scene."""

    def __init__(self) -> None:
        self._kept: list[tuple[Any, dict[Any, _View]]] = []

    def keep(self, volume_node: Any) -> None:
        """Remember where the slice views are, if they show this image."""
        self._let_go(volume_node)
        views = {
            node: _View(
                tuple(node.GetSliceToRAS().GetElement(r, c) for r in range(4) for c in range(4)),
                tuple(node.GetFieldOfView()),
                tuple(node.GetXYZOrigin()),
            )
            for node, composite in _slice_views()
            if composite is None or composite.GetBackgroundVolumeID() == volume_node.GetID()
        }
        if views:
            self._kept.append((volume_node, views))

    def show(self, volume_node: Any) -> None:
        """Show an image in all slice views, where it was looked at last; at first, all of it."""
        views = next((kept for node, kept in self._kept if node is volume_node), None)
        show_background(volume_node, fit=views is None)
        for node, view in (views or {}).items():
            for n, value in enumerate(view.to_ras):
                node.GetSliceToRAS().SetElement(n // 4, n % 4, value)
            node.SetFieldOfView(*view.field)
            node.SetXYZOrigin(*view.origin)
            node.UpdateMatrices()

    def forget(self) -> None:
        """Let go of everything, when the scene closes."""
        self._kept.clear()

    def _let_go(self, volume_node: Any) -> None:
        """Of this image and of those that were removed from the scene."""
        import slicer

        present = slicer.mrmlScene.IsNodePresent
        self._kept = [
            kept for kept in self._kept if kept[0] is not volume_node and present(kept[0])
        ]


def scan_in_all_views() -> Any | None:
    """The scan that all slice views show that show any image; None if they show different ones."""
    import slicer.util

    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    shown = {view.GetBackgroundVolumeID() for view in views} - {None}
    node = node_by_id(shown.pop()) if len(shown) == 1 else None
    return node if node is not None and is_scan(node) else None


def _slice_views() -> list[tuple[Any, Any | None]]:
    """Each slice node with its composite node."""
    import slicer
    import slicer.util

    logic = slicer.app.applicationLogic() if hasattr(slicer.app, "applicationLogic") else None
    found = []
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        slices = logic.GetSliceLogic(node) if logic is not None else None
        found.append((node, slices.GetSliceCompositeNode() if slices is not None else None))
    return found


def show_segmentation(segmentation_node: Any | None, alone: bool = True) -> None:
    """Show this segmentation of the module, and where it is to be ``alone`` hide its others, those
    of the same image from before it was moved or resampled, too.

    Segmentations that the module has not made stay as they are.
    """
    import slicer.util

    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        display = node.GetDisplayNode()
        if display is None or node.GetAttribute("StrokeLesionSeg") != "1":
            continue
        if node is segmentation_node or alone:
            display.SetVisibility(node is segmentation_node)


def results_of(segmentation_node: Any | None) -> list[tuple[str, str]]:
    """(id, name) of the segments that runs and sliders made there, oldest first."""
    if segmentation_node is None:
        return []
    segments = segmentation_node.GetSegmentation()
    found = []
    for n in range(segments.GetNumberOfSegments()):
        segment = segments.GetNthSegment(n)
        if get_tag(segment, "Written"):
            found.append((segments.GetNthSegmentID(n), segment.GetName()))
    return found


def show_result(segmentation_node: Any, segment_id: str) -> None:
    """Show this result and hide the others of the same image; segments drawn by hand stay."""
    display = segmentation_node.GetDisplayNode()
    if display is None:
        return
    modified = display.StartModify()
    for other, _name in results_of(segmentation_node):
        display.SetSegmentVisibility(other, other == segment_id)
    display.EndModify(modified)


def color_result(segmentation_node: Any, segment_id: str) -> None:
    """Give a result a colour that no earlier one of the same image has."""
    number = [known for known, _name in results_of(segmentation_node)].index(segment_id)
    if number:
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        segment.SetColor(*_COLORS[(number - 1) % len(_COLORS)])
