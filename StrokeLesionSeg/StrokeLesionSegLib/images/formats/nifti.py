"""Reading single-file NIfTI-1 and NIfTI-2 images (.nii, also compressed), with numpy alone.

Own code because Slicer's Python has no nibabel and its SimpleITK hides the sform and qform codes;
nibabel is the witness in the tests. Voxels are decompressed, scaled and checked block by block
into the one float32 array that is returned, so nothing is held twice.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..volume import Grid, Volume
from .checks import check_affine, check_range, check_shape, nonfinite_warning
from .compressed import BLOCK, COPY_AGAIN, TRUNCATED, Layers, Stream, read_exactly
from .foreign import refuse_foreign
from .nifti_header import best_affine, data_type, header_shape, parse_header, unit_notes
from .scan import Scan

# Intent codes of the files of CIFTI-2 (dense, parcellated, time series, connectivity).
_CIFTI = range(3001, 3013)


def read_nifti(path: Path, *, allow_constant: bool = False) -> Scan:
    """Reads one NIfTI file; how it is compressed is told from its first bytes, not its name.

    Returns a ``Scan`` whose array is float32 (K, J, I) after ``scl_slope`` and ``scl_inter``
    (slope 0 or NaN: unscaled), with the affine that nibabel calls the best one: sform, else
    qform, else LAS axes centred in the volume.

    Raises ``InputError`` for damaged, colour, complex, 2D, multi-frame, empty or constant images,
    a missing voxel spacing, a singular affine, and more than half the voxels not finite.
    ``OSError`` from opening the file is left to ``read_scan``.
    """
    size = path.stat().st_size
    if size == 0:
        raise InputError(path, "the file is empty (0 bytes)", COPY_AGAIN)
    with path.open("rb", buffering=0) as file:
        layers = Layers(file, path, 540)
        start, stream = layers.start, layers.stream
        refuse_foreign(path, start)
        try:
            header, version, order = parse_header(path, start)
        except InputError:
            stream.check_end()  # a damaged stream is the better reason
            raise
        if int(header["intent_code"]) in (1007, 1008) and header_shape(header)[4:5] > (1,):
            raise InputError(
                path, "this is a vector field, not a T1-weighted scan", "Give the scan itself"
            )
        if int(header["intent_code"]) in _CIFTI:
            raise InputError(
                path,
                "this is a CIFTI file: values on surfaces, not an image",
                "Give the T1-weighted scan itself",
            )
        shape = check_shape(path, header_shape(header))
        kind = data_type(path, header, order)
        raw_offset = float(header["vox_offset"])
        least = 352 if version == 1 else 544
        if not np.isfinite(raw_offset) or raw_offset < least or raw_offset > 2**40:
            # Some writers leave vox_offset at 0 and mean the end of the header.
            if raw_offset != 0:
                raise InputError(
                    path,
                    f"the header says that the voxels begin at byte {raw_offset:g}",
                    COPY_AGAIN,
                )
            raw_offset = least
        offset = int(raw_offset)
        voxels = shape[0] * shape[1] * shape[2]
        needed = offset + voxels * kind.itemsize
        if needed > layers.most_bytes(size):
            raise InputError(
                path,
                f"{TRUNCATED} (its header announces {needed} bytes, it has {size}"
                f"{' compressed' if layers.names else ''})",
                COPY_AGAIN,
            )
        affine, warnings = best_affine(path, header, shape)
        warnings += [*check_affine(path, affine, shape), *unit_notes(header), *layers.warnings]
        skip = offset - len(start)
        lead = b""
        if skip < 0:
            lead = start[offset:]
        elif len(read_exactly(stream, skip)) < skip:
            raise InputError(path, f"{TRUNCATED} (it ends before its voxels)", COPY_AGAIN)
        slope, inter, notes = _scaling(header)
        warnings += notes
        values, low, high, bad = _read_voxels(path, stream, lead, kind, voxels, slope, inter)
        stream.check_end()
    warnings += nonfinite_warning(path, bad, voxels, any_number=allow_constant)
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


def nifti_grid(path: str | os.PathLike[str]) -> Grid | None:
    """The grid that a NIfTI file's header states, without its voxels; None if it states none, or is
    no NIfTI header that can be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            start = Layers(file, Path(path), 540).start
        header, _version, _order = parse_header(path, start)
        i, j, k = header_shape(header)[:3]
        affine, _warnings = best_affine(path, header, (i, j, k))
    except (OSError, EOFError, ValueError, zlib.error, InputError):
        return None
    return Grid((k, j, i), affine) if abs(np.linalg.det(affine[:3, :3])) > 0 else None


def _scaling(header: np.void) -> tuple[float, float, list[str]]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0, []
    if not np.isfinite(inter):
        return slope, 0.0, ["scl_inter is not a number and was taken as 0"]
    return slope, inter, []


def _blocks(
    path: Path, stream: Stream, lead: bytes, kind: np.dtype, voxels: int
) -> Iterator[NDArray[Any]]:
    """The stored voxels in order, a block of whole items at a time."""
    left = voxels * kind.itemsize
    pending = lead[:left]
    while left:
        if len(pending) < min(kind.itemsize, left) or not pending:
            data = stream.read(min(BLOCK, left - len(pending)))
            if not data:
                have = 1 - left / (voxels * kind.itemsize)
                raise InputError(
                    path, f"{TRUNCATED} ({have:.0%} of the voxels are there)", COPY_AGAIN
                )
            pending = pending + data if pending else data
        whole = len(pending) - len(pending) % kind.itemsize
        if whole:
            yield np.frombuffer(pending, kind, count=whole // kind.itemsize)
            left -= whole
            pending = pending[whole:]


def _read_voxels(
    path: Path,
    stream: Stream,
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
