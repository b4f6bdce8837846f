"""What every fit shares: where it runs, Lightning's trainer, the record of how it came about."""

from __future__ import annotations

import logging
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ..made_of import RECORD, keep_made_of
from .checkpoints import WholeCheckpointIO
from .devices import Devices

LOGGERS = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}

# What Lightning says of ways to work that are meant here.
_MEANT = (
    ".*does not have many workers.*",
    ".*Checkpoint directory.*exists.*",
    ".*smaller than the logging interval.*",
    ".*has `__len__` defined.*",
    ".*your dataloader is not resumable.*",
    # Lightning's own use of torch.
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


@dataclass(frozen=True)
class Runtime:
    """Where and how a fit runs; changes nothing of what is learned but by rounding.

    Attributes
    ----------
    devices: processes and machines.
    precision: Lightning's name, "32-true" or "bf16-mixed".
    resident: whether the cache lies in the device's memory, see ``devices.place``.
    logger: a name in ``LOGGERS``.
    progress: a bar in the terminal.
    save_seconds: time between checkpoints.
    """

    devices: Devices = field(default_factory=Devices)
    precision: str = "32-true"
    resident: str = "auto"
    logger: str = "csv"
    progress: bool = False
    save_seconds: float = 300.0


def make_trainer(
    runtime: Runtime, out: Path, callbacks: Sequence[Callback], **options: Any
) -> L.Trainer:
    """Lightning's trainer with its log in ``out`` and our checkpoints; ``options`` are its own."""
    # What Lightning says about the machine, and of services that it recommends, buries the results.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Into one folder Lightning writes a CSV anew, and that of the sitting before would be gone.
    version = len(list(out.glob("log/version_*"))) if runtime.logger == "csv" else 0
    return L.Trainer(
        precision=runtime.precision,  # type: ignore[arg-type]
        logger=LOGGERS[runtime.logger](out, name="log", version=version),
        callbacks=list(callbacks),
        plugins=[WholeCheckpointIO()],
        enable_progress_bar=runtime.progress,
        enable_model_summary=False,
        **options,
        **runtime.devices.trainer_options(),
    )


def refuse_another_run(resume: Path, asked: Mapping[str, Any]) -> None:
    """Raise ``InputError`` if the checkpoint ``resume`` is of a run that was asked for in another
    way: its weights would be taken for those of this one. ``asked`` is JSON-ready."""
    keep_made_of(
        resume.parent.parent / RECORD,
        asked,
        holds="a run that was asked for in another way",
        there=resume.exists(),
    )


def train(
    trainer: L.Trainer,
    module: L.LightningModule,
    training: Any,
    validation: Any = None,
    *,
    resume: Path,
) -> None:
    """Fit ``module``, from the checkpoint ``resume`` where there is one.

    Raises ``KeyboardInterrupt`` after Ctrl-C or SIGTERM.
    """
    with warnings.catch_warnings():
        for message in _MEANT:
            warnings.filterwarnings("ignore", message=message)
        checkpoint = str(resume) if resume.exists() else None
        try:
            trainer.fit(module, training, validation, ckpt_path=checkpoint)
        except SystemExit as stop:
            # Lightning would end the process without a word, after SIGTERM as if all were done.
            raise KeyboardInterrupt from stop


def origin(trainer: L.Trainer, runtime: Runtime) -> dict[str, Any]:
    """For the record of a run: where it was made, and by which code."""
    return {
        "device": str(trainer.strategy.root_device),
        "processes": trainer.world_size,
        "precision": runtime.precision,
        "commit": commit_of_checkout(),
        # Without the local version (the build): the device stands beside it.
        "torch": str(torch.__version__).split("+")[0],
    }


def commit_of_checkout() -> str:
    """The commit this code comes from, or "unknown" outside of a checkout."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
