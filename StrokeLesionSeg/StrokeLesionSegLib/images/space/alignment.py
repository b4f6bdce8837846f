"""Where a scan lies in MNI152 space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...brief import brief_repr


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where a scan lies in MNI152 space, and whether that can be trusted.

    Attributes
    ----------
    matrix: 4x4 float64, native RAS mm to MNI RAS mm (identity if nothing could be found).
    ok: whether overlap, similarity and the matrix are within the bounds of a success.
    reason: one sentence that says why ``ok`` is false; empty if it is true.
    overlap: Dice of tissue in the moved scan and the template's brain, near the brain; 0 to 1.
    similarity: correlation with the template within the brain, -1 to 1, without what looks like a
        cavity, and over the 85 % of the rest that agree best: a large lesion does not make a good
        alignment look bad.
    seconds: time it took.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Alignment
    >>> alignment = Alignment.identity()
    >>> alignment.ok, alignment.matrix[0].tolist()
    (True, [1.0, 0.0, 0.0, 0.0])
    """

    matrix: NDArray[np.float64]
    ok: bool
    reason: str
    overlap: float
    similarity: float
    seconds: float

    __repr__ = brief_repr

    @classmethod
    def identity(cls) -> Alignment:
        """For a scan that is taken to lie in MNI152 space; nothing was measured."""
        return cls(np.eye(4), True, "", 0.0, 0.0, 0.0)
