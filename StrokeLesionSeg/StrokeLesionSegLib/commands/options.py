"""Arguments that several subcommands share, and their way into the engine's option types."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..operating_point import OperatingPointChoice
from ..spaces import NATIVE, read_spaces

if TYPE_CHECKING:
    from ..inference import SegmentOptions

#: Exit code of what went through, but some of whose scans, cases or outputs could not be done.
EXIT_SOME_FAILED = 3


def number(
    low: float, high: float, *, kind: Callable[[str], Any] = float, open_ends: bool = False
) -> Callable[[str], Any]:
    """A converter for argparse that takes numbers from ``low`` to ``high``."""

    def convert(text: str) -> Any:
        value = kind(text)  # argparse turns a ValueError into its own message
        inside = low < value < high if open_ends else low <= value <= high
        if not inside:
            between = "between" if open_ends else "from"
            raise argparse.ArgumentTypeError(
                f"{text} is not {between} {low:g} {'and' if open_ends else 'to'} {high:g}"
            )
        return value

    convert.__name__ = "whole number" if kind is int else "number"
    return convert


def add_label_arguments(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, *, participants: str, sessions: str
) -> None:
    """Which participants and sessions, in both spellings of BIDS Apps; the helps are given."""
    for what, text in (("participant", participants), ("session", sessions)):
        parser.add_argument(
            *(f"--{what}-label", f"--{what}_label"),
            nargs="+",
            default=(),
            metavar="LABEL",
            help=text,
        )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that decides what is found and how fast."""
    found = parser.add_argument_group("what counts as lesion (default: what the model recommends)")
    found.add_argument(
        "--threshold",
        type=number(0, 1, open_ends=True),
        metavar="P",
        help="lowest probability of a lesion voxel",
    )
    found.add_argument(
        "--second-threshold",
        type=number(0, 1),
        metavar="P",
        help="keep only lesions with a voxel of at least this probability, above --threshold; 0 "
        "switches it off; if only --threshold is given, the model's second threshold applies as "
        "long as it is higher",
    )
    found.add_argument(
        "--min-volume",
        type=number(0, 10000),
        metavar="ML",
        help="drop lesions smaller than this many mL",
    )
    found.add_argument(
        "--min-mean-probability",
        type=number(0, 1),
        metavar="P",
        help="drop lesions whose mean probability is lower than this",
    )
    network = parser.add_argument_group("how the network is run")
    network.add_argument(
        "--model", metavar="NAME", help="default: the model that ships with the program"
    )
    network.add_argument(
        "--views",
        choices=("axial", "triplanar"),
        help="models that work slice by slice: slices of one view, or of three (slower); default: "
        "what the model recommends",
    )
    network.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: average over flipped slices, too, or with a model of the "
        "whole head over shifted copies of an aligned one (slower)",
    )
    network.add_argument(
        "--exact",
        action="store_true",
        help="third-party models: compute every window in float32, as their authors do (slower)",
    )
    network.add_argument(
        "--no-mirror",
        action="store_true",
        help="third-party models: do not average over mirrored windows (up to eight times faster)",
    )
    network.add_argument(
        "--align",
        choices=("auto", "mni", "none"),
        default="auto",
        help="align to MNI152 first: auto (default) unless the scan is there already, mni always, "
        "none never",
    )
    network.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto"
    )
    network.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="number format; auto (default) takes a half precision where it is fast and its result "
        "close to float32",
    )
    network.add_argument(
        "--threads", type=number(1, 1024, kind=int), metavar="N", help="default: all available CPUs"
    )
    network.add_argument(
        "--batch-size",
        type=number(1, 1024, kind=int),
        metavar="N",
        help="models that work slice by slice: slices per batch",
    )


def add_space_argument(group: Any) -> None:
    """In which spaces results are written."""
    group.add_argument(
        "--space",
        type=_spaces,
        default=(NATIVE,),
        metavar="SPACES",
        help="native (always written; the default), or native,MNI152NLin2009aSym: mask, "
        "probability and the transform in MNI space too",
    )
    group.add_argument(
        "--deformable",
        action="store_true",
        help="deform the scan to MNI space after the affine alignment, its lesions left out, for "
        "all results there and the volumes by region; some ten seconds more a scan. A deformation "
        "that folds or gains nothing is not used",
    )


def _spaces(text: str) -> tuple[str, ...]:
    try:
        return read_spaces(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{error.cause}. {error.remedy}") from None


def add_force_argument(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Whether what the input check refuses is segmented all the same; ``more``: what else is."""
    parser.add_argument(
        "--force",
        action="store_true",
        help="segment a scan that the input check refuses (not a T1-weighted head); the sidecar "
        "records it" + more,
    )


def add_progress_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        help="json prints one JSON object per line on stdout, for programs (default: a bar if "
        "stderr is a terminal)",
    )


def refuse(arguments: argparse.Namespace, names: tuple[str, ...], cause: str, remedy: str) -> None:
    """``InputError`` for options that were asked for, and would have no effect."""
    for name in names:
        value = getattr(arguments, name)
        # A 0 is asked for, and equal to False.
        if value is not False and value not in (None, (), "", "auto"):
            raise InputError(f"--{name.replace('_', '-')}", cause, remedy)


def prepare(arguments: argparse.Namespace) -> None:
    """Set up the process before torch and SimpleITK are imported; ``--threads`` binds both."""
    import os

    from ..inference.device import THREADS_VARIABLE, prepare_environment

    if getattr(arguments, "threads", None):
        os.environ[THREADS_VARIABLE] = str(arguments.threads)
    prepare_environment()


def operating_point(arguments: argparse.Namespace) -> OperatingPointChoice:
    """What was asked for of the operating point."""
    return OperatingPointChoice(
        arguments.threshold,
        arguments.second_threshold,
        arguments.min_volume,
        arguments.min_mean_probability,
    )


def segment_options(arguments: argparse.Namespace) -> SegmentOptions:
    """The engine's options."""
    from ..inference import SegmentOptions

    return SegmentOptions(
        views=arguments.views,
        tta=arguments.tta,
        align=arguments.align,
        device=arguments.device,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        exact=arguments.exact,
        mirror=not arguments.no_mirror,
    )


def announce(model: str | None, options: SegmentOptions) -> None:
    """Say on stderr what a model of others will take; others answer at once."""
    from ..inference import expected_run
    from ..models import Manifest, find_model

    manifest = Manifest.from_file(find_model(model))
    expected = expected_run(manifest, options)
    if expected is not None:
        print(f"{manifest.name}: {expected.in_words}, at most", file=sys.stderr)


def path(text: str) -> Path:
    """A path argument; ``~`` is expanded because not every shell does so after ``=``."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home folder") from None
