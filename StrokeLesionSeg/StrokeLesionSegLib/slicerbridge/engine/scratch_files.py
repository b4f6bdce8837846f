"""The images that go to the engine and come back: plain, uncompressed NIfTI.

They go out as NIfTI-2, whose affine has double precision: a scan that Slicer has turned into a
right-handed one then keeps its place to the last bit that counts, and gets the mask that the
command line makes of its file. Coming back, the engine's own reader is of no use: it is for scans
and refuses constant images, which a mask without lesions is.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...images.volume import Volume

_CODES = {
    "uint8": 2,
    "int16": 4,
    "int32": 8,
    "float32": 16,
    "float64": 64,
    "int8": 256,
    "uint16": 512,
    "uint32": 768,
    "int64": 1024,
    "uint64": 1280,
}
_TYPES = {code: name for name, code in _CODES.items()}
_MAGIC2 = b"n+2\0\r\n\032\n"
_OFFSET = 544
_MILLIMETRES, _ALIGNED = 2, 2


def write_scratch(path: Path, volume: Volume) -> None:
    """Write a volume as NIfTI-2, little endian, in its own voxel type (else as float32)."""
    array = volume.array
    name = array.dtype.name if array.dtype.name in _CODES else "float32"
    header = bytearray(_OFFSET)
    k, j, i = array.shape
    struct.pack_into("<i8shh", header, 0, 540, _MAGIC2, _CODES[name], np.dtype(name).itemsize * 8)
    struct.pack_into("<8q", header, 16, 3, i, j, k, 1, 1, 1, 1)
    struct.pack_into("<8d", header, 104, 1.0, *volume.spacing, 0, 0, 0, 0)
    struct.pack_into("<qdd", header, 168, _OFFSET, 1.0, 0.0)
    struct.pack_into("<ii", header, 344, 0, _ALIGNED)
    struct.pack_into("<12d", header, 400, *np.ravel(volume.affine[:3]))
    struct.pack_into("<i", header, 500, _MILLIMETRES)
    with open(path, "wb") as file:
        file.write(header)
        np.ascontiguousarray(array, dtype=np.dtype(name).newbyteorder("<")).tofile(file)


def read_scratch(path: Path, shape: tuple[int, int, int]) -> NDArray[Any]:
    """(K, J, I) voxels of an uncompressed NIfTI-1 or -2 file that the engine has just written.

    Raises ``ValueError`` if the file is not what was asked for.
    """
    with open(path, "rb") as file:
        header = file.read(540)
    size = struct.unpack("<i", header[:4])[0] if len(header) >= 348 else 0
    if size == 348:
        dimensions: tuple[int, ...] = struct.unpack("<8h", header[40:56])
        code = struct.unpack("<h", header[70:72])[0]
        offset = int(struct.unpack("<f", header[108:112])[0])
    elif size == 540 and len(header) == 540:
        dimensions = struct.unpack("<8q", header[16:80])
        code = struct.unpack("<h", header[12:14])[0]
        offset = struct.unpack("<q", header[168:176])[0]
    else:
        raise ValueError(f"{path.name} is not the NIfTI file that was asked for")
    if code not in _TYPES or tuple(dimensions[3:0:-1]) != tuple(shape):
        raise ValueError(f"{path.name} has another grid or type than the image")
    kind = np.dtype(_TYPES[code]).newbyteorder("<")
    array = np.fromfile(path, dtype=kind, offset=offset)
    if array.size != int(np.prod(shape)):
        raise ValueError(f"{path.name} is incomplete")
    return array.reshape(shape).astype(np.dtype(_TYPES[code]), copy=False)
