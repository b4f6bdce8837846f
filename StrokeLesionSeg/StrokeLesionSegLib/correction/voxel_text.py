"""Voxels as text, for tags that are saved with a scene."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def voxels_to_text(mask: NDArray[Any]) -> str:
    """A mask as compressed bits; all but 0 is set."""
    return base64.b64encode(zlib.compress(np.packbits(mask != 0).tobytes())).decode()


def voxels_from_text(text: str, shape: Sequence[int]) -> NDArray[np.bool_]:
    """The mask of this ``shape`` that ``voxels_to_text`` gave.

    Raises ``ValueError``, ``TypeError`` or ``zlib.error`` for a text that is none.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction.voxel_text import voxels_from_text, voxels_to_text
    >>> voxels_from_text(voxels_to_text(np.eye(2)), (2, 2)).tolist()
    [[True, False], [False, True]]
    """
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
