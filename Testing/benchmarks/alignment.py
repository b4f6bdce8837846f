"""Alignment to MNI152 and ``segment`` from file to file, beside another checkout:

    git worktree add ../older 9919b23
    python Testing/benchmarks/alignment.py --against ../older scans/*.nii.gz

Every scan is aligned in a process of its own: "cold" is the first time, which imports and prepares
the template, "warm" the median of those after it; reading is in neither. "File to file" is the
command line as a user runs it, the median. The two checkouts take turns, so that what else the
machine does meets both: look at the ratios. "Moved" is how far apart the two alignments bring the
points of the brain (mean and largest, in MNI mm); a rise in similarity says that the new one is
nearer. Without scans the template bundled with nilearn is taken, moved and turned a little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import cpu_name, run_process
from stages import make_scan

REPOSITORY = Path(__file__).resolve().parents[2]
# Run in the checkout that is measured; names that older checkouts have too.
_ALIGN = """
import json, sys, time
from pathlib import Path
from StrokeLesionSegLib.inference import prepare_environment
prepare_environment()
from StrokeLesionSegLib.images import align_to_mni, read_scan
volume = read_scan(Path(sys.argv[1])).volume
seconds = []
for _ in range(1 + int(sys.argv[2])):
    started, cpu = time.perf_counter(), time.process_time()
    found = align_to_mni(volume)
    seconds.append((time.perf_counter() - started, time.process_time() - cpu))
print(json.dumps({"seconds": seconds, "ok": found.ok, "reason": found.reason,
    "overlap": found.overlap, "similarity": found.similarity, "matrix": found.matrix.tolist()}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", nargs="*", type=Path, metavar="SCAN", help="T1 scans")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of everything")
    parser.add_argument("--align-only", action="store_true", help="leave out file to file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()

    checkouts = [REPOSITORY] + ([arguments.against.resolve()] if arguments.against else [])
    print(f"{cpu_name()}, {os.cpu_count()} CPUs; the middle one of {arguments.repeat}\n")
    columns = ["cold s", "warm s", "CPU s", *([] if arguments.align_only else ["file to file s"])]
    columns += [] if arguments.align_only else ["peak MB"]
    columns += ["ok", "overlap", "similarity", *(["moved mm"] if arguments.against else [])]
    print("| scan | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-bench-") as folder:
        scans = arguments.scans or [make_scan(Path(folder) / "scan.nii.gz")]
        for scan in scans:
            ours, *others = measure(scan, checkouts, Path(folder), arguments)
            results[str(scan)] = [ours, *others]
            cells = [beside(ours, others, name) for name in columns if name != "moved mm"]
            if others:
                cells.append(
                    "{:.2f} / {:.2f}".format(*moved_mm(ours["matrix"], others[0]["matrix"]))
                )
            print(f"| {scan.name} | " + " | ".join(cells) + " |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def measure(
    scan: Path, checkouts: Sequence[Path], work: Path, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One result per checkout; columns of the table by name, and the matrix."""
    aligned: list[list[dict[str, Any]]] = [[] for _ in checkouts]
    whole: list[list[Any]] = [[] for _ in checkouts]
    for _ in range(arguments.repeat):
        for n, checkout in enumerate(checkouts):
            environment = {"PYTHONPATH": str(checkout / "StrokeLesionSeg")}
            run = run_process([sys.executable, "-c", _ALIGN, scan, "2"], environment)
            aligned[n].append(run.last_json())
            if not arguments.align_only:
                command = [sys.executable, "-m", "StrokeLesionSegLib", "segment", scan, "-o"]
                command += [work / f"mask{n}.nii.gz", "--overwrite", "--progress", "none"]
                run = run_process(command, environment)
                if run.code:
                    raise SystemExit(f"segment failed: {run.stderr}")
                whole[n].append(run)
    results = []
    for alignments, runs in zip(aligned, whole, strict=True):
        result = {name: alignments[0][name] for name in ("ok", "overlap", "similarity", "matrix")}
        seconds = [a["seconds"] for a in alignments]
        result["cold s"] = statistics.median(s[0][0] for s in seconds)
        result["warm s"] = statistics.median(wall for s in seconds for wall, _ in s[1:])
        result["CPU s"] = statistics.median(s[0][1] for s in seconds)
        if runs:
            result["file to file s"] = statistics.median(run.wall_s for run in runs)
            result["peak MB"] = max(run.peak_mb for run in runs)
        results.append(result)
    return results


def beside(ours: dict[str, Any], others: Sequence[dict[str, Any]], name: str) -> str:
    """A cell: the other checkout's figure, ours, and for seconds their ratio."""
    if isinstance(ours[name], bool):
        return ", ".join("yes" if r[name] else "no" for r in (*others, ours))
    digits = 0 if name == "peak MB" else 3 if name in ("overlap", "similarity") else 2
    cell = ", ".join(f"{r[name]:.{digits}f}" for r in (*others, ours))
    if others and name.endswith(" s"):
        cell += f" (x {ours[name] / others[0][name]:.2f})"
    return cell


def moved_mm(ours: Any, others: Any) -> tuple[float, float]:
    """Mean and largest distance in MNI mm between two alignments' places of the brain's points."""
    sys.path.insert(0, str(REPOSITORY / "StrokeLesionSeg"))
    from StrokeLesionSegLib.images.space.template import template_brain

    brain = template_brain()
    k, j, i = np.nonzero(brain.array[::4, ::4, ::4] >= 128)
    points = np.stack([4 * i, 4 * j, 4 * k, np.ones_like(i)], axis=1) @ brain.affine.T
    elsewhere = points @ (np.array(ours) @ np.linalg.inv(np.array(others))).T
    distances = np.linalg.norm((elsewhere - points)[:, :3], axis=1)
    return float(distances.mean()), float(distances.max())


if __name__ == "__main__":
    sys.exit(main())
