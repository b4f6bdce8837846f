"""The same simulated scans in the layouts of ATLAS R1.1 and R3.0, beside R2.0 (``tree.py``).

R1.1: the MNI grid, other names, one mask of 0/255 per lesion. R3.0: native space and
skull-stripped, so each scan gets its own axis order, spacing, tilt, number formats and shift.
What is drawn here comes from the scan's seed, after and apart from the scan itself.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.images import MNI_GRID, mni_brain_mask
from StrokeLesionSegLib.outputs import atomic_file

LAYOUTS = ("r2.0", "r1.1", "r3.0")
R1_METADATA = "ATLAS_Meta-Data_Release_1.1_standard_mni.csv"
# Axis orders that ATLAS in native space has.
_ORDERS = ("LAS", "RAS", "PSR", "PSL")


def place(layout: str, site: int, subject: int, session: int) -> dict[str, str]:
    """Names of a scan in a layout: subject, session, site, and its folder below the tree."""
    if layout == "r1.1":
        code = f"{31000 + 100 * site + subject:06d}"
        names = {"subject": f"sub-{code}", "session": f"t{session:02d}", "site": f"Site{site}"}
        folder = f"ATLAS_R1.1/Site{site}/{code}/t{session:02d}"
    else:
        code = f"sub-r{site:03d}s{subject:03d}"
        names = {"subject": code, "session": f"ses-{session}", "site": f"R{site:03d}"}
        top = f"ATLAS_2/Training/R{site:03d}" if layout == "r2.0" else f"ATLAS_3/R{site:03d}"
        folder = f"{top}/{code}/ses-{session}/anat"
    return {**names, "folder": folder}


def _save(path: Path, image: Any) -> None:
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        nib.save(image, temporary)


def write_r1(folder: Path, subject: str, t1: np.ndarray, truth: np.ndarray) -> None:
    """``{id}_t1w_deface_stx.nii.gz`` and one ``{id}_LesionSmooth[_n]_stx.nii.gz`` per lesion.

    ``t1`` and ``truth`` (189, 233, 197) on the MNI grid. A lesion-free scan gets an empty mask.
    """
    import nibabel as nib
    from scipy import ndimage

    code = subject.removeprefix("sub-")

    def image(array: np.ndarray) -> Any:
        return nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), MNI_GRID.affine)

    _save(folder / f"{code}_t1w_deface_stx.nii.gz", image(t1.astype(np.float32)))
    labels, count = ndimage.label(truth, np.ones((3, 3, 3)))
    # The largest keeps the plain name; specks share the last file.
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable") + 1
    files = max(1, min(count, 4))
    for n in range(files):
        chosen = order[n:] if n == files - 1 else order[n : n + 1]
        mask = np.isin(labels, chosen) if count else np.zeros(truth.shape, bool)
        name = f"{code}_LesionSmooth{f'_{n}' if n else ''}_stx.nii.gz"
        _save(folder / name, image(mask.astype(np.uint8) * 255))


def native_grid(rng: np.random.Generator) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape (i, j, k) and affine of a scanner's grid: an axis order of ``_ORDERS``, .8 to 1.6 mm,
    tilted by up to 8 degrees and shifted by up to 20 mm, with the whole head inside."""
    import nibabel as nib
    from scipy.spatial.transform import Rotation

    order = _ORDERS[int(rng.integers(len(_ORDERS)))]
    plane = rng.uniform(0.8, 1.2)
    spacing = np.array([plane, plane, rng.uniform(0.9, 1.6)])
    code = nib.orientations.axcodes2ornt(order)
    extent = np.array([197.0, 233.0, 189.0])
    axes = np.zeros((3, 3))
    shape = [0, 0, 0]
    for voxel, (world, sign) in enumerate(code):
        axes[int(world), voxel] = sign * spacing[voxel]
        shape[voxel] = round(extent[int(world)] / spacing[voxel])
    tilt = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt @ axes
    centre = MNI_GRID.affine[:3, 3] + (extent - 1) / 2
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return (shape[0], shape[1], shape[2]), affine


def write_r3(
    folder: Path, subject: str, session: str, t1: np.ndarray, truth: np.ndarray, seed: int
) -> None:
    """Native and skull-stripped: ``*_space-orig_desc-brain_T1w.nii.gz`` (int16 with a slope), its
    mask (uint8, or float64 with .9999 for lesion) and ``*_metadata.csv``."""
    import nibabel as nib
    from scipy import ndimage

    rng = np.random.default_rng((seed, 3))
    shape, affine = native_grid(rng)
    brain = ndimage.binary_dilation(mni_brain_mask().array > 0, iterations=3) | (truth > 0)
    to_mni = np.linalg.inv(MNI_GRID.affine) @ affine  # native ijk -> MNI ijk

    def resample(array: np.ndarray) -> np.ndarray:
        source = array.transpose(2, 1, 0).astype(np.float32)
        return ndimage.affine_transform(
            source, to_mni[:3, :3], to_mni[:3, 3], output_shape=shape, order=1
        )

    world = affine.copy()
    world[:3, 3] += rng.uniform(-20, 20, 3)  # where the scanner thinks that the head is
    stem = f"{subject}_{session}_space-orig"
    stripped = nib.Nifti1Image(resample(t1 * brain), world)
    stripped.header.set_data_dtype(np.int16)
    _save(folder / f"{stem}_desc-brain_T1w.nii.gz", stripped)
    mask = resample((truth > 0).astype(np.float32)) >= 0.5
    if rng.random() < 0.5:
        image = nib.Nifti1Image(mask.astype(np.float64) * 0.9999, world)
    else:
        image = nib.Nifti1Image(mask.astype(np.uint8), world)
    _save(folder / f"{stem}_label-lesion_desc-T1lesion_mask.nii.gz", image)
    site = subject[4:8].upper()
    days = int(rng.integers(20, 3000))
    with open(folder / f"{subject}_{session}_metadata.csv", "w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["ATLAS2_DATASET", "SESSION_ID", "DAYS_POST_STROKE", "CHRONICITY", "SITE"])
        chronic = "chronic" if days > 180 else "subacute"
        rows.writerow(["simulated", session, days, chronic, site])


def write_r1_metadata(root: Path, records: list[dict[str, Any]]) -> None:
    """The release's table at the top of the tree."""
    with open(root / R1_METADATA, "w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["INDI Site ID", "INDI Subject ID", "Session", "Lesions", "Simulated"])
        for r in records:
            code = r["subject"].removeprefix("sub-")
            rows.writerow([r["site"], code, r["session"], len(r["lesions"]), "yes"])
