"""Arguments of ``stroketrain experiments``; imports nothing heavy, so that --help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def experiments_parser(commands: Any) -> None:
    """Add ``experiments run`` and ``experiments table`` to a subparser collection."""
    p = commands.add_parser("experiments", help="the papers' rows: run them, make the table")
    actions = p.add_subparsers(dest="action", required=True)

    q = actions.add_parser("run", help="run rows at a budget; goes on where it was")
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
    q.add_argument("--threads", type=int)
    q.add_argument("--logger", default="csv", choices=("csv", "tensorboard"))
    q.add_argument("--progress", action="store_true", help="a bar for every training")
    q.add_argument("--sessions", type=int, help="at most so many of a subject; default: budget's")
    q.add_argument("--shard", default="0/1", help="I/N: every N-th training, one device each")

    q = actions.add_parser("table", help="write the results of all budgets as Markdown")
    q.add_argument("--out", type=Path, help="default training/RESULTS.md")
    q.add_argument("--manifests", type=Path)

    q = actions.add_parser("list", help="the rows, one line each")
