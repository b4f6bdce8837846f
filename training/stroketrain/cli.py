"""``stroketrain``: simulate, prepare, distill, fit, tune, bench, experiments, export ..."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence

from StrokeLesionSegLib import __version__
from StrokeLesionSegLib.cli import OneLineParser, nobody_reads
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.outputs import os_input_error

from .commands import (
    bench,
    distill,
    evaluate,
    experiments,
    export,
    figures,
    fit,
    heads,
    pack,
    prepare,
    release,
    simulate,
    split,
    tune,
)

# Longer ones, a network's spec, stand in training/README.md.
_LONG_DEFAULT = 40
# In the order of the help text.
COMMANDS = (
    simulate, prepare, distill, split, heads, pack, fit, release, experiments, figures, bench,
    evaluate, tune, export,
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="stroketrain", description="Train StrokeLesionSeg models, step by step."
    )
    parser.add_argument("--version", action="version", version=f"stroketrain {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    _show_defaults(parser)
    return parser


def _show_defaults(parser: argparse.ArgumentParser) -> None:
    """Let the help of every command say what its options are when they are not given."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                _show_defaults(one)
            continue
        default = action.default
        told = "default" in (action.help or "")
        if action.nargs == 0 or default in (None, argparse.SUPPRESS) or default == () or told:
            continue
        if isinstance(default, str) and len(default) > _LONG_DEFAULT:
            continue
        action.help = " ".join(filter(None, [action.help, "(default: %(default)s)"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``stroketrain``; returns the exit code (2 for unusable input, 130 where it was stopped,
    with one line on stderr)."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        return _say(error)
    except BrokenPipeError:
        return nobody_reads()
    except OSError as error:
        return _say(_refused(error))
    except KeyboardInterrupt:
        print("stroketrain: stopped", file=sys.stderr)
        return 130
    return 0


def _refused(error: OSError) -> InputError:
    """What the system refused of a file or folder. Raises ``error`` where it names none."""
    if error.errno == errno.ENOSPC:
        return os_input_error(error, error.filename or "output")
    if error.filename is None:
        raise error
    cause = f"cannot be read or written ({error.strerror})"
    return InputError(error.filename, cause, "Check the path, and what you may do there")


def _say(error: InputError) -> int:
    print(f"stroketrain: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
