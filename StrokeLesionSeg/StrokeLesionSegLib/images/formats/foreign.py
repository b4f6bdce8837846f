"""What a file is that is not read, by its first bytes: said, with the way out."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ...file_formats import NOT_READ

_ZSTD, _MINC, _MRTRIX = NOT_READ[".nii.zst"], NOT_READ[".mnc"], NOT_READ[".mif"]
_SURFACE = NOT_READ[".gii"]

_STARTS = (
    (b"\x28\xb5\x2f\xfd", *_ZSTD),
    (b"PK\x03\x04", "this is a zip archive", "Unpack it, and give the image in it"),
    (b"7z\xbc\xaf\x27\x1c", "this is a 7z archive", "Unpack it, and give the image in it"),
    (b"\x04\x22\x4d\x18", "the file is compressed with LZ4", "Unpack it first, with lz4 -d"),
    (b"\x1f\x9d", "the file is compressed with the old program compress", "Unpack it first"),
    (b"NRRD000", "this is a NRRD image", "Let its name end in .nrrd"),
    (b"ObjectType", "this is a MetaImage", "Let its name end in .mha, or .mhd with a data file"),
    (b"\x89HDF", *_MINC),
    (b"CDF\x01", *_MINC),
    (b"mrtrix image", *_MRTRIX),
    (b"version https://git-lfs", "this is a placeholder of Git LFS, not the file itself",
     "Fetch the file with git lfs pull"),
    (b"/annex/objects/", "this is a placeholder of git-annex, not the file itself",
     "Fetch the file with datalad get"),
    (b"\x89PNG", "this is a picture (PNG)", "Give the scan itself"),
    (b"\xff\xd8\xff", "this is a picture (JPEG)", "Give the scan itself"),
    (b"\xff\xff\xfe", *_SURFACE),
    (b"%PDF", "this is a PDF document", "Give the scan itself"),
)  # fmt: skip


def refuse_foreign(where: Path, start: bytes) -> None:
    """``InputError`` if the first 512 bytes of a file are those of something known."""
    for magic, cause, remedy in _STARTS:
        if start.startswith(magic):
            raise InputError(where, cause, remedy)
    if start[257:262] == b"ustar":
        raise InputError(
            where, "this is a tar archive, not an image", "Unpack it (tar -xf) and give the image"
        )
    if start[128:132] == b"DICM":
        raise InputError(
            where, "this is a DICOM file", "Let its name end in .dcm, or give the folder"
        )
    text = start.lstrip()[:32].lower()
    if text.startswith((b'{"', b"{\n", b"{ ", b"{\r")):
        raise InputError(
            where,
            "this is JSON text, not an image",
            "Give the image beside it; if it was downloaded, read what it says",
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(
            where,
            "this is a web page, not an image",
            "Download the file again; you may have to log in first",
        )
