"""Scans that are simulated while a network trains, in the place of a cache or beside one.

A pool of a fixed number of scans lies on the training device; every so many steps its oldest scan
gives way to a new one. Which scans the pool holds at a step depends on the seed and the step alone,
and each scan on the seed and its number, so a run that was killed goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from ..data.cache import Cache
from ..data.resident import ResidentCache
from .slices import Sampling, SliceStream, lesion_slices
from .windowing import window_to_bytes

# (number of the scan) -> windowed image and mask, (K, J, I) uint8 on the training device.
Draw = Callable[[int], "tuple[Tensor, Tensor]"]


def simulator(
    data: Path | None, anatomies: Path, seed: int, device: torch.device | str, part: str = "train"
) -> Draw:
    """Draws of ``simulate.scan`` over the people and masks of ``part``.

    ``data`` is the folder with t1, lesions and labels; None simulates procedural lesions on
    nilearn's template. ``anatomies`` keeps aligned people between runs. Raises ``InputError`` for
    files that cannot be read.
    """
    from ..simulate.anatomy import Person, cached_anatomy, template_anatomy
    from ..simulate.bank import LesionBank, read_mask_bank
    from ..simulate.scan import simulate_scan
    from ..simulate.subject_split import kind_of, load_subject_split

    people: list[Person] = []
    bank: LesionBank | None = None
    if data is None:
        people = [template_anatomy()]
    else:
        split = load_subject_split()
        for file in split["people"][part]:
            if (data / file).exists():
                try:
                    people.append(cached_anatomy(data / file, kind_of(file), anatomies))
                except ValueError as error:
                    print(f"left out: {error}")
        bank = read_mask_bank(data / f for f in split["masks"][part] if (data / f).exists())

    def draw(number: int) -> tuple[Tensor, Tensor]:
        anatomy = people[number % len(people)]
        g = Generator(device).manual_seed(seed * 1_000_003 + number)
        # People with multiple sclerosis keep their own plaques and get no stroke.
        kind = "healthy" if "openms" in anatomy.person else None
        t1, mask, _ = simulate_scan(g, anatomy, bank, kind=kind)
        image = window_to_bytes(torch.from_numpy(t1.astype(np.int32)).to(device))
        return image, torch.from_numpy(mask).to(device)

    return draw


class SimulatedPool:
    """``size`` simulated scans behind those of a resident cache, renewed one every ``turnover``
    steps; at step s it holds the scans s // turnover to s // turnover + size - 1.

    ``threads`` draw ahead while the network trains.
    """

    def __init__(
        self,
        resident: ResidentCache,
        first: int,
        size: int,
        draw: Draw,
        turnover: int,
        threads: int = 1,
    ) -> None:
        self.resident, self.first, self.size, self.turnover = resident, first, size, turnover
        self.draw = draw
        self.holds = [-1] * size
        self.lesion: list[tuple[np.ndarray, ...]] = [lesion_slices(np.zeros((1, 1, 1)))] * size
        self._workers = ThreadPoolExecutor(max(1, threads))
        self._coming: dict[int, Future[tuple[Tensor, Tensor]]] = {}
        self._ahead = max(1, threads)

    def at(self, step: int) -> None:
        """Make the pool hold what it has to hold at ``step``."""
        start = step // self.turnover
        wanted = range(start, start + self.size)
        missing = [number for number in wanted if self.holds[number % self.size] != number]
        later = range(start + self.size, start + self.size + self._ahead)
        for number in [*missing, *later]:
            if number not in self._coming:
                self._coming[number] = self._workers.submit(self.draw, number)
        for number in missing:
            image, mask = self._coming.pop(number).result()
            slot = number % self.size
            self.resident.put(self.first + slot, image, mask)
            self.lesion[slot] = lesion_slices(mask.cpu().numpy())
            self.holds[slot] = number

    def close(self) -> None:
        """Stop drawing ahead."""
        self._workers.shutdown(wait=False, cancel_futures=True)


class PoolStream(SliceStream):
    """A ``SliceStream`` over a cache and a pool, slices cut out on the device."""

    def __init__(
        self, cache: Cache, pool: SimulatedPool | None, sampling: Sampling, steps: int, seed: int
    ) -> None:
        super().__init__(cache, sampling, steps, seed)
        self.pool, self.numbers_only = pool, True

    def scans(self, step: int) -> list[tuple[np.ndarray, ...]]:
        if self.pool is None:
            raise RuntimeError("the pool is set up when training starts")
        self.pool.at(step)
        return [*self._lesion, *self.pool.lesion]
