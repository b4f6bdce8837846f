"""How well a batch uses a machine: ``make bench-cohort``.

Runs ``stroke-lesion-seg batch`` on the real scans of ``../shared/data/t1`` (heads and stripped
brains, linked again and again until there are ``--scans`` of them; the moved MNI152 template where
that folder is missing) in a process that may use ``--cores`` CPUs, and says

- the network's share of the wall time after the first scan, and that of all CPU time that could be
  had; scans an hour;
- resident memory after each tenth of the scans and its growth, from the tenth scan on;
- seconds of every stage, and bytes that a scan takes in and gives out.

With ``--bad`` the twenty unusable files of the tests are mixed in, the batch is run twice, and the
exit code, states and reasons are compared with what ``docs/cohorts.md`` promises.

With ``--write`` the tables of ``docs/scaling.md`` are made from the figures; with ``--bad`` too,
that of the unusable files alone.

Linux only (CPU affinity, /proc). Options after ``--`` go to ``batch``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from stages import LIB_ROOT, REPOSITORY, machine, make_scan

sys.path.insert(0, str(LIB_ROOT))
sys.path[:0] = [str(REPOSITORY / "Testing" / part) for part in ("cohort", ".")]

#: What the batch is held to: the network's share of the wall time, MB that 100 scans may add.
LEAST_NETWORK_SHARE, MOST_GROWTH_MB = 0.85, 20.0
STAGES = ("read", "align", "canonical", "window", "network", "back", "clean", "write", "report")
# The allocator and the caches have settled by then.
WARM_SCANS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=200, metavar="N")
    parser.add_argument("--cores", type=int, default=2, metavar="N")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with heads/ and brains/")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the derivative there")
    parser.add_argument("--bad", action="store_true", help="mix in unusable files; run twice")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into that page")
    parser.add_argument("options", nargs="*", help="of batch, after --")
    arguments = parser.parse_args()

    data = arguments.data or Path(
        os.environ.get("STROKE_LESION_SEG_DATA", REPOSITORY.parent / "shared" / "data")
    ).joinpath("t1")
    scans = sorted(p for part in ("heads", "brains") for p in data.glob(f"{part}/*.nii.gz"))
    if not scans and arguments.data:
        parser.error(f"no scans in {data}")
    of_what = f"{len(scans)} real ones in turn" if scans else "the moved MNI152 template every time"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])

    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-bench-") as folder:
        if not scans:
            scans = [make_scan(Path(folder) / "template.nii.gz")]
        source = make_input(Path(folder) / "in", scans, arguments.scans)
        bad = write_bad(source) if arguments.bad else []
        out = arguments.out or Path(folder) / "out"
        told = f"{arguments.scans} scans on {arguments.cores} CPUs, {of_what}"
        print(f"{machine()}\n{told}\n", flush=True)
        result = measure(source, out, arguments.options)
        expected = 3 if bad else 0
        if result["exit_code"] != expected:
            raise SystemExit(f"exit code {result['exit_code']}, not {expected}")
        figures = {**summarise(result, out, arguments.cores), "of_what": of_what}
        show(figures)
        if bad:
            check_bad(result, bad, arguments.scans, skipped=0)
            again = measure(source, out, arguments.options)
            check_bad(again, bad, arguments.scans, skipped=arguments.scans)
            print(f"twice in a row: {arguments.scans} scans done, {len(bad)} files listed with a "
                  f"reason, exit code 3; the second time in {again['wall_s']:.1f} s")  # fmt: skip
            tables = {"bad": bad_rows(result, again)}
        else:
            tables = {"measured": measured_rows(figures), "plan": plan_rows(figures)}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.write:
        write_tables(arguments.write, tables)
    return 0


def make_input(folder: Path, scans: list[Path], count: int) -> Path:
    """A BIDS data set of ``count`` subjects that are links to the ``scans`` in turn."""
    for number in range(count):
        subject = f"sub-{number + 1:04d}"
        anat = folder / subject / "anat"
        anat.mkdir(parents=True)
        (anat / f"{subject}_T1w.nii.gz").symlink_to(scans[number % len(scans)].resolve())
    return folder


def write_bad(source: Path) -> list[str]:
    """The tests' unusable files in a folder of ``source``; their names relative to it."""
    import bad_scans

    return [f"bad/{name}" for name in bad_scans.write_bad_scans(source / "bad")]


def measure(source: Path, out: Path, options: list[str]) -> dict[str, Any]:
    """One batch in a process of its own: its messages with their times, memory, CPU seconds."""
    command = [sys.executable, "-m", "StrokeLesionSegLib", "batch", str(source), str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--progress", "json", *options],
        env={**os.environ, "PYTHONPATH": str(LIB_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    memory: list[tuple[float, float]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.25):
            memory.append((time.perf_counter() - started, resident_mb(process.pid)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    said: list[tuple[float, dict[str, Any]]] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append((time.perf_counter() - started, json.loads(line)))
    code = process.wait()
    wall = time.perf_counter() - started
    ended.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "exit_code": code,
        "wall_s": wall,
        "cpu_s": cpu,
        "said": said,
        "memory": memory,
        "result": said[-1][1] if said else {},
    }


def resident_mb(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return float("nan")


def summarise(measured: dict[str, Any], out: Path, cores: int) -> dict[str, Any]:
    """The figures to print, from one batch and its ledger."""
    ends = [when for when, line in measured["said"] if line.get("scan", {}).get("state") == "done"]
    if len(ends) < 2:
        raise SystemExit("at least two scans have to be done")
    ledger = (out / "logs" / "scans.jsonl").read_text(encoding="utf-8").splitlines()
    records = [r for r in map(json.loads, ledger) if r["record"] == "scan" and r["state"] == "done"]
    timings = [r["timings"] for r in records]
    span = ends[-1] - ends[0]
    sizes: dict[str, list[int]] = {}
    for record in records:
        for name, size in record["outputs"].items():
            sizes.setdefault(name.rpartition("_")[2], []).append(size)
    return {
        "machine": machine(),
        "cores": cores,
        "scans": len(ends),
        "wall_s": round(measured["wall_s"], 1),
        "first_scan_s": round(ends[0], 1),
        "network_share": measured["result"]["network_share"],
        "cpu_share": round(measured["cpu_s"] / (cores * measured["wall_s"]), 3),
        "cpu_s_per_scan": round(measured["cpu_s"] / len(ends), 2),
        "seconds_per_scan": round(span / (len(ends) - 1), 2),
        "scans_per_hour": round(3600 * (len(ends) - 1) / span),
        "stages_s": {
            name: round(statistics.median(t[name] for t in timings if name in t), 2)
            for name in STAGES
            if any(name in t for t in timings)
        },
        "memory": memory_figures(measured["memory"], ends),
        "ledger_kb_per_scan": round(
            statistics.mean(len(json.dumps(r)) + 1 for r in records) / 1e3, 2
        ),
        "input_mb_per_scan": round(statistics.mean(r["input"]["size"] for r in records) / 1e6, 2),
        "output_mb_per_scan": {
            name: round(sum(values) / len(records) / 1e6, 3) for name, values in sizes.items()
        },
    }


def memory_figures(memory: list[tuple[float, float]], ends: list[float]) -> dict[str, Any]:
    """Resident memory: its peak, medians over tenths of the scans, growth after the warm-up."""
    inside = [(when, mb) for when, mb in memory if mb == mb and when <= ends[-1]]
    figures: dict[str, Any] = {"peak_mb": round(max(mb for _, mb in inside))}
    edges = [0.0, *(ends[max(0, len(ends) * n // 10 - 1)] for n in range(1, 11))]
    tenths = []
    for low, high in itertools.pairwise(edges):
        part = [mb for when, mb in inside if low < when <= high]
        tenths.append(round(statistics.median(part)) if part else None)
    figures["median_mb_by_tenth"] = tenths
    if len(ends) > 2 * WARM_SCANS:
        late = [(when, mb) for when, mb in inside if when > ends[WARM_SCANS]]
        slope, _ = statistics.linear_regression(*zip(*late, strict=True))
        a_hundred = 100 * (ends[-1] - ends[WARM_SCANS]) / (len(ends) - 1 - WARM_SCANS)
        figures["growth_mb_per_100_scans"] = round(slope * a_hundred, 1)
    return figures


def show(figures: dict[str, Any]) -> None:
    memory = figures["memory"]
    rows = {
        "scans": figures["scans"],
        "network busy, share of the wall time after the first scan":
            f"{100 * figures['network_share']:.1f} %",
        "CPU time used, share of what there was": f"{100 * figures['cpu_share']:.1f} %",
        "CPU seconds a scan": figures["cpu_s_per_scan"],
        "seconds a scan, after the first": figures["seconds_per_scan"],
        "seconds to the first": figures["first_scan_s"],
        "scans an hour": figures["scans_per_hour"],
        "stages (wall, beside each other), s":
            ", ".join(f"{name} {value}" for name, value in figures["stages_s"].items()),
        "resident memory, median of each tenth, MB": memory["median_mb_by_tenth"],
        "peak, MB": memory["peak_mb"],
        "growth, MB per 100 scans": memory.get("growth_mb_per_100_scans", "too few scans"),
        "MB in": figures["input_mb_per_scan"],
        "MB out": ", ".join(f"{k} {v}" for k, v in figures["output_mb_per_scan"].items()),
    }  # fmt: skip
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name.ljust(width)}  {value}")
    print("verdict: " + "; ".join(verdicts(figures)))


def verdicts(figures: dict[str, Any]) -> list[str]:
    """Each goal of a batch, and whether the figures meet it."""
    growth = figures["memory"].get("growth_mb_per_100_scans")
    share = figures["network_share"]
    told = [f"network busy {100 * share:.1f} %, goal at least {100 * LEAST_NETWORK_SHARE:.0f} %: "
            + ("met" if share >= LEAST_NETWORK_SHARE else "MISSED")]  # fmt: skip
    if growth is None:
        return [*told, f"growth not known: more than {2 * WARM_SCANS} scans are needed"]
    verdict = "met" if growth <= MOST_GROWTH_MB else "MISSED"
    goal = f"goal at most {MOST_GROWTH_MB:g} MB"
    return [*told, f"growth {growth} MB for 100 scans, {goal}: {verdict}"]


def write_tables(page: Path, tables: dict[str, list[tuple[str, ...]]]) -> None:
    """Put each table between the marks of its name in ``page``; an error if they are not there."""
    text = page.read_text(encoding="utf-8")
    for name, rows in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise SystemExit(f"{page} has no place for the table {name!r}")
        table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        text = f"{before}{begin}{table}{end}{after}"
    page.write_text(text, encoding="utf-8")


def bad_rows(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, ...]]:
    """What became of a batch with unusable files in it, twice in a row."""
    keys = ("scans", "done", "skipped", "failed")
    rows = [("run", "scans", "done", "done before", "failed, with a reason", "exit code", "s"),
            ("---",) * 7]  # fmt: skip
    for name, run in (("first", first), ("second", second)):
        counts = (str(run["result"][key]) for key in keys)
        rows.append((name, *counts, str(run["exit_code"]), f"{run['wall_s']:.1f}"))
    return rows


def measured_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    memory, out = figures["memory"], figures["output_mb_per_scan"]
    stages = ", ".join(f"{name} {value}" for name, value in figures["stages_s"].items())
    return [
        ("measured", f"{figures['scans']} scans on {figures['cores']} CPUs"),
        ("---", "---"),
        ("machine", figures["machine"]),
        ("network busy, of the wall time after the first scan (goal: 85 %)",
         f"{100 * figures['network_share']:.1f} %"),
        ("goals", "; ".join(verdicts(figures))),
        ("processor time used, of what there was", f"{100 * figures['cpu_share']:.0f} %"),
        ("processor seconds for a scan", f"{figures['cpu_s_per_scan']:.1f}"),
        ("seconds for a scan", f"{figures['seconds_per_scan']:.2f}"),
        ("scans an hour", f"{figures['scans_per_hour']:,}"),
        ("stages beside each other, median s", stages),
        ("largest resident memory", f"{memory['peak_mb']:,} MB"),
        ("growth after the tenth scan, for 100 scans",
         f"{memory['growth_mb_per_100_scans']} MB" if "growth_mb_per_100_scans" in memory
         else "too few scans"),
        ("a scan on the disk, compressed", f"{figures['input_mb_per_scan']:.1f} MB"),
        ("its results", f"{sum(out.values()):.1f} MB, of which the probability map is "
                        f"{out['probseg.nii.gz']:.1f} MB"),
        ("its record in the ledger", f"{figures['ledger_kb_per_scan']:.1f} kB"),
    ]  # fmt: skip


def plan_rows(figures: dict[str, Any], scans: int = 100_000) -> list[tuple[str, str, str]]:
    out = figures["output_mb_per_scan"]
    total, given = sum(out.values()), figures["input_mb_per_scan"]
    rest, ledger = total - out["probseg.nii.gz"], figures["ledger_kb_per_scan"]
    seconds, wall = figures["cpu_s_per_scan"], figures["seconds_per_scan"]
    core_hours = seconds * scans / 3600
    # A worker does one scan after the other on one core, which nothing else could fill.
    hours, peak = core_hours / 80, figures["memory"]["peak_mb"]
    return [
        ("", "for a scan", f"for {scans:,} scans"),
        ("---", "---", "---"),
        ("input", f"{given:.1f} MB", f"{given * scans / 1e3:,.0f} GB"),
        ("output", f"{total:.1f} MB", f"{total * scans / 1e3:,.0f} GB"),
        ("output without the probability maps", f"{rest:.2f} MB", f"{rest * scans / 1e3:,.0f} GB"),
        ("`logs/scans.jsonl`", f"{ledger:.1f} kB", f"{ledger * scans / 1e3:,.0f} MB"),
        ("files", str(len(out)), f"{len(out) * scans:,} (check the quota of inodes)"),
        ("processor time", f"{seconds:.1f} s", f"{core_hours:,.0f} core hours"),
        (f"wall time on {figures['cores']} cores", f"{wall:.2f} s",
         f"{wall * scans / 86400:.1f} days"),
        ("wall time of 80 workers with one core each", f"{seconds:.1f} s", f"{hours:.1f} hours"),
        ("memory of 80 workers, each as large as the batch on 2 cores at its peak", "",
         f"{80 * peak / 1e3:,.0f} GB at once, {peak / 1e3:.1f} GB for a core"),
        ("reading and writing of 80 workers", "",
         f"{(given + total) * scans / hours / 3600:.0f} MB/s together"),
        ("cost at 0.05 USD for a core hour", f"{seconds / 3600 * 0.05:.5f} USD",
         f"{core_hours * 0.05:,.0f} USD, without storage"),
    ]  # fmt: skip


def check_bad(measured: dict[str, Any], bad: list[str], scans: int, *, skipped: int) -> None:
    """Stop with a message if a good scan is not done, or a bad one not listed with its reason."""
    result = measured["result"]
    counts = (result["done"], result["skipped"], result["failed"])
    listed = {failure["place"]: failure["error"] for failure in result["failures"]}
    if counts != (scans - skipped, skipped, len(bad)):
        raise SystemExit(f"done, skipped and failed are {counts}")
    if sorted(listed) != sorted(bad) or not all(listed.values()):
        raise SystemExit(f"failures listed: {listed}")
    if any("defect" in reason for reason in listed.values()):
        raise SystemExit(f"a defect of ours: {listed}")
    if measured["exit_code"] != 3:
        raise SystemExit(f"exit code {measured['exit_code']}, not 3")


if __name__ == "__main__":
    sys.exit(main())
