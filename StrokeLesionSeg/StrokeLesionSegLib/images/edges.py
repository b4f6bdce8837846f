"""The ways along pixels' edges around a mask of one slice: for pictures, and for DICOM contours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: A corner of pixels, x and y: (0, 0) is the upper left one of the first pixel.
Corner = tuple[int, int]


def edge_loops(mask: ArrayLike) -> list[list[Corner]]:
    """The closed ways around a mask (rows, columns) and its holes, corner by corner.

    x goes to the right, y down; the mask is on the right of each way, whose last corner joins the
    first. Pixels that touch with a corner only are kept apart.
    """
    ways = _edges(np.pad(np.asarray(mask, dtype=bool), 1))
    loops = []
    while ways:
        loops.append(_follow(ways, next(iter(ways))))
    return loops


def _edges(inside: NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """Edges between inside and outside, inside on their right: from each corner to the next."""
    ways: dict[Corner, list[Corner]] = {}
    core = inside[1:-1, 1:-1]
    sides = (
        (core & ~inside[:-2, 1:-1], (0, 0), (1, 0)),  # above: to the right
        (core & ~inside[1:-1, 2:], (1, 0), (1, 1)),  # right: down
        (core & ~inside[2:, 1:-1], (1, 1), (0, 1)),  # below: to the left
        (core & ~inside[1:-1, :-2], (0, 1), (0, 0)),  # left: up
    )
    for where, (ax, ay), (bx, by) in sides:
        for row, column in np.argwhere(where).tolist():
            ways.setdefault((column + ax, row + ay), []).append((column + bx, row + by))
    return ways


def _follow(ways: dict[Corner, list[Corner]], start: Corner) -> list[Corner]:
    """Take one closed way out of ``ways``."""
    loop: list[Corner] = []
    here = start
    before: Corner | None = None
    while True:
        ends = ways[here]
        if before is None or len(ends) == 1:
            there = ends.pop()
        else:
            # Two pixels touch with a corner: turning right stays with the one we are on.
            right = (here[0] - before[1], here[1] + before[0])
            there = right if right in ends else ends[0]
            ends.remove(there)
        if not ends:
            del ways[here]
        loop.append(here)
        before = (there[0] - here[0], there[1] - here[1])
        here = there
        if here == start:
            return loop
