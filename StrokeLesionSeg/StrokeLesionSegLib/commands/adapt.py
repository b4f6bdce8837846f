"""``stroke-lesion-seg adapt``: a model that learns from a lab's corrected masks."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..brief import counted
from ..errors import Cancelled, InputError
from .options import add_progress_argument, number, path, prepare
from .progress import make_reporter, print_json
from .verbosity import is_quiet

if TYPE_CHECKING:
    from ..learning.adapt import Outcome

#: Exit code of a run that went through, but whose model was not better and is not installed.
EXIT_NOT_BETTER = 3
# Somebody works on this computer meanwhile.
_NICER = 10


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "adapt",
        help="learn from corrected masks",
        description="Train the model further on masks that you have corrected, in the background. "
        "A third of the subjects, at least 4, is held out; the new model is installed only if it "
        "is better on them and no worse on simulated scans. Run it again to resume.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        type=path,
        metavar="FOLDER",
        help="BIDS derivative with *_desc-corrected_mask.nii.gz of at least 12 subjects, or a list "
        "(.tsv) of scan, mask and, unless names or folders are those of BIDS, subject",
    )
    parser.add_argument(
        "--name", help="name of the new model (default: the parent's with -adapted)"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="model to start from (default: the model that ships with the program)",
    )
    parser.add_argument(
        "--minutes",
        type=number(0, 100_000, open_ends=True),
        default=60.0,
        help="time limit for everything (default: 60)",
    )
    parser.add_argument(
        "--seed",
        type=number(0, 2**31, kind=int),
        default=0,
        metavar="N",
        help="seed of who judges and of what is drawn; how much is learnt is up to the clock "
        "(default: 0)",
    )
    parser.add_argument(
        "--threads", type=number(1, 1024, kind=int), metavar="N", help="default: all available CPUs"
    )
    parser.add_argument(
        "--no-shared-subjects",
        action="store_true",
        help="for a model that was adapted on another machine: it has learnt from none of these "
        "subjects there",
    )
    parser.add_argument(
        "--work",
        type=path,
        metavar="DIR",
        help="where the run has its folder (default: in the user's cache)",
    )
    parser.add_argument(
        "--export",
        type=path,
        metavar="ZIP",
        help="also write the new model to one file to pass on: weights, counts and figures",
    )
    add_progress_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    prepare(arguments)
    if arguments.export is not None:
        # Refused now, and not after an hour.
        from ..outputs import OutputSet

        target = Path(os.path.abspath(arguments.export))
        with OutputSet([], [(target, target.suffix)], overwrite=True):
            pass
    lower_priority()
    from ..inference.device import give_back_freed_memory

    give_back_freed_memory()
    from ..learning.adapt import AdaptOptions, adapt

    options = AdaptOptions(
        name=arguments.name,
        model=arguments.model,
        minutes=arguments.minutes,
        seed=arguments.seed,
        threads=arguments.threads,
        work=arguments.work,
        no_shared_subjects=arguments.no_shared_subjects,
    )
    if arguments.progress != "json":
        print(
            f"takes up to {arguments.minutes:g} min and about 2 GB of memory, beside other "
            "work; if it is stopped, the same command goes on",
            file=sys.stderr,
        )
    try:
        with make_reporter(arguments.progress) as reporter:
            outcome = adapt(arguments.source, options, progress=reporter)
    except (Cancelled, KeyboardInterrupt):
        print("what was done is kept; the same command goes on with it", file=sys.stderr)
        raise
    exported, failed = None, None
    try:
        exported = _export(outcome, arguments.export)
    except InputError as error:
        failed = error  # the model is installed all the same: what came of it is told first
    if arguments.progress == "json":
        print_json({"stage": "result", **_result(outcome, exported)})
    else:
        _print(outcome, exported)
    if failed is not None:
        raise failed
    return 0 if outcome.installed is not None else EXIT_NOT_BETTER


def lower_priority() -> None:
    """Let everything else on this computer go first."""
    if os.name == "nt":
        import ctypes

        below_normal = 0x4000
        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), below_normal)
        return
    with contextlib.suppress(OSError):
        os.nice(_NICER)


def _export(outcome: Outcome, target: Path | None) -> Path | None:
    if target is None or outcome.installed is None or outcome.installed.directory is None:
        return None
    from ..models import pack_model
    from ..outputs import os_input_error

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(error, target) from error
    return pack_model(outcome.installed.directory, target)


def _result(outcome: Outcome, exported: Path | None) -> dict[str, Any]:
    manifest = outcome.installed
    return {
        "installed": None if manifest is None else manifest.name,
        "directory": None if manifest is None else str(manifest.directory),
        "exported": None if exported is None else str(exported),
        "reasons": list(outcome.verdict.reasons),
        "figures": outcome.verdict.figures,
        "card": str(outcome.card),
        "left_out": [str(item) for item in outcome.left_out],
        "facts": outcome.facts,
        "text": "\n\n".join(table.text() for table in outcome.tables),
    }


def _print(outcome: Outcome, exported: Path | None) -> None:
    for item in outcome.left_out:
        print(f"left out: {item}", file=sys.stderr)
    if is_quiet():
        return
    for table in outcome.tables:
        print(table.text())
        print()
    learnt, kept = len(outcome.split.learn), len(outcome.split.kept)
    steps = counted(outcome.facts["steps"], "step")
    minutes = counted(round(outcome.facts["minutes in all"]), "minute")
    print(f"learnt from {learnt} subjects, judged by {kept}; {steps}, {minutes}")
    if outcome.installed is None:
        print("not installed, the old model stays:")
        for reason in outcome.verdict.reasons:
            print(f"  {reason}")
    else:
        name = outcome.installed.name
        print(f"installed as {name}: use it with --model {name}")
    if exported is not None:
        print(f"for a colleague: {exported}")
    print(f"card (stays here): {outcome.card}")
