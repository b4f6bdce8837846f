"""Connected pieces of a mask: which to keep, how to cut one in two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .regions import true_box

# How much a piece is eaten away, and its threshold raised, in search of where it comes apart.
_STEPS = 12
# Parts smaller than this share of the piece are crumbs.
_LEAST_SHARE = 0.03


def keep_pieces(
    mask: NDArray[np.bool_],
    voxel_ml: float,
    *,
    largest_only: bool = False,
    min_volume_ml: float = 0.0,
    sure: tuple[NDArray[np.floating], float] | None = None,
    mean: tuple[NDArray[np.floating], float] | None = None,
) -> NDArray[np.bool_]:
    """``mask`` without pieces (26 neighbours) below a volume, or with the largest one alone.

    ``sure`` is (values of the mask's shape, bound): pieces without a value of at least the bound
    go too; ``mean`` likewise, pieces with a lower mean. Of equally large pieces the first in memory
    stays.
    """
    from ..lesions.find import kept_components, label_components

    box = true_box(mask)
    if box[0].stop == 0:
        return mask
    labels = label_components(mask[box], connectivity=26)
    sizes = np.bincount(labels.ravel())
    reached = None if sure is None else labels[sure[0][box] >= sure[1]]
    keep = kept_components(sizes, voxel_ml, min_volume_ml, reached)
    if mean is not None and mean[1] > 0:
        inside = labels > 0
        sums = np.bincount(labels[inside], mean[0][box][inside].astype(np.float64), len(sizes))
        keep &= sums >= mean[1] * sizes * (1 - 1e-6)
    if largest_only:
        only = int(np.argmax(np.where(keep, sizes, 0)))
        keep[:] = np.arange(len(sizes)) == only if keep[only] else False
    result = np.zeros_like(mask)
    result[box] = keep[labels]
    return result


def split_piece(
    piece: NDArray[np.bool_],
    probability: NDArray[np.float32],
    spacing_kji: tuple[float, float, float],
) -> NDArray[np.int32]:
    """Labels 1, 2, ... (largest first) of the parts of a connected piece; 0 outside of it.

    Cut where it is thinnest or, if that comes first, least probable: both are raised in steps until
    what is left comes apart, and every voxel goes to the nearest of the parts. A piece that never
    comes apart is cut in half across its longest axis. A single voxel stays one part.
    """
    from scipy.ndimage import distance_transform_edt

    from ..lesions.find import label_components

    count = int(piece.sum())
    if count < 2:
        return piece.astype(np.int32)
    padded = np.pad(piece, 1)
    depth = distance_transform_edt(padded, sampling=spacing_kji)[1:-1, 1:-1, 1:-1]
    inside = probability[piece]
    least = max(1, round(_LEAST_SHARE * count))
    seeds: NDArray[np.int32] | None = None
    for step in range(1, _STEPS + 1):
        share = step / (_STEPS + 1)
        deep = depth > share * depth.max()
        bound = float(inside.min() + share * (inside.max() - inside.min()))
        for core in (piece & deep, piece & (probability > bound)):
            labels = label_components(core, connectivity=26)
            sizes = np.bincount(labels.ravel())[1:]
            big = np.flatnonzero(sizes >= least) + 1
            if len(big) >= 2:
                seeds = np.where(np.isin(labels, big), labels, 0)
                break
        if seeds is not None:
            break
    if seeds is None:
        seeds = _halves(piece, spacing_kji)
    nearest = distance_transform_edt(
        seeds == 0, sampling=spacing_kji, return_distances=False, return_indices=True
    )
    parts = np.where(piece, seeds[tuple(nearest)], 0)
    names, sizes = np.unique(parts[piece], return_counts=True)
    table = np.zeros(int(names.max()) + 1, np.int32)
    table[names[np.lexsort((names, -sizes))]] = np.arange(1, len(names) + 1)
    return table[parts]


def _halves(piece: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.int32]:
    places = np.argwhere(piece) * np.array(spacing)
    centred = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    along = centred @ axes[0]
    order = np.argsort(along, kind="stable")
    second = np.zeros(len(along), bool)
    second[order[len(order) // 2 :]] = True
    seeds = np.zeros(piece.shape, np.int32)
    seeds[piece] = 1 + second
    return seeds
