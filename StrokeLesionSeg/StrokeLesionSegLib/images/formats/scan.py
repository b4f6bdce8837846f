"""What reading a file yields: the volume, and what is needed to write beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..volume import Volume


@dataclass(frozen=True)
class Scan:
    """A scan as it was read.

    Attributes
    ----------
    volume: float32 array (K, J, I), C-contiguous, finite; affine ijk -> RAS mm.
    path: the file, or the DICOM folder.
    format: "nifti", "nrrd", "metaimage", "dicom" or "memory".
    warnings: one sentence each, about what is odd in the input but was dealt with.
    header: what writing in the input's own grid needs. Always ``dtype`` (name of the stored
        type). NIfTI: ``nifti`` (the header's bytes), ``nifti_version`` and ``byteorder``.
        DICOM: ``series`` with ``StudyInstanceUID``, ``SeriesInstanceUID``,
        ``FrameOfReferenceUID``, ``SeriesDescription``, ``Modality`` and ``files``, the source
        files in the order of the slices (k). Nothing that names the patient.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> scan = checked_scan("memory", np.arange(64.0).reshape(4, 4, 4), np.eye(4))
    >>> scan.format, scan.header["dtype"], scan.warnings
    ('memory', 'float64', ())
    """

    volume: Volume
    path: Path
    format: str
    warnings: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)
