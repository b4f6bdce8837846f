"""``stroke-lesion-seg completion``: a script by which a shell completes commands and options."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from typing import Any

_PROGRAM = "stroke-lesion-seg"
_SCRIPT = """\
# Completion of {program} for {shell}. Made by "{program} completion {shell}".
{before}_stroke_lesion_seg() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="" at="" word options="" below="" values="" n
    [ "$COMP_CWORD" -gt 1 ] && prev="${{COMP_WORDS[COMP_CWORD-1]}}"
    for ((n = 1; n < COMP_CWORD; n++)); do
        word="${{COMP_WORDS[n]}}"
        case "$at $word" in
{steps}
        esac
    done
    case "$at $prev" in
{values}
    esac
    if [ -n "$values" ]; then
        COMPREPLY=($(compgen -W "$values" -- "$cur"))
        return
    fi
    case "$at" in
{options}
    esac
    # Without a leading hyphen a file is meant, unless there are commands to choose from.
    case "$cur" in
        -*) COMPREPLY=($(compgen -W "$options" -- "$cur")) ;;
        *) COMPREPLY=($(compgen -W "$below" -- "$cur")) ;;
    esac
}}
# Where nothing of ours fits, names of files do.
complete -o default -F _stroke_lesion_seg {program}
"""


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "completion",
        help="print a script that completes commands and options in a shell",
        description="Print a script by which bash or zsh completes commands, options and their "
        "values. It needs no package and no network. For the present shell: "
        'eval "$(stroke-lesion-seg completion bash)"; for every shell, put that into ~/.bashrc '
        "(zsh: ~/.zshrc, after compinit).",
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell that reads the script")
    parser.set_defaults(run=functools.partial(_run, commands))


def _run(commands: Any, arguments: argparse.Namespace) -> None:
    print(script(commands, arguments.shell), end="")


def script(commands: Any, shell: str) -> str:
    """The script for ``shell``. ``commands``: what ``add_subparsers`` gave."""
    steps, values, options = [], [], []
    for at, parser in _walk("", commands):
        names = sorted(n for action in parser._actions for n in action.option_strings)
        below = [name for _, action in _below(parser) for name in action.choices]
        options.append(_case(at, "options", " ".join(names)))
        if below:
            options[-1] = options[-1].replace(" ;;", f"; below='{' '.join(below)}' ;;")
        steps += [_case(f"{at} {name}", "at", f"{at} {name}".strip()) for name in below]
        for action in parser._actions:
            if action.choices is not None and action.option_strings:
                listed = " ".join(map(str, action.choices))
                values += [_case(f"{at} {n}", "values", listed) for n in action.option_strings]
    top = f"--help --version --quiet --verbose'; below='{' '.join(commands.choices)}"
    options.append(_case("", "options", top))
    steps += [_case(f" {name}", "at", name) for name in commands.choices]
    before = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return _SCRIPT.format(
        program=_PROGRAM,
        shell=shell,
        before=before,
        steps="\n".join(steps),
        values="\n".join(values),
        options="\n".join(options),
    )


def _case(pattern: str, variable: str, value: str) -> str:
    indent = "            " if variable == "at" else "        "
    return f"{indent}'{pattern}') {variable}='{value}' ;;"


def _walk(at: str, commands: Any) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its words, actions of commands too."""
    for name, parser in commands.choices.items():
        words = f"{at} {name}".strip()
        yield words, parser
        for _, action in _below(parser):
            yield from _walk(words, action)


def _below(parser: argparse.ArgumentParser) -> list[tuple[int, Any]]:
    """The subcommands of a command."""
    found = enumerate(parser._actions)
    return [(n, a) for n, a in found if isinstance(a, argparse._SubParsersAction)]
