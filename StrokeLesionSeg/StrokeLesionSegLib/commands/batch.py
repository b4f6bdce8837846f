"""``stroke-lesion-seg batch``: a cohort in, a BIDS derivative out; resumable."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import (
    EXIT_SOME_FAILED,
    add_engine_arguments,
    add_force_argument,
    add_label_arguments,
    add_progress_argument,
    add_space_argument,
    announce,
    number,
    operating_point,
    path,
    prepare,
    refuse,
    segment_options,
)
from .progress import Reporter, make_reporter, print_json
from .report import add_report_arguments, atlas_choice
from .tables import one_line
from .verbosity import is_quiet, note

if TYPE_CHECKING:
    from ..cohort import BatchReport

# Minutes without a worker, after which a batch gives up.
_WORKER_TIMEOUT = 30.0
# More than that are in group_scans.tsv.
_LISTED = 50
# More kinds of reasons for leaving images out are in group_left_out.tsv.
_REASONS = 4


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "batch",
        help="find the lesions in many scans",
        description="Find chronic stroke lesions in all T1-weighted scans of a folder, BIDS data "
        "set, ATLAS tree or list, and write a BIDS derivative. Run it again to resume. Exit "
        "codes: 0 all scans are done; 3 some scans could not be used, or some of their outputs "
        "not made; 2 wrong arguments or unusable folders; 130 stopped; 1 a defect of ours.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "input", type=path, metavar="IN", help="folder, or a list with one path per line"
    )
    parser.add_argument("output", type=path, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "level",
        nargs="?",
        choices=("participant", "group"),
        default="participant",
        help="analysis level of BIDS Apps: participant (default) segments the scans and makes the "
        "group's tables and pages, group makes only those, from what is done: options that decide "
        "what is found change nothing then",
    )
    subset = parser.add_argument_group("which scans")
    add_label_arguments(
        subset,
        participants="only these participants, with or without sub- (after IN and OUT)",
        sessions="only these sessions, with or without ses-",
    )
    subset.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and write nothing"
    )
    again = parser.add_argument_group("what is repeated")
    again.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="skip scans that are done and whose input, parameters and model are unchanged "
        "(default)",
    )
    again.add_argument("--retry-failed", action="store_true", help="retry scans that failed before")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=number(1, 1024, kind=int),
        default=1,
        metavar="N",
        help="processes on this machine; more than one needs dask.distributed (default: 1)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler, for example tcp://host:8786; its workers have to see the same paths",
    )
    parser.add_argument(
        "--worker-timeout",
        type=number(0.1, 100_000),
        metavar="MINUTES",
        help="give up when the scheduler has had no workers for this long (default: 30)",
    )
    parser.add_argument(
        "--dicom-seg",
        action="store_true",
        help="write the masks of DICOM scans as DICOM Segmentation too",
    )
    parser.add_argument(
        "--dicom-sr",
        action="store_true",
        help="write the volumes of DICOM scans as DICOM Structured Report too",
    )
    parser.add_argument(
        "--dicom-rtstruct",
        action="store_true",
        help="write the contours of DICOM scans as DICOM RT Structure Set too",
    )
    parser.add_argument(
        "--reports", action="store_true", help="write an HTML page for every scan too"
    )
    parser.add_argument(
        "--no-probability",
        action="store_true",
        help="write no probability maps, which take up most of the space",
    )
    parser.add_argument(
        "--title",
        default="",
        metavar="TEXT",
        help="title of the group's page (default: that of the last batch, or the name of the BIDS "
        "data set)",
    )
    people = parser.add_argument_group("names")
    people.add_argument(
        "--pseudonyms",
        type=path,
        metavar="FILE",
        help="table of patients (PatientID, name, or name of folder or file) and their names in "
        "the results; without it DICOM scans are named by a checksum of their folder",
    )
    people.add_argument(
        "--source-names",
        action="store_true",
        help="show the folder names of DICOM scans, which may be patients' names, in tables, "
        "ledger and sidecars",
    )
    add_space_argument(parser)
    add_force_argument(parser)
    add_engine_arguments(parser)
    add_report_arguments(parser)
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # Here, for the help text's sake: it imports numpy.
    from ..cohort import BatchOptions, ReportChoice, run_batch

    if arguments.scheduler == "":
        raise InputError("--scheduler", "the address is empty", "Give one like tcp://host:8786")
    pages = None
    if arguments.reports:
        pages = ReportChoice(
            arguments.report_convention or "radiological",
            arguments.report_paths,
            not arguments.no_viewer,
        )
    else:
        refuse(
            arguments,
            ("report_paths", "no_viewer"),
            "is for the scans' pages, but none are asked for",
            "Add --reports",
        )
    if arguments.scheduler is None:
        refuse(
            arguments,
            ("worker_timeout",),
            "is for the workers of a scheduler, but none is named",
            "Add --scheduler ADDRESS",
        )
    prepare(arguments)
    chosen = segment_options(arguments)
    if arguments.progress != "json" and not is_quiet():
        announce(arguments.model, chosen)
    options = BatchOptions(
        model=arguments.model,
        options=chosen,
        point=operating_point(arguments),
        resume=arguments.resume,
        retry_failed=arguments.retry_failed,
        workers=arguments.workers,
        scheduler=arguments.scheduler,
        worker_timeout=60 * (arguments.worker_timeout or _WORKER_TIMEOUT),
        dicom_seg=arguments.dicom_seg,
        dicom_sr=arguments.dicom_sr,
        dicom_rtstruct=arguments.dicom_rtstruct,
        report=pages,
        # Whether it is asked for: of the group alone, its page stays as it was otherwise.
        convention=arguments.report_convention or "",
        title=arguments.title,
        atlas=atlas_choice(arguments),
        spaces=arguments.space,
        deformable=arguments.deformable,
        pseudonyms=arguments.pseudonyms,
        source_names=arguments.source_names,
        participants=tuple(arguments.participant_label),
        sessions=tuple(arguments.session_label),
        probability=not arguments.no_probability,
        group_only=arguments.level == "group",
        dry_run=arguments.dry_run,
        force=arguments.force,
    )
    with make_reporter(arguments.progress) as reporter:
        teller = _Teller(reporter, json=arguments.progress == "json")
        report = run_batch(
            arguments.input,
            arguments.output,
            options,
            progress=teller.through,
            follow=teller.follow,
        )
    out = Path(os.path.abspath(arguments.output))
    if arguments.progress == "json":
        print_json({"stage": "result", **_as_dict(report, out)})
    elif arguments.dry_run:
        _print_plan(report)
    else:
        _print(report, out)
    if arguments.dry_run:
        return 0
    return EXIT_SOME_FAILED if report.failed or report.incomplete else 0


class _Teller:
    """Says how many scans are through; for programs, what becomes of each too."""

    def __init__(self, reporter: Reporter, *, json: bool) -> None:
        self._reporter, self._json = reporter, json
        self._done = self._total = 0

    def follow(self, state: str, stems: Sequence[str]) -> None:
        """For programs: scans that wait, or one that is taken up."""
        if self._json:
            told = {"stage": "scans", "done": self._done, "total": self._total}
            print_json({**told, "state": state, "stems": list(stems)})

    def through(self, record: Mapping[str, Any] | None, done: int, total: int) -> None:
        """After a scan, with its record; at the beginning, without one."""
        self._done, self._total = done, total
        if record is not None:
            note(one_line(_of_scan(record)))
        if self._json and record is not None:
            keys = ("source", "stem", "state", "lesions", "volume_ml", "seconds", "error")
            facts = {key: record[key] for key in keys if key in record}
            print_json({"stage": "scans", "done": done, "total": total, "scan": facts})
        else:
            self._reporter("scans", done, total)


def _of_scan(record: Mapping[str, Any]) -> str:
    """What became of one scan, for ``--verbose``."""
    text = f"{record.get('stem') or record.get('source')}: {record.get('state')}"
    if record.get("error"):
        return f"{text}: {record['error']}"
    if record.get("lesions") is not None:
        count = record["lesions"]
        text += f", {count} lesion{'s' * (count != 1)}, {record.get('volume_ml', 0):.2f} mL"
    return f"{text}, {record['seconds']:.1f} s" if record.get("seconds") else text


def _as_dict(report: BatchReport, out: Path) -> dict[str, Any]:
    return {
        "output": str(out),
        "scans": report.total,
        "done": report.done,
        "skipped": report.skipped,
        "failed": len(report.failed),
        "incomplete": [
            {"source": r["source"], "not_written": r["not_written"]} for r in report.incomplete
        ],
        "failures": [
            {
                "source": r["source"],
                "place": report.places.get(r["source"], r["source"]),
                "error": r["error"],
            }
            for r in report.failed
        ],
        "planned": [{"stem": s.stem, "place": s.place} for s in report.planned],
        "passed_over": len(report.left_out),
        "left_out": dict(report.left_out),
        "seconds": round(report.seconds, 3),
        "network_share": report.network_share,
        "notes": list(report.notes),
    }


def _print(report: BatchReport, out: Path) -> None:
    """For people: the failures on stderr, then the counts."""
    for record in report.failed[:_LISTED]:
        where = _named(report, record)
        print(one_line(f"failed: {where}: {record['error']}"), file=sys.stderr)
    if len(report.failed) > _LISTED:
        print(f"and {len(report.failed) - _LISTED} more", file=sys.stderr)
    for record in report.incomplete[:_LISTED]:
        text = " ".join(record["not_written"])
        print(one_line(f"warning: {_named(report, record)}: {text}"), file=sys.stderr)
    for warning in report.notes:
        print(one_line(f"warning: {warning}"), file=sys.stderr)
    if is_quiet():
        return
    counts = f"{report.done} done, {report.skipped} done before, {len(report.failed)} failed"
    print(f"{report.total} scan{'s' * (report.total != 1)}: {counts}")
    if report.left_out:
        print(_left_out(report.left_out))
    if report.network_share is not None:
        print(f"the network was busy {100 * report.network_share:.0f} % of the time")
    print(f"{'results':<12}{out}")
    print(f"{'page':<12}{(out / 'index.html').as_uri()}")
    print(f"{'time':<12}{report.seconds:.1f} s")


def _print_plan(report: BatchReport) -> None:
    """What would be done, a line each; what is odd on stderr."""
    for warning in report.notes:
        print(one_line(f"warning: {warning}"), file=sys.stderr)
    for scan in report.planned:
        print(one_line(f"would do: {scan.stem}  {scan.place}"))
    for name, why in report.left_out.items():
        print(one_line(f"left out: {name}: {why}"))
    counts = (
        f"{len(report.planned)} to do, {report.skipped} done before, {len(report.failed)} failed"
    )
    scans = f"{report.total} scan{'s' * (report.total != 1)}"
    print(f"{scans}: {counts} before; nothing was written")


def _named(report: BatchReport, record: Mapping[str, Any]) -> str:
    """A scan as tables call it, and where it lies: nobody but who started the batch sees that."""
    source = str(record["source"])
    place = report.places.get(source)
    return f"{source} ({place})" if place else source


def _left_out(left_out: Mapping[str, str]) -> str:
    """How many images were left out, for which reasons, and where they are listed."""
    from ..cohort.dataset import LEFT_OUT
    from ..cohort.image_names import kind_of

    kinds = Counter(map(kind_of, left_out.values()))
    told = [f"{count} x {why}" for why, count in kinds.most_common(_REASONS)]
    if len(kinds) > _REASONS:
        told.append("...")
    images = "image was" if len(left_out) == 1 else "images were"
    return one_line(f"{len(left_out)} other {images} left out ({', '.join(told)}): {LEFT_OUT}")
