"""The clicks as markups: shown in all views, listed in Markups, movable, saved with the scene.

Two fiducial lists belong to a segment, "this is lesion" and "this is not". Their control points
are made from the session's clicks; what the user drags or deletes there is told back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..scene.volumes import node_by_id
from .store import Entry
from .target import EditTarget

_SEGMENT = "StrokeLesionSeg.clicksOf"
_PREFIX = "click "
# Told apart without colour, too: filled circle and cross.
_LOOKS = {
    True: ("lesion", (0.95, 0.45, 0.1), "Circle2D"),
    False: ("not lesion", (0.2, 0.65, 1.0), "ThickCross2D"),
}


def _role(positive: bool) -> str:
    return f"StrokeLesionSeg.clicks.{'lesion' if positive else 'other'}"


class ClickPoints:
    """Keeps the markups of one segment in step with its clicks.

    ``moved(click_id, local)`` and ``removed(click_id)`` are called when the user drags or deletes
    a point.
    """

    def __init__(self, moved: Callable[[int, Any], None], removed: Callable[[int], None]) -> None:
        self._moved, self._removed = moved, removed
        self._observed: list[tuple[Any, int]] = []
        self._known: dict[int, tuple[float, ...]] = {}
        self._entry: Any = None
        self._target: Any = None
        self._busy = False

    def show(self, entry: Entry, target: EditTarget) -> None:
        """Make the markups show the session's clicks, and watch them."""
        shown = []
        for positive in (True, False):
            clicks = [c for c in entry.session.clicks if c.positive == positive]
            shown.append((self._node(target, positive, create=bool(clicks)), clicks))
        # A new node changes the segmentation, which may have brought us here a second time.
        self.forget()
        for node, clicks in shown:
            if node is None:
                continue
            _put_under(node, target.node)
            self._busy = True
            try:
                if _places(node) != [(c.id, c.ras_mm) for c in clicks]:
                    node.RemoveAllControlPoints()
                    for click in clicks:
                        index = node.AddControlPoint(list(click.ras_mm), str(click.id))
                        node.SetNthControlPointDescription(index, f"{_PREFIX}{click.id}")
            finally:
                self._busy = False
            for event, call in (
                (node.PointEndInteractionEvent, self._on_moved),
                (node.PointRemovedEvent, self._on_removed),
            ):
                self._observed.append((node, node.AddObserver(event, call)))
        self._known = {c.id: c.ras_mm for c in entry.session.clicks}
        self._entry, self._target = entry, target

    def forget(self) -> None:
        """Stop watching; the points stay in the scene."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []

    def follow(self) -> None:
        """The segmentation was moved, or put under another transform: the points go with it."""
        for node, _tag in self._observed:
            _put_under(node, self._target.node)

    def set_visible(self, target: EditTarget | None, visible: bool) -> None:
        """Show or hide the points of a segment, such as when another effect is chosen."""
        for positive in (True, False):
            node = self._node(target, positive) if target is not None else None
            if node is not None and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(visible)

    def near(self, slice_node: Any, xy: tuple[float, float], pixels: float = 8.0) -> int | None:
        """The id of the click whose point could be dragged in a view from so many pixels around a
        place, or None: as Slicer picks points, those of other slices, locked and hidden ones not.
        """
        import vtk

        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(slice_node.GetXYToRAS(), to_xy)
        best, found = pixels, None
        for node in {node for node, _tag in self._observed}:
            if not _can_be_dragged(node, slice_node):
                continue
            for index, click_id in _clicks(node):
                if not node.GetNthControlPointVisibility(index):
                    continue
                if node.GetNthControlPointLocked(index):
                    continue
                world = [0.0, 0.0, 0.0]
                node.GetNthControlPointPositionWorld(index, world)
                x, y, z = to_xy.MultiplyPoint((*world, 1.0))[:3]
                distance = float(np.hypot(x - xy[0], y - xy[1]))
                if distance <= best and -0.5 <= z < 0.5:  # slices, not mm
                    best, found = distance, click_id
        return found

    def _node(self, target: EditTarget, positive: bool, create: bool = False) -> Any | None:
        import slicer

        segmentation = target.node
        if segmentation is None:
            return None
        role = _role(positive)
        for index in range(segmentation.GetNumberOfNodeReferences(role)):
            node = node_by_id(segmentation.GetNthNodeReferenceID(role, index))
            if node is not None and node.GetAttribute(_SEGMENT) == target.segment_id:
                return node
        if not create:
            return None
        what, color, glyph = _LOOKS[positive]
        name = slicer.mrmlScene.GenerateUniqueName(f"{target.segment.GetName()}: {what}")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
        node.SetAttribute(_SEGMENT, target.segment_id)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        if display is not None:
            display.SetSelectedColor(*color)
            display.SetColor(*color)
            display.SetActiveColor(1.0, 1.0, 0.4)
            display.SetGlyphTypeFromString(glyph)
            display.SetGlyphScale(2.5)
            display.SetPointLabelsVisibility(False)
            display.SetPropertiesLabelVisibility(False)
        segmentation.AddNodeReferenceID(role, node.GetID())
        return node

    def _on_moved(self, node: Any, event: Any) -> None:
        if self._busy:
            return
        for click_id, place in _places(node):
            known = self._known.get(click_id)
            if known is not None and np.abs(np.subtract(place, known)).max() > 1e-3:
                self._moved(click_id, place)
                return

    def _on_removed(self, node: Any, event: Any) -> None:
        if self._busy:
            return
        left = {click_id for n, _ in self._observed for click_id, _place in _places(n)}
        for click_id in [c.id for c in self._entry.session.clicks]:
            if click_id not in left and self._belongs(node, click_id):
                self._removed(click_id)
                return

    def _belongs(self, node: Any, click_id: int) -> bool:
        positive = {c.id: c.positive for c in self._entry.session.clicks}[click_id]
        return self._node(self._target, positive) is node


def _put_under(node: Any, segmentation: Any) -> None:
    """Local places of the points are those of the segmentation: both lie under one transform."""
    wanted = segmentation.GetTransformNodeID() if segmentation is not None else None
    if segmentation is not None and (node.GetTransformNodeID() or None) != (wanted or None):
        node.SetAndObserveTransformNodeID(wanted)


def _can_be_dragged(node: Any, slice_node: Any) -> bool:
    """Whether the user can take points of this list in a slice view."""
    display = node.GetDisplayNode()
    if node.GetScene() is None or node.GetLocked() or display is None:
        return False
    seen = display.GetVisibility() and display.GetVisibility2D()
    return bool(seen and display.IsDisplayableInView(slice_node.GetID()))


def _clicks(node: Any) -> list[tuple[int, int]]:
    """(index, click id) of the control points that are clicks."""
    found = []
    for index in range(node.GetNumberOfControlPoints()):
        text = node.GetNthControlPointDescription(index) or ""
        if text.startswith(_PREFIX) and text[len(_PREFIX) :].lstrip("-").isdigit():
            found.append((index, int(text[len(_PREFIX) :])))
    return found


def _places(node: Any) -> list[tuple[int, tuple[float, ...]]]:
    """(click id, local RAS mm) of the control points that are clicks."""
    found = []
    for index, click_id in _clicks(node):
        place = [0.0, 0.0, 0.0]
        node.GetNthControlPointPosition(index, place)
        found.append((click_id, tuple(place)))
    return found
