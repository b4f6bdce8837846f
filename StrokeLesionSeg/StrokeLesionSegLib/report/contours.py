"""Outlines of masks as SVG paths, so that they stay sharp on paper and at any zoom."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Point = tuple[float, float]


def outline_path(mask: ArrayLike) -> str:
    """The outlines of a 2D mask (rows, columns) as the ``d`` of an SVG path, or empty.

    One unit is one pixel, (0, 0) the upper left corner of the first pixel, x to the right, y
    down. Outlines run through the middles of the pixels' edges, which cuts the corners of the
    staircase; holes are outlined too. Pixels that touch with a corner only are kept apart.
    """
    return "".join(_path(loop) for loop in outline_loops(mask))


def outline_loops(mask: ArrayLike) -> list[list[Point]]:
    """The closed outlines of a 2D mask as lists of (x, y) in pixels; see ``outline_path``."""
    inside = np.pad(np.asarray(mask, dtype=bool), 1)
    edges = _edges(inside)
    loops = []
    while edges:
        start = next(iter(edges))
        loops.append(_straightened(_follow(edges, start)))
    return loops


def _edges(inside: NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Directed pixel edges between inside and outside, inside on their right: from, to (x, y)."""
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    core = inside[1:-1, 1:-1]
    sides = (
        (core & ~inside[:-2, 1:-1], (0, 0), (1, 0)),  # above: to the right
        (core & ~inside[1:-1, 2:], (1, 0), (1, 1)),  # right: down
        (core & ~inside[2:, 1:-1], (1, 1), (0, 1)),  # below: to the left
        (core & ~inside[1:-1, :-2], (0, 1), (0, 0)),  # left: up
    )
    for where, (ax, ay), (bx, by) in sides:
        for row, column in np.argwhere(where).tolist():
            edges.setdefault((column + ax, row + ay), []).append((column + bx, row + by))
    return edges


def _follow(
    edges: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]
) -> list[Point]:
    """Take one closed outline out of ``edges``; the middles of its edges."""
    middles: list[Point] = []
    here = start
    before: tuple[int, int] | None = None
    while True:
        ends = edges[here]
        if before is None or len(ends) == 1:
            there = ends.pop()
        else:
            # Two pixels touch with a corner: turning right stays with the one we are on.
            right = (here[0] - before[1], here[1] + before[0])
            there = right if right in ends else ends[0]
            ends.remove(there)
        if not ends:
            del edges[here]
        middles.append(((here[0] + there[0]) / 2, (here[1] + there[1]) / 2))
        before = (there[0] - here[0], there[1] - here[1])
        here = there
        if here == start:
            return middles


def _straightened(points: list[Point]) -> list[Point]:
    """Without the points that lie on the line between their neighbours."""
    kept = []
    for n, (x, y) in enumerate(points):
        (ax, ay), (bx, by) = points[n - 1], points[(n + 1) % len(points)]
        if (x - ax) * (by - y) != (y - ay) * (bx - x):
            kept.append((x, y))
    return kept


def _path(loop: list[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in loop) + "Z"
