"""``stroketrain experiments table``: the one table, from the manifests of the runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.lesions.scorers.summary import bootstrap_interval

from .plan import BUDGETS, ROWS, Row, load_rows
from .run import MANIFESTS, read_index
from .schedules import relative_swing

BUDGET_WORDS = {
    "smoke": "**Smoke budget**: a few steps of tiny networks on slices at a quarter of the "
    "resolution. It shows that every row runs; the numbers say nothing about the systems.",
    "small": "**Small budget**: the three sessions with the largest lesions of each subject; "
    "slices averaged down by 8 (29 x 24 pixels of 8 mm; a pixel counts as lesion if any part of it "
    "does); the 100 central slices, of which every fourth is scored, unless a recipe names others; "
    "U-Nets with a quarter of the channels, trained for 10 epochs of 1,200 slices; the CS230 "
    "network trained for 12 epochs of 2,500 slices, for 24 in the rows about w = 1 (B3, B8 to "
    "B10), and for 48 in its best configuration (B11, B12). Three seeds, each with "
    "its own fold of five, so that each holds out other subjects. Systems can be compared; "
    "the level says nothing about full training. `lesion_f1` is computed on the scored slices, "
    "stacked as if they were neighbours.",
    "full": "**Full budget**: networks, resolution and length as in the papers.",
}


def subject_values(results: list[dict[str, Any]], metric: str) -> dict[str, float]:
    """A metric by test subject, averaged over seeds and sessions; scans without it left out."""
    values: dict[str, list[float]] = {}
    for result in results:
        for scan in result["test_scans"].values():
            value = scan.get(metric)
            lesion = (scan.get("tp") or 0) + (scan.get("fn") or 0) > 0
            if value is not None and (lesion or metric != "volume_dice"):
                values.setdefault(scan["subject"], []).append(value)
    return {subject: float(np.mean(v)) for subject, v in sorted(values.items())}


def _gap(result: dict[str, Any], metric: str) -> float | None:
    train, val = (result["scores"][part].get(metric) for part in ("train", "val"))
    return None if train is None or val is None else train - val


def _mean_of(results: list[dict[str, Any]], key: str, metric: str = "") -> str:
    if key == "train_val_gap":
        found = [_gap(r, metric) for r in results]
        key = f"gap in {metric} from training to validation"
    elif key == "swing":
        found = [relative_swing([h.get(metric) or 0.0 for h in r["history"]]) for r in results]
        key = f"swing of {metric}"
    elif key in ("seconds", "parameters"):
        found = [r.get(key) for r in results]
    else:
        found = [r["scores"]["test"].get(key) for r in results]
    known = [float(v) for v in found if v is not None]
    if not known:
        return f"{key} -"
    mean = float(np.mean(known))
    if key == "parameters":
        return f"{mean:,.0f} parameters"
    return f"{key} {mean:.3f}"


def result_line(results: list[dict[str, Any]], metric: str, show: list[str]) -> str:
    """Mean over test subjects with its bootstrap 95 % interval, and what else the row shows."""
    values = np.array(list(subject_values(results, metric).values()))
    if len(values):
        low, high = bootstrap_interval(values)
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        text = f"{metric} {values.mean():.3f}{interval}, n = {len(values)}"
        if "slice" in metric:  # what the paper averages over, beside what can be bootstrapped
            text = f"{_mean_of(results, metric)} over slices, by subject{text.removeprefix(metric)}"
    else:
        text = _mean_of(results, metric)
    return ", ".join([text, *(_mean_of(results, key, metric) for key in show)])


def paired(a: dict[str, float], b: dict[str, float]) -> str:
    """Mean paired difference with its interval and Wilcoxon's signed-rank test."""
    from scipy.stats import wilcoxon

    both = sorted(set(a) & set(b))
    if not both:
        return "no common test subject"
    difference = np.array([a[s] - b[s] for s in both])
    low, high = bootstrap_interval(difference)
    interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
    text = f"{difference.mean():+.3f}{interval}, n = {len(both)}"
    if len(both) < 6:
        return f"{text}; too few subjects for a Wilcoxon test to reach .05"
    if not difference.any():
        return f"{text}; no difference at all"
    p = wilcoxon(difference).pvalue
    return f"{text}, Wilcoxon p " + (f"= {p:.3f}" if p >= 0.0005 else "< 0.001")


def _results(entry: dict[str, Any], folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in entry["runs"]:
        path = folder / f"{run['key']}.json"
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault((run["variant"], run["by"]), []).append(result)
    return found


def row_lines(row: Row, entry: dict[str, Any], folder: Path) -> list[str]:
    """What stands in the result column of one row."""
    results = _results(entry, folder)
    lines = list(entry["facts"])
    for (variant, by), group in results.items():
        name = variant if len(row.splits) == 1 else f"{variant}, split by {by}"
        lines.append(f"{name}: {result_line(group, row.metric, row.show)}")
    for first, second in row.compare:
        by = row.splits[0]
        a, b = results.get((first, by)), results.get((second, by))
        if a and b:
            values = [subject_values(r, row.metric) for r in (a, b)]
            lines.append(f"{first} minus {second}: {paired(*values)}")
    for first, second in row.compare_splits:
        for variant in dict.fromkeys(v for v, _ in results):
            a, b = results.get((variant, first)), results.get((variant, second))
            if a and b:
                values = [subject_values(r, row.metric) for r in (a, b)]
                lines.append(
                    f"{variant}, split by {first} minus by {second}, subjects: {paired(*values)}"
                )
    return lines


def runs_id(entry: dict[str, Any]) -> str:
    """Names the data and the trainings that a row's result is made of, in eight digits."""
    what = [entry["data"].get("fingerprint"), sorted(run["key"] for run in entry["runs"])]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]


def read_comments(
    manifests: Path, budget: str, rows: dict[str, Any], say: Callable[[str], None] = print
) -> dict[str, str]:
    """Sentences by row from ``comments.yaml`` beside the manifests, written by hand: why a result
    differs from the paper's. ``B12: {runs: 0123abcd, text: ...}``; one about other runs or data
    than those of the index (``rows``) is left out, and ``say`` gets the id to be put there."""
    path = manifests / budget / "comments.yaml"
    if not path.is_file():
        return {}
    found = {}
    for name, comment in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items():
        if name not in rows:
            continue
        now = runs_id(rows[name])
        if isinstance(comment, dict) and str(comment.get("runs")) == now:
            found[name] = str(comment["text"]).strip()
        else:
            say(f"{path}: the sentence on {name} is about other runs than now ({now}); left out")
    return found


def _data(row: Row, entry: dict[str, Any] | None) -> str:
    """The release and the scans that a row was run on, and the paper's release if another."""
    if entry is None:
        return "-"
    data = entry["data"]
    release = data.get("release", "").upper()
    text = ", ".join([*([release] if release else []), counted(data["scans"], "scan")])
    if data["simulated"]:
        text += f", {data['simulated']} simulated"
    text += f", `{data['fingerprint'][:8]}`"
    return text if release in ("", row.data.upper()) else f"{text} (the paper: {row.data.upper()})"


def _data_lines(rows: dict[str, Any]) -> list[str]:
    """One line for each data set that rows were run on."""
    lines: dict[str, str] = {}
    for entry in rows.values():
        data = entry["data"]
        origin = "as read from an ATLAS tree"
        if data["simulated"]:
            heads = counted(data["heads"], "head")
            origin = f"{data['simulated']} of them simulated strokes on {heads}"
        lines[data["fingerprint"]] = (
            f"Data `{data['fingerprint'][:8]}`: {counted(data['scans'], 'scan')} of "
            f"{counted(data['subjects'], 'subject')} from {counted(data['sites'], 'site')}, "
            f"{origin}."
        )
    return list(lines.values())


def _ran(row: Row, entry: dict[str, Any], folder: Path) -> str:
    groups = _results(entry, folder)
    if not groups:
        return "measured" if entry["facts"] else "-"
    first = next(iter(groups.values()))
    epochs = sorted({r["epochs"] for g in groups.values() for r in g})
    span = f"{epochs[0]}-{epochs[-1]} epochs" if len(epochs) > 1 else counted(epochs[0], "epoch")
    seeds = len(first)
    runs = sum(map(len, groups.values()))
    return ", ".join([counted(runs, "run"), span, counted(seeds, "seed")])


def _cell(lines: list[str]) -> str:
    return "<br>".join(line.replace("|", "\\|") for line in lines)


def build_table(manifests: Path = MANIFESTS, rows_folder: Path = ROWS) -> str:
    """The table of every budget that was run, as Markdown, the best budget first."""
    rows = load_rows(rows_folder)
    parts = [
        "# Results",
        "",
        "Written by `stroketrain experiments table` from the manifests in "
        "`training/experiments/manifests`; not edited by hand. The rows are those of the two "
        "papers (A: residual U-Net on ATLAS R2.0, B: CS230 network on ATLAS R1.1). Numbers are "
        "means over test subjects with bootstrap 95 % intervals. `volume_dice` counts scans with "
        "lesions, `slice_dice` slices whose prediction or truth is non-empty. The column `data` "
        "has the layout of the release, and that of the paper where it differs.",
    ]
    budgets = [b for b in reversed(BUDGETS) if read_index(manifests / b)["rows"]]
    if not budgets:
        parts += ["", "Nothing has been run yet."]
    for budget in budgets:
        folder = manifests / budget
        index = read_index(folder)
        comments = read_comments(manifests, budget, index["rows"])
        parts += [
            "",
            f"## Budget {budget}",
            "",
            BUDGET_WORDS[budget],
            "",
            *_data_lines(index["rows"]),
            "",
            "| row | what | data | split | what ran | result | the paper |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, row in rows.items():
            entry = index["rows"].get(name)
            lines = row_lines(row, entry, folder) if entry else ["not run"]
            if row.note:
                lines = [*lines, f"*{row.note}*"]
            if entry and name in comments:
                lines = [*lines, f"**{comments[name]}**"]
            ran = _ran(row, entry, folder) if entry else "-"
            split = ", ".join(row.splits) if row.preset else "-"
            parts.append(
                f"| {name} | {row.title} | {_data(row, entry)} | {split} | {ran} | "
                f"{_cell(lines)} | {row.paper.strip().replace('|', '/')} |"
            )
    return "\n".join(parts) + "\n"


def write_table(path: Path, manifests: Path = MANIFESTS, rows_folder: Path = ROWS) -> None:
    path.write_text(build_table(manifests, rows_folder), encoding="utf-8")
