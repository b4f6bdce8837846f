"""A scan on the grid that a predictor asks for, and its answer back on the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..images.volume import Grid, Volume

if TYPE_CHECKING:
    from ..images import Alignment, Canonical


@dataclass(frozen=True)
class TargetGrid:
    """The grid that a predictor works on.

    Attributes
    ----------
    name: "canonical" (RAS, 1 mm: ``MNI_GRID`` where the scan is aligned, else the scan's own
        extent), "native" (the scan's own grid), or the name of a grid in MNI space.
    grid: that grid, for a name of the last kind.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import MNI_GRID
    >>> from StrokeLesionSegLib.inference import TargetGrid
    >>> TargetGrid("mni152-2009a-1mm", MNI_GRID).grid.shape
    (189, 233, 197)
    """

    name: str
    grid: Grid | None = None

    def __post_init__(self) -> None:
        if (self.grid is None) != (self.name in ("canonical", "native")):
            raise ValueError(f"grid {self.name!r}: only one in MNI space is given with its name")


#: RAS, 1 mm, in MNI152 space where the scan could be aligned.
CANONICAL = TargetGrid("canonical")
#: The scan's own grid.
NATIVE = TargetGrid("native")


@dataclass(frozen=True)
class PlacedScan:
    """A scan on a predictor's grid, and the way back.

    Attributes
    ----------
    volume: (K, J, I) float32 on the predictor's grid, intensities as they are in the scan. The
        array belongs to whoever got the ``PlacedScan`` and may be overwritten.
    native: the scan's own grid.
    alignment: the alignment that was applied, or None.
    in_mni: the affine of ``volume`` maps to MNI152 RAS mm, as far as alignment or scan say.
    canonical: what ``images.to_canonical`` returned; None on the native grid.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import NATIVE
    >>> from StrokeLesionSegLib.inference.placing import place
    >>> volume = Volume(np.zeros((8, 9, 10), np.int16), np.eye(4))
    >>> placed = place(volume, None, NATIVE)
    >>> placed.exact, placed.to_native(placed.volume.array).grid.same_as(volume.grid)
    (True, True)
    """

    volume: Volume
    native: Grid
    alignment: Alignment | None
    in_mni: bool
    canonical: Canonical | None = None

    @property
    def exact(self) -> bool:
        """True if no voxel was interpolated."""
        return self.canonical is None or self.canonical.exact

    def without_values(self) -> PlacedScan:
        """The same place without the scan's intensities, zeros that take no memory: all that the
        way back needs."""
        volume = self.volume.with_array(np.broadcast_to(np.float32(0), self.volume.array.shape))
        canonical = None if self.canonical is None else replace(self.canonical, volume=volume)
        return replace(self, volume=volume, canonical=canonical)

    def to_native(self, array_kji: NDArray[Any]) -> Volume:
        """An array on the grid of ``volume``, brought to the scan's own grid: float32, linear.

        Raises ``ValueError`` for an array of another shape.
        """
        from ..images import from_canonical

        if self.canonical is not None:
            return from_canonical(array_kji, self.canonical)
        if array_kji.shape != self.native.shape:
            raise ValueError(f"array of shape {array_kji.shape}, not {self.native.shape}")
        return Volume(np.array(array_kji, np.float32, order="C"), self.native.affine.copy())


def place(volume: Volume, alignment: Alignment | None, target: TargetGrid) -> PlacedScan:
    """``volume`` on the grid ``target``; ``alignment`` is applied unless the grid is native.

    On a grid in MNI space a scan without alignment is taken to lie in MNI space as it is.
    """
    from ..images import MNI_GRID, Alignment, lies_on_mni_grid, to_canonical
    from ..images.space.brainbox import on_mni_grid

    if target.name == "native":
        array = np.array(volume.array, np.float32, order="C")
        lies_there = alignment is None and volume.grid.same_as(MNI_GRID)
        if alignment is None and not lies_there and lies_on_mni_grid(volume.grid):
            # There, but for the order of its axes, which leaves the array no middle plane to flip.
            alignment = Alignment.identity()
        return PlacedScan(Volume(array, volume.affine), volume.grid, alignment, lies_there)
    if target.grid is not None and alignment is None:
        alignment = Alignment.identity()
    canonical = to_canonical(volume, alignment, target.grid)
    in_mni = target.grid is not None or on_mni_grid(canonical)
    return PlacedScan(canonical.volume, volume.grid, canonical.alignment, in_mni, canonical)
