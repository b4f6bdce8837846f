"""Checkpoints that are whole or not there, written in the middle of an epoch too."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from StrokeLesionSegLib.outputs import atomic_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the place, flushes to disk, renames: a kill leaves the old file or the new one.

    Lightning's own way goes through the system's folder for temporary files, from where a file is
    copied, byte by byte, if that is another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as temporary:
            torch.save(checkpoint, temporary)


class Snapshot(Callback):
    """Saves the whole state every so many seconds between two batches, and on SIGTERM.

    Not after the last batch of an epoch: validation and the checkpoint at its end follow at once,
    and Lightning would repeat the epoch after a resumption from there. ``at_end`` saves once more
    when the training is over, so that asking for it again does nothing.
    """

    def __init__(self, path: Path, seconds: float, at_end: bool = False) -> None:
        self.path, self.seconds, self.at_end = path, seconds, at_end
        # Several processes have to agree, which is not free.
        self.look_every = 10 if seconds > 0 else 1
        self.saved = time.monotonic()

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        # Lightning forgets which epoch was the best where the run's folder was moved meanwhile.
        here = Path(os.path.realpath(self.path.parent))

        def moved(file: str) -> str:
            return str(here / Path(file).name) if file else file

        for state in checkpoint["callbacks"].values():
            if "best_model_path" in state:
                state["dirpath"] = str(here)
                for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
                    state[name] = moved(state[name])
                state["best_k_models"] = {moved(f): s for f, s in state["best_k_models"].items()}

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch or trainer.global_step % self.look_every:
            return
        due = time.monotonic() - self.saved >= self.seconds
        # All processes save or none: they write parts of one checkpoint.
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        # Lightning looks for the signal between two batches, after what stands above.
        told = isinstance(exception, SIGTERMException) and not trainer.is_last_batch
        # Several processes write parts of one checkpoint, and may have heard at different steps.
        if told and trainer.world_size == 1:
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if self.at_end:
            trainer.save_checkpoint(self.path)
