"""Between a scan's own grid and the head box that the volumetric network sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, extents, intersect, is_empty, whole_box, within
from ..inference.head_box import HEAD_SHAPE

if TYPE_CHECKING:
    from ..images import Canonical


class HeadMap:
    """Places, masks and probabilities of one scan on both grids, in boxes.

    The head box has voxels of 1 mm and the shape ``HEAD_SHAPE``; an array on it is a *head array*.
    What it costs to open (a quarter of a second) is the index of the native voxel that lies nearest
    to each of its voxels.

    Attributes
    ----------
    canonical: what ``images.to_canonical`` made of the scan.
    start: voxel k, j, i of the canonical grid that is voxel 0 of the head box; may be negative.
    """

    def __init__(self, canonical: Canonical, start: tuple[int, int, int]) -> None:
        from ..images.space.partial import NativeParts

        self.canonical, self.start = canonical, start
        self._parts = NativeParts(canonical)
        self._shape = canonical.native.shape
        matrix = self._parts.matrix[::-1, ::-1]
        self._matrix = matrix
        self._offset = self._parts.offset[::-1] - np.array(start, np.float64)
        #: How far in mm a step to any neighbouring native voxel leads, along k, j, i of the box.
        self.step = np.abs(matrix).sum(axis=1)
        self._nearest, self._inside = self._index()

    def place_of(self, voxels: NDArray[Any]) -> NDArray[np.float64]:
        """(n, 3) native voxels k, j, i to places k, j, i on the head box, fractions."""
        return np.asarray(voxels, np.float64) @ self._matrix.T + self._offset

    def native_box(self, box: Box) -> Box:
        """The native voxels that depend on a box of the head box; may be empty."""
        return self._parts.native_box(self._on_canonical(box))

    def mask_in(self, mask: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
        """A native mask on a box of the head box, by the nearest voxel; False beyond the scan."""
        found = np.take(mask.reshape(-1), self._nearest[box])
        if self._inside is not None:
            found &= self._inside[box]
        return found

    def native_needs(self, box: Box) -> Box:
        """The part of the head box that the native ``box`` depends on; may leave the head box, and
        may be empty."""
        return self._on_head(self._parts.canonical_box(box))

    def to_native(self, values: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        """The native ``box`` of the head array whose ``native_needs(box)`` is ``values``."""
        return self._parts.from_part(values, box)

    def all_to_native(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A whole head array on the native grid, 0 beyond: as ``from_canonical`` has it."""
        box = whole_box(self._shape)
        needs = self.native_needs(box)
        part = np.zeros(extents(needs), np.float32)
        shared = intersect(needs, whole_box(HEAD_SHAPE))
        if not is_empty(shared):
            part[within(shared, needs)] = values[shared]
        return self.to_native(part, box)

    def from_native(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A native array as head array, linear, 0 beyond."""
        from ..images import Volume, to_canonical

        native = Volume(values, self.canonical.native.affine)
        canonical = to_canonical(native, self.canonical.alignment).volume.array
        out = np.zeros(HEAD_SHAPE, np.float32)
        there = whole_box(canonical.shape)
        shared = intersect(self._on_canonical(whole_box(HEAD_SHAPE)), there)
        if not is_empty(shared):
            out[self._on_head(shared)] = canonical[shared]
        return out

    def _on_canonical(self, box: Box) -> Box:
        k, j, i = (
            slice(part.start + a, part.stop + a) for part, a in zip(box, self.start, strict=True)
        )
        return k, j, i

    def _on_head(self, box: Box) -> Box:
        k, j, i = (
            slice(part.start - a, part.stop - a) for part, a in zip(box, self.start, strict=True)
        )
        return k, j, i

    def _index(self) -> tuple[NDArray[np.int32], NDArray[np.bool_] | None]:
        """Flat native index of the nearest voxel to each one of the head box, and which of them
        lie in the scan (None: all do)."""
        back = np.linalg.inv(self._matrix)
        offset = -back @ self._offset
        k, j, i = np.ogrid[tuple(slice(0, n) for n in HEAD_SHAPE)]
        flat = np.zeros(HEAD_SHAPE, np.int32)
        inside = np.ones(HEAD_SHAPE, bool)
        for axis, size in enumerate(self._shape):
            along = [(back[axis, n] * grid).astype(np.float32) for n, grid in enumerate((k, j, i))]
            place = along[0] + np.float32(offset[axis] + 0.5) + along[1] + along[2]
            np.floor(place, out=place)
            index = place.astype(np.int32)
            inside &= (index >= 0) & (index < size)
            np.clip(index, 0, size - 1, out=index)
            flat *= size
            flat += index
        return flat, None if inside.all() else inside
