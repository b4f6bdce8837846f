"""What deformable alignment gains beside the affine one, and what leaving the lesion out does:

    python Testing/benchmarks/deformable.py ../shared/data/ixi --heads 6

Every head is healthy. The truth is where its own deformable alignment, without any lesion, puts
its points in MNI space; then a stroke is drawn into it (stroketrain's simulator: a cavity, 10 to
150 mL), and the scan with the stroke is aligned in four ways: affine only; deformable with all of
the brain; with the drawn lesion left out; with the lesion that the shipped model finds left out,
which is what ``--deformable`` does. "Lesion" and "around" are mean distances from the truth in mm,
over the lesion and over the brain within 15 mm of it; "Dice" compares the lesion in MNI space with
the same lesion carried there by the truth. "Growth" is the smallest and largest change of volume.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import cpu_name
from numpy.typing import NDArray
from scipy import ndimage
from StrokeLesionSegLib.images import MNI_GRID, Volume, align_to_mni, deform_to_mni
from StrokeLesionSegLib.images.space.standard import mask_in_mni
from stroketrain.simulate import appearance, shapes
from stroketrain.simulate.anatomy import load_anatomy

_VOLUMES_ML = (20.0, 60.0, 120.0, 10.0, 90.0, 40.0, 150.0, 30.0)
_AROUND_MM = 15.0
_WAYS = ("affine", "all of the brain", "drawn lesion left out", "found lesion left out")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="T1 scans of healthy heads")
    parser.add_argument("--heads", type=int, default=6, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    files = sorted(arguments.folder.glob("*.nii.gz"))
    files = files[:: max(1, len(files) // arguments.heads)][: arguments.heads]
    print(f"{cpu_name()}; {len(files)} heads\n", flush=True)
    rows = []
    for number, file in enumerate(files):
        row = measured(file, number)
        rows.append(row)
        print(f"head {number + 1}, {row['lesion_ml']:.0f} mL")
        for way in _WAYS:
            print(f"  {way:<24}{_line(row[way])}", flush=True)
    print("\nmeans")
    for way in _WAYS:
        keys = ("lesion_mm", "around_mm", "dice", "least", "most", "cpu_s")
        mean = {key: statistics.mean(row[way][key] for row in rows) for key in keys}
        print(f"  {way:<24}{_line(mean)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return 0


def _line(found: dict[str, float]) -> str:
    return (
        f"lesion {found['lesion_mm']:5.2f} mm   around {found['around_mm']:5.2f} mm   "
        f"Dice {found['dice']:.3f}   growth {found['least']:.2f} to {found['most']:.2f}   "
        f"{found['cpu_s']:5.1f} s"
    )


def measured(file: Path, number: int) -> dict[str, Any]:
    """The figures of one head."""
    person = load_anatomy(file, "head")
    g = torch.Generator().manual_seed(number)
    t1 = person.t1(g)
    brain = torch.from_numpy(person.brain)
    levels = appearance.TissueLevels.of(t1, brain)
    free = brain.float() * (1 - appearance.ventricles(t1, brain, levels).clamp(0, 1))
    soft = shapes.wedge(g, brain, levels.depth, _VOLUMES_ML[number % len(_VOLUMES_ML)])
    stroke, drawn = appearance.implant(g, t1, soft, free, levels, "cavity")
    healthy, scan = (Volume(x.numpy() * 255, MNI_GRID.affine) for x in (t1, stroke))
    lesion = scan.with_array(drawn.numpy().astype(np.uint8))

    around = ndimage.distance_transform_edt(~drawn.numpy()) <= _AROUND_MM
    places = {
        "lesion_mm": _points(drawn.numpy()),
        "around_mm": _points(around & person.brain & ~drawn.numpy()),
    }
    own = align_to_mni(healthy).matrix
    true = deform_to_mni(healthy, own)
    if true.deformation is None:
        raise SystemExit(f"{file.name}: {true.reason}")
    reference = {key: _carried(points, own, true) for key, points in places.items()}
    there = mask_in_mni(lesion, own, true.deformation).array > 0

    to_mni = align_to_mni(scan).matrix
    row: dict[str, Any] = {"lesion_ml": float(drawn.sum()) / 1000}
    masks = {_WAYS[1]: None, _WAYS[2]: lesion, _WAYS[3]: _found(scan)}
    for way in _WAYS:
        began = time.process_time()
        result = deform_to_mni(scan, to_mni, masks[way]) if way in masks else None
        took = time.process_time() - began
        errors = {
            key: float(np.linalg.norm(_carried(p, to_mni, result) - reference[key], axis=0).mean())
            for key, p in places.items()
        }
        carried = mask_in_mni(lesion, to_mni, result.deformation if result else None).array > 0
        least, most = result.growth if result else (1.0, 1.0)
        row[way] = {
            **errors,
            "dice": 2 * float((carried & there).sum()) / float(carried.sum() + there.sum()),
            "least": least,
            "most": most,
            "cpu_s": took,
            "reason": result.reason if result else "",
        }
    return row


def _points(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Every seventh voxel of a mask in RAS mm, (3, N)."""
    kji = np.stack(np.nonzero(mask))[:, ::7]
    return kji[::-1] + MNI_GRID.affine[:3, 3:]


def _carried(points: NDArray[np.float64], to_mni: NDArray[np.float64], result: Any) -> Any:
    moved = to_mni[:3, :3] @ points + to_mni[:3, 3:]
    if result is None or result.deformation is None:
        return moved
    return result.deformation.to_template(moved)


def _found(scan: Volume) -> Volume:
    """The lesions that the shipped model finds."""
    import stroke_lesion_seg

    return scan.with_array(stroke_lesion_seg.segment(scan.array.T, scan.affine).mask.T)


if __name__ == "__main__":
    sys.exit(main())
