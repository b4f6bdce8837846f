"""Seconds and memory of every stage of ``segment``, in one table: ``make bench``.

Each row is run in processes of its own, as a user runs it: once from the command line for the time
from file to file and the peak memory, start-up included, and ``--repeat`` times within a process
for the median of each stage. Without ``--input`` the scan is the MNI152 template bundled with
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

from measuring import cpu_name

REPOSITORY = Path(__file__).resolve().parents[2]
LIB_ROOT = REPOSITORY / "StrokeLesionSeg"
sys.path.insert(0, str(LIB_ROOT))

STAGES = ("read", "align", "canonical", "window", "network", "back", "clean", "write")
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
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs for the median")
    parser.add_argument("--rows", default=",".join(map(str, range(1, len(ROWS) + 1))))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--measure-stages", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_stages is not None:
        return measure_stages(arguments.measure_stages)

    chosen = [list(ROWS)[int(number) - 1] for number in arguments.rows.split(",")]
    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-bench-") as folder:
        work = Path(folder)
        scan = arguments.input or make_scan(work / "scan.nii.gz")
        environment = {**os.environ, "PYTHONPATH": str(LIB_ROOT)}
        model = arguments.model or default_model(work, environment)
        print(f"{machine()}\nscan {scan.name}, model {model}, median of {arguments.repeat}\n")
        results = {"start-up": start_up(environment, arguments.repeat)}
        print("import and start-up, s: ", end="")
        print(", ".join(f"{name} {value:.2f}" for name, value in results["start-up"].items()))
        print()
        header = ["s", *STAGES, "file to file", "CPU s", "peak MB"]
        widths = [max(len(name) for name in chosen), *(max(len(h), 6) for h in header[1:])]
        print_row(header, widths)
        for name in chosen:
            results[name] = measure_row(scan, model, ROWS[name], work, environment, arguments)
            cells = [f"{results[name]['stages'].get(stage, 0):.2f}" for stage in STAGES]
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
        f"{package} {versions[package]}" for package in ("Python", "torch", "SimpleITK")
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
        "inference": {"threshold": 0.5, "hysteresis": None, "min_volume_ml": 0.05},
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
    """Command line from file to file, then the stages within one process."""
    common = [str(scan), "-o", str(work / "mask.nii.gz"), "--model", model, "--overwrite", *row]
    command = [sys.executable, "-m", "StrokeLesionSegLib", "segment", *common]
    runs = [
        run_whole([*command, "--progress", "none"], environment) for _ in range(arguments.repeat)
    ]
    walls, seconds, peaks = zip(*runs, strict=True)
    output = subprocess.run(
        [
            sys.executable,
            __file__,
            "--measure-stages",
            str(arguments.repeat),
            *common,
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    inside = json.loads(output.splitlines()[-1])
    return {
        "file_to_file_s": statistics.median(walls),
        "cpu_s": statistics.median(seconds),
        "peak_mb": max(peaks),
        **inside,
    }


def run_whole(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Run a command; returns wall time and processor time in s and largest resident MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    cpu = peak = float("nan")
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu = usage.ru_utime + usage.ru_stime
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    else:  # Windows
        process.wait()
    wall = time.perf_counter() - started
    assert process.stderr is not None
    error = process.stderr.read().decode()
    if process.returncode:
        raise SystemExit(f"segment failed: {error}")
    return wall, cpu, peak


def measure_stages(rest: list[str]) -> int:
    """In a process of its own: the pipeline ``rest[0]`` times; prints one JSON object."""
    from StrokeLesionSegLib.cli import build_parser
    from StrokeLesionSegLib.commands import options, segment
    from StrokeLesionSegLib.pipeline import segment_file

    repeat, *line = rest
    arguments = build_parser().parse_args(["segment", *line])
    options.prepare(arguments)
    timings: list[dict[str, float]] = []
    details: dict[str, Any] = {}
    for _ in range(int(repeat)):
        result = segment_file(
            arguments.input,
            segment.output_paths(arguments),
            model=arguments.model,
            options=options.segment_options(arguments),
            clean=options.clean_up(arguments),
            overwrite=True,
        )
        timings.append(result.timings)
        details = result.prediction.details
    stages = {name: statistics.median(t[name] for t in timings) for name in timings[0]}
    print(json.dumps({"stages": stages, "details": details}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
