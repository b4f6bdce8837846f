"""What an editing session hands out: boxes, clicks and candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: (k, j, i) slices with plain bounds, of voxels on the native grid unless said otherwise.
Box = tuple[slice, slice, slice]

#: A box without voxels.
EMPTY: Box = (slice(0, 0), slice(0, 0), slice(0, 0))

STATES = ("open", "accepted", "rejected")


@dataclass(frozen=True)
class Click:
    """One click of the user.

    Attributes
    ----------
    id: stays the same when the click is moved.
    ras_mm: place in the native scan's RAS mm.
    positive: "this is lesion" if true, else "this is not".
    axis: native array axis (0 k, 1 j, 2 i) of the slice that was clicked in.
    """

    id: int
    ras_mm: tuple[float, float, float]
    positive: bool
    axis: int = 0


@dataclass(frozen=True)
class Candidate:
    """One connected piece (26 neighbours) of what the model marks.

    Attributes
    ----------
    id: stays the same while the piece lies mostly where it lay. box: native voxels.
    volume_ml: by the affine's determinant. mean_probability: over its voxels, 0 to 1.
    doubt: mean binary entropy of its voxels' probabilities in bits, 0 (sure) to 1 (could be
        either).
    centroid_ras_mm: mean of its voxel centres; ``voxel_ras_mm`` is the centre of one of its own
        voxels near that, which is where the views should jump.
    state: "open", "accepted" or "rejected".
    """

    id: int
    box: Box
    voxels: int
    volume_ml: float
    mean_probability: float
    doubt: float
    centroid_ras_mm: tuple[float, float, float]
    voxel_ras_mm: tuple[float, float, float]
    state: str = "open"


def extents(box: Sequence[slice]) -> tuple[int, int, int]:
    """The shape of an array that fits ``box``."""
    k, j, i = (max(0, part.stop - part.start) for part in box)
    return k, j, i


def is_empty(box: Sequence[slice]) -> bool:
    """True if no voxel lies in ``box``."""
    return min(extents(box)) == 0


def intersect(a: Sequence[slice], b: Sequence[slice]) -> Box:
    """The box of what two boxes share; ``EMPTY`` if that is nothing."""
    parts = [slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True)]
    return EMPTY if is_empty(parts) else (parts[0], parts[1], parts[2])


def join(a: Box, b: Box) -> Box:
    """The smallest box that holds both; an empty one adds nothing."""
    if is_empty(a):
        return b
    if is_empty(b):
        return a
    parts = [slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True)]
    return parts[0], parts[1], parts[2]


def within(box: Sequence[slice], outer: Sequence[slice]) -> Box:
    """``box`` in the indices of an array that covers ``outer``."""
    parts = [slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True)]
    return parts[0], parts[1], parts[2]


def outside(box: Sequence[slice], outer: Sequence[slice]) -> Box:
    """The reverse of ``within``; an empty box stays empty."""
    if is_empty(box):
        return EMPTY
    parts = [slice(a.start + b.start, a.stop + b.start) for a, b in zip(box, outer, strict=True)]
    return parts[0], parts[1], parts[2]
