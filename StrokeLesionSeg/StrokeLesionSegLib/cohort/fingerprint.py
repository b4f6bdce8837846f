"""What tells that an input is still the one that was worked on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..pipeline.contents import scan_files, scan_sha256


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
    if files != [path]:
        look["files"] = len(files)
    return {**look, "sha256": scan_sha256(path, files)}


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
