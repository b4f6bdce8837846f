"""A robot user: clicks on the largest remaining error, through the session that people use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from StrokeLesionSegLib.editing import EditingSession


def robot_clicks(
    session: EditingSession,
    truth: NDArray[np.generic],
    n: int,
    *,
    noise_mm: float = 0.0,
    rng: np.random.Generator,
) -> list[float]:
    """Dice after 0, 1, ..., ``n`` clicks: n + 1 values.

    Each click goes to the thickest place of the largest connected error, missed or false, of what
    the session marks, as a person clicks into the middle of what is wrong; it is made in an axial
    slice. Between clicks the session works until it is done (``refine_more`` is None). If nothing
    is wrong any more the last value is repeated.

    Parameters
    ----------
    session: freshly opened; it is completed first if it is not. Its clicks are left in it.
    truth: (K, J, I) on ``session.grid``, not 0 is lesion.
    noise_mm: standard deviation in mm of the distance by which a click misses its place within
        the slice, along each of its axes.
    rng: where the noise comes from; not used if there is none.

    Raises ``ValueError`` for a truth of another shape, ``InputError`` if the model takes no
    clicks.
    """
    raise NotImplementedError
