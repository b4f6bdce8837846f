"""Small good files of every format, and what may become of a damaged one."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from hypothesis import HealthCheck, settings
from pydicom.uid import ExplicitVRLittleEndian
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import from_canonical, read_scan, to_canonical

#: Cases of each fuzz test; see CONTRIBUTING.md.
CASES = int(os.environ.get("STROKE_LESION_SEG_FUZZ_CASES", "50"))
#: Longer than this for a file of a few kB is a hang.
MOST_SECONDS = 30.0
VALUES = np.random.default_rng(0).integers(1, 99, (6, 7, 8)).astype(np.int16)

# The same cases wherever CI is set, as CI services do: those runs must not fail by chance. Fresh
# ones everywhere else.
FUZZ = settings(
    max_examples=CASES,
    derandomize=bool(os.environ.get("CI")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def write_originals(folder: Path) -> dict[str, bytes]:
    """``a.nii``, ``b.nii`` (NIfTI-2), ``a.nii.gz``, ``a.nrrd``, ``a.mha`` and a DICOM series."""
    affine = np.diag([0.9, 1.1, 1.3, 1])
    for name, make in (("a.nii", nib.Nifti1Image), ("b.nii", nib.Nifti2Image)):
        image = make(VALUES, affine)
        image.set_qform(affine, 1)
        nib.save(image, folder / name)
    picture = sitk.GetImageFromArray(VALUES)
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(picture, str(folder / name))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    deep = sitk.GetImageFromArray(np.concatenate([VALUES, VALUES]))
    for k in range(12):
        piece = deep[:, :, k]
        facts = {"0008|0016": "1.2.840.10008.5.1.4.1.1.4", "0008|0018": f"1.2.3.5.{k + 1}",
                 "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0020|0032": f"0\\0\\{k}",
                 "0020|0037": "1\\0\\0\\0\\1\\0"}  # fmt: skip
        for tag, value in facts.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(piece)
        data = pydicom.dcmread(folder / f"{k}.dcm")
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # so that elements say their type
        pydicom.dcmwrite(folder / f"{k}.dcm", data, implicit_vr=False, little_endian=True)
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    found["a.nii.gz"] = gzip.compress(found["a.nii"], mtime=0)
    return found


def check_reading(path: Path) -> bool:
    """Read ``path``: a sound scan (True), or one clear ``InputError`` (False), in good time."""
    started = time.perf_counter()
    refused = None
    try:
        scan = read_scan(path)
    except InputError as error:
        refused = error
    if refused is None:
        assert scan.volume.array.dtype == np.float32
        assert np.isfinite(scan.volume.array).all()
        assert abs(np.linalg.det(scan.volume.affine)) > 0
        if scan.volume.grid.voxel_volume_ml * scan.volume.array.size < 1000:
            canonical = to_canonical(scan.volume)
            from_canonical(canonical.volume.array, canonical)
    else:
        assert "\n" not in str(refused)
        assert refused.cause
        assert refused.remedy
    assert time.perf_counter() - started < MOST_SECONDS
    return refused is None


def write_series(folder: Path, originals: dict[str, bytes], damaged: bytes) -> Path:
    """The DICOM series with its fourth slice ``damaged``."""
    folder.mkdir(exist_ok=True)
    for name, data in originals.items():
        if name.endswith("dcm"):
            (folder / name).write_bytes(damaged if name == "3.dcm" else data)
    return folder
