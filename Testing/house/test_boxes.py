"""Boxes of voxels against the voxels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from StrokeLesionSegLib.boxes import (
    EMPTY,
    Box,
    bounding_box,
    check_box,
    extents,
    grow_box,
    intersect,
    is_empty,
    join,
    outside,
    whole_box,
    widen,
    within,
)

SHAPE = (5, 6, 7)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """A box within ``SHAPE``, empty at times."""
    k, j, i = (sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in SHAPE)
    return slice(*k), slice(*j), slice(*i)


def voxels(box: Box | None) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    if box is not None:
        mask[box] = True
    return mask


@settings(max_examples=100, deadline=None)
@given(boxes(), boxes())
def test_two_boxes(one: Box, other: Box) -> None:
    assert np.array_equal(voxels(intersect(one, other)), voxels(one) & voxels(other))
    both = voxels(one) | voxels(other)
    joined = join(one, other)
    assert np.array_equal(voxels(joined), voxels(bounding_box(both)))
    assert np.array_equal(voxels(join(None, one)), voxels(one))
    assert np.array_equal(voxels(join(one, None)), voxels(one))
    assert is_empty(one) == (not voxels(one).any()) == (min(extents(one)) == 0)
    if not is_empty(one):
        assert outside(within(one, other), other) == one
    assert outside(EMPTY, other) == EMPTY
    wide = widen(one, 1, SHAPE)
    assert voxels(wide)[voxels(one)].all()
    grown = grow_box(one, SHAPE, 4)
    assert voxels(grown)[voxels(one)].all()
    assert all(n % 4 == 0 or n == size for n, size in zip(extents(grown), SHAPE, strict=True))


def test_a_box_that_does_not_fit() -> None:
    assert check_box((slice(None), slice(1, None), slice(0, 2)), SHAPE) == (
        slice(0, 5),
        slice(1, 6),
        slice(0, 2),
    )
    assert check_box(whole_box(SHAPE), SHAPE) == whole_box(SHAPE)
    for part in (slice(2, 2), slice(0, 6), slice(-1, 3), slice(0, 4, 2)):
        with pytest.raises(ValueError, match="box"):
            check_box((part, slice(0, 1), slice(0, 1)), SHAPE)
    assert is_empty(None)
    assert is_empty(EMPTY)
