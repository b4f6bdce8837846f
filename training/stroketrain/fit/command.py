"""``stroketrain fit --preset``: a run of one of the papers, alone."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from StrokeLesionSegLib.errors import InputError

from ..data.cache import Cache
from ..data.splits import Split, make_split
from .devices import Devices
from .recipe import load_recipe, merge
from .recipe_run import run_recipe


def runtime_options(a: argparse.Namespace) -> dict[str, Any]:
    """What ``fit`` and ``run_recipe`` share of the command line: where, and what is shown."""
    return {
        "devices": Devices(a.accelerator, a.devices, a.nodes, a.strategy),
        "resident": a.resident,
        "logger": a.logger,
        "progress": a.progress == "bar" or (a.progress == "auto" and sys.stderr.isatty()),
        "save_seconds": a.save_seconds,
    }


def fit_preset(a: argparse.Namespace) -> None:
    """Run the preset with what ``--override``, ``--loss`` and ``--lr-schedule`` change in it."""
    if a.threads:
        torch.set_num_threads(a.threads)
    try:
        over = json.loads(a.override)
    except json.JSONDecodeError as error:
        raise InputError("--override", f"not JSON ({error})", "see fit/recipe.py") from error
    if a.loss:
        over = merge(over, {"loss": {"name": a.loss}})
    if a.lr_schedule:
        over = merge(over, {"schedule": {"name": a.lr_schedule}})
    recipe = load_recipe(a.preset, over)
    cache = Cache.open(Path(a.cache))
    if a.split:
        split = Split.load(a.split, cache.scans, cache.fingerprint)
    else:
        split = make_split(cache.scans, "subject", seed=a.seed, fingerprint=cache.fingerprint)
    a.out.mkdir(parents=True, exist_ok=True)
    split.save(a.out / "split.json")
    result = run_recipe(
        recipe,
        cache.shrunk(recipe.framing.shrink),
        split,
        a.out,
        seed=a.seed,
        # The papers' networks were trained in single precision; what fit takes by default is not.
        precision=a.precision or "32-true",
        **runtime_options(a),
    )
    if result:
        print(json.dumps(result["scores"], indent=1))
