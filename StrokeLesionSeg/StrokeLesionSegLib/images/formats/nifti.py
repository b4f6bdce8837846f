"""Reading single-file NIfTI-1 and NIfTI-2 images (.nii, .nii.gz), with numpy and zlib alone.

Own code because Slicer's Python has no nibabel and its SimpleITK hides the sform and qform codes;
nibabel is the witness in the tests. Voxels are decompressed, scaled and checked block by block
into the one float32 array that is returned, so nothing is held twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..volume import Volume
from .checks import check_affine, check_range, check_shape, nonfinite_warning
from .nifti_header import best_affine, data_type, header_shape, parse_header
from .scan import Scan
from .size_limits import DEFLATE_LIMIT

_BLOCK = 1 << 18  # bytes of output per step: stays in a core's cache
_FEED = 1 << 16  # compressed bytes per step
_TAIL = 1 << 20  # bytes behind the image that are read to reach the checksum of the gzip stream
_TRUNCATED = "the file is truncated or damaged"
_COPY_AGAIN = "Copy or download it again"


class _GzipStream:
    """Bounded decompression: never holds more than one block beyond what was asked for."""

    def __init__(self, file: BinaryIO, where: Path) -> None:
        self._file, self._where = file, where
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self.ended = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; empty only at the end of the stream."""
        while not self.ended:
            if not self._pending:
                self._pending = self._file.read(_FEED)
                if not self._pending and not self._inflate.eof:
                    # Output that zlib still holds comes before the verdict.
                    rest = self._decompress(b"", size)
                    if rest:
                        return rest
                    raise InputError(
                        self._where, f"{_TRUNCATED} (the gzip stream stops early)", _COPY_AGAIN
                    )
            if self._inflate.eof:
                # Several gzip members in a row are one stream (bgzip, pigz); what else may follow
                # the last member is padding.
                self._pending = self._pending.lstrip(b"\0")
                if not self._pending:
                    more = self._file.read(_FEED)
                    self._pending = more.lstrip(b"\0")
                    if more:
                        continue
                if not self._pending.startswith(b"\x1f"):
                    self.ended = True
                    break
                self._inflate = zlib.decompressobj(wbits=31)
            data = self._decompress(self._pending, size)
            self._pending = self._inflate.unconsumed_tail or self._inflate.unused_data
            if data:
                return data
        return b""

    def _decompress(self, data: bytes, size: int) -> bytes:
        try:
            return self._inflate.decompress(data, size)
        except zlib.error as error:
            raise InputError(self._where, f"{_TRUNCATED} (gzip: {error})", _COPY_AGAIN) from error

    def check_end(self) -> None:
        """Reads on to the end, so that the checksum of what was read is verified."""
        left = _TAIL
        while left > 0:
            data = self.read(min(left, _BLOCK))
            if not data:
                return
            left -= len(data)


class _PlainStream:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def check_end(self) -> None:
        return None


def _read_exactly(stream: _GzipStream | _PlainStream, size: int) -> bytes:
    parts, left = [], size
    while left:
        data = stream.read(left)
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def read_nifti(path: Path, *, allow_constant: bool = False) -> Scan:
    """Reads one NIfTI file; whether it is gzipped is told from its first bytes, not its name.

    Returns a ``Scan`` whose array is float32 (K, J, I) after ``scl_slope`` and ``scl_inter``
    (slope 0 or NaN: unscaled), with the affine that nibabel calls the best one: sform, else
    qform, else LAS axes centred in the volume.

    Raises ``InputError`` for damaged, colour, complex, 2D, multi-frame, empty or constant images,
    a missing voxel spacing, a singular affine, and more than half the voxels not finite.
    ``OSError`` from opening the file is left to ``read_scan``.
    """
    size = path.stat().st_size
    if size == 0:
        raise InputError(path, "the file is empty (0 bytes)", _COPY_AGAIN)
    with path.open("rb", buffering=0) as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = _GzipStream(file, path) if gzipped else _PlainStream(file)
        start = _read_exactly(stream, 540)
        header, version, order = parse_header(path, start)
        if int(header["intent_code"]) in (1007, 1008) and header_shape(header)[4:5] > (1,):
            raise InputError(
                path, "this is a vector field, not a T1-weighted scan", "Give the scan itself"
            )
        shape = check_shape(path, header_shape(header))
        kind = data_type(path, header, order)
        raw_offset = float(header["vox_offset"])
        least = 352 if version == 1 else 544
        if not np.isfinite(raw_offset) or raw_offset < least or raw_offset > 2**40:
            # Some writers leave vox_offset at 0 and mean the end of the header.
            if raw_offset != 0:
                raise InputError(
                    path, f"the header puts the voxels at byte {raw_offset:g}", _COPY_AGAIN
                )
            raw_offset = least
        offset = int(raw_offset)
        voxels = shape[0] * shape[1] * shape[2]
        needed = offset + voxels * kind.itemsize
        if needed > (size * DEFLATE_LIMIT if gzipped else size):
            raise InputError(
                path,
                f"{_TRUNCATED} (its header announces {needed} bytes, it has {size}"
                f"{' compressed' if gzipped else ''})",
                _COPY_AGAIN,
            )
        affine, warnings = best_affine(path, header, shape)
        warnings += check_affine(path, affine, shape)
        skip = offset - len(start)
        lead = b""
        if skip < 0:
            lead = start[offset:]
        elif len(_read_exactly(stream, skip)) < skip:
            raise InputError(path, f"{_TRUNCATED} (it ends before its voxels)", _COPY_AGAIN)
        slope, inter, notes = _scaling(header)
        warnings += notes
        values, low, high, bad = _read_voxels(path, stream, lead, kind, voxels, slope, inter)
        stream.check_end()
    warnings += nonfinite_warning(path, bad, voxels)
    if not allow_constant:
        check_range(path, low, high)
    facts = {
        "dtype": kind.newbyteorder("=").name,
        "nifti": header.tobytes(),
        "nifti_version": version,
        "byteorder": order,
    }
    volume = Volume(values.reshape(shape[::-1]), affine)
    return Scan(volume, path, "nifti", tuple(warnings), facts)


def _scaling(header: np.void) -> tuple[float, float, list[str]]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0, []
    if not np.isfinite(inter):
        return slope, 0.0, ["scl_inter is not a number and was taken as 0"]
    return slope, inter, []


def _blocks(
    path: Path, stream: _GzipStream | _PlainStream, lead: bytes, kind: np.dtype, voxels: int
) -> Iterator[NDArray[Any]]:
    """The stored voxels in order, a block of whole items at a time."""
    left = voxels * kind.itemsize
    pending = lead[:left]
    while left:
        if len(pending) < min(kind.itemsize, left) or not pending:
            data = stream.read(min(_BLOCK, left - len(pending)))
            if not data:
                have = 1 - left / (voxels * kind.itemsize)
                raise InputError(
                    path, f"{_TRUNCATED} ({have:.0%} of the voxels are there)", _COPY_AGAIN
                )
            pending = pending + data if pending else data
        whole = len(pending) - len(pending) % kind.itemsize
        if whole:
            yield np.frombuffer(pending, kind, count=whole // kind.itemsize)
            left -= whole
            pending = pending[whole:]


def _read_voxels(
    path: Path,
    stream: _GzipStream | _PlainStream,
    lead: bytes,
    kind: np.dtype,
    voxels: int,
    slope: float,
    inter: float,
) -> tuple[NDArray[np.float32], float, float, int]:
    """(float32 values, lowest, highest, number of non-finite ones that became 0)."""
    try:
        values = np.empty(voxels, dtype=np.float32)
    except MemoryError as error:
        raise InputError(
            path, f"its {voxels} voxels do not fit into memory", "Use a machine with more memory"
        ) from error
    scaled = slope != 1.0 or inter != 0.0
    may_be_bad = kind.kind == "f" or scaled
    low, high, bad, at = np.inf, -np.inf, 0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for block in _blocks(path, stream, lead, kind, voxels):
            part = values[at : at + block.size]
            at += block.size
            if scaled:
                # In float64, so that large offsets do not eat the small differences.
                part[:] = block * np.float64(slope) + np.float64(inter)
            else:
                part[:] = block
            lowest, highest = part.min(), part.max()
            if may_be_bad and not np.isfinite(lowest + highest):
                finite = np.isfinite(part)
                bad += int(part.size - finite.sum())
                np.nan_to_num(part, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
                lowest, highest = part.min(), part.max()
            low, high = min(low, float(lowest)), max(high, float(highest))
    return values, low, high, bad
