"""What a click costs beside the bare network that answers it:

    python Testing/benchmarks/clicks.py
    python Testing/benchmarks/clicks.py --model stroke-t1-volumetric --threads 2 --repeat 30

The scan: 180 x 256 x 256 voxels of 1 mm in sagittal slices, the MNI152 template bundled with
nilearn, turned by 6 degrees, with a dark hole for a lesion; its alignment is given. Every click is
timed in turn with one bare call of the network on a cube of the same size, so that what else the
machine does meets both: look at the ratio. Milliseconds count on a quiet machine only. Without a
model that answers clicks the network is taken untrained, which takes as long. What is timed is what
an effect waits for: mask handed in, network, mask changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "StrokeLesionSeg"))

from StrokeLesionSegLib.inference.device import prepare_environment  # noqa: E402

prepare_environment()

import numpy as np  # noqa: E402
from measuring import cpu_name  # noqa: E402
from StrokeLesionSegLib.correction import CorrectionSession, Known  # noqa: E402
from StrokeLesionSegLib.images import Alignment, Volume  # noqa: E402
from StrokeLesionSegLib.inference import SegmentOptions  # noqa: E402
from StrokeLesionSegLib.models import LoadedModel, load_model  # noqa: E402

SHAPE = (180, 256, 256)  # k runs to the right, j to inferior, i to posterior
LESION_MM = np.array([28.0, -15.0, 25.0])  # in the template's RAS mm
LESION_RADIUS_MM = 11.0
#: Milliseconds that an action may take on two quiet cores.
TARGETS = {"click": 100.0, "whole head": 600.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="NAME", help="default: the default model")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--repeat", type=int, default=20, metavar="N", help="clicks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()

    model, what = clickable(arguments.model)
    times = measure(model, arguments.threads, arguments.repeat)
    print(f"{machine()}, {arguments.threads} threads; {what}\n")
    print("| ms | target | median | 95 % | times the bare network |")
    print("|---|--:|--:|--:|--:|")
    bare = float(np.median(times["bare network, same cube"]))
    figures = {}
    for name, seconds in times.items():
        middle, high = (1000 * float(np.percentile(seconds, q)) for q in (50, 95))
        target = TARGETS.get(name)
        wanted = "" if target is None else f"{target:g}"
        print(f"| {name} | {wanted} | {middle:.1f} | {high:.1f} | {middle / 1000 / bare:.2f} |")
        figures[name] = {
            "target_ms": target,
            "median_ms": middle,
            "p95_ms": high,
            "times_bare": middle / 1000 / bare,
            "n": len(seconds),
        }
    if arguments.json:
        report = {"machine": machine(), "what": what, "rows": figures}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def clickable(name: str | None) -> tuple[LoadedModel, str]:
    """The model, or its manifest with an untrained network; and which it is, in words."""
    from dataclasses import replace

    from StrokeLesionSegLib.correction.session import check_model
    from StrokeLesionSegLib.errors import InputError
    from StrokeLesionSegLib.networks import build_network

    model = load_model(name)
    try:
        check_model(model)
    except InputError:
        network = build_network({"name": "volumetric_unet"}).eval().requires_grad_(False)
        return replace(model, network=network), "volumetric network, untrained"
    return model, f"model {model.manifest.name} {model.manifest.version}"


def measure(model: LoadedModel, threads: int, repeat: int) -> dict[str, list[float]]:
    """Seconds of each kind of action."""
    volume, to_template = make_scan(6)
    times: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = action()
        times.setdefault(name, []).append(time.perf_counter() - started)
        return result

    alignment = Alignment(to_template, True, "", 1.0, 1.0, 0.0)
    options = SegmentOptions(device="cpu", threads=threads)
    session = timed(
        "opening, whole head and number format included",
        lambda: CorrectionSession.open(volume, model, Known(alignment=alignment), options=options),
    )
    lesion = (np.linalg.inv(to_template) @ [*LESION_MM, 1.0])[:3]
    rng = np.random.default_rng(0)
    mask = session.mask.astype(np.uint8)
    ask = recorded(session)
    for number in range(repeat + 1):
        voxel = session.voxel_at(lesion + rng.uniform(-9, 9, 3))
        wanted = not mask[voxel]
        change = timed(
            "first click" if number == 0 else "click",
            lambda v=voxel, y=wanted, m=mask: session.click(v, y, m),
        )
        if change.whole_head:  # it cost a call more; counted apart
            seconds = times["first click" if number == 0 else "click"].pop()
            times.setdefault("click that went beyond its cube", []).append(seconds)
        mask = session.mask.astype(np.uint8)
        timed("bare network, same cube", ask)
        if number % 3 == 2:
            timed("undo", lambda m=mask: session.undo(m))
            mask = session.mask.astype(np.uint8)
    line = [session.voxel_at(lesion + np.array([n, 0, n / 2])) for n in range(-10, 11)]
    for wanted in (True, False, True):
        timed("stroke of 21 clicks", lambda y=wanted, m=mask: session.stroke(line, y, m))
        mask = session.mask.astype(np.uint8)
    for _ in range(3):
        timed("whole head", lambda m=mask: session.renew(m))
    return times


def recorded(session: CorrectionSession) -> Callable[[], Any]:
    """The network alone, on the last cube that was asked about."""
    network = session._answers
    ask, kept = network._run, {}

    def run(full: Any) -> Any:
        if full.shape[2:] == (48, 48, 48):
            kept["input"] = full
        return ask(full)

    network._run = run
    return lambda: ask(kept["input"])


def make_scan(degrees: float) -> tuple[Volume, np.ndarray]:
    """The template with a hole, on sagittal slices; and 4x4 from the scan's RAS mm to its own."""
    from nilearn.datasets import load_mni152_template
    from StrokeLesionSegLib.images.space.resample import gather

    template = load_mni152_template(resolution=1)
    array = np.ascontiguousarray(1000 * template.get_fdata(dtype=np.float32).T)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in array.shape)]
    centre = np.linalg.inv(template.affine) @ [*LESION_MM, 1.0]
    squared = (k - centre[2]) ** 2 + (j - centre[1]) ** 2 + (i - centre[0]) ** 2
    array[squared < LESION_RADIUS_MM**2] = 120
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = np.array([[0, 0, 1.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    middle = np.array([0.0, -18.0, 8.0])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2)
    matrix = np.linalg.inv(template.affine) @ turn @ affine
    scan = gather(array, matrix[:3, :3], matrix[:3, 3], SHAPE, 0.0)
    return Volume(scan, affine), turn


def machine() -> str:
    """Processor and torch in words."""
    import os

    import torch

    return f"{cpu_name()}, {os.cpu_count()} CPUs, torch {str(torch.__version__).split('+')[0]}"


if __name__ == "__main__":
    sys.exit(main())
