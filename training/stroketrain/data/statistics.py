"""Where the lesions of a cache lie, and how large they are in its slices."""

from __future__ import annotations

import numpy as np

from .cache import Cache


def lesion_per_slice(cache: Cache) -> np.ndarray:
    """Lesion voxels of the whole data per axial slice, (K,)."""
    total = np.zeros(cache.masks.shape[1], np.int64)
    for mask in cache.masks:
        total += np.asarray(mask).sum(axis=(1, 2), dtype=np.int64)
    return total


def lesion_diameters(cache: Cache) -> np.ndarray:
    """Diameters in mm of the discs of the same area as each 2D lesion, in axial slices."""
    from scipy import ndimage

    found: list[np.ndarray] = []
    for mask in cache.masks:
        for z in np.flatnonzero(np.asarray(mask).any(axis=(1, 2))):
            labels, count = ndimage.label(mask[z])
            areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
            found.append(2 * np.sqrt(areas / np.pi))
    return np.concatenate(found) if found else np.zeros(0)
