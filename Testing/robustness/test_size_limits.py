"""Small files that claim or hold gigabytes: refused before anybody allocates for them.

Read one after the other in a process that may have little memory; what it needed is looked at too.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cli_support
import pytest

LIB_ROOT = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory limits and /proc")

READER = """
import json, resource, sys
from pathlib import Path
import numpy, pydicom, SimpleITK
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024

begin = peak()
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30),) * 2)
said = {}
for name in sys.argv[1:]:
    try:
        read_scan(Path(name))
        said[name] = "read"
    except InputError as error:
        said[name] = error.cause
    except BaseException as error:
        said[name] = f"defect: {type(error).__name__}"
print(json.dumps({"said": said, "grown_mb": peak() - begin}))
"""

NRRD = (
    "NRRD0004\ntype: {type}\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nendian: little\n"
    "encoding: {encoding}\nspace origin: (0,0,0)\n\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    "CompressedData = {packed}\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
    "ElementSpacing = 1 1 1\nDimSize = {sizes}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)


def zeros_packed(size: int, wbits: int, start: bytes = b"") -> bytes:
    """``start`` and ``size`` zeros, deflated; a full flush makes every MiB the same bytes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, wbits)
    first = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    piece = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return first + piece * (size >> 20) + deflate.flush()


def nifti(shape: tuple[int, int, int], code: int = 4, bits: int = 16) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, 0.3, 0.3, 0.3, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<h", header, 254, 1)
    for row in range(3):
        struct.pack_into("<f", header, 280 + 16 * row + 4 * row, 0.3)
    header[344:348] = b"n+1\0"
    return bytes(header)


def dicom(folder: Path, uid: str, syntax: str, **changes: object) -> Path:
    """A series with other numbers in the headers, its pixels as they were."""
    import pydicom

    cli_support.write_dicom_series(folder, uid=uid)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        for name, value in changes.items():
            setattr(data, name, value)
        if syntax:
            data.file_meta.TransferSyntaxUID = syntax
            if syntax != "1.2.840.10008.1.2.1.99":
                data.PixelData = pydicom.encaps.encapsulate([bytes(64)])
                data["PixelData"].is_undefined_length = True
        data.save_as(path)
    return folder


def deflated_bomb(folder: Path) -> Path:
    """One file whose data set inflates to 2 GiB."""
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dicom(folder, "1.2.826.0.1.3680043.10.511.6.3", "")
    path = sorted(folder.iterdir())[0]
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    start = io.BytesIO()
    pydicom.dcmwrite(start, data, enforce_file_format=True)
    whole = start.getvalue()
    length = struct.unpack_from("<I", whole, 140)[0]
    # An element of unknown type that is all zeros, before everything else.
    element = b"\x08\x00\x01\x00UN\0\0" + struct.pack("<I", 0x80000000)
    path.write_bytes(whole[: 144 + length] + zeros_packed(1 << 31, -15, element))
    return folder


def test_files_that_unpack_to_absurd_sizes(tmp_path: Path) -> None:
    def file(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    half = "800 800 800"  # a gigabyte of shorts, within what is allowed at all
    short = bytes(4096)
    bombs = {
        file("claims.nii", nifti((800, 800, 800)) + short): "truncated",
        file("claims.nii.gz", gzip.compress(nifti((800, 800, 800)) + short)): "truncated",
        file("absurd.nii.gz", gzip.compress(nifti((32767, 32767, 32767)))): "no T1-weighted scan",
        file("holds.nii.gz", gzip.compress(nifti((1200, 1200, 1200)))
             + zeros_packed(1 << 30, 31)): "no T1-weighted scan",
        file("claims.nrrd", NRRD.format(type="short", sizes=half, encoding="raw").encode()
             + short): "truncated",
        file("packed.nrrd", NRRD.format(type="short", sizes=half, encoding="gzip").encode()
             + gzip.compress(short)): "truncated",
        file("absurd.nrrd", NRRD.format(type="double", sizes="9000 9000 9000",
             encoding="gzip").encode() + gzip.compress(short)): "no T1-weighted scan",
        file("claims.mha", META.format(packed="False", sizes=half).encode() + short): "truncated",
        file("packed.mha", META.format(packed="True", sizes=half).encode()
             + zlib.compress(short)): "truncated",
        file("absurd.mha", META.format(packed="True", sizes="65000 65000 65000").encode()
             + zlib.compress(short)): "no T1-weighted scan",
        str(dicom(tmp_path / "claims", "1.2.826.0.1.3680043.10.511.6.1", "", Rows=6000,
                  Columns=6000)): "not complete",
        str(dicom(tmp_path / "packed", "1.2.826.0.1.3680043.10.511.6.2",
                  "1.2.840.10008.1.2.5", Rows=6000, Columns=6000)): "not complete",
        str(dicom(tmp_path / "absurd", "1.2.826.0.1.3680043.10.511.6.4", "", Rows=65535,
                  Columns=65535)): "",
        str(deflated_bomb(tmp_path / "deflated")): "larger than 512 MB",
    }  # fmt: skip
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 8 << 20
    run = subprocess.run(
        [sys.executable, "-c", READER, *bombs],
        env={**os.environ, "PYTHONPATH": str(LIB_ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    result = json.loads(run.stdout)
    for name, expected in bombs.items():
        said = result["said"][name]
        assert said != "read", name
        assert not said.startswith("defect"), (name, said)
        assert expected in said, (name, said)
    assert result["grown_mb"] < 150
