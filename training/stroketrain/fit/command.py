"""``stroketrain fit --preset``: a run of one of the papers, alone."""

from __future__ import annotations

import argparse
import json

import torch
from StrokeLesionSegLib.errors import InputError

from ..data.cache import Cache
from ..data.splits import Split, make_split
from .recipe import load_recipe, merge
from .recipe_run import run_recipe


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
    cache = Cache.open(a.cache)
    if a.split:
        split = Split.load(a.split, cache.scans)
    else:
        split = make_split(cache.scans, "subject", seed=a.seed, fingerprint=cache.fingerprint)
    a.out.mkdir(parents=True, exist_ok=True)
    split.save(a.out / "split.json")
    result = run_recipe(recipe, cache, split, a.out, seed=a.seed, progress=True)
    print(json.dumps(result["scores"], indent=1))
