"""Two scans of one person beside each other: the later one turned onto the earlier, six views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .volumes import matrix_from_affine

# Of the transform: a reference to the node's parent before, and whose transform it is.
_BEFORE, _KIND = "StrokeLesionSeg.before", "StrokeLesionSeg"
_ALIGNMENT = "alignment"
#: Views of Slicer's layout "three over three": the earlier scan above, the later one below.
VIEWS = (("Red", "Yellow", "Green"), ("Red+", "Yellow+", "Green+"))


def align_later(
    earlier: Any, later: Any, matrix: NDArray[np.float64], segmentations: list[Any]
) -> Any:
    """Put the later volume, and its ``segmentations``, under a transform that turns it onto the
    earlier one. ``matrix``: 4x4, RAS mm of the earlier to RAS mm of the later.

    Returns the transform node. Voxels are not changed; ``turn_back`` undoes it.
    """
    import slicer

    node = alignment_of(later)
    if node is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{later.GetName()} to {earlier.GetName()}")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
        node.SetAttribute(_KIND, _ALIGNMENT)
        node.SetNodeReferenceID(_BEFORE, later.GetTransformNodeID())
    elif _lies_under(earlier, node):
        turn_back(earlier)  # it was compared as the later one meanwhile: no circle of both
    node.SetMatrixTransformToParent(matrix_from_affine(np.linalg.inv(matrix)))
    node.SetAndObserveTransformNodeID(earlier.GetTransformNodeID())
    for moved in (later, *segmentations):
        moved.SetAndObserveTransformNodeID(node.GetID())
    return node


def alignment_of(later: Any) -> Any | None:
    """The transform by which ``align_later`` turned this volume, if it did."""
    node = later.GetParentTransformNode() if later is not None else None
    return node if node is not None and node.GetAttribute(_KIND) == _ALIGNMENT else None


def _lies_under(node: Any, transform: Any) -> bool:
    """Whether a transform moves the node, by itself or by way of others."""
    parent = node.GetParentTransformNode()
    return parent is not None and (
        parent is transform or bool(parent.IsTransformNodeMyParent(transform))
    )


def turn_back(later: Any) -> None:
    """Put the volume, and what else lies under its alignment, back to where it was."""
    import slicer
    import slicer.util

    node = alignment_of(later)
    if node is None:
        return
    before = node.GetNodeReference(_BEFORE)
    for moved in slicer.util.getNodesByClass("vtkMRMLTransformableNode"):
        if moved.GetTransformNodeID() == node.GetID():
            moved.SetAndObserveTransformNodeID(before.GetID() if before is not None else None)
    slicer.mrmlScene.RemoveNode(node)


def show_side_by_side(earlier: Any, later: Any) -> None:
    """Three planes of the earlier scan above, of the later one below; nothing without a window."""
    import slicer

    layout = slicer.app.layoutManager()
    if layout is None or not hasattr(layout, "setLayout"):
        return
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView)
    for names, node in zip(VIEWS, (earlier, later), strict=True):
        for name in names:
            widget = layout.sliceWidget(name)
            if widget is None:
                continue
            composite = widget.mrmlSliceCompositeNode()
            composite.SetBackgroundVolumeID(node.GetID())
            composite.SetForegroundVolumeID(None)
    # Views that were never shown get their size, and their place anew, when they appear.
    slicer.app.processEvents()
    for name in (name for names in VIEWS for name in names):
        widget = layout.sliceWidget(name)
        if widget is not None:
            widget.sliceLogic().FitSliceToAll()
