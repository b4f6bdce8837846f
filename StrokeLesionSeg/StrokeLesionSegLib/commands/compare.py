"""``stroke-lesion-seg compare``: two scans of one person, what became of the lesions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import (
    add_engine_arguments,
    add_force_argument,
    add_progress_argument,
    operating_point,
    path,
    prepare,
    segment_options,
)
from .progress import make_reporter, print_json
from .tables import print_table
from .verbosity import is_quiet


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="what became of the lesions between two scans of one person",
        description="Compare the lesions of two T1-weighted scans of one person: new, grown, "
        "merged, split, unchanged, shrunken, gone. The scans are aligned rigidly through the space "
        "halfway between them. Writes change.tsv, change.json and a page, change.html.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "first", type=path, metavar="A", help="the earlier scan, or its BIDS session's folder"
    )
    parser.add_argument(
        "second", type=path, metavar="B", help="the later scan, or its BIDS session's folder"
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "-o",
        "--output",
        type=path,
        default=Path("compare"),
        metavar="DIR",
        help="folder for the results; made if need be (default: compare)",
    )
    outputs.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist already"
    )
    masks = parser.add_argument_group("lesions that are known (else they are found first)")
    for letter, which in (("a", "first"), ("b", "second")):
        masks.add_argument(
            f"--mask-{letter}",
            type=path,
            metavar="FILE",
            help=f"mask of the {which} scan, on its grid; a corrected one, for instance",
        )
    parser.add_argument(
        "--report-convention",
        choices=("radiological", "neurological"),
        default="radiological",
        help="which side the patient's left is shown on (default: radiological, on the right)",
    )
    add_force_argument(parser)
    add_engine_arguments(parser)
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    prepare(arguments)
    from ..pipeline import compare_files

    with make_reporter(arguments.progress) as reporter:
        result = compare_files(
            (arguments.first, arguments.second),
            arguments.output,
            masks=(arguments.mask_a, arguments.mask_b),
            model=arguments.model,
            options=segment_options(arguments),
            point=operating_point(arguments),
            convention=arguments.report_convention,
            overwrite=arguments.overwrite,
            force=arguments.force,
            progress=reporter,
        )
    before, after = (side.lesion_map.summary.volume_ml for side in (result.a, result.b))
    if arguments.progress == "json":
        print_json(
            {
                "stage": "result",
                "first_ml": before,
                "second_ml": after,
                "groups": result.counts(),
                "output": str(arguments.output),
            }
        )
        return
    if is_quiet():
        return
    if result.groups:
        rows = [
            [
                str(group.number),
                group.kind,
                f"{group.a_ml:.2f}",
                f"{group.b_ml:.2f}",
                f"{group.change_ml:+.2f}",
                f"{group.noise_ml:.2f}",
            ]
            for group in result.groups
        ]
        print_table(("group", "class", "first mL", "second mL", "change", "noise"), rows)
    print(f"{before:.2f} mL in the first scan, {after:.2f} mL in the second")
    print(f"page        {arguments.output / 'change.html'}")
