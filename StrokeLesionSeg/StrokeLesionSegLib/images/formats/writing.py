"""Writing volumes: in the input's own grid and codes, complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...errors import InputError
from ...file_formats import format_of, written_endings
from ...outputs import atomic_file, os_input_error
from ..volume import Volume
from .checks import SHEAR_COSINE, shear_of
from .nifti_header import DATA_TYPES, HEADER_TYPES, quaternion, sizes_apart
from .scan import Scan

# Masks and probability maps are mostly zeros: higher levels cost time and save next to nothing.
_GZIP_LEVEL = 3
_STEP = 1 << 22
_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL


@dataclass(frozen=True)
class NiftiFields:
    """What a NIfTI header is to say beside type and grid.

    Attributes
    ----------
    name: its ``intent_name``, at most 15 bytes.
    version: 2 keeps an affine in double precision; None is that of the scan that the volume belongs
        to, or 1.
    code: of the coordinates (4: MNI152); None is that of the scan, or 1, the scanner's.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import NiftiFields, Volume, read_scan, write_volume
    >>> mask = Volume(np.ones((4, 4, 4), np.uint8), np.eye(4))
    >>> write_volume("mask.nii", mask, nifti=NiftiFields(name="lesion mask", code=4))
    >>> read_scan("mask.nii", allow_constant=True).volume.array.shape
    (4, 4, 4)
    """

    name: str | None = None
    version: int | None = None
    code: int | None = None


@dataclass(frozen=True)
class Request:
    """What a writer is asked for beside the volume: ``write_volume``'s arguments.

    ``path`` is where the file will be and what messages name; ``like`` and ``nifti`` are for
    formats that can keep them.
    """

    path: Path
    like: Scan | None
    nifti: NiftiFields


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """``InputError`` if a file cannot be written at ``path``, as far as a look can tell.

    For callers that want to know before they compute for seconds.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import check_output
    >>> check_output("new.nii.gz")
    >>> check_output("missing/new.nii.gz")
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: missing/new.nii.gz: its folder does not exist...
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(path, "is a folder", "Give the name of a file to write")
        if path.exists() and not overwrite:
            raise InputError(path, "exists already", "Choose another name or pass --overwrite")
        if not path.parent.is_dir():
            raise InputError(path, "its folder does not exist", f"Create {path.parent} first")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise os_input_error(error, path) from error


def check_grid(path: str | os.PathLike[str], affine: NDArray[np.float64]) -> None:
    """``InputError`` if the format of ``path`` cannot hold the grid of ``affine`` (ijk to RAS mm).

    ITK's images, which NRRD and MetaImage are written from, know no sheared axes.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import check_grid
    >>> check_grid("mask.nrrd", np.diag([2.0, 2.0, 2.0, 1.0]))
    """
    format = format_of(Path(path).name)
    if format is not None and not format.sheared and shear_of(affine) > SHEAR_COSINE:
        raise InputError(
            path, "a sheared grid cannot be stored in this format", "Write .nii.gz instead"
        )


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """:func:`outputs.atomic_file`, once :func:`check_output` finds nothing against ``path``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import atomic_output
    >>> with atomic_output("numbers.txt") as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> Path("numbers.txt").read_text()
    '1 2 3'
    """
    check_output(path, overwrite=overwrite)
    with atomic_file(path) as temporary:
        yield temporary


def write_volume(
    path: str | os.PathLike[str],
    volume: Volume,
    *,
    like: Scan | None = None,
    dtype: Any = None,
    overwrite: bool = False,
    nifti: NiftiFields | None = None,
) -> None:
    """Writes ``volume`` to .nii, .nii.gz, .nrrd or .mha, whichever ``path`` ends in.

    ``like`` is the scan that the volume belongs to: if it was NIfTI and the grid is the same, its
    sform and qform (codes and values), units and NIfTI version are kept to the bit. ``dtype``
    is the stored type (default: the array's own; bool becomes uint8); floats are rounded on the
    way to an integer type. Integer volumes get NIfTI's intent code of a label map; ``nifti`` says
    what else its header holds.

    The file appears under its name only when it is complete. The bytes depend on nothing but
    the arguments (no time stamps).

    Raises ``InputError`` if the file exists and ``overwrite`` is false, for other suffixes, and
    when the disk is full or the folder not writable; ``ValueError`` if the values do not fit
    ``dtype``.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, read_scan, write_volume
    >>> mask = Volume(np.ones((4, 4, 4), bool), np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> write_volume("mask.nrrd", mask)
    >>> read_scan("mask.nrrd", allow_constant=True).header["dtype"]
    'uint8'
    """
    path = Path(path)
    format = format_of(path.name)
    if format is None or not path.name.lower().endswith(format.written):
        raise InputError(
            path,
            "is a folder"
            if path.is_dir()
            else f"cannot write {path.suffix or 'a file without a suffix'}",
            f"Let the name end in {', '.join(written_endings())}",
        )
    check_grid(path, volume.affine)
    with atomic_output(path, overwrite=overwrite) as temporary:
        stored = Volume(_as_type(volume.array, dtype), volume.affine)
        format.write()(temporary, stored, Request(path, like, nifti or NiftiFields()))


def _as_type(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    wanted = np.dtype(dtype if dtype is not None else array.dtype)
    if wanted == np.bool_:
        wanted = np.dtype(np.uint8)
    if wanted == np.float16:
        wanted = np.dtype(np.float32)
    if wanted.kind in "iu" and array.dtype.kind != "b" and wanted != array.dtype:
        limits = np.iinfo(wanted)
        rounded = np.rint(array) if array.dtype.kind == "f" else array
        # Written so that NaN fails too.
        if rounded.size and not (rounded.min() >= limits.min and rounded.max() <= limits.max):
            raise ValueError(f"values from {array.min()} to {array.max()} do not fit {wanted}")
        array = rounded
    return np.ascontiguousarray(array, dtype=wanted)


def write_nifti(path: Path, volume: Volume, request: Request) -> None:
    """Writes ``volume``, of a type that NIfTI knows, to ``path`` (.nii or .nii.gz)."""
    array = volume.array
    nifti = request.nifti
    header = nifti_header(volume, array.dtype, request.like, nifti.name, nifti.version)
    if nifti.code is not None:
        header["sform_code"] = header["qform_code"] = nifti.code
    data = array.astype(array.dtype.newbyteorder("<"), copy=False)
    start = header.tobytes() + b"\0\0\0\0"  # no extensions
    body = data.data.cast("B") if data.size else memoryview(b"")
    with path.open("xb") as file:
        if path.name.lower().endswith(".gz"):
            _write_gzip(file, start, body)
        else:
            file.write(start)
            file.write(body)


def _write_gzip(file: BinaryIO, start: bytes, body: memoryview) -> None:
    # wbits 31: a gzip stream whose header holds no name and no time, so equal input, equal bytes.
    deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    file.write(deflate.compress(start))
    for at in range(0, len(body), _STEP):
        file.write(deflate.compress(body[at : at + _STEP]))
    file.write(deflate.flush())


def nifti_header(
    volume: Volume,
    dtype: np.dtype[Any],
    like: Scan | None,
    name: str | None = None,
    version: int | None = None,
) -> NDArray[np.void]:
    """The little-endian header of a NIfTI file that holds ``volume`` as ``dtype``."""
    source = _source_header(like)
    version = version or (1 if like is None else like.header.get("nifti_version", 1))
    shape = volume.array.shape[::-1]
    if max(shape) > 32767:
        version = 2
    header = np.zeros((), dtype=HEADER_TYPES[version])
    header["sizeof_hdr"] = header.dtype.itemsize
    if version == 1:
        header["magic"] = b"n+1"
        header["regular"] = b"r"
        header["vox_offset"] = 352
    else:
        header["magic"] = b"n+2\0\r\n\x1a\n"
        header["vox_offset"] = 544
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    header["datatype"] = next(c for c, t in DATA_TYPES.items() if np.dtype(t) == dtype)
    header["bitpix"] = dtype.itemsize * 8
    header["scl_slope"] = 1
    header["descrip"] = f"StrokeLesionSeg {__version__}".encode()
    if dtype.kind in "iu":
        header["intent_code"] = _LABEL_INTENT
    if name:
        header["intent_name"] = name.encode()[:15]
    same = like is not None and volume.grid.same_as(like.volume.grid, 1e-6)
    # A header that contradicts itself is not repeated.
    if source is not None and same and not _contradicts_itself(source):
        header["pixdim"] = [*source["pixdim"][:4], 1, 1, 1, 1]
        header["xyzt_units"] = source["xyzt_units"]
        forms = ["quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"]
        for field in ["qform_code", "sform_code", "srow_x", "srow_y", "srow_z", *forms]:
            header[field] = source[field]
        return header
    _set_forms(header, volume.affine, source)
    return header


def _contradicts_itself(source: np.void) -> bool:
    zooms = np.asarray(source["pixdim"][1:4], dtype=np.float64)
    stated = bool(np.isfinite(zooms).all() and (zooms > 0).all())
    return int(source["sform_code"]) > 0 and (not stated or bool(sizes_apart(source)))


def _source_header(like: Scan | None) -> np.void | None:
    if like is None or "nifti" not in like.header:
        return None
    kind = HEADER_TYPES[like.header["nifti_version"]].newbyteorder(like.header["byteorder"])
    return np.frombuffer(like.header["nifti"], kind, count=1)[0]


def _set_forms(
    header: NDArray[np.void], affine: NDArray[np.float64], source: np.void | None
) -> None:
    """sform and, for axes at right angles, qform from ``affine``; codes as in ``source``."""
    code = 1  # scanner coordinates
    if source is not None and max(int(source["sform_code"]), int(source["qform_code"])) > 0:
        code = max(int(source["sform_code"]), 0) or int(source["qform_code"])
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    axes = affine[:3, :3] / spacing
    (b, c, d), qfac = quaternion(axes)
    header["pixdim"] = [qfac, *spacing, 1, 1, 1, 1]
    header["xyzt_units"] = 2  # mm
    header["sform_code"] = code
    for row, axis in enumerate("xyz"):
        header[f"srow_{axis}"] = affine[row]
        header[f"qoffset_{axis}"] = affine[row, 3]
    # A qform cannot hold shear, and no qform is better than a wrong one.
    straight = np.abs(axes.T @ axes - np.eye(3)).max() < 1e-4
    header["qform_code"] = code if straight else 0
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = b, c, d
