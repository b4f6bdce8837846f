"""``stroketrain``: simulate, prepare, distill, fit, tune, bench, experiments, export ..."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from StrokeLesionSegLib.errors import InputError

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

# In the order of the help text.
COMMANDS = (
    simulate, prepare, distill, split, heads, pack, fit, release, experiments, figures, bench,
    evaluate, tune, export,
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stroketrain", description="Train StrokeLesionSeg models, step by step."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``stroketrain``; returns the exit code (2 for unusable input, one line on stderr)."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except InputError as error:
        print(f"stroketrain: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
