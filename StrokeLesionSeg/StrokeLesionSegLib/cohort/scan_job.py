"""One scan of a cohort, in three steps that may run in three threads: prepare, predict, finish.

Preparing reads, aligns and resamples; finishing resamples back, finds the lesions and writes. Both
leave the network alone, so that on one machine they overlap it, while a cluster's worker runs them
one after the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import Cancelled, InputError
from ..file_formats import split_name
from ..outputs import OutputSet, beside_mask
from ..pipeline import ScanRun, ScanRunner, check_source, impossible_outputs
from ..pipeline.contents import scan_files
from .dicom_study import without_file_names
from .fingerprint import fingerprint, quick_look
from .inputs import FoundScan
from .ledger import DONE, FAILED
from .scan_files import inside, output_folder, remove_outputs, remove_stale, wanted_of
from .settings import Settings

Cancel = Callable[[], bool]

# The disk, not the scan, is at fault; going on would only fail scan after scan.
_OUTPUT_TROUBLE = {errno.ENOSPC, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}


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
    if inside(settings.out.joinpath(found.entities.folder), settings.out).is_dir():
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
    remove_stale(found, settings, result.paths)
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
        text = f"{error.cause}. {remedy}."
        if found.relative != found.place:  # it may be called as the patient is
            text = text.replace(os.fspath(found.path), "the scan")
            if found.path.is_dir():  # its name alone may be any word, or a number
                text = without_file_names(text, scan_files(found.path))
            else:
                stem, ending = split_name(found.path)
                # With any ending: the data of a detached header are called as it is.
                name = re.escape(stem) + (r"(?=\.\w)" if ending else r"(?!\w)")
                text = re.sub(rf"(?<!\w){name}", found.stem, text)
        text = text.replace(f"{found.path.parent}{os.sep}", "")
        record["error"] = " ".join(text.split())
    elif isinstance(error, MemoryError) or "memory" in str(error).lower():
        record["error"] = (
            "there is not enough memory for this scan. Close other programs, or take fewer workers."
        )
    else:
        text = f"a defect of StrokeLesionSeg ({type(error).__name__}: {error}). Please report it."
        record["error"] = " ".join(_without_names(text, found).split())
        record["traceback"] = _without_names("".join(traceback.format_exception(error)), found)
    record["input"] = None
    with contextlib.suppress(OSError):
        record["input"] = fingerprint(found.path)
    # An input that cannot be reached (a disk that is not mounted) says nothing about its results.
    if record["input"] is not None:
        remove_outputs(found, settings)
    return record


def _without_names(text: str, found: FoundScan) -> str:
    """``text`` without the path of a scan whose folder may be called as the patient is."""
    if found.relative == found.place:
        return text
    # The files in it and the folders above it, too.
    text = re.sub(re.escape(os.fspath(found.path)) + r"[^\"'\n]*", "the scan", text)
    place = Path(found.place)
    names = {found.place, *place.parts} - {"", place.anchor}
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the scan", text)
    return text


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
