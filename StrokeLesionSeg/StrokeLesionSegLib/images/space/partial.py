"""Boxes of the native grid from an array on the canonical one: ``from_canonical`` in parts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box
from . import resample
from .canonical import Canonical
from .grid_map import grid_spacing


class NativeParts:
    """Brings parts of an array on the canonical grid back to the native one.

    A box costs what the box costs, and its voxels are those of ``from_canonical`` (up to rounding
    where the grids are oblique to each other).

    Attributes
    ----------
    matrix, offset: native ijk to canonical ijk, 3x3 and 3, of voxel centres.
    """

    def __init__(self, canonical: Canonical) -> None:
        native, grids = canonical.native, canonical.grid_map()
        self._native, self._shape = native, grids.canonical.shape
        self._reorder, self._exact = grids.reorder, grids.exact
        self._weights: list[NDArray[np.float32]] | None = None
        self._matrix: NDArray[np.float64]
        self._offset: NDArray[np.float64]
        if grids.exact:
            self._matrix, self._offset = np.eye(3), np.zeros(3)
        elif grids.straight:
            self._weights = [grids.weights_to_ordered(axis) for axis in range(3)]
            self._matrix = np.diag(grid_spacing(grids.ordered)[::-1])
            centres = [
                (np.asarray(grid.shape[::-1]) - 1) / 2 for grid in (grids.canonical, grids.ordered)
            ]
            self._offset = centres[0] - self._matrix @ centres[1]
        else:
            self._matrix, self._offset = grids.to_canonical()
        # Native ijk to reordered ijk: the row-th reordered axis is native axis axes[row].
        turn, shift = np.zeros((3, 3)), np.zeros(3)
        size = native.shape[::-1]
        for row, (axis, flip) in enumerate(
            zip(self._reorder.axes, self._reorder.flips, strict=True)
        ):
            turn[row, axis] = -1 if flip else 1
            shift[row] = size[axis] - 1 if flip else 0
        self.matrix = self._matrix @ turn
        self.offset = self._matrix @ shift + self._offset
        # Large native voxels are averages over their extent.
        steps = np.sqrt((self.matrix**2).sum(axis=0))
        self._half = np.where(steps > 1.5, 0.5, 0.0) if not self._exact else np.zeros(3)

    def reach(self) -> NDArray[np.float64]:
        """How far from its centre a native voxel's value reaches, canonical ijk, interpolation
        not counted."""
        return np.abs(self.matrix) @ self._half

    def canonical_box(self, box: Box) -> Box:
        """The canonical voxels that the native ``box`` depends on; may be empty."""
        corners = _corners(box, self._half) @ self.matrix.T + self.offset
        return self._bounds(corners, self._shape, 0.0 if self._exact else 1.0)

    def native_box(self, box: Box) -> Box:
        """The native voxels that depend on the canonical ``box``, a little more; may be empty."""
        grow = np.zeros(3) if self._exact else np.ones(3)
        corners = _corners(box, grow) - self.offset
        corners = corners @ np.linalg.inv(self.matrix).T
        corners = np.concatenate([corners - self._half, corners + self._half])
        return self._bounds(corners, self._native.shape, 0.0)

    @staticmethod
    def _bounds(corners: NDArray[np.float64], shape: tuple[int, ...], slack: float) -> Box:
        low = np.floor(corners.min(axis=0) + 1e-6 - slack * 1e-3).astype(int)[::-1]
        high = np.ceil(corners.max(axis=0) - 1e-6 + slack * 1e-3).astype(int)[::-1] + 1
        parts = [
            slice(min(max(0, int(a)), n), max(0, min(int(b), n)))
            for a, b, n in zip(low, high, shape, strict=True)
        ]
        if any(part.stop <= part.start for part in parts):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        return parts[0], parts[1], parts[2]

    def __call__(self, array: NDArray[Any], box: Box) -> NDArray[np.float32]:
        """The native ``box`` of ``array`` (canonical, (K, J, I)): float32 of the box's shape.

        ``box`` has plain bounds within the native grid. Raises ``ValueError`` for an array of
        another shape.
        """
        if array.shape != self._shape:
            raise ValueError(f"array of shape {array.shape}, not {self._shape}")
        return self.from_part(array[self.canonical_box(box)], box)

    def from_part(self, source: NDArray[Any], box: Box) -> NDArray[np.float32]:
        """As calling it, with ``source`` being the ``canonical_box(box)`` of the array alone."""
        extent = tuple(max(0, part.stop - part.start) for part in box)
        needed = self.canonical_box(box)
        if min(extent) == 0 or needed[0].stop == 0:
            return np.zeros(extent, np.float32)
        ordered = self._ordered(box)
        shape = tuple(part.stop - part.start for part in ordered)
        source = np.asarray(source, dtype=np.float32)
        if self._exact:
            values = np.zeros(shape, np.float32)
            values[...] = source
        elif self._weights is not None:
            values = source
            for axis in resample.cheapest_order(source.shape, shape):
                weights = self._weights[axis][ordered[axis], needed[axis]]
                values = resample.apply_weights(values, weights, axis)
        else:
            start = np.array([part.start for part in ordered[::-1]], np.float64)
            first = np.array([part.start for part in needed[::-1]], np.float64)
            offset = self._offset + self._matrix @ start - first
            values = resample.gather_averaged(source, self._matrix, offset, shape)
        return np.ascontiguousarray(self._reorder.undo(values), dtype=np.float32)

    def _ordered(self, box: Box) -> Box:
        """``box`` in the reordered array."""
        parts = []
        for axis, flip in zip(self._reorder.axes, self._reorder.flips, strict=True):
            part, size = box[2 - axis], self._native.shape[2 - axis]
            parts.append(slice(size - part.stop, size - part.start) if flip else part)
        return parts[2], parts[1], parts[0]


def _corners(box: Box, grow: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eight corner voxels of ``box``, ``grow`` (ijk) further out; (8, 3) ijk."""
    bounds = [(part.start - g, part.stop - 1 + g) for part, g in zip(box[::-1], grow, strict=True)]
    return np.array(list(itertools.product(*bounds)), np.float64)
