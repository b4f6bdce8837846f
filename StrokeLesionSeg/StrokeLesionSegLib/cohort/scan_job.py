"""One scan of a cohort, in three steps that may run in three threads: prepare, predict, finish.

Preparing reads, aligns and resamples; finishing resamples back, finds the lesions and writes. Both
leave the network alone, so that on one machine they overlap it, while a cluster's worker runs them
one after the other.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .. import __version__
from ..atlases import AtlasChoice
from ..errors import Cancelled, InputError
from ..operating_point import OperatingPoint
from ..outputs import OutputSet, beside_mask, os_input_error, sync_folder
from ..pipeline import (
    REGIONS_ENDING,
    TRANSFORM_ENDING,
    OutputPaths,
    ScanRun,
    ScanRunner,
    Wanted,
    check_source,
    impossible_outputs,
)
from ..report import StudyPlace
from ..spaces import MNI_SPACE, NATIVE
from .corrected import ENDING as CORRECTED
from .fingerprint import fingerprint, quick_look
from .inputs import FoundScan
from .ledger import DONE, FAILED

if TYPE_CHECKING:
    from ..inference import SegmentOptions
    from ..report import ReportOptions

Cancel = Callable[[], bool]

#: How the name of a scan's own page ends where ``_desc-lesions_report`` tells of a corrected mask.
AUTOMATIC_PAGE = "_desc-automatic_report.html"

# The disk, not the scan, is at fault; going on would only fail scan after scan.
_OUTPUT_TROUBLE = {errno.ENOSPC, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class ReportChoice:
    """What goes into the scans' pages.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort import ReportChoice
    >>> ReportChoice(convention="neurological").identity["show_paths"]
    False
    """

    convention: str = "radiological"
    show_paths: bool = False
    viewer: bool = True

    @property
    def identity(self) -> dict[str, Any]:
        """What decides how the pages look."""
        return asdict(self)


@dataclass(frozen=True)
class Settings:
    """What is the same for all scans of a batch.

    Attributes
    ----------
    out: absolute path of the output folder. run: the batch's identity, as in its lock.
    model: name or directory of the model. manifest: its name, version and sha256.
    options: with the views filled in. point: the operating point.
    dicom_seg, dicom_sr, dicom_rtstruct: write DICOM Segmentation, report, contours for scans that
        are DICOM.
    report: write an HTML page for every scan, with this in it; None writes none.
    atlas: which atlas volumes are told by.
    spaces: those of ``spaces.SPACES`` that results are written in.
    deformable: deform the scans to MNI space, their lesions left out.
    probability: write the probability maps.
    force: segment what the input check refuses, too.
    study: the study's identity, which its pages bear. title: of the group's page, or empty.
    version: of the program that began the batch.
    digest: checksum of ``parameters``: scans done with another one are done again.
    """

    out: Path
    run: str
    model: str
    manifest: dict[str, str]
    options: SegmentOptions
    point: OperatingPoint
    dicom_seg: bool = False
    dicom_sr: bool = False
    dicom_rtstruct: bool = False
    report: ReportChoice | None = None
    atlas: AtlasChoice = field(default_factory=AtlasChoice)
    spaces: tuple[str, ...] = (NATIVE,)
    deformable: bool = False
    probability: bool = True
    force: bool = False
    study: str = ""
    title: str = ""
    version: str = __version__
    digest: str = ""

    def with_digest(self) -> Settings:
        """The same with its ``digest``; raises ``InputError`` if the atlas cannot be read."""
        try:
            text = json.dumps(self.parameters, sort_keys=True)
        except OSError as error:
            raise InputError(
                error.filename or "atlas", f"cannot be read ({error.strerror})", "Check the file"
            ) from error
        return replace(self, digest=hashlib.sha256(text.encode()).hexdigest()[:16])

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that decides what is written; not how fast (device, threads, batch size), nor
        ``force``, which decides whether.

        Raises ``OSError`` if the atlas cannot be read.
        """
        options = asdict(self.options)
        kept = {k: options[k] for k in ("views", "tta", "align", "precision", "crop")}
        return {
            "version": self.version,
            "model": self.manifest,
            **kept,
            **self.point.as_dict(),
            "dicom_seg": self.dicom_seg,
            "dicom_sr": self.dicom_sr,
            "dicom_rtstruct": self.dicom_rtstruct,
            "atlas": self.atlas.identity,
            "spaces": list(self.spaces),
            "deformable": self.deformable,
            "probability": self.probability,
            "report": None if self.report is None else self.report.identity,
        }


@dataclass(frozen=True)
class Prepared:
    """A scan ready for the network, and what its input was."""

    run: ScanRun
    input: dict[str, Any]
    started: float


def prepare(
    found: FoundScan, settings: Settings, runner: ScanRunner, cancel: Cancel | None = None
) -> Prepared:
    """Read, align and resample; find out what cannot be written, before the network runs.

    Raises ``InputError`` for a scan that cannot be used and for results that could not be written,
    ``Cancelled``.
    """
    from ..images import read_scan

    started = time.perf_counter()
    check_source(found.path)
    try:
        before = fingerprint(found.path)
        scan = read_scan(found.path, series=found.series)
        after = quick_look(found.path)
    except OSError as error:
        raise InputError(
            found.path, f"cannot be read ({error.strerror or error})", "Check the disk"
        ) from error
    if any(after[key] != before[key] for key in after):
        raise InputError(
            found.path, "changed while it was being read", "Start again when it is complete"
        )
    timings = {"read": time.perf_counter() - started}
    wanted = wanted_of(found, settings, dicom=scan.format == "dicom")
    # A folder that is not there yet can be made, as the ledger could; by ``finish``, since a scan
    # that fails leaves none.
    if _inside(settings.out.joinpath(found.entities.folder), settings.out).is_dir():
        with OutputSet(wanted.paths.volumes, wanted.documents, source=found.path, overwrite=True):
            pass  # entering it has tried the places
    impossible = impossible_outputs(wanted.paths, scan)
    run = runner.prepare(found.path, scan, timings, cancel=cancel)
    run.impossible.update(impossible)
    return Prepared(run, before, started)


def predict(prepared: Prepared, runner: ScanRunner, cancel: Cancel | None = None) -> None:
    """Run the network; raises as ``segment_volume`` does."""
    runner.network(prepared.run, cancel=cancel)


def finish(
    found: FoundScan,
    prepared: Prepared,
    settings: Settings,
    runner: ScanRunner,
    cancel: Cancel | None = None,
) -> dict[str, Any]:
    """Back to the scan's grid; find the lesions, write all files of the scan together.

    Returns the record for the ledger.

    Raises ``InputError`` if the files cannot be written, ``Cancelled`` before they are committed.
    """
    output_folder(found, settings.out)
    wanted = wanted_of(found, settings, dicom=prepared.run.scan.format == "dicom")
    paths, documents = wanted.paths, wanted.documents
    with OutputSet(paths.volumes, documents, source=found.path, overwrite=True) as outputs:
        result = runner.finish(prepared.run, wanted, outputs, cancel=cancel)
        if cancel is not None and cancel():
            raise Cancelled
        outputs.commit()
    _remove_stale(found, settings, result.paths)
    summary, timings = result.lesion_map.summary, result.timings
    written = result.paths
    missing = {*paths.in_mni, *paths.in_dicom} - {*written.in_mni, *written.in_dicom}
    if written.regions is None and paths.regions is not None:
        missing.add(paths.regions)
    missing |= {beside_mask(path, ".json") for path in missing}
    if paths.report is not None and written.report is None:
        missing.add(paths.report)
    alignment = result.prediction.alignment
    return {
        **_record(found, settings, DONE, timings["total"]),
        "input": prepared.input,
        "outputs": {
            path.relative_to(settings.out).as_posix(): path.stat().st_size
            for path in (*paths.volumes, *(name for name, _ in documents))
            if path not in missing
        },
        "lesions": summary.count,
        "volume_ml": round(summary.volume_ml, 6),
        "left_ml": round(summary.left_ml, 6),
        "right_ml": round(summary.right_ml, 6),
        "largest_ml": round(summary.largest_ml, 6),
        "mean_probability": result.mean_probability,
        "expected_dice": result.expected_dice,
        "look_at": result.reasons_to_look,
        "aligned": None if alignment is None else bool(alignment.ok),
        "alignment_reason": "" if alignment is None else alignment.reason,
        "mni_mask": None if written.mni_mask is None else written.mni_mask.name,
        "report": None if written.report is None else written.report.name,
        "warnings": list(result.warnings),
        "not_written": list(result.not_written),
        "timings": {key: round(value, 3) for key, value in timings.items()},
    }


def wanted_of(found: FoundScan, settings: Settings, *, dicom: bool) -> Wanted:
    """The files of a scan's results, and what BIDS says in their sidecars."""
    paths = output_paths(found, settings, dicom=dicom)
    uri = f"bids:input:{quote(os.fsencode(found.relative))}"
    sources = {"Sources": [uri], "SpatialReference": uri}
    report = None
    if settings.report is not None:
        report = page_options(
            settings.report, settings.study, found.stem, found.entities.folder.as_posix()
        )
    of_probability = {
        "Description": "Probability of chronic stroke lesion, 0 to 1; mean over views and "
        "flips, before threshold and clean-up",
        **sources,
    }
    folder = settings.out.joinpath(found.entities.folder)
    return Wanted(
        paths,
        report,
        settings.atlas,
        sidecar={
            "Description": "Chronic stroke lesions: 1 in lesions, 0 elsewhere",
            "Type": "Lesion",
            **sources,
        },
        more=(
            *(
                [(folder / f"{found.stem}_label-lesion_probseg.json", of_probability)]
                if settings.probability
                else []
            ),
            *_mni_sidecars(paths, uri),
        ),
        # The file or folder may be called as the patient is.
        label=found.stem if found.relative != found.place else "",
        deformable=settings.deformable,
    )


def page_options(choice: ReportChoice, study: str, stem: str, folder: str) -> ReportOptions:
    """What goes into the page of a scan in ``folder``, relative to the study's own."""
    from ..report import ReportOptions

    root = "../" * (folder.count("/") + 1)
    return ReportOptions(
        choice.convention,
        choice.show_paths,
        stem,
        viewer=choice.viewer,
        study=StudyPlace(study, stem, root),
    )


def output_paths(found: FoundScan, settings: Settings, *, dicom: bool) -> OutputPaths:
    """The names of a scan's results."""
    start = settings.out.joinpath(found.entities.folder, found.stem)

    def in_dicom(kind: str) -> Path | None:
        return Path(f"{start}_label-lesion_{kind}.dcm") if dicom else None

    paths = OutputPaths(
        mask=Path(f"{start}_label-lesion_mask.nii.gz"),
        probability=Path(f"{start}_label-lesion_probseg.nii.gz") if settings.probability else None,
        table=Path(f"{start}_desc-lesions_stats.tsv"),
        sidecar=Path(f"{start}_label-lesion_mask.json"),
        dicom_seg=in_dicom("seg") if settings.dicom_seg else None,
        dicom_sr=in_dicom("sr") if settings.dicom_sr else None,
        dicom_rtstruct=in_dicom("rtstruct") if settings.dicom_rtstruct else None,
        report=None if settings.report is None else Path(f"{start}_desc-lesions_report.html"),
        regions=Path(f"{start}_desc-lesions{REGIONS_ENDING}"),
    )
    if MNI_SPACE not in settings.spaces:
        return paths
    paths = paths.with_mni(mni_paths(found, settings.out))
    return paths if settings.probability else replace(paths, mni_probability=None)


def mni_paths(found: FoundScan, out: Path) -> dict[str, Path]:
    """The names of a scan's results in MNI space."""
    folder = out.joinpath(found.entities.folder)
    stem = found.entities.in_space(MNI_SPACE).stem
    return {
        "mni_mask": folder / f"{stem}_label-lesion_mask.nii.gz",
        "mni_probability": folder / f"{stem}_label-lesion_probseg.nii.gz",
        "mni_transform": folder / f"{found.stem}_{TRANSFORM_ENDING}",
    }


def _mni_sidecars(paths: OutputPaths, uri: str) -> list[tuple[Path, dict[str, Any]]]:
    """What BIDS says of the images in MNI space."""
    told = {
        "SpatialReference": f"StrokeLesionSeg template, {MNI_SPACE}, 1 mm",
        "Sources": [uri],
        "Resolution": "1 mm",
    }
    return [
        (beside_mask(path, ".json"), {"Description": text, **kind, **told})
        for path, text, kind in (
            (
                paths.mni_mask,
                "Chronic stroke lesions, resampled: 1 where at least half of a voxel is lesion",
                {"Type": "Lesion"},
            ),
            (paths.mni_probability, "Probability of chronic stroke lesion, resampled", {}),
        )
        if path is not None
    ]


def output_folder(found: FoundScan, out: Path) -> Path:
    """The folder for a scan's results, made if need be.

    Raises ``InputError`` if it cannot be made, or if a symbolic link leads out of ``out``.
    """
    folder = out.joinpath(found.entities.folder)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            for name in found.entities.folder.parents:
                sync_folder(out / name)
    except OSError as error:
        raise os_input_error(error, folder) from error
    return _inside(folder, out)


def _inside(folder: Path, out: Path) -> Path:
    """``folder``; ``InputError`` if a symbolic link leads out of ``out``."""
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(out)):
        raise InputError(
            folder, "a symbolic link leads out of the output folder", "Remove the link"
        )
    return folder


def failure(
    found: FoundScan, settings: Settings, error: BaseException, seconds: float = 0.0
) -> dict[str, Any]:
    """The ledger's record of a scan that failed; what an older version of it gave is removed.

    Re-raises ``error`` if not the scan is to blame: told to stop, or the output's disk.
    """
    if isinstance(error, Cancelled | KeyboardInterrupt | SystemExit) or is_output_trouble(error):
        raise error
    record = _record(found, settings, FAILED, seconds)
    if isinstance(error, InputError):
        remedy = error.remedy
        if "--series" in remedy:  # an option of "segment": here each scan may need another
            remedy = "Name the series in a list: path, subject, session, SeriesInstanceUID"
        # Without the path, which is another on every machine: "source" says which scan it is.
        text = f"{error.cause}. {remedy}.".replace(f"{found.path.parent}{os.sep}", "")
        if found.relative != found.place:  # the folder may be called as the patient is
            text = text.replace(found.path.name, "the scan")
        record["error"] = " ".join(text.split())
    elif isinstance(error, MemoryError) or "memory" in str(error).lower():
        record["error"] = "there is not enough memory for this scan. Use --views axial."
    else:
        record["error"] = " ".join(f"a defect of StrokeLesionSeg ({type(error).__name__}: "
                                   f"{error}). Please report it.".split())  # fmt: skip
        record["traceback"] = "".join(traceback.format_exception(error))
    record["input"] = None
    with contextlib.suppress(OSError):
        record["input"] = fingerprint(found.path)
    # An input that cannot be reached (a disk that is not mounted) says nothing about its results.
    if record["input"] is not None:
        remove_outputs(found, settings)
    return record


def _mni_files(found: FoundScan, out: Path) -> list[Path]:
    """All files of a scan that can lie in MNI space, with their sidecars."""
    mask, probability, transform = mni_paths(found, out).values()
    start = mask.name.removesuffix("_mask.nii.gz")
    images = [mask, probability, mask.with_name(f"{start}{CORRECTED}.nii.gz")]
    return [transform, *images, *(beside_mask(path, ".json") for path in images)]


def _remove_stale(found: FoundScan, settings: Settings, written: OutputPaths) -> None:
    """Remove what an earlier run wrote and this one did not: in MNI space, probabilities."""
    files = _mni_files(found, settings.out) if written.mni_mask is None else []
    if written.probability is None:
        native = output_paths(found, replace(settings, probability=True), dicom=False).probability
        others = (native, mni_paths(found, settings.out)["mni_probability"])
        files += [f for path in others if path for f in (path, beside_mask(path, ".json"))]
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def remove_outputs(found: FoundScan, settings: Settings) -> None:
    """Remove the results of an earlier state of the scan, which would pass for those of today."""
    folder = settings.out.joinpath(found.entities.folder)
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(settings.out)):
        return
    whole = replace(settings, probability=True)
    paths = output_paths(found, whole, dicom=True).without_mni()
    files = [*paths.volumes, *(path for path, _ in paths.documents)]
    files += [
        folder / f"{found.stem}_label-lesion_probseg.json",
        *(folder / f"{found.stem}_label-lesion_{kind}.dcm" for kind in ("seg", "sr", "rtstruct")),
        folder / f"{found.stem}_desc-lesions_report.html",
        folder / f"{found.stem}{AUTOMATIC_PAGE}",
        *_mni_files(found, settings.out),
    ]
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def is_output_trouble(error: BaseException | None) -> bool:
    """Whether the output's disk is full, broken or read-only."""
    inner = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno in _OUTPUT_TROUBLE:
            # Reading fails with "input/output error" too, and that is the scan's own.
            return inner.errno != errno.EIO or "written" in str(error)
        inner = inner.__cause__
    return False


def _record(found: FoundScan, settings: Settings, state: str, seconds: float) -> dict[str, Any]:
    return {
        "record": "scan",
        "run": settings.run,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "stem": found.stem,
        "subject": found.entities.subject,
        "session": found.entities.session,
        "folder": found.entities.folder.as_posix(),
        "source": found.relative,
        "series": found.series,
        "state": state,
        "settings": settings.digest,
        "model_sha256": settings.manifest["sha256"],
        "host": platform.node(),
        "seconds": round(seconds, 3),
    }


def record_outputs(record: Mapping[str, Any], out: Path) -> bool:
    """Whether all files that a record names are there with the sizes it gives."""
    try:
        return all((out / name).stat().st_size == size for name, size in record["outputs"].items())
    except (OSError, KeyError, AttributeError, TypeError):
        return False
