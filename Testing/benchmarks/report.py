"""From the results in ``bench/`` to RESULTS.md, the plots and the table in README.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cases import BARS, CASES, REFERENCE, REFERENCE32, Case

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
# Rows of the README; RESULTS.md has all of them.
README_ROWS = (
    "ours axial bfloat16",
    "ours axial float32",
    "ours triplanar-flips bfloat16",
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
    from plots import plot_growth, plot_side

    side = summarise(read_lines(bench / "side.jsonl"))
    parts = {file.stem: json.loads(file.read_text()) for file in sorted(bench.glob("[a-z]*.json"))}
    text = results_text(side, parts, summarise(read_lines(bench / "side-cuda.jsonl")))
    target = repository / "Testing" / "benchmarks" / "RESULTS.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    print(f"wrote {target.relative_to(repository)}")
    docs = repository / "docs"
    if side:
        plot_side(side, docs / "benchmark.png")
    if "growth" in parts:
        plot_growth(parts["growth"]["result"], docs / "benchmark-growth.png")
    if readme and side:
        put_into_readme(repository / "README.md", readme_text(side, parts))
        print("put the table into README.md")


def read_lines(path: Path) -> list[Row]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def summarise(lines: Iterable[Row]) -> dict[str, Row]:
    """Medians over the rounds of each case, in the order of ``CASES``."""
    by_case: dict[str, list[Row]] = {}
    for line in lines:
        if "failed" not in line:
            by_case.setdefault(line["case"], []).append(line)
    rows = {}
    for case in CASES:
        runs = by_case.get(case.name)
        if not runs:
            continue
        row = dict(runs[-1])
        for key in ("network_s", "volume_s", "ready_s", "process_s"):
            row[key] = statistics.median(run[key] for run in runs)
        row["peak_mb"] = max(run["peak_mb"] for run in runs)
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


def side_table(rows: dict[str, Row], peak: Row | None, names: Iterable[str] | None = None) -> str:
    reference, reference32 = rows.get(REFERENCE), rows.get(REFERENCE32)
    lines = [
        "| | format | network, s | volume to mask, s | ready after, s | peak MB | parameters, M "
        "| GMAC | of the peak | times ours | times ours, float32 | runs |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
        if names is not None and name not in names:
            continue
        share = share_of_peak(row, peak)
        lines.append(
            f"| {row['title']} | {row['precision']} | {row['network_s']:.2f} "
            f"| {row['volume_s']:.2f} | {row['ready_s']:.1f} | {row['peak_mb']:.0f} "
            f"| {row['parameters'] / 1e6:.1f} | {row['gmac']:.0f} "
            f"| {'-' if share is None else f'{share:.0%}'} "
            f"| {times_of(row, reference)} | {times_of(row, reference32)} | {row['runs']} |"
        )
    return "\n".join(lines)


def bars_table(rows: dict[str, Row]) -> str:
    """The ratios that were asked for, and whether they hold."""
    titles = {case.name: case for case in CASES}
    lines = ["| | times | at least | float32 against float32 |", "|---|--:|--:|--:|"]
    for slow, fast, least in BARS:
        if slow not in rows or fast not in rows:
            continue
        ratio = rows[slow]["network_s"] / rows[fast]["network_s"]
        equal = rows.get(fast.replace("bfloat16", "float32"))
        same = f"{rows[slow]['network_s'] / equal['network_s']:.2f}" if equal else "-"
        verdict = f"{ratio:.2f}" if ratio >= least else f"{ratio:.2f} (**missed**)"
        lines.append(
            f"| {plain(titles[slow])} against {plain(titles[fast])}, bfloat16 "
            f"| {verdict} | {least:g} | {same} |"
        )
    return "\n".join(lines)


def plain(case: Case) -> str:
    return case.title.replace("*", "")


def where(rows: dict[str, Row]) -> str:
    one = next(iter(rows.values()))
    peers = {k: v for r in rows.values() if r["peer"] for k, v in r["versions"].items()}
    packages = ", ".join(f"{n} {peers[n]}" for n in ("nnunetv2", "monai") if n in peers)
    loads = [r["load_before"] for r in rows.values()]
    return (
        f"{one['cpu']}, {one['threads']} threads, torch {one['versions']['torch']}"
        f"{'; ' + packages if packages else ''}; {one['when'][:10]}; load of the machine before "
        f"the runs {min(loads)} to {max(loads)}."
    )


def readme_text(side: dict[str, Row], parts: dict[str, Row]) -> str:
    """The block between the markers."""
    reference, reference32 = side.get(REFERENCE), side.get(REFERENCE32)
    lines = [
        "| one 1 mm volume (MNI152, stripped brain) | format | network, s | peak MB | times ours "
        "| times ours, float32 |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name in README_ROWS:
        if name in side:
            row = side[name]
            lines.append(
                f"| {row['title']} | {row['precision']} | {row['network_s']:.1f} "
                f"| {row['peak_mb']:.0f} | {times_of(row, reference)} "
                f"| {times_of(row, reference32)} |"
            )
    lines += ["", where(side)]
    sentences = []
    if "size" in parts:
        sizes = parts["size"]["programs"]
        told = ", ".join(f"{name} {value['mb']}" for name, value in sizes.items())
        sentences.append(f"Installed MB, torch included: {told}.")
    if "stages" in parts:
        stages = parts["stages"]["result"]
        told = ", ".join(
            f"{stages[name]['file_to_file_s']:.1f} s {title}"
            for name, title in (("axial", "without alignment"), ("axial, aligned", "with"))
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
        "the command behind it: [RESULTS.md](Testing/benchmarks/RESULTS.md), written by "
        '`make bench ARGS="--readme"`.',
        "",
        "![Seconds of the network, ours and others](docs/benchmark.png)",
    ]
    return "\n".join(lines)


def put_into_readme(path: Path, text: str) -> None:
    """Replace what stands between the markers; without markers, put both at the end of "Speed".

    Raises ``ValueError`` if README has neither.
    """
    readme = path.read_text(encoding="utf-8")
    block = f"{BEGIN}\n{text}\n{END}"
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
        text += ["", where(side), "", "## One volume", ""]
        text += [
            "The MNI152 template with the simulated stroke of `make demo`: 197 x 233 x 189 voxels "
            "of 1 mm, a stripped brain (a whole head takes nnU-Net about twice as long, since it "
            "crops to what is not zero).",
            "",
            "*Network*: what runs the network over the volume (sliding window, slices, views, "
            "flips), for ours with preparing it and its check against float32, cold, in a fresh "
            "process. *Volume to mask*: with preprocessing and back. *Ready after*: from the start "
            "of the process until the network could run, imports included. *Peak*: resident "
            "memory. *GMAC*: 1e9 multiply-accumulates that the network was given. *Of the peak*: "
            "GMAC a second as a share of the best square matrix product of that format "
            "(`peak.py`). *Times ours*: against axial, brain box, bfloat16, and the same in "
            "float32. nnU-Net: one fold, its own planner's plans for 655 T1s like ATLAS R2.0, its "
            "own predictor; it flips by default. MONAI: two residual units a level; in "
            "brackets the feature maps at full and lowest resolution, ours has 16 to 256.",
            "",
            side_table(side, peak),
            "",
            "### What was asked for",
            "",
            bars_table(side),
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
            side_table(gpu, parts.get("peak-cuda")),
        ]
    for name, title, writer in SECTIONS:
        if name in parts:
            text += ["", f"## {title}", "", *writer(parts[name])]
            if "command" in parts[name]:
                text += ["", f"`{parts[name]['command']}`, {parts[name]['when'][:16]} UTC."]
    return "\n".join(text) + "\n"


def plan_text(title: str, row: Row) -> str:
    patch = " x ".join(map(str, row["patch"]))
    return f"{title}: {row['items']} patches of {patch}, features {row['features']}"


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    names = list(header)
    lines = [f"| {' | '.join(names)} |", f"|---|{'--:|' * (len(names) - 1)}"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def peak_section(part: Row) -> list[str]:
    rates = part["gmac_per_s"]
    return table(
        ("number format", "1e9 multiply-accumulates a second"),
        [(name, f"{rate:.0f}") for name, rate in rates.items()],
    )


def size_section(part: Row) -> list[str]:
    rows = [
        (name, value["mb"], value["without_torch_mb"], value["packages"])
        for name, value in part["programs"].items()
    ]
    return table(("", "MB", "without torch", "packages"), rows)


def startup_section(part: Row) -> list[str]:
    rows = [(name, f"{value:.2f}") for name, value in part["seconds_median"].items()]
    return table(("", "s"), rows)


def stages_section(part: Row) -> list[str]:
    result = part["result"]
    rows = {n: r for n, r in result.items() if isinstance(r, dict) and "stages" in r}
    names = sorted({s for r in rows.values() for s in r["stages"]} - {"total"}, key=stage_order)
    body = [
        (
            name,
            *(f"{row['stages'].get(stage, 0):.2f}" for stage in names),
            f"{row['file_to_file_s']:.2f}",
            f"{row['cpu_s']:.2f}",
            f"{row['peak_mb']:.0f}",
        )
        for name, row in rows.items()
    ]
    return table(("s", *names, "file to file", "CPU s", "peak MB"), body)


def stage_order(name: str) -> int:
    order = ("read", "model", "align", "canonical", "window", "prepare", "network", "back")
    order += ("clean", "write")
    return order.index(name) if name in order else len(order)


def contended_section(part: Row) -> list[str]:
    result = part["result"]
    names = {"one of two": "two cores, one held by another program"}
    body = [
        (names.get(name, name), f"{row['file_to_file_s']:.2f}", f"{row['network_s']:.2f}")
        for name, row in result["seconds_median"].items()
    ]
    ratio = result["held_to_one_core"]["file_to_file_s"]
    said = f"{ratio:.2f} times one core; at most {result['bar']} was asked for."
    return [*table(("`segment`", "file to file, s", "network, s"), body), "", said]


def growth_section(part: Row) -> list[str]:
    lines = ["![How time and memory grow](../../docs/benchmark-growth.png)"]
    for name, rows in part["result"].items():
        header = list(rows[0])
        lines += ["", f"### {name.capitalize()}", ""]
        lines += table(header, [[row.get(key, "-") for key in header] for row in rows])
    return lines


def training_section(part: Row) -> list[str]:
    result = part["result"]
    rates = result["images_per_second"]
    rows = [(name, f"{rate:.1f}", f"{rate / rates['network']:.0%}") for name, rate in rates.items()]
    head = f"Batches of {result['batch']}, {result['precision']}, {result['device']}."
    return [head, "", *table(("", "images a second", "of the network alone"), rows)]


def cohort_section(part: Row) -> list[str]:
    result = part["result"]
    memory = result["memory"]
    share = result["network_share"]
    rows = [
        ("scans an hour", result["scans_per_hour"]),
        ("seconds a scan, after the first", result["seconds_per_scan"]),
        ("CPU seconds a scan", result["cpu_s_per_scan"]),
        ("network busy", "-" if share is None else f"{share:.0%}"),
        ("CPU time used", f"{result['cpu_share']:.0%}"),
        ("peak MB", memory["peak_mb"]),
    ]
    return table((f"{result['scans']} scans, {result['cores']} cores", ""), rows)


def interactive_section(part: Row) -> list[str]:
    result = part["result"]
    rows = [
        (
            name,
            "" if row["target_ms"] is None else f"{row['target_ms']:g}",
            f"{row['median_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            row["n"],
        )
        for name, row in result["rows"].items()
    ]
    peak = result["peak_memory_mb"]
    lines = table(("ms", "target", "median", "95 %", "n"), rows)
    if peak is not None:
        lines += ["", f"Peak memory of the process: {peak:.0f} MB."]
    return lines


SECTIONS = (
    ("peak", "The machine's peak", peak_section),
    ("size", "Installed size", size_section),
    ("startup", "Start-up", startup_section),
    ("stages", "Where the time of `segment` goes", stages_section),
    ("contended", "Beside another program", contended_section),
    ("growth", "How it grows", growth_section),
    ("interactive", "Interactive latencies", interactive_section),
    ("training", "Training throughput", training_section),
    ("cohort", "Cohort throughput", cohort_section),
)
