"""What a batch is asked to do, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atlases import AtlasChoice
from ..operating_point import OperatingPointChoice
from ..spaces import NATIVE
from .inputs import FoundScan
from .ledger import DONE
from .settings import ReportChoice

if TYPE_CHECKING:
    from ..inference import SegmentOptions


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run.

    Attributes
    ----------
    model: name; None takes the default. options, point: as for ``segment_file``.
    resume: leave out what an earlier batch has done with the same input, parameters and model.
    retry_failed: try again what failed before; else it counts as failed without another try.
    workers: processes on this machine; more than one needs dask.distributed.
    scheduler: address of a Dask scheduler, whose workers see the same paths; goes before workers.
    worker_timeout: seconds that a scheduler may have no workers.
    dicom_seg, dicom_sr: write DICOM Segmentation, a report of the volumes for scans that are DICOM;
        need highdicom. dicom_rtstruct: write contours for them.
    report: write an HTML page for every scan, with this in it; None writes that of the group only.
    convention: on which side the group's page shows the left, "radiological" or "neurological";
        that of ``report`` goes first. Empty is radiological, or of the group alone as it was.
    title: of the group's page; empty leaves the last one, or takes the name of the BIDS data set.
    atlas: which atlas volumes are told by.
    spaces: those of ``spaces.SPACES`` that results are written in; with MNI space the group gets
        overlap maps and a table for lesion-symptom mapping.
    deformable: deform the scans to MNI space, their lesions left out.
    pseudonyms: table of what patients are called. source_names: name the folders of DICOM scans in
        tables, ledger and sidecars.
    participants, sessions: labels of those to work on, with or without ``sub-`` and ``ses-``; empty
        takes all. The group's tables hold all that are done.
    probability: write the probability maps, which are nearly all of the output.
    group_only: do no scan, only the group's tables and pages.
    dry_run: write nothing at all; ``planned`` of the report says what would be done.
    force: segment what the input check refuses, too, also what it refused in an earlier batch.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort import BatchOptions
    >>> from StrokeLesionSegLib.operating_point import OperatingPointChoice
    >>> BatchOptions(point=OperatingPointChoice(threshold=0.4), retry_failed=True).resume
    True
    """

    model: str | None = None
    options: SegmentOptions | None = None
    point: OperatingPointChoice = field(default_factory=OperatingPointChoice)
    resume: bool = True
    retry_failed: bool = False
    workers: int = 1
    scheduler: str | None = None
    worker_timeout: float = 1800.0
    dicom_seg: bool = False
    dicom_sr: bool = False
    dicom_rtstruct: bool = False
    report: ReportChoice | None = None
    convention: str = ""
    title: str = ""
    atlas: AtlasChoice = field(default_factory=AtlasChoice)
    spaces: tuple[str, ...] = (NATIVE,)
    deformable: bool = False
    pseudonyms: Path | None = None
    source_names: bool = False
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    probability: bool = True
    group_only: bool = False
    dry_run: bool = False
    force: bool = False


@dataclass
class BatchReport:
    """How a batch ended.

    Attributes
    ----------
    total: scans in the input. done: finished now. skipped: finished before.
    failed: records of those that could not be used, now or before.
    planned: of a dry run the scans that would be done.
    places: of scans that tables call otherwise, where they lie, for the terminal only.
    left_out: why other images in the input are no scans of the cohort, by their names.
    incomplete: records of those that are done but for an optional output.
    seconds: from start to end.
    network_share: the share of the time from the network's first end to its last in which it ran;
        None on a cluster and for fewer than two scans.
    notes: what was odd about the group's tables, one sentence each.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort import BatchReport
    >>> BatchReport(total=3, done=2, skipped=1).failed
    []
    """

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    incomplete: list[dict[str, Any]] = field(default_factory=list)
    left_out: Mapping[str, str] = field(default_factory=dict)
    planned: tuple[FoundScan, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    network_share: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def through(self) -> int:
        """How many scans need nothing more in this batch."""
        return self.done + self.skipped + len(self.failed)

    def add(self, record: dict[str, Any]) -> None:
        """Count the record of a scan that has ended now."""
        if record["state"] != DONE:
            self.failed.append(record)
            return
        self.done += 1
        if record.get("not_written"):
            self.incomplete.append(record)
