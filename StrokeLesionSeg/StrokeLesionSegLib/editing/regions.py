"""Parts of a native grid that an edit is limited to: slice, slab, rotated box, mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..images.volume import Grid
from .types import EMPTY, Box, extents, intersect, is_empty


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
        """The box of native voxels that holds the region; empty if it lies outside."""
        raise NotImplementedError

    def mask(self, grid: Grid, box: Box) -> NDArray[np.bool_] | None:
        """Which voxels of ``box`` belong to the region, (k, j, i) of its shape; None for all."""
        raise NotImplementedError


#: Everything.
WHOLE = Region()
