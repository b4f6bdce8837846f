"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), through SimpleITK.

SimpleITK fills in what a header leaves out (spacing 1, identity axes) without a word, so the
text header is looked at first.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..volume import Volume
from .checks import MAX_VOXELS, check_shape, checked_scan
from .plain_data import (
    BZIP2,
    READABLE_NRRD,
    named_literally,
    plain_metaimage,
    plain_nrrd,
    text_header,
    whole_number,
)
from .scan import Scan
from .size_limits import check_promise, data_file_below, path_below

if TYPE_CHECKING:
    import SimpleITK

    from .writing import Request

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: What ends the header of a NRRD file.
NRRD_END = re.compile(rb"\r?\n\r?\n")
_META_END = re.compile(rb"(?m)^[ \t]*ElementDataFile[^\n]*(\n|\Z)")
_COPY_AGAIN = "Copy or download it again"
_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8",
                     "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t",
                     "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32",
                     "uint32_t", "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long",
                     "signed long long int", "int64", "int64_t", "ulonglong",
                     "unsigned long long", "unsigned long long int", "uint64", "uint64_t",
                     "double"), 8),
}  # fmt: skip
_LONGEST_LIST = 1 << 20
_MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres", "???", "none")
_NO_ORIENTATION = (
    "the header states no orientation; LPS axes are assumed, so left and right may be exchanged"
)
_NO_SPACING = (
    "the header states no voxel spacing",
    "Set the voxel spacing in mm and the orientation in the header, "
    "or export the scan again from its DICOM files",
)


@dataclass(frozen=True)
class _Looked:
    """What a header says before ITK reads it, and, once entered, the path that ITK can read."""

    sizes: list[int]
    warnings: tuple[str, ...]
    readable: contextlib.AbstractContextManager[Path]


def read_itk(path: Path, *, allow_constant: bool = False) -> Scan:
    """Reads one NRRD or MetaImage file; see ``read_scan`` for what is returned and raised."""
    import SimpleITK as sitk

    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    start = text_header(path, NRRD_END if nrrd else _META_END)
    if not start:
        raise InputError(path, "the file is empty (0 bytes)", _COPY_AGAIN)
    looked = _look_at_nrrd(path, start) if nrrd else _look_at_metaimage(path, start)
    form, sizes = "nrrd" if nrrd else "metaimage", looked.sizes
    # Before ITK allocates anything for it.
    if math.prod(sizes) > MAX_VOXELS or min(sizes, default=1) < 1:
        check_shape(path, tuple(sizes) + (1,) * (3 - len(sizes)))
    with looked.readable as readable:
        image, kind = _read_image(path, readable)
    return checked_scan(
        path,
        sitk.GetArrayFromImage(image),
        affine_of(image),
        format=form,
        warnings=looked.warnings,
        header={"dtype": _numpy_name(kind)},
        allow_constant=allow_constant,
    )


def _read_image(path: Path, readable: Path) -> tuple[SimpleITK.Image, str]:
    """The scalar image in ``readable`` as float32, and its stored type; errors name ``path``."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(readable))
    loud = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader.ReadImageInformation()
        components = reader.GetNumberOfComponents()
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        if components > 1 and "complex" not in kind:
            raise InputError(
                path,
                f"the image has {components} components per voxel "
                "(colour, complex, vector or frames), "
                "but one is needed",
                "Extract the T1-weighted scan into a 3D scalar file of its own",
            )
        if "complex" in kind:
            raise InputError(
                path,
                f"voxels of {kind} type are not supported",
                "Convert it to a scalar image (integers or floats)",
            )
        check_shape(path, tuple(reader.GetSize()))
        reader.SetOutputPixelType(sitk.sitkFloat32)
        return reader.Execute(), kind
    except RuntimeError as error:
        raise InputError(
            path, f"the file is truncated, damaged or incomplete ({itk_reason(error)})", _COPY_AGAIN
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(loud)


def affine_of(image: SimpleITK.Image) -> NDArray[np.float64]:
    """ijk -> RAS mm of a SimpleITK image of three or more axes (the first three count)."""
    n = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(n, n)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return LPS_TO_RAS @ affine


def itk_reason(error: RuntimeError) -> str:
    """The one informative line of an ITK exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "ITK ERROR" in line] or lines or ["no reason given"]
    text = re.sub(r"^.*ITK ERROR: *", "", named[-1])
    return re.sub(r"\w+\(0x[0-9a-f]+\): *", "", text)[:200].rstrip(" .:")


def _numpy_name(kind: str) -> str:
    match = re.search(r"(\d+)-bit (unsigned|signed|float)", kind)
    if not match:
        return "float32"
    prefix = {"unsigned": "uint", "signed": "int", "float": "float"}[match[2]]
    return f"{prefix}{match[1]}"


def _look_at_nrrd(path: Path, start: bytes) -> _Looked:
    """A NRRD header (format definition: teem.sourceforge.net/nrrd)."""
    if not start.startswith(b"NRRD0"):
        raise InputError(path, "this is not a NRRD file (wrong first bytes)", "Check the file")
    text = NRRD_END.split(start, maxsplit=1)[0].decode("utf-8", "replace")
    fields = {}
    for line in text.splitlines()[1:]:
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower().replace("centerings", "centers")] = value.strip()
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in READABLE_NRRD | BZIP2:
        raise InputError(
            path,
            f"the NRRD encoding {encoding[:40]} is not supported",
            "Save it with gzip, for instance with 3D Slicer",
        )
    sizes = [int(n) for n in re.findall(r"\d+", fields.get("sizes", ""))]
    if 0 < len(sizes) < 3:
        check_shape(path, tuple(sizes))
    if math.prod(sizes) <= MAX_VOXELS:  # more is refused by its own name
        _check_nrrd_data(path, text, fields, sizes)
    directions = fields.get("space directions", "")
    spacings = fields.get("spacings", "")
    # A direction of an axis that lies nowhere in space is "none".
    vectors = [
        part for part in re.findall(r"\(([^()]*)\)", directions) if "nan" not in part.lower()
    ]
    stated = vectors or [s for s in spacings.split() if s.lower() != "nan"]
    if len(stated) < 3:
        raise InputError(path, *_NO_SPACING)
    units = re.findall(r'"([^"]*)"', fields.get("space units") or fields.get("units") or "")
    if other := next((u for u in units if u.strip().lower() not in _MILLIMETRES), None):
        raise InputError(
            path,
            f"the header gives lengths in {other[:20]}, not mm",
            "Save it with a voxel spacing in mm, for instance with 3D Slicer",
        )
    needed = math.prod(sizes) * _NRRD_BYTES.get(fields.get("type", "").lower(), 1)
    readable = plain_nrrd(path, start, fields, needed)
    notes = _nrrd_warnings(directions, fields.get("space", "").lower())
    if encoding == "raw" and not any("skip" in key or "data" in key for key in fields):
        notes += _surplus(path.stat().st_size - len(start), needed)
    return _Looked(sizes, notes, readable)


def _surplus(have: int, needed: int) -> tuple[str, ...]:
    """A warning if more voxels follow a header than it announces: one of both is wrong."""
    if have <= needed:
        return ()
    more = f"{have - needed} byte{'s' * (have - needed > 1)}"
    return (f"{more} more than the header announces; what is at the end is left out",)


def _nrrd_warnings(directions: str, space: str) -> tuple[str, ...]:
    if not directions:
        return (_NO_ORIENTATION,)
    known = ("right-anterior-superior", "ras", "left-anterior-superior", "las",
             "left-posterior-superior", "lps")  # fmt: skip
    if not space.startswith(known):
        return (
            f"the header names no anatomical space ({space or 'no space field'}); "
            "LPS is assumed, so left and right may be exchanged",
        )
    return ()


def _check_nrrd_data(path: Path, text: str, fields: dict[str, str], sizes: list[int]) -> None:
    """``InputError`` if the voxels cannot all be there, or lie in somebody else's folder."""
    name = fields.get("data file") or fields.get("datafile")
    if name is None:
        have = path.stat().st_size
    elif name.upper().startswith("LIST"):
        lines = re.split(r"(?im)^data ?file: ?LIST.*$", text, maxsplit=1)[1].splitlines()
        names = [line.strip() for line in lines if line.strip()]
        have = sum(data_file_below(path, other).stat().st_size for other in names)
    elif "%" in name and not named_literally(path, name):  # numbered files: ITK finds them
        path_below(path, name)
        return
    else:
        have = data_file_below(path, name).stat().st_size
    encoding = fields.get("encoding", "").lower()
    size = _NRRD_BYTES.get(fields.get("type", "").lower(), 1)
    if encoding == "raw":
        check_promise(path, math.prod(sizes) * size, have)
    elif encoding in ("gzip", "gz"):
        check_promise(path, math.prod(sizes) * size, have, compressed=True)
    elif encoding in ("text", "txt", "ascii", "hex"):  # a digit for each voxel at the least
        check_promise(path, math.prod(sizes), have)


def _look_at_metaimage(path: Path, start: bytes) -> _Looked:
    """A MetaImage header."""
    end = _META_END.search(start)
    if end is None or b"NDims" not in start[: end.start()]:
        raise InputError(path, "this is not a MetaImage file (no such header)", "Check the file")
    head = start[: end.start()]
    fields = {}
    for line in head.decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            fields[key.strip().lower()] = value.strip()
    sizes = [int(n) for n in re.findall(r"\d+", fields.get("dimsize", ""))]
    name = end.group().partition(b"=")[2].strip().decode("utf-8", "replace")
    notes: tuple[str, ...] = ()
    if math.prod(sizes) <= MAX_VOXELS:  # more is refused by its own name
        notes = _check_metaimage_data(path, end.end(), name, fields, sizes)
    if not fields.get("elementspacing") and not fields.get("elementsize"):
        raise InputError(path, *_NO_SPACING)
    oriented = any(fields.get(k) for k in ("transformmatrix", "orientation", "rotation"))
    warnings = () if oriented else (_NO_ORIENTATION,)
    warnings += notes
    return _Looked(sizes, warnings, plain_metaimage(path, head, name, end.end()))


def _check_metaimage_data(
    path: Path, header: int, name: str, fields: dict[str, str], sizes: list[int]
) -> tuple[str, ...]:
    """``InputError`` if the voxels are not all there; MetaIO would say so on stderr as well.
    Warnings if there are more.

    ``header`` is the header's length, ``name`` that of the data file in it.
    """
    if name.lower().startswith("list"):  # one file a slice
        with path.open("rb") as file:
            file.seek(header)
            rest = file.read(_LONGEST_LIST)
        for other in rest.decode("utf-8", "replace").split():
            data_file_below(path, other)
        return ()
    if "%" in name and not named_literally(path, name):  # numbered files: ITK finds them
        path_below(path, name)
        return ()
    local = name.lower() == "local"
    have = (path if local else data_file_below(path, name)).stat().st_size
    if local:
        have -= header
    size = _META_BYTES.get(fields.get("elementtype", "").upper(), 1)
    channels = whole_number(path, fields, "elementnumberofchannels", otherwise=1)
    needed = math.prod(sizes) * size * channels
    compressed = fields.get("compresseddata", "").lower() == "true"
    check_promise(path, needed, have, compressed=compressed)
    if compressed:
        check_promise(path, whole_number(path, fields, "compresseddatasize"), have)
    binary = fields.get("binarydata", "true").lower() == "true"
    if local and binary and not compressed and "headersize" not in fields:
        return _surplus(have, needed)
    return ()


def write_itk(target: Path, volume: Volume, request: Request) -> None:
    """Writes ``volume`` to ``target`` (.nrrd or .mha), compressed; errors name ``request.path``.

    The grid is not sheared (``check_grid``). Raises ``InputError`` where ITK fails.
    """
    import SimpleITK as sitk

    spacing = np.sqrt((volume.affine[:3, :3] ** 2).sum(axis=0))
    lps = LPS_TO_RAS @ volume.affine
    direction = lps[:3, :3] / spacing
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    try:
        sitk.WriteImage(image, os.fspath(target), useCompression=True, compressionLevel=3)
    except RuntimeError as error:
        raise InputError(
            request.path,
            f"cannot be written ({itk_reason(error)})",
            "Check that the disk is not full and that the folder may be written to",
        ) from error
