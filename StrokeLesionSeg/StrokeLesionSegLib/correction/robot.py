"""A robot user: clicks on the largest remaining error, through the session that people use.

What a bench measures clicks with, and what an adapted model has to answer as well as its parent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import bounding_box

if TYPE_CHECKING:
    from ..images import Grid
    from .session import CorrectionSession


def robot_corrections(
    session: CorrectionSession,
    truth: NDArray[Any],
    n: int,
    *,
    noise_mm: float = 0.0,
    rng: np.random.Generator,
) -> list[float]:
    """Dice after 0, 1, ..., ``n`` clicks: n + 1 values.

    Each click goes to the thickest place of the largest connected error of the session's mask,
    missed or false, as a person clicks into the middle of what is wrong. A click that misses what
    it was meant for may say what the mask says already; then nothing changes.

    Parameters
    ----------
    session: freshly opened. Its clicks are left in it.
    truth: (K, J, I) on ``session.grid``, not 0 is lesion.
    noise_mm: standard deviation in mm of the distance by which a click misses its place within
        the axial slice, along each of its axes.
    rng: where the noise comes from; not used if there is none.

    Raises ``ValueError`` for a truth of another shape.
    """
    wanted = np.asarray(truth) != 0
    if wanted.shape != session.grid.shape:
        raise ValueError(f"a truth of shape {wanted.shape} on a grid of {session.grid.shape}")
    axial = axial_axis(session.grid.affine)
    dice = [dice_of(session.mask, wanted)]
    for _ in range(n):
        place = largest_error(session.mask, wanted, session.grid.spacing[::-1])
        if place is not None:
            index = np.rint(aimed(place, session.grid, axial, noise_mm, rng)).astype(int)
            k, j, i = index[::-1].tolist()
            session.click((k, j, i), bool(wanted[place]))
        dice.append(dice_of(session.mask, wanted))
    return dice


def aimed(
    place: tuple[int, int, int], grid: Grid, axial: int, noise_mm: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where the hand clicks that means ``place`` (k, j, i): i, j, k, in the same axial slice."""
    index = np.array(place[::-1], np.float64)
    if noise_mm > 0:
        for axis in range(3):
            if axis != 2 - axial:
                index[axis] += rng.normal(0.0, noise_mm) / grid.spacing[axis]
        index = np.clip(index, 0, np.array(grid.shape[::-1]) - 1)
    return index


def largest_error(
    marked: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    spacing_kji: tuple[float, float, float],
) -> tuple[int, int, int] | None:
    """(k, j, i) of the thickest place of the largest connected error; None if all is right.

    Missed and false voxels are errors of their own (26 neighbours). Of equals, the first.
    """
    from scipy import ndimage

    around = bounding_box(marked != wanted)
    if around is None:
        return None
    marked, wanted = marked[around], wanted[around]
    best: tuple[int, tuple[slice, ...], NDArray[np.bool_]] | None = None
    for error in (wanted & ~marked, marked & ~wanted):
        labels, count = ndimage.label(error, structure=np.ones((3, 3, 3)))
        if not count:
            continue
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        largest = int(np.argmax(sizes))
        if best is None or sizes[largest] > best[0]:
            box = ndimage.find_objects(labels)[largest - 1]
            best = int(sizes[largest]), box, labels[box] == largest
    assert best is not None
    _, box, piece = best
    depth = ndimage.distance_transform_edt(np.pad(piece, 1), sampling=spacing_kji)
    inner = depth[1:-1, 1:-1, 1:-1]
    k, j, i = np.unravel_index(int(np.argmax(inner)), inner.shape)
    k0, j0, i0 = (a.start + b.start for a, b in zip(around, box, strict=True))
    return int(k) + k0, int(j) + j0, int(i) + i0


def axial_axis(affine: NDArray[np.float64]) -> int:
    """The array axis (0 k, 1 j, 2 i) that runs most nearly up and down."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return 2 - int(np.argmax(np.abs(columns[2])))


def dice_of(marked: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    total = int(marked.sum()) + int(wanted.sum())
    return 2.0 * int((marked & wanted).sum()) / total if total else 1.0
