"""What a run leaves in the scene: segment, probability, uncertainty, and their display."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ...images.volume import Grid, Volume
from ..i18n import tr as _
from .look import show_legend
from .patch import Patch
from .probability_map import SHOWN_FROM, seeds_from_text, seeds_to_text
from .provenance import TAG, Provenance, get_tag
from .terminology import INFARCT, load_terminology, set_term
from .volumes import (
    add_volume_node,
    affine_from_matrix,
    affine_from_node,
    fingerprint,
    image_of,
    matrix_from_affine,
    node_by_id,
    same_voxels,
    voxels_from_node,
)

PROBABILITY_ROLE = "StrokeLesionSeg.probability"
UNCERTAINTY_ROLE = "StrokeLesionSeg.uncertainty"
# Of a map: the ``fingerprint`` of the image that it was made of.
IMAGE_ATTRIBUTE = "StrokeLesionSeg.image"
SEGMENT_NAME = "Stroke lesion"

# (value, red, green, blue): dark red to pale yellow, readable on grey and printed without colour.
_PROBABILITY_COLORS = ((0.0, 0.15, 0, 0), (0.35, 0.7, 0.1, 0), (0.7, 1, 0.6, 0.1), (1, 1, 1, 0.8))
_UNCERTAINTY_COLORS = (
    (0.0, 0, 0.1, 0.25),
    (0.4, 0.1, 0.45, 0.6),
    (0.75, 0.4, 0.85, 0.7),
    (1, 1, 1, 1),
)


# -- segments -------------------------------------------------------------------------------


def find_segmentation(volume_node: Any) -> Any | None:
    """The segmentation that an earlier run made for this volume, if it is still there.

    The newest one that lies under the volume's parent transform goes first.
    """
    own = [n for n in segmentations_of(volume_node) if n.GetAttribute("StrokeLesionSeg") == "1"]
    together = [node for node in own if same_parent(node, volume_node)]
    return next(reversed(together or own), None)


def segmentations_of(volume_node: Any) -> list[Any]:
    """All segmentations that were made on this volume, by whomever, oldest first."""
    import slicer.util

    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if image_of(node) is volume_node]


def same_parent(node: Any, other: Any) -> bool:
    """True if both nodes lie under the same transform, or under none."""
    return (node.GetTransformNodeID() or None) == (other.GetTransformNodeID() or None)


def edited_on(segmentation_node: Any, volume_node: Any) -> bool:
    """Whether the Segment Editor works on the voxels that an image has now, as far as is known.

    It does not where the image alone was moved, resampled or cropped since its results were found:
    what is found in it now would be cut and coarsened to the voxels of before at the first edit.
    """
    if not same_parent(segmentation_node, volume_node):
        return False
    bring_along(segmentation_node, volume_node)
    grid, own = _grid_of(volume_node), _reference_grid(segmentation_node)
    if own is None or own.same_as(grid):
        return True
    # Somebody may have chosen a finer geometry to edit on; the image is as it was then.
    segmentation = segmentation_node.GetSegmentation()
    segments = map(segmentation.GetNthSegment, range(segmentation.GetNumberOfSegments()))
    known = [found for found in map(_found_on, segments) if found is not None]
    return all(found.same_as(grid) for found in known)


def add_segmentation(volume_node: Any) -> Any:
    """A new segmentation in the geometry of ``volume_node``, beside it in every respect:
    under the same parent transform and in the same study of the subject hierarchy."""
    import slicer

    load_terminology()
    name = slicer.mrmlScene.GenerateUniqueName(f"{volume_node.GetName()} lesions")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetAttribute("StrokeLesionSeg", "1")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    place_beside(node, volume_node)
    display = node.GetDisplayNode()
    if display is not None:
        display.SetOpacity2DFill(0.35)
        display.SetOpacity2DOutline(1.0)
    return node


def place_beside(node: Any, other: Any) -> None:
    """Put ``node`` into the subject-hierarchy folder (study, patient) of ``other``."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(other)
    if item and beside:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))


def add_segment(
    segmentation_node: Any,
    patch: Patch,
    provenance: Provenance,
    name: str = SEGMENT_NAME,
    segment_id: str = "",
    image: str = "",
) -> str:
    """Add a segment of its own for a new result and return its id; nothing is overwritten.

    ``segment_id``: the id that it should have, if it is free. ``image``: the ``fingerprint`` of the
    voxels that it was found in, if not those of now.
    """
    import slicer

    segmentation = segmentation_node.GetSegmentation()
    taken = {
        segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())
    }
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name} {count}"
    segment_id = segmentation.AddEmptySegment(segment_id, unique)
    segment = segmentation.GetSegment(segment_id)
    set_term(segment, INFARCT)
    write_segment(segmentation_node, segment_id, patch, provenance)
    # After the voxels: Slicer's replacing resets the status.
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segment, logic.InProgress)
    volume_node = image_of(segmentation_node)
    if not image and volume_node is not None and volume_node.GetImageData() is not None:
        image = fingerprint(voxels_from_node(volume_node))
    segment.SetTag(TAG + "Image", image)
    return str(segment_id)


def write_segment(
    segmentation_node: Any, segment_id: str, patch: Patch, provenance: Provenance
) -> None:
    """Replace one segment's voxels and say in its tags what made them."""
    import slicer

    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    status = logic.GetSegmentStatus(segment)
    set_segment_voxels(segmentation_node, segment_id, patch)
    logic.SetSegmentStatus(segment, status)  # clearing a segment sets it back to "not started"
    for key, value in provenance.tags().items():
        segment.SetTag(TAG + key, value)
    segment.SetTag(TAG + "Written", patch.checksum())
    # Where its alignment holds, see ``bring_along``.
    segment.SetTag(TAG + "Grid", _grid_text(patch.grid))


def set_segment_voxels(segmentation_node: Any, segment_id: str, patch: Patch) -> None:
    """Replace one segment's voxels; other segments keep theirs, overlapping or not."""
    import slicer

    logic = slicer.vtkSlicerSegmentationsModuleLogic
    names = slicer.vtkSegmentationConverter
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    before = segment.GetRepresentation(names.GetSegmentationBinaryLabelmapRepresentationName())
    shown_in_3d = segment.GetRepresentation(names.GetSegmentationClosedSurfaceRepresentationName())
    patch = patch.trimmed()  # Slicer's time grows with the image's extent
    # Replacing writes only where the new image has voxels, and what lies elsewhere has to go.
    if before is not None and shown_in_3d is not None and _lies_on(before, patch.grid):
        # Clearing would make a surface of nothing first, and VTK an error of that.
        patch = patch.grown(before.GetExtent())
    else:
        if before is not None:
            logic.ClearSegment(segmentation_node, segment_id)
        if not patch.mask.any():
            return
    image = oriented_image(patch)
    if not logic.SetBinaryLabelmapToSegment(
        image, segmentation_node, segment_id, logic.MODE_REPLACE
    ):
        raise RuntimeError(_("Slicer did not accept the mask"))


def _lies_on(image: Any, grid: Grid) -> bool:
    """Whether the voxels of a ``vtkOrientedImageData`` are voxels of ``grid``."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return Grid(grid.shape, affine_from_matrix(matrix)).same_as(grid)


def oriented_image(patch: Patch) -> Any:
    """``vtkOrientedImageData`` (unsigned char) of the patch, with its extent in the whole grid."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    (k, j, i), (dk, dj, di) = patch.start, patch.mask.shape
    image.SetExtent(i, i + di - 1, j, j + dj - 1, k, k + dk - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = patch.mask.reshape(-1)
    image.SetImageToWorldMatrix(matrix_from_affine(patch.grid.affine))
    return image


def read_segment(segmentation_node: Any, segment_id: str, volume_node: Any) -> Patch:
    """The segment's voxels on the volume's grid, whatever the segment's own geometry is."""
    import slicer.util

    grid = _grid_of(volume_node)
    if same_parent(segmentation_node, volume_node):
        patch = _labelmap(segmentation_node, segment_id, grid)
        if patch is not None:
            return patch
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, segment_id, volume_node)
    return Patch((np.asarray(array) != 0).astype(np.uint8), (0, 0, 0), grid)


def read_own(segmentation_node: Any, segment_id: str, volume_node: Any) -> Patch:
    """The segment's voxels on the grid that the segmentation was made on.

    As ``read_segment``, but wherever image or segmentation were moved to since.
    """
    grid = _reference_grid(segmentation_node)
    patch = _labelmap(segmentation_node, segment_id, grid) if grid is not None else None
    return patch or read_segment(segmentation_node, segment_id, volume_node)


def _labelmap(segmentation_node: Any, segment_id: str, grid: Grid) -> Patch | None:
    """The labelmap as it is kept, without transforms; None if it does not lie on ``grid``."""
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    if not segmentation_node.GetBinaryLabelmapRepresentation(segment_id, image):
        return None
    extent = image.GetExtent()
    if extent[1] < extent[0] or extent[3] < extent[2] or extent[5] < extent[4]:
        return Patch(np.zeros((0, 0, 0), np.uint8), (0, 0, 0), grid)
    inside = min(extent[::2]) >= 0 and all(
        last < size for last, size in zip(extent[1::2], grid.shape[::-1], strict=True)
    )
    if not inside or not _lies_on(image, grid):
        return None
    shape = (extent[5] - extent[4] + 1, extent[3] - extent[2] + 1, extent[1] - extent[0] + 1)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
    return Patch((voxels != 0).astype(np.uint8), (extent[4], extent[2], extent[0]), grid)


def _reference_grid(segmentation_node: Any) -> Grid | None:
    """The grid of the image that a segmentation was made from, as the segmentation keeps it."""
    import slicer
    import vtk

    converter = slicer.vtkSegmentationConverter
    text = segmentation_node.GetSegmentation().GetConversionParameter(
        converter.GetReferenceImageGeometryParameterName()
    )
    image = slicer.vtkOrientedImageData()
    if not text or not converter.DeserializeImageGeometry(text, image, False):
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return Grid(tuple(image.GetDimensions()[::-1]), affine_from_matrix(matrix))


def finished(segment: Any) -> bool:
    """True for a segment that somebody marked completed or flagged for discussion."""
    import slicer

    logic = slicer.vtkSlicerSegmentationsModuleLogic
    return logic.GetSegmentStatus(segment) in (logic.Completed, logic.Flagged)


def edited(segmentation_node: Any, segment_id: str, volume_node: Any) -> bool:
    """True if the voxels are no longer those that we wrote last: somebody worked on them."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    return changed(segment, read_own(segmentation_node, segment_id, volume_node))


def changed(segment: Any, patch: Patch) -> bool:
    """True if ``patch``, what ``read_own`` found, is not what we wrote into the segment last."""
    written = get_tag(segment, "Written")
    return not written or patch.checksum() != written


# -- probability and uncertainty ---------------------------------------------------------------


def add_map(volume: Volume, volume_node: Any, kind: str, image: str = "") -> Any:
    """Add the probability or the uncertainty (``kind`` "probability", "uncertainty") as a volume
    node, under the transform and in the study of ``volume_node``, with its colours.

    ``image``: the ``fingerprint`` of the voxels that it was made of, if not those of now.
    """
    title = {"probability": "lesion probability", "uncertainty": "lesion uncertainty"}[kind]
    import slicer

    # The display comes first: with one of its own, Slicer does not go through all voxels to
    # find a window, which would take longer than everything else here.
    display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.AutoWindowLevelOff()
    top = 1.0 if kind == "probability" else 0.5  # a standard deviation of [0, 1] is at most 1/2
    display.SetAndObserveColorNodeID(color_node(kind).GetID())
    display.SetWindowLevelMinMax(0.0, top)
    display.SetLowerThreshold(SHOWN_FROM * top)
    display.SetUpperThreshold(1.0)
    display.SetApplyThreshold(1)
    node = add_volume_node(
        volume, f"{volume_node.GetName()} {title}", like=volume_node, display=display
    )
    node.SetAttribute("StrokeLesionSeg", kind)
    node.SetAttribute(IMAGE_ATTRIBUTE, image or fingerprint(voxels_from_node(volume_node)))
    place_beside(node, volume_node)
    return node


def color_node(kind: str) -> Any:
    """Our colour scale for "probability" or "uncertainty"; made once in a scene, and filled again
    where a scene was saved without it."""
    import slicer
    import slicer.util

    name = {"probability": "Lesion probability", "uncertainty": "Lesion uncertainty"}[kind]
    nodes = slicer.util.getNodesByClass("vtkMRMLProceduralColorNode")
    named = [node for node in nodes if node.GetName() == name]
    for node in named:
        node.SetHideFromEditors(False)
        if node.GetColorTransferFunction().GetSize() == 0:
            _fill_colors(node, kind)
    if named:
        return named[0]
    node = slicer.vtkMRMLProceduralColorNode()
    node.SetName(name)
    node.SetType(slicer.vtkMRMLColorNode.User)
    node.SetAttribute("Category", "StrokeLesionSeg")
    # Colour nodes are hidden at first, and Slicer's "Save" leaves hidden nodes out: the colours
    # are in a file of their own, never in the .mrml.
    node.SetHideFromEditors(False)
    _fill_colors(node, kind)
    return slicer.mrmlScene.AddNode(node)


def _fill_colors(node: Any, kind: str) -> None:
    import vtk

    transfer = vtk.vtkColorTransferFunction()
    top = 1.0 if kind == "probability" else 0.5
    for value, *rgb in _PROBABILITY_COLORS if kind == "probability" else _UNCERTAINTY_COLORS:
        transfer.AddRGBPoint(value * top, *rgb)
    node.SetAndObserveColorTransferFunction(transfer)


def show_overlay(node: Any | None, opacity: float = 0.5) -> None:
    """Show ``node`` above the image in every slice view; None takes our own maps away again.

    What somebody else shows there, such as another sequence, stays.
    """
    import slicer.util

    kind = node.GetAttribute("StrokeLesionSeg") if node is not None else None
    if kind in ("probability", "uncertainty"):
        color_node(kind)  # a scene may come without the colours
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if node is not None:
            composite.SetForegroundVolumeID(node.GetID())
            composite.SetForegroundOpacity(opacity)
            continue
        shown = node_by_id(composite.GetForegroundVolumeID())
        if shown is not None and shown.GetAttribute("StrokeLesionSeg"):
            composite.SetForegroundVolumeID(None)
            composite.SetForegroundOpacity(0.0)
    # Last: a legend looks once whether its view shows the map.
    for other in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if other.GetAttribute("StrokeLesionSeg"):
            show_legend(other, other is node)


def show_background(volume_node: Any, fit: bool = False) -> None:
    """Show the image in every slice view; ``fit``: and bring it into view."""
    import slicer
    import slicer.util

    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(volume_node.GetID())
    layout = slicer.app.layoutManager() if fit else None  # none without the main window
    if layout is not None:
        layout.resetSliceViews()


def maps_of(segmentation_node: Any, segment_id: str = "") -> tuple[Any | None, Any | None]:
    """The probability and the uncertainty of a segment, as far as they exist.

    Without ``segment_id``, or for a segment that does not know its own: those of the newest run.
    """
    if segmentation_node is None:
        return None, None
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id) if segment_id else None
    own = f".{segment_id}" if segment is not None and get_tag(segment, "OwnMaps") else ""
    roles = (PROBABILITY_ROLE + own, UNCERTAINTY_ROLE + own)
    return tuple(  # type: ignore[return-value]
        node_by_id(segmentation_node.GetNodeReferenceID(role)) for role in roles
    )


def set_maps(segmentation_node: Any, segment_id: str, maps: tuple[Any | None, Any | None]) -> None:
    """Say which probability and uncertainty belong to a segment, in roles of its own: they are
    saved with the scene and follow when it is merged into another."""
    for role, node in zip((PROBABILITY_ROLE, UNCERTAINTY_ROLE), maps, strict=True):
        node_id = node.GetID() if node is not None else None
        segmentation_node.SetNodeReferenceID(f"{role}.{segment_id}", node_id)
    segmentation_node.GetSegmentation().GetSegment(segment_id).SetTag(TAG + "OwnMaps", "1")


def resampled_since(segmentation_node: Any, segment_id: str, volume_node: Any) -> bool:
    """Whether the image has other voxels by now than those that a result was found in: a warp was
    hardened on it, or it was filtered, so that neither maps nor alignment fit any more."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    image = "" if segment is None else get_tag(segment, "Image")
    if image:
        there = volume_node.GetImageData() is not None
        return there and not same_voxels(image, voxels_from_node(volume_node))
    # A scene of old: only the maps know.
    kept = [node for node in maps_of(segmentation_node, segment_id) if node is not None]
    return bool(kept) and not any(made_of(node, volume_node) for node in kept)


def made_of(map_node: Any, volume_node: Any) -> bool:
    """Whether a map was made of the voxels that an image has now, as far as both are there."""
    image, own = volume_node.GetImageData(), map_node.GetImageData()
    if image is None or own is None:
        return True
    kept = map_node.GetAttribute(IMAGE_ATTRIBUTE)  # None in scenes of old
    same_shape = image.GetDimensions() == own.GetDimensions()
    return same_shape and (not kept or same_voxels(kept, voxels_from_node(volume_node)))


def bring_along(segmentation_node: Any, volume_node: Any) -> bool:
    """Put maps and alignment of the results to where image and segmentation lie by now.

    Both may be under another transform since the run, or have had one hardened, and what nobody
    sees is easily left behind. As long as the segmentation does not lie on the image, nothing
    happens. True if it was hardened: the results lie on another grid than before.
    """
    if volume_node.GetImageData() is None:
        return False
    segmentation = segmentation_node.GetSegmentation()
    for n in range(segmentation.GetNumberOfSegments()):
        segment, segment_id = segmentation.GetNthSegment(n), segmentation.GetNthSegmentID(n)
        known = get_tag(segment, "Image") or get_tag(segment, "OwnMaps")
        if known and (get_tag(segment, "ToMNI") or get_tag(segment, "ToMNIKept")):
            fits = not resampled_since(segmentation_node, segment_id, volume_node)
            _put_alignment_away(segment, back=fits)
    grid, own = _grid_of(volume_node), _reference_grid(segmentation_node)
    if own is not None and own.left_handed and not own.same_as(grid):
        own = own.slices_reversed()
    if own is None or not own.same_as(grid) or not same_parent(segmentation_node, volume_node):
        return False
    left: dict[str, Any] = {}
    hardened = False
    for n in range(segmentation.GetNumberOfSegments()):
        maps = maps_of(segmentation_node, segmentation.GetNthSegmentID(n))
        there = (node for node in maps if node is not None and node.GetImageData() is not None)
        known = {node.GetID(): node for node in there}
        left |= {key: node for key, node in known.items() if _grid_of(node).shape == grid.shape}
        segment = segmentation.GetNthSegment(n)
        _follow_loading(segment, grid)
        of_maps = (_grid_of(node) for key, node in known.items() if key in left)
        then = _found_on(segment) or next(of_maps, grid)
        if then.shape != grid.shape or then.same_as(grid):
            continue
        hardened = True
        made = Provenance.from_segment(segment)
        if made.to_mni is not None:
            moved = made.moved(then.affine, grid.affine)
            segment.SetTag(TAG + "ToMNI", moved.tags()["ToMNI"])
        if not get_tag(segment, "ToMNIKept"):
            segment.SetTag(TAG + "Grid", _grid_text(grid))
    for node in left.values():
        if not _grid_of(node).same_as(grid):
            node.SetIJKToRASMatrix(matrix_from_affine(grid.affine))
        if not same_parent(node, volume_node):
            node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    return hardened


def _follow_loading(segment: Any, grid: Grid) -> None:
    """Slicer loads a left-handed image, and the maps of it, with their slices in reverse, and a
    segmentation as it was: the voxels that a result names are turned, too."""
    found = _found_on(segment)
    if found is None or not found.left_handed or not found.slices_reversed().same_as(grid):
        return
    seeds = seeds_from_text(get_tag(segment, "Dropped"))
    turned = ((grid.shape[0] - 1 - k, j, i) for k, j, i in seeds)
    segment.SetTag(TAG + "Dropped", seeds_to_text(turned))
    segment.SetTag(TAG + "Grid", _grid_text(grid))


def _put_alignment_away(segment: Any, back: bool) -> None:
    """Put the alignment of a result away or take it ``back``: another frame of a sequence may be
    shown for a while, or a filter be undone."""
    here, there = ("ToMNIKept", "ToMNI") if back else ("ToMNI", "ToMNIKept")
    if get_tag(segment, here):
        segment.SetTag(TAG + there, get_tag(segment, here))
        segment.SetTag(TAG + here, "")


def _grid_text(grid: Grid) -> str:
    """A grid as a tag of a segment keeps it."""
    return json.dumps({"shape": grid.shape, "affine": grid.affine.tolist()})


def _found_on(segment: Any) -> Grid | None:
    """The grid on which the alignment of a result holds; None in scenes of old."""
    text = get_tag(segment, "Grid")
    if not text:
        return None
    kept = json.loads(text)
    k, j, i = kept["shape"]
    return Grid((k, j, i), np.array(kept["affine"], np.float64))


def _grid_of(volume_node: Any) -> Grid:
    """The grid of a volume node, without its parent transform."""
    shape = tuple(volume_node.GetImageData().GetDimensions()[::-1])
    return Grid(shape, affine_from_node(volume_node))


def jump_to(ras: tuple[float, float, float], volume_node: Any) -> tuple[float, float, float]:
    """Centre all slice views on a point (RAS mm of the volume itself); returns the world point."""
    import slicer.util

    world = [0.0, 0.0, 0.0]
    volume_node.TransformPointToWorld(list(map(float, ras)), world)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*world)
    return world[0], world[1], world[2]
