"""What ITK misreads in NRRD and MetaImage files, put plainly into a folder of its own for it.

ITK has no bzip2 in NRRD, takes a ``%`` in the name of a data file for a pattern of numbers, and
fails on long values in a MetaImage header.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...errors import InputError
from .compressed import BLOCK, COPY_AGAIN, TRUNCATED, bzip2_stream

#: What NRRD's ``encoding`` may say that ITK reads.
READABLE_NRRD = {"raw", "gzip", "gz", "text", "txt", "ascii", "hex"}
BZIP2 = {"bzip2", "bz2"}
_LONGEST_HEADER = 1 << 26
_DATA_NAME = "data.raw"
# MetaIO gives up on values of 32 kB, which private DICOM tags reach that were copied into a header.
_LONG_FOR_METAIO = 1 << 14
_META_KEYS = {
    *("objecttype", "objectsubtype", "ndims", "binarydata", "binarydatabyteordermsb"),
    *("elementbyteordermsb", "compresseddata", "compresseddatasize", "transformmatrix"),
    *("rotation", "orientation", "offset", "position", "origin", "centerofrotation"),
    *("anatomicalorientation", "elementspacing", "elementsize", "dimsize", "headersize"),
    *("elementnbits", "elementnumberofchannels", "elementtype"),
    *("elementtointensityfunctionslope", "elementtointensityfunctionoffset"),
}


def text_header(path: Path, end: re.Pattern[bytes]) -> bytes:
    """The bytes of ``path`` until after the first match of ``end``, however long the header is.

    A file without one is returned up to the longest header that is believed, 64 MB.
    """
    parts = bytearray()
    with path.open("rb") as file:
        while len(parts) < _LONGEST_HEADER:
            data = file.read(BLOCK)
            searched = max(0, len(parts) - 64)  # a match may lie across two blocks
            parts += data
            if (match := end.search(parts, searched)) or not data:
                return bytes(parts[: match.end()] if match else parts)
    return bytes(parts)


def whole_number(path: Path, fields: Mapping[str, str], *names: str, otherwise: int = 0) -> int:
    """The number that a header gives in the first of ``names`` that it has.

    Raises ``InputError`` for what is none.
    """
    text = next((fields[name] for name in names if fields.get(name)), str(otherwise))
    if not text.isdecimal():
        raise InputError(path, f'the header is damaged ("{text[:20]}" for {names[0]})', COPY_AGAIN)
    return int(text)


def named_literally(path: Path, name: str) -> bool:
    """Whether ``name`` holds a ``%`` and is the name of a file beside the header all the same."""
    return "%" in name and (path.parent / name).is_file()


@contextlib.contextmanager
def plain_nrrd(path: Path, header: bytes, fields: Mapping[str, str], needed: int) -> Iterator[Path]:
    """A path from which ITK reads the NRRD file ``path``: itself, or one in a temporary folder.

    ``header`` ends with the blank line; ``needed`` is the number of bytes of the voxels.
    Raises ``InputError`` if a bzip2 stream is damaged or too short.
    """
    name = fields.get("data file") or fields.get("datafile") or ""
    packed = fields.get("encoding", "").lower() in BZIP2
    if not packed and not named_literally(path, name):
        yield path
        return
    if packed and (name.upper().startswith("LIST") or ("%" in name and not named_literally(
            path, name))):  # fmt: skip
        raise InputError(
            path,
            "bzip2 in several data files is not supported",
            "Save it as one file with gzip, for instance with 3D Slicer",
        )
    dropped = {"data file", "datafile"}
    if packed:
        dropped |= {"encoding", "line skip", "lineskip", "byte skip", "byteskip"}
    lines = [
        line
        for line in header.rstrip(b"\r\n").splitlines()
        if line.partition(b":")[0].strip().lower().decode("ascii", "replace") not in dropped
    ]
    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-") as folder:
        data = Path(folder, _DATA_NAME)
        if packed:
            lines.append(b"encoding: raw")
            _unpack(path, path.parent / name if name else path, len(header), fields, needed, data)
        else:
            _link(path.parent / name, data)
        target = Path(folder, "header.nhdr")
        target.write_bytes(b"\n".join([*lines, b"data file: " + _DATA_NAME.encode(), b"", b""]))
        yield target


@contextlib.contextmanager
def plain_metaimage(path: Path, header: bytes, name: str, start: int) -> Iterator[Path]:
    """A path from which ITK reads the MetaImage file ``path``, as :func:`plain_nrrd` does.

    ``header`` ends before ``ElementDataFile``, which is ``name``; ``start`` is where the voxels of
    a file with both begin.
    """
    local = name.lower() == "local"
    one_file = local or (path.parent / name).is_file()
    if not one_file or (len(header) < _LONG_FOR_METAIO and not named_literally(path, name)):
        yield path
        return
    lines = [
        line for line in header.splitlines()
        if line.partition(b"=")[0].strip().lower().decode("ascii", "replace") in _META_KEYS
    ]  # fmt: skip
    if local:
        lines.append(f"HeaderSize = {start}".encode())
    with tempfile.TemporaryDirectory(prefix="stroke-lesion-seg-") as folder:
        data = Path(folder, _DATA_NAME)
        _link(path if local else path.parent / name, data)
        target = Path(folder, "header.mhd")
        lines.append(f"ElementDataFile = {_DATA_NAME}\n".encode())
        target.write_bytes(b"\n".join(lines))
        yield target


def _link(source: Path, target: Path) -> None:
    try:
        os.symlink(os.path.abspath(source), target)
    except OSError:  # Windows without the right to
        shutil.copyfile(source, target)


def _unpack(
    path: Path, packed: Path, start: int, fields: Mapping[str, str], needed: int, target: Path
) -> None:
    """Write the ``needed`` bytes of the voxels in ``packed`` to ``target``."""
    skip = whole_number(path, fields, "byte skip", "byteskip")
    lines = whole_number(path, fields, "line skip", "lineskip")
    with packed.open("rb") as file, target.open("wb") as out:
        if packed == path:
            file.seek(start)
        for _ in range(lines):  # of the file as it lies; bytes are skipped in what it unpacks to
            if not file.readline():
                break
        stream = bzip2_stream(file, path)
        left = skip + needed
        while left:
            data = stream.read(min(left, BLOCK))
            if not data:
                cause = f"{TRUNCATED} ({1 - left / (skip + needed):.0%} of the voxels are there)"
                raise InputError(path, cause, COPY_AGAIN)
            left -= len(data)
            out.write(data[max(0, skip) :])
            skip = max(0, skip - len(data))
