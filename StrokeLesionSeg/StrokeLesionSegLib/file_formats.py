"""The file formats of volumes: the one table that reading, outputs, cohorts, scorers and atlas ask.

A format of your own is one more entry; see ``docs/extending.md``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Format:
    """One way to store a volume.

    Attributes
    ----------
    title : str
        What users read, for example ``"NIfTI"``.
    endings : tuple of str
        How the names of its files end, in lower case.
    reader : str
        ``"module:function"``. The function takes the path and ``allow_constant`` and returns a
        ``Scan``.
    written : tuple of str
        Those of ``endings`` that can be written; the first is written for the others.
    writer : str
        ``"module:function"``, empty where nothing is written. The function takes the path to write
        to, the ``Volume`` and an ``images.formats.writing.Request``.
    whole : bool
        Whether one file holds a whole volume. Slices of a DICOM series do not.
    sheared : bool
        Whether what is written holds voxel axes that are not at right angles.
    """

    title: str
    endings: tuple[str, ...]
    reader: str
    written: tuple[str, ...] = ()
    writer: str = ""
    whole: bool = True
    sheared: bool = True

    def read(self) -> Callable[..., Any]:
        """The function that reads it, imported now."""
        return _function(self.reader)

    def write(self) -> Callable[..., Any]:
        """The function that writes it, imported now."""
        return _function(self.writer)


_IMAGES = "StrokeLesionSegLib.images.formats"
#: By the name that ``Scan.format`` has.
FORMATS: dict[str, Format] = {
    "nifti": Format(
        *("NIfTI", (".nii.gz", ".nii", ".nii.bz2", ".nii.xz"), f"{_IMAGES}.nifti:read_nifti"),
        *((".nii.gz", ".nii"), f"{_IMAGES}.writing:write_nifti"),
    ),
    "nrrd": Format(
        *("NRRD", (".nrrd", ".nhdr"), f"{_IMAGES}.itk_formats:read_itk"),
        *((".nrrd",), f"{_IMAGES}.itk_formats:write_itk"),
        sheared=False,
    ),
    "metaimage": Format(
        *("MetaImage", (".mha", ".mhd"), f"{_IMAGES}.itk_formats:read_itk"),
        *((".mha",), f"{_IMAGES}.itk_formats:write_itk"),
        sheared=False,
    ),
    "mgh": Format("FreeSurfer", (".mgz", ".mgh"), f"{_IMAGES}.mgh:read_mgh"),
    "dicom": Format("DICOM", (".dcm", ".ima"), f"{_IMAGES}.dicom:read_dicom", whole=False),
}

_CONVERT = "Convert it to .nii.gz, for instance with {}"
_PAIR = (
    "two-file images (.hdr and .img, Analyze or NIfTI) are not supported",
    "Convert the pair to a single .nii.gz file",
)
_ZSTD = ("files compressed with Zstandard are not supported", "Unpack it first, with zstd -d")
_AFNI = ("AFNI images (.HEAD and .BRIK) are not supported", _CONVERT.format("3dAFNItoNIFTI"))
_MINC = ("MINC images are not supported", _CONVERT.format("mnc2nii or 3D Slicer"))
_SURFACE = ("this is a surface or values on one, not an image", "Give the T1-weighted scan itself")
_MRTRIX = ("MRtrix images are not supported", _CONVERT.format("mrconvert"))

#: Endings of images of others (in lower case): the cause and the remedy.
NOT_READ = {
    **dict.fromkeys((".hdr", ".hdr.gz", ".img", ".img.gz"), _PAIR),
    **dict.fromkeys((".nii.zst", ".nii.zstd"), _ZSTD),
    **dict.fromkeys((".nii.lz4", ".nii.z", ".nii.7z"), (
        "files compressed in this way are not supported", "Unpack it first")),
    ".nii.zip": ("zip archives are not supported", "Unpack it first"),
    **dict.fromkeys((".head", ".brik", ".brik.gz", ".brik.bz2"), _AFNI),
    **dict.fromkeys((".mnc", ".mnc.gz", ".mnc2"), _MINC),
    **dict.fromkeys((".mif", ".mif.gz", ".mih"), _MRTRIX),
    ".par": ("Philips PAR/REC images are not supported", _CONVERT.format("dcm2niix")),
    **dict.fromkeys((".gii", ".gii.gz", ".annot"), _SURFACE),
    ".vtk": ("VTK files are not supported", _CONVERT.format("3D Slicer")),
    ".vmr": ("BrainVoyager images are not supported", _CONVERT.format("BrainVoyager's export")),
    ".nii.gz.gz": ("this is a .nii.gz compressed again", "Unpack it once, with gunzip"),
    ".mgz.gz": ("this is a .mgz compressed again", "Unpack it once, with gunzip"),
}  # fmt: skip
#: Those of ``NOT_READ`` that are surely whole images: the second files of pairs go with the first.
IMAGES_NOT_READ = (
    *(".hdr", ".hdr.gz", ".nii.zst", ".nii.zstd", ".nii.lz4", ".nii.z", ".nii.7z", ".nii.zip"),
    *(".head", ".mnc", ".mnc.gz", ".mnc2", ".mif", ".mif.gz", ".mih", ".mgz.gz", ".nii.gz.gz"),
)


def format_of(name: str) -> Format | None:
    """The format of a file, by its name.

    Examples
    --------
    >>> format_of("Scan.NII.GZ").title
    'NIfTI'
    >>> format_of("scan.txt") is None
    True
    """
    return next((f for f in FORMATS.values() if name.lower().endswith(f.endings)), None)


def not_read(name: str) -> tuple[str, str] | None:
    """Cause and remedy for a file whose name says that it is not read; None for others.

    Examples
    --------
    >>> not_read("sub-01.nii.zst")
    ('files compressed with Zstandard are not supported', 'Unpack it first, with zstd -d')
    """
    lower = name.lower()
    return next((NOT_READ[end] for end in NOT_READ if lower.endswith(end)), None)


def image_endings() -> tuple[str, ...]:
    """Endings of the files that hold a whole volume, as they are read.

    Examples
    --------
    >>> image_endings()
    ('.nii.gz', '.nii', '.nii.bz2', '.nii.xz', '.nrrd', '.nhdr', '.mha', '.mhd', '.mgz', '.mgh')
    """
    return tuple(ending for f in FORMATS.values() if f.whole for ending in f.endings)


def written_endings() -> tuple[str, ...]:
    """Endings of the files that a volume can be written to.

    Examples
    --------
    >>> written_endings()
    ('.nii.gz', '.nii', '.nrrd', '.mha')
    """
    return tuple(ending for f in FORMATS.values() for ending in f.written)


def supported() -> str:
    """What can be read, for messages.

    Examples
    --------
    >>> supported()
    '.nii.gz, .nii, .nii.bz2, .nii.xz, .nrrd, .nhdr, .mha, .mhd, .mgz, .mgh or a DICOM folder'
    """
    return f"{', '.join(image_endings())} or a DICOM folder"


def split_name(path: Path) -> tuple[str, str]:
    """Stem and ending of a file's name, with ``.nii.gz`` as one ending, in lower case.

    Names of folders and of files of another kind are returned whole, with an empty ending.

    Examples
    --------
    >>> split_name(Path("sub-01_T1w.Nii.gz"))
    ('sub-01_T1w', '.nii.gz')
    >>> split_name(Path("notes.txt"))
    ('notes.txt', '')
    """
    name = path.name
    for ending in _endings():
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)], ending
    return name, ""


def ending_like(ending: str) -> str:
    """What a mask is written as by default for an input that ends in ``ending``.

    Examples
    --------
    >>> ending_like(".nii"), ending_like(".mhd"), ending_like(".dcm")
    ('.nii', '.mha', '.nii.gz')
    """
    format = format_of(ending)
    if format is None or not format.written:
        return ".nii.gz"
    return ending if ending in format.written else format.written[0]


def _endings() -> Iterator[str]:
    for format in FORMATS.values():
        yield from format.endings
    yield from NOT_READ


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
