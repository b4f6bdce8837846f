"""What a killed batch has left behind: found and removed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..report import SHARED_FOLDER
from .inputs import FoundScan
from .lock import LOCK_NAME, STALE_S

# As ``outputs.atomic_file`` calls them.
_TEMPORARY = re.compile(
    r"\.[0-9a-f]{8}\.tmp\.(group_\w+\.\w+|index\.html|dataset_description\.json|README\.md"
    r"|\.bidsignore|desc-lesions_(stats|regions)\.json|study\.js|niivue\S+)"
)
# Pages, maps and sidecars of scans that were written anew, for a corrected mask.
_OF_SCAN = re.compile(r"\.[0-9a-f]{8}\.tmp\.sub-\S+")


def clear_staging(out: Path, scans: list[FoundScan]) -> None:
    """Remove the hidden folders that a killed batch has left where we are about to write."""
    for folder in {out.joinpath(found.entities.folder) for found in scans}:
        clear_staging_in(folder, out)


def clear_staging_in(folder: Path, out: Path) -> None:
    """The same in one folder; nothing if a link leads out of ``out``."""
    if folder.is_dir() and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(out)):
        for staging in folder.glob(".stroke-lesion-seg-*"):
            if not staging.is_symlink():
                shutil.rmtree(staging, ignore_errors=True)


def sweep(out: Path, folders: Iterable[str] = ()) -> None:
    """Remove what a killed batch was writing for the group, and beside results that were complete
    in ``folders`` of scans. Call with the folder's lock held."""
    for name in {*folders}:
        for file in (out / name).glob(".*.tmp.*"):
            if _OF_SCAN.fullmatch(file.name):
                _remove_file(file)
    for file in (*out.glob(".*.tmp.*"), *out.glob(f"{SHARED_FOLDER}/.*.tmp.*")):
        if _TEMPORARY.fullmatch(file.name):
            _remove_file(file)
    # Probes of batches on other machines that wait for the lock are younger.
    with contextlib.suppress(OSError):
        now = (out / LOCK_NAME).stat().st_mtime
        for file in (out / LOCK_NAME).parent.glob(".*.clock"):
            if now - file.lstat().st_mtime > STALE_S:
                _remove_file(file)


def _remove_file(file: Path) -> None:
    with contextlib.suppress(OSError):
        if file.is_file() and not file.is_symlink():
            file.unlink()
