"""Single DICOM headers: whether a file begins as one, and values that bend the standard."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .size_limits import DEFLATE_LIMIT, check_deflated

if TYPE_CHECKING:
    import pydicom

# Direction cosines whose length is further from 1 are no rounded ones, and an object that takes
# them over is invalid; those that are this much too long or too short are none at all.
_ROUNDED, _NO_COSINES = 1e-5, 0.1


def begins_as_dicom(start: bytes) -> bool:
    """Whether a file without DICOM's mark begins with an element of its first groups."""
    group, element = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")
    if group not in (2, 8) or element > 0x70:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") < 65_536


def refuse_bomb(file: Path) -> None:
    """``InputError`` for a deflated file that is far too large: pydicom inflates it at once."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(os.fspath(file))
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # 128 bytes, "DICM", and the 12 bytes of the element that holds the group's length.
        check_deflated(file, 144 + int(meta.get("FileMetaInformationGroupLength") or 0))


def put_points(header: pydicom.Dataset) -> list[str]:
    """Put points for commas in decimal numbers, in place; the keywords of those that had any."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    found = []
    for tag in list(header.keys()):
        item = header.get_item(tag)
        value = item.value
        if isinstance(value, bytes) and b"," in value:
            vr = item.VR or ("" if tag.is_private else dictionary_VR(tag))
            if vr == "DS":
                text = value.decode("latin-1").replace(",", ".").strip("\0 ")
                header.add_new(tag, vr, text.split("\\"))
                found.append(keyword_for_tag(tag))
    return found


def make_unit_cosines(header: pydicom.Dataset) -> float:
    """Give direction cosines the length 1, in place, also those of frames; how far off they were.

    The voxels' sizes are in PixelSpacing; cosines of another length would count them twice.
    """
    worst = 0.0
    for group in (
        header,
        *(header.get("SharedFunctionalGroupsSequence") or ()),
        *(header.get("PerFrameFunctionalGroupsSequence") or ()),
    ):
        for item in (group,) if group is header else group.get("PlaneOrientationSequence") or ():
            given = item.get("ImageOrientationPatient")
            if given is None or np.size(given) != 6:
                continue
            cosines = np.array(given, dtype=np.float64).reshape(2, 3)
            lengths = np.linalg.norm(cosines, axis=1, keepdims=True)
            off = float(np.abs(lengths - 1.0).max())
            if _ROUNDED < off < _NO_COSINES:
                unit = (cosines / lengths).reshape(-1)
                item.ImageOrientationPatient = [f"{value:.10f}" for value in unit]
                worst = max(worst, off)
    return worst


def storage_name(header: pydicom.Dataset) -> str:
    """The name of the storage class."""
    from pydicom.uid import UID

    return UID(str(header.get("SOPClassUID", ""))).name or "no storage class"


def has_pixels(file: Path, header: pydicom.Dataset) -> bool:
    """Whether PixelData is long enough; GDCM would leave the rest of the slice undefined."""
    if "PixelData" not in header:
        return False
    try:
        element = header.get_item("PixelData", keep_deferred=True)
    except TypeError:  # pydicom 2 reads it instead
        element = header.get_item("PixelData")
    length = getattr(element, "length", None)
    if length is None:
        length = len(element.value)
    bits = int(header.get("BitsAllocated") or 16)
    needed = int(header.get("Rows") or 0) * int(header.get("Columns") or 0) * bits // 8
    if length != 0xFFFFFFFF and length >= needed:
        return True
    # Encapsulated: no codec packs a slice more tightly than deflate could.
    packed = length == 0xFFFFFFFF or header.file_meta.TransferSyntaxUID.is_compressed
    return packed and needed <= file.stat().st_size * DEFLATE_LIMIT


def positive_number(header: pydicom.Dataset, keyword: str, kind: Callable[[Any], Any]) -> Any:
    """A value that is not worth failing for; None if it is not there or no positive number."""
    try:
        value = kind(str(header.get(keyword)).replace(",", "."))
    except (TypeError, ValueError):
        return None
    return value if value > 0 else None
