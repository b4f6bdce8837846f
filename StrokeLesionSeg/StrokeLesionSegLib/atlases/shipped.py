"""The atlas that is shipped: 129 structures of the Allen Human Reference Atlas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..images import MNI_GRID
from ..resources import resource_path
from .atlas import Atlas

#: As tables and pages name it.
SHIPPED_TITLE = "Allen Human Reference Atlas (3D, 2020)"
_FILE = ("Atlases", "allen_human_reference_1mm.npz")


@lru_cache(maxsize=1)
def shipped_atlas() -> Atlas:
    """The shipped atlas on ``MNI_GRID``; read once, shared, not to be changed.

    Its side is that of the mid-sagittal plane; ventricles are left out. Raises
    ``FileNotFoundError`` if the installation lacks it.

    Examples
    --------
    >>> from StrokeLesionSegLib.atlases import shipped_atlas
    >>> atlas = shipped_atlas()
    >>> atlas.name(int(atlas.values[72 + 5, 134 + 9, 98 - 27]))
    'Putamen'
    """
    with np.load(resource_path(*_FILE), allow_pickle=False) as archive:
        inner, low, voxels = archive["values"], archive["low"], archive["voxels"].tolist()
        names = {n: str(name) for n, name in enumerate(archive["names"].tolist()) if name}
    values = np.zeros(MNI_GRID.shape, np.uint8)
    box = tuple(slice(a, a + n) for a, n in zip(low.tolist(), inner.shape, strict=True))
    values[box] = inner
    values.setflags(write=False)
    # Each hemisphere is the mirror image of the other.
    halves = {n: (voxels[n] / 2, voxels[n] / 2) for n in names}
    return Atlas(SHIPPED_TITLE, values, MNI_GRID.affine, names, counted=halves)
