"""Where the results of one scan go, and what a run found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..outputs import beside_mask, default_mask_path

if TYPE_CHECKING:
    from ..inference import Prediction
    from ..lesions import LesionMap


@dataclass(frozen=True)
class OutputPaths:
    """Where the results go; None for what is not wanted.

    Attributes
    ----------
    mask: uint8 image, 1 in lesions, on the input's grid.
    probability, spread: float32 images on the input's grid: mean over views and flips, and its
        standard deviation.
    table: tab-separated, one row per lesion.
    sidecar: JSON with all parameters, versions, checksums and timings.
    dicom_seg: the mask as DICOM Segmentation; the input has to be DICOM.
    report: one HTML page for people.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.pipeline import OutputPaths
    >>> paths = OutputPaths.beside(Path("t1.nii.gz"))
    >>> paths.mask.name, paths.table.name, paths.report
    ('t1_lesion.nii.gz', 't1_lesion.tsv', None)
    """

    mask: Path
    probability: Path | None = None
    spread: Path | None = None
    table: Path | None = None
    sidecar: Path | None = None
    dicom_seg: Path | None = None
    report: Path | None = None

    @classmethod
    def beside(cls, source: Path, mask: Path | None = None) -> OutputPaths:
        """Mask, table and sidecar with default names, beside ``source`` or with ``mask``."""
        mask = default_mask_path(source) if mask is None else Path(mask)
        return cls(mask, table=beside_mask(mask, ".tsv"), sidecar=beside_mask(mask, ".json"))

    @property
    def volumes(self) -> list[Path]:
        return [p for p in (self.mask, self.probability, self.spread) if p is not None]

    @property
    def documents(self) -> list[tuple[Path, str]]:
        pairs = (
            (self.table, ".tsv"),
            (self.sidecar, ".json"),
            (self.dicom_seg, ".dcm"),
            (self.report, ".html"),
        )
        return [(p, suffix) for p, suffix in pairs if p is not None]


@dataclass(frozen=True)
class SegmentResult:
    """What one run found and wrote.

    Attributes
    ----------
    source: the input. paths: what was written. lesion_map: mask, labels and measurements on the
    input's grid. prediction: probability and spread there, and how they were made. warnings: one
    sentence each. timings: seconds by stage, and ``total``. input_check: whether a refusal was
    overruled, and all findings; JSON-ready.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import Volume, write_volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> from StrokeLesionSegLib.pipeline import OutputPaths, segment_file
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> write_volume("t1.nii.gz", volume)
    >>> paths, options = OutputPaths(Path("mask.nii.gz")), SegmentOptions(align="none")
    >>> result = segment_file(Path("t1.nii.gz"), paths, options=options, force=True)
    >>> result.source.name, "total" in result.timings
    ('t1.nii.gz', True)
    """

    source: Path
    paths: OutputPaths
    lesion_map: LesionMap
    prediction: Prediction
    warnings: tuple[str, ...]
    timings: dict[str, float]
    input_check: dict[str, Any] = field(default_factory=dict)

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions together in mL."""
        return self.lesion_map.summary.volume_ml

    def as_dict(self) -> dict[str, Any]:
        """For ``--progress json``: paths as strings, counts, seconds."""
        paths = {k: None if v is None else str(v) for k, v in asdict(self.paths).items()}
        return {
            "source": str(self.source),
            **paths,
            "lesions": self.lesion_map.summary.count,
            "volume_ml": round(self.volume_ml, 4),
            "warnings": list(self.warnings),
            "timings": {k: round(v, 3) for k, v in self.timings.items()},
        }
