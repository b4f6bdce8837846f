"""The MNI152 (ICBM 2009a, nonlinear symmetric) space: its grid, brain mask and reduced template."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...resources import resource_path
from ..volume import Grid, Volume

_ORIGIN_MM = (-98.0, -134.0, -72.0)


def _mni_affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = _ORIGIN_MM
    affine.setflags(write=False)
    return affine


#: 1 mm RAS grid of MNI152 2009a; shape (K, J, I) = (189, 233, 197), origin (-98, -134, -72) mm.
MNI_GRID = Grid((189, 233, 197), _mni_affine())


@lru_cache(maxsize=1)
def _load() -> tuple[Volume, Volume, Volume]:
    with np.load(resource_path("Template", "mni152_2009a_2mm.npz"), allow_pickle=False) as archive:
        arrays = [archive[name] for name in ("t1", "brain", "skull")]
        affine = archive["affine"]
    for array in (*arrays, affine):
        array.setflags(write=False)
    t1, brain, skull = (Volume(array, affine) for array in arrays)
    return t1, brain, skull


def template_t1() -> Volume:
    """Reduced T1 of the template, brain only: uint8 (95, 117, 99) in k, j, i; 2 mm, RAS.

    Read-only and shared between callers. Raises ``FileNotFoundError`` if the installation lacks it.
    """
    return _load()[0]


def template_brain() -> Volume:
    """Reduced brain mask: uint8 (95, 117, 99), 255 times the local fraction of brain; 2 mm, RAS.

    Read-only and shared between callers. Raises ``FileNotFoundError`` if the installation lacks it.
    """
    return _load()[1]


def template_head() -> Volume:
    """Reduced T1 with skull and scalp: uint8 (95, 117, 99); 0 beyond 24 mm from the brain.

    Raises ``FileNotFoundError`` if the installation lacks it.
    """
    t1, _, skull = _load()
    return t1.with_array(np.maximum(t1.array, skull.array))


def upsample_linear(array: np.ndarray) -> np.ndarray:
    """Twice as fine along each axis: (K, J, I) to (2K-1, 2J-1, 2I-1) float32, linear."""
    out = array.astype(np.float32)
    for axis in range(3):
        moved = np.moveaxis(out, axis, 0)
        finer = np.empty((2 * moved.shape[0] - 1, *moved.shape[1:]), dtype=np.float32)
        finer[::2] = moved
        finer[1::2] = 0.5 * (moved[:-1] + moved[1:])
        out = np.moveaxis(finer, 0, axis)
    return np.ascontiguousarray(out)


@lru_cache(maxsize=1)
def mni_brain_mask() -> Volume:
    """ICBM's brain mask (cerebrum, cerebellum, brain stem, CSF within) on ``MNI_GRID``.

    uint8 0/1, shape (189, 233, 197) in k, j, i; upsampled linearly from the shipped 2 mm mask.
    Read-only and shared between callers. Raises ``FileNotFoundError`` if the installation lacks it.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import MNI_GRID, mni_brain_mask
    >>> brain = mni_brain_mask()
    >>> brain.grid.same_as(MNI_GRID), int(brain.array.sum() / 1000)
    (True, 1886)
    """
    mask = (upsample_linear(template_brain().array) >= 127.5).astype(np.uint8)
    mask.setflags(write=False)
    return Volume(mask, MNI_GRID.affine)
