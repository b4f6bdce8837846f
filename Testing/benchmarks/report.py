"""From the results in ``bench/`` to RESULTS.md, the plot and the table in docs/speed.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import (
    BARS,
    CASES,
    CONTENDED,
    FILE_TO_FILE,
    REFERENCE,
    REFERENCE32,
    REFERENCE_GPU,
    Case,
)
from sections import SECTIONS, table

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
# Rows of docs/speed.md; RESULTS.md has all of them.
README_ROWS = (
    REFERENCE,
    REFERENCE32,
    "ours 2d bfloat16",
    "monai-2d-plain",
    "monai-2d",
    "monai-2d-wide",
    "monai-3d-wide",
    "nnunet-2d",
    "nnunet-3d",
    "nnunet-3d-flips",
)
Row = dict[str, Any]


def write_report(bench: Path, repository: Path, *, readme: bool) -> None:
    """Write everything that can be written of what was measured."""
    from plots import plot_side

    side = summarise(read_lines(bench / "side.jsonl"))
    parts = {file.stem: json.loads(file.read_text()) for file in sorted(bench.glob("[a-z]*.json"))}
    text = results_text(side, parts, summarise(read_lines(bench / "side-cuda.jsonl")))
    target = repository / "Testing" / "benchmarks" / "RESULTS.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    print(f"wrote {target.relative_to(repository)}")
    docs = repository / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    if side:
        plot_side(side, docs / "benchmark.png")
    if readme and side:
        put_into_readme(docs / "speed.md", readme_text(side, parts))
        print("put the table into docs/speed.md")


def read_lines(path: Path) -> list[Row]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def summarise(lines: Iterable[Row]) -> dict[str, Row]:
    """Medians over the rounds of each case, in the order of ``CASES``.

    What was measured with another model, volume or PyTorch than the last results is left out.
    """
    peers = {case.name for case in CASES if case.peer}
    good = [line for line in lines if "failed" not in line]
    # Of the peers and of ours: each has its own PyTorch.
    last = {line["case"] in peers: line.get("key", {}) for line in good}
    volume = good[-1].get("key", {}).get("volume") if good else None
    by_case: dict[str, list[Row]] = {}
    for line in good:
        key = line.get("key", {})
        if key == last[line["case"] in peers] and key.get("volume") == volume:
            by_case.setdefault(line["case"], []).append(line)
    rows = {}
    for case in CASES:
        runs = by_case.get(case.name)
        if not runs:
            continue
        row = dict(runs[-1])
        for key in ("network_s", "volume_s", "ready_s", "process_s"):
            row[key] = statistics.median(run[key] for run in runs)
        for key in ("peak_mb", "gpu_peak_mb"):
            if key in row:
                row[key] = max(run[key] for run in runs)
        busy = [run["busy_before"] for run in runs if run.get("busy_before") is not None]
        row["busy_before"] = max(busy, default=None)
        row["runs"] = len(runs)
        row["range_s"] = [min(r["network_s"] for r in runs), max(r["network_s"] for r in runs)]
        row["title"] = case.title
        row["peer"] = case.peer
        rows[case.name] = row
    return rows


def share_of_peak(row: Row, peak: Row | None) -> float | None:
    """Multiply-accumulates a second of the network's time, as a share of the measured peak."""
    rate = (peak or {}).get("gmac_per_s", {}).get(row["precision"])
    return row["gmac"] / row["network_s"] / rate if rate else None


def times_of(row: Row, reference: Row | None) -> str:
    if reference is None:
        return "-"
    ratio = row["network_s"] / reference["network_s"]
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.1f}" if ratio >= 2 else f"{ratio:.2f}"


def side_table(rows: dict[str, Row], peak: Row | None, *, gpu: bool = False) -> str:
    reference = rows.get(REFERENCE_GPU if gpu else REFERENCE)
    reference32 = rows.get(REFERENCE32)
    lines = [
        "| | format | network, s | volume to mask, s | ready after, s "
        f"| peak MB{' of the GPU' * gpu} | parameters, M | GMAC | of the peak "
        "| times ours | times ours, float32 | runs |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows.values():
        share = share_of_peak(row, peak)
        memory = row.get("gpu_peak_mb", row["peak_mb"])
        lines.append(
            f"| {row['title']} | {row['precision']} | {row['network_s']:.2f} "
            f"| {row['volume_s']:.2f} | {row['ready_s']:.1f} | {memory:.0f} "
            f"| {row['parameters'] / 1e6:.1f} | {row['gmac']:.0f} "
            f"| {'-' if share is None else f'{share:.0%}'} "
            f"| {times_of(row, reference)} | {times_of(row, reference32)} | {row['runs']} |"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Bar:
    """One thing that was asked for: what, the bound in words, what was measured, met or not."""

    what: str
    asked: str
    measured: str
    met: bool
    note: str = ""


def bars(side: dict[str, Row], parts: dict[str, Row]) -> list[Bar]:
    """Everything that was asked for and has been measured."""
    titles = {case.name: case for case in CASES}
    found = []
    for slow, fast, least in BARS:
        if slow not in side or fast not in side:
            continue
        ratio = side[slow]["network_s"] / side[fast]["network_s"]
        equal = side.get(fast.replace("bfloat16", "float32"))
        note = f"{side[slow]['network_s'] / equal['network_s']:.2f}" if equal else "-"
        what = f"{plain(titles[fast])}, bfloat16, against {plain(titles[slow])}"
        asked = f"at least {least:g} times as fast"
        found.append(Bar(what, asked, f"{ratio:.2f} times", ratio >= least, note))
    stages = parts.get("stages", {}).get("result", {})
    for name, title, most in FILE_TO_FILE:
        if name in stages:
            value, note = stages[name]["file_to_file_s"], ""
            if other := stages.get(f"{name}, float32"):
                note = f"{other['file_to_file_s']:.1f} s"
            what = f"`segment`, file to file on two cores, {title}"
            found.append(Bar(what, f"at most {most:g} s", f"{value:.1f} s", value <= most, note))
    if "contended" in parts:
        ratio = parts["contended"]["result"]["held_to_one_core"]["file_to_file_s"]
        what = "`segment` beside a program on one of two cores, times that on one core"
        found.append(Bar(what, f"at most {CONTENDED:g}", f"{ratio:.2f}", ratio <= CONTENDED))
    return found


def bars_table(side: dict[str, Row], parts: dict[str, Row]) -> str:
    """The figures that were asked for, and whether they hold."""
    rows = [
        (bar.what, bar.asked, bar.measured, "yes" if bar.met else "**missed**", bar.note)
        for bar in bars(side, parts)
    ]
    return "\n".join(table(("", "asked", "measured", "met", "ours in float32, and more"), rows))


def verdict(side: dict[str, Row], parts: dict[str, Row]) -> str:
    """One sentence: which of the things asked for hold, and by how much the others do not."""
    all_bars = bars(side, parts)
    missed = [bar for bar in all_bars if not bar.met]
    if not missed:
        return f"All {len(all_bars)} goals that were set beforehand and measured here are met."
    told = "; ".join(f"{bar.what}: {bar.measured} ({bar.asked} asked)" for bar in missed)
    return (
        f"Of {len(all_bars)} goals that were set beforehand and measured here, "
        f"{len(all_bars) - len(missed)} are met. **Missed**: {told}."
    )


def program(row: Row) -> str:
    """Name of what has to be installed, as in the part size."""
    case = row["case"]
    return "nnU-Net" if case.startswith("nnunet") else "MONAI" if row["peer"] else "ours"


def plain(case: Case) -> str:
    return case.title.replace("*", "")


def where(rows: dict[str, Row]) -> str:
    one = next(iter(rows.values()))
    gpu = f"{one['gpu']}, " if "gpu" in one else ""
    models = sorted({r["model"] for r in rows.values() if "model" in r})
    peers = {k: v for r in rows.values() if r["peer"] for k, v in r["versions"].items()}
    packages = ", ".join(f"{n} {peers[n]}" for n in ("nnunetv2", "monai") if n in peers)
    busy = [r["busy_before"] for r in rows.values() if r.get("busy_before") is not None]
    told = (
        f"; processors busy with other things before a run: at most {max(busy):.0%}" if busy else ""
    )
    return (
        f"{gpu}{one['cpu']}, {one['threads']} threads, torch {one['versions']['torch']}"
        f"{'; ' + packages if packages else ''}{'; model ' + ', '.join(models) if models else ''}"
        f"; {one['when'][:10]}{told}. {runs_told(rows)}"
    )


def runs_told(rows: dict[str, Row]) -> str:
    """How many runs the figures are of; single ones are named."""
    single = [row["title"].replace("*", "") for row in rows.values() if row["runs"] == 1]
    if len(single) == len(rows):
        return "Every figure is of a single run."
    most = max(row["runs"] for row in rows.values())
    only = f", but a single run of: {'; '.join(single)}" if single else ""
    return f"Medians of up to {most} runs{only}."


def readme_text(side: dict[str, Row], parts: dict[str, Row]) -> str:
    """The block between the markers."""
    reference, reference32 = side.get(REFERENCE), side.get(REFERENCE32)
    shown = [side[name] for name in README_ROWS if name in side]
    lines = [
        "| one 1 mm volume (MNI152, stripped brain) | format | network, s | volume to mask, s "
        "| times ours | times ours, float32 |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in shown:
        lines.append(
            f"| {row['title']} | {row['precision']} | {row['network_s']:.1f} "
            f"| {row['volume_s']:.1f} | {times_of(row, reference)} "
            f"| {times_of(row, reference32)} |"
        )
    lines += ["", where(side), "", verdict(side, parts), ""]
    sizes = parts.get("size", {}).get("programs", {})
    lines += [
        "| | ready after, s | peak MB | installed MB | parameters, M | GMAC | of the peak |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in shown:
        share = share_of_peak(row, parts.get("peak"))
        lines.append(
            f"| {row['title']}, {row['precision']} | {row['ready_s']:.1f} | {row['peak_mb']:.0f} "
            f"| {sizes.get(program(row), {}).get('mb', '-')} | {row['parameters'] / 1e6:.1f} "
            f"| {row['gmac']:.0f} | {'-' if share is None else f'{share:.0%}'} |"
        )
    lines += [
        "",
        "*Ready after*: from the start of the process until the network could run. *Installed*: "
        "with all that it needs, PyTorch included. *Of the peak*: multiply-accumulates a second, "
        "as a share of this machine's best matrix product in that format.",
    ]
    sentences = []
    if "stages" in parts:
        stages = parts["stages"]["result"]
        told = ", ".join(
            f"{stages[name]['file_to_file_s']:.1f} s {title}"
            for name, title in (("in MNI space", "without alignment"), ("aligned", "with"))
            if name in stages
        )
        sentences.append(f"`segment` from file to file, start-up included: {told}.")
    if "contended" in parts:
        ratio = parts["contended"]["result"]["held_to_one_core"]["file_to_file_s"]
        sentences.append(
            f"With another program on one of the two cores it takes {ratio:.2f} times what it "
            "takes on one core."
        )
    if sentences:
        lines += ["", " ".join(sentences)]
    lines += [
        "",
        "Weights do not change the time: the peers' are random. Every figure, how each grows, and "
        "the command behind it: [RESULTS.md](../Testing/benchmarks/RESULTS.md), written by "
        '`make bench ARGS="--readme"`.',
        "",
        "![Seconds of the network, ours and others](benchmark.png)",
    ]
    return "\n".join(lines)


def put_into_readme(path: Path, text: str) -> None:
    """Replace what stands between the markers; without markers, put both at the end of "Speed";
    without a file, write one with nothing else.

    Raises ``ValueError`` if it has neither.
    """
    block = f"{BEGIN}\n{text}\n{END}"
    if not path.exists():  # a trial, away from the checkout
        path.write_text(f"{block}\n", encoding="utf-8")
        return
    readme = path.read_text(encoding="utf-8")
    if BEGIN in readme and END in readme:
        before, _, rest = readme.partition(BEGIN)
        readme = before + block + rest.partition(END)[2]
    else:
        head, found, tail = readme.partition("\n## Speed\n")
        if not found:
            raise ValueError(f"{path} has neither {BEGIN} nor a section 'Speed'")
        section, follows, rest = tail.partition("\n## ")
        readme = f"{head}{found}{section.rstrip()}\n\n{block}\n{follows}{rest}"
    path.write_text(readme, encoding="utf-8")


def results_text(side: dict[str, Row], parts: dict[str, Row], gpu: dict[str, Row]) -> str:
    text = [
        "# Side by side",
        "",
        "Written by `make bench`; not to be edited. Every measurement is a process of its own, the "
        "cases take turns, and the figures are medians over the runs. The peers live in an "
        "environment of their own (`.venv-peers`, `peers-constraints.txt`).",
    ]
    peak = parts.get("peak")
    if side:
        text += ["", where(side), "", "## What was asked for", "", bars_table(side, parts)]
        text += ["", verdict(side, parts), "", "## One volume", ""]
        text += [
            "The MNI152 template with the simulated stroke of `make demo`: 197 x 233 x 189 voxels "
            "of 1 mm, a stripped brain (a whole head takes nnU-Net about twice as long, since it "
            "crops to what is not zero).",
            "",
            "*Network*: what runs the network over the volume (sliding window, slices, "
            "flips), for ours with preparing it and its check against float32, cold, in a fresh "
            "process. *Volume to mask*: with preprocessing and back. *Ready after*: from the start "
            "of the process until the network could run, imports included. *Peak*: resident "
            "memory. *GMAC*: 1e9 multiply-accumulates that the network was given. *Of the peak*: "
            "GMAC a second as a share of the best square matrix product of that format "
            "(`peak.py`). *Times ours*: against the model that ships in bfloat16, and the same in "
            "float32; it always sees the head and the mirrored head. *2D slices*: the axial slices "
            "of `Testing/trained_2d`, a model as `stroketrain fit` makes it. nnU-Net: one fold, "
            "its own planner's plans for 655 T1s like ATLAS R2.0, its own predictor; it flips by "
            "default. MONAI: two residual units a level; in brackets the feature maps at full and "
            "lowest resolution.",
            "",
            side_table(side, peak),
            "",
            "`python Testing/benchmarks/our_case.py` and `peer_case.py`, by "
            '`make bench ARGS="--parts side"`.',
        ]
        plans = {r["title"]: r for r in side.values() if r.get("patch")}
        if plans:
            text += ["", "nnU-Net's plans: " + "; ".join(plan_text(t, r) for t, r in plans.items())]
    if gpu:
        text += [
            "",
            "## The same on a GPU",
            "",
            where(gpu),
            "",
            side_table(gpu, parts.get("peak-cuda"), gpu=True),
            "",
            '`make bench ARGS="--parts peak,side,training --device cuda"`.',
        ]
    for name, title, writer in SECTIONS:
        text += section(parts, name, title, writer)
        text += section(parts, f"{name}-cuda", f"{title}, on a GPU", writer)
    return "\n".join(text) + "\n"


def section(
    parts: dict[str, Row], name: str, title: str, writer: Callable[[Row], list[str]]
) -> list[str]:
    """Its lines, with the commands behind them; none if it was not measured."""
    if name not in parts:
        return []
    part = parts[name]
    arguments = f"--parts {name.removesuffix('-cuda')}"
    if name.endswith("-cuda"):
        arguments += " --device cuda"
    commands = [f'`make bench ARGS="{arguments}"`']
    if "command" in part:
        commands.append(f"`{part['command']}`")
    busy = part.get("busy_before")
    told = "" if busy is None else f"; processors busy before it: {busy:.0%}"
    ending = f"{', or '.join(commands)}, {part['when'][:16]} UTC{told}."
    return ["", f"## {title}", "", *writer(part), "", ending]


def plan_text(title: str, row: Row) -> str:
    patch = " x ".join(map(str, row["patch"]))
    return f"{title}: {row['items']} patches of {patch}, features {row['features']}"
