"""Parts of a native grid that an edit is limited to: slice, slab, rotated box, mask."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..images.volume import Grid
from .types import EMPTY, Box, extents, intersect


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the native grid; make one with the class methods, or take ``WHOLE``."""

    kind: str = "whole"
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def slice(cls, axis: int, index: int) -> Region:
        """The native slice ``index`` of array axis ``axis`` (0 k, 1 j, 2 i)."""
        return cls("slice", {"axis": int(axis), "index": int(index)})

    @classmethod
    def slab(cls, axis: int, index: int, millimetres: float) -> Region:
        """Native slices whose centres are at most half of ``millimetres`` from slice ``index``.

        Measured across the slices (along their normal); the slice itself is always in it.
        """
        facts = {"axis": int(axis), "index": int(index), "millimetres": float(millimetres)}
        return cls("slab", facts)

    @classmethod
    def plane(cls, origin_ras: ArrayLike, normal_ras: ArrayLike, millimetres: float = 0) -> Region:
        """Voxels around any plane (RAS mm), such as that of a rotated slice view.

        A voxel belongs to it if its centre is at most half of ``millimetres`` off, or nearest to
        the plane among the voxels of its row (so that a thickness of 0 still has no holes).
        Raises ``ValueError`` for a normal of length 0.
        """
        normal = np.asarray(normal_ras, np.float64)
        length = float(np.linalg.norm(normal))
        if not length > 0:
            raise ValueError("the normal of a plane has a length")
        origin = np.asarray(origin_ras, np.float64)
        facts = {"origin": origin, "normal": normal / length, "millimetres": float(millimetres)}
        return cls("plane", facts)

    @classmethod
    def roi(cls, object_to_ras: ArrayLike, size_mm: ArrayLike) -> Region:
        """A box of any rotation, as markups ROIs are given.

        ``object_to_ras``: 4x4, from the box's own mm (centre at 0) to RAS mm. ``size_mm``: its
        three edge lengths in its own mm. Voxels belong to it by their centres.
        """
        inverse = np.linalg.inv(np.asarray(object_to_ras, np.float64))
        return cls("roi", {"ras_to_object": inverse, "size": np.asarray(size_mm, np.float64)})

    @classmethod
    def inside(cls, mask_kji: NDArray[Any]) -> Region:
        """The voxels where ``mask_kji`` (K, J, I) is not 0; it has the native grid's shape."""
        return cls("inside", {"mask": mask_kji})

    def box(self, grid: Grid) -> Box:
        """The box of native voxels that holds the region; empty if it lies outside.

        Raises ``ValueError`` for a slice that does not exist or a mask of another shape.
        """
        whole = whole_box(grid.shape)
        facts = self.facts
        if self.kind in ("slice", "slab"):
            axis, index = facts["axis"], facts["index"]
            check_slice(grid.shape, axis, index)
            beside = 0
            if self.kind == "slab":
                beside = int(max(0.0, facts["millimetres"] / 2) / slice_distance(grid, axis) + 1e-6)
            parts = list(whole)
            parts[axis] = slice(max(0, index - beside), min(grid.shape[axis], index + beside + 1))
            return parts[0], parts[1], parts[2]
        if self.kind == "plane":
            slope, start, half = self._distance(grid)
            reach = max(half, facts["millimetres"] / 2)
            return _between(slope, start, reach, grid.shape)
        if self.kind == "roi":
            return self._roi_box(grid)
        if self.kind == "inside":
            mask = facts["mask"]
            if mask.shape != grid.shape:
                raise ValueError(f"a mask of shape {mask.shape} on a grid of {grid.shape}")
            return true_box(mask != 0)
        return whole

    def mask(self, grid: Grid, box: Box) -> NDArray[np.bool_] | None:
        """Which voxels of ``box`` belong to the region, (k, j, i) of its shape; None for all.

        ``box`` lies within that of ``box(grid)``.
        """
        facts = self.facts
        if self.kind == "inside":
            return facts["mask"][box] != 0
        if self.kind == "plane":
            slope, start, half = self._distance(grid)
            distance = along(slope, start, box)
            # Half open: of two voxels equally near only one counts.
            near = (distance > -half) & (distance <= half)
            return near | (np.abs(distance) <= facts["millimetres"] / 2 + 1e-9)
        if self.kind == "roi":
            to_object = facts["ras_to_object"] @ grid.affine
            inside = np.ones(extents(box), bool)
            for n in range(3):
                place = along(to_object[n, :3], to_object[n, 3], box)
                inside &= np.abs(place) <= facts["size"][n] / 2 + 1e-6
            return inside
        return None

    def _distance(self, grid: Grid) -> tuple[NDArray[np.float64], float, float]:
        """(slope by ijk, start, half) of the signed distance from the plane in mm."""
        normal, origin = self.facts["normal"], self.facts["origin"]
        slope = normal @ grid.affine[:3, :3]
        start = float(normal @ (grid.affine[:3, 3] - origin))
        return slope, start, float(np.abs(slope).max()) / 2

    def _roi_box(self, grid: Grid) -> Box:
        size = self.facts["size"] / 2
        corners = np.array(list(itertools.product(*((-s, s) for s in size))))
        to_index = np.linalg.inv(self.facts["ras_to_object"] @ grid.affine)
        index = corners @ to_index[:3, :3].T + to_index[:3, 3]
        low = np.ceil(index.min(axis=0) - 1e-6).astype(int)[::-1]
        high = np.floor(index.max(axis=0) + 1e-6).astype(int)[::-1] + 1
        parts = [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]
        return intersect(parts, whole_box(grid.shape))


def whole_box(shape: Sequence[int]) -> Box:
    """All of a (K, J, I) array."""
    k, j, i = (slice(0, int(n)) for n in shape)
    return k, j, i


def around(place: ArrayLike, reach: int, box: Box) -> Box:
    """The part of ``box`` that lies within ``reach`` voxels of the one at ``place`` (ijk), along
    each axis; may be empty."""
    k, j, i = np.rint(np.asarray(place, np.float64)[::-1]).astype(int).tolist()
    return intersect([slice(n - reach, n + reach + 1) for n in (k, j, i)], box)


def slabs(box: Box, voxels: int) -> list[Box]:
    """``box`` cut along its first axis into pieces of at most so many voxels, if one layer is."""
    each = max(1, voxels // max(1, int(np.prod(extents(box)[1:]))))
    starts = range(box[0].start, box[0].stop, each)
    return [(slice(n, min(n + each, box[0].stop)), box[1], box[2]) for n in starts]


def check_slice(shape: Sequence[int], axis: int, index: int) -> None:
    """Raises ``ValueError`` unless the array has this axis and slice."""
    if axis not in (0, 1, 2) or not 0 <= index < shape[axis]:
        raise ValueError(f"there is no slice {index} along axis {axis} of {tuple(shape)}")


def slice_distance(grid: Grid, axis: int) -> float:
    """Distance in mm between neighbouring slices of array axis ``axis``, across them."""
    columns = grid.affine[:3, :3]
    first, second = (columns[:, n] for n in range(3) if n != 2 - axis)
    return float(abs(np.linalg.det(columns)) / np.linalg.norm(np.cross(first, second)))


def along(slope_ijk: NDArray[np.float64], start: float, box: Box) -> NDArray[np.float64]:
    """``start + slope @ ijk`` for the voxels of ``box``, of its shape."""
    k, j, i = np.ogrid[box]
    return start + slope_ijk[0] * i + slope_ijk[1] * j + slope_ijk[2] * k


def true_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box that holds all true voxels; ``EMPTY`` if there are none."""
    from ..boxes import bounding_box

    return bounding_box(mask) or EMPTY


def plane_box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The rows and columns that hold the true pixels, and ``margin`` around; some must be true."""
    parts = []
    for axis, size in enumerate(mask.shape):
        there = np.flatnonzero(mask.any(axis=1 - axis))
        parts.append(slice(max(0, int(there[0]) - margin), min(size, int(there[-1]) + 1 + margin)))
    return parts[0], parts[1]


def _between(
    slope_ijk: NDArray[np.float64], start: float, reach: float, shape: tuple[int, int, int]
) -> Box:
    """The box of voxels for which ``|start + slope @ ijk| <= reach`` can hold."""
    slope = slope_ijk[::-1]
    ends = [sorted((0.0, s * (n - 1))) for s, n in zip(slope, shape, strict=True)]
    parts = []
    for axis in range(3):
        low = -reach - start - sum(ends[a][1] for a in range(3) if a != axis)
        high = reach - start - sum(ends[a][0] for a in range(3) if a != axis)
        if low > high + 1e-9:
            return EMPTY
        bounds = (0.0, shape[axis] - 1.0)
        if abs(slope[axis]) > 1e-9:
            bounds = tuple(sorted((low / slope[axis], high / slope[axis])))  # type: ignore[assignment]
        elif not low <= 0 <= high:
            return EMPTY
        first = max(0, int(np.ceil(bounds[0] - 1e-6)))
        last = min(shape[axis] - 1, int(np.floor(bounds[1] + 1e-6)))
        if last < first:
            return EMPTY
        parts.append(slice(first, last + 1))
    return parts[0], parts[1], parts[2]


#: Everything.
WHOLE = Region()
