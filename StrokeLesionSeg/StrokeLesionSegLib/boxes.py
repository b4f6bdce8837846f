"""Boxes of voxels: (k, j, i) slices with plain bounds, ``start`` and ``stop``, and no step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]

#: A box without voxels.
EMPTY: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


def whole_box(shape: Sequence[int]) -> Box:
    """The box of a whole (K, J, I) array."""
    k, j, i = (slice(0, int(n)) for n in shape)
    return k, j, i


def extents(box: Sequence[slice]) -> tuple[int, int, int]:
    """The shape of an array that fits ``box``."""
    k, j, i = (max(0, part.stop - part.start) for part in box)
    return k, j, i


def is_empty(box: Sequence[slice] | None) -> bool:
    """True for None and for a box without voxels."""
    return box is None or min(extents(box)) == 0


def intersect(one: Sequence[slice], other: Sequence[slice]) -> Box:
    """The box of what two boxes share; ``EMPTY`` if that is nothing."""
    k, j, i = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return EMPTY if is_empty((k, j, i)) else (k, j, i)


def join(one: Box | None, other: Box | None) -> Box | None:
    """The smallest box that holds both; None and an empty box add nothing."""
    if one is None or other is None or is_empty(one) or is_empty(other):
        return other if is_empty(one) else one
    k, j, i = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return k, j, i


def within(box: Sequence[slice], outer: Sequence[slice]) -> Box:
    """``box`` in the indices of an array that covers ``outer``."""
    k, j, i = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))
    return k, j, i


def outside(box: Sequence[slice], outer: Sequence[slice]) -> Box:
    """The reverse of ``within``; an empty box stays empty."""
    if is_empty(box):
        return EMPTY
    k, j, i = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(box, outer, strict=True))
    return k, j, i


def check_box(box: Box, shape: Sequence[int]) -> Box:
    """``box`` with plain bounds; raises ``ValueError`` if it is empty or leaves the array."""
    plain = []
    for part, size in zip(box, shape, strict=True):
        start, stop, step = part.indices(size)
        if step != 1 or stop <= start:
            raise ValueError(f"box {box} is empty or strided in an array of {tuple(shape)}")
        if (part.start or 0) < 0 or (part.stop is not None and part.stop > size):
            raise ValueError(f"box {box} leaves an array of {tuple(shape)}")
        plain.append(slice(start, stop))
    k, j, i = plain
    return k, j, i


def grow_box(box: Box, shape: Sequence[int], multiple: int) -> Box:
    """``box`` grown to a multiple of ``multiple`` along each axis, as far as the array reaches."""
    grown = []
    for part, size in zip(box, shape, strict=True):
        extent = part.stop - part.start
        target = min(-(-extent // multiple) * multiple, size)
        start = min(max(0, part.start - (target - extent) // 2), size - target)
        grown.append(slice(start, start + target))
    k, j, i = grown
    return k, j, i


def widen(box: Box, margin: int, shape: Sequence[int]) -> Box:
    """``box`` with ``margin`` voxels more on every side, as far as the array reaches."""
    k, j, i = (
        slice(max(0, part.start - margin), min(int(size), part.stop + margin))
        for part, size in zip(box, shape, strict=True)
    )
    return k, j, i


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box that holds all true voxels of a (K, J, I) mask; None if there are none."""
    # One pass over the volume; the other two axes look at a plane.
    plane = np.asarray(mask.any(axis=0))
    if not plane.any():
        return None
    inner = (_span(plane.any(axis=1)), _span(plane.any(axis=0)))
    return _span(mask[(slice(None), *inner)].any(axis=(1, 2))), *inner


def _span(line: Any) -> slice:
    """From the first to the last true element."""
    there = np.flatnonzero(line)
    return slice(int(there[0]), int(there[-1]) + 1)
