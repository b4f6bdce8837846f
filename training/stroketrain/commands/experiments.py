"""``stroketrain experiments``: the papers' rows, run and collected into one table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError

from ..values import count

if TYPE_CHECKING:
    from ..data.cache import Cache


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p = commands.add_parser("experiments", help="the papers' rows: run them, make the table")
    actions = p.add_subparsers(dest="action", required=True)

    q = actions.add_parser("run", help="run rows at a budget; run it again to resume")
    q.add_argument("rows", nargs="+", metavar="ROW", help="A1 to A15, B1 to B13, or all")
    q.add_argument("--budget", default="smoke", choices=("smoke", "small", "full"))
    q.add_argument("--cache", type=Path, help="a prepared cache; default: one is made of --tree")
    q.add_argument("--tree", type=Path, help="an ATLAS tree; default: a simulated one is made")
    q.add_argument("--data", type=Path, help="folder with t1, lesions, labels for the simulator")
    q.add_argument("--out", type=Path, default=Path("runs"), help="weights, checkpoints, caches")
    q.add_argument("--manifests", type=Path, help="default training/experiments/manifests")
    q.add_argument("--drop-weights", action="store_true", help="keep the manifests alone")
    q.add_argument("--device", default="auto", choices=("auto", "cpu", "gpu", "mps"))
    q.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    q.add_argument("--threads", type=count)
    q.add_argument("--logger", default="csv", choices=("csv", "tensorboard"))
    q.add_argument("--progress", action="store_true", help="a bar for every training")
    q.add_argument("--sessions", type=count, help="at most so many of a subject; default: budget's")
    q.add_argument("--shard", default="0/1", help="I/N: every N-th training, one device each")

    q = actions.add_parser("table", help="write the results of all budgets as Markdown")
    q.add_argument("--out", type=Path, help="default training/RESULTS.md")
    q.add_argument("--manifests", type=Path)

    q = actions.add_parser("list", help="the rows, one line each")
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Runs rows, writes the table, or lists the rows."""
    from ..papers.plan import BUDGETS, ROWS, load_rows

    if a.action == "list":
        for row in load_rows().values():
            print(f"{row.row:4} {row.title}")
    elif a.action == "table":
        from ..papers.run import MANIFESTS
        from ..papers.table import write_table

        out: Path = a.out or ROWS.parent / "RESULTS.md"
        manifests: Path = a.manifests or MANIFESTS
        if not manifests.is_dir():  # a table of nothing would take the place of one
            raise InputError(manifests, "there is no such folder", "Name that of the manifests")
        write_table(out, manifests)
        print(out)
    else:
        from ..fit.devices import Devices
        from ..fit.trainer import Runtime
        from ..papers.run import MANIFESTS, RowsOptions, chosen_rows, run_rows

        if a.threads:
            import torch

            torch.set_num_threads(a.threads)
        shard = _shard(a.shard)
        chosen_rows(a.rows)  # before a cache is made
        cache = _cache(a)
        sessions = a.sessions or BUDGETS[a.budget].get("sessions")
        done = run_rows(
            a.rows,
            cache.sessions(sessions) if sessions else cache,
            a.out,
            RowsOptions(a.budget, a.manifests or MANIFESTS, not a.drop_weights, shard),
            runtime=Runtime(Devices(a.device), a.precision, logger=a.logger, progress=a.progress),
        )
        print(f"{counted(done, 'training')} done; stroketrain experiments table makes the table")


def _cache(a: argparse.Namespace) -> Cache:
    """The cache to run on; simulated and prepared on the way where none is given.

    Raises ``InputError`` where that of another tree of this name was prepared before, and where
    each process of several shards would prepare it.
    """
    from ..data.cache import Cache, prepare
    from ..made_of import RECORD, keep_made_of
    from ..papers.plan import BUDGETS

    if a.cache:
        return Cache.open(a.cache)
    tree = a.tree
    place = a.out / "data" / (tree.name if tree else f"simulated_{a.budget}")
    source = tree or a.data
    prepared = (place / "cache" / "index.json").is_file()
    if not prepared and _shard(a.shard)[1] > 1:
        # Each would write over what the other is training on.
        raise InputError(
            place / "cache",
            "is not prepared yet, and every process of --shard would do so at once",
            "Make a cache with stroketrain prepare, and name it with --cache",
        )
    keep_made_of(
        place / RECORD,
        {"tree" if tree else "data": str(source.resolve()) if source else None},
        holds="a cache that was made of something else",
        there=prepared,
    )
    if prepared:
        return Cache.open(place / "cache")
    if tree is None:
        from ..simulate.tree import TreeOptions, simulate_tree

        tree = place / "tree"
        n = BUDGETS[a.budget]["scans"] or 400
        subjects = max(6, n // 2)
        options = TreeOptions(a.data, cache=place / "anatomies", seed=7, subjects=subjects)
        simulate_tree(tree, n, options)
    return prepare(tree, place / "cache")


def _shard(text: str) -> tuple[int, int]:
    first, _, second = text.partition("/")
    if not (first.isdigit() and second.isdigit() and int(first) < int(second)):
        raise InputError(
            "--shard", f"{text!r} is not I/N with I below N", "Use 0/2 and 1/2, for instance"
        )
    return int(first), int(second)
