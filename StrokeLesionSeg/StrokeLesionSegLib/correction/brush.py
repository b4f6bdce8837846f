"""Which voxels one touch of a brush covers, and which of them it changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..boxes import EMPTY, Box, intersect, is_empty, whole_box
from ..images.volume import Grid

#: A stroke that follows its first point takes what has at least this share of its probability, of
#: lesion when it paints and of no lesion when it erases.
FLOOR_SHARE = 0.6
#: ... but never voxels below this, however faint the place where it began.
LOWEST_FLOOR = 0.02


def footprint(
    grid: Grid,
    centre_ras: NDArray[np.float64],
    radius_mm: float,
    normal_ras: NDArray[np.float64] | None,
) -> tuple[Box, NDArray[np.bool_]]:
    """The voxels of a sphere, or of a disk across ``normal_ras``, by their centres.

    A disk holds the voxels that are nearest to its plane in their row, without holes on oblique
    planes.

    Parameters
    ----------
    centre_ras : (3,), RAS mm of the middle.
    radius_mm : its radius.
    normal_ras : (3,), across the disk, of any length; None for a sphere.

    Returns
    -------
    The box of the voxels, cut to the grid, and a bool array of its shape.

    Raises
    ------
    ValueError : a radius that is not positive, a centre that is nowhere, a normal of length 0.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import footprint
    >>> from StrokeLesionSegLib.images import Grid
    >>> grid = Grid((9, 9, 9), np.eye(4))
    >>> box, inside = footprint(grid, np.array([4.0, 4.0, 4.0]), 1.0, None)
    >>> inside.shape, int(inside.sum())
    ((3, 3, 3), 7)
    """
    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise ValueError(f"a brush has a radius, not {radius_mm} mm")
    if not np.isfinite(centre_ras).all():
        raise ValueError("the brush is nowhere: its centre is not finite")
    to_index = np.linalg.inv(grid.affine)
    centre = to_index[:3, :3] @ centre_ras + to_index[:3, 3]
    half = 0.0
    if normal_ras is not None:
        normal = np.asarray(normal_ras, np.float64)
        if not np.linalg.norm(normal) > 0:
            raise ValueError("a disk has a normal of some length")
        normal = normal / np.linalg.norm(normal)
        # Half the distance of two planes of voxels: of two equally near ones only one counts.
        half = float(np.abs(normal @ grid.affine[:3, :3]).max()) / 2
    # The image of a ball: each index reaches as far as its row of the inverse is long. Voxels of a
    # thick slice may be further from the disk's plane than the brush is wide.
    reach = np.hypot(radius_mm, 2 * half) * np.sqrt((to_index[:3, :3] ** 2).sum(axis=1))
    low = np.ceil(centre - reach - 1e-6).astype(int)[::-1]
    high = np.floor(centre + reach + 1e-6).astype(int)[::-1] + 1
    k, j, i = (slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True))
    box = intersect((k, j, i), whole_box(grid.shape))
    if is_empty(box):
        return EMPTY, np.zeros((0, 0, 0), bool)
    k_, j_, i_ = np.ogrid[box]
    away = [
        grid.affine[n, 0] * i_
        + grid.affine[n, 1] * j_
        + grid.affine[n, 2] * k_
        + (grid.affine[n, 3] - centre_ras[n])
        for n in range(3)
    ]
    squared = away[0] ** 2 + away[1] ** 2 + away[2] ** 2
    if normal_ras is None:
        return box, squared <= radius_mm**2 + 1e-9
    off = sum(normal[n] * away[n] for n in range(3))
    inside = (off > -half) & (off <= half)
    return box, inside & (squared - off**2 <= radius_mm**2 + 1e-9)


def taken(
    probability: NDArray[np.floating],
    threshold: float,
    began: float | None,
    *,
    erase: bool = False,
) -> NDArray[np.bool_]:
    """Which voxels a touch takes: those that the threshold says, or what follows its beginning.

    A stroke that paints and began where the probability is low goes on to what is nearly as likely
    there; one that erases and began where it is high goes on to what is nearly as unlikely there.
    So one stroke along a rim that the threshold takes or leaves wrongly moves it as a whole.

    Parameters
    ----------
    probability : of lesion, any shape.
    threshold : probability from which a voxel counts as lesion.
    began : probability where the stroke began; None if it follows nothing.
    erase : whether it erases.

    Returns
    -------
    A bool array of that shape.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import taken
    >>> p = np.array([0.1, 0.2, 0.4, 0.6, 0.9])
    >>> taken(p, 0.5, None).tolist(), taken(p, 0.5, 0.3).tolist()
    ([False, False, False, True, True], [False, True, True, True, True])
    >>> taken(p, 0.5, 0.6, erase=True).tolist()
    [True, True, True, True, False]
    """
    if not erase:
        if began is None:
            return probability >= threshold
        return probability >= min(threshold, max(LOWEST_FLOOR, FLOOR_SHARE * began))
    unlikely = probability < threshold
    if began is not None and began >= threshold:
        unlikely |= probability <= 1 - FLOOR_SHARE * (1 - began)
    return unlikely
