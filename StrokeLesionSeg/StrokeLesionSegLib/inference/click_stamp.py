"""How a click looks to the volumetric network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_REACH, _SIGMA = 3, 1.2  # voxels of 2 mm
_offsets = np.arange(-_REACH, _REACH + 1)
_square = _offsets[:, None, None] ** 2 + _offsets[None, :, None] ** 2 + _offsets[None, None, :] ** 2
_BALL = np.exp(-_square / (2 * _SIGMA**2)).astype(np.float32)


def stamp(channel: NDArray[np.float32], place: tuple[int, int, int]) -> None:
    """Mark a click at voxel k, j, i of ``channel`` (K, J, I) at 2 mm, in place.

    A Gaussian of 2.4 mm, 1 at the click; where several meet, the larger value stays. What lies off
    the array is cut.
    """
    target, source = [], []
    for centre, size in zip(place, channel.shape, strict=True):
        low = centre - _REACH
        part = slice(max(0, low), max(0, min(size, centre + _REACH + 1)))
        target.append(part)
        source.append(slice(part.start - low, part.stop - low))
    view = channel[tuple(target)]
    np.maximum(view, _BALL[tuple(source)], out=view)
