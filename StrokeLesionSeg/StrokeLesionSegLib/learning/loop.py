"""The trainer's loop: step after step on samples, with a running mean, a falling rate, checkpoints.

Stops at any moment and goes on where it was.
"""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from .checkpoint import TrainingProgress, load_run, save_run
from .step import StepOptions, StepResult, make_batch, make_step, voxel_weight
from .strokes.anatomy import Anatomy
from .strokes.head import Sample

# No step takes longer; a machine that slept in the middle of one has not trained meanwhile.
_LONGEST_STEP_S = 180.0


@dataclass(frozen=True)
class LoopOptions:
    """How to train.

    ``minutes``, ``steps``: when to stop, None for never; counted since ``since``, the step and the
    second of the run, or since this sitting began if that is None. ``rate``: learning rate,
    constant after a rise of ``rise`` steps. ``fall``: share of the time at the end in which it
    falls to nothing. ``decay``: of the running mean.
    ``save_minutes``, ``report``: minutes between checkpoints, steps between lines of the log.
    ``device``: "cpu", "cuda" or "mps"; samples come from the CPU in any case.

    Raises ``InputError`` for a rate or share out of range.
    """

    minutes: float | None = None
    steps: int | None = None
    since: tuple[int, float] | None = None
    rate: float = 7e-4
    rise: int = 40
    fall: float = 0.0
    decay: float = 0.9985
    weight_decay: float = 1e-2
    save_minutes: float = 10.0
    report: int = 50
    device: str = "cpu"
    step: StepOptions = field(default_factory=StepOptions)

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.rise < 1 or not 0 <= self.fall <= 1:
            raise InputError(
                "--rate, --fall", "are out of range", "Give a rate above 0 and a share up to 1"
            )


@dataclass(frozen=True, eq=False)
class Trained:
    """``mean``: the running mean of the weights, which is what one uses. ``complete``: whether the
    time was used up, or somebody stopped it."""

    mean: nn.Module
    progress: TrainingProgress
    complete: bool


@dataclass(frozen=True, eq=False)
class Material:
    """What a network learns from: ``samples`` shows scans from a step on, ``rng`` is what a step
    draws from. ``teacher``: see ``make_step``; asked for samples that are ``taught``.
    ``closely``: for a network without experience and for few steps: at first the running mean
    follows it more closely, over a twentieth of the steps that were taken."""

    samples: Callable[[int], Iterator[Sample]]
    rng: Callable[[int], np.random.Generator]
    teacher: nn.Module | None = None
    closely: bool = False


def train_network(
    network: nn.Module,
    run: Path,
    options: LoopOptions,
    material: Material,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    tell: Callable[[TrainingProgress, float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Trained:
    """Train ``network`` in ``run`` until told to stop; goes on from what is saved there.

    ``tell``: called after every step with the share of the time that is over. SIGTERM and SIGINT
    save and end, as ``cancel`` does.

    Raises ``InputError`` for runs that cannot be read or written.
    """
    device = torch.device(options.device)
    network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    mean = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), options.rate, weight_decay=options.weight_decay
    )
    progress = load_run(run, network, mean, optimizer) or TrainingProgress()
    record: dict[str, Any] = asdict(options)
    before = TrainingProgress(*(options.since or (progress.step, progress.seconds)))
    clock = _Clock(progress.seconds)
    saved = clock.seconds
    source = material.samples(progress.step)
    weight = voxel_weight(Anatomy.of_template().brain).to(device)
    template = _template().to(device)
    recent: list[StepResult] = []
    waited, sitting = 0.0, progress.seconds
    complete = False
    with _Stop() as stop:
        while not stop.asked and not (cancel is not None and cancel()):
            share = _share(progress, before, options)
            if share >= 1:
                complete = True
                break
            rise = min(1.0, (progress.step - before.step + 1) / options.rise)
            for group in optimizer.param_groups:
                group["lr"] = options.rate * rise * _falling(share, options.fall)
            asked = time.monotonic()
            sample = next(source)
            waited += time.monotonic() - asked
            chosen = material.rng(progress.step)
            shown = (sample.image, sample.lesions, sample.ventricles)
            image, lesions, ventricles = (t.to(device) for t in shown)
            batch = make_batch(
                image.float(), lesions, ventricles, template, weight,
                chosen.random() >= options.step.no_mirror,
            )  # fmt: skip
            loss, result = make_step(
                network, mean, batch, options.step, chosen, autocast,
                material.teacher if sample.taught else None,
            )  # fmt: skip
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            young = (progress.step + 1) / (progress.step + 20) if material.closely else 1.0
            _follow(mean, network, min(options.decay, young))
            progress.step += 1
            recent = [*recent[-4 * options.report + 1 :], result]
            progress.seconds = clock.tick()
            if progress.step % options.report == 0:
                part = waited / max(1e-6, progress.seconds - sitting)
                progress.log.append(_line(progress, recent, part))
            if tell is not None:
                tell(progress, min(1.0, _share(progress, before, options)))
            if progress.seconds - saved > options.save_minutes * 60:
                save_run(run, network, mean, optimizer, progress, record)
                saved = progress.seconds
        save_run(run, network, mean, optimizer, progress, record)
    return Trained(mean, progress, complete)


def _template() -> torch.Tensor:
    """(1, 1, 80, 96, 80) float32: the template's T1 at 2 mm in [0, 1]."""
    from ..inference.volumetric import template_channel

    return torch.from_numpy(template_channel().copy())[None, None]


def _share(progress: TrainingProgress, before: TrainingProgress, options: LoopOptions) -> float:
    """How much of the time is over."""
    minutes = (progress.seconds - before.seconds) / 60
    return max(
        minutes / options.minutes if options.minutes else 0.0,
        (progress.step - before.step) / options.steps if options.steps else 0.0,
    )


def _falling(share: float, fall: float) -> float:
    """Factor of the learning rate: 1, then half a cosine down to a hundredth."""
    if not fall or share < 1 - fall:
        return 1.0
    return float(0.5 * (1 + np.cos(np.pi * (share - 1 + fall) / fall)) * 0.99 + 0.01)


@torch.no_grad()
def _follow(mean: nn.Module, network: nn.Module, decay: float) -> None:
    for old, new in zip(mean.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def _line(progress: TrainingProgress, part: list[StepResult], waited: float) -> dict[str, Any]:
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


class _Clock:
    """Seconds spent, with no step longer than any step is."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._last = seconds, time.monotonic()

    def tick(self) -> float:
        now = time.monotonic()
        self.seconds += min(now - self._last, _LONGEST_STEP_S)
        self._last = now
        return self.seconds


class _Stop:
    """True in ``asked`` once SIGTERM or SIGINT came, within the context."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Stop:
        try:
            for name in (signal.SIGTERM, signal.SIGINT):
                self._before[name] = signal.signal(name, self._ask)
        except ValueError:  # not the main thread: nobody sends signals there
            pass
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
