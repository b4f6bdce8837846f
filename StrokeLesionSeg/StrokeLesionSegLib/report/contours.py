"""Outlines of masks as SVG paths, so that they stay sharp on paper and at any zoom."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from ..images.edges import Corner, edge_loops

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
    return [_straightened(_middles(loop)) for loop in edge_loops(mask)]


def _middles(loop: Sequence[Corner]) -> list[Point]:
    """The middles of the edges of a way along pixels' corners."""
    following = [*loop[1:], loop[0]]
    return [
        ((ax + bx) / 2, (ay + by) / 2) for (ax, ay), (bx, by) in zip(loop, following, strict=True)
    ]


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
