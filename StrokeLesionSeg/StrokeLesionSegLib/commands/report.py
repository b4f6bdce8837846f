"""The options of reports, for ``segment`` and ``batch``."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..outputs import os_input_error
from .options import path

if TYPE_CHECKING:
    from ..atlases import AtlasChoice
    from ..report import ReportOptions


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """What goes into a report; whether one is written is another argument."""
    regions = parser.add_argument_group("volumes by region")
    regions.add_argument(
        "--atlas",
        type=path,
        metavar="FILE",
        help="label image in MNI152 space for the volumes by region, instead of the atlas that "
        "ships with the program (Allen Human Reference Atlas)",
    )
    regions.add_argument(
        "--atlas-labels",
        type=path,
        metavar="FILE",
        help="names of its regions: JSON, CSV, TSV or text with a value and a name per line "
        "(default: the file of the same name beside it)",
    )
    report = parser.add_argument_group("report")
    report.add_argument(
        "--report-convention",
        choices=("radiological", "neurological"),
        help="which side the patient's left is shown on: radiological (default) on the right, "
        "neurological on the left",
    )
    report.add_argument(
        "--report-paths",
        action="store_true",
        help="show the scan's path, and the series of a DICOM folder, in the report; by default it "
        "holds no path of this machine",
    )
    report.add_argument(
        "--no-viewer",
        action="store_true",
        help="leave the interactive viewer, with the images it scrolls through, out of the report",
    )


def report_options(arguments: argparse.Namespace) -> ReportOptions:
    """What the arguments ask for of a report."""
    from ..report import ReportOptions

    return ReportOptions(
        convention=arguments.report_convention or "radiological",
        show_paths=arguments.report_paths,
        viewer=not arguments.no_viewer,
    )


def atlas_choice(arguments: argparse.Namespace) -> AtlasChoice:
    """The atlas that the arguments ask for, by absolute paths.

    Raises ``InputError`` if labels are given without an atlas.
    """
    from ..atlases import AtlasChoice

    image, labels = arguments.atlas, arguments.atlas_labels
    if labels is not None and image is None:
        raise InputError("--atlas-labels", "no atlas is given for these names", "Add --atlas FILE")
    return AtlasChoice(
        None if image is None else image.absolute(), None if labels is None else labels.absolute()
    )


@contextlib.contextmanager
def report_folder(folder: Path | None) -> Iterator[None]:
    """The folder for reports, made if need be; empty ones are not left behind by an error.

    Raises ``InputError`` if it cannot be made.
    """
    if folder is None or folder.is_dir():
        yield
        return
    made = [folder, *itertools.takewhile(lambda above: not above.exists(), folder.parents)]
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(folder, "is not a folder", "Give another folder for reports") from None
    except OSError as error:
        raise os_input_error(error, folder) from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # something is in it
            for empty in made:
                empty.rmdir()
        raise
