"""Axial slices as the papers feed them: which slices, framed how, in which batches (A4, A6, B2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.networks import neighbours
from torch import Tensor
from torch.utils.data import IterableDataset

from ..data.cache import Cache
from ..data.splits import Split

# The 100 central axial slices of the 189 (A4).
STACK = (44, 144)


def slice_range(
    window: Sequence[int] | None = None, index_base: str = "absolute", depth: int = 189
) -> range:
    """Which axial slices: all of them without ``window``.

    ``window`` [70, 90) is read as voxel z ("absolute"), or as a position in the stack of 100
    central slices ("stack"), then z = 114 .. 133. Raises ``InputError`` if it leaves the volume.
    """
    if window is None:
        return range(depth)
    if index_base not in ("absolute", "stack"):
        raise InputError("index_base", f"unknown base {index_base!r}", "Use absolute or stack")
    shift = STACK[0] if index_base == "stack" else 0
    low, high = int(window[0]) + shift, int(window[1]) + shift
    limit = STACK[1] if index_base == "stack" else depth
    if not 0 <= low < high <= limit:
        raise InputError(
            "window", f"slices {low} to {high} are not in the volume", "Make it smaller"
        )
    return range(low, high)


@dataclass(frozen=True)
class Frame:
    """Between ATLAS slices of 233 x 197 and what a network takes.

    Attributes
    ----------
    mode: "pad" with zeros to the next multiple (208 x 240 in the paper, here rows first: 240 x
        208), or "crop" to the next lower one (232 x 196).
    multiple: 16 for the U-Nets, 4 for the CS230 network.
    shrink: whole factor by which slices are averaged down first; 1 outside of quick trials.
    """

    mode: str = "pad"
    multiple: int = 16
    shrink: int = 1

    def size(self, height: int = 233, width: int = 197) -> tuple[int, int]:
        """Height and width after shrinking and framing."""
        sizes = []
        for n in (height // self.shrink, width // self.shrink):
            up = -(-n // self.multiple) * self.multiple
            sizes.append(up if self.mode == "pad" else n // self.multiple * self.multiple)
        return sizes[0], sizes[1]

    def shrunk(self, x: Tensor, mask: bool = False) -> Tensor:
        """(B, C, H, W) averaged down; a mask keeps a voxel that is lesion in any part."""
        if self.shrink == 1:
            return x
        return F.max_pool2d(x, self.shrink) if mask else F.avg_pool2d(x, self.shrink)

    def put(self, x: Tensor) -> Tensor:
        """Pad or crop (..., H, W) about the middle; sizes after ``shrunk``."""
        height, width = x.shape[-2:]
        unit = Frame(self.mode, self.multiple)
        rows, columns = unit.size(height, width)
        top, left = (rows - height) // 2, (columns - width) // 2
        # Negative padding crops.
        return F.pad(x, (left, columns - width - left, top, rows - height - top))

    def take(self, y: Tensor, height: int, width: int, outside: float = 0.0) -> Tensor:
        """The inverse of ``put``, back to ``height`` x ``width``; ``outside`` where it was cropped
        away (a logit there is no lesion only if ``outside`` says so)."""
        rows, columns = y.shape[-2:]
        top, left = (rows - height) // 2, (columns - width) // 2
        pad = (-left, width - columns + left, -top, height - rows + top)
        return F.pad(y, pad, value=outside)


Unit = tuple[int, int]  # (scan in the cache, z)


def units_of(cache: Cache, split: Split, part: str, slices: range) -> list[Unit]:
    """(scan, z) of one part of a split, within ``slices``."""
    number = {scan["name"]: n for n, scan in enumerate(cache.scans)}
    allowed = set(slices)
    units = []
    for name, chosen in split.parts[part].items():
        for z in slices if chosen is None else chosen:
            if z in allowed:
                units.append((number[name], int(z)))
    return units


@dataclass(frozen=True)
class BatchPlan:
    """How an epoch is cut into batches.

    ``by_scan`` takes all slices of one scan as one batch (A4), otherwise ``batch`` slices are drawn
    from everywhere. ``slices``: neighbouring ones that the network sees at once. ``depth``: of the
    slabs of volumetric networks. ``repeats``: how often an epoch goes through the slices.
    ``limit`` bounds its batches.
    """

    batch: int
    by_scan: bool = False
    slices: int = 1
    depth: int = 1
    repeats: int = 1
    limit: int | None = None
    seed: int = 0


class PlaneBatches(IterableDataset[dict[str, Tensor]]):
    """The batches of one epoch, a function of seed, epoch and number alone.

    Each item: ``image`` (B, S, H, W) and ``mask`` (B, 1, H, W), uint8, S neighbouring slices (1
    for 2D).

    ``numbers_only`` gives ``units`` (B, 2) int64, (scan, z), instead: for a ``ResidentCache``,
    which cuts them out itself. Of ``world`` processes that share a run, number ``rank`` gets every
    ``world``-th batch. ``skip`` batches of the next epoch that is begun are left out; a run that
    was killed in the middle of an epoch goes on with the rest of it.
    """

    def __init__(
        self,
        cache: Cache,
        units: Sequence[Unit],
        plan: BatchPlan,
        *,
        numbers_only: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__()
        self.cache, self.units, self.plan = cache, list(units), plan
        self.epoch, self.skip = 0, 0
        self.numbers_only, self.rank, self.world = numbers_only, rank, world

    def batches(self, epoch: int) -> list[list[Unit]]:
        """The units of each batch of an epoch."""
        rng = np.random.default_rng((self.plan.seed, epoch))
        if self.plan.by_scan:
            scans: dict[int, list[Unit]] = {}
            for unit in self.units:
                scans.setdefault(unit[0], []).append(unit)
            rows = [scans[n] for n in sorted(scans)] * self.plan.repeats
            rows = [rows[n] for n in rng.permutation(len(rows))]
            groups = [
                row[a : a + self.plan.batch]
                for row in rows
                for a in range(0, len(row), self.plan.batch)
            ]
        else:
            pool = self.units * self.plan.repeats
            order = rng.permutation(len(pool))
            groups = [
                [pool[n] for n in order[a : a + self.plan.batch]]
                for a in range(0, len(order), self.plan.batch)
            ]
        # A last batch of one would give batch normalisation nothing to go by.
        groups = [g for g in groups if len(g) > 1] or groups
        return groups[: self.plan.limit] if self.plan.limit else groups

    def __len__(self) -> int:
        """Batches of an epoch that one process gets; every epoch has as many."""
        return max(1, len(self.batches(0)) // self.world)

    def read(self, units: Sequence[Unit]) -> dict[str, Tensor]:
        """Slices of the cache as a batch."""
        images, masks = [], []
        half = self.plan.slices // 2
        depth = self.cache.images.shape[1]
        for n, z in units:
            around = [min(max(0, z + d), depth - 1) for d in range(-half, half + 1)]
            images.append(np.stack([np.asarray(self.cache.images[n, a]) for a in around]))
            masks.append(np.asarray(self.cache.masks[n, z])[None])
        return {
            "image": torch.from_numpy(np.stack(images)),
            "mask": torch.from_numpy(np.stack(masks)),
        }

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        groups = self.batches(self.epoch)[self.rank :: self.world] or self.batches(self.epoch)
        groups = groups[self.skip : len(self)]
        self.epoch, self.skip = self.epoch + 1, 0
        for units in groups:
            yield {"units": torch.tensor(units)} if self.numbers_only else self.read(units)


class SlabBatches(PlaneBatches):
    """Slabs of ``plan.depth`` neighbouring slices for volumetric networks.

    Each item: ``image`` and ``mask`` (B, 1, depth, H, W) uint8; about half of the slabs are drawn
    around a slice with lesion where the scan has one.
    """

    def __init__(self, cache: Cache, units: Sequence[Unit], plan: BatchPlan, **share: Any) -> None:
        super().__init__(cache, units, plan, **share)
        self._lesion: dict[int, list[int]] = {}

    def batches(self, epoch: int) -> list[list[Unit]]:
        rng = np.random.default_rng((self.plan.seed, epoch, 3))
        spans: dict[int, list[int]] = {}
        for n, z in self.units:
            spans.setdefault(n, []).append(z)
        starts = []
        for _ in range(self.plan.repeats):
            for n in sorted(spans):
                zs = sorted(spans[n])
                low, high = zs[0], max(zs[0], zs[-1] + 1 - self.plan.depth)
                at = int(rng.integers(low, high + 1))
                hit = self._with_lesion(n, zs)
                if hit and rng.random() < 0.5:
                    middle = hit[int(rng.integers(len(hit)))] - self.plan.depth // 2
                    at = min(max(low, middle), high)
                starts.append((n, at))
        order = [starts[n] for n in rng.permutation(len(starts))]
        groups = [order[a : a + self.plan.batch] for a in range(0, len(order), self.plan.batch)]
        return groups[: self.plan.limit] if self.plan.limit else groups

    def _with_lesion(self, n: int, zs: list[int]) -> list[int]:
        """Those of a scan's slices that hold lesion; read once, not for every epoch and length."""
        if n not in self._lesion:
            self._lesion[n] = [z for z in zs if self.cache.masks[n, z].any()]
        return self._lesion[n]

    def read(self, units: Sequence[Unit]) -> dict[str, Tensor]:
        slabs = [
            [np.asarray(array[n, z : z + self.plan.depth]) for n, z in units]
            for array in (self.cache.images, self.cache.masks)
        ]
        for group in slabs:
            for number, slab in enumerate(group):
                missing = self.plan.depth - len(slab)
                if missing:  # a window shorter than the slab, or the end of the volume
                    group[number] = np.pad(slab, ((0, missing), (0, 0), (0, 0)))
        image, mask = (torch.from_numpy(np.stack(group))[:, None] for group in slabs)
        return {"image": image, "mask": mask}


def scan_stack(volume: Tensor, zs: Sequence[int], slices: int) -> Tensor:
    """Slices ``zs`` of a volume (K, H, W) with their neighbours: (len(zs), slices, H, W)."""
    return neighbours(volume, torch.as_tensor(list(zs)), slices)
