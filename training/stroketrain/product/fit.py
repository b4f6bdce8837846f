"""``stroketrain fit``: from a cache to a trained network and the record of how it came about."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from StrokeLesionSegLib.errors import InputError
from torch.utils.data import DataLoader

from ..data.cache import Cache, join_caches
from ..data.resident import ResidentCache
from ..fit.checkpoints import Snapshot
from ..fit.devices import Deal, place
from ..fit.trainer import Runtime, make_trainer, origin, refuse_another_run, train
from .module import LesionModule
from .options import FitOptions, Simulate
from .simulated import PoolStream, SimulatedPool, simulator
from .slices import Sampling, SliceStream

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
            raise InputError(
                "--pool", f"{pool} scans do not fit into the memory of {device}", "Use fewer"
            )
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


def fit(cache: Path | None, out: Path, options: FitOptions, runtime: Runtime | None = None) -> Path:
    """Train ``options.network``, or go on where a killed run stopped.

    ``cache`` is the main one to draw from; with ``options.simulate`` scans are drawn from the
    simulator too, or alone where ``cache`` is None. Writes ``checkpoints/last.ckpt`` now and then,
    ``run.json`` (all that is needed to repeat it) and, at the end, ``weights.safetensors`` with the
    moving average of the weights. Returns that path. With the same seed on a CPU the same weights,
    killed on the way or not, unless ``options.minutes`` ends the run.

    Raises ``InputError`` for a cache that cannot be opened or is missing without a simulator, and
    for a folder with a run of other options or data.
    """
    from safetensors.torch import save_file

    runtime = runtime or Runtime(precision="bf16-mixed")
    simulate = options.simulate
    caches = [Cache.open(c) for c in ([cache] if cache else []) + list(options.also)]
    if not caches and simulate is None:
        raise InputError("fit", "neither a cache nor --simulate is given", "Give one of them")
    data = join_caches(caches) if caches else Cache.empty()
    out.mkdir(parents=True, exist_ok=True)
    last = out / "checkpoints" / "last.ckpt"
    # More steps too are another run: the rate falls along them, and Lightning takes a run that has
    # ended for ended.
    asked = {"steps": options.steps, **options.record(), "data": data.fingerprint}
    refuse_another_run(
        last, {k: v for k, v in asked.items() if k not in ("minutes", "planned_steps")}
    )
    L.seed_everything(options.seed, workers=True, verbose=False)
    module = LesionModule(options)
    if options.start is not None:
        module.start_from(options.start)
    sampling = Sampling(views=VIEWS, lesion_share=options.lesion_share, batch=options.batch)
    stream = SliceStream(data, sampling, options.steps, options.seed)
    if simulate is not None:
        stream = PoolStream(data, None, sampling, options.steps, options.seed)
    stream.planes = module.planes
    anatomies = (simulate and simulate.anatomies) or out / "anatomies"
    # The pool lives in this process.
    loader = DataLoader(stream, batch_size=None, num_workers=0 if simulate else options.workers)
    callbacks: list[Callback] = [
        _Source(stream, data, runtime.resident, simulate, anatomies),
        Deal(stream),
        Snapshot(last, runtime.save_seconds, at_end=True),
    ]
    if not runtime.progress:
        callbacks.append(StepLog(50))
    trainer = make_trainer(
        runtime,
        out,
        callbacks,
        max_steps=options.steps,
        max_epochs=1,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        enable_checkpointing=False,
    )
    started = time.time()
    train(trainer, module, loader, resume=last)
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
        **options.record(),
        **origin(trainer, runtime),
        "channels": list(module.channels),
        "steps": trainer.global_step,
        "resident": module.resident is not None,
        "seconds": round(time.time() - started),
        "data": {"fingerprint": data.fingerprint, "scans": len(data)},
        "simulated_scans": sum("simulation" in scan for scan in data.scans),
        "taught": data.probabilities is not None,
    }
    (out / "run.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    return weights
