"""Pictures of the kinds that a T1 is mistaken for, made out of a simulated head."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from simulated import simulated_head
from StrokeLesionSegLib.images.volume import Volume

# Grey values by those of a T1, in parts of white matter: air, fluid, grey, white, fat.
_FROM = [0, 0.05, 0.12, 0.3, 0.6, 0.85, 1.3, 2]
KINDS = {
    "T2": [0, 0.05, 1.2, 1.0, 0.65, 0.4, 0.45, 0.5],
    "FLAIR": [0, 0.05, 0.1, 0.2, 0.85, 0.6, 0.55, 0.55],
    "PD": [0, 0.05, 0.95, 1.0, 0.9, 0.7, 0.75, 0.8],
}


@lru_cache(maxsize=1)
def head() -> Volume:
    """The simulated head, moved off MNI space at 2 mm, float32; read-only."""
    t1 = simulated_head().t1
    k, j, i = (n // 2 * 2 for n in t1.array.shape)
    array = t1.array[:k, :j, :i].astype(np.float32)
    array = array.reshape(k // 2, 2, j // 2, 2, i // 2, 2).mean((1, 3, 5))
    affine = t1.affine @ np.diag([2, 2, 2, 1.0])
    affine[:3, 3] += (9.5, -5.5, 14.5)
    array.setflags(write=False)
    return Volume(array, affine)


def stripped() -> Volume:
    """Its brain alone, 0 elsewhere."""
    from StrokeLesionSegLib.images import mni_brain_mask

    volume = head()
    k, j, i = volume.array.shape
    brain = mni_brain_mask().array[: 2 * k : 2, : 2 * j : 2, : 2 * i : 2] > 0
    return volume.with_array(np.where(brain, volume.array, np.float32(0)))


def as_kind(volume: Volume, kind: str) -> Volume:
    """``volume``, a T1, with the grey values of another contrast."""
    array = volume.array
    white = np.percentile(array[array > np.percentile(array, 60)], 85)
    return volume.with_array(1000 * np.interp(array / white, _FROM, KINDS[kind]).astype("f4"))


def phase(volume: Volume, *, masked: bool = False) -> Volume:
    """A phase image in [-4096, 4095]: smooth with jumps in the head, any value beyond."""
    array, rng = volume.array, np.random.default_rng(0)
    inside = array > 0.1 * array.max()
    across = np.linspace(0, 25, array.shape[1])[:, None]  # the field, which is never even
    angle = np.angle(np.exp(1j * (9 * array / array.max() + across)))
    air = 0.0 if masked else rng.uniform(-np.pi, np.pi, array.shape)
    return volume.with_array(np.rint(np.where(inside, angle, air) / np.pi * 4095).astype("f4"))


def noise(volume: Volume, kind: str = "normal") -> Volume:
    rng = np.random.default_rng(1)
    values = {
        "normal": lambda: rng.normal(0, 1, volume.array.shape),
        "magnitude": lambda: np.abs(rng.normal(0, 50, volume.array.shape)),
        "bytes": lambda: rng.integers(0, 256, volume.array.shape),
    }[kind]()
    return volume.with_array(values.astype(np.float32))


def tissue_map(volume: Volume) -> Volume:
    """A probability of "tissue" with soft edges, 0 to 1."""
    array = volume.array / volume.array.max()
    return volume.with_array((1 / (1 + np.exp(-(array - 0.2) * 40))).astype(np.float32))


def labels(volume: Volume) -> Volume:
    """Regions of one value each, as FreeSurfer and SynthSeg write them."""
    from scipy.ndimage import zoom

    coarse = np.random.default_rng(2).integers(1, 80, [-(-n // 12) for n in volume.array.shape])
    k, j, i = volume.array.shape
    regions = zoom(coarse, 12, order=0)[:k, :j, :i]
    return volume.with_array(np.where(volume.array > 60, regions, 0).astype(np.float32))


def ct(volume: Volume) -> Volume:
    """Hounsfield units: noisy air, soft tissue at 20 to 45, bright bone."""
    array, rng = volume.array, np.random.default_rng(3)
    tissue = 20 + 25 * np.clip(array / array.max(), 0, 1)
    units = np.where(array > 0.06 * array.max(), tissue, -1000) + rng.normal(0, 6, array.shape)
    units[array > 0.7 * array.max()] = 900
    return volume.with_array(units.astype(np.float32))


def scaled(volume: Volume, factor: float) -> Volume:
    """The same voxels, ``factor`` times as large."""
    return Volume(volume.array, volume.affine @ np.diag([factor] * 3 + [1.0]))
