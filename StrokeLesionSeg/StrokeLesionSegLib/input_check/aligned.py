"""What can be seen of a scan in MNI152 space: grey and white matter, and what is cut off."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..images.space.alignment import Alignment
from ..images.space.template import template_brain, template_t1
from ..images.volume import Volume
from .findings import Finding, Level

_STEP = 2  # of the template's 2 mm voxels
_BLOCK_MM = 40.0
_LEAST = 12  # voxels of each tissue that make a block count
# White minus grey matter, over their mean, in the median block: 190 T1s .11 to .3, a FLAIR -.01.
_ORDER_WARN, _ORDER_REFUSE = 0.06, 0.02
# Shares of the brain beyond the image: in 190 scans of whole heads at most .015.
_CUT_WARN, _CUT_REFUSE = 0.02, 0.4


def check_aligned(volume: Volume, alignment: Alignment | None) -> list[Finding]:
    """Findings about ``volume`` under the alignment found for it; None if none was wanted.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Alignment, Volume
    >>> from StrokeLesionSegLib.input_check import check_aligned
    >>> failed = Alignment(np.eye(4), False, "nothing fits", 0.0, 0.0, 0.0)
    >>> [f.code for f in check_aligned(Volume(np.ones((4, 4, 4)), np.eye(4)), failed)]
    ['alignment']
    """
    if alignment is None:
        return []
    if not alignment.ok:
        reason = alignment.reason.rstrip(". ")
        return [
            Finding(
                "refuse",
                "alignment",
                f"could not be aligned to the MNI152 brain ({reason})",
                "Check that it is a T1-weighted scan of a whole head, with the right spacing and "
                "orientation; --align none takes it as it lies",
            )
        ]
    values, inside, tissue, block = _sampled(volume, alignment)
    found = []
    cut = 1 - float(inside.mean())
    if cut > _CUT_WARN:
        level: Level = "refuse" if cut > _CUT_REFUSE else "warn"
        text = f"does not show the whole brain: {cut:.0%} of it lies beyond the image"
        found.append(Finding(level, "cut", text, "Give a scan of the whole head"))
    order = white_over_grey(values, inside, tissue, block)
    if order is not None and order < _ORDER_WARN:
        text = (
            "does not look T1-weighted: white matter is not brighter than grey matter "
            f"(contrast {order:+.2f})"
        )
        found.append(Finding("refuse" if order < _ORDER_REFUSE else "warn", "order", text))
    return found


def white_over_grey(
    values: NDArray[np.float32],
    inside: NDArray[np.bool_],
    tissue: NDArray[np.int8],
    block: NDArray[np.int64],
) -> float | None:
    """(white - grey) / mean of both: the median over blocks of 40 mm; None if there are none."""
    ratios = []
    for n in range(int(block.max()) + 1):
        here = inside & (block == n)
        white, grey = values[here & (tissue == 2)], values[here & (tissue == 1)]
        if min(white.size, grey.size) < _LEAST:
            continue
        w, g = float(np.median(white)), float(np.median(grey))
        if w + g > 0:
            ratios.append(2 * (w - g) / (w + g))
    return float(np.median(ratios)) if len(ratios) >= 4 else None


def _sampled(
    volume: Volume, alignment: Alignment
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int8], NDArray[np.int64]]:
    """Of places in the brain: values above the darkest, whether there are any, tissue, block."""
    points, tissue, block = _places()
    to_index = np.linalg.inv(volume.affine) @ np.linalg.inv(alignment.matrix)
    ijk = np.rint(np.einsum("ij,jn->in", to_index[:3, :3], points) + to_index[:3, 3:]).astype(int)
    size = np.array(volume.array.shape[::-1])[:, None]
    inside = ((ijk >= 0) & (ijk < size)).all(axis=0)
    i, j, k = np.clip(ijk, 0, size - 1)
    values = volume.array[k, j, i].astype(np.float32)
    floor = float(np.percentile(volume.array[::4, ::4, ::4], 1))
    return values - np.float32(floor), inside, tissue, block


@lru_cache(maxsize=1)
def _places() -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.int64]]:
    """Places in the template's brain every 4 mm: RAS mm (3, N), tissue and block of 40 mm.

    Tissue: 2 where the template is white matter through and through, 1 grey matter, 0 anything.
    """
    t1, brain = template_t1(), template_brain()
    thin = (slice(None, None, _STEP),) * 3
    mask = brain.array[thin] >= 200
    kji = np.nonzero(mask)
    index = np.stack(kji[::-1]).astype(np.float64) * _STEP
    points = t1.affine[:3, :3] @ index + t1.affine[:3, 3:]
    seen = t1.array[thin][mask].astype(np.float64)
    # In the template the tissues lie apart: fluid below a third of white, grey at two thirds.
    white = np.percentile(seen, 95)
    tissue = np.zeros(seen.shape, np.int8)
    tissue[seen > 0.9 * white] = 2
    tissue[(seen > 0.62 * white) & (seen < 0.78 * white)] = 1
    cells = np.floor((points - points.min(axis=1, keepdims=True)) / _BLOCK_MM).astype(np.int64)
    wide = cells.max(axis=1) + 1
    block = (cells[2] * wide[1] + cells[1]) * wide[0] + cells[0]
    return points, tissue, block
