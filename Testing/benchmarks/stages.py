"""Seconds and memory of every stage of ``segment``, in one table: ``make bench``.

Each row is run ``--repeat`` times from the command line, as a user runs it, in processes of its
own; what stands in the table is the run in the middle. The stages are those that its sidecar
states, and "start-up" is what the process took besides: the interpreter, imports, documents, and
its end; so each row adds up. "network" contains "prepare", which makes a 2D network ready and
checks its number format. Without ``--input`` the scan is the MNI152 template bundled with nilearn,
as 1 mm int16 NIfTI: as it lies, which needs no alignment, and moved and turned a little. "CPU s" is
the processor time of the command line, which a busy machine changes least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import cpu_name, run_process

REPOSITORY = Path(__file__).resolve().parents[2]
LIB_ROOT = REPOSITORY / "StrokeLesionSeg"
sys.path.insert(0, str(LIB_ROOT))

# Together with "start-up" they are the whole; "prepare" is a part of "network".
STAGES = ("read", "model", "align", "canonical", "window", "network", "back", "clean", "write")
# Of each row: its name, whether the scan has to be aligned, and the arguments.
ROWS: dict[str, tuple[bool, list[str]]] = {
    "in MNI space": (False, []),
    "aligned": (True, []),
    "aligned, shifted too": (True, ["--tta"]),
    "in MNI space, float32": (False, ["--precision", "float32"]),
    "aligned, float32": (True, ["--precision", "float32"]),
    "2D slices, in MNI space": (False, ["--model", str(REPOSITORY / "Testing" / "trained_2d")]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, metavar="SCAN", help="a T1 of your own")
    parser.add_argument("--model", metavar="NAME", help="default: the default model")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each row")
    parser.add_argument("--rows", default=",".join(map(str, range(1, len(ROWS) + 1))))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()

    chosen = [list(ROWS)[int(number) - 1] for number in arguments.rows.split(",")]
    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-bench-") as folder:
        work = Path(folder)
        scans = {
            turned: arguments.input or make_scan(work / f"scan-{turned}.nii.gz", turned=turned)
            for turned in (False, True)
        }
        environment = {**os.environ, "PYTHONPATH": str(LIB_ROOT)}
        shown = arguments.input or "the MNI152 template"
        print(f"{machine()}\nscan: {shown}, the middle one of {arguments.repeat}\n")
        results = {"start-up": start_up(environment, arguments.repeat)}
        print("import and start-up, s: ", end="")
        print(", ".join(f"{name} {value:.2f}" for name, value in results["start-up"].items()))
        print()
        columns = ["start-up", *STAGES]
        header = ["s", *columns, "file to file", "CPU s", "peak MB"]
        widths = [max(len(name) for name in chosen), *(max(len(h), 6) for h in header[1:])]
        print_row(header, widths)
        for name in chosen:
            turned, options = ROWS[name]
            results[name] = measure_row(scans[turned], options, work, environment, arguments)
            cells = [f"{results[name]['stages'].get(stage, 0):.2f}" for stage in columns]
            wall, cpu, peak = (results[name][k] for k in ("file_to_file_s", "cpu_s", "peak_mb"))
            print_row([name, *cells, f"{wall:.2f}", f"{cpu:.2f}", f"{peak:.0f}"], widths)
            print_note(results[name])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def print_row(cells: list[str], widths: list[int]) -> None:
    first, *others = zip(cells, widths, strict=True)
    line = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    print("  ".join(line), flush=True)


def print_note(result: dict[str, Any]) -> None:
    details = result["details"]
    print(f"  {details['device']}, {details['precision']}, {details['threads']} threads")


def machine() -> str:
    """Processor, cores and versions in one line."""
    from StrokeLesionSegLib.pipeline import software_versions

    versions = software_versions()
    return f"{cpu_name()}, {os.cpu_count()} CPUs, " + ", ".join(
        f"{package} {versions[package].split('+')[0]}"
        for package in ("Python", "torch", "SimpleITK")
    )


def make_scan(path: Path, *, turned: bool = True) -> Path:
    """The MNI152 template; turned by 6 degrees and moved, so that there is something to align."""
    import numpy as np
    from nilearn.datasets import load_mni152_template
    from StrokeLesionSegLib.images import Volume, write_volume

    template = load_mni152_template(resolution=1)
    array = np.rint(1000 * template.get_fdata(dtype=np.float32).T).astype(np.int16)
    turn = np.eye(4)
    if turned:
        angle = np.radians(6)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        turn[:3, 3] = 5, -8, 12
    write_volume(path, Volume(array, turn @ template.affine), dtype=array.dtype)
    return path


def start_up(environment: dict[str, str], repeat: int) -> dict[str, float]:
    """Median wall time of a bare interpreter, of importing the engine, of --help, and of torch."""
    commands = {
        "python": ["-c", "pass"],
        "engine": ["-c", "import StrokeLesionSegLib.pipeline"],
        "--help": ["-m", "StrokeLesionSegLib", "--help"],
        "torch": ["-c", "import torch"],
        "SimpleITK": ["-c", "import SimpleITK"],
    }
    medians = {}
    for name, command in commands.items():
        times = []
        for _ in range(repeat):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, *command], env=environment, check=True, stdout=subprocess.DEVNULL
            )
            times.append(time.perf_counter() - started)
        medians[name] = statistics.median(times)
    return medians


def measure_row(
    scan: Path,
    options: list[str],
    work: Path,
    environment: dict[str, str],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The command line from file to file: the run in the middle, and the largest peak."""
    mask = work / "mask.nii.gz"
    command: list[str | Path] = [sys.executable, "-m", "StrokeLesionSegLib", "segment", scan]
    command += ["-o", mask, "--overwrite", "--progress", "none"]
    command += ["--model", arguments.model] if arguments.model else []
    command += options
    runs = []
    for _ in range(arguments.repeat):
        run = run_process(command, environment)
        if run.code:
            raise SystemExit(f"segment failed: {run.stderr}")
        sidecar = json.loads(mask.with_name("mask.json").read_text())
        runs.append((run.wall_s, run, sidecar))
    wall, middle, sidecar = sorted(runs, key=lambda r: r[0])[(len(runs) - 1) // 2]
    stages = {name: s for name, s in sidecar["timings_s"].items() if name != "total"}
    inside = sum(stages.get(name, 0.0) for name in STAGES)
    return {
        "file_to_file_s": wall,
        "cpu_s": middle.cpu_s,
        "peak_mb": max(run.peak_mb for _, run, _ in runs),
        "runs": len(runs),
        "stages": {"start-up": wall - inside, **stages},
        "details": sidecar["inference"],
    }


if __name__ == "__main__":
    sys.exit(main())
