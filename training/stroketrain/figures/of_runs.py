"""Figures of runs: curves and sweeps, panel of predictions (A14, B5), bars with their intervals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.learning.checkpoint import STATE
from StrokeLesionSegLib.lesions.scorers.summary import bootstrap_interval
from StrokeLesionSegLib.outputs import read_json_object

from ..data.cache import Cache
from ..papers.plan import ROWS, Row, load_rows
from ..papers.run import read_index
from ..papers.table import subject_values
from .page import COLOURS, pyplot, save

_CURVES = ("loss", "volume_iou", "auc", "precision", "recall")


def read_runs(folders: list[Path]) -> list[tuple[str, dict[str, Any]]]:
    """(name, manifest) of run folders or manifest files; raises ``InputError``."""
    runs = []
    for folder in folders:
        path = folder / "result.json" if folder.is_dir() else folder
        if not path.is_file():
            raise InputError(
                folder, "is not a finished run", "Give the folder of a run or its manifest"
            )
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                path, "is not JSON", "Give the folder of a run or its manifest"
            ) from error
        runs.append((folder.stem, run))
    return runs


def draw_curves(folders: list[Path], out: Path) -> list[Path]:
    """The training curves of runs of the papers, by epoch, of others, by step, or of the volumetric
    network, by hours.

    Raises ``InputError`` for runs that are not finished, and for runs of several kinds at once.
    """
    if volumetric := [folder for folder in folders if (folder / STATE).is_file()]:
        if others := [folder for folder in folders if folder not in volumetric]:
            raise InputError(
                others[0], "is not a run of the volumetric network", "Draw such runs separately"
            )
        return hour_curves(volumetric, out)
    logs = {folder: _log_of(folder) for folder in folders}
    by_step = {folder: parts for folder, parts in logs.items() if parts is not None}
    if not by_step:
        return curves(read_runs(folders), out)
    if others := [folder for folder in folders if folder not in by_step]:
        raise InputError(
            others[0],
            "is not a run of the same kind as the others",
            "Draw runs of the papers and runs without a preset separately",
        )
    return step_curves([(folder.name, parts) for folder, parts in by_step.items()], out)


def _log_of(folder: Path) -> list[Path] | None:
    """The logs of a finished ``fit`` without a preset, whose epochs are not the papers': one of
    each sitting, in their order."""
    logs = list((folder / "log").glob("version_*/metrics.csv"))
    logs.sort(key=lambda log: int(log.parent.name.removeprefix("version_")))
    if (folder / "result.json").is_file() or not (folder / "run.json").is_file():
        return None
    if not logs:
        raise InputError(
            folder,
            "the run has logged no step as CSV",
            "Train for 20 steps or more, without --logger tensorboard",
        )
    return logs


def steps_of(logs: list[Path]) -> dict[int, dict[str, str]]:
    """The entries of a run's logs by step. What a run has done again after it was killed counts
    as it was done last."""
    entries: dict[int, dict[str, str]] = {}
    for log in logs:
        with open(log, newline="", encoding="utf-8") as file:
            entries |= {int(r["step"]): r for r in csv.DictReader(file) if r.get("train/loss")}
    return dict(sorted(entries.items()))


def step_curves(logs: list[tuple[str, list[Path]]], out: Path) -> list[Path]:
    """Loss and Dice of the batches by step, with the mean of the last ten entries as a line."""
    plt = pyplot()
    shown = {"train/loss": "loss", "train/batch_dice": "Dice of the batch"}
    figure, axes = plt.subplots(1, len(shown), figsize=(3.6 * len(shown), 2.6))
    for colour, (name, parts) in zip(COLOURS, logs, strict=False):
        by_step = steps_of(parts)
        if not by_step:
            raise InputError(parts[0], "contains no step", "Train for longer")
        steps, rows = np.array(list(by_step)), list(by_step.values())
        for axis, (key, title) in zip(axes, shown.items(), strict=True):
            values = np.array([float(row[key]) for row in rows])
            width = min(10, len(values))
            smooth = np.convolve(values, np.ones(width) / width, "valid")
            axis.plot(steps, values, ".", color=colour, markersize=2, alpha=0.4)
            axis.plot(steps[width - 1 :], smooth, color=colour, label=name)
            axis.set(title=title, xlabel="step")
    axes[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    return save(figure, out, "curves")


def hour_curves(runs: list[Path], out: Path) -> list[Path]:
    """Loss, and Dice at a half without and with clicks, by hours of training; means over as many
    steps as the log's lines stand apart, and the mean of ten lines on top."""
    plt = pyplot()
    shown = {"loss": "loss", "dice": "Dice, automatic", "dice_guided": "Dice, with clicks"}
    figure, axes = plt.subplots(1, len(shown), figsize=(3.0 * len(shown), 2.6))
    for colour, run in zip(COLOURS, runs, strict=False):
        log = read_json_object(run / STATE).get("log")
        if not log:
            raise InputError(run, "has logged no step", "Train for longer")
        for axis, (key, title) in zip(axes, shown.items(), strict=True):
            rows = [row for row in log if row.get(key) is not None]
            hours = np.array([row["minutes"] for row in rows]) / 60
            values = np.array([row[key] for row in rows])
            axis.plot(hours, values, ".", color=colour, markersize=2, alpha=0.4)
            width = min(10, len(values))
            if width:
                smooth = np.convolve(values, np.ones(width) / width, "valid")
                axis.plot(hours[width - 1 :], smooth, color=colour, label=run.name)
            axis.set(title=title, xlabel="hours")
    axes[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    return save(figure, out, "curves")


def curves(runs: list[tuple[str, dict[str, Any]]], out: Path) -> list[Path]:
    """A14, figure 4: loss (training dashed), IoU, AUC, precision and recall by epoch."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(_CURVES), figsize=(2.4 * len(_CURVES), 2.4))
    for colour, (name, run) in zip(COLOURS, runs, strict=False):
        epochs = [row["epoch"] for row in run["history"]]
        for axis, key in zip(axes, _CURVES, strict=True):
            field = "val_loss" if key == "loss" else key
            values = [np.nan if r[field] is None else r[field] for r in run["history"]]
            axis.plot(epochs, values, color=colour, label=name, marker=".", markersize=3)
            if key == "loss":
                trained = [r["train_loss"] for r in run["history"]]
                axis.plot(epochs, trained, color=colour, linestyle="--")
            axis.set(title=key.replace("_", " "), xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False, fontsize=6)
    figure.tight_layout()
    return save(figure, out, "curves")


def runs_of_row(
    row_name: str, manifests: Path, budget: str
) -> tuple[Row, dict[str, list[tuple[str, dict[str, Any]]]]]:
    """A row and, by variant, the (key, manifest) of its runs; raises ``InputError`` if it was not
    run at this budget."""
    rows = load_rows(ROWS)
    entry = read_index(manifests / budget)["rows"].get(row_name)
    if row_name not in rows or not entry or not entry["runs"]:
        raise InputError(f"row {row_name}", f"was not run at budget {budget}", "Run it first")
    row = rows[row_name]
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for run in entry["runs"]:
        name = run["variant"] if len(row.splits) == 1 else f"{run['variant']}, by {run['by']}"
        path = manifests / budget / f"{run['key']}.json"
        if path.is_file():
            manifest = json.loads(path.read_text(encoding="utf-8"))
            groups.setdefault(name, []).append((run["key"], manifest))
    return row, groups


def sweep(row_name: str, manifests: Path, budget: str, out: Path) -> list[Path]:
    """B5, figure 4: validation by epoch for each variant of a row, mean of the seeds within the
    range of the seeds."""
    plt = pyplot()
    row, groups = runs_of_row(row_name, manifests, budget)
    shown = ("train_loss", "val_loss", row.metric, "precision", "recall")
    figure, axes = plt.subplots(1, len(shown), figsize=(2.5 * len(shown), 2.6))
    for colour, (name, runs) in zip(COLOURS, groups.items(), strict=False):
        length = min(len(run["history"]) for _, run in runs)
        epochs = np.arange(1, length + 1)
        for axis, key in zip(axes, shown, strict=True):
            values = np.array(
                [[np.nan if r[key] is None else r[key] for r in run["history"][:length]]
                 for _, run in runs], float,
            )  # fmt: skip
            axis.plot(epochs, values.mean(axis=0), color=colour, label=name)
            axis.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0
            )
            axis.set(title=key.replace("_", " ").replace("val ", "validation "), xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
    for axis, key in zip(axes, shown, strict=True):
        if "loss" not in key:
            axis.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(
        handles, labels, frameon=False, fontsize=8, ncols=len(labels), loc="lower center",
        bbox_to_anchor=(0.5, -0.08),
    )  # fmt: skip
    return save(figure, out, f"sweep_{row_name}")


def bars(row_name: str, manifests: Path, budget: str, out: Path) -> list[Path]:
    """A14, B5: every variant of a row with the bootstrap 95 % interval over test subjects."""
    plt = pyplot()
    row, found = runs_of_row(row_name, manifests, budget)
    groups = {name: [run for _, run in runs] for name, runs in found.items()}
    figure, axis = plt.subplots(figsize=(1.3 + 1.1 * len(groups), 2.8))
    for number, results in enumerate(groups.values()):
        values = np.array(list(subject_values(results, row.metric).values()))
        mean = float(values.mean()) if len(values) else 0.0
        low, high = bootstrap_interval(values)
        colour = COLOURS[number % len(COLOURS)]
        axis.bar(number, mean, color=colour, alpha=0.8)
        if low is not None and high is not None:
            axis.plot([number, number], [low, high], color="black")
    axis.set_xticks(range(len(groups)), groups, rotation=25, ha="right", fontsize=8)
    axis.set(ylabel=row.metric.replace("_", " "), title=f"{row.title} ({budget} budget)")
    return save(figure, out, f"bars_{row_name}")


def panel_of_row(
    cache: Cache, row_name: str, folder: Path, manifests: Path, budget: str, out: Path, seed: int
) -> list[Path]:
    """``panel`` of all variants of a row with one seed; ``folder`` holds the budget's runs.

    Raises ``InputError`` if there are none of this seed, or the folder does not hold them.
    """
    _, groups = runs_of_row(row_name, manifests, budget)
    named = [
        (name, folder / key)
        for name, runs in groups.items()
        for key, run in runs
        if run["seed"] == seed
    ]
    row = f"row {row_name}"
    if not named:
        raise InputError(row, f"has no run with seed {seed} at budget {budget}", "Use another seed")
    if missing := [run for _, run in named if not (run / "weights.safetensors").is_file()]:
        raise InputError(
            missing[0],
            f"there are no weights of this run of {row}",
            f"Name the folder {budget} that experiments run wrote, without --drop-weights, or the "
            "--manifests of its runs",
        )
    return panel(cache, [f for _, f in named], out, [n for n, _ in named], f"panel_{row_name}")


def panel(
    cache: Cache,
    folders: list[Path],
    out: Path,
    names: list[str] | None = None,
    title: str = "panel",
    scans: int = 3,
) -> list[Path]:
    """A14, figure 3, and B5: T1, truth and each run's prediction in the slice with most lesion of
    test scans with lesion, a small, a middle and a large one."""
    from safetensors.torch import load_file

    from ..data.splits import Split
    from ..papers.module import RecipeModule
    from ..papers.recipe import Recipe

    plt = pyplot()
    runs = read_runs(folders)
    if names:
        runs = [(name, run) for name, (_, run) in zip(names, runs, strict=True)]
    tests = [Split.load(f / "split.json", cache.scans).parts["test"] for f in folders]
    tested = {name for name in tests[0] if all(name in test for test in tests)}
    sick = [n for n, s in enumerate(cache.scans) if s["name"] in tested and s["volume_ml"] > 0]
    sick.sort(key=lambda n: cache.scans[n]["volume_ml"])
    # The middles of equal parts of the order by size.
    places = [(2 * n + 1) * len(sick) // (2 * scans) for n in range(scans)]
    chosen = list(dict.fromkeys(sick[n] for n in places)) if sick else []
    if not chosen:
        raise InputError(
            folders[0], "no scan with a lesion was tested by every run", "Use runs of one split"
        )
    columns = ["T1", "truth", *(name for name, _ in runs)]
    figure, axes = plt.subplots(
        len(chosen), len(columns), figsize=(2 * len(columns), 2.3 * len(chosen)), squeeze=False
    )
    for column, heading in enumerate(columns):
        axes[0][column].set_title(heading, fontsize=8)
    modules = []
    for folder, (_, run) in zip(folders, runs, strict=True):
        module = RecipeModule(Recipe(**run["recipe"]), cache, 1)
        module.network.load_state_dict(load_file(str(folder / "weights.safetensors")))
        modules.append(module.eval())
    for line, n in zip(axes, chosen, strict=True):
        lesion = np.asarray(cache.masks[n]).sum(axis=(1, 2))
        for test in tests:  # of a split by slice, one of the slices that it has tested
            chosen_slices = test[cache.scans[n]["name"]]
            if chosen_slices is not None:
                lesion[np.setdiff1d(np.arange(len(lesion)), chosen_slices)] = 0
        z = int(lesion.argmax())
        image, truth = np.asarray(cache.images[n, z]), np.asarray(cache.masks[n, z])
        extent = (0, image.shape[1], 0, image.shape[0])
        for axis in line:
            axis.imshow(image, cmap="gray", origin="lower", extent=extent, vmin=0, vmax=255)
            axis.axis("off")
        shown = [truth.astype(np.float32)]
        for module in modules:
            # A volumetric network needs the slices around; the others take the one.
            half = module.recipe.depth // 2 if module.recipe.dimensions == 3 else 0
            zs = list(range(max(0, z - half), z + half + 1))
            with torch.no_grad():
                shown.append(module.predict_scan(n, zs)[0][zs.index(z)])
        line[0].text(
            4, 4, f"{cache.scans[n]['volume_ml']:.1f} mL, z = {z}", color="white", fontsize=7
        )
        colours = (COLOURS[2], *(COLOURS[1] for _ in modules))
        for axis, colour, mask in zip(line[1:], colours, shown, strict=True):
            if (mask > 0.5).any():
                axis.contour(mask, levels=[0.5], colors=[colour], extent=extent, linewidths=1)
    figure.subplots_adjust(wspace=0.03, hspace=0.03)
    return save(figure, out, title)
