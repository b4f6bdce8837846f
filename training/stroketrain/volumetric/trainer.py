"""Train the volumetric network in pieces: stop at any moment, go on where it was."""

from __future__ import annotations

import copy
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.learning.step import (
    StepOptions,
    StepResult,
    make_batch,
    make_step,
    voxel_weight,
)
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet
from torch import nn

from .checkpoint import Progress, load_run, save_run
from .heads import HeadFolder
from .stream import scans


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    ``minutes``, ``steps``: when to stop, None for never. ``rate``: learning rate, constant after a
    short rise. ``fall``: share of ``minutes`` at the end in which it falls to nothing (for a
    release). ``decay``: of the running mean. ``threads``: torch's. ``workers``: simulators.
    ``save_minutes``, ``report``: minutes between checkpoints, steps between lines of the log.
    """

    minutes: float | None = None
    steps: int | None = None
    rate: float = 7e-4
    fall: float = 0.0
    decay: float = 0.9985
    weight_decay: float = 1e-2
    threads: int = 2
    workers: int = 1
    save_minutes: float = 10.0
    report: int = 50
    seed: int | None = None
    step: StepOptions = field(default_factory=StepOptions)

    def __post_init__(self) -> None:
        if self.rate <= 0 or not 0 <= self.fall <= 1:
            raise InputError("--rate, --fall", "out of range", "a rate above 0, a share up to 1")


def train(
    folder: HeadFolder,
    run: Path,
    options: TrainOptions,
    *,
    start: Path | None = None,
    network: VolumetricUNet | None = None,
) -> Progress:
    """Train in ``run`` until told to stop; goes on from what is saved there.

    ``start``: safetensors weights to begin with, where ``run`` is new. SIGTERM and SIGINT save and
    end. Raises ``InputError`` for weights that do not fit and runs that cannot be read.
    """
    torch.set_num_threads(options.threads)
    network = network or VolumetricUNet()
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if start is not None:
        load_weights(network, start)
    mean = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), options.rate, weight_decay=options.weight_decay
    )
    progress = load_run(run, network, mean, optimizer) or Progress()
    first = progress.step
    record: dict[str, Any] = asdict(options)
    stop = _Stop()
    began, saved, spent = time.monotonic(), time.monotonic(), progress.seconds
    source = scans(folder, options.workers, options.seed)
    anatomy = Anatomy.of_template()
    template, weight = folder.template(), voxel_weight(anatomy.brain)
    rng = np.random.default_rng(time.time_ns() % 2**31 if options.seed is None else options.seed)
    recent: list[StepResult] = []
    waited = 0.0
    while not stop.asked:
        elapsed = (time.monotonic() - began) / 60
        done = progress.step - first
        share = max(
            elapsed / options.minutes if options.minutes else 0.0,
            done / options.steps if options.steps else 0.0,
        )
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1.0, (done + 1) / 40) * _falling(share, options.fall)
        asked = time.monotonic()
        image, lesions, ventricles = next(source)
        waited += time.monotonic() - asked
        mirror = rng.random() >= options.step.no_mirror
        batch = make_batch(image.float(), lesions, ventricles, template, weight, mirror)
        loss, result = make_step(network, mean, batch, options.step, rng, _bfloat16)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # A young network is followed closely; weights that were there before count as they are.
        young = (progress.step + 1) / (progress.step + 20) if start is None else 1.0
        _follow(mean, network, min(options.decay, young))
        progress.step += 1
        recent.append(result)
        progress.seconds = spent + time.monotonic() - began
        if progress.step % options.report == 0:
            line = _line(
                progress, recent[-4 * options.report :], waited / (time.monotonic() - began)
            )
            progress.log.append(line)
            print(line, flush=True)
        if time.monotonic() - saved > options.save_minutes * 60:
            save_run(run, network, mean, optimizer, progress, record)
            saved = time.monotonic()
    save_run(run, network, mean, optimizer, progress, record)
    return progress


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill ``network`` from a safetensors file. Raises ``InputError`` if they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict({n: t.float() for n, t in load_file(path).items()})
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise InputError(path, f"does not fit the network ({first})", "see --network") from error


def _bfloat16() -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16)


def _falling(share: float, fall: float) -> float:
    """Factor of the learning rate: 1, then half a cosine down to a hundredth."""
    if not fall or share < 1 - fall:
        return 1.0
    return float(0.5 * (1 + np.cos(np.pi * (share - 1 + fall) / fall)) * 0.99 + 0.01)


@torch.no_grad()
def _follow(mean: nn.Module, network: nn.Module, decay: float) -> None:
    for old, new in zip(mean.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def _line(progress: Progress, part: list[StepResult], waited: float) -> dict[str, Any]:
    def dice(guided: bool) -> float | None:
        found = [r.dice for r in part if r.dice is not None and r.guided == guided]
        return round(float(np.mean(found)), 3) if found else None

    return {
        "step": progress.step,
        "minutes": round(progress.seconds / 60, 1),
        "loss": round(float(np.mean([r.loss for r in part])), 3),
        "dice": dice(False),
        "dice_guided": dice(True),
        "waiting": round(waited, 3),
    }


class _Stop:
    """True in ``asked`` once SIGTERM or SIGINT came."""

    def __init__(self) -> None:
        self.asked = False
        try:
            for name in (signal.SIGTERM, signal.SIGINT):
                signal.signal(name, self._ask)
        except ValueError:  # not the main thread: nobody sends signals there
            pass

    def _ask(self, *_: object) -> None:
        self.asked = True
