"""Seconds and memory of every stage of ``segment``, in one table: ``make bench``.

Each row is run ``--repeat`` times from the command line, as a user runs it, in processes of its
own; what stands in the table is the run in the middle. The stages are those that its sidecar
states, and "start-up" is what the process took besides: the interpreter, imports, documents, and
its end; so each row adds up. "network" contains "prepare", which folds the network and checks its
number format. Without ``--input`` the scan is the MNI152 template bundled with
nilearn, moved and turned a little, as 1 mm int16 NIfTI, and the model is the default one; without
any model, random weights of the same network, which take the same time. "CPU s" is the processor
time of the command line, which a busy machine changes least.
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
# Name and arguments of each row.
ROWS: dict[str, list[str]] = {
    "axial": ["--views", "axial", "--align", "none"],
    "axial, aligned": ["--views", "axial", "--align", "mni"],
    "axial, flips": ["--views", "axial", "--align", "none", "--tta"],
    "triplanar": ["--views", "triplanar", "--align", "none"],
    "axial, float32": ["--views", "axial", "--align", "none", "--precision", "float32"],
    "axial, aligned, float32": ["--views", "axial", "--align", "mni", "--precision", "float32"],
}
CHANNELS = ["t1", "click_positive", "click_negative", "previous_probability"]


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
        scan = arguments.input or make_scan(work / "scan.nii.gz")
        environment = {**os.environ, "PYTHONPATH": str(LIB_ROOT)}
        model = arguments.model or default_model(work, environment)
        print(
            f"{machine()}\nscan {scan.name}, model {model}, the middle one of {arguments.repeat}\n"
        )
        results = {"start-up": start_up(environment, arguments.repeat)}
        print("import and start-up, s: ", end="")
        print(", ".join(f"{name} {value:.2f}" for name, value in results["start-up"].items()))
        print()
        columns = ["start-up", *STAGES]
        header = ["s", *columns, "file to file", "CPU s", "peak MB"]
        widths = [max(len(name) for name in chosen), *(max(len(h), 6) for h in header[1:])]
        print_row(header, widths)
        for name in chosen:
            results[name] = measure_row(scan, model, ROWS[name], work, environment, arguments)
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
    batches = ", ".join(f"{view} {size}" for view, size in details["batch_sizes"].items())
    print(
        f"  {details['device']}, {details['precision']}, {details['threads']} threads, "
        f"{details['slices']} slices in batches of {batches}"
    )


def machine() -> str:
    """Processor, cores and versions in one line."""
    from StrokeLesionSegLib.pipeline import software_versions

    versions = software_versions()
    return f"{cpu_name()}, {os.cpu_count()} CPUs, " + ", ".join(
        f"{package} {versions[package].split('+')[0]}"
        for package in ("Python", "torch", "SimpleITK")
    )


def make_scan(path: Path) -> Path:
    """The MNI152 template, turned by 6 degrees and moved, so that there is something to align."""
    import numpy as np
    from nilearn.datasets import load_mni152_template
    from StrokeLesionSegLib.images import Volume, write_volume

    template = load_mni152_template(resolution=1)
    array = np.rint(1000 * template.get_fdata(dtype=np.float32).T).astype(np.int16)
    angle = np.radians(6)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = 5, -8, 12
    write_volume(path, Volume(array, turn @ template.affine), dtype=array.dtype)
    return path


def default_model(work: Path, environment: dict[str, str]) -> str:
    """Name of the default model; where there is none, a random one is made for this run."""
    from StrokeLesionSegLib.errors import InputError
    from StrokeLesionSegLib.models import Manifest, find_model, write_model

    try:
        return Manifest.from_file(find_model(None)).name
    except InputError:
        pass
    import torch
    from StrokeLesionSegLib.networks import build_network

    torch.manual_seed(0)
    spec = {"name": "residual_unet", "in_channels": len(CHANNELS), "skip": "stem"}
    manifest = {
        "schema": 1,
        "name": "random",
        "version": "0",
        "title": "Random weights",
        "description": "For timing only.",
        "license": "Apache-2.0",
        "intended_use": "Timing.",
        "created": "2026-01-01",
        "network": spec,
        "channels": CHANNELS,
        "contrast": "T1w",
        "labels": {"1": "stroke lesion"},
        "preprocessing": {
            "grid": "mni152-2009a-1mm",
            "window_percentiles": [0.5, 99.5],
            "pad_multiple": 16,
            "brain_mask_margin_mm": None,
        },
        "inference": {"threshold": 0.5, "second_threshold": None, "min_volume_ml": 0.05},
        "training": {},
        "metrics": {},
    }
    home = work / "home"
    write_model(home / "models" / "random", manifest, build_network(spec).state_dict())
    environment["STROKE_LESION_SEG_HOME"] = os.environ["STROKE_LESION_SEG_HOME"] = str(home)
    return "random"


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
    model: str,
    row: list[str],
    work: Path,
    environment: dict[str, str],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The command line from file to file: the run in the middle, and the largest peak."""
    mask = work / "mask.nii.gz"
    command: list[str | Path] = [sys.executable, "-m", "StrokeLesionSegLib", "segment", scan]
    command += ["-o", mask, "--model", model, "--overwrite", "--progress", "none", *row]
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
