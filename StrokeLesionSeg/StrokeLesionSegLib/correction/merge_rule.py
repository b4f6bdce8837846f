"""The one rule by which a click changes a mask. Arrays only: no network, no scan.

A click on a voxel that the mask already has as clicked changes nothing. Any other click changes one
26-connected set of voxels that holds the clicked one, and all of it in the click's direction. What
a hand painted or erased, and what was clicked before, is *held*: it changes only where it is
clicked itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..boxes import EMPTY, Box, bounding_box, extents, intersect, join, outside, widen
from .change import Voxel

# A first window around the clicks, in voxels; most changes end within.
_MARGIN = 8


def merge(
    mask: NDArray[np.bool_],
    held: NDArray[np.bool_],
    proposal: NDArray[np.bool_],
    near: NDArray[np.bool_],
    clicked: NDArray[np.bool_],
    lesion: bool,
) -> NDArray[np.bool_]:
    """The voxels that change: to lesion if ``lesion``, else to not lesion.

    All arrays are bool, (K, J, I). ``mask``: the mask that is corrected. ``held``: voxels that may
    change only where they are clicked. ``proposal``: what the model takes for lesion, knowing the
    clicks. ``near``: what is painted around the clicks whatever the model says. ``clicked``: the
    voxels of this click, or of all clicks of this stroke.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import merge
    >>> row = lambda text: np.array([[[c == "x" for c in text]]])
    >>> found = merge(row("x......"), row("......."), row("x.xxx.x"), row("...x..."),
    ...               row("...x..."), True)
    >>> "".join(".x"[int(v)] for v in found.ravel())
    '..xxx..'
    """
    wrong = ~mask if lesion else mask
    seeds = clicked & wrong
    if not seeds.any():
        return np.zeros(mask.shape, bool)
    allowed = ((proposal if lesion else ~proposal) | near) & wrong & ~held
    return pieces_with(seeds, allowed | seeds)


def pieces_with(seeds: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces of a mask, of two or three axes, that hold one of the seeds; voxels of a piece
    touch at least at a corner."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, bool))
    kept = np.zeros(count + 1, bool)
    kept[labels[seeds]] = True
    kept[0] = False
    return np.asarray(kept[labels])


def merge_around(
    mask: NDArray[np.bool_],
    held: Callable[[Box], NDArray[np.bool_]],
    propose: Callable[[Box], NDArray[np.bool_]],
    near: Callable[[Box], NDArray[np.bool_]],
    voxels: Sequence[Voxel],
    lesion: bool,
    limit: Box,
) -> tuple[Box, NDArray[np.bool_], int]:
    """``merge`` on a large array, which costs what the change costs.

    Looks at a window around ``voxels`` and widens it until the change ends within it, or at
    ``limit``, the box beyond which the model proposes no change; the result is that of ``merge`` on
    all of it. ``held``, ``propose`` and ``near`` give their part of a box.

    Returns the smallest box that holds the change, the change in it, and how many of its voxels
    the model proposed.
    """
    seeds = _around(voxels, mask.shape)
    limit = join(limit, seeds) or seeds
    margin = _MARGIN
    while True:
        window = intersect(widen(seeds, margin, mask.shape), limit)
        part = mask[window]
        clicked = np.zeros(extents(window), bool)
        for voxel in voxels:
            clicked[tuple(n - s.start for n, s in zip(voxel, window, strict=True))] = True
        proposal = propose(window)
        changed = merge(part, held(window), proposal, near(window), clicked, lesion)
        box = bounding_box(changed)
        if box is None:
            return EMPTY, np.zeros((0, 0, 0), bool), 0
        found = outside(box, window)
        if window == limit or not _touches(found, window, limit):
            by_model = changed & (proposal if lesion else ~proposal)
            return found, np.ascontiguousarray(changed[box]), int(np.count_nonzero(by_model))
        margin *= 2


def _around(voxels: Sequence[Voxel], shape: tuple[int, ...]) -> Box:
    """The box of the clicked voxels and of what is painted around them."""
    places = np.array(voxels)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    k, j, i = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return widen((k, j, i), _MARGIN, shape)


def _touches(box: Box, window: Box, limit: Box) -> bool:
    """Whether ``box`` reaches a face of ``window`` that is not one of ``limit``."""
    return any(
        b.start == w.start > e.start or b.stop == w.stop < e.stop
        for b, w, e in zip(box, window, limit, strict=True)
    )
