"""Simulated scans, made in a process of their own while the network trains."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator

import torch
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy
from StrokeLesionSegLib.learning.strokes.head import (
    Sample,
    StrokeFrequencies,
    scan_of,
    simulate_head,
)
from torch.utils.data import DataLoader, IterableDataset

from .heads import HeadFolder

# One anatomy is scanned twice: two looks for the price of little more than one.
_SCANS_EACH = 2
# Between the two scans of a head others come, so that a step is not followed by its twin.
_APART = 6
# By the law of volumes alone small strokes are seen too rarely, and are missed.
FREQUENCIES = StrokeFrequencies(small=0.35)


class SimulatedScans(IterableDataset):
    """Endless simulated scans of the part "train"; ``seed`` and worker fix them.

    ``soft``: weight of a teacher's probability against its mask, in heads that one has labelled.
    """

    def __init__(
        self,
        folder: HeadFolder,
        seed: int,
        often: StrokeFrequencies = FREQUENCIES,
        soft: float = 0.5,
    ) -> None:
        self.folder, self.seed, self.often, self.soft = folder, seed, often, soft

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        info = torch.utils.data.get_worker_info()
        if info is not None:  # else the network trains in this process
            torch.set_num_threads(1)
        g = torch.Generator().manual_seed(self.seed * 1009 + (info.id if info else 0))
        anatomy, bank = Anatomy.of_template(), self.folder.bank("train")
        names = self.folder.names("train")
        # Those of 1 mm are few, but are what most users have.
        weights = torch.tensor([1.0 if n.startswith("IXI") else 3.0 for n in names])
        waiting: list[tuple[int, object]] = []
        while True:
            while len(waiting) < _APART:
                head = self.folder.head(names[int(torch.multinomial(weights, 1, generator=g))])
                drawn = simulate_head(g, head, anatomy, bank, self.often)
                waiting += [(0, drawn)] * 1
                waiting += [(1, drawn)] * (_SCANS_EACH - 1)
            n = int(torch.randint(len(waiting), (), generator=g))
            yield pack(scan_of(g, waiting.pop(n)[1], anatomy), self.soft)  # type: ignore[arg-type]


def _own_session(worker: int) -> None:
    """Ctrl-C in a terminal reaches every process of it. Only the trainer has to know: once it has
    saved, it ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()


def _way_to_start() -> multiprocessing.context.BaseContext | None:
    """Of a worker, None for the usual one. The server that forks them, Python 3.14's usual way on
    Linux, stays in the terminal's group: told to end, it would take its workers with it before the
    trainer has saved."""
    forkserver = multiprocessing.get_start_method() == "forkserver"
    return multiprocessing.get_context("spawn") if forkserver else None


def pack(sample: Sample, soft: float) -> tuple[torch.Tensor, ...]:
    """Image and uncertain lesions in float16, the rest in bool: less memory between processes."""
    lesions = sample.lesions
    if sample.soft is not None and soft > 0:
        lesions = torch.lerp(lesions.float(), sample.soft, soft).half()
    return sample.image.half(), lesions, sample.ventricles


def scans(
    folder: HeadFolder, workers: int, seed: int | None = None, soft: float = 0.5
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Scans from ``workers`` processes, each a few ahead; without a seed others each time.

    Each is image (float16), lesions (bool, or float16 where a teacher was uncertain) and
    ventricles.
    """
    seed = time.time_ns() % 2**31 if seed is None else seed
    loader = DataLoader(
        SimulatedScans(folder, seed, soft=soft),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        worker_init_fn=_own_session if workers else None,
        multiprocessing_context=_way_to_start() if workers else None,
    )
    return iter(loader)
