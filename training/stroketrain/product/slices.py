"""Batches of 2D slices drawn from a cache: one view a batch, cropped about the brain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from StrokeLesionSegLib.images import MNI_GRID
from torch import Tensor
from torch.utils.data import IterableDataset

from ..data.cache import Cache
from ..data.neighbourhood import SLICE_ALONE, Planes

VIEWS = ("axial", "coronal", "sagittal")
# Axis of the (K, J, I) volume that each view steps through.
# Centre (k, j, i) and size of the patch that holds an MNI152 brain.
_CENTRE = (80, 105, 98)
PATCH = {"axial": (192, 160), "coronal": (160, 160), "sagittal": (160, 192)}
# Slices of the MNI grid that hold brain, per axis.
_BRAIN_RANGE = ((3, 156), (14, 194), (22, 175))


def lesion_slices(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Numbers of the slices of ``mask`` (K, J, I) that hold lesion: axial, coronal, sagittal."""
    return tuple(np.flatnonzero(mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1)))


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
    """A bounded stream of batches, the same for the same seed.

    Each item: ``image`` (B, P, H, W) and ``mask`` (B, M, H, W) uint8, the slice itself first and
    then what ``planes`` adds; ``places`` (B, 4) int64
    (scan, slice, first row, first column), ``axis`` that the view steps through, and ``mirror`` 1
    if the last axis is left-right (axial, coronal), else 0. With ``numbers_only`` it goes without
    the pixels: for a ``ResidentCache``, which cuts them out itself. From a cache that a teacher has
    labelled, its probabilities come as ``soft`` (B, 1, H, W) uint8.

    ``skip`` steps at its start are left out: those that a killed run has done. Of ``world``
    processes that share a run, each draws its own batches, by its ``rank``.
    """

    def __init__(self, cache: Cache, sampling: Sampling, steps: int, seed: int, skip: int = 0):
        super().__init__()
        self.cache, self.sampling, self.steps = cache, sampling, steps
        self.seed, self.skip = seed, skip
        self.rank, self.world, self.numbers_only = 0, 1, False
        self.planes: Planes = SLICE_ALONE
        # Which slices of each scan and view hold lesion; found once.
        self._lesion = [lesion_slices(np.asarray(m)) for m in cache.masks]

    def __len__(self) -> int:
        return self.steps

    def scans(self, step: int) -> list[tuple[np.ndarray, ...]]:
        """Of each scan that may be drawn at ``step`` the slices with lesion, by view."""
        return self._lesion

    def _place(
        self, rng: np.random.Generator, axis: int, scans: list[tuple[np.ndarray, ...]]
    ) -> tuple[int, int, int, int]:
        n = int(rng.integers(len(scans)))
        hits = scans[n][axis]
        if len(hits) and rng.random() < self.sampling.lesion_share:
            at = int(rng.choice(hits))
        else:
            at = int(rng.integers(*_BRAIN_RANGE[axis]))
        corner = []
        rest = [a for a in range(3) if a != axis]
        for a, length in zip(rest, PATCH[VIEWS[axis]], strict=True):
            middle = _CENTRE[a] + int(rng.integers(-8, 9))
            corner.append(min(max(0, middle - length // 2), MNI_GRID.shape[a] - length))
        return n, at, corner[0], corner[1]

    def places(self, step: int) -> tuple[int, list[tuple[int, int, int, int]]]:
        """View axis and places of batch number ``step``, whatever was drawn before it."""
        who = (self.seed, step, self.rank) if self.world > 1 else (self.seed, step)
        rng = np.random.default_rng(who)
        axis = int(rng.choice(3, p=self.sampling.views))
        scans = self.scans(step)
        return axis, [self._place(rng, axis, scans) for _ in range(self.sampling.batch)]

    def _read(self, axis: int, place: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
        """Image planes (P, H, W), mask planes (M, H, W) and the teacher's, if any, of a place."""
        n, at, *corner = place
        rest = [a for a in range(3) if a != axis]

        def cut(volumes: np.ndarray, offset: int, mirrored: bool = False) -> np.ndarray:
            where: list[slice | int] = [slice(None)] * 3
            last = volumes.shape[3] - 1
            where[axis] = min(max(0, at + offset), volumes.shape[1 + axis] - 1)
            if mirrored and axis == 2:
                where[axis] = last - at
            for a, start, length in zip(rest, corner, PATCH[VIEWS[axis]], strict=True):
                where[a] = slice(start, start + length)
                if mirrored and a == 2:
                    where[a] = slice(last + 1 - start - length, last + 1 - start)
            plane = np.asarray(volumes[(n, *where)])
            return plane[:, ::-1] if mirrored and axis != 2 else plane

        images = [cut(self.cache.images, *one) for one in self.planes.of_image()]
        masks = [cut(self.cache.masks, offset) for offset in (0, *self.planes.offsets)]
        read = {"image": np.stack(images), "mask": np.stack(masks)}
        if self.cache.probabilities is not None:
            read["soft"] = cut(self.cache.probabilities, 0)[None]
        return read

    def batch(self, step: int) -> dict[str, Tensor]:
        """Batch number ``step``, whatever was drawn before it."""
        axis, places = self.places(step)
        where = {
            "places": torch.tensor(places),
            "axis": torch.tensor(axis),
            "mirror": torch.tensor(int(axis < 2)),
        }
        if self.numbers_only:
            return where
        read = [self._read(axis, place) for place in places]
        pixels = {key: torch.from_numpy(np.stack([one[key] for one in read])) for key in read[0]}
        return {**pixels, **where}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        info = torch.utils.data.get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for step in range(self.skip + first, self.steps, stride):
            yield self.batch(step)
