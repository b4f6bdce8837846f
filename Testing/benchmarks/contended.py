"""What another program on one of two cores costs ``segment``: ``--json FILE`` writes the figures.

    python Testing/benchmarks/contended.py [--repeat 3]

Three cases, interleaved, each the command line from file to file: one core alone, two cores, two
cores of which a program that never waits holds one. Linux only (CPU affinity). The bar: the third
takes at most 1.2 times the first, so that a second core that is taken is never worse than none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import CONTENDED
from measuring import run_process
from stages import make_scan


@contextlib.contextmanager
def busy(cpu: int) -> Iterator[None]:
    """A process that computes on ``cpu`` without ever waiting."""
    code = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def segment(scan: Path, cpus: list[int], options: list[str]) -> dict[str, float]:
    """Wall seconds of the command line, and those of its network."""
    mask = scan.with_name("mask.nii.gz")
    command = [sys.executable, "-m", "StrokeLesionSegLib", "segment", scan, "-o", mask]
    run = run_process([*command, "--overwrite", "--progress", "none", *options], cpus=cpus)
    if run.code:
        raise SystemExit(run.stderr)
    sidecar = json.loads(scan.with_name("mask.json").read_text())
    return {"file_to_file_s": run.wall_s, "network_s": sidecar["timings_s"]["network"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("options", nargs="*", help="of segment, after --")
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        parser.error("needs two CPUs")
    runs: dict[str, list[dict[str, float]]] = {"one core": [], "two cores": [], "one of two": []}
    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-bench-") as folder:
        scan = make_scan(Path(folder) / "scan.nii.gz")
        for _ in range(arguments.repeat):
            runs["one core"].append(segment(scan, cpus[:1], arguments.options))
            runs["two cores"].append(segment(scan, cpus, arguments.options))
            with busy(cpus[1]):
                runs["one of two"].append(segment(scan, cpus, arguments.options))
    medians = {
        name: {key: round(statistics.median(r[key] for r in rows), 2) for key in rows[0]}
        for name, rows in runs.items()
    }
    ratios = {
        key: round(medians["one of two"][key] / medians["one core"][key], 3)
        for key in ("file_to_file_s", "network_s")
    }
    figures: dict[str, Any] = {
        "seconds_median": medians,
        "held_to_one_core": ratios,
        "bar": CONTENDED,
    }
    for name, row in medians.items():
        print(f"{name:12s} {row['file_to_file_s']:6.2f} s, network {row['network_s']:6.2f} s")
    ratio = ratios["file_to_file_s"]
    print(f"with one of two cores held: {ratio:.2f} times one core (bar {CONTENDED})")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
