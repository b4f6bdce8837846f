"""An atlas in MNI space: its regions with their sides and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from ..images import Volume
from ..lesions.measure import LEFT, RIGHT
from .labels import without_side

# A label lies on a side if at least this share of its voxels does.
_ON_A_SIDE = 0.8
# Up to here counts are kept in a list as long as the largest value.
_LARGEST_CODE = 1_000_000


def left_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for points left of the mid-sagittal plane, MNI x in mm; 0 right of it, half within it."""
    return np.where(np.abs(x) < 1e-6, 0.5, (x < 0).astype(np.float64))


def present_values(values: NDArray[np.integer]) -> list[int]:
    """The values above 0 of an array of whole numbers, in their order."""
    if values.size and values.max() <= _LARGEST_CODE:
        found = np.zeros(int(values.max()) + 1, dtype=bool)
        found[values.ravel()] = True
        return [n for n in np.flatnonzero(found).tolist() if n]
    return [int(n) for n in np.unique(values) if n]


@dataclass(frozen=True, eq=False)
class Atlas:
    """A label map in MNI152 space.

    Attributes
    ----------
    title: its name. values: (K, J, I) whole numbers, 0 outside every region.
    affine: 4x4, ijk to RAS mm of MNI152NLin2009aSym.
    names: region names by value; a value without one is called "region N".
    notes: one sentence each, about what is odd.
    counted: ``voxels``, if that is known beforehand.

    Examples
    --------
    >>> from StrokeLesionSegLib.atlases import Atlas
    >>> atlas = Atlas("halves", np.ones((4, 4, 4), np.int32), np.eye(4), {1: "left half"})
    >>> atlas.name(1), atlas.name(2)
    ('left half', 'region 2')
    """

    title: str
    values: NDArray[np.integer]
    affine: NDArray[np.float64]
    names: Mapping[int, str]
    notes: tuple[str, ...] = ()
    counted: Mapping[int, tuple[float, float]] | None = None

    __repr__ = brief_repr

    def name(self, value: int) -> str:
        """The name of a region as the atlas gives it."""
        return self.names.get(value, f"region {value}")

    @cached_property
    def voxels(self) -> dict[int, tuple[float, float]]:
        """Voxels of each region left and right of the mid-sagittal plane; half each within it."""
        if self.counted is not None:
            return dict(self.counted)
        present = present_values(self.values)
        # Of small values the counts lie in a list by value; Allen's own go into the hundreds of
        # millions.
        small = not present or present[-1] <= _LARGEST_CODE
        length = (present[-1] if present else 0) + 1 if small else len(present) + 1
        left, every = np.zeros(length), np.zeros(length)
        weights = None
        for k, plane in enumerate(self.values):
            if not plane.any():
                continue
            codes = plane if small else np.searchsorted([0, *present], plane)
            if weights is None or self.affine[0, 2]:
                weights = self._left_of(k)
            every += np.bincount(codes.ravel(), minlength=length)
            left += np.bincount(codes.ravel(), weights, length)
        order = present if small else range(1, length)
        return {
            value: (float(left[n]), float(every[n] - left[n]))
            for value, n in zip(present, order, strict=True)
        }

    def _left_of(self, k: int) -> NDArray[np.float64]:
        """Share of each voxel of a plane (k) that lies left of x = 0."""
        _, j, i = self.values.shape
        rows = self.affine[0, 1] * np.arange(j)[:, None] + self.affine[0, 0] * np.arange(i)
        x = (rows + self.affine[0, 2] * k + self.affine[0, 3]).ravel()
        return left_of(x)

    @cached_property
    def regions(self) -> dict[int, tuple[str, str]]:
        """Name and side of each region; no side if it has parts on both.

        A name's side counts only if the region lies there.
        """
        found = {}
        for value, (left, right) in self.voxels.items():
            bare, side = without_side(self.name(value))
            if side:
                share = left / (left + right)
                if share >= _ON_A_SIDE:
                    side = LEFT
                elif share <= 1 - _ON_A_SIDE:
                    side = RIGHT
            found[value] = (bare if side else self.name(value), side)
        return found

    @cached_property
    def sizes_ml(self) -> dict[tuple[str, str], float]:
        """Volume in MNI space of each region and side, mL."""
        voxel_ml = Volume(self.values, self.affine).grid.voxel_volume_ml
        sizes: dict[tuple[str, str], float] = {}
        for value, (left, right) in self.voxels.items():
            name, side = self.regions[value]
            parts = {side: left + right} if side else {LEFT: left, RIGHT: right}
            for where, count in parts.items():
                sizes[name, where] = sizes.get((name, where), 0.0) + count * voxel_ml
        return sizes
