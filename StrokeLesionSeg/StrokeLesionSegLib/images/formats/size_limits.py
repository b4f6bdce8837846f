"""Files that promise more than they hold, or hold more than anybody wants: seen before any is read.

A reader that believes a header allocates what it says, and one that inflates a stream takes what
comes out. Both are compared with the size of the file first.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from ...errors import InputError

#: Deflate cannot shrink further than 1032 : 1 (zlib's technical notes).
DEFLATE_LIMIT = 1032
#: A whole DICOM file, inflated; one with a head at .4 mm has half of it.
MOST_INFLATED_BYTES = 1 << 29
_COPY_AGAIN = "Copy or download it again"
_BLOCK = 1 << 18


def check_promise(
    where: str | os.PathLike[str], needed: int, have: int, *, compressed: bool = False
) -> None:
    """Raise ``InputError`` if ``have`` bytes cannot hold the ``needed`` ones of the voxels.

    ``compressed`` allows for deflate's best.
    """
    if needed > (have * DEFLATE_LIMIT if compressed else have):
        told = " compressed" if compressed else ""
        raise InputError(
            where, f"the file is truncated ({have} of {needed} bytes are there{told})", _COPY_AGAIN
        )


def path_below(path: Path, name: str) -> Path:
    """The path of the file ``name`` that the header ``path`` speaks of.

    Raises ``InputError`` if it is not below the header's own folder: a header is no reason to open
    any file of the computer. (Links are followed, as DataLad needs it.)
    """
    folder = Path(os.path.abspath(path.parent))
    target = Path(os.path.normpath(folder / name))
    if not target.is_relative_to(folder):
        raise InputError(
            path,
            f"its data file {name} lies outside the folder of the header",
            "Put header and data file into one folder, and name the file alone",
        )
    return target


def data_file_below(path: Path, name: str) -> Path:
    """As :func:`path_below`, for a file that has to be there; raises ``InputError`` if not."""
    target = path_below(path, name)
    if not target.is_file():
        raise InputError(
            path,
            f"the file is incomplete (its data file {name} is missing)",
            "Keep the header and its data file together",
        )
    return target


def check_deflated(file: Path, start: int, most: int = MOST_INFLATED_BYTES) -> None:
    """Raise ``InputError`` if the deflate stream at byte ``start`` holds over ``most`` bytes.

    A damaged stream is left to the reader.
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    with file.open("rb") as stream:
        stream.seek(start)
        pending = b""
        while not inflate.eof and (pending := pending or stream.read(_BLOCK)):
            try:
                total += len(inflate.decompress(pending, _BLOCK))
            except zlib.error:
                return
            pending = inflate.unconsumed_tail
            if total > most:
                raise InputError(
                    file,
                    f"its compressed contents are larger than {most >> 20} MB",
                    "No T1-weighted image is: export it again",
                )
