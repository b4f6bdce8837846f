"""``stroketrain fit``: from a cache to a trained network and the record of how it came about."""

from __future__ import annotations

import json
import subprocess
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from StrokeLesionSegLib.errors import InputError
from torch.utils.data import DataLoader

from ..data.cache import Cache, join_caches
from ..data.resident import ResidentCache
from ..data.simulated import PoolStream, SimulatedPool, simulator
from ..data.slices import Sampling, SliceStream
from .checkpoints import Snapshot, WholeCheckpointIO
from .devices import Deal, Devices, place
from .module import LesionModule

LOGGERS = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}
VIEWS = (0.7, 0.15, 0.15)


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


class _Source(Callback):
    """Sets the scans up on the device, and tells the stream where a killed run stopped."""

    def __init__(
        self,
        stream: SliceStream,
        cache: Cache,
        resident: str,
        simulate: Simulate | None,
        anatomies: Path,
    ) -> None:
        self.stream, self.cache, self.resident = stream, cache, resident
        self.simulate, self.anatomies = simulate, anatomies

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        device = trainer.strategy.root_device
        if self.simulate is None:
            module.resident = place(self.cache, device, self.resident)
            self.stream.numbers_only = module.resident is not None
            return
        assert isinstance(self.stream, PoolStream)
        pool = self.simulate.pool
        if not ResidentCache.fits(self.cache, device, pool):
            raise InputError("--pool", f"{pool} scans do not fit on {device}", "use a smaller one")
        module.resident = ResidentCache(self.cache, device, room=pool)
        # Each process draws scans of its own.
        seed = self.stream.seed + 7919 * trainer.global_rank
        draw = simulator(self.simulate.data, self.anatomies, seed, device)
        self.stream.pool = SimulatedPool(
            module.resident, len(self.cache), pool, draw, self.simulate.turnover,
            self.simulate.threads,
        )  # fmt: skip

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        # Before the loader's first batch, and before its workers get their copies of the stream.
        self.stream.skip = int(checkpoint["global_step"])

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        pool = getattr(self.stream, "pool", None)
        if pool is not None:
            pool.close()


def fit(
    cache: Path | None,
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
    paint: float = 0.0,
    lesion_share: float = 0.65,
    ema: float = 0.995,
    compiled: bool = False,
    channels: Sequence[str] | None = None,
    devices: Devices | None = None,
    resident: str = "auto",
    simulate: Simulate | None = None,
    logger: str = "csv",
    progress: bool = False,
    save_seconds: float = 300.0,
) -> Path:
    """Train ``spec`` for ``steps`` batches, or go on where a killed run stopped.

    ``also`` names caches beside ``cache`` to draw from; with ``simulate`` scans are drawn from the
    simulator too, or alone where ``cache`` is None. ``resident`` is that of ``devices.place``,
    ``logger`` "csv" or "tensorboard", ``progress`` a bar instead of a line now and then; the other
    options are the module's. Writes ``checkpoints/last.ckpt`` every ``save_seconds``, ``run.json``
    (all that is needed to repeat it) and, at the end, ``weights.safetensors`` with the moving
    average of the weights. Returns that path. With the same seed on a CPU the same weights, killed
    on the way or not, unless ``minutes`` ends the run.

    Raises ``InputError`` for a cache that cannot be opened or is missing without ``simulate``.
    """
    from safetensors.torch import save_file

    devices = devices or Devices()
    L.seed_everything(seed, workers=True)
    caches = [Cache.open(c) for c in ([cache] if cache else []) + list(also)]
    if not caches and simulate is None:
        raise InputError("fit", "neither a cache nor --simulate", "give one of them")
    data = join_caches(caches) if caches else Cache.empty()
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
        paint=paint,
        ema=ema,
        compiled=compiled,
        channels=channels,
    )
    if start is not None:
        module.start_from(start)
    last = out / "checkpoints" / "last.ckpt"
    sampling = Sampling(views=VIEWS, lesion_share=lesion_share, batch=batch)
    stream = SliceStream(data, sampling, steps, seed)
    if simulate is not None:
        stream = PoolStream(data, None, sampling, steps, seed)
    stream.planes = module.planes
    anatomies = (simulate and simulate.anatomies) or out / "anatomies"
    # The pool lives in this process.
    loader = DataLoader(stream, batch_size=None, num_workers=0 if simulate else workers)
    callbacks: list[Callback] = [
        _Source(stream, data, resident, simulate, anatomies),
        Deal(stream),
        Snapshot(last, save_seconds, at_end=True),
    ]
    if not progress:
        callbacks.append(StepLog(50))
    trainer = L.Trainer(
        max_steps=steps,
        max_epochs=1,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=1.0,
        logger=LOGGERS[logger](out, name="log", version=0),
        log_every_n_steps=20,
        enable_progress_bar=progress,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=callbacks,
        plugins=[WholeCheckpointIO()],
        **devices.trainer_options(),
    )
    started = time.time()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None)
    weights = out / "weights.safetensors"
    if not trainer.is_global_zero:
        return weights
    state = {
        k: v.contiguous()
        for k, v in module.average.module.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    save_file(state, str(weights))
    record = {
        "network": spec,
        "channels": list(module.channels),
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
        "paint": paint,
        "lesion_share": lesion_share,
        "ema": ema,
        "started_from": start.name if start else None,
        "device": str(trainer.strategy.root_device),
        "processes": trainer.world_size,
        "resident": module.resident is not None,
        "seconds": round(time.time() - started),
        "data": {"fingerprint": data.fingerprint, "scans": len(data)},
        "simulated_scans": sum("simulation" in scan for scan in data.scans),
        "simulated": simulate and {"pool": simulate.pool, "turnover": simulate.turnover},
        "commit": commit_of_checkout(),
        # Without the local version (the build): the device stands beside it.
        "torch": str(torch.__version__).split("+")[0],
    }
    (out / "run.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    return weights
