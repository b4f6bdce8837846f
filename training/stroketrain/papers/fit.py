"""``stroketrain fit --preset``: one run of a recipe, from split to scores, and its manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from StrokeLesionSegLib.networks import count_parameters
from StrokeLesionSegLib.outputs import atomic_file
from torch.utils.data import DataLoader

from ..data.cache import Cache
from ..data.splits import PARTS, Split
from ..fit.checkpoints import Snapshot
from ..fit.devices import Deal, place
from ..fit.trainer import Runtime, make_trainer, origin, refuse_another_run, train
from ..metrics import PixelCurves, scan_scores, summarise_scans
from .module import RecipeModule
from .planes import BatchPlan, PlaneBatches, SlabBatches, Unit, units_of
from .recipe import Recipe

# What is kept of each scan in a manifest, so that tests can pair them and the file stays small.
SCAN_FIELDS = ("volume_dice", "volume_iou", "slice_dice", "lesion_slice_dice", "tp", "fp", "fn")


def tidy(value: Any) -> Any:
    """JSON without NaN and with four digits."""
    if isinstance(value, dict):
        return {k: tidy(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value


def _batches(recipe: Recipe, cache: Cache, units: list[Unit], seed: int) -> PlaneBatches:
    plan = BatchPlan(
        recipe.batch,
        by_scan=recipe.batching == "scan",
        slices=recipe.neighbours,
        depth=recipe.depth,
        repeats=recipe.repeats,
        limit=recipe.steps_per_epoch,
        seed=seed,
    )
    return (SlabBatches if recipe.dimensions == 3 else PlaneBatches)(cache, units, plan)


def evenly_chosen(rows: list[Any], most: int | None) -> list[Any]:
    """At most ``most`` of the rows, at even distances."""
    if most is None or len(rows) <= most:
        return rows
    return [rows[n * len(rows) // most] for n in range(most)]


def _scans(units: list[Unit], limit: int | None, sick: Callable[[int], bool]) -> list[Any]:
    """(scan, slices) of a part, those with lesion first where only ``limit`` are wanted."""
    by_scan: dict[int, list[int]] = {}
    for n, z in units:
        by_scan.setdefault(n, []).append(z)
    rows = [(n, sorted(zs)) for n, zs in sorted(by_scan.items())]
    if limit is not None:
        rows = sorted(rows, key=lambda row: not sick(row[0]))[:limit]
    return rows


class _Epoch(Callback):
    """Tells the batches which epoch it is and how much of it is done, so that a resumed run goes on
    with the right ones; places the cache on the device before the first of them."""

    def __init__(self, stream: PlaneBatches, cache: Cache, resident: str) -> None:
        self.stream, self.cache, self.resident = stream, cache, resident

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        module.resident = place(self.cache, trainer.strategy.root_device, self.resident)
        self.stream.numbers_only = module.resident is not None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.stream.epoch = trainer.current_epoch
        done = trainer.global_step - trainer.current_epoch * len(self.stream)
        self.stream.skip = done if 0 < done < len(self.stream) else 0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.stream.epoch = trainer.current_epoch


class _Stopping(EarlyStopping):
    """Stops a run again that had stopped when it was killed: Lightning forgets that it had."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def run_recipe(
    recipe: Recipe,
    cache: Cache,
    split: Split,
    out: Path,
    *,
    seed: int = 0,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Train a recipe, keep the epoch with the best validation volume Dice, score all parts.

    Goes on from ``out/checkpoints/last.ckpt`` if a run was killed: it is written after every epoch
    and every ``runtime.save_seconds`` in between. Writes ``result.json`` (the manifest: recipe,
    seed, split, data's fingerprint, commit, history, scores of every part), ``split.json`` and
    ``weights.safetensors``; returns the manifest. With the same seed on a CPU the same result,
    killed on the way or not. A run that has its ``result.json`` already is not touched: that is
    returned.

    Raises ``InputError`` for a folder with a run of another recipe, seed, split or data.

    ``cache`` may have been shrunk by what the recipe asks for, see ``Cache.shrunk``. Of several
    processes the first one scores and writes; the others return an empty dict.
    """
    from safetensors.torch import save_file

    runtime = runtime or Runtime()
    devices = runtime.devices
    L.seed_everything(seed, workers=True, verbose=False)
    out.mkdir(parents=True, exist_ok=True)
    parts = {part: len(split.parts[part]) for part in PARTS}
    asked = {
        "recipe": recipe.as_dict(),
        "seed": seed,
        "split": {"by": split.by, "seed": split.seed, "fold": split.fold, "scans": parts},
        "data": {"fingerprint": cache.fingerprint, "scans": len(cache)},
    }
    finished = out / "result.json"
    if finished.is_file():
        known = json.loads(finished.read_text(encoding="utf-8"))
        if all(known.get(key) == value for key, value in json.loads(json.dumps(asked)).items()):
            return known
    folder = out / "checkpoints"
    resume = folder / "last.ckpt"
    # A run may be made longer.
    length = ("epochs", "patience")
    same = {k: v for k, v in recipe.as_dict().items() if k not in length}
    refuse_another_run(resume, {**asked, "recipe": same, "split": split.parts})
    split.save(out / "split.json")
    train_units = units_of(cache, split, "train", recipe.slices)
    stream = _batches(recipe, cache, train_units, seed)
    sick = lambda n: float(cache.scans[n].get("volume_ml", 0)) > 0  # noqa: E731
    scored = {
        part: _scans(units_of(cache, split, part, recipe.scored), recipe.evaluate_scans, sick)
        for part in PARTS
    }
    scored["train"] = evenly_chosen(scored["train"], recipe.monitor_scans)
    watched = evenly_chosen(list(scored["val"]), recipe.monitor_scans)
    steps = len(stream) // (devices.devices * devices.nodes) * recipe.epochs
    module = RecipeModule(recipe, cache, steps, seed)
    best = ModelCheckpoint(
        folder,
        "best",
        monitor="val/volume_dice",
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [
        best,
        ModelCheckpoint(folder, "last", enable_version_counter=False),
        _Stopping("val/volume_dice", mode="max", patience=recipe.patience),
        _Epoch(stream, cache, runtime.resident),
        Snapshot(resume, runtime.save_seconds),
        Deal(stream, watched),
    ]
    trainer = make_trainer(
        runtime,
        out,
        callbacks,
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )
    rows: Any = watched  # a list will do
    watch = DataLoader(rows, batch_size=None, collate_fn=lambda row: row)
    train(trainer, module, DataLoader(stream, batch_size=None), watch, resume=resume)
    if not trainer.is_global_zero:
        return {}
    if Path(best.best_model_path).is_file():
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
    module.to(trainer.strategy.root_device)
    scores, scans = _score(module, scored)
    state = {k: v.contiguous().cpu() for k, v in module.network.state_dict().items()}
    save_file(state, str(out / "weights.safetensors"))
    result = {
        "parameters": count_parameters(module.network),
        "epochs": len(module.history),
        "steps": trainer.global_step,
        "planned_steps": steps,
        "history": module.history,
        "scores": scores,
        "test_scans": scans,
        "seconds": round(module.seconds, 1),
        "simulated_scans": sum("simulation" in scan for scan in cache.scans),
        **origin(trainer, runtime),
    }
    # A rate of 1e-5 must not be rounded away.
    result = {**asked, "network": module.spec, **tidy(result)}
    with atomic_file(finished) as temporary:
        temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    # What export reads: the network and how it came about.
    run = {k: v for k, v in result.items() if k not in ("history", "test_scans")}
    (out / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
    return result


def _score(
    module: RecipeModule, scored: dict[str, list[Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    module.eval()
    scores: dict[str, Any] = {}
    test_scans: dict[str, Any] = {}
    for part, rows in scored.items():
        found, curves = [], PixelCurves()
        for n, zs in rows:
            probability, truth, _ = module.predict_scan(n, zs)
            row = scan_scores(probability, truth, module.voxel_mm)
            curves.update(torch.from_numpy(probability), torch.from_numpy(truth))
            found.append(row)
            if part == "test":
                scan = module.cache.scans[n]
                test_scans[scan["name"]] = {k: row[k] for k in SCAN_FIELDS}
                test_scans[scan["name"]]["subject"] = scan["subject"]
        summary = summarise_scans(found) if found else {"volume_dice": float("nan")}
        scores[part] = {**summary, **curves.compute()} if found else summary
    return scores, test_scans
