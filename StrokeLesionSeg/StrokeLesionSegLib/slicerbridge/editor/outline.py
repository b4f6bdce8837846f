"""Outlines: one drawn in a view changes the segment; the segment keeps where they were drawn.

They are kept in a tag of the segment, in local RAS mm: saved with the scene, and taken along by
Slicer's undo and redo, which restore tags.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import is_empty
from ..scene.provenance import TAG, get_tag
from . import write
from .target import EditGrid, EditTarget

if TYPE_CHECKING:
    from ...correction import Outline

OUTLINES_TAG = "Outlines"


def draw(
    effect: Any,
    target: EditTarget,
    edit_grid: EditGrid,
    path: Sequence[NDArray[np.float64]],
    normal: NDArray[np.float64],
    *,
    lesion: bool,
    around: bool,
) -> int:
    """Let an outline change the segment, as one step for undo; returns how many voxels changed.

    ``path``: local RAS mm, in a plane across ``normal``; it closes itself. ``lesion``: whether the
    inside is lesion. ``around``: whether the slices around follow. What changes nothing is no step.
    Raises ``CannotEdit``.
    """
    from ...correction.outline import REACH_MM, Outline, outlined

    write.check(target)
    points, earlier = np.array(path, np.float64), drawn(target, edit_grid)
    mask = write.segment_voxels(target, edit_grid) != 0
    box, wanted = outlined(
        mask,
        edit_grid.grid,
        points,
        normal,
        lesion=lesion,
        reach_mm=REACH_MM if around else 0.0,
        earlier=earlier,
    )
    if is_empty(box):
        return 0
    write.begin(effect, target)
    write.remove(effect, target, edit_grid, box, mask[box] & ~wanted)
    write.add(effect, target, edit_grid, box, wanted & ~mask[box])
    now = write.segment_voxels(target, edit_grid, box) != 0
    changed = int(np.count_nonzero(now != mask[box]))
    if changed:  # else masking kept all of it out: there is nothing that others have to leave
        _keep(target, edit_grid, [*earlier, Outline.along(points, normal)])
    return changed


def drawn(target: EditTarget, edit_grid: EditGrid | None = None) -> list[Outline]:
    """The outlines of a segment so far; none for a tag that makes no sense.

    ``edit_grid``: where the segmentation is edited now; it may have been moved as a whole since.
    """
    from ...correction import Outline

    segment = target.segment
    text = get_tag(segment, OUTLINES_TAG) if segment is not None else ""
    try:
        kept = json.loads(text) if text else []
        stamp = kept.get("grid") if isinstance(kept, dict) else None
        kept = kept.get("rows", []) if isinstance(kept, dict) else kept
        rows = np.array(kept, np.float64).reshape(-1, 7)
        moved = np.eye(4) if edit_grid is None else edit_grid.moved_since(stamp)
    except (ValueError, TypeError):
        return []
    centres = rows[:, :3] @ moved[:3, :3].T + moved[:3, 3]
    normals = rows[:, 3:6] @ moved[:3, :3].T
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return [Outline(*three) for three in zip(centres, normals, map(float, rows[:, 6]), strict=True)]


def forget(target: EditTarget) -> None:
    """None holds any more: the segment was filled anew."""
    segment = target.segment
    if segment is not None and segment.HasTag(TAG + OUTLINES_TAG):
        segment.RemoveTag(TAG + OUTLINES_TAG)


def _keep(target: EditTarget, edit_grid: EditGrid, outlines: Sequence[Outline]) -> None:
    rows = [
        [round(float(v), 3) for v in (*one.centre, *one.normal, one.radius_mm)] for one in outlines
    ]
    state = {"grid": edit_grid.stamp(), "rows": rows}
    target.segment.SetTag(TAG + OUTLINES_TAG, json.dumps(state, separators=(",", ":")))
