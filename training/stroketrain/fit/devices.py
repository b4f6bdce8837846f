"""Where a run computes: one device, or several processes on one machine or many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from StrokeLesionSegLib.errors import InputError

from ..data.cache import Cache
from ..data.resident import ResidentCache

RESIDENCY = ("auto", "yes", "no")
# One cache at a time, so that a row's runs one after another copy it to the device once.
_kept: list[tuple[tuple[str, int, str], ResidentCache]] = []


@dataclass(frozen=True)
class Devices:
    """What Lightning's Trainer is told.

    Attributes
    ----------
    accelerator: "auto", "cpu", "gpu" or "mps".
    devices, nodes: processes on each machine, and machines. Under ``torchrun`` they must be what
        ``--nproc-per-node`` and ``--nnodes`` say.
    strategy: Lightning's name for how processes work together; "auto" is one process alone, or
        distributed data parallel for several. A cascade needs
        "ddp_find_unused_parameters_true", since a batch without lesion leaves two of its networks
        out.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}", "is less than one", "Use 1 or more")

    @property
    def shared(self) -> bool:
        """Whether several processes work on the run."""
        return self.devices * self.nodes > 1

    def trainer_options(self) -> dict[str, Any]:
        """Arguments of Lightning's Trainer. Batches are dealt to the processes by the streams
        themselves, so Lightning adds no sampler."""
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "num_nodes": self.nodes,
            "strategy": self.strategy,
            "use_distributed_sampler": False,
        }


class Deal(Callback):
    """Gives each process its own batches, and its own share of the scans to be measured.

    ``stream`` has ``rank`` and ``world``; ``rows`` is a list that is cut down in place, unless
    there are fewer rows than processes: then every process measures them all.
    """

    def __init__(self, stream: Any, rows: list[Any] | None = None) -> None:
        self.stream, self.rows = stream, rows

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        self.stream.rank, self.stream.world = trainer.global_rank, trainer.world_size
        if self.rows is not None and len(self.rows) >= trainer.world_size > 1:
            self.rows[:] = self.rows[trainer.global_rank :: trainer.world_size]
            module.measures_a_share = True


def place(cache: Cache, device: torch.device, wanted: str = "auto") -> ResidentCache | None:
    """The cache on ``device``, or None where it stays mapped from its file.

    "auto" places it on a GPU if it fits; on a CPU the file's pages lie in memory anyway. Raises
    ``InputError`` if it was asked for and does not fit.
    """
    if wanted not in RESIDENCY:
        raise InputError("--resident", f"unknown value {wanted!r}", f"Use {', '.join(RESIDENCY)}")
    if wanted == "no" or (wanted == "auto" and device.type == "cpu"):
        return None
    key = (cache.fingerprint, cache.shrink, str(device))
    for kept, resident in _kept:
        if kept == key:
            return resident
    _kept.clear()
    if not ResidentCache.fits(cache, device):
        if wanted == "auto":
            return None
        raise InputError(
            "--resident yes",
            f"the cache does not fit into the memory of {device}",
            "Use auto or no",
        )
    resident = ResidentCache(cache, device)
    _kept.append((key, resident))
    return resident


def seed_step(seed: int, device: torch.device) -> torch.Generator:
    """Seed what dropout on ``device`` draws from, and give a generator there for all other draws.

    ``torch.manual_seed`` does so on every kind of device there might be, which takes ten times as
    long as the whole of a small step's bookkeeping.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    return torch.Generator(device).manual_seed(seed)


def gather(rows: list[Any]) -> list[Any]:
    """The rows of every process, in their order; every process has to call it."""
    if not torch.distributed.is_initialized():
        return rows
    found: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(found, rows)
    return [row for part in found for row in part]
