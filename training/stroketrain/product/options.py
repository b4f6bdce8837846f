"""What ``stroketrain fit`` can be told about a training; imports nothing heavy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError

from ..values import count, positive, share, whole

NETWORK = {
    "name": "residual_unet",
    "in_channels": 1,
    "filters": [16, 32, 64, 128, 256],
    "skip": "stem",
    "dropout": 0.1,
}


def _option(default: Any, text: str, **argument: Any) -> Any:
    """A field that is an argument of the command, too; its type is that of the default."""
    if isinstance(default, bool):
        argument["action"] = "store_true"
    elif isinstance(default, int | float):
        argument.setdefault("type", type(default))
    return field(default=default, metadata={"help": text, **argument})


@dataclass(frozen=True)
class Simulate:
    """Scans drawn while training: ``data`` as for ``stroketrain simulate``, None for procedural
    lesions on nilearn's template; ``pool`` of them at a time, one new every ``turnover`` steps,
    drawn ahead by ``threads``; ``anatomies`` keeps aligned people between runs."""

    data: Path | None = None
    pool: int = 64
    turnover: int = 20
    threads: int = 1
    anatomies: Path | None = None


@dataclass(frozen=True)
class FitOptions:
    """How a network is trained; what the options mean is told in ``module.LesionModule``.

    Each field but ``network`` and ``simulate`` is an argument of ``stroketrain fit`` of the same
    name; ``run.json`` records them.
    """

    network: Mapping[str, Any] = field(default_factory=lambda: dict(NETWORK))
    channels: tuple[str, ...] | None = _option(
        None,
        "names of the network's inputs in their order; a single one is t1",
        nargs="+",
    )
    steps: int = _option(4000, "batches in all", type=count)
    minutes: float | None = _option(
        None, "stop, well annealed, after this wall time", type=positive
    )
    batch: int = _option(16, "slices in a batch", type=count)
    lr: float = _option(2e-3, "the highest learning rate", type=positive)
    seed: int = _option(0, "of everything that is drawn", type=whole)
    workers: int = _option(
        0, "processes, or threads with --simulate, that prepare batches", type=whole
    )
    start: Path | None = _option(  # noqa: RUF009 (it is a field)
        None, "weights.safetensors of an earlier run to go on from", type=Path
    )
    also: tuple[Path, ...] = _option((), "further caches to draw from", type=Path, nargs="*")
    positive_weight: float = _option(10.0, "weight of lesion pixels at the start", type=positive)
    false_positive: float = _option(0.5, "its weight in Tversky's loss", type=share)
    hard_share: float = _option(0.0, "worst pixels counted again (TopK)", type=share)
    paint: float = _option(
        0.0, "share of slices that get a lesion of random look painted", type=share
    )
    compile: bool = _option(False, "torch.compile; needs a C++ compiler")
    soft: float = _option(0.5, "weight of a teacher's probability against its mask (distill)")
    lesion_share: float = _option(0.65, "share of slices drawn with lesion", type=share)
    ema: float = _option(0.995, "decay of the averaged weights", type=share)
    simulate: Simulate | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.soft <= 1:
            raise InputError("--soft", "is out of range", "Give a share from 0 to 1")

    @classmethod
    def arguments(cls) -> tuple[str, ...]:
        """The names of the fields that are arguments."""
        return tuple(f.name for f in fields(cls) if f.metadata)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add an argument for each field that is one."""
        for one in fields(cls):
            if one.metadata:
                flag = f"--{one.name.replace('_', '-')}"
                parser.add_argument(flag, default=one.default, **one.metadata)

    @classmethod
    def from_arguments(
        cls, a: argparse.Namespace, network: Mapping[str, Any], simulate: Simulate | None
    ) -> FitOptions:
        """What the command line says, lists as tuples."""
        values = {name: getattr(a, name) for name in cls.arguments()}
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(network=network, simulate=simulate, **plain)

    def record(self) -> dict[str, Any]:
        """As JSON, without places on this machine and without what changes no weight."""
        left_out = ("network", "steps", "start", "also", "workers", "compile", "simulate")
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        return {
            **plain,
            "network": dict(self.network),
            "planned_steps": self.steps,
            "started_from": self.start.name if self.start else None,
            "simulated": self.simulate
            and {"pool": self.simulate.pool, "turnover": self.simulate.turnover},
        }


def network_of(text: str) -> dict[str, Any]:
    """A network's spec from JSON; raises ``ValueError``."""
    spec = json.loads(text)
    if not isinstance(spec, dict):
        raise ValueError("an object is expected")
    return spec
