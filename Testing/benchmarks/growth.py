"""How time and memory grow: with slices, voxels, lesions, scans and workers.

    python Testing/benchmarks/growth.py [--only slices,voxels,lesions,scans] [--json FILE]

slices: seconds of the network on that many axial slices of the brain box. voxels: file to file for
the same head at other voxel sizes, without alignment. lesions: threshold, components and
measurements on a map with that many lesions. scans: ``batch`` over so many copies of one head, with
alignment. workers: the same batch with several processes, the memory being that of all together.
editing: what the user waits for while correcting a mask, by the voxels of the scan; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import run_process

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "StrokeLesionSeg"))

Row = dict[str, Any]


def slices(folder: Path) -> list[Row]:
    """In this process: medians of three runs, the network being warm."""
    from StrokeLesionSegLib.images import MNI_GRID
    from StrokeLesionSegLib.inference import predict_volume

    prepared, array, box = network_and_box()
    assert array.shape == MNI_GRID.shape
    k, j, i = box
    rows = []
    predict_volume(array, prepared, box=(slice(60, 90), j, i))
    for count in (10, 20, 40, 80, k.stop - k.start):
        middle = (k.start + k.stop - count) // 2
        part = (slice(middle, middle + count), j, i)
        times = [seconds(lambda p=part: predict_volume(array, prepared, box=p)) for _ in range(3)]
        rows.append({"slices": count, "seconds": round(statistics.median(times), 3)})
    return rows


def network_and_box() -> tuple[Any, Any, Any]:
    """The shipped network, made ready, the template on the MNI grid in [0, 1], its brain box."""
    from nilearn.datasets import load_mni152_template
    from StrokeLesionSegLib.images import (
        MNI_GRID,
        Alignment,
        Volume,
        apply_window,
        brain_box,
        to_canonical,
        window_range,
    )
    from StrokeLesionSegLib.inference import choose_device, prepare_environment, prepare_network
    from StrokeLesionSegLib.models import load_model

    prepare_environment()
    import numpy as np

    template = load_mni152_template(resolution=1)
    volume = Volume(template.get_fdata(dtype=np.float32).T, template.affine)
    lies_there = Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0)
    canonical = to_canonical(volume, lies_there)
    assert canonical.volume.array.shape == MNI_GRID.shape
    array = apply_window(canonical.volume.array, window_range(canonical.volume.array))
    model = load_model()
    prepared = prepare_network(model.network, model.manifest.channels, choose_device("cpu"), "auto")
    return prepared, array, brain_box(canonical)


def voxels(folder: Path) -> list[Row]:
    from stages import make_scan

    head = make_scan(folder / "head.nii.gz")
    rows = []
    for size in (2.0, 1.5, 1.0, 0.8, 0.7, 0.6):
        scan = folder / f"head-{size}.nii.gz"
        count = resample(head, scan, size)
        mask = folder / "mask.nii.gz"
        command = [sys.executable, "-m", "StrokeLesionSegLib", "segment", scan, "-o", mask]
        run = run_process([*command, "--align", "none", "--overwrite", "--progress", "none"])
        if run.code:
            raise SystemExit(run.stderr)
        rows.append(
            {
                "voxel_mm": size,
                "voxels": count,
                "seconds": round(run.wall_s, 2),
                "peak_mb": round(run.peak_mb),
            }
        )
    return rows


def resample(source: Path, target: Path, size: float) -> int:
    """``source`` with voxels of ``size`` mm; returns their number."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(source))
    counts = [
        round(n * spacing / size)
        for n, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    moved = sitk.Resample(
        image,
        counts,
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        [size] * 3,
        image.GetDirection(),
        0,
        sitk.sitkInt16,
    )
    sitk.WriteImage(moved, str(target))
    return moved.GetNumberOfPixels()


def lesions(folder: Path) -> list[Row]:
    import numpy as np
    from StrokeLesionSegLib.images import MNI_GRID
    from StrokeLesionSegLib.lesions import find_lesions
    from StrokeLesionSegLib.operating_point import OperatingPoint

    rows = []
    for count in (1, 10, 100, 1000, 3000):
        probability = np.zeros(MNI_GRID.shape, np.float32)
        # Cubes of 5 voxels on a lattice of 10: none touches another.
        places = [
            (k, j, i)
            for k in range(5, 180, 10)
            for j in range(5, 225, 10)
            for i in range(5, 188, 10)
        ]
        for k, j, i in places[:: max(1, len(places) // count)][:count]:
            probability[k : k + 5, j : j + 5, i : i + 5] = 0.9
        found: list[Any] = []
        times = [
            seconds(
                lambda p=probability, f=found: f.append(
                    find_lesions(p, MNI_GRID.affine, OperatingPoint(0.5), to_mni=np.eye(4))
                )
            )
            for _ in range(3)
        ]
        assert found[-1].summary.count == count
        rows.append({"lesions": count, "seconds": round(statistics.median(times), 3)})
    return rows


def scans(folder: Path) -> list[Row]:
    return [batch(folder, count) for count in (1, 2, 4, 8)]


def workers(folder: Path) -> list[Row]:
    return [{"workers": n, **batch(folder, 6, "--workers", str(n))} for n in (1, 2, 3)]


def batch(folder: Path, count: int, *options: str) -> Row:
    """``batch`` over ``count`` copies of one head, start-up included."""
    from stages import make_scan

    head = folder / "batch-head.nii.gz"
    if not head.exists():
        make_scan(head)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        source = Path(place) / "in"
        source.mkdir()
        for number in range(count):
            (source / f"sub-{number:02d}_T1w.nii.gz").symlink_to(head)
        command = [sys.executable, "-m", "StrokeLesionSegLib", "batch", source, Path(place) / "out"]
        run = run_process([*command, "--progress", "none", *options])
        if run.code:
            raise SystemExit(run.stderr)
    return {
        "scans": count,
        "seconds": round(run.wall_s, 2),
        "peak_mb": round(run.peak_mb),
        "scans_per_hour": round(3600 * count / run.wall_s),
    }


def editing(folder: Path) -> list[Row]:
    """In this process: the actions of ``interactive.py`` on a scan of coarser and finer voxels."""
    import numpy as np
    from interactive import LESION_MM, found, make_scan
    from StrokeLesionSegLib.editing import EditingSession, Region
    from StrokeLesionSegLib.images import Alignment
    from StrokeLesionSegLib.models import load_model

    model = load_model()
    rows = []
    for size in (2.0, 1.0, 0.7):
        volume, turn = make_scan(6, size)
        # Known here, so that no registration is waited for.
        session = EditingSession.open(
            volume, model, alignment=Alignment(turn, True, "", 1.0, 1.0, 0.0)
        )
        lesion = (np.linalg.inv(turn) @ [*LESION_MM, 1.0])[:3]
        index = np.rint(np.linalg.inv(volume.affine) @ [*lesion, 1.0])[2::-1].astype(int)

        def show(axis: int, number: int, s: Any = session) -> None:
            s.predict_visible(axis, number)
            found(s, s.threshold, region=Region.slice(axis, number))

        show(0, int(index[0]) - round(15 / size))  # the first one warms up
        times: dict[str, list[float]] = {"slice": [], "threshold": [], "click": []}
        for offset in (-12, -6, 6, 12):
            for axis in range(3):
                number = int(index[axis]) + round(offset / size)
                times["slice"].append(seconds(lambda a=axis, n=number: show(a, n)))
        while session.work(200.0) is not None:
            pass
        for threshold in np.linspace(0.1, 0.9, 9):
            times["threshold"].append(seconds(lambda s=session, t=float(threshold): found(s, t)))
        for axis in range(3):
            for shift in (-6.0, 6.0):
                click = session.add_click(lesion + shift, True, axis=axis)
                times["click"].append(seconds(session.refine_visible))
                session.remove_click(click.id)
        medians = {f"{k}_ms": round(1000 * statistics.median(v), 1) for k, v in times.items()}
        rows.append({"voxel_mm": size, "voxels": volume.array.size, **medians})
    return rows


def seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


MEASURES = {"slices": slices, "voxels": voxels, "lesions": lesions, "scans": scans}
MEASURES |= {"workers": workers, "editing": editing}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(MEASURES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    figures: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-bench-") as folder:
        for name in arguments.only.split(","):
            figures[name] = MEASURES[name](Path(folder))
            for row in figures[name]:
                print(name, ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
