"""``stroketrain figures ...``: arguments and what they draw."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..values import count, whole

OF_DATA = ("sample", "overlap", "profile", "receptive", "pipeline")


def add_parser(commands: Any) -> None:
    """Add ``figures`` to a subparser collection; imports nothing heavy."""
    p = commands.add_parser("figures", help="draw the papers' figures as PNG and SVG")
    p.set_defaults(run=run)
    kinds = p.add_subparsers(dest="figure", required=True)
    for name in OF_DATA:
        q = kinds.add_parser(name)
        q.add_argument("cache", type=Path)
        q.add_argument("--out", type=Path, default=Path("figures"))
    q = kinds.add_parser("samples", help="random scans of a cache in one picture, to be looked at")
    q.add_argument("cache", type=Path)
    q.add_argument("--out", type=Path, default=Path("figures"))
    q.add_argument("-n", "--count", type=count, default=50)
    q.add_argument("--seed", type=whole, default=0)
    q.add_argument("--dpi", type=count, default=60)
    q = kinds.add_parser("curves", help="training curves of runs")
    q.add_argument("runs", nargs="+", type=Path, help="folders of runs, or manifests")
    q.add_argument("--out", type=Path, default=Path("figures"))
    q = kinds.add_parser("panel", help="truth beside the predictions of runs")
    q.add_argument("cache", type=Path)
    q.add_argument("runs", nargs="+", type=Path, help="folders of runs; with --row the folder of a "
                   "budget's runs")  # fmt: skip
    q.add_argument("--row", help="the variants of this row instead")
    q.add_argument("--seed", type=whole, default=0)
    _of_a_budget(q)
    for name, text in (
        ("bars", "the variants of a row of the experiments"),
        ("sweep", "validation by epoch of the variants of a row"),
    ):
        q = kinds.add_parser(name, help=text)
        q.add_argument("row")
        _of_a_budget(q)


def _of_a_budget(q: argparse.ArgumentParser) -> None:
    q.add_argument("--budget", default="small", choices=("smoke", "small", "full"))
    q.add_argument("--manifests", type=Path)
    q.add_argument("--out", type=Path, default=Path("figures"))


def run(a: argparse.Namespace) -> None:
    """Draw and print the files; raises ``InputError`` for unfinished runs and caches."""
    from ..data.cache import Cache

    if a.figure in OF_DATA:
        from ..figures import of_data

        paths = getattr(of_data, a.figure)(Cache.open(a.cache), a.out)
    elif a.figure == "samples":
        from ..figures.of_samples import samples

        paths = samples(Cache.open(a.cache), a.out, a.count, a.seed, a.dpi)
    else:
        from ..figures import of_runs
        from ..papers.run import MANIFESTS

        if a.figure == "curves":
            paths = of_runs.draw_curves(a.runs, a.out)
        elif a.figure == "panel" and a.row:
            paths = of_runs.panel_of_row(
                Cache.open(a.cache), a.row, a.runs[0], a.manifests or MANIFESTS, a.budget, a.out,
                a.seed,
            )  # fmt: skip
        elif a.figure == "panel":
            paths = of_runs.panel(Cache.open(a.cache), a.runs, a.out)
        else:
            draw = of_runs.bars if a.figure == "bars" else of_runs.sweep
            paths = draw(a.row, a.manifests or MANIFESTS, a.budget, a.out)
    for path in paths:
        print(path)
