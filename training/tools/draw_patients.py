"""Draw real patients with the mask that the shipped model gives them, one row each.

    python training/tools/draw_patients.py FOLDER OUT.png [--model NAME]

FOLDER holds ``*_T1w.nii.gz``. Each row: six axial slices in MNI152 space, the patient's left on
the left, without and with the mask's outline in red.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion
from StrokeLesionSegLib.images import align_to_mni, read_scan
from StrokeLesionSegLib.inference import SegmentOptions, make_predictor
from StrokeLesionSegLib.inference.head_box import HEAD_BOX, HEAD_ORIGIN_ZYX
from StrokeLesionSegLib.inference.placing import place
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.models import LoadedModel, load_model

_SLICES = range(52, 136, 14)


def row(path: Path, model: LoadedModel) -> NDArray[np.uint8]:
    """The slices of one patient without and with the mask, (2 H, 6 W, 3).

    Raises ``InputError`` for a scan that cannot be read or aligned.
    """
    volume = read_scan(path).volume
    predictor = make_predictor(model, SegmentOptions())
    placed = place(volume, align_to_mni(volume), predictor.grid)
    prepared = predictor.prepare(placed)
    found = predictor.predict(prepared).probability.array[HEAD_BOX]
    affine = np.eye(4)
    affine[:3, 3] = HEAD_ORIGIN_ZYX[::-1]
    mask = find_lesions(found, affine, model.manifest.operating_point()).mask != 0
    image = (np.clip(prepared.image, 0, 1) * 255).astype(np.uint8)
    plain, marked = [], []
    for k in _SLICES:
        tile = np.stack([image[k]] * 3, axis=-1)[::-1]
        plain.append(tile)
        tile = tile.copy()
        part = mask[k][::-1]
        tile[part & ~binary_erosion(part)] = (255, 40, 40)
        marked.append(tile)
    return np.concatenate([np.concatenate(plain, axis=1), np.concatenate(marked, axis=1)])


def main() -> None:
    """Draw every patient of the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model")
    a = parser.parse_args()
    model = load_model(a.model)
    rows = [row(path, model) for path in sorted(a.folder.glob("*_T1w.nii.gz"))]
    # A palette of 128 greys and reds: a third of the size.
    Image.fromarray(np.concatenate(rows)).quantize(128).save(a.out, optimize=True)


if __name__ == "__main__":
    main()
