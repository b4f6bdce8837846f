"""A mask within a larger grid, as segments are written and read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...boxes import EMPTY, bounding_box
from ...images.volume import Grid


@dataclass(frozen=True)
class Patch:
    """A 0/1 mask within a larger grid: ``mask`` (k, j, i) uint8 starts at ``start`` (k, j, i)."""

    mask: NDArray[np.uint8]
    start: tuple[int, int, int]
    grid: Grid

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_], grid: Grid) -> Patch:
        """Of a mask of the whole grid, cut to the voxels that are set: only these are copied."""
        (k, j, i) = box = bounding_box(mask) or EMPTY
        return cls(mask[box].astype(np.uint8), (k.start, j.start, i.start), grid)

    def checksum(self) -> str:
        """The same for equal masks, wherever the patch was cut."""
        cut = self.trimmed()
        if not cut.mask.any():
            return "0"
        place = "-".join(map(str, (*cut.start, *cut.mask.shape)))
        return f"{zlib.crc32(np.packbits(cut.mask != 0).tobytes()):08x}-{place}"

    def trimmed(self) -> Patch:
        """Cut to the voxels that are set; this patch if there are none."""
        box = bounding_box(self.mask != 0)
        if box is None:
            return self
        k, j, i = (first + part.start for first, part in zip(self.start, box, strict=True))
        return Patch(np.ascontiguousarray(self.mask[box]), (k, j, i), self.grid)

    def grown(self, extent_ijk: Sequence[int]) -> Patch:
        """Zeros around it as far as a VTK extent (first and last i, j, k) reaches in the grid."""
        low, high = np.array(extent_ijk).reshape(3, 2)[::-1].T
        low, high = np.maximum(low, 0), np.minimum(high + 1, self.grid.shape)
        if (low >= high).any():
            return self
        start = np.array(self.start)
        first = np.minimum(start, low)
        mask = np.zeros(np.maximum(start + self.mask.shape, high) - first, np.uint8)
        k, j, i = start - first
        dk, dj, di = self.mask.shape
        mask[k : k + dk, j : j + dj, i : i + di] = self.mask
        return Patch(mask, (int(first[0]), int(first[1]), int(first[2])), self.grid)

    def full(self) -> NDArray[np.uint8]:
        """The mask on the whole grid, (K, J, I)."""
        out = np.zeros(self.grid.shape, np.uint8)
        k, j, i = self.start
        dk, dj, di = self.mask.shape
        out[k : k + dk, j : j + dj, i : i + di] = self.mask
        return out
