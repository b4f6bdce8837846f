"""Latencies of interactive editing against their targets.

A scan of 256 x 256 x 180 voxels of 1 mm (sagittal slices, the MNI152 template bundled with nilearn,
turned by 6 degrees and with a dark hole for a lesion), the default model, two CPU threads. What is
timed is what a Segment Editor effect asks of the session for one action of the user; drawing is not
in it. Prints a Markdown table of medians and 95th percentiles; nothing else should run meanwhile.
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
from StrokeLesionSegLib.editing import EditingSession, Region  # noqa: E402
from StrokeLesionSegLib.images import Alignment, Volume, align_to_mni  # noqa: E402
from StrokeLesionSegLib.inference import SegmentOptions  # noqa: E402
from StrokeLesionSegLib.inference.device import peak_memory_bytes  # noqa: E402
from StrokeLesionSegLib.models import load_model  # noqa: E402

SHAPE = (180, 256, 256)  # k runs to the right, j to inferior, i to posterior
LESION_MM = np.array([28.0, -15.0, 25.0])  # in the template's RAS mm
LESION_RADIUS_MM = 11.0
# Name of a row: its target in milliseconds, or none.
ROWS: dict[str, float | None] = {
    "opening the session (alignment given)": None,
    "visible slice, cold: first one after opening": 150,
    "visible slice, cold: not predicted before": 150,
    "visible slice, warm: known": 40,
    "threshold preview of the whole volume": 100,
    "the same, largest piece only": None,
    "brush dab, disk of 5 mm": 20,
    "brush dab, sphere of 10 mm": 20,
    "click refined in its slice": 100,
    "click carried to its neighbours, all of it": None,
    "background: the whole volume": 8000,
    "background: one piece": None,
    "background: scrolling to a new slice meanwhile": 50,
    "background: scrolling, worst wait for a piece included": None,
    "mirrored scan": None,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="NAME", help="default: the default model")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="sessions opened")
    parser.add_argument("--straight", action="store_true", help="neither turned nor aligned")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()

    volume, to_template = make_scan(0 if arguments.straight else 6)
    model = load_model(arguments.model)
    options = SegmentOptions(
        align="none" if arguments.straight else "auto", device="cpu", threads=arguments.threads
    )
    alignment = None if arguments.straight else align_to_mni(volume)
    times = measure(volume, to_template, model, options, alignment, arguments.repeat)

    print(
        f"{machine()}, {arguments.threads} threads; model {model.manifest.name} "
        f"{model.manifest.version}; scan {' x '.join(map(str, SHAPE[::-1]))}, "
        f"{'on the world axes' if alignment is None else 'aligned to MNI152'}\n"
    )
    print("| ms | target | median | 95 % | n | |")
    print("|---|--:|--:|--:|--:|---|")
    figures: dict[str, Any] = {}
    for name, target in ROWS.items():
        values = 1000 * np.array(times[name])
        middle, high = float(np.median(values)), float(np.percentile(values, 95))
        met = "" if target is None else ("met" if high <= target else "median only")
        if target is not None and middle > target:
            met = "NOT met"
        wanted = "" if target is None else f"{target:g}"
        print(f"| {name} | {wanted} | {middle:.1f} | {high:.1f} | {len(values)} | {met} |")
        figures[name] = {"target_ms": target, "median_ms": middle, "p95_ms": high, "n": len(values)}
    peak = peak_memory_bytes()
    print(f"\npeak memory of the process: {'unknown' if peak is None else f'{peak / 1e6:.0f} MB'}")
    if arguments.json:
        report = {
            "machine": machine(),
            "threads": arguments.threads,
            "model": [model.manifest.name, model.manifest.version],
            "aligned": alignment is not None,
            "peak_memory_mb": None if peak is None else peak / 1e6,
            "rows": figures,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(
    volume: Volume,
    to_template: np.ndarray,
    model: Any,
    options: SegmentOptions,
    alignment: Alignment | None,
    repeat: int,
) -> dict[str, list[float]]:
    """Seconds of every action in ``ROWS``."""
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    lesion = (np.linalg.inv(to_template) @ [*LESION_MM, 1.0])[:3]
    index = np.rint(np.linalg.inv(volume.affine) @ [*lesion, 1.0])[2::-1].astype(int)
    random = np.random.default_rng(0)

    def timed(name: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = action()
        times[name].append(time.perf_counter() - started)
        return result

    def show(session: EditingSession, axis: int, number: int) -> None:
        session.predict_visible(axis, number)
        found(session, session.threshold, region=Region.slice(axis, number))

    def scrolled(session: EditingSession, axis: int, number: int) -> None:
        # What the effect does when scrolling rests: the slice, then the preview of all that is
        # known, with the settings that Apply will have, brought to the views' overlay.
        session.predict_visible(axis, number)
        box, mask = found(session, session.threshold)
        overlay[...] = 0
        overlay[box] = mask
        np.count_nonzero(mask)

    overlay = np.zeros(SHAPE, np.uint8)

    def opened() -> EditingSession:
        return EditingSession.open(volume, model, options=options, alignment=alignment)

    for number in range(repeat):
        session = timed("opening the session (alignment given)", opened)
        axis = number % 3
        first = "visible slice, cold: first one after opening"
        timed(first, lambda s=session, a=axis: show(s, a, int(index[a])))
        for offset in range(-12, 13, 3):
            for axis in range(3):
                where = (axis, int(index[axis]) + offset)
                known = number % 3 == axis and offset == 0
                if not known:
                    timed(
                        "visible slice, cold: not predicted before",
                        lambda s=session, w=where: show(s, *w),
                    )
                timed("visible slice, warm: known", lambda s=session, w=where: show(s, *w))

    # The background with a user who scrolls, in turn through the three views.
    for number in range(max(1, repeat // 2)):
        session = opened()
        working, count, axis = 0.0, 0, number % 3
        place = int(index[axis]) - 40
        while True:
            started = time.perf_counter()
            piece = session.work(30.0, near=(axis, place))
            seconds = time.perf_counter() - started
            working += seconds
            if piece is None:
                break
            times["background: one piece"].append(seconds)
            count += 1
            if count % 4 == 0:
                place += 1
                scroll = "background: scrolling to a new slice meanwhile"
                timed(scroll, lambda s=session, a=axis, p=place: scrolled(s, a, p))
                times["background: scrolling, worst wait for a piece included"].append(
                    seconds + times[scroll][-1]
                )
        times["background: the whole volume"].append(working)
    assert session.complete

    for threshold in np.linspace(0.1, 0.95, 30):
        preview = "threshold preview of the whole volume"
        timed(preview, lambda t=threshold: found(session, float(t)))
        timed(
            "the same, largest piece only",
            lambda t=threshold: found(session, float(t), largest_only=True),
        )
    for _ in range(60):
        centre = lesion + random.uniform(-12, 12, 3)
        normal = volume.affine[:3, int(random.integers(3))]
        timed(
            "brush dab, disk of 5 mm",
            lambda c=centre, n=normal: session.dab(c, 5, normal_ras=n, threshold=0.5),
        )
        timed(
            "brush dab, sphere of 10 mm",
            lambda c=centre: session.dab(c, 10, sphere=True, threshold=0.5),
        )
    for number in range(20):
        place = lesion + random.uniform(-9, 9, 3)
        axis = number % 3
        click = session.add_click(place, number % 4 != 3, axis=axis)
        timed("click refined in its slice", session.refine_visible)
        timed("click carried to its neighbours, all of it", lambda: carry(session))
        session.remove_click(click.id)
        carry(session)
    timed("mirrored scan", session.mirrored)
    return times


def found(session: EditingSession, threshold: float, **more: Any) -> Any:
    """What Stroke Lesion shows: what the model asks of a lesion is asked here, too."""
    return session.mask(threshold, sure=session.sure, min_volume_ml=session.min_volume_ml, **more)


def carry(session: EditingSession) -> None:
    while session.refine_more(30.0) is not None:
        pass


def make_scan(degrees: float, size: float = 1.0) -> tuple[Volume, np.ndarray]:
    """The template with a hole, on sagittal slices; and 4x4 from the scan's RAS mm to its own.

    ``size`` is that of the voxels in mm; the scan holds as much of the head with any.
    """
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
    affine[:3, :3] *= size
    shape = tuple(round(n / size) for n in SHAPE)
    middle = np.array([0.0, -18.0, 8.0])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    matrix = np.linalg.inv(template.affine) @ turn @ affine
    scan = gather(array, matrix[:3, :3], matrix[:3, 3], shape, 0.0)
    return Volume(scan, affine), turn


def machine() -> str:
    """Processor and torch in words."""
    import os

    import torch

    return f"{cpu_name()}, {os.cpu_count()} CPUs, torch {str(torch.__version__).split('+')[0]}"


if __name__ == "__main__":
    sys.exit(main())
