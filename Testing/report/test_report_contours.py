"""Outlines against the masks that they enclose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from StrokeLesionSegLib.report.contours import outline_loops, outline_path


def filled(loops: list[list[tuple[float, float]]], shape: tuple[int, int]) -> np.ndarray:
    """Which pixels' centres lie within an odd number of outlines (the even-odd rule)."""
    inside = np.zeros(shape, dtype=bool)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    for loop in loops:
        for n, (bx, by) in enumerate(loop):
            ax, ay = loop[n - 1]
            crosses = (ay > rows) != (by > rows)
            if ay != by:
                x = ax + (rows - ay) / (by - ay) * (bx - ax)
                inside ^= crosses & (columns < x)
    return inside


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_enclose_exactly_the_mask(mask: np.ndarray) -> None:
    loops = outline_loops(mask)
    np.testing.assert_array_equal(filled(loops, mask.shape), mask)
    # Cut corners: half a pixel's half square each, so areas agree with what is enclosed.
    for loop in loops:
        assert len(loop) >= 4
        assert len(set(loop)) == len(loop)


def test_known_outlines() -> None:
    assert outline_path(np.zeros((3, 3))) == ""
    assert outline_path([[1]]) == "M0.5 0L1 0.5L0.5 1L0 0.5Z"
    ring = np.ones((3, 3), dtype=int)
    ring[1, 1] = 0
    assert len(outline_loops(ring)) == 2
    # Corners alone do not connect.
    assert len(outline_loops(np.eye(2))) == 2


def test_straight_edges_have_no_points_between() -> None:
    (loop,) = outline_loops(np.ones((40, 50)))
    assert len(loop) == 8
    xs, ys = zip(*loop, strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (0, 50, 0, 40)


def test_a_slice_takes_little_time() -> None:
    import time

    rng = np.random.default_rng(0)
    mask = rng.random((233, 197)) > 0.5  # far more ragged than any lesion
    started = time.process_time()
    outline_path(mask)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_masks_have_mirrored_outlines(axis: int) -> None:
    mask = np.zeros((6, 7), dtype=bool)
    mask[1:4, 1:3] = mask[3, 3:6] = True
    size = mask.shape[axis]
    (loop,) = outline_loops(mask)
    (other,) = outline_loops(np.flip(mask, axis))
    turned = {(x, size - y) if axis == 0 else (size - x, y) for x, y in loop}
    assert turned == set(other)
