"""Where sliding windows lie and how their answers are weighed, by nnU-Net's rule and by MONAI's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# nnU-Net's weight of a window's middle, which keeps its float16 sums away from 0.
_NNUNET_PEAK = 10.0
_SIGMA_SHARE = 1 / 8
_MONAI_LEAST = 1e-3

Window = tuple[slice, ...]


def starts(size: int, patch: int, step: float, rule: str) -> list[int]:
    """First voxels of the windows along one axis of at least ``patch`` voxels.

    nnU-Net spreads them evenly, at most ``step`` windows apart; MONAI ("monai") puts them exactly
    so far apart and shifts the last one back.
    """
    if size < patch:
        raise ValueError(f"an axis of {size} voxels holds no window of {patch}")
    if rule == "nnunet":
        count = math.ceil((size - patch) / (patch * step)) + 1
        apart = (size - patch) / (count - 1) if count > 1 else 0.0
        return [round(apart * n) for n in range(count)]
    interval = patch if size == patch else max(1, int(patch * step))
    count = math.ceil(max(0, size - patch) / interval) + 1
    return [min(n * interval, size - patch) for n in range(count)]


def fewest(places: Sequence[int], width: int, low: int, high: int, overlap: int) -> list[int]:
    """Of windows that start at ``places`` those that hold all voxels from ``low`` to ``high``: as
    few as can be where two neighbours share at least ``overlap`` voxels, if they can."""
    chosen: list[int] = []
    held = low
    while held < high:
        reach = held - overlap if chosen else held
        ahead = [n for n in places if not chosen or n > chosen[-1]]
        if not ahead:
            break
        near = [n for n in ahead if n <= reach]
        chosen.append(max(near) if near else ahead[0])
        held = chosen[-1] + width
    return chosen


def weights(patch: Sequence[int], rule: str) -> NDArray[np.float32]:
    """The weight of each voxel of a window: a Gaussian around its middle, nowhere 0."""
    if rule == "nnunet":
        from scipy.ndimage import gaussian_filter

        spike = np.zeros(tuple(patch))
        spike[tuple(n // 2 for n in patch)] = 1
        gaussian = gaussian_filter(spike, [n * _SIGMA_SHARE for n in patch], mode="constant")
        # nnU-Net keeps them in float16, whose rounding is part of its answer.
        rounded = (gaussian / gaussian.max() * _NNUNET_PEAK).astype(np.float16)
        rounded[rounded == 0] = rounded[rounded > 0].min()
        return rounded.astype(np.float32)
    product = np.ones((), np.float32)
    for size in patch:
        x = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        line = np.exp(x**2 / np.float32(-2 * (size * _SIGMA_SHARE) ** 2))
        product = product[..., None] * line
    return np.maximum(product, max(float(product.min()), _MONAI_LEAST)).astype(np.float32)


def pad_to(shape: Sequence[int], patch: Sequence[int]) -> list[tuple[int, int]]:
    """Voxels to add before and after each axis, so that it holds a window; the last axes are those
    of ``patch``."""
    missing = [0] * (len(shape) - len(patch))
    missing += [max(0, p - n) for n, p in zip(shape[-len(patch) :], patch, strict=True)]
    return [(n // 2, n - n // 2) for n in missing]


def mirrorings(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All ways to mirror ``axes``, none of them first."""
    return [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
