"""FreeSurfer's volumes (.mgh, .mgz): reading only.

Source: FreeSurfer's wiki, FsTutorial/MghFormat, and utils/mri.cpp (mghRead, MRIxfmCRS2XYZ).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .checks import check_affine, check_shape, checked_scan
from .compressed import COPY_AGAIN, TRUNCATED, Layers, read_exactly
from .scan import Scan

_HEADER = 284  # bytes before the voxels
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_FIELDS = np.dtype(
    [
        ("version", ">i4"), ("shape", ">i4", (3,)), ("frames", ">i4"), ("type", ">i4"),
        ("dof", ">i4"), ("good", ">i2"), ("spacing", ">f4", (3,)), ("axes", ">f4", (3, 3)),
        ("centre", ">f4", (3,)),
    ]
)  # fmt: skip


def read_mgh(path: Path, *, allow_constant: bool = False) -> Scan:
    """Reads one .mgh or .mgz file; see ``read_scan`` for what is returned and raised."""
    size = path.stat().st_size
    if size == 0:
        raise InputError(path, "the file is empty (0 bytes)", COPY_AGAIN)
    with path.open("rb", buffering=0) as file:
        layers = Layers(file, path, _HEADER)
        if len(layers.start) < _HEADER or int.from_bytes(layers.start[:4], "big") != 1:
            raise InputError(
                path, "this is not a FreeSurfer volume (wrong first bytes)", "Check the file"
            )
        header = np.frombuffer(layers.start, _FIELDS, count=1)[0]
        shape = check_shape(path, (*(int(n) for n in header["shape"]), int(header["frames"])))
        kind = _TYPES.get(int(header["type"]))
        if kind is None:
            raise InputError(
                path,
                f"voxels of FreeSurfer's type {int(header['type'])} are not supported",
                "Convert it with mri_convert --out_data_type float",
            )
        affine, warnings = _affine(header, shape)
        check_affine(path, affine, shape)  # before anything is allocated
        needed = shape[0] * shape[1] * shape[2] * np.dtype(kind).itemsize
        if _HEADER + needed > layers.most_bytes(size):
            raise InputError(
                path, f"{TRUNCATED} (its header announces {_HEADER + needed} bytes)", COPY_AGAIN
            )
        data = read_exactly(layers.stream, needed)
        if len(data) < needed:
            raise InputError(
                path, f"{TRUNCATED} ({len(data) / needed:.0%} of the voxels are there)", COPY_AGAIN
            )
        layers.stream.check_end()
    array = np.frombuffer(data, kind).reshape(shape[::-1])
    return checked_scan(
        path,
        array.astype(np.float32),
        affine,
        format="mgh",
        warnings=(*warnings, *layers.warnings),
        header={"dtype": np.dtype(kind).newbyteorder("=").name},
        allow_constant=allow_constant,
    )


def _affine(header: np.void, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], list[str]]:
    """(affine ijk -> RAS mm, warnings). Without good geometry FreeSurfer itself takes a coronal
    volume of 1 mm."""
    if int(header["good"]) > 0:
        # The file holds the RAS vectors of the axes one after the other.
        axes = header["axes"].astype(np.float64).T * header["spacing"].astype(np.float64)
        centre, warnings = header["centre"].astype(np.float64), []
    else:
        axes = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
        centre, warnings = np.zeros(3), [
            "the header states no geometry; FreeSurfer's coronal 1 mm are assumed, "
            "so left and right may be exchanged and volumes wrong"
        ]  # fmt: skip
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = centre - axes @ (np.asarray(shape) / 2.0)
    return affine, warnings
