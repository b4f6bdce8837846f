"""What a user says of a mask, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..boxes import EMPTY, Box
from ..brief import brief_repr

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Click:
    """``voxel``: (k, j, i) on the scan's own grid. ``lesion``: what the user says it is.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import Click
    >>> Click((10, 20, 30), lesion=True).voxel
    (10, 20, 30)
    """

    voxel: Voxel
    lesion: bool


@dataclass(frozen=True, eq=False)
class Change:
    """What a click, a stroke or an undo changed in a mask.

    Attributes
    ----------
    box: the smallest box of native voxels that holds all changes; ``EMPTY`` if there are none.
    changed: bool, of the box's shape: the voxels that changed.
    lesion: True if they were added to the mask, False if they were removed.
    voxels, volume_ml: how much changed; neither is negative.
    model_voxels: how many of them the model proposed. The others were painted around the click.
    whole_head: the answer came from a pass over the whole head, since the change went beyond the
        cube around the click.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import Change
    >>> Change.none(lesion=True).sentence
    'Already so in the mask; nothing changed.'
    """

    box: Box
    changed: NDArray[np.bool_]
    lesion: bool
    voxels: int = 0
    volume_ml: float = 0.0
    model_voxels: int = 0
    whole_head: bool = False

    __repr__ = brief_repr

    @classmethod
    def none(cls, lesion: bool) -> Change:
        """Nothing changed."""
        return cls(EMPTY, np.zeros((0, 0, 0), bool), lesion)

    @property
    def painted_only(self) -> bool:
        """True if something changed and the model had nothing to say about it."""
        return self.voxels > 0 and self.model_voxels == 0

    @property
    def sentence(self) -> str:
        """What happened, for the user."""
        if not self.voxels:
            return "Already so in the mask; nothing changed."
        ml = f"{self.volume_ml:.2f} mL"
        if self.painted_only and self.lesion:
            return f"The model finds no lesion here: painted {ml}."
        if self.painted_only:
            return f"The model finds lesion here: erased {ml}."
        return f"{ml} added." if self.lesion else f"{ml} removed."
