"""The NIfTI-1 and NIfTI-2 headers: fields, data types and the geometry that they state.

Source: the reference headers nifti1.h (R. Cox, NIfTI DFWG, 2007) and nifti2.h (2011).
"""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .checks import corner_distance_mm

_NIFTI1 = np.dtype(
    [
        ("sizeof_hdr", "<i4"), ("data_type", "S10"), ("db_name", "S18"), ("extents", "<i4"),
        ("session_error", "<i2"), ("regular", "S1"), ("dim_info", "u1"), ("dim", "<i2", (8,)),
        ("intent_p1", "<f4"), ("intent_p2", "<f4"), ("intent_p3", "<f4"), ("intent_code", "<i2"),
        ("datatype", "<i2"), ("bitpix", "<i2"), ("slice_start", "<i2"), ("pixdim", "<f4", (8,)),
        ("vox_offset", "<f4"), ("scl_slope", "<f4"), ("scl_inter", "<f4"), ("slice_end", "<i2"),
        ("slice_code", "u1"), ("xyzt_units", "u1"), ("cal_max", "<f4"), ("cal_min", "<f4"),
        ("slice_duration", "<f4"), ("toffset", "<f4"), ("glmax", "<i4"), ("glmin", "<i4"),
        ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "<i2"), ("sform_code", "<i2"),
        ("quatern_b", "<f4"), ("quatern_c", "<f4"), ("quatern_d", "<f4"), ("qoffset_x", "<f4"),
        ("qoffset_y", "<f4"), ("qoffset_z", "<f4"), ("srow_x", "<f4", (4,)),
        ("srow_y", "<f4", (4,)), ("srow_z", "<f4", (4,)), ("intent_name", "S16"),
        ("magic", "S4"),
    ]
)  # fmt: skip
_NIFTI2 = np.dtype(
    [
        ("sizeof_hdr", "<i4"), ("magic", "S8"), ("datatype", "<i2"), ("bitpix", "<i2"),
        ("dim", "<i8", (8,)), ("intent_p1", "<f8"), ("intent_p2", "<f8"), ("intent_p3", "<f8"),
        ("pixdim", "<f8", (8,)), ("vox_offset", "<i8"), ("scl_slope", "<f8"),
        ("scl_inter", "<f8"), ("cal_max", "<f8"), ("cal_min", "<f8"), ("slice_duration", "<f8"),
        ("toffset", "<f8"), ("slice_start", "<i8"), ("slice_end", "<i8"), ("descrip", "S80"),
        ("aux_file", "S24"), ("qform_code", "<i4"), ("sform_code", "<i4"), ("quatern_b", "<f8"),
        ("quatern_c", "<f8"), ("quatern_d", "<f8"), ("qoffset_x", "<f8"), ("qoffset_y", "<f8"),
        ("qoffset_z", "<f8"), ("srow_x", "<f8", (4,)), ("srow_y", "<f8", (4,)),
        ("srow_z", "<f8", (4,)), ("slice_code", "<i4"), ("xyzt_units", "<i4"),
        ("intent_code", "<i4"), ("intent_name", "S16"), ("dim_info", "u1"), ("unused", "S15"),
    ]
)  # fmt: skip

HEADER_TYPES = {1: _NIFTI1, 2: _NIFTI2}
DATA_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
    1024: "i8", 1280: "u8",
}  # fmt: skip
_REFUSED_TYPES = {
    0: "unknown", 1: "binary (one bit)", 32: "complex", 1792: "complex", 2048: "complex",
    128: "RGB colour", 2304: "RGBA colour", 1536: "128-bit float",
}  # fmt: skip

# Below this a qform and an sform are taken to say the same: half a voxel of a usual T1.
FORMS_AGREE_MM = 0.5
# Headers that are rounded to two digits differ by less.
SIZES_AGREE = 0.01


# Quaternions that are rounded to three digits are not longer than this, squared.
_UNIT_QUATERNION = 0.005
_UNITS = {1: "metre", 3: "micrometre"}

ByteOrder = Literal["<", ">"]


def parse_header(where: str | os.PathLike[str], start: bytes) -> tuple[np.void, int, ByteOrder]:
    """(header fields, NIFTI version 1 or 2, byte order "<" or ">") from a file's first bytes.

    ``start`` holds at least 540 bytes unless the file is shorter. Raises ``InputError`` if they
    are no header of a single-file NIfTI image.
    """
    size = {start[:4][::s]: s for s in (1, -1)} if len(start) >= 4 else {}
    for version, kind in HEADER_TYPES.items():
        order: ByteOrder
        for order, step in (("<", 1), (">", -1)):
            if size.get(kind.itemsize.to_bytes(4, "little")) != step:
                continue
            if len(start) < kind.itemsize:
                raise InputError(where, "the file ends inside its header", "Copy it again")
            fields = np.frombuffer(start, kind.newbyteorder(order), count=1)[0]
            magic = bytes(fields["magic"])[:3]
            if magic in (b"ni1", b"ni2") or not magic:
                raise InputError(
                    where,
                    "this is the header of a two-file image (.hdr and .img, Analyze or NIfTI)",
                    "Convert the pair to a single .nii.gz file",
                )
            if magic == f"n+{version}".encode():
                return fields, version, order
    raise InputError(
        where,
        "this is not a NIfTI file (its first bytes are not those of a NIfTI header)",
        "Check the file; if it was downloaded, it may be an error page or a placeholder",
    )


def header_shape(header: np.void) -> tuple[int, ...]:
    """The lengths (I, J, K, ...) of the axes that ``dim[0]`` announces."""
    count = int(header["dim"][0])
    return tuple(int(n) for n in header["dim"][1 : 1 + max(0, min(count, 7))])


def data_type(where: str | os.PathLike[str], header: np.void, order: ByteOrder) -> np.dtype[Any]:
    """The numpy type of the stored voxels; ``InputError`` if they are not real scalars."""
    code = int(header["datatype"])
    if code not in DATA_TYPES:
        name = _REFUSED_TYPES.get(code, "unknown")
        raise InputError(
            where,
            f"voxels of {name} type (NIfTI datatype {code}) are not supported",
            "Convert it to a scalar image (integers or floats)",
        )
    return np.dtype(DATA_TYPES[code]).newbyteorder(order)


def sform(header: np.void) -> NDArray[np.float64]:
    """The 4x4 affine in the header's srow fields."""
    rows = [np.asarray(header[f"srow_{axis}"], dtype=np.float64) for axis in "xyz"]
    return np.vstack([*rows, [0.0, 0.0, 0.0, 1.0]])


def qform(header: np.void) -> NDArray[np.float64]:
    """The 4x4 affine of the header's quaternion, offset and voxel sizes (NIfTI method 2)."""
    b, c, d = (float(header[f"quatern_{x}"]) for x in "bcd")
    rest = 1.0 - (b * b + c * c + d * d)
    # Rounding of float32 quaternions leaves a tiny remainder, which means a turn by 180 degrees.
    a = np.sqrt(rest) if rest > 3 * float(np.finfo(np.float32).eps) else 0.0
    s = 2.0 / max(a * a + b * b + c * c + d * d, np.finfo(np.float64).tiny)
    turn = np.array(
        [
            [1 - s * (c * c + d * d), s * (b * c - a * d), s * (b * d + a * c)],
            [s * (b * c + a * d), 1 - s * (b * b + d * d), s * (c * d - a * b)],
            [s * (b * d - a * c), s * (c * d + a * b), 1 - s * (b * b + c * c)],
        ]
    )
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64).copy()
    if header["pixdim"][0] < 0:
        zooms[2] = -zooms[2]
    affine = np.eye(4)
    affine[:3, :3] = turn * zooms
    affine[:3, 3] = [float(header[f"qoffset_{x}"]) for x in "xyz"]
    return affine


def base_affine(header: np.void, shape_ijk: tuple[int, int, int]) -> NDArray[np.float64]:
    """What NIfTI method 1 leaves to convention: LAS axes, origin at the volume's centre."""
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64) * (-1.0, 1.0, 1.0)
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = -zooms * (np.asarray(shape_ijk) - 1) / 2.0
    return affine


def best_affine(
    where: str | os.PathLike[str], header: np.void, shape_ijk: tuple[int, int, int]
) -> tuple[NDArray[np.float64], list[str]]:
    """(affine ijk -> RAS mm, warnings): the sform if it is set, else the qform, else by convention.

    Raises ``InputError`` if no form is set and the header states no voxel spacing either: the
    volumes of lesions in mL would be invented.
    """
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    stated = bool(np.isfinite(zooms).all() and (zooms > 0).all())
    s_code, q_code = int(header["sform_code"]), int(header["qform_code"])
    if s_code <= 0 and not stated:
        raise InputError(
            where,
            "the header states no voxel spacing (pixdim is zero, negative or not a number)",
            "Set the voxel spacing in mm and the orientation in the header, "
            "or export the scan again from its DICOM files",
        )
    if s_code > 0:
        affine = sform(header)
        if stated and (sizes := sizes_apart(header)):
            return affine, [sizes]
        if q_code <= 0 or not stated:
            return affine, []
        other = qform(header)
        if not np.isfinite(affine).all() or not np.isfinite(other).all():
            return affine, []
        warnings = []
        apart = corner_distance_mm(affine, other, shape_ijk)
        if apart > FORMS_AGREE_MM:
            mirrored = np.linalg.det(affine[:3, :3]) * np.linalg.det(other[:3, :3]) < 0
            warnings = [
                f"sform and qform disagree by up to {apart:.1f} mm"
                + (" and mirror each other (left and right)" if mirrored else "")
                + "; the sform is used"
            ]
        return affine, warnings
    if q_code > 0:
        return qform(header), _quaternion_notes(header)
    return base_affine(header, shape_ijk), [
        "neither sform nor qform is set; LAS axes are assumed, so left and right may be exchanged"
    ]


def _quaternion_notes(header: np.void) -> list[str]:
    """A warning if the quaternion is longer than one can be; shorter ones state the rest."""
    length = float(sum(float(header[f"quatern_{x}"]) ** 2 for x in "bcd"))
    if not np.isfinite(length) or length <= 1 + _UNIT_QUATERNION:
        return []
    return [
        "the qform's quaternion is no rotation (it is longer than 1) and was scaled; "
        "the orientation may be wrong"
    ]


def unit_notes(header: np.void) -> list[str]:
    """A warning if the header states another unit of length than mm.

    To be asked of a scan whose size is that of a head in mm; others are refused for their size.
    """
    unit = _UNITS.get(int(header["xyzt_units"]) & 7)
    return [] if unit is None else [f"the header's unit is the {unit}; mm are taken"]


def sizes_apart(header: np.void) -> str:
    """One sentence if sform and pixdim state different voxel sizes; empty if they agree."""
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    # A damaged NIfTI-2 header has numbers whose squares are beyond float64.
    with np.errstate(over="ignore"):
        lengths = np.sqrt((sform(header)[:3, :3] ** 2).sum(axis=0))
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        return ""
    ratio = np.maximum(lengths / zooms, zooms / lengths)
    if ratio.max() <= 1 + SIZES_AGREE:
        return ""
    told = [" x ".join(f"{v:.4g}" for v in sizes) for sizes in (zooms, lengths)]
    return (
        f"pixdim ({told[0]} mm) and sform ({told[1]} mm) state different voxel sizes; the sform is "
        f"used, so volumes in mL are {np.prod(lengths / zooms):.3g} times those of pixdim"
    )


def quaternion(axes: NDArray[np.float64]) -> tuple[tuple[float, float, float], float]:
    """((b, c, d), qfac) of the rotation nearest to the columns of ``axes`` (3x3, unit length)."""
    qfac = 1.0 if np.linalg.det(axes) > 0 else -1.0
    u, _, vt = np.linalg.svd(axes * (1.0, 1.0, qfac))
    r = u @ vt
    # The eigenvector of the largest eigenvalue is the quaternion (Bar-Itzhack 2000): stable at
    # every angle, unlike the textbook branches on the trace.
    xx, xy, xz, yx, yy, yz, zx, zy, zz = r.flat
    k = np.array(
        [
            [xx - yy - zz, 0, 0, 0],
            [yx + xy, yy - xx - zz, 0, 0],
            [zx + xz, zy + yz, zz - xx - yy, 0],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    b, c, d, a = np.linalg.eigh(k)[1][:, -1]
    sign = -1.0 if a < 0 else 1.0
    return (float(b * sign), float(c * sign), float(d * sign)), qfac
