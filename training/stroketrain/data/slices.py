"""Batches of 2D slices drawn from a cache: one view a batch, cropped about the brain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from .cache import Cache

VIEWS = ("axial", "coronal", "sagittal")
# Axis of the (K, J, I) volume that each view steps through.
VIEW_AXIS = {"axial": 0, "coronal": 1, "sagittal": 2}
# Centre (k, j, i) and size of the patch that holds an MNI152 brain.
_CENTRE = (80, 105, 98)
PATCH = {"axial": (192, 160), "coronal": (160, 160), "sagittal": (160, 192)}
# Slices of the MNI grid that hold brain, per axis.
_BRAIN_RANGE = ((3, 156), (14, 194), (22, 175))


@dataclass(frozen=True)
class Sampling:
    """How slices are drawn.

    Attributes
    ----------
    views: share of batches of each view.
    lesion_share: share of slices that are drawn among those with lesion, in scans that have any.
    batch: slices in a batch.
    """

    views: tuple[float, float, float] = (0.6, 0.2, 0.2)
    lesion_share: float = 0.6
    batch: int = 16


class SliceStream(IterableDataset[dict[str, Tensor]]):
    """An endless or bounded stream of batches, the same for the same seed.

    Each item: ``image`` (B, 1, H, W) uint8, ``mask`` (B, 1, H, W) uint8, ``mirror`` 1 if the last
    axis is left-right (axial, coronal), else 0.
    """

    def __init__(self, cache: Cache, sampling: Sampling, steps: int, seed: int, skip: int = 0):
        super().__init__()
        self.cache, self.sampling, self.steps = cache, sampling, steps
        self.seed, self.skip = seed, skip
        # Which slices of each scan and view hold lesion; found once.
        self._lesion = [
            [np.nonzero(np.asarray(m).any(axis=other))[0] for other in ((1, 2), (0, 2), (0, 1))]
            for m in cache.masks
        ]

    def __len__(self) -> int:
        return self.steps

    def _slice(self, rng: np.random.Generator, axis: int) -> tuple[np.ndarray, np.ndarray]:
        n = int(rng.integers(len(self.cache)))
        hits = self._lesion[n][axis]
        if len(hits) and rng.random() < self.sampling.lesion_share:
            at = int(rng.choice(hits))
        else:
            at = int(rng.integers(*_BRAIN_RANGE[axis]))
        size = PATCH[VIEWS[axis]]
        rest = [a for a in range(3) if a != axis]
        where: list[slice | int] = [slice(None)] * 3
        where[axis] = at
        for a, length in zip(rest, size, strict=True):
            middle = _CENTRE[a] + int(rng.integers(-8, 9))
            start = min(max(0, middle - length // 2), self.cache.images.shape[1 + a] - length)
            where[a] = slice(start, start + length)
        index = (n, *where)
        return np.asarray(self.cache.images[index]), np.asarray(self.cache.masks[index])

    def batch(self, step: int) -> dict[str, Tensor]:
        """Batch number ``step``, whatever was drawn before it."""
        rng = np.random.default_rng((self.seed, step))
        axis = int(rng.choice(3, p=self.sampling.views))
        pairs = [self._slice(rng, axis) for _ in range(self.sampling.batch)]
        return {
            "image": torch.from_numpy(np.stack([p[0] for p in pairs])[:, None]),
            "mask": torch.from_numpy(np.stack([p[1] for p in pairs])[:, None]),
            "mirror": torch.tensor(int(axis < 2)),
        }

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        info = torch.utils.data.get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for step in range(self.skip + first, self.skip + self.steps, stride):
            yield self.batch(step)
