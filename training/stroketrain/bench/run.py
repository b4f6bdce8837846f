"""Running the bench: jobs over the scans, on several processes, stopped and resumed at will."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.lesions import read_sidecar, write_sidecar
from StrokeLesionSegLib.models import load_model

from .measure import PASSES, Robot, click, key_of, operating_point, predict, score
from .plan import BenchCase
from .scans import FACTS, make_scan, read_back

CLICKS = 10


@dataclass(frozen=True)
class BenchSettings:
    """What one run of the bench does.

    Attributes
    ----------
    out: scans in ``out/scans``, results in ``out/models/<model>/<case>``.
    data, anatomies: the people and masks, and where aligned people are kept.
    model, other: names or folders of models; ``other`` is compared with the first, or None.
    views: the first is run on all scans, the others on the first ``view_scans``.
    other_scans, robot_scans: how many scans the other model and the robot user see.
    noise_mm: how far the robot's clicks miss, one series each.
    threshold, min_volume_ml: instead of the manifest's.
    threads: of torch in each process; None is all.
    """

    out: Path
    data: Path
    anatomies: Path
    model: str | None = None
    other: str | None = None
    views: tuple[str, ...] = ("axial",)
    view_scans: int = 18
    other_scans: int = 40
    robot_scans: int = 12
    noise_mm: tuple[float, ...] = (0.0, 4.0)
    threshold: float | None = None
    min_volume_ml: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Job:
    """One scan and what is to be done with it: "scan", "predict", "click"."""

    what: str
    case: BenchCase
    model: str | None = None
    views: tuple[str, ...] = ()

    @property
    def units(self) -> float:
        """Work in passes of the network, roughly."""
        if self.what == "scan":
            return 2.0
        return 4.0 if self.what == "click" else 1.0 + sum(PASSES[v] for v in self.views)


_models: dict[str | None, Any] = {}


def _model(name: str | None) -> Any:
    if name not in _models:
        _models[name] = load_model(name)
    return _models[name]


def do(job: Job, settings: BenchSettings) -> str | None:
    """One job from beginning to end; returns None, or what went wrong. What is there is kept."""
    try:
        folder = settings.out / "scans" / job.case.name
        make_scan(job.case, settings.data, settings.anatomies, folder)
        if job.what == "scan":
            return None
        scan = read_back(job.case, folder)
        model = _model(job.model)
        results = settings.out / "models" / key_of(model) / job.case.name
        points = {
            view: operating_point(model, view, settings.threshold, settings.min_volume_ml)
            for view in job.views
        }
        if job.what == "predict":
            predict(scan, model, list(job.views), results, settings.threads)
            for view, point in points.items():
                score(scan, results, view, point, model.manifest.inference.calibration)
        else:
            view = job.views[0]
            for noise in settings.noise_mm:
                robot = Robot(noise, CLICKS, points[view])
                click(scan, model, results, view, robot, settings.threads)
    except InputError as error:  # without its path, which is this machine's
        return f"{job.what} {job.case.name}: {error.cause}"
    except Exception as error:  # one scan must not end an hour's work; the report counts these
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{job.what} {job.case.name}: {error!r} ({Path(where.filename).name}:{where.lineno})"
    return None


def robot_cases(cases: Iterable[BenchCase], settings: BenchSettings) -> list[BenchCase]:
    """The scans for the robot user: lesions above 1 mL, kinds in turn."""
    by_kind: dict[str, list[BenchCase]] = {}
    for case in cases:
        path = settings.out / "scans" / case.name / FACTS
        if not path.exists():
            continue
        facts = read_sidecar(path)
        if facts["volume_ml"] > 1:
            by_kind.setdefault(case.kind, []).append(case)
    rounds = zip_longest(*(by_kind[k] for k in sorted(by_kind)))
    return [c for row in rounds for c in row if c is not None][: settings.robot_scans]


def stages(cases: list[BenchCase], settings: BenchSettings) -> Iterator[tuple[str, list[Job]]]:
    """The run's parts in order of weight; each is listed when the one before is done."""
    main, more = settings.views[0], settings.views[1:]
    yield (
        f"{main}, all scans",
        [Job("predict", c, settings.model, (main,)) for c in cases],
    )
    if settings.robot_scans:
        chosen = robot_cases(cases, settings)
        yield "robot user", [Job("click", c, settings.model, (main,)) for c in chosen]
    if more:
        chosen = cases[: settings.view_scans]
        yield "other views", [Job("predict", c, settings.model, more) for c in chosen]
    if settings.other:
        chosen = cases[: settings.other_scans]
        yield "other model", [Job("predict", c, settings.other, (main,)) for c in chosen]


def _say(line: str) -> None:
    print(line, flush=True)


def run(
    cases: list[BenchCase],
    settings: BenchSettings,
    *,
    workers: int = 1,
    minutes: float | None = None,
    only_scans: bool = False,
    say: Callable[[str], None] = _say,
) -> list[str]:
    """Do all that is not done yet; returns what went wrong, a line each.

    ``minutes``: no job is begun after so long; a later run goes on there. ``only_scans``: draw the
    scans and stop.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    problems: list[str] = []
    listed = [("scans", [Job("scan", c) for c in cases])] if only_scans else stages(cases, settings)
    pool = (
        ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _start, (settings.threads,)
        )
        if workers > 1
        else None
    )
    try:
        for title, jobs in listed:
            begun = time.monotonic()
            done_units, total = 0.0, sum(j.units for j in jobs)
            for n, (job, problem) in enumerate(
                _all(pool, workers, jobs, settings, started, minutes), 1
            ):
                done_units += job.units
                if problem:
                    problems.append(problem)
                    say(f"  problem: {problem}")
                spent = time.monotonic() - begun
                left = spent / done_units * (total - done_units)
                say(f"{title}: {n} of {len(jobs)} in {spent:.0f} s, about {left:.0f} s left")
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    write_sidecar(settings.out / "problems.json", {"problems": problems})
    return problems


def _start(threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or 1)


def _all(
    pool: ProcessPoolExecutor | None,
    workers: int,
    jobs: list[Job],
    settings: BenchSettings,
    started: float,
    minutes: float | None,
) -> Iterator[tuple[Job, str | None]]:
    """Jobs as they end; at most ``workers`` at a time, so that a stop takes no longer than one."""
    waiting = iter(jobs)
    running: dict[Future[str | None], Job] = {}
    while True:
        over = minutes is not None and time.monotonic() - started > 60 * minutes
        while not over and len(running) < workers and (job := next(waiting, None)) is not None:
            if pool is None:
                yield job, do(job, settings)
                over = minutes is not None and time.monotonic() - started > 60 * minutes
            else:
                running[pool.submit(do, job, settings)] = job
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()
