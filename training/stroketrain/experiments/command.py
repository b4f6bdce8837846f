"""``stroketrain experiments ...``: what the arguments mean."""

from __future__ import annotations

import argparse
from pathlib import Path

from StrokeLesionSegLib.errors import InputError

from ..data.cache import Cache, prepare
from ..fit.devices import Devices
from .plan import BUDGETS, ROWS, load_rows
from .run import MANIFESTS, run_rows
from .table import write_table


def _cache(a: argparse.Namespace) -> Cache:
    """The cache to run on; simulated and prepared on the way where none is given."""
    if a.cache:
        return Cache.open(a.cache)
    tree = a.tree
    place = a.out / "data" / (tree.name if tree else f"simulated_{a.budget}")
    if (place / "cache" / "index.json").is_file():
        return Cache.open(place / "cache")
    if tree is None:
        from ..simulate.tree import simulate_tree

        tree = place / "tree"
        n = BUDGETS[a.budget]["scans"] or 400
        simulate_tree(
            tree, n, data=a.data, cache=place / "anatomies", seed=7, subjects=max(6, n // 2)
        )
    return prepare(tree, place / "cache")


def _shard(text: str) -> tuple[int, int]:
    first, _, second = text.partition("/")
    if not (first.isdigit() and second.isdigit() and int(first) < int(second)):
        raise InputError("--shard", f"{text!r} is no I/N with I below N", "use 0/2 and 1/2, say")
    return int(first), int(second)


def run_command(a: argparse.Namespace) -> None:
    if a.action == "list":
        for row in load_rows().values():
            print(f"{row.row:4} {row.title}")
    elif a.action == "table":
        out: Path = a.out or ROWS.parent / "RESULTS.md"
        write_table(out, a.manifests or MANIFESTS)
        print(out)
    else:
        if a.threads:
            import torch

            torch.set_num_threads(a.threads)
        shard = _shard(a.shard)
        cache = _cache(a)
        sessions = a.sessions or BUDGETS[a.budget].get("sessions")
        done = run_rows(
            a.rows,
            cache.sessions(sessions) if sessions else cache,
            a.out,
            budget=a.budget,
            manifests=a.manifests or MANIFESTS,
            keep_weights=not a.drop_weights,
            devices=Devices(a.device),
            precision=a.precision,
            shard=shard,
            progress=a.progress,
            logger=a.logger,
        )
        print(f"{done} trainings done; stroketrain experiments table makes the table")
