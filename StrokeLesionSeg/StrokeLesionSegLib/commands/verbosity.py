"""How much a command says: as usual, less with ``--quiet``, more with ``--verbose``.

Results go to stdout; progress, warnings, errors and what ``--verbose`` adds go to stderr. Quiet
commands that write files say nothing on stdout; those whose answer is what they print (``info``,
``cite``, ``models list``, ``score`` without ``--output``) and JSON for programs are printed always.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import dataclass

from .. import __version__

QUIET_HELP = "no progress, and nothing on stdout but what was asked for; warnings and errors stay"
VERBOSE_HELP = (
    "stages with their seconds, time and memory of the whole, on stderr; the traceback of an error"
)


@dataclass
class _Level:
    quiet: bool = False
    verbose: bool = False
    began: float = 0.0


# Of this process: one command runs in it.
_level = _Level()


def add_verbosity_arguments(parser: argparse.ArgumentParser, *, default: bool) -> None:
    """``-q`` and ``-v``. ``default``: for the parser that commands hang from, which sets them."""
    either = parser.add_mutually_exclusive_group()
    absent = False if default else argparse.SUPPRESS
    for names, help_ in (
        (("-q", "--quiet"), QUIET_HELP),
        (("-v", "--verbose"), VERBOSE_HELP),
    ):
        either.add_argument(*names, action="store_true", default=absent, help=help_)


def set_level(arguments: argparse.Namespace) -> None:
    """Heed what was asked for, from now on."""
    _level.quiet = arguments.quiet
    _level.verbose = arguments.verbose and not arguments.quiet
    _level.began = time.monotonic()
    system = f"{platform.system()} {platform.machine()}"
    note(f"StrokeLesionSeg {__version__}, Python {platform.python_version()}, {system}")


def is_quiet() -> bool:
    """Whether results for people are not wanted."""
    return _level.quiet


def is_verbose() -> bool:
    """Whether more than usual is wanted."""
    return _level.verbose


def say(text: str) -> None:
    """A line of a result on stdout, for people."""
    if not _level.quiet:
        print(text)


def note(text: str) -> None:
    """A line on stderr for those who want to know more."""
    if _level.verbose:
        print(text, file=sys.stderr, flush=True)


def note_end() -> None:
    """The time and memory that the command has taken."""
    if not _level.verbose:
        return
    from ..inference.device import peak_memory_bytes

    seconds = time.monotonic() - _level.began
    peak = peak_memory_bytes()
    memory = "" if peak is None else f", {peak / 1e9:.1f} GB of memory at the peak"
    note(f"{'whole':<12}{seconds:.2f} s{memory}")
