"""Rows of ``training/experiments/*.yaml``, budgets, and the runs that a row asks for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from StrokeLesionSegLib.errors import InputError

from ..data.splits import WAYS
from .recipe import Recipe, load_recipe, merge

# The rows lie beside the package in a checkout.
ROWS = Path(__file__).resolve().parents[2] / "experiments"
BUDGETS: dict[str, dict[str, Any]] = {
    # Whether everything runs; says nothing about the systems.
    "smoke": {
        "seeds": [0],
        "scans": 6,
        "networks": {
            "unet": {"filters": [4, 8, 16]},
            "residual_unet": {"filters": [4, 8, 16]},
            "residual_unet_25d": {"filters": [4, 8, 16]},
            "residual_unet_3d": {"filters": [4, 8, 16]},
            "cs230": {"hidden": [32, 16]},
            "cascade": {"filters": [4, 8, 16], "mask_filters": [4, 8], "crop": [32, 32]},
        },
        "recipe": {
            "frame": {"shrink": 4},
            "epochs": 2,
            "steps_per_epoch": 2,
            "evaluate_scans": 2,
            "depth": 16,
            "evaluate_window": [60, 100],
        },
    },
    # Differences between systems can be seen; all rows in little more than an hour of one core.
    "small": {
        "seeds": [0, 1, 2],
        "scans": 200,
        "sessions": 3,
        "slices": [44, 144],
        # The CS230 network is several times as quick as the others.
        "slices_per_epoch": {"cs230": 2500, "others": 1200},
        "epochs_times": 2,
        "epochs_of": {"cs230": 12},
        # With w = 1 it marks next to nothing in 12 of them: rows that are about it get more.
        "epochs_of_rows": {"B3": 24, "B8": 24, "B9": 24, "B10": 24},
        # What the rows that ask for a length of their own get.
        "epochs_asked": 48,
        "networks": {
            "unet": {"filters": [8, 16, 32, 64, 128]},
            "residual_unet": {"filters": [8, 16, 32, 64, 128]},
            "residual_unet_25d": {"filters": [8, 16, 32, 64, 128]},
            "residual_unet_3d": {"filters": [8, 16, 32, 64]},
            "cs230": {},
            "cascade": {"filters": [8, 16, 32, 64], "mask_filters": [8, 16, 32], "crop": [32, 32]},
        },
        "recipe": {
            "frame": {"shrink": 8},
            "epochs": 10,
            "patience": 30,
            "depth": 16,
            "evaluate_step": 4,
            "monitor_scans": 10,
        },
    },
    # As the papers say.
    "full": {"seeds": [0, 1, 2], "scans": 0, "networks": {}, "recipe": {}},
}


@dataclass(frozen=True)
class Row:
    """One row of the papers' list.

    Attributes
    ----------
    row, title: its id and what it is about. paper: what the paper reports.
    data: the ATLAS layout the paper used. splits: ways to split, usually ["subject"].
    preset, override: the recipe; variants: further overrides by name, one system each.
    metric: the number that the table shows. show: further ones ("swing", "train_val_gap", ...).
    compare: pairs of variants for a paired test. compare_splits: pairs of splits, of which the
        subjects that both have tested are paired.
    facts: names of functions of ``facts.py``, for rows that are measured without training.
    note: what a reader has to know to read the result.
    """

    row: str
    title: str
    paper: str
    data: str = "r2.0"
    splits: list[str] = field(default_factory=lambda: ["subject"])
    preset: str = ""
    override: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    metric: str = "volume_dice"
    show: list[str] = field(default_factory=list)
    compare: list[list[str]] = field(default_factory=list)
    compare_splits: list[list[str]] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Run:
    """One training: a variant of a row on a split with a seed; ``key`` names it and its data."""

    row: str
    variant: str
    by: str
    seed: int
    recipe: Recipe
    key: str


def _order(row: str) -> tuple[str, int]:
    return row[0], int(row[1:])


def load_rows(folder: Path = ROWS) -> dict[str, Row]:
    """Every row by its id, in the papers' order.

    Raises ``InputError`` for a malformed entry, and where the rows were not installed.
    """
    if not folder.is_dir():
        raise InputError(
            folder, "is not there: a checkout has the rows", 'Run pip install -e ".[train]" in one'
        )
    rows: dict[str, Row] = {}
    known = {f.name for f in fields(Row)}
    for path in sorted(folder.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        unknown = sorted(set(content) - known)
        if unknown or not {"row", "title", "paper"} <= set(content):
            raise InputError(
                path, f"unknown or missing fields ({unknown})", "See Row in papers/plan.py"
            )
        row = Row(**content)
        if not re.fullmatch(r"[AB]\d+", row.row) or row.row in rows:
            raise InputError(
                path, f"row {row.row!r} has no proper name or stands twice", "Rename it"
            )
        if set(row.splits) - set(WAYS):
            raise InputError(path, f"unknown split in {row.splits}", f"Use {', '.join(WAYS)}")
        if not row.preset and not row.facts:
            raise InputError(path, "has neither a preset to run nor facts to measure", "Add one")
        rows[row.row] = row
    return {name: rows[name] for name in sorted(rows, key=_order)}


def budgeted(row: Row, variant: Mapping[str, Any], budget: str) -> Recipe:
    """The recipe of a variant within a budget: the budget bounds size and length, and never
    touches what the row is about.

    A key that the row or its variant sets itself wins over the budget's, but for ``epochs``, of
    which the smaller counts; ``epochs_asked`` bounds them where a row names them, and
    ``epochs_of_rows`` are as many as a row gets.
    ``slices_per_epoch`` bounds the slices of an epoch, so that batches of any size cost the same
    and see as much; ``epochs_times`` makes up for it, where a recipe has few epochs. ``slices`` are
    those that recipes of all slices get; where the slices to be scored are those of a recipe's own
    window, every one of them is.
    """
    if budget not in BUDGETS:
        raise InputError("--budget", f"unknown budget {budget!r}", f"Use {', '.join(BUDGETS)}")
    limits = BUDGETS[budget]
    wanted = merge(row.override, variant)
    plain = load_recipe(row.preset, wanted)
    name = str(plain.network["name"])
    over = merge(limits["recipe"], {"network": limits["networks"].get(name, {})})
    asked = {k: v for k, v in wanted.items() if k not in ("epochs", "network")}
    over = merge(over, asked)
    over["network"] = {**over.get("network", {}), **wanted.get("network", {})}
    over["network"]["name"] = name
    longest = plain.epochs * limits.get("epochs_times", 1)
    most = limits.get("epochs_of", {}).get(name, limits["recipe"].get("epochs", longest))
    if "epochs" in wanted:
        most = limits.get("epochs_asked", most)
    most = min(most, longest)
    over["epochs"] = limits.get("epochs_of_rows", {}).get(row.row, most)
    if "slices" in limits and plain.window is None:
        for key in ("window", "evaluate_window"):
            if key not in asked:
                over[key] = limits["slices"]
    if "slices_per_epoch" in limits:
        batch = plain.batch * (over["depth"] if plain.dimensions == 3 else 1)
        slices = limits["slices_per_epoch"]
        over["steps_per_epoch"] = max(1, slices.get(name, slices["others"]) // batch)
    if over.get("evaluate_window", plain.evaluate_window) == "same":
        over["evaluate_step"] = 1
    base = {**load_recipe(row.preset).as_dict(), "network": dict(plain.network)}
    return Recipe(**merge(base, over))


def runs_of(row: Row, budget: str, fingerprint: str) -> Iterator[Run]:
    """Every training that a row asks for; the same training in two rows has the same key."""
    if not row.preset:
        return
    for variant, over in (row.variants or {"default": {}}).items():
        recipe = budgeted(row, over, budget)
        for by in row.splits:
            for seed in BUDGETS[budget]["seeds"]:
                what = [recipe.as_dict(), by, seed, fingerprint]
                digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
                key = f"{recipe.network['name']}-{by}-{seed}-{digest[:10]}"
                yield Run(row.row, variant, by, seed, recipe, key)
