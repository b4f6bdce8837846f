"""Voxels into a segment, the way Slicer's own effects do it.

Everything goes through ``modifySegmentByLabelmap``, which honours masking, the editable intensity
range and the overwrite mode, with the segment that was remembered. ``effect`` is Slicer's
``qSlicerSegmentEditorScriptedEffect``. Add and remove hand over a labelmap of the changed box only,
which keeps a stroke quick on a large scan; replacing needs the whole grid, since Slicer clears a
segment before it sets it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box, is_empty
from ..i18n import tr as _
from .target import CannotEdit as CannotEdit
from .target import EditGrid, EditTarget, empty_image, voxels_of_image


def voxels_stamp(target: EditTarget | None) -> tuple[EditTarget, int] | None:
    """Another one whenever the voxels of the segment may be others, by whomever; cheap."""
    import slicer

    segment = None if target is None else target.segment
    if target is None or segment is None:
        return None
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    image = segment.GetRepresentation(name)
    return target, 0 if image is None else int(image.GetMTime())


def segment_voxels(
    target: EditTarget, edit_grid: EditGrid, box: Box | None = None
) -> NDArray[np.uint8]:
    """The segment's voxels (0 or 1) on the edited grid or on a box of it, (K, J, I)."""
    import slicer

    out = empty_image(edit_grid, box)
    image = slicer.vtkOrientedImageData()
    result = voxels_of_image(out)
    if target.segment is None:
        return np.array(result, np.uint8)
    if not target.node.GetBinaryLabelmapRepresentation(target.segment_id, image):
        return np.array(result, np.uint8)
    extent = image.GetExtent()
    if extent[1] < extent[0] or extent[3] < extent[2] or extent[5] < extent[4]:
        return np.array(result, np.uint8)
    resample = slicer.vtkOrientedImageDataResample
    if not resample.DoGeometriesMatch(image, out):
        aligned = slicer.vtkOrientedImageData()
        resample.ResampleOrientedImageToReferenceOrientedImage(image, out, aligned, False, False)
        return np.array(voxels_of_image(aligned) != 0, np.uint8)
    wanted = out.GetExtent()
    low = [max(extent[2 * a], wanted[2 * a]) for a in (2, 1, 0)]
    high = [min(extent[2 * a + 1], wanted[2 * a + 1]) for a in (2, 1, 0)]
    if any(a > b for a, b in zip(low, high, strict=True)):
        return np.array(result, np.uint8)
    source = voxels_of_image(image)
    here = tuple(
        slice(a - extent[2 * n], b - extent[2 * n] + 1)
        for a, b, n in zip(low, high, (2, 1, 0), strict=True)
    )
    there = tuple(
        slice(a - wanted[2 * n], b - wanted[2 * n] + 1)
        for a, b, n in zip(low, high, (2, 1, 0), strict=True)
    )
    result = np.array(result, np.uint8)
    result[there] = source[here] != 0
    return result


def check(target: EditTarget) -> None:
    """Raises ``CannotEdit`` if the segment may not be changed."""
    refusal = target.refusal()
    if refusal:
        raise CannotEdit(refusal)


def begin(effect: Any, target: EditTarget) -> None:
    """One step for undo starts here. Raises ``CannotEdit`` if the segment may not be changed."""
    check(target)
    effect.saveStateForUndo()


def add(effect: Any, target: EditTarget, edit_grid: EditGrid, box: Box, mask: NDArray[Any]) -> None:
    """Add the voxels of ``mask`` (of the shape of ``box``) to the segment."""
    _modify(effect, target, edit_grid, box, mask, "ModificationModeAdd")


def remove(
    effect: Any, target: EditTarget, edit_grid: EditGrid, box: Box, mask: NDArray[Any]
) -> None:
    """Remove the voxels of ``mask`` (of the shape of ``box``) from the segment."""
    _modify(effect, target, edit_grid, box, mask, "ModificationModeRemove")


def replace(
    effect: Any,
    target: EditTarget,
    edit_grid: EditGrid,
    region: NDArray[np.bool_] | None,
    box: Box,
    mask: NDArray[Any],
) -> None:
    """Set the segment to ``mask`` (on ``box``) within ``region`` (whole grid, None for all of it);
    what it has outside the region stays."""
    image = empty_image(edit_grid)
    voxels = voxels_of_image(image)
    if region is not None:
        voxels[:] = segment_voxels(target, edit_grid)
        voxels[region] = 0
    if not is_empty(box):
        chosen = np.asarray(mask) != 0
        if region is not None:
            chosen &= region[box]
        voxels[box] |= chosen.astype(np.uint8)
    _call(effect, target, image, "ModificationModeSet")


def _modify(
    effect: Any,
    target: EditTarget,
    edit_grid: EditGrid,
    box: Box,
    mask: NDArray[Any],
    mode: str,
) -> None:
    chosen = np.asarray(mask) != 0
    if is_empty(box) or not chosen.any():
        return
    image = empty_image(edit_grid, box)
    voxels_of_image(image)[:] = chosen
    _call(effect, target, image, mode)


def _call(effect: Any, target: EditTarget, image: Any, mode: str) -> None:
    import slicer

    node = target.node
    if node is None or target.segment is None:
        raise CannotEdit(_("The segment was removed."))
    image.Modified()
    wanted = getattr(slicer.qSlicerSegmentEditorAbstractEffect, mode)
    with _selected(effect.parameterSetNode(), target):
        effect.modifySegmentByLabelmap(node, target.segment_id, image, wanted)


@contextlib.contextmanager
def _selected(editor: Any, target: EditTarget) -> Iterator[None]:
    """Select the target while it is changed, without telling anybody.

    Slicer works out "outside all segments" and the like for the segment that is selected, not for
    the one that it is told to change; the selection may have moved since the action began.
    """
    before = editor.GetSelectedSegmentID()
    if before == target.segment_id or editor.GetSegmentationNode() is not target.node:
        yield
        return
    quiet = editor.GetDisableModifiedEvent()
    editor.SetDisableModifiedEvent(1)
    editor.SetSelectedSegmentID(target.segment_id)
    try:
        yield
    finally:
        editor.SetSelectedSegmentID(before)
        editor.SetDisableModifiedEvent(quiet)
