"""Label maps on another grid, by the nearest voxel; only the box that holds labels is looked up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box
from ..volume import Grid, Volume


def nearest_labels(
    labels: Volume, to_world: NDArray[np.float64], grid: Grid
) -> tuple[Box, NDArray[Any]] | None:
    """The labels (0 is background) on ``grid``: the box (k, j, i) that holds them and its values.

    ``to_world``: 4x4, RAS mm of ``labels`` to RAS mm of ``grid``. None if no label lies there.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Grid, Volume, nearest_labels
    >>> labels = Volume(np.ones((2, 2, 2), np.int32), np.eye(4))
    >>> box, values = nearest_labels(labels, np.eye(4), Grid((5, 5, 5), np.eye(4)))
    >>> int(values.sum())
    8
    """
    where = np.nonzero(labels.array)
    if not where[0].size:
        return None
    to_grid = np.linalg.inv(grid.affine) @ to_world @ labels.affine
    k, j, i = (np.array([v.min() - 0.5, v.max() + 0.5]) for v in where)
    corners = np.array([[a, b, c, 1.0] for a in i for b in j for c in k]).T
    placed = (to_grid @ corners)[:3]
    size = np.array(grid.shape[::-1])
    low = np.clip(np.floor(placed.min(axis=1)), 0, size).astype(int)
    high = np.clip(np.ceil(placed.max(axis=1)) + 1, 0, size).astype(int)
    if (high <= low).any():
        return None
    gi, gj, gk = (np.arange(a, b, dtype=np.float64) for a, b in zip(low, high, strict=True))
    back = np.linalg.inv(to_grid)
    limits = labels.array.shape[::-1]
    values = np.zeros((len(gk), len(gj), len(gi)), dtype=labels.array.dtype)
    for n, height in enumerate(gk):
        source = [
            np.rint(
                back[axis, 0] * gi[None, :]
                + back[axis, 1] * gj[:, None]
                + back[axis, 2] * height
                + back[axis, 3]
            ).astype(np.int64)
            for axis in range(3)
        ]
        inside = np.ones(source[0].shape, dtype=bool)
        for axis in range(3):
            inside &= (source[axis] >= 0) & (source[axis] < limits[axis])
        si, sj, sk = (s[inside] for s in source)
        values[n][inside] = labels.array[sk, sj, si]
    i_box, j_box, k_box = (slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return (k_box, j_box, i_box), values
