"""The command reference, written from the parsers.

    python Testing/house/command_reference.py          (or: make command-reference)

writes ``docs/commands.md``. A test compares.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "commands.md"
sys.path.insert(0, str(REPOSITORY / "StrokeLesionSeg"))

HEAD = """\
# Commands

Written from the program by `make command-reference`; `stroke-lesion-seg COMMAND --help` says the
same. `python -m StrokeLesionSegLib` is the same command where the script is not on the path, also
in Slicer's own Python.

| exit code | meaning |
|---|---|
| 0 | done |
| 2 | wrong arguments or unusable input: one line names the file, what is wrong, and what to do |
| 3 | done in part: some scans, a page or a DICOM SEG could not be used or made; no better model |
| 130 | stopped by Ctrl-C or SIGTERM; nothing half-written and no temporary file is left |
| 1 | a defect of ours: a traceback. Please report it |

`eval "$(stroke-lesion-seg completion bash)"` completes commands, options and their values in bash.

Results go to stdout; progress, warnings and errors to stderr. Every command takes, before or behind
its name:

| option | meaning |
|---|---|
| `-q`, `--quiet` | {quiet} |
| `-v`, `--verbose` | {verbose} |

`--progress json` prints one JSON object a line on stdout, for programs that drive a command:
`stage`, `done` and `total` while it works (read, align, canonical, window, network, back, clean and
write of a scan), and at the end `{{"stage": "result", ...}}` with paths, counts and seconds. Errors
go to stderr as always.
"""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every subcommand by its words, for example "models list"."""
    from StrokeLesionSegLib.cli import build_parser

    found: dict[str, argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> None:
        if words:
            found[" ".join(words)] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    walk(child, (*words, name))

    walk(build_parser(), ())
    return found


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _names(action: argparse.Action) -> str:
    name = action.metavar or action.dest
    if isinstance(name, tuple):
        name = " ".join(name)
    if action.choices is not None and action.metavar is None:
        name = "\\|".join(str(choice) for choice in action.choices)
    if not action.option_strings:
        return f"`{name}`"
    names = ", ".join(f"`{option}`" for option in action.option_strings)
    return names if action.nargs == 0 else f"{names} `{name}`"


def _rows(actions: list[argparse.Action]) -> list[str]:
    return [
        f"| {_names(action)} | {_cell(action.help or '')} |"
        for action in actions
        if action.help != argparse.SUPPRESS
        and action.dest not in ("quiet", "verbose")
        and not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))
    ]


def text() -> str:
    """The whole page."""
    from StrokeLesionSegLib.commands.verbosity import QUIET_HELP, VERBOSE_HELP

    parts = [HEAD.format(quiet=QUIET_HELP, verbose=VERBOSE_HELP)]
    for words, parser in parsers().items():
        level = "##" if " " not in words else "###"
        parts.append(f"\n{level} `{words}`\n\n{_cell(parser.description or '')}\n")
        for group in parser._action_groups:
            rows = _rows(group._group_actions)
            if not rows:
                continue
            title = group.title or ""
            plain = title in ("positional arguments", "options", "optional arguments")
            heading = "" if plain else f"\n*{_cell(title[:1].upper() + title[1:])}*\n"
            parts.append(f"{heading}\n| argument | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
    print(f"{len(parsers())} commands in {PAGE.relative_to(REPOSITORY)}")
