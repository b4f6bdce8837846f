"""``stroketrain fit``: from a cache to a trained network and the record of how it came about."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

from ..data.cache import Cache, join_caches
from ..data.slices import Sampling, SliceStream
from .module import LesionModule


class HonestCheckpoint(ModelCheckpoint):
    """Keeps the last state only, written every so many minutes, under one name."""

    def __init__(self, folder: Path, minutes: float) -> None:
        super().__init__(
            dirpath=folder,
            filename="last",
            train_time_interval=timedelta(minutes=minutes),
            save_top_k=1,
            enable_version_counter=False,
        )


class StepLog(Callback):
    """One line of text now and then, for runs without a terminal."""

    def __init__(self, every: int) -> None:
        self.every, self.start = every, time.time()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step % self.every == 0:
            m = trainer.callback_metrics
            print(
                f"step {trainer.global_step} loss {m['train/loss']:.3f} "
                f"dice {m['train/batch_dice']:.3f} {time.time() - self.start:.0f} s",
                flush=True,
            )


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


def fit(
    cache: Path,
    out: Path,
    *,
    spec: dict[str, Any],
    steps: int,
    minutes: float | None = None,
    batch: int = 16,
    lr: float = 2e-3,
    guided: float = 0.2,
    seed: int = 0,
    precision: str = "bf16-mixed",
    workers: int = 0,
    start: Path | None = None,
    also: Sequence[Path] = (),
    positive_weight: float = 10.0,
    false_positive: float = 0.5,
    hard_share: float = 0.0,
    lesion_share: float = 0.65,
    ema: float = 0.995,
    compiled: bool = False,
) -> Path:
    """Train ``spec`` for ``steps`` batches, or go on where a killed run stopped.

    ``also`` names caches beside ``cache`` to draw from; the other options are the module's.
    Writes ``run.json`` (all that is needed to repeat it), ``checkpoints/last.ckpt`` and, at the
    end, ``weights.safetensors`` with the moving average of the weights. Returns that path.
    """
    from safetensors.torch import save_file

    L.seed_everything(seed, workers=True)
    data = join_caches([Cache.open(cache), *(Cache.open(c) for c in also)])
    out.mkdir(parents=True, exist_ok=True)
    module = LesionModule(
        spec,
        steps,
        lr=lr,
        guided=guided,
        seed=seed,
        minutes=minutes,
        positive_weight=positive_weight,
        false_positive=false_positive,
        hard_share=hard_share,
        ema=ema,
        compiled=compiled,
    )
    if start is not None:
        module.start_from(start)
    last = out / "checkpoints" / "last.ckpt"
    resume = str(last) if last.exists() else None
    skip = 0
    if resume:
        skip = int(torch.load(last, map_location="cpu", weights_only=True)["global_step"])
    stream = SliceStream(
        data,
        Sampling(views=(0.7, 0.15, 0.15), lesion_share=lesion_share, batch=batch),
        steps - skip,
        seed,
        skip,
    )
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    trainer = L.Trainer(
        max_steps=steps,
        precision=precision,  # type: ignore[arg-type]
        accelerator="auto",
        devices=1,
        gradient_clip_val=1.0,
        logger=L.pytorch.loggers.CSVLogger(out, name="log", version=0),
        log_every_n_steps=20,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[HonestCheckpoint(out / "checkpoints", 5), StepLog(50)],
    )
    started = time.time()
    trainer.fit(module, loader, ckpt_path=resume)
    state = {
        k: v.contiguous()
        for k, v in module.average.module.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    weights = out / "weights.safetensors"
    save_file(state, str(weights))
    record = {
        "network": spec,
        "steps": trainer.global_step,
        "planned_steps": steps,
        "batch": batch,
        "lr": lr,
        "guided": guided,
        "seed": seed,
        "precision": precision,
        "positive_weight": positive_weight,
        "false_positive": false_positive,
        "hard_share": hard_share,
        "lesion_share": lesion_share,
        "ema": ema,
        "started_from": start.name if start else None,
        "device": str(module.device),
        "seconds": round(time.time() - started),
        "data": {"fingerprint": data.fingerprint, "scans": len(data)},
        "commit": commit_of_checkout(),
        # Without the local version (the build): the device stands beside it.
        "torch": str(torch.__version__).split("+")[0],
    }
    (out / "run.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    return weights
