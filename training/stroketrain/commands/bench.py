"""``stroketrain bench``: arguments, and what it prints."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError

from ..values import amount, count, positive, threshold, whole


def add_parser(commands: Any) -> None:
    """Add ``bench`` to a subparser collection; imports nothing heavy."""
    p = commands.add_parser(
        "bench", help="measure a model on people, masks and a procedure it was not trained on"
    )
    p.add_argument("out", type=Path, help="folder for scans and results; run it again to resume")
    p.add_argument("--data", type=Path, required=True, help="folder with t1, lesions, labels")
    p.add_argument("--model", help="name or folder of a model; default the one that ships")
    p.add_argument("--other", help="a second model, compared on the same scans")
    p.add_argument("--anatomies", type=Path, help="where aligned people are kept between runs")
    p.add_argument("--scans", type=count, help="only the first N; always a mixture")
    p.add_argument(
        "--views",
        nargs="+",
        default=["axial"],
        choices=("axial", "triplanar", "axial+flips", "triplanar+flips"),
        help="the first on all scans, the others on --view-scans of them",
    )
    p.add_argument("--view-scans", type=whole, default=18)
    p.add_argument("--other-scans", type=whole, default=40)
    p.add_argument("--robot-scans", type=whole, default=12)
    p.add_argument("--threshold", type=threshold, help="instead of the manifest's")
    p.add_argument("--min-volume", type=amount, help="in mL, instead of the manifest's")
    p.add_argument("--workers", type=count, default=1, help="processes, one CPU thread each")
    p.add_argument("--minutes", type=positive, help="start no scan after this time")
    p.add_argument("--only-scans", action="store_true", help="draw the scans and stop")
    p.add_argument("--report", type=Path, help="the page to write; default OUT/BENCH.md")
    p.add_argument("--pictures", type=Path, help="the plots' folder; default beside the page")
    p.set_defaults(run=run)


def run(a: argparse.Namespace) -> None:
    """Run the bench and write its page; raises ``InputError`` for unusable arguments."""
    from StrokeLesionSegLib.models import load_model

    from ..bench.failures import plot_failures
    from ..bench.measure import key_of, operating_point
    from ..bench.plan import SEED, plan_for
    from ..bench.report import write_report
    from ..bench.run import BenchSettings
    from ..bench.run import run as run_bench
    from ..bench.scans import write_plan
    from ..bench.summary import collect

    if not (a.data / "t1").is_dir():
        raise InputError(a.data, "has no folder t1", "Name the folder with people and masks")
    cases = plan_for(a.data)[: a.scans]
    settings = BenchSettings(
        out=a.out,
        data=a.data,
        anatomies=a.anatomies or a.out / "anatomies",
        model=a.model,
        other=a.other,
        views=tuple(dict.fromkeys(a.views)),
        view_scans=a.view_scans,
        other_scans=a.other_scans,
        robot_scans=a.robot_scans,
        threshold=a.threshold,
        min_volume_ml=a.min_volume,
        threads=1 if a.workers > 1 else None,
    )
    write_plan(cases, a.out / "plan.json")
    # Before hours are spent: the models have to be there.
    model = None if a.only_scans else load_model(a.model)
    other = load_model(a.other) if a.other and not a.only_scans else None
    problems = run_bench(
        cases, settings, workers=a.workers, minutes=a.minutes, only_scans=a.only_scans
    )
    if model is None:
        return
    key, view = key_of(model), settings.views[0]
    rows = collect(cases, a.out, key, view)
    if not rows:
        raise InputError(
            a.out,
            "no scan could be measured",
            "; ".join(problems[:2]) or "Run it again to continue",
        )
    point = operating_point(model, view, a.threshold, a.min_volume)
    others = {v: collect(cases, a.out, key, v) for v in settings.views[1:]}
    if other is not None:
        others[other.manifest.title or other.manifest.name] = collect(
            cases, a.out, key_of(other), view
        )
    facts = {
        "model": f"{model.manifest.name} {model.manifest.version}, weights "
        f"{model.manifest.sha256[:12]}",
        "views": view,
        "threshold": point.threshold,
        "smallest lesion": f"{point.min_volume_ml:g} mL",
        "scans": f"{len(rows)} of {len(cases)}: {sum(r['volume_ml'] > 0 for r in rows)} with "
        f"lesions, {sum(r['volume_ml'] == 0 for r in rows)} without; "
        f"{len({r['person'] for r in rows})} people",
        "plan's seed": SEED,
        "command": f"`stroketrain {shlex.join(_arguments())}`",
    }
    pages = a.report or a.out / "BENCH.md"
    pages.parent.mkdir(parents=True, exist_ok=True)
    files = write_report(
        pages,
        rows,
        facts=facts,
        others=others,
        problems=problems,
        pictures=a.pictures,
        failures=lambda path: plot_failures(rows, a.out, key, view, point, path),
    )
    for file in files:
        print(file)


def _arguments() -> list[str]:
    """The command line without the paths of this machine."""
    shown = []
    for text in sys.argv[1:]:
        path = Path(text)
        shown.append(path.name if path.is_absolute() else text)
    return shown
