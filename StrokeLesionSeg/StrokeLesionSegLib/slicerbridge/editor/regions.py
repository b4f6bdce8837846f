"""The part of the volume that a fill is limited to, from what a view shows or from an ROI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..i18n import tr as _
from .target import CannotEdit, EditGrid
from .views import ViewPlane

if TYPE_CHECKING:
    from ...editing import Region


def region_of(
    kind: str,
    edit_grid: EditGrid,
    plane: ViewPlane | None,
    millimetres: float,
    roi_node: Any | None,
) -> Region:
    """The session's region; ``kind`` is "whole", "slice", "slab" or "roi".

    ``plane``: what the view in question shows. ``millimetres``: thickness of the slab. Raises
    ``CannotEdit`` if there is no view or no ROI.
    """
    from ...editing import WHOLE, Region

    if kind == "whole":
        return WHOLE
    if kind == "roi":
        if roi_node is None:
            raise CannotEdit(_("Choose a region of interest first, or make one in Markups."))
        return Region.roi(roi_to_local(roi_node, edit_grid), roi_node.GetSize())
    if plane is None:
        raise CannotEdit(_("No slice view shows this segmentation."))
    thickness = millimetres if kind == "slab" else 0.0
    if plane.axis is None:
        return Region.plane(plane.origin, plane.normal, thickness)
    if kind == "slab":
        return Region.slab(plane.axis, plane.index, thickness)
    return Region.slice(plane.axis, plane.index)


def roi_to_local(roi_node: Any, edit_grid: EditGrid) -> NDArray[np.float64]:
    """4x4 from the ROI's own mm to local RAS mm; exact where transforms are linear."""
    from vtk import vtkMatrix4x4

    own = vtkMatrix4x4()
    own.DeepCopy(roi_node.GetObjectToNodeMatrix())

    def place(point: tuple[float, float, float]) -> NDArray[np.float64]:
        world = [0.0, 0.0, 0.0]
        roi_node.TransformPointToWorld(list(own.MultiplyPoint((*point, 1.0))[:3]), world)
        return edit_grid.to_local(world)

    matrix = np.eye(4)
    matrix[:3, 3] = place((0.0, 0.0, 0.0))
    for axis, point in enumerate(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))):
        matrix[:3, axis] = place(point) - matrix[:3, 3]
    return matrix


def region_voxels(region: Region, edit_grid: EditGrid) -> NDArray[np.bool_] | None:
    """The region on the whole edited grid, (K, J, I); None if it is all of it."""
    if region.kind == "whole":
        return None
    out = np.zeros(edit_grid.grid.shape, bool)
    box = region.box(edit_grid.grid)
    inside = region.mask(edit_grid.grid, box)
    out[box] = True if inside is None else inside
    return out
