"""How often each place of MNI space holds a lesion, over a group of scans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled
from ..images import MNI_GRID, Volume, nearest_labels
from .content import FrequencyMap


def lesion_frequency(
    masks: Iterable[tuple[Volume, NDArray[np.float64] | None]],
    *,
    cancel: Callable[[], bool] | None = None,
) -> FrequencyMap:
    """Count the scans that have a lesion at each voxel of the 1 mm MNI152 grid.

    ``masks``: (lesion mask on the scan's grid, 4x4 native RAS mm to MNI RAS mm) of each scan; the
    matrix is None for a scan that was not aligned, which is left out and counted as such. The
    iterable may read one file after the other: one mask is held at a time. ``cancel`` is asked
    before each scan; ``Cancelled`` is raised when it returns true.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.report import lesion_frequency
    >>> mask = Volume(np.ones((4, 4, 4), np.uint8), np.eye(4))
    >>> frequency = lesion_frequency([(mask, np.eye(4)), (mask, None)])
    >>> int(frequency.counts.sum()), frequency.scans, frequency.left_out
    (64, 1, 1)
    """
    counts = np.zeros(MNI_GRID.shape, dtype=np.int32)
    scans = left_out = 0
    for mask, to_mni in masks:
        if cancel is not None and cancel():
            raise Cancelled
        if to_mni is None:
            left_out += 1
            continue
        scans += 1
        add_mask(counts, mask, np.asarray(to_mni, dtype=np.float64))
    return FrequencyMap(counts, scans, MNI_GRID.affine, _template(), left_out)


@cache
def _template() -> NDArray[np.uint8]:
    """The template's T1 on ``MNI_GRID``, not writable."""
    from ..images.space.template import template_t1, upsample_linear

    t1 = np.rint(upsample_linear(template_t1().array)).clip(0, 255).astype(np.uint8)
    t1.setflags(write=False)
    return t1


def add_mask(counts: NDArray[np.int32], mask: Volume, to_mni: NDArray[np.float64]) -> None:
    """Add 1 to ``counts`` (on ``MNI_GRID``) where ``mask`` is above 0, nearest neighbour."""
    found = nearest_labels(mask, to_mni, MNI_GRID)
    if found is not None:
        box, values = found
        counts[box] += values > 0
