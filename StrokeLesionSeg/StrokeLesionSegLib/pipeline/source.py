"""The input of a run: is it there, and can it be opened?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import NOWHERE, InputError, not_there

if TYPE_CHECKING:
    from ..images import Scan


def read_repaired(path: Path, series: str | None = None) -> Scan:
    """A scan with its values put right, as a run takes it; ``InputError`` if it cannot be read."""
    from ..images import read_scan
    from ..input_check import repair

    return repair(read_scan(path, series=series))


def check_series(series: str | None, scan: Scan) -> None:
    """Raise ``InputError`` for a series that somebody has named of what is no DICOM."""
    if series is not None and scan.format != "dicom":
        raise InputError("series", "is for DICOM only", "Leave it out")


def check_source(source: Path) -> None:
    """Raise ``InputError`` unless ``source`` is there and can be opened.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.pipeline import check_source
    >>> check_source(Path("nowhere.nii.gz"))
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: nowhere.nii.gz: there is no such file or folder...
    """
    try:
        if source.is_dir():
            os.listdir(source)
        elif source.exists() and not source.is_file():
            # Opening a pipe would wait for ever.
            raise InputError(source, "is neither a file nor a folder", "Give a scan")
        else:
            with open(source, "rb"):
                pass
    except FileNotFoundError:
        if source.is_symlink():
            raise InputError(source, *NOWHERE) from None
        raise InputError(source, *not_there(source)) from None
    except PermissionError:
        raise InputError(source, "you have no permission to read it", "Ask its owner") from None
    except OSError as error:
        raise InputError(
            source, f"cannot be read ({error.strerror or error})", "Check the path and the disk"
        ) from error
