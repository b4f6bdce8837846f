"""What tells that an input is still the one that was worked on."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..pipeline import sha256_of

# The name of the data file in a detached header, by the header's ending (lower case).
_DETACHED = {".nhdr": (b"data file:", b"datafile:"), ".mhd": (b"elementdatafile",)}
_HEADER_BYTES = 1 << 16


def quick_look(path: Path) -> dict[str, int]:
    """Size in bytes and time of the last change (ns), over all files of a scan.

    Raises ``OSError`` if the scan is not there.
    """
    size, changed = 0, 0
    for file in scan_files(path):
        status = file.stat()
        size += status.st_size
        changed = max(changed, status.st_mtime_ns)
    return {"size": size, "mtime_ns": changed}


def fingerprint(path: Path) -> dict[str, Any]:
    """``quick_look`` and the SHA-256 of the contents (for several files: of names and contents).

    Raises ``OSError`` if the scan cannot be read.
    """
    files = scan_files(path)
    look: dict[str, Any] = dict(quick_look(path))
    if files == [path]:
        return {**look, "sha256": sha256_of(path)}
    digest = hashlib.sha256()
    root = path if path.is_dir() else path.parent
    for file in files:
        digest.update(os.fsencode(os.path.relpath(file, root)) + b"\0")
        digest.update(bytes.fromhex(sha256_of(file)))
    return {**look, "files": len(files), "sha256": digest.hexdigest()}


def unchanged(path: Path, before: Mapping[str, Any]) -> bool:
    """Whether ``path`` is still what ``fingerprint`` said ``before``.

    Size and time are enough if they agree; a file that was only copied or touched is recognised
    by its contents. False if it cannot be read.
    """
    try:
        look = quick_look(path)
        if look["size"] != before.get("size"):
            return False
        if look["mtime_ns"] == before.get("mtime_ns"):
            return True
        return bool(fingerprint(path)["sha256"] == before.get("sha256"))
    except OSError:
        return False


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
    data = _data_file(path, keys) if keys and path.is_file() else None
    return [path] if data is None else [path, data]


def _data_file(header: Path, keys: tuple[bytes, ...]) -> Path | None:
    with header.open("rb") as stream:
        lines = stream.read(_HEADER_BYTES).splitlines()
    for line in lines:
        if line.strip().lower().startswith(keys):
            name = os.fsdecode(line.replace(b"=", b":", 1).partition(b":")[2].strip())
            data = header.parent / name
            # LIST and LOCAL are words of the formats; a data file elsewhere is not looked for.
            if name and os.sep not in name and "\0" not in name and data.is_file():
                return data
    return None
