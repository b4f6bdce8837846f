"""How a run tells what it is doing: a bar for people, JSON lines for programs, or nothing."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from typing import Any, TextIO

from .verbosity import is_quiet, is_verbose, note

_TITLES = {
    "read": "Reading",
    "align": "Aligning to MNI152",
    "canonical": "Resampling",
    "window": "Scaling intensities",
    "network": "Segmenting",
    "back": "Back to the scan's grid",
    "clean": "Finding lesions",
    "write": "Writing",
    "scans": "Scans",
    "pairs": "Pairs of sessions",
    "prepare": "Preparing scans",
    "ventricles": "Finding ventricles",
    "simulate": "Drawing strokes",
    "before": "Judging the old model",
    "learn": "Learning",
    "choose": "Operating point",
    "judge": "Judging the new model",
}


# Stages whose steps people count.
_COUNTED = {"scans", "pairs", "prepare", "score", "simulate"}


def duration(seconds: float) -> str:
    """A time in words of two or three letters.

    Examples
    --------
    >>> duration(9), duration(150), duration(7300)
    ('9 s', '2 min 30 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def print_json(record: dict[str, Any]) -> None:
    """One object on one line of stdout, flushed, so that a program that drives us sees it now."""
    sys.stdout.write(json.dumps(record, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


class Reporter:
    """Context manager that is called with (stage, done, total); this base says nothing."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self, stage: str, done: int, total: int) -> None:
        return None


class JsonReporter(Reporter):
    """One line per step: ``{"stage": ..., "done": ..., "total": ...}``."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        print_json({"stage": stage, "done": int(done), "total": int(total)})


class PlainBar(Reporter):
    """A single line that is written over, for terminals without rich."""

    _WIDTH = 30

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = 0.0
        self._length = 0
        self._stage, self._began, self._first = "", 0.0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._drawn < 0.1:
            return
        self._drawn = now
        filled = self._WIDTH * done // max(total, 1)
        bar = "#" * filled + "." * (self._WIDTH - filled)
        line = (
            f"{_TITLES.get(stage, stage):<24} {bar} {done}/{total}{self._left(stage, done, total)}"
        )
        self._stream.write("\r" + line.ljust(self._length))
        self._stream.flush()
        self._length = len(line)

    def _left(self, stage: str, done: int, total: int) -> str:
        """The time that is left, of what comes one after the other, such as scans."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._first = stage, now, done
        through = done - self._first
        if stage not in _COUNTED or not 0 < through < total - self._first:
            return ""
        return f", {duration((now - self._began) / through * (total - done))} left"

    def __exit__(self, *error: object) -> None:
        self._stream.write("\r" + " " * self._length + "\r")
        self._stream.flush()


class RichBar(Reporter):
    """The same with rich, which also knows narrow and dumb terminals."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, count="")
        self._stage = ""

    def __enter__(self) -> RichBar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            self._progress.reset(
                self._task, description=_TITLES.get(stage, stage), total=max(total, 1)
            )
        count = f"{done}/{total}" if stage in _COUNTED else ""
        self._progress.update(self._task, completed=done, total=max(total, 1), count=count)


class StageTimes(Reporter):
    """Notes every stage with its seconds when the next one begins, and hands on to another."""

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner
        self._stage, self._began = "", 0.0

    def __enter__(self) -> StageTimes:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)
        self._end()

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._inner(stage, done, total)
        if stage != self._stage:
            self._end()
            self._stage, self._began = stage, time.monotonic()

    def _end(self) -> None:
        if self._stage:
            note(f"{self._stage:<12}{time.monotonic() - self._began:.2f} s")
        self._stage = ""


def make_reporter(kind: str | None) -> Reporter:
    """The reporter for ``--progress``; None means a bar if stderr is a terminal.

    ``--quiet`` leaves the bar out, ``--verbose`` has lines in its place.
    """
    if kind is None:
        kind = "bar" if sys.stderr.isatty() else "none"
    if kind == "bar" and (is_quiet() or is_verbose()):
        kind = "none"
    reporter = _reporter(kind)
    return StageTimes(reporter) if is_verbose() else reporter


def _reporter(kind: str) -> Reporter:
    if kind == "json":
        return JsonReporter()
    if kind == "bar":
        rich = importlib.util.find_spec("rich") is not None
        return RichBar(sys.stderr) if rich else PlainBar(sys.stderr)
    return Reporter()
