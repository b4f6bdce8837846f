"""Where the results of one scan go, and what a run found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..file_formats import split_name
from ..outputs import beside_mask, default_mask_path
from ..spaces import MNI_SPACE, NATIVE

if TYPE_CHECKING:
    from ..images import DeformableAlignment
    from ..inference import Prediction
    from ..lesions import LesionMap, RegionTable

#: How the name of the transform to MNI space ends, after the scan's name.
TRANSFORM_ENDING = f"from-T1w_to-{MNI_SPACE}_mode-image_xfm.h5"

#: How the name of the table of regions ends, after the mask's name.
REGIONS_ENDING = "_regions.tsv"


def mni_names(mask: Path) -> dict[str, Path]:
    """Names of a scan's files in MNI space, beside ``mask``: BIDS entities after the scan's name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.pipeline import mni_names
    >>> mni_names(Path("sub-01_T1w_lesion.nii.gz"))["mni_mask"].name
    'sub-01_space-MNI152NLin2009aSym_label-lesion_mask.nii.gz'
    """
    stem = split_name(mask)[0]
    for ending in ("_label-lesion_mask", "_lesion", "_mask", "_T1w"):
        stem = stem.removesuffix(ending) or stem
    start = f"{stem}_space-{MNI_SPACE}"
    return {
        "mni_mask": mask.with_name(f"{start}_label-lesion_mask.nii.gz"),
        "mni_probability": mask.with_name(f"{start}_label-lesion_probseg.nii.gz"),
        "mni_transform": mask.with_name(f"{stem}_{TRANSFORM_ENDING}"),
    }


@dataclass(frozen=True)
class OutputPaths:
    """Where the results go; None for what is not wanted.

    Attributes
    ----------
    mask: uint8 image, 1 in lesions, on the input's grid.
    probability, uncertainty: float32 images on the input's grid: mean over views and flips, and its
        standard deviation.
    table: tab-separated, one row per lesion.
    regions: tab-separated, one row per region of an atlas and side; see ``RegionTable``.
    sidecar: JSON with all parameters, versions, checksums and timings.
    dicom_seg: the mask as DICOM Segmentation; the input has to be DICOM.
    dicom_sr, dicom_rtstruct: volumes as a DICOM report, contours as an RT Structure Set; likewise.
    report: one HTML page for people.
    mni_mask, mni_probability: the same in MNI152NLin2009aSym, on the template's 1 mm grid.
    mni_transform: the way there as an ITK transform (.h5); see ``images.write_transform``.

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
    uncertainty: Path | None = None
    table: Path | None = None
    sidecar: Path | None = None
    dicom_seg: Path | None = None
    dicom_sr: Path | None = None
    dicom_rtstruct: Path | None = None
    report: Path | None = None
    mni_mask: Path | None = None
    mni_probability: Path | None = None
    mni_transform: Path | None = None
    regions: Path | None = None

    @classmethod
    def beside(
        cls, source: Path, mask: Path | None = None, spaces: Iterable[str] = (NATIVE,)
    ) -> OutputPaths:
        """Mask, tables and sidecar with default names, beside ``source`` or with ``mask``.

        ``spaces``: as in ``spaces.SPACES``; the scan's own is always written.
        """
        mask = default_mask_path(source) if mask is None else Path(mask)
        paths = cls(
            mask,
            table=beside_mask(mask, ".tsv"),
            sidecar=beside_mask(mask, ".json"),
            regions=beside_mask(mask, REGIONS_ENDING),
        )
        return paths.with_mni() if MNI_SPACE in spaces else paths

    def with_mni(self, names: Mapping[str, Path] | None = None) -> OutputPaths:
        """With the files in MNI space too, by BIDS names beside the mask."""
        return replace(self, **(names or mni_names(self.mask)))

    def without_mni(self) -> OutputPaths:
        """The same without the files in MNI space."""
        return replace(self, mni_mask=None, mni_probability=None, mni_transform=None)

    @property
    def in_dicom(self) -> list[Path]:
        """What is wanted as DICOM."""
        names = (self.dicom_seg, self.dicom_sr, self.dicom_rtstruct)
        return [p for p in names if p is not None]

    @property
    def in_mni(self) -> list[Path]:
        """What is wanted in MNI space."""
        names = (self.mni_mask, self.mni_probability, self.mni_transform)
        return [p for p in names if p is not None]

    def of_before(self, source: Path) -> list[Path]:
        """What lies beside an earlier mask under the default names, and is not written anew."""
        if not self.mask.is_file():
            return []
        usual = OutputPaths.beside(source, self.mask).with_mni()
        new = {*self.volumes, *(path for path, _ in self.documents), source}
        files = (*usual.volumes, *(path for path, _ in usual.documents))
        return [path for path in files if path not in new and path.is_file()]

    @property
    def volumes(self) -> list[Path]:
        images = (
            self.mask,
            self.probability,
            self.uncertainty,
            self.mni_mask,
            self.mni_probability,
        )
        return [p for p in images if p is not None]

    @property
    def documents(self) -> list[tuple[Path, str]]:
        pairs = (
            (self.table, ".tsv"),
            (self.regions, ".tsv"),
            (self.sidecar, ".json"),
            *((path, ".dcm") for path in self.in_dicom),
            (self.report, ".html"),
            (self.mni_transform, ".h5"),
        )
        return [(p, suffix) for p, suffix in pairs if p is not None]


@dataclass(frozen=True)
class SegmentResult:
    """What one run found and wrote.

    Attributes
    ----------
    source: the input. paths: what was written. lesion_map: mask, labels and measurements on the
    input's grid. prediction: probability and uncertainty there, and how they were made.
    warnings: one sentence each. not_written: of optional outputs that proved impossible, one
    sentence each, which are among the warnings too. timings: seconds by stage, and ``total``.
    input_check: whether a refusal was overruled, and all findings; JSON-ready. label: what the
    sidecar calls the scan; empty for the source's own name. regions: lesion volumes by region;
    None without an alignment.
    expected_dice: how well the mask may agree with a rater's (``lesions.expected_dice``); None for
        a model without a calibration.
    deformed: the deformable alignment, if it was asked for.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import Volume, write_volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> from StrokeLesionSegLib.pipeline import FileOptions, OutputPaths, segment_file
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> write_volume("t1.nii.gz", volume)
    >>> options = FileOptions(options=SegmentOptions(align="none"), force=True)
    >>> result = segment_file(Path("t1.nii.gz"), OutputPaths(Path("mask.nii.gz")), options)
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
    not_written: tuple[str, ...] = ()
    label: str = ""
    regions: RegionTable | None = None
    expected_dice: float | None = None
    deformed: DeformableAlignment | None = None

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions together in mL."""
        return self.lesion_map.summary.volume_ml

    @property
    def reasons_to_look(self) -> list[str]:
        """What makes the result suspicious, one sentence each; the same as on the page."""
        from ..report.concerns import concerns

        alignment = self.prediction.alignment
        return concerns(
            *self._volumes_and_probabilities(),
            aligned=None if alignment is None else alignment.ok,
            alignment_reason="" if alignment is None else alignment.reason,
        )

    @property
    def mean_probability(self) -> float | None:
        """The mean probability over all lesion voxels; None without lesions."""
        from ..report.concerns import mean_probability

        return mean_probability(*self._volumes_and_probabilities())

    def _volumes_and_probabilities(self) -> tuple[list[float], list[float]]:
        kept = [lesion for lesion in self.lesion_map.lesions if lesion.keep]
        return [x.volume_ml for x in kept], [x.mean_probability for x in kept]

    def as_dict(self) -> dict[str, Any]:
        """For ``--progress json``: paths as strings, counts, seconds."""
        paths = {k: None if v is None else str(v) for k, v in asdict(self.paths).items()}
        return {
            "source": str(self.source),
            **paths,
            "lesions": self.lesion_map.summary.count,
            "volume_ml": round(self.volume_ml, 4),
            "mean_probability": self.mean_probability,
            "expected_dice": self.expected_dice,
            "reasons_to_look": self.reasons_to_look,
            "warnings": list(self.warnings),
            "not_written": list(self.not_written),
            "timings": {k: round(v, 3) for k, v in self.timings.items()},
        }
