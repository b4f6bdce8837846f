"""Slices of a canonical volume along the three views, and where they go back to.

A canonical array is (K, J, I) in RAS+: k runs to superior, j to anterior, i to the right. Nothing
is ever resized: slices are padded with zeros to a multiple of what the network needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, check_box, grow_box

#: Axis of the (k, j, i) array that a view slices along; its planes are the other two in order.
VIEW_AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
VIEW_SETS = {"axial": ("axial",), "triplanar": ("axial", "coronal", "sagittal")}
_AXIS_NAMES = "kji"


@dataclass(frozen=True)
class Pass:
    """One run of the network over the volume.

    Attributes
    ----------
    view: "axial" (planes j, i), "coronal" (planes k, i) or "sagittal" (planes k, j).
    flips: in-plane axes, 0 (rows) and 1 (columns), that are mirrored before and after.
    weight: share in the mean.
    """

    view: str
    flips: tuple[int, ...]
    weight: float

    @property
    def name(self) -> str:
        """For example "axial" or "coronal, flipped i"."""
        axes = [axis for axis in range(3) if axis != VIEW_AXES[self.view]]
        flipped = "".join(_AXIS_NAMES[axes[flip]] for flip in self.flips)
        return f"{self.view}, flipped {flipped}" if flipped else self.view


def passes(views: str, tta: bool = False, flip_axes: Sequence[str] = ("i",)) -> list[Pass]:
    """The passes of a set of views ("axial" or "triplanar").

    With ``tta`` each view is seen in every combination of flips along those of ``flip_axes``
    ("i" left-right, "j" front-back, "k" up-down) that lie in its plane. Left-right is the only
    mirror image that looks like another brain, so it is the default; sagittal planes have none.
    Every view has the same weight in the mean, however many flips it has; the weights sum to 1.
    Raises ``ValueError`` for unknown names.
    """
    if views not in VIEW_SETS or any(axis not in _AXIS_NAMES for axis in flip_axes):
        raise ValueError(f"unknown views {views!r} or flip axes {flip_axes!r}")
    result = []
    for view in VIEW_SETS[views]:
        plane = [name for axis, name in enumerate(_AXIS_NAMES) if axis != VIEW_AXES[view]]
        usable = [n for n, name in enumerate(plane) if tta and name in flip_axes]
        flips = [c for size in range(len(usable) + 1) for c in combinations(usable, size)]
        weight = 1.0 / (len(flips) * len(VIEW_SETS[views]))
        result += [Pass(view, flip, weight) for flip in flips]
    return result


class SliceStack:
    """The slices of one view of a volume within a box.

    Parameters
    ----------
    shape: (K, J, I) of the volume.
    box: slices are taken within it; the planes show its surroundings up to ``multiple``.
    view: a name in ``VIEW_AXES``.
    multiple: the planes' rows and columns are padded with zeros to a multiple of this.
    """

    def __init__(self, shape: Sequence[int], box: Box, view: str, multiple: int) -> None:
        self.view = view
        self.axis = VIEW_AXES[view]
        self.box = check_box(box, shape)
        # The planes are padded to that size anyway: surroundings cost no more than zeros.
        grown = grow_box(self.box, shape, multiple)
        rows, columns = (grown[axis] for axis in range(3) if axis != self.axis)
        self._plane = (rows, columns)
        self._inner = tuple(
            slice(self.box[axis].start - grown[axis].start, self.box[axis].stop - grown[axis].start)
            for axis in range(3)
            if axis != self.axis
        )
        extents = (rows.stop - rows.start, columns.stop - columns.start)
        self.size = tuple(-(-extent // multiple) * multiple for extent in extents)
        self._offset = tuple(
            (size - extent) // 2 for size, extent in zip(self.size, extents, strict=True)
        )
        self._extents = extents

    def planes(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view (no copy) of ``array``, (slices, rows, columns), before padding."""
        moved = np.moveaxis(array[self._selection()], self.axis, 0)
        return moved

    def all_planes(self, array: NDArray[Any]) -> NDArray[Any]:
        """As ``planes``, but of all slices of ``array``, those outside of the box too."""
        parts = list(self._selection())
        parts[self.axis] = slice(None)
        return np.moveaxis(array[tuple(parts)], self.axis, 0)

    def _selection(self) -> tuple[slice, ...]:
        inplane = iter(self._plane)
        return tuple(self.box[axis] if axis == self.axis else next(inplane) for axis in range(3))

    @property
    def inside(self) -> tuple[slice, slice]:
        """Where the unpadded plane lies in a padded one of ``size``."""
        rows, columns = (
            slice(start, start + extent)
            for start, extent in zip(self._offset, self._extents, strict=True)
        )
        return rows, columns

    @property
    def wanted(self) -> tuple[slice, slice]:
        """Where the box lies in a padded plane."""
        rows, columns = (
            slice(start + part.start, start + part.stop)
            for start, part in zip(self._offset, self._inner, strict=True)
        )
        return rows, columns

    def results(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of the box of ``array``, (slices, rows, columns), that ``wanted`` fits."""
        return np.moveaxis(array[self.box], self.axis, 0)
