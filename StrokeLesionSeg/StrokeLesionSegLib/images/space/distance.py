"""Short distances from a mask: no farther than is asked for, in a third of a transform's time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def squared_distance(
    mask: NDArray[np.bool_],
    reach_mm: float,
    steps_mm: Sequence[float] | NDArray[np.float64] = (1.0, 1.0, 1.0),
) -> NDArray[np.float32]:
    """Squares of the distances from ``mask`` (K, J, I) in mm, 0 within; what is farther than
    ``reach_mm`` is any larger number, or infinite. ``steps_mm``: of the voxels along k, j, i.

    Examples
    --------
    >>> from StrokeLesionSegLib.images.space.distance import squared_distance
    >>> mask = np.zeros((1, 1, 5), bool)
    >>> mask[..., 1] = True
    >>> squared_distance(mask, 2.0)[0, 0].tolist()
    [1.0, 0.0, 1.0, 4.0, inf]
    """
    # Axis by axis, as squares add up: the least of what the neighbours on its line have.
    least = np.where(mask, np.float32(0), np.float32(np.inf))
    for axis, step in enumerate(steps_mm):
        before, after = np.moveaxis(least, axis, 0), np.moveaxis(least.copy(), axis, 0)
        for n in range(1, min(int(reach_mm / step), len(before) - 1) + 1):
            more = np.float32((n * step) ** 2)
            np.minimum(after[n:], before[:-n] + more, out=after[n:])
            np.minimum(after[:-n], before[n:] + more, out=after[:-n])
        least = np.moveaxis(after, 0, axis)
    return least
