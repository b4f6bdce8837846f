"""README speaks of the command line that there is, and of all of it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from StrokeLesionSegLib.cli import EXIT_DEFECT, EXIT_INPUT, EXIT_OK, EXIT_STOPPED, build_parser

REPOSITORY = Path(__file__).resolve().parents[2]
# Options of make's own targets, and what every program has.
OTHERS = {
    *("--parts", "--readme", "--input", "--help", "--version", "--resume"),
    *("--no-splash", "--no-main-window", "--python-script"),  # Slicer's own
}


@pytest.fixture(scope="module")
def readme() -> str:
    return (REPOSITORY / "README.md").read_text(encoding="utf-8")


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every subcommand by its words, for example "models list"."""
    found: dict[str, argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> None:
        found[" ".join(words)] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    walk(child, (*words, name))

    walk(build_parser(), ())
    return found


def test_every_option_is_explained_and_none_is_invented(readme: str) -> None:
    said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", readme))
    there = {
        option
        for parser in parsers().values()
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    assert said - there - OTHERS == set()
    assert there - said - OTHERS == set()


def test_every_command_is_there(readme: str) -> None:
    for words, parser in parsers().items():
        if words and parser._subparsers is None:
            assert f"`{words}" in readme, words


def test_exit_codes(readme: str) -> None:
    table = readme.split("### Exit codes", 1)[1].split("###", 1)[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert {EXIT_OK, EXIT_INPUT, EXIT_STOPPED, EXIT_DEFECT} <= codes


def test_make_targets(readme: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", readme):
        if target not in ("and", "are", "is"):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_and_python_examples(readme: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (REPOSITORY / link).exists(), link
    examples = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        imports = [line for line in example.splitlines() if line.startswith("from ")]
        assert imports
        exec("\n".join(imports), {})
        compile(example, "README.md", "exec")
