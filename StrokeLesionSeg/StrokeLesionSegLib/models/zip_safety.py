"""Zip archives from elsewhere: every entry is looked at before any is unpacked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .manifest import MAX_WEIGHT_BYTES

REMEDY = "Take the model from its publisher again"
# Letters of what zipfile says.
_LONGEST = 100


def check_entries(
    archive: zipfile.ZipFile, source: Path, *, most: int, limit: int
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The archive's files by path; ``InputError`` if any entry is suspicious.

    ``most`` entries and ``limit`` bytes unpacked are allowed.
    """
    entries = archive.infolist()
    if len(entries) > most:
        raise InputError(
            source, f"the archive has {len(entries)} entries, too many for a model", REMEDY
        )
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    total = 0
    for info in entries:
        # orig_filename: zipfile itself cuts names at a zero byte and turns backslashes around.
        name = info.orig_filename
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or not path.parts
            or any(c in name for c in "\\:\0")
        ):
            raise InputError(source, f"the archive contains the unsafe name {name!r}", REMEDY)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(source, f"{name!r} in the archive is a link or device", REMEDY)
        total += info.file_size
        if total > limit or info.file_size > MAX_WEIGHT_BYTES:
            raise InputError(source, "the archive unpacks to more than any model has", REMEDY)
        if info.is_dir():
            continue
        if path in files:
            raise InputError(source, f"{name!r} occurs twice in the archive", REMEDY)
        files[path] = info
    return files


@contextmanager
def opened(source: Path) -> Iterator[zipfile.ZipFile]:
    """``source`` as a zip; whatever is wrong with it becomes an ``InputError`` that names it."""
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    # RuntimeError: encrypted entry; NotImplementedError: unknown compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        if "encrypted" in str(error):
            cause = "the zip archive is encrypted"
            raise InputError(source, cause, "Unpack it with its password") from error
        # zipfile quotes whatever bytes it finds where a name should be.
        said = ascii(str(error))[1:-1]
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
        raise InputError(source, f"is not a usable zip archive ({said})", REMEDY) from error
    except PermissionError as error:
        if error.filename is not None and Path(error.filename) == source:
            raise InputError(source, "the file cannot be read", "Check its permissions") from error
        raise
