"""What is on view is predicted first: native slices and any plane of a viewer, in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..inference.views import VIEW_AXES
from .native import FINAL, NOTHING
from .planes import Plane
from .regions import check_slice, whole_box
from .scan import EditedScan
from .types import EMPTY, Box, intersect, is_empty

# Up to so many canonical slices are predicted as the background would instead of in the plane.
_DIRECT_SLICES = 2


def slice_box(scan: EditedScan, axis: int, index: int) -> Box:
    """The box of a native slice; raises ``ValueError`` if there is none."""
    check_slice(scan.grid.shape, axis, index)
    parts = list(whole_box(scan.grid.shape))
    parts[axis] = slice(index, index + 1)
    return parts[0], parts[1], parts[2]


def predict_slice(scan: EditedScan, axis: int, index: int) -> Box:
    """See ``EditingSession.predict_visible``."""
    box = slice_box(scan, axis, index)
    native, background = scan.native, scan.background
    native.refresh(box)
    if (native.known[box] != NOTHING).all():
        return box
    if len(background.passes) == 1:
        first = background.passes[0]
        needs = intersect(native.parts.canonical_box(box), background.box)
        if not is_empty(needs) and first.view == scan.slice_view(axis):
            part = needs[VIEW_AXES[first.view]]
            missing = np.flatnonzero(~background.done[0][part]) + part.start
            if 0 < len(missing) <= _DIRECT_SLICES:
                background.run(0, [int(n) for n in missing])
                native.refresh(box)
                return box
    plane = scan.slice_plane(axis, index)
    if plane is None:
        native.put_provisional(box, np.zeros(native.known[box].shape, np.float32))
        return box
    values = on_slice(scan, plane, background.predict(plane), axis, index)
    native.put_provisional(box, np.maximum(values, 0))
    return box


def on_slice(
    scan: EditedScan, plane: Plane, values: NDArray[np.float32], axis: int, index: int
) -> NDArray[np.float32]:
    """``values`` (rows, columns) of a native slice's plane on its voxels; -1 beyond the plane.

    Returns the shape of the slice's box, linear interpolation.
    """
    from scipy.ndimage import affine_transform

    parts, shape = scan.native.parts, scan.grid.shape
    inplane = [a for a in range(3) if a != axis]
    vectors = (plane.row, plane.column)
    matrix = np.array([[v @ parts.matrix[:, 2 - a] for a in inplane] for v in vectors])
    start = np.zeros(3)
    start[2 - axis] = index
    relative = scan.canonical_of(start) - plane.origin
    offset = np.array([v @ relative for v in vectors])
    size = tuple(shape[a] for a in inplane)
    result = affine_transform(values, matrix, offset, size, order=1, cval=-1.0)
    return np.expand_dims(result, axis)


def predict_plane(
    scan: EditedScan,
    origin_ras: NDArray[np.float64],
    u_ras: NDArray[np.float64],
    v_ras: NDArray[np.float64],
) -> Box:
    """See ``EditingSession.predict_plane``."""
    normal_ras = np.cross(u_ras, v_ras)
    size = np.linalg.norm(u_ras) * np.linalg.norm(v_ras)
    if not (np.isfinite(origin_ras).all() and np.linalg.norm(normal_ras) > 1e-9 * max(size, 1e-30)):
        raise ValueError("two directions that span no plane")
    # The covector of the plane in native indices: slope @ ijk + start = 0 on it.
    slope = normal_ras @ scan.grid.affine[:3, :3]
    start = float(normal_ras @ (scan.grid.affine[:3, 3] - origin_ras))
    n = int(np.argmax(np.abs(slope)))
    axis, shape = 2 - n, scan.grid.shape
    others = [a for a in range(3) if a != axis]
    grids = np.ogrid[tuple(slice(0, shape[a]) for a in others)]
    level = -(start + sum(slope[2 - a] * g for a, g in zip(others, grids, strict=True))) / slope[n]
    if np.ptp(level) < 0.5:
        index = int(np.rint((level.min() + level.max()) / 2))
        return predict_slice(scan, axis, index) if 0 <= index < shape[axis] else EMPTY
    lower = np.floor(level).astype(np.intp)
    # The voxels on both sides, so that whatever a viewer interpolates is known.
    places = []
    for beside in (0, 1):
        rows, columns = np.nonzero((lower + beside >= 0) & (lower + beside < shape[axis]))
        kji = [np.zeros(0, np.intp)] * 3
        kji[others[0]], kji[others[1]] = rows, columns
        kji[axis] = lower[rows, columns] + beside
        places.append(np.stack(kji))
    voxels = np.concatenate(places, axis=1)
    if not voxels.size:
        return EMPTY
    where = (voxels[0], voxels[1], voxels[2])
    box = tuple(slice(int(v.min()), int(v.max()) + 1) for v in where)
    known = scan.native.known[where]
    if (known == FINAL).all():
        return box  # type: ignore[return-value]
    centre = np.array([(v.min() + v.max()) / 2 for v in where])
    inverse = np.linalg.inv(scan.native.parts.matrix)
    point_index = scan.index_of(origin_ras)
    normal = slope @ inverse  # covectors go the other way
    normal /= np.linalg.norm(normal)
    point = scan.canonical_of(centre[::-1])
    point = point - normal * (normal @ (point - scan.canonical_of(point_index)))
    plane = scan.plane(point, normal)
    values = np.zeros(len(known), np.float32)
    if plane is not None:
        from scipy.ndimage import map_coordinates

        prediction = scan.background.predict(plane)
        located = plane.place(scan.canonical_of(np.stack(where[::-1], axis=1).astype(np.float64)))
        values = map_coordinates(prediction, located[:, :2].T, order=1)
    scan.native.put_provisional(where, np.asarray(values, np.float32))
    return box  # type: ignore[return-value]
