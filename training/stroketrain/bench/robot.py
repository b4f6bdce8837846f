"""A robot user: clicks on the largest remaining error, through the session that people use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from StrokeLesionSegLib.correction import CorrectionSession
    from StrokeLesionSegLib.editing import EditingSession
    from StrokeLesionSegLib.images import Grid


def robot_clicks(
    session: EditingSession,
    truth: NDArray[Any],
    n: int,
    *,
    noise_mm: float = 0.0,
    rng: np.random.Generator,
    watch: Callable[[int], None] | None = None,
) -> list[float]:
    """Dice after 0, 1, ..., ``n`` clicks: n + 1 values.

    The mask that is corrected begins as the automatic one: the session's own threshold, second
    threshold and smallest volume. Each click goes to the thickest place of its largest connected
    error, missed or false, as a person clicks into the middle of what is wrong; it is made in an
    axial slice. Between clicks the session works until it is done (``refine_more`` is None), and
    the mask changes as the effect Lesion Clicks changes a segment: where the session's answer
    changes, and by a whole lesion if a positive click lies in one of which the mask has nothing.
    If nothing is wrong any more the last value is repeated.

    Parameters
    ----------
    session: freshly opened; it is completed first if it is not. Its clicks are left in it.
    truth: (K, J, I) on ``session.grid``, not 0 is lesion.
    noise_mm: standard deviation in mm of the distance by which a click misses its place within
        the slice, along each of its axes.
    rng: where the noise comes from; not used if there is none.
    watch: called with the number of clicks so far once each of them has been worked out.

    Raises ``ValueError`` for a truth of another shape, ``InputError`` if the model takes no
    clicks.
    """
    wanted = np.asarray(truth) != 0
    if wanted.shape != session.grid.shape:
        raise ValueError(f"a truth of shape {wanted.shape} on a grid of {session.grid.shape}")
    while session.work(1000.0) is not None:
        pass
    axial = axial_axis(session.grid.affine)
    answer, marked = _answer(session), automatic_mask(session)
    dice = [_dice(marked, wanted)]
    for _ in range(n):
        place = largest_error(marked, wanted, session.grid.spacing[::-1])
        if place is None:
            dice.append(dice[-1])
            continue
        index = _aimed(place, session.grid, axial, noise_mm, rng)
        ras = session.grid.affine[:3, :3] @ index + session.grid.affine[:3, 3]
        # The robot means what it saw where it aimed, even if its hand slips.
        session.add_click(ras, bool(wanted[place]), axis=axial)
        session.refine_visible()
        while session.refine_more(1000.0) is not None:
            pass
        before, answer = answer, _answer(session)
        seed = tuple(int(n) for n in np.rint(index[::-1]))
        if wanted[place] and answer[seed]:
            lesion = _piece(answer, seed)
            if not (lesion & marked).any():
                marked |= lesion
        changed = answer != before
        marked[changed] = answer[changed]
        dice.append(_dice(marked, wanted))
        if watch is not None:
            watch(len(dice) - 1)
    return dice


def robot_corrections(
    session: CorrectionSession,
    truth: NDArray[Any],
    n: int,
    *,
    noise_mm: float = 0.0,
    rng: np.random.Generator,
) -> list[float]:
    """As ``robot_clicks``, for a model that answers clicks in three dimensions.

    The mask is the session's own, and so is every change of it. A click that misses what it was
    meant for may say what the mask says already; then nothing changes.
    """
    wanted = np.asarray(truth) != 0
    if wanted.shape != session.grid.shape:
        raise ValueError(f"a truth of shape {wanted.shape} on a grid of {session.grid.shape}")
    axial = axial_axis(session.grid.affine)
    dice = [_dice(session.mask, wanted)]
    for _ in range(n):
        place = largest_error(session.mask, wanted, session.grid.spacing[::-1])
        if place is not None:
            index = np.rint(_aimed(place, session.grid, axial, noise_mm, rng)).astype(int)
            k, j, i = index[::-1].tolist()
            session.click((k, j, i), bool(wanted[place]))
        dice.append(_dice(session.mask, wanted))
    return dice


def _aimed(
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
    if best is None:
        return None
    _, box, piece = best
    depth = ndimage.distance_transform_edt(np.pad(piece, 1), sampling=spacing_kji)
    inner = depth[1:-1, 1:-1, 1:-1]
    k, j, i = np.unravel_index(int(np.argmax(inner)), inner.shape)
    return int(k) + box[0].start, int(j) + box[1].start, int(i) + box[2].start


def axial_axis(affine: NDArray[np.float64]) -> int:
    """The array axis (0 k, 1 j, 2 i) that runs most nearly up and down."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return 2 - int(np.argmax(np.abs(columns[2])))


def automatic_mask(session: EditingSession) -> NDArray[np.bool_]:
    """What an automatic run gives: (K, J, I) on the session's grid."""
    box, mask = session.mask(
        session.threshold, sure=session.sure, min_volume_ml=session.min_volume_ml
    )
    return _spread(session, box, mask)


def _answer(session: EditingSession) -> NDArray[np.bool_]:
    """What model and clicks say together, whatever the mask that is corrected."""
    return _spread(session, *session.guided_mask())


def _spread(
    session: EditingSession, box: tuple[slice, ...], mask: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    whole = np.zeros(session.grid.shape, bool)
    whole[box] = mask != 0
    return whole


def _piece(mask: NDArray[np.bool_], seed: tuple[int, ...]) -> NDArray[np.bool_]:
    """The connected piece (26 neighbours) that holds the voxel ``seed``."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return np.asarray(labels == labels[seed])


def _dice(marked: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    total = int(marked.sum()) + int(wanted.sum())
    return 2.0 * int((marked & wanted).sum()) / total if total else 1.0
