"""Derive the reduced MNI152 template that ships with the extension.

    python training/tools/make_template.py StrokeLesionSeg/Resources/Template \\
        --head ../shared/data/t1/templates/MNI152_2009_SSW_T1.nii.gz

Reads the ICBM 152 nonlinear symmetric 2009a T1 that nilearn bundles (brain only, 1 mm, 8 bit; no
download) and an ICBM 152 2009 T1 with skull and scalp in the same space. Writes
``mni152_2009a_2mm.npz`` with four arrays, none of them pickled:

``t1``     (95, 117, 99) uint8, axis order k, j, i; every second voxel of the smoothed T1
``skull``  the same shape, uint8; the head around the brain up to 24 mm away from it, else 0
``brain``  the same shape, uint8; 255 times the local fraction of brain, for a smooth outline
``affine`` 4x4 float64, (i, j, k, 1) to RAS mm

Run again only to change the reduction; the result is the same file bit for bit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import nilearn.datasets
import numpy as np
from scipy import ndimage

SOURCE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def reduce_template(source: Path, head_file: Path) -> dict[str, np.ndarray]:
    """Arrays of the reduced template (see the module's docstring) from the 1 mm T1 file."""
    image = nibabel.load(source)
    if nibabel.aff2axcodes(image.affine) != ("R", "A", "S"):
        raise ValueError(f"{source.name} is not in RAS order")
    t1 = np.asarray(image.dataobj, dtype=np.float32).T
    # The file is masked with ICBM's brain mask, so the brain is what is not zero.
    labels, _ = ndimage.label(t1 > 0)
    brain = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    brain = ndimage.binary_fill_holes(brain)
    affine = image.affine.astype(np.float64) @ np.diag([2.0, 2.0, 2.0, 1.0])

    def every_second(array: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(array.astype(np.float32), 0.8)
        return smooth[::2, ::2, ::2]

    head = nibabel.load(head_file)
    to_head = np.linalg.inv(head.affine) @ image.affine
    reverse = np.eye(4)[[2, 1, 0, 3]]  # i, j, k to k, j, i and back
    to_head = reverse @ to_head @ reverse
    skull = ndimage.affine_transform(
        np.asarray(head.dataobj, dtype=np.float32).T,
        to_head[:3, :3],
        to_head[:3, 3],
        output_shape=t1.shape,
        order=1,
    )
    skull *= np.median(t1[brain]) / np.median(skull[brain])
    skull[brain | (ndimage.distance_transform_edt(~brain) > 24.0)] = 0.0

    return {
        "t1": np.clip(np.rint(every_second(t1)), 0, 255).astype(np.uint8),
        "skull": np.clip(np.rint(every_second(skull)), 0, 255).astype(np.uint8),
        "brain": np.clip(np.rint(255.0 * every_second(brain)), 0, 255).astype(np.uint8),
        "affine": affine,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where mni152_2009a_2mm.npz goes")
    parser.add_argument("--head", type=Path, required=True, help="MNI152 2009 T1 with skull")
    arguments = parser.parse_args()
    folder = arguments.folder
    source = Path(nilearn.datasets.__file__).parent / "data" / SOURCE
    target = folder / "mni152_2009a_2mm.npz"
    np.savez_compressed(target, **reduce_template(source, arguments.head))
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
