"""The command ``stroke-lesion-seg``: parses the command line and turns endings into exit codes.

Exit codes: 0 done; 2 wrong arguments or unusable input, with one line on stderr; 3 a batch whose
other scans are done, but some could not be used; 130 stopped by Ctrl-C or SIGTERM; 1 a defect of
ours, with a traceback.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from . import __version__
from .commands.verbosity import add_verbosity_arguments, is_verbose, note_end, set_level
from .errors import Cancelled, InputError

PROGRAM = "stroke-lesion-seg"
EXIT_OK, EXIT_DEFECT, EXIT_INPUT, EXIT_STOPPED = 0, 1, 2, 130
# One module of the package "commands" each; imported to build the parser, so they import nothing
# slow at their top.
COMMANDS = (
    *("segment", "batch", "compare", "adapt", "models", "info", "demo", "score", "cite"),
    "completion",
)
# These know nothing of the others; "completion" prints them all.
_ALONE = frozenset(COMMANDS) - {"completion"}


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is a --help away."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line; each subcommand sets ``run`` to its function.

    ``only``: with this subcommand alone, if it knows nothing of the others, whose modules then need
    not be read.
    """
    parser = OneLineParser(
        prog=PROGRAM,
        description="Segment chronic stroke lesions in T1-weighted MRI. "
        "For research; not a medical device.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    add_verbosity_arguments(parser, default=True)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=OneLineParser
    )
    for name in (only,) if only in _ALONE else COMMANDS:
        importlib.import_module(f".commands.{name}", __package__).add_parser(commands)
    _add_verbosity(parser)
    return parser


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    """``-q`` and ``-v`` behind every command and action too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                add_verbosity_arguments(child, default=False)
                _add_verbosity(child)


def command(run: Callable[[], int] | None = None) -> NoReturn:
    """``main``, or what runs it, as a process of its own."""
    # Imports make hundreds of thousands of objects that stay: looking through them for garbage
    # again and again costs a tenth of their time.
    gc.set_threshold(100_000, 20, 20)
    end_process((run or main)())


def end_process(code: int) -> NoReturn:
    """Leave the process with ``code``: what is registered for its end is run, the rest is left.

    Taking torch apart and freeing every block takes half a second and is of no use to anybody.
    """
    if all(thread is threading.main_thread() or thread.daemon for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it
                stream.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit code."""
    _print_anything()
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(argv[0] if argv else None)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version, wrong arguments
        return int(stop.code or 0)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return EXIT_INPUT
    set_level(arguments)
    previous = _stop_on_sigterm()
    try:
        code = arguments.run(arguments)
        note_end()
        sys.stdout.flush()
        return code or EXIT_OK
    except InputError as error:
        if is_verbose():
            traceback.print_exc()
        return _say(str(error), EXIT_INPUT)
    except (KeyboardInterrupt, Cancelled):
        return _say("stopped", EXIT_STOPPED)
    except BrokenPipeError:
        return nobody_reads()
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _PACKAGES:
            return _defect(error)
        text = f"{package}: this Python package is not installed. Install it with: "
        return _say(f"{text}{sys.executable} -m pip install {_PACKAGES[package]}.", EXIT_INPUT)
    except MemoryError:
        return _say(_OUT_OF_MEMORY, EXIT_INPUT)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            text = f"{error.filename or 'output'}: the disk is full. Free some space."
            return _say(text, EXIT_INPUT)
        return _defect(error)
    except Exception as error:
        if _is_allocation_failure(error):
            return _say(_OUT_OF_MEMORY, EXIT_INPUT)
        return _defect(error)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


# What an incomplete installation may lack, by module, with the name to install it by.
_PACKAGES = {"PIL": "Pillow"} | {
    name: name for name in ("torch", "numpy", "scipy", "SimpleITK", "pydicom", "highdicom")
}
_OUT_OF_MEMORY = "memory: there is not enough of it. Close other programs and try again."


def nobody_reads() -> int:
    """Whoever read our output went away, as ``head`` does; returns the exit code."""
    # Python would complain once more when it flushes.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_STOPPED


def _print_anything() -> None:
    """No character of a name may stop a run: consoles and pipes of Windows know few."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _is_allocation_failure(error: BaseException) -> bool:
    """torch raises RuntimeError, not MemoryError, when the CPU's memory runs out."""
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
    )


def _say(text: str, code: int) -> int:
    """One line on stderr, whatever the text contains."""
    print(f"{PROGRAM}: {' '.join(text.split())}", file=sys.stderr)
    return code


def _defect(error: Exception) -> int:
    """Say that it is ours, unless a package that we need ended its own import with ``error``: one
    that is half installed, or without a library of the system."""
    package = _half_installed(error)
    if package is None or is_verbose():
        traceback.print_exc()
    if package is not None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _say(
            f"{package}: this Python package cannot be imported ({reason}). Install it anew with: "
            f"{sys.executable} -m pip install --force-reinstall {_PACKAGES[package]}.",
            EXIT_INPUT,
        )
    return _say(
        "this is a defect of StrokeLesionSeg. Please report it on its issue tracker with the "
        f"lines above and the output of '{PROGRAM} info'.",
        EXIT_DEFECT,
    )


def _half_installed(error: Exception) -> str | None:
    if not isinstance(error, (ImportError, OSError)):
        return None
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if package in _PACKAGES and frame.f_code.co_name == "<module>":
            return package
    return None


def _stop_on_sigterm() -> signal._HANDLER:
    """Let SIGTERM (a cluster, a closing Slicer) end a run as Ctrl-C does: cleaned up."""

    def stop(number: int, frame: FrameType | None) -> None:
        # A second one must not interrupt the cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, where Python allows no handlers
        return None


if __name__ == "__main__":
    command()
