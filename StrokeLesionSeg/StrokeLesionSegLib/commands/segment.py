"""``stroke-lesion-seg segment``: one scan in, mask, table and sidecar out."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..inference.ahead import import_ahead
from ..outputs import beside_mask, default_mask_path
from ..pipeline import (
    REGIONS_ENDING,
    AlignBeside,
    FileOptions,
    OutputPaths,
    SegmentResult,
    segment_file,
)
from ..spaces import MNI_SPACE
from .options import (
    EXIT_SOME_FAILED,
    add_engine_arguments,
    add_force_argument,
    add_progress_argument,
    add_space_argument,
    announce,
    operating_point,
    path,
    prepare,
    refuse,
    segment_options,
)
from .progress import make_reporter, print_json
from .report import add_report_arguments, atlas_choice, report_folder, report_options
from .tables import print_table
from .verbosity import is_quiet, note


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "segment",
        help="find the lesions in one scan",
        description="Find chronic stroke lesions in one T1-weighted scan. The mask has the grid "
        "and orientation of the input. A table of the lesions and a JSON sidecar are written "
        "beside it. Exit codes: 0 done; 3 done, except for an optional output that could not be "
        "made; 2 wrong arguments or unusable input; 130 stopped; 1 a defect of ours.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "input",
        type=path,
        metavar="IN",
        help="NIfTI, NRRD, MetaImage, FreeSurfer's .mgz, a multi-frame DICOM file, or a folder "
        "with a DICOM series",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "-o", "--output", type=path, metavar="MASK", help="default: <name>_lesion beside the input"
    )
    outputs.add_argument(
        "--probability", type=path, metavar="FILE", help="write the lesion probability, 0 to 1"
    )
    outputs.add_argument(
        "--uncertainty",
        type=path,
        metavar="FILE",
        help="write the uncertainty: standard deviation of the probability over views and flips",
    )
    outputs.add_argument(
        "--table", type=path, metavar="FILE", help="default: the mask's name with .tsv"
    )
    outputs.add_argument(
        "--sidecar", type=path, metavar="FILE", help="default: the mask's name with .json"
    )
    outputs.add_argument(
        "--dicom-seg",
        type=path,
        metavar="FILE",
        help="write the mask as DICOM Segmentation (.dcm) too; the input has to be DICOM",
    )
    outputs.add_argument(
        "--dicom-sr",
        type=path,
        metavar="FILE",
        help="write the volumes as DICOM Structured Report (.dcm) too; the input has to be DICOM",
    )
    outputs.add_argument(
        "--dicom-rtstruct",
        type=path,
        metavar="FILE",
        help="write the contours as DICOM RT Structure Set (.dcm) too; the input has to be DICOM",
    )
    outputs.add_argument(
        "--report",
        type=path,
        metavar="DIR",
        help="write an HTML report, DIR/<name>.html; the folder is created if needed",
    )
    add_space_argument(outputs)
    outputs.add_argument(
        "--label",
        type=_label,
        metavar="NAME",
        help="the scan's name in report, sidecar and default file names (default: its file's name; "
        "for DICOM, often named after the patient, a checksum)",
    )
    outputs.add_argument("--no-table", action="store_true", help="write no tables")
    outputs.add_argument("--no-sidecar", action="store_true", help="write no sidecar")
    outputs.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist already"
    )
    parser.add_argument(
        "--series", metavar="UID", help="SeriesInstanceUID, if the folder holds several"
    )
    add_force_argument(parser)
    add_engine_arguments(parser)
    add_report_arguments(parser)
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable() or re.search(r"[/\\:*?\"<>|]|\A\.", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name for a file")
    return text


def run(arguments: argparse.Namespace) -> int:
    paths = output_paths(arguments)
    if arguments.report is None:
        refuse(
            arguments,
            ("report_convention", "report_paths", "no_viewer"),
            "is for the report, but none is asked for",
            "Add --report DIR",
        )
        if arguments.no_table:
            refuse(
                arguments,
                ("atlas",),
                "is for the volumes by region, but no table and no report is asked for",
                "Leave out --no-table, or add --report DIR",
            )
    prepare(arguments)
    report, atlas = None, atlas_choice(arguments)
    if arguments.report is not None:
        report = report_options(arguments)
    told: list[str] = []

    def notice(text: str) -> None:
        told.append(text)
        print(f"warning: {text}", file=sys.stderr, flush=True)

    options = segment_options(arguments)
    if arguments.progress != "json" and not is_quiet():
        announce(arguments.model, options)
    with (
        report_folder(arguments.report),
        AlignBeside(arguments.input, arguments.series, options) as beside,
        make_reporter(arguments.progress) as reporter,
    ):
        # What is not there is refused at once.
        if not beside.started and os.path.exists(arguments.input):
            import_ahead()
        result = segment_file(
            arguments.input,
            paths,
            FileOptions(
                model=arguments.model,
                options=options,
                point=operating_point(arguments),
                series=arguments.series,
                report=report,
                label=arguments.label or "",
                atlas=atlas,
                deformable=arguments.deformable,
                alignment=beside.result,
                force=arguments.force,
            ),
            overwrite=arguments.overwrite,
            progress=reporter,
            notice=notice,
        )
    if arguments.progress == "json":
        print_json({"stage": "result", **result.as_dict()})
    else:
        print_result(result, told)
    return EXIT_SOME_FAILED if result.not_written else 0


def output_paths(arguments: argparse.Namespace) -> OutputPaths:
    """The paths that the arguments ask for, defaults filled in."""
    for name in ("table", "sidecar"):
        if getattr(arguments, name) is not None and getattr(arguments, f"no_{name}"):
            raise InputError(f"--{name}", f"and --no-{name} exclude each other", "Leave one out")
    mask = arguments.output or default_mask_path(arguments.input, arguments.label)
    paths = OutputPaths(
        mask,
        arguments.probability,
        arguments.uncertainty,
        arguments.table or beside_mask(mask, ".tsv"),
        arguments.sidecar or beside_mask(mask, ".json"),
        arguments.dicom_seg,
        arguments.dicom_sr,
        arguments.dicom_rtstruct,
        regions=beside_mask(mask, REGIONS_ENDING),
    )
    if arguments.report is not None:
        from ..report import report_path

        page = report_path(arguments.report, arguments.input)
        paths = replace(paths, report=page.with_name(f"{arguments.label or page.stem}.html"))
    if MNI_SPACE in arguments.space:
        paths = paths.with_mni()
    if arguments.no_table:
        paths = replace(paths, table=None, regions=None)
    if arguments.no_sidecar:
        paths = replace(paths, sidecar=None)
    return paths


def print_result(result: SegmentResult, told: Sequence[str] = ()) -> None:
    """For people: warnings on stderr but those ``told``, then lesions, files and the time."""
    for warning in result.warnings:
        if warning not in told:
            print(f"warning: {warning}", file=sys.stderr)
    ran = result.prediction.details
    told = [f"{key} {ran[key]}" for key in ("device", "precision", "threads") if key in ran]
    note(f"{'ran with':<12}{', '.join(told)}")
    if is_quiet():
        return
    lesions = result.lesion_map.lesions
    if lesions:
        rows = [
            [
                str(lesion.label),
                f"{round(lesion.volume_ml, 6):.2f}",
                lesion.side,
                _point(lesion.centroid_ras_mm),
                _point(lesion.centroid_mni_mm),
                f"{lesion.mean_probability:.2f}",
            ]
            for lesion in lesions
        ]
        columns = ("lesion", "mL", "side", "centre RAS mm", "centre MNI mm", "probability")
        print_table(columns, rows)
        volume = round(result.volume_ml, 6)
        print(
            f"{len(lesions)} lesion{'s' * (len(lesions) > 1)}, {volume:.2f} mL in all, "
            f"mean probability {result.mean_probability:.2f}"
        )
        if side_note := result.lesion_map.summary.side_note:
            print(side_note)
    else:
        print("no lesion found")
    if result.expected_dice is not None:
        print(f"expected Dice {result.expected_dice:.2f}, estimated from the probabilities")
    for reason in result.reasons_to_look:
        print(f"look at it: {reason}")
    for title, file in (
        ("mask", result.paths.mask),
        ("probability", result.paths.probability),
        ("uncertainty", result.paths.uncertainty),
        ("table", result.paths.table),
        ("regions", result.paths.regions),
        ("sidecar", result.paths.sidecar),
        ("report", result.paths.report),
        ("DICOM SEG", result.paths.dicom_seg),
        ("DICOM SR", result.paths.dicom_sr),
        ("DICOM RT", result.paths.dicom_rtstruct),
        ("MNI mask", result.paths.mni_mask),
        ("MNI prob.", result.paths.mni_probability),
        ("transform", result.paths.mni_transform),
    ):
        if file is not None:
            print(f"{title:<12}{file}")
    print(f"{'time':<12}{result.timings['total']:.1f} s")


def _point(point: tuple[float, float, float] | None) -> str:
    return "-" if point is None else ", ".join(f"{v:.0f}" for v in point)
