"""A batch: which scans are left to do, doing them, and the tables of the group."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..brief import first_of
from ..errors import Cancelled, InputError
from ..outputs import os_input_error, sync_folder
from ..pipeline import software_versions
from ..spaces import MNI_SPACE, check_deformable, check_spaces
from .cluster import connected, local_workers, require_distributed, run_on, with_threads
from .corrected_pages import PagesOfScans
from .corrections import with_corrections
from .dataset import (
    check_out,
    made_otherwise,
    write_description,
    write_group_tables,
    write_left_out,
)
from .index_page import INDEX_NAME, write_index, write_viewer
from .inputs import Cohort, FoundScan, find_scans, require_dicom
from .ledger import DONE, Ledger, read_ledger, record_outputs
from .leftovers import clear_staging, sweep
from .local import run_here
from .lock import FolderLock, taken_over
from .options import BatchOptions, BatchReport
from .overlap import OVERLAP_TABLE, remove_overlap, write_overlap
from .participants import participants_checksum
from .plan import WorkPlan, selected
from .pseudonyms import Pseudonyms
from .ratings import with_ratings
from .settings import Settings

if TYPE_CHECKING:
    from ..models import Manifest


#: Called after every scan with its record, how many are through, and how many there are.
Progress = Callable[[Mapping[str, Any] | None, int, int], None]
#: Called with what scans are from now on, by their stems: once with all that are "waiting", then
#: with each that is "running", where they run in this process.
Follow = Callable[[str, Sequence[str]], None]


def run_batch(
    source: Path,
    out: Path,
    options: BatchOptions | None = None,
    *,
    progress: Progress | None = None,
    follow: Follow | None = None,
) -> BatchReport:
    """Segment all scans of ``source`` (see ``find_scans``) into the BIDS derivative ``out``.

    ``progress`` is called after each scan, ``follow`` before; both by one thread at a time.

    Raises ``InputError`` if arguments, model or ``out`` cannot be used, if another batch works in
    ``out``, or if the disk is full. A scan that cannot be used is no error: it is in ``failed``.
    After ``KeyboardInterrupt`` or a kill, the same call resumes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import BatchOptions, run_batch
    >>> from StrokeLesionSegLib.images import Volume, write_volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> Path("scans").mkdir()
    >>> write_volume("scans/sub-01_T1w.nii.gz", volume)
    >>> options = BatchOptions(options=SegmentOptions(align="none"), force=True)
    >>> run_batch(Path("scans"), Path("out"), options).done
    1
    >>> run_batch(Path("scans"), Path("out"), options).skipped
    1
    """
    options = options or BatchOptions()
    source, out = Path(os.path.abspath(source)), Path(os.path.abspath(out))
    started = time.perf_counter()
    check_out(out, source)
    cohort = find_scans(
        source,
        leave_out=out,
        pseudonyms=None if options.pseudonyms is None else Pseudonyms(options.pseudonyms),
        source_names=options.source_names,
    )
    run = secrets.token_hex(8)
    settings, manifest = _settings(options, out, run)
    scans = selected(cohort.scans, options, source)
    asked = [kind for kind in ("seg", "sr", "rtstruct") if getattr(options, f"dicom_{kind}")]
    require_dicom(source, scans, [f"--dicom-{kind}" for kind in asked])
    if options.dry_run:
        return _dry(scans, settings, source, options, cohort)
    if options.group_only and not read_ledger(out).scans:
        raise InputError(out, "has no results of batch", "Segment the scans first: leave out group")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(error, out) from error
    with FolderLock(out, run) as lock, Ledger(out) as ledger:
        settings = replace(
            settings, study=_study(ledger.runs), title=options.title or ledger.page_title
        )
        if options.group_only and ledger.page_convention and not options.convention:
            settings = replace(settings, convention=ledger.page_convention)
        plan = WorkPlan(scans, settings, ledger, source, options)
        report = BatchReport(
            len(scans), 0, plan.skipped, plan.failed, plan.incomplete, cohort.left_out
        )
        report.notes = cohort.notes
        report.places = {s.relative: s.place for s in cohort.scans if s.relative != s.place}
        # Of the group alone, what made the results of before; not what this call would have done.
        made_by, digest = settings.parameters, settings.digest
        if options.group_only:
            made_by, digest = _made_by(ledger) or (made_by, digest)
        write_description(out, source, made_by)
        write_left_out(out, cohort.left_out)
        if settings.report is not None and settings.report.viewer:
            write_viewer(out)
        ledger.append(_run_record(settings, source, report, len(plan.to_do)))
        clear_staging(out, plan.to_do)
        sweep(out, (str(record.get("folder")) for record in ledger.scans.values()))

        def keep(record: dict[str, Any]) -> None:
            lock.check()
            ledger.append(record)
            report.add(record)
            if progress is not None:
                progress(record, report.through, report.total)

        if progress is not None:
            progress(None, report.through, report.total)
        tell = follow or (lambda state, stems: None)
        tell("waiting", [found.stem for found in plan.to_do])
        try:
            if plan.to_do:
                report.network_share = _run(
                    plan.to_do, settings, options, keep, lambda found: tell("running", [found.stem])
                )
                # Workers that died have left theirs.
                clear_staging(out, plan.to_do)
            lock.check()
        except Cancelled:
            raise taken_over(out) from None
        finally:
            report.seconds = time.perf_counter() - started
            if not lock.is_lost():
                group = _group_records(cohort.scans, ledger, out)
                group, notes, corrections = with_corrections(out, group, settings.atlas)
                group, odd, ratings = with_ratings(out, group, settings.study, ledger.since)
                report.notes += (*notes, *odd)
                by_hand = f"{corrections} {ratings} {participants_checksum(source)}".strip()
                write_group_tables(out, group)
                otherwise = made_otherwise(group, digest)
                write_description(out, source, made_by, otherwise)
                ledger.append(_end_record(settings, report))
        here = {found.stem: found for found in cohort.scans}
        report.notes += _no_longer_there(group, ledger, source, here)
        report.notes += PagesOfScans(settings, manifest, ledger, here).update(group)
        # Stale after a kill between the last scan and here.
        stale = ledger.page_is_stale or ledger.page_corrections != by_hand
        stale = stale or settings.title not in ("", ledger.page_title)
        stale = stale or ledger.page_convention not in ("", settings.convention)
        if options.group_only or stale or not (out / INDEX_NAME).is_file():
            found = _write_group_pages(settings, manifest, group, source, made_by, otherwise)
            report.notes = tuple(dict.fromkeys((*report.notes, *found)))
            told = {"time": _now(), "corrections": by_hand, "title": settings.title}
            told["convention"] = settings.convention
            ledger.append({"record": "page", "run": settings.run, **told})
    return report


def _made_by(ledger: Ledger) -> tuple[Mapping[str, Any], str] | None:
    """Parameters, and their digest, of the last batch that any of the scans was done by."""
    used = {str(record.get("run")) for record in ledger.scans.values()}
    told = [run for name, run in ledger.runs.items() if name in used and "parameters" in run]
    return (told[-1]["parameters"], str(told[-1].get("settings"))) if told else None


def _write_group_pages(
    settings: Settings,
    manifest: Manifest,
    group: list[dict[str, Any]],
    source: Path,
    made_by: Mapping[str, Any],
    otherwise: str,
) -> tuple[str, ...]:
    """The group's maps and its page; what was odd, a line each."""
    notes: tuple[str, ...] = ()
    known = (settings.out / OVERLAP_TABLE).is_file()
    if MNI_SPACE in settings.spaces or (known and any(r.get("mni_mask") for r in group)):
        notes += write_overlap(settings.out, group, source)
    elif known:
        # They tell of results in MNI space that are gone.
        remove_overlap(settings.out)
    notes += tuple(write_index(settings, manifest, group, source, made_by, otherwise))
    sync_folder(settings.out)
    return notes


def _dry(
    scans: tuple[FoundScan, ...],
    settings: Settings,
    source: Path,
    options: BatchOptions,
    cohort: Cohort,
) -> BatchReport:
    """What a batch would do; nothing is written."""
    plan = WorkPlan(scans, settings, read_ledger(settings.out), source, options)
    return BatchReport(
        len(scans),
        0,
        plan.skipped,
        plan.failed,
        plan.incomplete,
        cohort.left_out,
        planned=tuple(plan.to_do),
        places={scan.relative: scan.place for scan in scans if scan.relative != scan.place},
        notes=cohort.notes,
    )


def _settings(options: BatchOptions, out: Path, run: str) -> tuple[Settings, Manifest]:
    """Settings with everything resolved, and the model's manifest.

    Raises ``InputError`` for what cannot work.
    """
    from ..inference import SegmentOptions
    from ..models import Manifest, find_model

    if not _is_local(options):
        require_distributed()
    for wanted, option in ((options.dicom_seg, "--dicom-seg"), (options.dicom_sr, "--dicom-sr")):
        if wanted:
            from ..images.formats.dicom_seg import require_highdicom

            require_highdicom(option)
    if options.atlas.image is not None:
        options.atlas.read()
    directory = find_model(options.model)
    manifest = Manifest.from_file(directory)
    chosen = (options.options or SegmentOptions()).for_model(manifest)
    settings = Settings(
        out=out,
        run=run,
        model=options.model or str(directory),
        manifest={
            "name": manifest.name,
            "version": manifest.version,
            "sha256": manifest.sha256,
        },
        options=chosen,
        point=options.point.resolve(manifest.operating_point(chosen.views)),
        dicom_seg=options.dicom_seg,
        dicom_sr=options.dicom_sr,
        dicom_rtstruct=options.dicom_rtstruct,
        report=options.report,
        atlas=options.atlas,
        spaces=options.spaces,
        deformable=options.deformable,
        probability=options.probability,
        force=options.force,
        title=options.title,
        convention=(options.report.convention if options.report else options.convention)
        or "radiological",
    )
    check_spaces(settings.spaces, chosen.align)
    check_deformable(settings.deformable, settings.spaces)
    return settings.with_digest(), manifest


def _study(runs: Mapping[str, Any]) -> str:
    """The study's identity: that of earlier batches into the folder, or a new one."""
    known = [str(run["study"]) for run in runs.values() if run.get("study")]
    return known[0] if known else secrets.token_hex(8)


def _is_local(options: BatchOptions) -> bool:
    return options.scheduler is None and options.workers == 1


def _run(
    scans: list[FoundScan],
    settings: Settings,
    options: BatchOptions,
    keep: Callable[[dict[str, Any]], None],
    begin: Callable[[FoundScan], None],
) -> float | None:
    """Do ``scans`` where the options say; the network's share of the time as in ``BatchReport``."""
    if options.scheduler is not None:
        with connected(options.scheduler) as client:
            run_on(client, scans, settings, keep, options.worker_timeout)
    elif options.workers > 1:
        count = min(options.workers, len(scans))
        with local_workers(count) as client:
            run_on(client, scans, with_threads(settings, count), keep)
    else:
        from ..inference.device import prepare_environment

        prepare_environment()
        from ..models import load_model

        return run_here(scans, settings, load_model(settings.model), keep, begin)
    return None


def _run_record(
    settings: Settings, source: Path, report: BatchReport, to_do: int
) -> dict[str, Any]:
    return {
        "record": "run",
        "run": settings.run,
        "study": settings.study,
        "time": _now(),
        "host": platform.node(),
        "pid": os.getpid(),
        "input": str(source),
        "scans": report.total,
        "to_do": to_do,
        "settings": settings.digest,
        "parameters": settings.parameters,
        "versions": software_versions(),
    }


def _end_record(settings: Settings, report: BatchReport) -> dict[str, Any]:
    return {
        "record": "end",
        "run": settings.run,
        "time": _now(),
        "done": report.done,
        "skipped": report.skipped,
        "failed": len(report.failed),
        "seconds": round(report.seconds, 3),
        "network_share": report.network_share,
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _no_longer_there(
    group: list[dict[str, Any]], ledger: Ledger, source: Path, here: Container[str]
) -> tuple[str, ...]:
    """That results are of scans which ``source`` held once: removed since, or called otherwise."""
    gone = [
        record["stem"]
        for record in group
        if record["stem"] not in here
        and ledger.runs.get(str(record.get("run")), {}).get("input") == str(source)
    ]
    if not gone:
        return ()
    results, them = "1 result is of a scan", "its folder"
    if len(gone) > 1:
        results, them = f"{len(gone)} results are of scans", "their folders"
    return (
        f"{results} that the input no longer holds under that name ({first_of(gone)}), and in the "
        f"tables all the same. Remove {them} from the output if you do not want that.",
    )


def _group_records(scans: tuple[FoundScan, ...], ledger: Ledger, out: Path) -> list[dict[str, Any]]:
    """The records for the group's tables: this cohort's, and results of earlier inputs."""
    here = {found.stem for found in scans}
    kept = [
        record
        for stem, record in ledger.scans.items()
        # A scan whose files were removed, and which was not done again, is not there.
        if (record_outputs(record, out) if record["state"] == DONE else stem in here)
    ]
    return sorted(kept, key=lambda record: record["stem"])
