"""Twenty files and folders that look like scans and cannot be used, each in a way of its own."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import cli_support
import nibabel
import numpy as np


def write_bad_scans(folder: Path) -> list[str]:
    """Write them into ``folder``; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    array = cli_support.head_array()
    good = cli_support.write_head(folder / "good.nii")
    plain = good.read_bytes()
    good.unlink()

    def save(name: str, data: np.ndarray, affine: np.ndarray = cli_support.AFFINE) -> None:
        nibabel.save(nibabel.Nifti1Image(data, affine), folder / name)

    def header(name: str, offset: int, form: str, *values: object) -> None:
        changed = bytearray(plain)
        struct.pack_into(form, changed, offset, *values)
        (folder / name).write_bytes(bytes(changed))

    (folder / "bad01_cut_gzip.nii.gz").write_bytes(gzip.compress(plain)[:5000])
    (folder / "bad02_empty.nii").write_bytes(b"")
    (folder / "bad03_html.nii.gz").write_text("<html>404 not found</html>")
    (folder / "bad04_gone.nii.gz").symlink_to(folder / "nowhere")
    save("bad05_constant.nii.gz", np.full(cli_support.SHAPE, 7, np.int16))
    (folder / "bad06_analyze.hdr").write_bytes(plain[:348])
    (folder / "bad07_dicom").mkdir()
    (folder / "bad07_dicom" / "image.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    save("bad08_nan.nii", np.full(cli_support.SHAPE, np.nan, np.float32))
    header("bad09_huge.nii", 40, "<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    header("bad10_negative.nii", 40, "<8h", 3, -40, 46, 32, 1, 1, 1, 1)
    save("bad11_series.nii.gz", np.stack([array] * 5, axis=-1))
    save("bad12_slice.nii", array[:, :, 16:17])
    header("bad13_type.nii", 70, "<h", 9999)
    start = (
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 40 46 32\nspacings: 1 1 1\nencoding: raw\n"
    )
    (folder / "bad14_cut.nrrd").write_bytes(start + b"endian: little\n\n" + b"\0" * 100)
    (folder / "bad15_no_data.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    (folder / "bad16_detached.nhdr").write_bytes(
        start + b"endian: little\ndata file: not_there.raw\n"
    )
    header("bad17_magic.nii", 344, "<4s", b"xx1\0")
    (folder / "bad18_cut.nii").write_bytes(plain[: len(plain) // 2])
    (folder / "bad19_circle.nii.gz").symlink_to(folder / "bad19_circle.nii.gz")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "bad20_pipe.nii.gz")
    else:
        (folder / "bad20_pipe.nii.gz").write_bytes(b"\0" * 400)
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("bad"))
