"""Which voxels one touch of the brush covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..images.volume import Grid
from .regions import Region, along, whole_box
from .types import EMPTY, Box, intersect, is_empty

#: A stroke that follows its first point takes what has at least this share of its probability.
FLOOR_SHARE = 0.6
#: ... but never voxels below this, however faint the place where it began.
LOWEST_FLOOR = 0.02


def footprint(
    grid: Grid,
    centre_ras: NDArray[np.float64],
    radius_mm: float,
    normal_ras: NDArray[np.float64] | None,
) -> tuple[Box, NDArray[np.bool_]]:
    """The voxels of a sphere, or of a disk across ``normal_ras``, by their centres.

    A disk holds the voxels that are nearest to its plane in their row, without holes on oblique
    planes. Returns their box, cut to the grid, and a bool array of its shape. Raises
    ``ValueError`` for a radius that is not positive or a normal of length 0.
    """
    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise ValueError(f"a brush has a radius, not {radius_mm} mm")
    if not np.isfinite(centre_ras).all():
        raise ValueError("the brush is nowhere: its centre is not finite")
    plane = None if normal_ras is None else Region.plane(centre_ras, normal_ras)
    to_index = np.linalg.inv(grid.affine)
    centre = to_index[:3, :3] @ centre_ras + to_index[:3, 3]
    # The image of a ball: each index reaches as far as its row of the inverse is long.
    reach_mm = radius_mm
    if plane is not None:
        # Voxels of a thick slice may be further from its plane than the brush is wide.
        reach_mm = float(
            np.hypot(radius_mm, np.abs(plane.facts["normal"] @ grid.affine[:3, :3]).max())
        )
    reach = reach_mm * np.sqrt((to_index[:3, :3] ** 2).sum(axis=1))
    low = np.ceil(centre - reach - 1e-6).astype(int)[::-1]
    high = np.floor(centre + reach + 1e-6).astype(int)[::-1] + 1
    parts = [slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True)]
    box = intersect(parts, whole_box(grid.shape))
    if plane is not None and not is_empty(box):
        box = intersect(box, plane.box(grid))
    if is_empty(box):
        return EMPTY, np.zeros((0, 0, 0), bool)
    distances = [
        along(grid.affine[n, :3], grid.affine[n, 3] - centre_ras[n], box) for n in range(3)
    ]
    squared = distances[0] ** 2 + distances[1] ** 2 + distances[2] ** 2
    if plane is None:
        return box, squared <= radius_mm**2 + 1e-9
    normal = plane.facts["normal"]
    off = sum(normal[n] * distances[n] for n in range(3))
    inside = plane.mask(grid, box)
    assert inside is not None
    return box, inside & (squared - off**2 <= radius_mm**2 + 1e-9)


def floor_of(threshold: float, floor_from: float | None) -> float:
    """The bound of a dab: the threshold, or what a stroke that began at a probability follows."""
    if floor_from is None:
        return threshold
    return min(threshold, max(LOWEST_FLOOR, FLOOR_SHARE * floor_from))
