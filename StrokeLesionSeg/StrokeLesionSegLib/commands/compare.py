"""``stroke-lesion-seg compare``: what became of the lesions of a person, or of a whole study."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import (
    EXIT_SOME_FAILED,
    add_engine_arguments,
    add_force_argument,
    add_label_arguments,
    add_progress_argument,
    operating_point,
    path,
    prepare,
    refuse,
    segment_options,
)
from .progress import make_reporter, print_json
from .tables import one_line, print_table
from .verbosity import is_quiet

if TYPE_CHECKING:
    from ..cohort import ChangeReport

# More than that are in group_change_pairs.tsv.
_LISTED = 50
# What would have no effect where no lesions are found, as between known masks; and in a study.
_OF_FINDING = (
    *("model", "threshold", "second_threshold", "min_volume", "min_mean_probability"),
    *("views", "tta", "exact", "no_mirror", "align", "device", "precision", "batch_size"),
)
_OF_TWO_SCANS = ("mask_a", "mask_b", *_OF_FINDING)


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="what became of the lesions between two scans of one person, or in a study",
        description="Compare the lesions of two T1-weighted scans of one person: new, grown, "
        "merged, split, unchanged, shrunken, gone. The scans are aligned rigidly through the space "
        "halfway between them. Writes change.tsv, change.json and a page, change.html. With one "
        "folder that batch has written, each session of each person is compared with the next. "
        "Writes group_change.tsv, group_change_pairs.tsv and a page, group_change.html. Run it "
        "again to resume. Exit codes: 0 all is done; 3 some pairs of a study could not be "
        "compared; 2 wrong arguments or unusable input; 130 stopped; 1 a defect of ours.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "first",
        type=path,
        metavar="A",
        help="the earlier scan, or its BIDS session's folder; or alone: a folder that batch has "
        "written",
    )
    parser.add_argument(
        "second",
        type=path,
        nargs="?",
        metavar="B",
        help="the later scan, or its BIDS session's folder",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="DIR",
        help="folder for the results; created if needed (default: compare; of a study, its folder)",
    )
    outputs.add_argument(
        "--overwrite",
        action="store_true",
        help="replace outputs that exist already; in a study, compare again what is done",
    )
    masks = parser.add_argument_group("known lesions (otherwise they are found first)")
    for letter, which in (("a", "first"), ("b", "second")):
        masks.add_argument(
            f"--mask-{letter}",
            type=path,
            metavar="FILE",
            help=f"mask of the {which} scan, on its grid; a corrected one, for instance",
        )
    study = parser.add_argument_group("a study (its lesions are those that batch found)")
    study.add_argument(
        "--input",
        type=path,
        metavar="IN",
        help="where the scans lie (default: where batch found them)",
    )
    add_label_arguments(
        study,
        participants="only these participants, with or without sub- (after A)",
        sessions="only these sessions, in this order, with or without ses- (default: all, in the "
        "order of sub-*_sessions.tsv or of the numbers in their labels)",
    )
    parser.add_argument(
        "--report-convention",
        choices=("radiological", "neurological"),
        default="radiological",
        help="which side the patient's left is shown on (default: radiological, on the right)",
    )
    add_force_argument(
        parser,
        ". And compare scans that seem to be of two people, or in the wrong order; in a study, of "
        "two people by their looks",
    )
    add_engine_arguments(parser)
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.second is None:
        return _study(arguments)
    refuse(
        arguments,
        ("input", "participant_label", "session_label"),
        "is for a study, but two scans are named",
        "Name one folder that batch has written",
    )
    if None not in (arguments.mask_a, arguments.mask_b):
        refuse(
            arguments,
            _OF_FINDING,
            "is for lesions that are to be found, but both masks are given",
            "Leave it out",
        )
    _two_scans(arguments)
    return 0


def _study(arguments: argparse.Namespace) -> int:
    from ..cohort import ChangeOptions, compare_study, is_study

    if not os.path.lexists(arguments.first):
        raise InputError(arguments.first, "there is no such file or folder", "Check the path")
    if not is_study(arguments.first):
        raise InputError(
            arguments.first,
            "is a single scan, or a folder that batch has not written",
            "Name the later scan too, or a study",
        )
    refuse(
        arguments,
        _OF_TWO_SCANS,
        "is for two scans; in a study the lesions are those that batch found",
        "Leave it out",
    )
    prepare(arguments)
    out = arguments.output or arguments.first
    options = ChangeOptions(
        arguments.input,
        tuple(arguments.participant_label),
        tuple(arguments.session_label),
        arguments.report_convention,
        arguments.overwrite,
        arguments.force,
    )
    with make_reporter(arguments.progress) as reporter:
        report = compare_study(
            arguments.first,
            out,
            options,
            progress=lambda done, total: reporter("pairs", done, total),
        )
    out = Path(os.path.abspath(out))
    if arguments.progress == "json":
        print_json({"stage": "result", "output": str(out), **_as_dict(report)})
    else:
        _print(report, out)
    return EXIT_SOME_FAILED if report.failed else 0


def _as_dict(report: ChangeReport) -> dict[str, Any]:
    return {
        "pairs": report.total,
        "done": report.done,
        "skipped": report.skipped,
        "failed": [
            {"scans": [row["scan_a"], row["scan_b"]], "error": row["error"]}
            for row in report.failed
        ],
        "notes": list(report.notes),
        "seconds": round(report.seconds, 3),
    }


def _print(report: ChangeReport, out: Path) -> None:
    from ..cohort.changes import PAGE_NAME

    for row in report.failed[:_LISTED]:
        who = f"{row['participant_id']} {row['session_a']} {row['session_b']}"
        print(one_line(f"failed: {who}: {row['error']}"), file=sys.stderr)
    if len(report.failed) > _LISTED:
        print(f"and {len(report.failed) - _LISTED} more", file=sys.stderr)
    for note in report.notes:
        print(one_line(f"warning: {note}"), file=sys.stderr)
    if is_quiet():
        return
    counts = f"{report.done} compared, {report.skipped} before, {len(report.failed)} failed"
    print(f"{report.total} pair{'s' * (report.total != 1)} of sessions: {counts}")
    print(f"{'results':<12}{out}")
    print(f"{'page':<12}{(out / PAGE_NAME).as_uri()}")
    print(f"{'time':<12}{report.seconds:.1f} s")


def _two_scans(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    prepare(arguments)
    from ..lesions.change import NOT_COVERED
    from ..pipeline import CompareOptions, compare_files

    out = arguments.output or Path("compare")
    with make_reporter(arguments.progress) as reporter:
        options = CompareOptions(
            masks=(arguments.mask_a, arguments.mask_b),
            model=arguments.model,
            options=segment_options(arguments),
            point=operating_point(arguments),
            convention=arguments.report_convention,
            force=arguments.force,
        )
        scans = (arguments.first, arguments.second)
        result = compare_files(
            scans, out, options, overwrite=arguments.overwrite, progress=reporter
        )
    before, after = (side.lesion_map.summary.volume_ml for side in (result.a, result.b))
    if arguments.progress == "json":
        print_json(
            {
                "stage": "result",
                "first_ml": before,
                "second_ml": after,
                "groups": result.counts(),
                "output": os.path.abspath(out),
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        return
    if is_quiet():
        return
    if result.groups:
        rows = []
        for group in result.groups:
            # As in the table and on the page: what is not covered has not changed by anything.
            known = group.kind != NOT_COVERED
            change = (f"{group.change_ml:+.2f}", f"{group.noise_ml:.2f}") if known else ("-", "-")
            volumes = (f"{group.a_ml:.2f}", f"{group.b_ml:.2f}")
            rows.append([str(group.number), group.kind, *volumes, *change])
        print_table(("group", "class", "first mL", "second mL", "change", "noise"), rows)
    print(f"{before:.2f} mL in the first scan, {after:.2f} mL in the second")
    print(f"page        {out / 'change.html'}")
