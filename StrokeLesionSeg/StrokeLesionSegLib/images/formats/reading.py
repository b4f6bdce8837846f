"""One entry for every format: which reader a path goes to."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from ...file_formats import format_of, not_read, supported
from .foreign import refuse_foreign
from .scan import Scan


def read_scan(
    path: str | os.PathLike[str], *, series: str | None = None, allow_constant: bool = False
) -> Scan:
    """Reads a T1-weighted scan from a file or from a DICOM folder.

    Supported are NIfTI (.nii, also compressed with gzip, bzip2 or xz), NRRD (.nrrd, .nhdr),
    MetaImage (.mha, .mhd), FreeSurfer (.mgz, .mgh), a folder of DICOM files and an enhanced
    multi-frame DICOM file. ``series`` is the SeriesInstanceUID to
    take from a DICOM folder that holds several. ``allow_constant`` takes files whose voxels are all
    equal as well: no scan, but a mask may well be empty.

    Returns a ``Scan``: float32 (K, J, I), C-contiguous, finite; affine ijk -> RAS mm; one line in
    ``warnings`` per oddity that was dealt with.

    Raises ``InputError`` for everything that is wrong with the input; nothing else unless it is a
    defect here.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, read_scan, write_volume
    >>> write_volume("t1.nii.gz", Volume(np.arange(64.0).reshape(4, 4, 4), np.eye(4)))
    >>> scan = read_scan("t1.nii.gz")
    >>> scan.format, scan.volume.array.shape
    ('nifti', (4, 4, 4))
    """
    path = Path(path)
    try:
        return _dispatch(path, series, allow_constant)
    except FileNotFoundError as error:
        raise InputError(path, "no such file or folder", "Check the path") from error
    except PermissionError as error:
        raise InputError(
            path, "no permission to read it", "Ask for read access or copy it elsewhere"
        ) from error
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror or error})", "Check the disk and the path"
        ) from error
    except MemoryError as error:
        raise InputError(
            path, "does not fit into memory", "Use a machine with more memory"
        ) from error


def _dispatch(path: Path, series: str | None, allow_constant: bool) -> Scan:
    name = path.name.lower()
    if path.is_dir():
        from .dicom import read_dicom

        return read_dicom(path, series=series)
    if not path.exists():
        path.stat()  # raises with the reason: missing, or a folder above that may not be entered
    if not path.is_file():
        raise InputError(path, "is neither a file nor a folder", f"Give {supported()}")
    format = format_of(name)
    if format is not None and format.whole:
        scan: Scan = format.read()(path, allow_constant=allow_constant)
        return scan
    if known := not_read(name):
        raise InputError(path, *known)
    with path.open("rb") as file:
        start = file.read(512)
    if format is not None or start[128:132] == b"DICM":
        from .dicom import read_dicom

        return read_dicom(path, series=series)
    refuse_foreign(path, start)
    suffix = "".join(path.suffixes[-2:]) or "no suffix"
    raise InputError(path, f"this kind of file ({suffix}) is not supported", f"Give {supported()}")
