"""What reports are made of: plain data, gathered elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from ..lesions.measure import Lesion, Summary
from ..lesions.regions import RegionTable

#: Which side of a picture is the patient's left: the right one, or the left one.
RADIOLOGICAL, NEUROLOGICAL = "radiological", "neurological"
#: Both conventions, the usual one first.
CONVENTIONS = (RADIOLOGICAL, NEUROLOGICAL)

#: Name of the folder with what the pages of a study share.
SHARED_FOLDER = "pages"

#: A short title and its text, for the lists at the end of a page.
Fact = tuple[str, str]


@dataclass(frozen=True)
class AlignmentFacts:
    """How the alignment to MNI152 ended.

    Attributes
    ----------
    ok: False if it failed by its own bounds; then it was not used.
    reason: why it failed, else empty.
    overlap: share of the MNI brain that the aligned scan fills, 0 to 1.
    similarity: correlation with the template, -1 to 1.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import AlignmentFacts
    >>> AlignmentFacts(ok=True, reason="", overlap=0.95, similarity=0.8).ok
    True
    """

    ok: bool
    reason: str
    overlap: float
    similarity: float


@dataclass(frozen=True, eq=False)
class TriedAlignment:
    """A scan where an alignment that failed puts it, for the eye; nothing was measured there.

    Attributes
    ----------
    t1: (K, J, I) uint8, windowed T1. brain: (K, J, I) bool, the MNI brain.
    affine: 4x4; (i, j, k, 1) to MNI RAS mm; diagonal and positive.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import TriedAlignment
    >>> t1 = np.zeros((4, 4, 4), np.uint8)
    >>> bool(TriedAlignment(t1, t1 > 0, np.eye(4)).brain.any())
    False
    """

    t1: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]

    __repr__ = brief_repr


@dataclass(frozen=True, eq=False)
class ViewerImages:
    """What the viewer of a page shows: gzipped NIfTI files on grids of the same space.

    Attributes
    ----------
    t1: uint8, 0 outside of the brain and what lies close to it. lesions: the labels, uint8 or, of
        more than 255, uint16.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import ViewerImages
    >>> len(ViewerImages(b"t1", b"lesions").t1)
    2
    """

    t1: bytes
    lesions: bytes

    __repr__ = brief_repr


@dataclass(frozen=True, eq=False)
class Correction:
    """A reader's correction of a mask, beside what the model had found.

    Attributes
    ----------
    who: the reader's pseudonym, or empty. when: date and time as text, or empty.
    automatic: (K, J, I) bool, the automatic mask on the page's grid. automatic_ml: its volume on
        the scan's own grid, mL. dice: how well both agree there, 0 to 1; None if both are empty.
    page: address of the page of the automatic mask relative to this one, or empty.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import Correction
    >>> Correction("R1", "2026-11-29", np.zeros((4, 4, 4), bool), 1.5, 0.9).page
    ''
    """

    who: str
    when: str
    automatic: NDArray[np.bool_]
    automatic_ml: float
    dice: float | None
    page: str = ""

    __repr__ = brief_repr


@dataclass(frozen=True)
class StudyPlace:
    """Where a page lies in a study.

    Attributes
    ----------
    identity: of the study, made once.
    scan: the scan's name, unique in the study.
    root: relative address of the study's folder from the page, for example ``"../../"``.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import StudyPlace
    >>> StudyPlace("0f3a", "sub-01", "../../").shared
    '../../pages/'
    """

    identity: str
    scan: str
    root: str

    @property
    def shared(self) -> str:
        """Address of the folder with the scripts that all pages use."""
        return f"{self.root}{SHARED_FOLDER}/"

    @property
    def group(self) -> str:
        """Address of the page of the group."""
        return f"{self.root}index.html"


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything on the page of one scan.

    Arrays share one grid for display with axes along R, A, S; the volumes in ``lesions`` and
    ``summary`` were measured on the scan's own grid.

    Attributes
    ----------
    name: what the page calls the scan; it must name no patient.
    created: date and time, as text.
    t1: (K, J, I) uint8, windowed T1, 0 to 255.
    labels: (K, J, I) integer; 0 outside, n inside the lesion with label n.
    uncertainty: (K, J, I) float32 in [0, 0.5], of the probability; None if there is none.
    affine: 4x4; (i, j, k, 1) of the display grid to ``space``'s RAS mm; diagonal and positive.
    space: "MNI152" if the arrays are aligned to it, else "scan".
    midline_x_mm: x of the plane between left and right in ``space``.
    brain: (K, J, I) bool, the MNI brain on the display grid; None if not aligned.
    lesions, summary: measurements; lesions with ``keep`` false are listed but not counted.
    centres_mm: by label, the centre of mass in ``space``, where the crosshair is put.
    passes: names of the network's passes, of which ``uncertainty`` is made; empty if not known.
    alignment: None if none was wanted.
    tried: where an alignment that failed puts the scan; None if none failed.
    regions: None without an alignment.
    expected_dice: how well the mask may agree with a rater's, 0 to 1; None if nobody can tell.
    warnings: one sentence each.
    intended_use: the model's own statement of what it is for.
    source, model, parameters, versions: facts for the lists at the end.
    convention: "radiological" shows the patient's left on the right, "neurological" on the left.
    viewer: what the interactive viewer shows; None leaves it out.
    study: where the page lies in a study, for quality control; None for a page of its own.
    correction: by whom the lesions were corrected; None for those of a model.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.report import report_content
    >>> scan = checked_scan("t1", np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> found = find_lesions(scan.volume.array > 0.9, np.eye(4), OperatingPoint(0.5))
    >>> content = report_content(scan, found)
    >>> content.space, content.index_kji((1.0, 2.0, 3.0))
    ('scan', (3, 2, 1))
    """

    name: str
    created: str
    t1: NDArray[np.uint8]
    labels: NDArray[np.integer]
    uncertainty: NDArray[np.floating] | None
    affine: NDArray[np.float64]
    space: str
    midline_x_mm: float
    brain: NDArray[np.bool_] | None
    lesions: tuple[Lesion, ...]
    summary: Summary
    centres_mm: dict[int, tuple[float, float, float]]
    passes: tuple[str, ...] = ()
    alignment: AlignmentFacts | None = None
    regions: RegionTable | None = None
    expected_dice: float | None = None
    warnings: tuple[str, ...] = ()
    intended_use: str = ""
    source: Sequence[Fact] = ()
    model: Sequence[Fact] = ()
    parameters: Sequence[Fact] = ()
    versions: Sequence[Fact] = ()
    convention: str = RADIOLOGICAL
    tried: TriedAlignment | None = None
    viewer: ViewerImages | None = None
    study: StudyPlace | None = None
    correction: Correction | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        shape = self.t1.shape
        if self.t1.ndim != 3 or self.t1.dtype != np.uint8:
            raise ValueError("the T1 must be a 3D uint8 array")
        for name in ("labels", "uncertainty", "brain"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} of shape {array.shape} on a grid of {shape}")
        if self.correction is not None and self.correction.automatic.shape != shape:
            raise ValueError("the automatic mask is on another grid")
        axes = self.affine[:3, :3]
        if (np.diag(axes) <= 0).any() or np.abs(axes - np.diag(np.diag(axes))).max() > 1e-6:
            raise ValueError("the display grid must have its axes along R, A, S")
        if self.convention not in CONVENTIONS:
            raise ValueError(f"the convention must be one of {', '.join(CONVENTIONS)}")

    def index_kji(self, point_mm: Sequence[float]) -> tuple[int, int, int]:
        """The voxel of the display grid that is nearest to a point in ``space`` (x, y, z mm)."""
        steps = np.diag(self.affine)[:3]
        ijk = np.rint((np.asarray(point_mm, dtype=np.float64) - self.affine[:3, 3]) / steps)
        last = np.array(self.t1.shape[::-1]) - 1
        i, j, k = (int(v) for v in np.clip(ijk, 0, last))
        return k, j, i


@dataclass(frozen=True)
class GroupScan:
    """One scan of a group.

    Attributes
    ----------
    name: what the page calls it, unique in the group; it must name no patient.
    state: "done", "failed" or "waiting" (not reached yet).
    reason: why it failed, in one line.
    page: address of its own page relative to the group's, for example
        "sub-01/anat/sub-01_desc-lesions_report.html"; None if there is none.
    aligned: whether the alignment to MNI152 succeeded; None if none was wanted.
    alignment_reason: why it did not.
    seconds: how long the scan took; None if not known.
    warnings: one sentence each.
    corrected: whether its lesions are those of a mask that a reader has corrected.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import GroupScan
    >>> GroupScan("sub-02", "failed", reason="the file is damaged").page is None
    True
    """

    name: str
    state: str
    reason: str = ""
    page: str | None = None
    aligned: bool | None = None
    alignment_reason: str = ""
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    corrected: bool = False

    def __post_init__(self) -> None:
        if self.state not in ("done", "failed", "waiting"):
            raise ValueError(f"the state of {self.name!r} is {self.state!r}")


@dataclass(frozen=True)
class GroupTraits:
    """What a study knows of the people behind its scans: columns of ``participants.tsv``.

    Attributes
    ----------
    columns: in their order. of_scan: values by scan's name and column; a scan may be missing.
    notes: one sentence for each thing that does not fit.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import GroupTraits
    >>> GroupTraits(("site",), {"sub-01": {"site": "A"}}).of_scan["sub-01"]["site"]
    'A'
    """

    columns: tuple[str, ...] = ()
    of_scan: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FrequencyMap:
    """How many scans have a lesion in each voxel of MNI space.

    Attributes
    ----------
    counts: (K, J, I) integer. scans: number of scans that were added up, with lesions or without.
    affine: 4x4, (i, j, k, 1) to MNI RAS mm, axes along R, A, S.
    background: (K, J, I) uint8, the template to draw on.
    left_out: scans that are not in it because they were not aligned.
    group: finished scans of the group, of which ``scans`` and ``left_out`` may be a sample; None
        if they are all.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import FrequencyMap
    >>> counts = np.zeros((4, 4, 4), np.int32)
    >>> FrequencyMap(counts, 3, np.eye(4), counts.astype(np.uint8), left_out=1).scans
    3
    """

    counts: NDArray[np.integer]
    scans: int
    affine: NDArray[np.float64]
    background: NDArray[np.uint8]
    left_out: int = 0
    group: int | None = None

    __repr__ = brief_repr
