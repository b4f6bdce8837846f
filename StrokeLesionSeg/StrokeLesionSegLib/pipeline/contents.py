"""What a scan's files hold, as a checksum: one file, a header with its data, a DICOM folder."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

# The name of the data file in a detached header, by the header's ending (lower case).
_DETACHED = {".nhdr": (b"data file:", b"datafile:"), ".mhd": (b"elementdatafile",)}
_HEADER_BYTES = 1 << 16


def sha256_of(path: Path) -> str:
    """Checksum of a file, as hexadecimal digits.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.pipeline import sha256_of
    >>> _ = Path("empty").write_bytes(b"")
    >>> sha256_of(Path("empty"))[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def scan_sha256(path: Path, files: Sequence[Path] | None = None) -> str:
    """SHA-256 of a scan's contents; of several ``files``, of their names and contents.

    Raises ``OSError`` if the scan cannot be read.
    """
    files = scan_files(path) if files is None else files
    if list(files) == [path]:
        return sha256_of(path)
    digest = hashlib.sha256()
    root = path if path.is_dir() else path.parent
    for file in files:
        digest.update(os.fsencode(os.path.relpath(file, root)) + b"\0")
        digest.update(bytes.fromhex(sha256_of(file)))
    return digest.hexdigest()


def scan_files(path: Path) -> list[Path]:
    """All files that make up a scan, sorted: those of a DICOM folder, header and data file.

    Raises ``OSError`` for what is there and can be neither, such as a pipe.
    """
    if path.is_dir():
        found = []
        for folder, folders, names in os.walk(path):
            folders.sort()
            found += [
                Path(folder, name)
                for name in sorted(names)
                if not name.startswith(".") and Path(folder, name).is_file()
            ]
        return found
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", os.fspath(path))
    keys = _DETACHED.get(path.suffix.lower())
    return [path, *_data_files(path, keys)] if keys and path.is_file() else [path]


def _data_files(header: Path, keys: tuple[bytes, ...]) -> list[Path]:
    """The files that a detached header names, in its folder or below, as reading takes them."""
    with header.open("rb") as stream:
        lines = [line.strip() for line in stream.read(_HEADER_BYTES).splitlines()]
    for number, line in enumerate(lines):
        if line.lower().startswith(keys):
            name = os.fsdecode(line.replace(b"=", b":", 1).partition(b":")[2].strip())
            names = [name]
            if name.upper().startswith("LIST"):  # one file a slice
                names = [os.fsdecode(other) for other in lines[number + 1 :] if other]
            elif "%" in name and not _below(header, name):  # numbered files
                pattern = re.sub(r"%\d*d", "*", name.split()[0])
                names = sorted(glob.glob(pattern, root_dir=header.parent))
            return [file for other in names for file in _below(header, other)]
    return []


def _below(header: Path, name: str) -> list[Path]:
    """The file ``name``; none if it is not there, or not below the folder of its header."""
    relative = os.path.normpath(name)
    if not name or "\0" in name or os.path.isabs(relative) or relative.split(os.sep)[0] == "..":
        return []
    file = header.parent / relative
    return [file] if file.is_file() else []
