"""Train the volumetric network in pieces: stop at any moment, go on where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.learning.checkpoint import STATE, TrainingProgress
from StrokeLesionSegLib.learning.loop import LoopOptions, Material, Trained, train_network
from StrokeLesionSegLib.learning.strokes.head import Sample
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet
from StrokeLesionSegLib.pipeline import sha256_of
from torch import nn

from ..made_of import RECORD, keep_made_of
from .heads import HeadFolder
from .stream import scans


@dataclass(frozen=True)
class TrainOptions(LoopOptions):
    """How to train: see ``LoopOptions``. ``threads``: torch's. ``workers``: simulators. ``soft``:
    weight of a teacher's probability against its mask, where one has labelled the heads."""

    threads: int = 2
    workers: int = 1
    seed: int | None = None
    soft: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.soft <= 1:
            raise InputError("--soft", "is out of range", "Give a share from 0 to 1")


def train(
    folder: HeadFolder,
    run: Path,
    options: TrainOptions,
    *,
    start: Path | None = None,
    network: VolumetricUNet | None = None,
) -> Trained:
    """Train in ``run`` until told to stop; goes on from what is saved there.

    ``start``: safetensors weights to begin with. SIGTERM and SIGINT save and end.

    Raises ``InputError`` for weights that do not fit, runs that cannot be read, and one that began
    with other weights than ``start``.
    """
    torch.set_num_threads(options.threads)
    network = network or VolumetricUNet()
    if start is not None:
        load_weights(network, start)
    _refuse_other_weights(run, start)
    drawing: list[np.random.Generator] = []

    def rng(step: int) -> np.random.Generator:
        if not drawing:  # of this sitting, which begins with ``step``
            seed = _seed_from(options.seed, step)
            drawing.append(np.random.default_rng(time.time_ns() % 2**31 if seed is None else seed))
        return drawing[0]

    def samples(first: int) -> Iterator[Sample]:
        seed = _seed_from(options.seed, first)
        for image, lesions, ventricles in scans(folder, options.workers, seed, options.soft):
            yield Sample(image, lesions, ventricles)

    def tell(progress: TrainingProgress, share: float) -> None:
        if progress.step % options.report == 0:
            print(progress.log[-1], flush=True)

    # Weights that were there before count as they are.
    young = start is None
    return train_network(
        network, run, options,
        Material(samples, rng, closely=young), tell=tell,
        autocast=partial(torch.autocast, options.device, torch.bfloat16),
    )  # fmt: skip


def _refuse_other_weights(run: Path, start: Path | None) -> None:
    """Raise ``InputError`` if ``run`` holds a run that began with other weights: it goes on with
    its own, and ``start`` would be ignored."""
    there = (run / STATE).is_file()
    # Without --start a run goes on whatever it began with.
    asked = {} if there and start is None else {"--start": start and sha256_of(start)}
    keep_made_of(run / RECORD, asked, holds="a run that began with other weights", there=there)


def _seed_from(seed: int | None, step: int) -> int | None:
    """The seed of a sitting that begins with ``step``: one that goes on must not show the scans
    again that those before it have shown."""
    return None if seed is None else seed + 1_000_003 * step


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill ``network`` from a safetensors file. Raises ``InputError`` if they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict({n: t.float() for n, t in load_file(path).items()})
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise InputError(path, f"does not fit the network ({first})", "See --network") from error
