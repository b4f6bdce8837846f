"""From a finished run to the content of its report."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..file_formats import FORMATS, split_name
from ..images import nearest_labels
from ..outputs import default_label
from .content import (
    RADIOLOGICAL,
    AlignmentFacts,
    Correction,
    Fact,
    ReportContent,
    StudyPlace,
    TriedAlignment,
)
from .page import timestamp, without_paths
from .viewer import viewer_images

if TYPE_CHECKING:
    from ..images import Alignment, Canonical, Grid, Scan, Volume
    from ..lesions import LesionMap, RegionTable


class ModelFacts(Protocol):
    """What the page says about a model; ``models.Manifest`` is one."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def created(self) -> str: ...

    @property
    def license(self) -> str: ...

    @property
    def intended_use(self) -> str: ...

    @property
    def weights(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class ReportOptions:
    """What is asked of a report.

    Attributes
    ----------
    convention: "radiological" or "neurological".
    show_paths: name the input's path, and the series of a DICOM folder. Otherwise the page holds
        no path of this machine.
    name: what the page calls the scan; None takes it from the file's name.
    viewer: put the brain and the lesions into the page, to scroll through.
    study: where the page lies in a study; None for a page of its own.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import NEUROLOGICAL, ReportOptions
    >>> ReportOptions(convention=NEUROLOGICAL, name="sub-01").show_paths
    False
    """

    convention: str = RADIOLOGICAL
    show_paths: bool = False
    name: str | None = None
    viewer: bool = True
    study: StudyPlace | None = None


@dataclass(frozen=True)
class CorrectionFacts:
    """Who has corrected a mask, and what it was before.

    Attributes
    ----------
    automatic: the mask of the model, on the scan's grid.
    who: the reader's pseudonym. when: date and time. page: address of the automatic mask's page.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.report import CorrectionFacts
    >>> CorrectionFacts(Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)), "R1").when
    ''
    """

    automatic: Volume
    who: str = ""
    when: str = ""
    page: str = ""


@dataclass(frozen=True)
class RunFacts:
    """How the lesions of a page were found; what is not known is left empty.

    Attributes
    ----------
    manifest: of the model.
    settings: the run's options.
    details: ``Prediction.details``.
    versions: of the software, by name.
    warnings: one sentence each.
    seconds: the run's duration so far.
    sha256: of the input file.
    expected_dice: of the mask, None for one that a reader has corrected.
    correction: of a mask that a reader has corrected.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import RunFacts
    >>> RunFacts(settings={"views": "axial"}, seconds=3.5).warnings
    ()
    """

    manifest: ModelFacts | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    seconds: float | None = None
    sha256: str | None = None
    expected_dice: float | None = None
    correction: CorrectionFacts | None = None


def report_path(folder: Path, source: Path) -> Path:
    """``folder/<name of the scan>.html``; DICOM, named as patients are, goes by a checksum.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.report import report_path
    >>> report_path(Path("pages"), Path("scans/sub-01_T1w.nii.gz")).as_posix()
    'pages/sub-01_T1w.html'
    """
    return Path(folder) / f"{default_label(source)}.html"


def report_content(
    scan: Scan,
    lesion_map: LesionMap,
    *,
    uncertainty: Volume | None = None,
    alignment: Alignment | None = None,
    run: RunFacts | None = None,
    regions: RegionTable | None = None,
    options: ReportOptions | None = None,
) -> ReportContent:
    """Everything on the page of ``scan``.

    Parameters
    ----------
    scan: as it was read. lesion_map: on its grid, corrected by a reader or not.
    uncertainty: on the scan's grid (``Prediction.uncertainty``).
    alignment: as it was found; one that failed is reported and not used.
    run: how the lesions were found; None if nothing is known of it.
    regions: lesion volumes by the regions of an atlas.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.report import RunFacts, report_content
    >>> scan = checked_scan("t1", np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> found = find_lesions(scan.volume.array > 0.9, np.eye(4), OperatingPoint(0.5))
    >>> content = report_content(scan, found, run=RunFacts(warnings=["It is noise."]))
    >>> content.t1.dtype, content.warnings
    (dtype('uint8'), ('It is noise.',))
    """
    options = options or ReportOptions()
    run = run or RunFacts()
    used = alignment if alignment is not None and alignment.ok else None
    canonical, space, brain = _display(scan.volume, used)
    grid = canonical.volume.grid
    to_space = np.eye(4) if used is None else np.asarray(used.matrix, dtype=np.float64)
    centres = {
        lesion.label: _point(to_space, lesion.centroid_ras_mm) for lesion in lesion_map.lesions
    }
    labels = _labels_there(scan.volume.with_array(lesion_map.labels), to_space, grid)

    notes = [_public(warning, scan, options.name) for warning in run.warnings]

    middle = (np.array(scan.volume.array.shape[::-1], dtype=np.float64) - 1) / 2
    midline = 0.0 if space == "MNI152" else float(_point(scan.volume.affine, middle)[0])
    content = ReportContent(
        name=options.name or _name(scan),
        created=timestamp(),
        t1=_grey(canonical.volume.array, brain),
        labels=labels,
        uncertainty=None if uncertainty is None else _on_display(uncertainty, used),
        affine=np.array(grid.affine),
        space=space,
        midline_x_mm=midline,
        brain=brain,
        lesions=lesion_map.lesions,
        summary=lesion_map.summary,
        centres_mm=centres,
        passes=tuple(run.details.get("passes", ())),
        alignment=None
        if alignment is None
        else AlignmentFacts(
            alignment.ok, alignment.reason, alignment.overlap, alignment.similarity
        ),
        tried=_tried(scan.volume, alignment),
        regions=regions,
        expected_dice=run.expected_dice,
        warnings=tuple(notes),
        intended_use="" if run.manifest is None else run.manifest.intended_use,
        source=_source_facts(scan, run.sha256, options),
        model=() if run.manifest is None else _model_facts(run.manifest),
        parameters=_parameters(lesion_map, run),
        versions=tuple(run.versions.items()),
        convention=options.convention,
        study=options.study,
        correction=_correction(run.correction, lesion_map, to_space, grid),
    )
    _show_the_smallest(content)
    if options.viewer:
        shown = viewer_images(content.t1, content.labels, brain, content.affine)
        content = replace(content, viewer=shown)
    return content


def _display(
    volume: Volume, used: Alignment | None
) -> tuple[Canonical, str, NDArray[np.bool_] | None]:
    """The scan on the grid of the pictures, the space of that grid, and the MNI brain on it."""
    from ..images import MNI_GRID, mni_brain_mask, to_canonical

    canonical = to_canonical(volume, used)
    if used is None and not canonical.volume.grid.same_as(MNI_GRID):
        return canonical, "scan", None
    if canonical.volume.array.shape != MNI_GRID.shape:
        raise ValueError("an aligned scan is not on the MNI grid")
    return canonical, "MNI152", mni_brain_mask().array > 0


def _labels_there(labels: Volume, to_space: NDArray[np.float64], grid: Grid) -> NDArray[np.int32]:
    """A label map on the pictures' grid."""
    shown = np.zeros(grid.shape, dtype=np.int32)
    found = nearest_labels(labels, to_space, grid)
    if found is not None:
        shown[found[0]] = found[1]
    return shown


def _correction(
    facts: CorrectionFacts | None,
    lesion_map: LesionMap,
    to_space: NDArray[np.float64],
    grid: Grid,
) -> Correction | None:
    """What the page says of a correction, with the automatic mask on its grid."""
    if facts is None:
        return None
    before = facts.automatic.array > 0
    both = int(np.count_nonzero(before)) + int(np.count_nonzero(lesion_map.mask))
    agreed = int(np.count_nonzero(before & (lesion_map.mask > 0)))
    there = facts.automatic.with_array(before.astype(np.int32))
    return Correction(
        facts.who,
        facts.when,
        _labels_there(there, to_space, grid) > 0,
        float(np.count_nonzero(before)) * facts.automatic.grid.voxel_volume_ml,
        2 * agreed / both if both else None,
        facts.page,
    )


def _tried(volume: Volume, alignment: Alignment | None) -> TriedAlignment | None:
    """Where an alignment that failed puts the scan; None if there is nothing to see."""
    if alignment is None or alignment.ok or not np.isfinite(alignment.matrix).all():
        return None
    if abs(float(np.linalg.det(alignment.matrix))) < 1e-3:
        return None
    from ..images import mni_brain_mask, to_canonical

    there = to_canonical(volume, alignment).volume
    if not np.ptp(there.array) > 0:
        return None
    brain = mni_brain_mask().array > 0
    return TriedAlignment(_grey(there.array, brain), brain, np.array(there.affine))


def _on_display(volume: Volume, used: Alignment | None) -> NDArray[np.float32]:
    from ..images import to_canonical

    return np.asarray(to_canonical(volume, used).volume.array, dtype=np.float32)


def _grey(array: NDArray[Any], brain: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """The T1 as it is shown: the window of the brain, with room above for white matter.

    Fat outside the brain is brighter than all within it, and would darken it.
    """
    from ..images import apply_window, window_range

    low, high = window_range(array)
    values = array[_inner_head(array, low) if brain is None else brain]
    if values.size:
        bottom, top = (float(v) for v in np.percentile(values, (0.5, 99.5)))
        if bottom < top:
            low, high = min(low, bottom) if brain is None else bottom, top + 0.12 * (top - bottom)
    return np.rint(apply_window(array, (low, high)) * 255).astype(np.uint8)


def _inner_head(array: NDArray[Any], above: float) -> NDArray[np.bool_]:
    """A box well within the head, which is what lies ``above`` in its upper 165 mm (1 mm grid)."""
    head = array > above
    heights = np.flatnonzero(head.mean(axis=(1, 2)) > 0.02)
    inner = np.zeros(array.shape, dtype=bool)
    if not heights.size:
        return inner
    first = max(int(heights[0]), int(heights[-1]) - 165)
    head[:first] = False
    parts = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        share = np.cumsum(head.sum(axis=others, dtype=np.float64))
        low, high = np.searchsorted(share, (0.02 * share[-1], 0.98 * share[-1]))
        quarter = (high - low) // 4
        parts.append(slice(low + quarter, high - quarter + 1))
    inner[tuple(parts)] = True
    return inner


def _show_the_smallest(content: ReportContent) -> None:
    """A lesion smaller than a voxel of the pictures gets one voxel at its centre."""
    shown = set(np.unique(content.labels).tolist())
    for lesion in content.lesions:
        if lesion.keep and lesion.label not in shown:
            content.labels[content.index_kji(content.centres_mm[lesion.label])] = lesion.label


def _point(matrix: NDArray[np.float64], point: Iterable[float]) -> tuple[float, float, float]:
    x, y, z = (matrix @ np.array([*point, 1.0]))[:3]
    return float(x), float(y), float(z)


def _name(scan: Scan) -> str:
    # A DICOM folder is often called what the patient is called.
    if scan.format == "dicom":
        return "DICOM series"
    return split_name(Path(os.path.abspath(scan.path)))[0]


def _public(sentence: str, scan: Scan, name: str | None) -> str:
    """A warning without the paths of this machine, and without a DICOM folder's name."""
    path = Path(os.path.abspath(scan.path))
    shown = name or ("the series" if scan.format == "dicom" else path.name)
    for known in (str(path), str(scan.path)):
        if len(known) > 1:
            # Whole, or the folder "T1" would be found in "T1-weighted" and in "T1 MPRAGE".
            given = re.escape(known)
            whole = rf'(?<![\w"-]){given}(?![\w-])|(?<="){given}(?=["\\/])'
            sentence = re.sub(whole, lambda _: shown, sentence)
    return without_paths(sentence)


def _source_facts(scan: Scan, sha256: str | None, options: ReportOptions) -> tuple[Fact, ...]:
    k, j, i = scan.volume.array.shape
    spacing = " × ".join(f"{s:.3g}" for s in scan.volume.spacing)
    facts: list[Fact] = [
        ("Format", FORMATS[scan.format].title if scan.format in FORMATS else scan.format),
        ("Size", f"{i} × {j} × {k} voxels"),
        ("Voxel", f"{spacing} mm"),
    ]
    if sha256:
        facts.append(("SHA-256 of the file", sha256))
    if options.show_paths:
        facts.append(("Path", os.path.abspath(scan.path)))
        series = scan.header.get("series", {}).get("SeriesInstanceUID")
        if series:
            facts.append(("Series instance UID", str(series)))
    return tuple(facts)


def _model_facts(manifest: ModelFacts) -> tuple[Fact, ...]:
    return (
        ("Name", manifest.name),
        ("Version", manifest.version),
        ("Title", manifest.title),
        ("Made", manifest.created),
        ("Licence", manifest.license),
        ("SHA-256 of the weights", str(manifest.weights.get("sha256", ""))),
    )


def _parameters(lesion_map: LesionMap, run: RunFacts) -> tuple[Fact, ...]:
    settings, details = run.settings, run.details
    # What a reader has drawn passed no threshold.
    drawn = run.correction is not None
    facts: list[Fact] = [] if drawn else list(lesion_map.operating_point.facts())
    for title, key in (
        ("Views", "views"),
        ("Flipped copies", "tta"),
        ("Alignment", "align"),
    ):
        if key in settings:
            value = settings[key]
            text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            facts.append((title, text))
    for title, key in (("Device", "device"), ("Number format", "precision")):
        if key in details:
            facts.append((title, str(details[key])))
    window = details.get("intensity_window")
    if window:
        facts.append(("Intensity window", f"{window[0]:.4g} to {window[1]:.4g}"))
    margin = details.get("brain_mask_margin_mm")
    if margin is not None:
        facts.append(("Searched beyond the brain", f"{margin:g} mm"))
    if run.seconds is not None:
        facts.append(("Time", f"{run.seconds:.1f} s"))
    return tuple(facts)
