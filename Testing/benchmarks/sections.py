"""The sections of RESULTS.md, one a part of the benchmark other than the side-by-side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    names = list(header)
    lines = [f"| {' | '.join(names)} |", f"|---|{'--:|' * (len(names) - 1)}"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def peak_section(part: Row) -> list[str]:
    rates = part["gmac_per_s"]
    return table(
        ("number format, best of three processes", "1e9 multiply-accumulates a second"),
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
    return table(("median of at least three", "s"), rows)


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
    header = ["prepare (of network)" if name == "prepare" else name for name in names]
    runs = next((row.get("runs", 1) for row in rows.values()), 1)
    lines = [
        f"Processes of the command line, each row the middle one of {runs} (the peak: the largest)."
        " *Start-up*: the interpreter, imports outside the stages, documents, the end. *Model* "
        "contains importing PyTorch, and *network* contains *prepare*, so each row adds up without "
        "it.",
        "",
        *table(("s", *header, "file to file", "CPU s", "peak MB"), body),
    ]
    if alone := result.get("start-up"):
        told = ", ".join(f"{name} {value:.2f} s" for name, value in alone.items())
        lines += ["", f"Processes that only start, or import one thing: {told}."]
    return lines


def stage_order(name: str) -> int:
    order = ("start-up", "read", "model", "align", "canonical", "window", "network", "prepare")
    order += ("back", "clean", "write")
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


def training_section(part: Row) -> list[str]:
    result = part["result"]
    rates = result["images_per_second"]
    rows = [(name, f"{rate:.1f}", f"{rate / rates['network']:.0%}") for name, rate in rates.items()]
    head = f"Batches of {result['batch']}, {result['precision']}, {result['device']}."
    return [
        f"A single run of each. {head}",
        "",
        *table(("", "images a second", "of the network alone"), rows),
    ]


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
    head = f"{result['scans']} scans, {result['cores']} cores"
    if "of_what" in result:
        head += f", {result['of_what']}"
    return ["A single run.", "", *table((head, ""), rows)]


def clicks_section(part: Row) -> list[str]:
    result = part["result"]
    rows = [
        (
            name,
            "" if row["target_ms"] is None else f"{row['target_ms']:g}",
            f"{row['median_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['times_bare']:.2f}",
            row["n"],
        )
        for name, row in result["rows"].items()
    ]
    header = ("ms", "target", "median", "95 %", "times the bare network", "n")
    return [f"{result['what']}.".capitalize(), "", *table(header, rows)]


SECTIONS = (
    ("peak", "The machine's peak", peak_section),
    ("size", "Installed size", size_section),
    ("startup", "Start-up", startup_section),
    ("stages", "Where the time of `segment` goes", stages_section),
    ("contended", "Beside another program", contended_section),
    ("clicks", "Clicks", clicks_section),
    ("training", "Training throughput", training_section),
    ("cohort", "Cohort throughput", cohort_section),
)
