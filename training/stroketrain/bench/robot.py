"""The robot user of ``StrokeLesionSegLib.correction.robot`` for models that work in slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.correction.robot import aimed, axial_axis, dice_of, largest_error

if TYPE_CHECKING:
    from StrokeLesionSegLib.editing import EditingSession


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
    dice = [dice_of(marked, wanted)]
    for _ in range(n):
        place = largest_error(marked, wanted, session.grid.spacing[::-1])
        if place is None:
            dice.append(dice[-1])
            continue
        index = aimed(place, session.grid, axial, noise_mm, rng)
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
        dice.append(dice_of(marked, wanted))
        if watch is not None:
            watch(len(dice) - 1)
    return dice


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
