"""Makes the simulated cases that ``correct_cases.py`` corrects in the desktop:

    python Testing/desktop/correction_cases.py HEADS OUT [--cases 12]

HEADS is a folder of ``stroketrain heads``; only its people of part "validation" are used, whom no
training has seen. A third of the cases have a large lesion (60 to 150 mL), a third a faint one (8
to 60 mL), a third at least three lesions. OUT gets ``NN-KIND/t1.nii.gz`` and ``truth.nii.gz``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "StrokeLesionSeg"), str(REPOSITORY / "training")]

import torch  # noqa: E402
from scipy import ndimage  # noqa: E402
from StrokeLesionSegLib.images import Volume, write_volume  # noqa: E402
from StrokeLesionSegLib.inference.head_box import HEAD_ORIGIN_ZYX  # noqa: E402
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy  # noqa: E402
from StrokeLesionSegLib.learning.strokes.head import (  # noqa: E402
    StrokeFrequencies,
    scan_of,
    simulate_head,
)
from stroketrain.volumetric.heads import HeadFolder  # noqa: E402

CHRONIC = ("cavity", "mixed")
KINDS = {
    "large": StrokeFrequencies(lesion=1.0, kinds=CHRONIC, volume_ml=(60.0, 150.0)),
    "faint": StrokeFrequencies(lesion=1.0, kinds=("faint",), volume_ml=(8.0, 60.0)),
    "many": StrokeFrequencies(lesion=1.0, kinds=CHRONIC, volume_ml=(3.0, 40.0)),
}
#: What a case has at least: mL in all, and pieces of .2 mL.
LEAST = {"large": (60.0, 1), "faint": (5.0, 1), "many": (3.0, 3)}
PIECE_VOXELS = 200
SEED = 19_000


def pieces(mask: np.ndarray) -> int:
    """How many connected pieces of .2 mL and more a mask of 1 mm has."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return int((np.bincount(labels.ravel())[1:] >= PIECE_VOXELS).sum()) if count else 0


def make(folder: HeadFolder, out: Path, count: int) -> None:
    """Write the first ``count`` cases; those that are there already are left alone."""
    anatomy, bank = Anatomy.of_template(), folder.bank("validation")
    people = folder.names("validation")
    affine = np.eye(4)
    affine[:3, 3] = HEAD_ORIGIN_ZYX[::-1]
    for n in range(count):
        kind = list(KINDS)[n % len(KINDS)]
        case = out / f"{n:02d}-{kind}"
        if (case / "truth.nii.gz").exists():
            continue
        head = folder.head(people[n % len(people)])
        g = torch.Generator().manual_seed(SEED + n)
        for _ in range(60):
            drawn = simulate_head(g, head, anatomy, bank, KINDS[kind])
            truth = drawn.lesions.numpy()
            least_ml, least = LEAST[kind]
            if truth.sum() / 1000 >= least_ml and pieces(truth) >= least:
                break
        scan = scan_of(g, drawn, anatomy)
        t1 = np.round(scan.image.numpy().clip(0, 1) * 4095).astype(np.int16)
        truth = scan.lesions.numpy().astype(np.uint8)
        case.mkdir(parents=True, exist_ok=True)
        write_volume(case / "t1.nii.gz", Volume(t1, affine), overwrite=True)
        write_volume(case / "truth.nii.gz", Volume(truth, affine), overwrite=True)
        print(f"{case.name}: {truth.sum() / 1000:.1f} mL in {pieces(truth)} pieces", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("heads", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    make(HeadFolder(arguments.heads), arguments.out, arguments.cases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
