"""README and command reference speak of the command line that there is; the examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import command_reference
import numpy as np
import pytest
from cli_support import write_tiny_model
from StrokeLesionSegLib.cli import EXIT_DEFECT, EXIT_INPUT, EXIT_OK, EXIT_STOPPED, main
from StrokeLesionSegLib.images import Volume, write_volume
from StrokeLesionSegLib.images.space.template import template_head
from StrokeLesionSegLib.models import store

pytestmark = pytest.mark.usefixtures("aligned_once")
REPOSITORY = Path(__file__).resolve().parents[2]
# Options of make's own targets, and what every program has.
OTHERS = {
    *("--parts", "--readme", "--input", "--help", "--version", "--resume"),
    *("--no-splash", "--no-main-window", "--python-script"),  # Slicer's own
}


@pytest.fixture(scope="module")
def readme() -> str:
    return (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_no_option_is_invented(readme: str) -> None:
    said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", readme))
    there = {
        option
        for parser in command_reference.parsers().values()
        for action in parser._actions
        for option in action.option_strings
        # With underscores they are the spelling of BIDS Apps, beside our own.
        if option.startswith("--") and "_" not in option
    }
    assert said - there - OTHERS == set()


def test_the_command_reference_is_current() -> None:
    page = command_reference.PAGE.read_text(encoding="utf-8")
    assert page == command_reference.text(), "run 'make command-reference'"
    # Every option is explained, each in words.
    for words, parser in command_reference.parsers().items():
        assert f"`{words}`\n" in page
        for action in parser._actions:
            assert action.help or not action.option_strings, (words, action.option_strings)


def test_options_that_the_model_that_ships_does_not_heed_say_whose_they_are() -> None:
    """It sees the whole head at once: no views, no batches of slices, and a mirror in any case."""
    for words, parser in command_reference.parsers().items():
        told = {o: str(a.help) for a in parser._actions for o in a.option_strings}
        for option in ("--views", "--batch-size"):
            assert told.get(option, "models that work slice by slice").startswith(
                "models that work slice by slice"
            ), words
        assert "shifted" in told.get("--tta", "shifted"), words


def test_exit_codes() -> None:
    codes = {
        int(code) for code in re.findall(r"^\| (\d+) \|", command_reference.HEAD, re.MULTILINE)
    }
    assert {EXIT_OK, EXIT_INPUT, EXIT_STOPPED, EXIT_DEFECT} <= codes


def test_make_targets(readme: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", readme):
        if target not in ("and", "are", "is"):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links(readme: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (REPOSITORY / link).exists(), link


def python_examples() -> list[tuple[str, str]]:
    """(file and number, code) of every example in Python that a user may paste."""
    found = []
    for name in ("README.md", "docs/python.md"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        found += [(f"{name}, {n}", block) for n, block in enumerate(blocks, 1)]
    return found


@pytest.fixture(scope="module")
def folder_of_a_user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a T1."""
    folder = tmp_path_factory.mktemp("user")
    write_volume(folder / "t1.nii.gz", template_head(), dtype=np.uint8)
    return folder


@pytest.mark.parametrize(
    ("where", "code"),
    [
        pytest.param(*e, marks=[] if e[0].startswith("README") else pytest.mark.long)
        for e in python_examples()
    ],
    ids=lambda text: text[:20],
)
def test_python_examples_run(
    where: str,
    code: str,
    folder_of_a_user: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for written in set(folder_of_a_user.iterdir()) - {folder_of_a_user / "t1.nii.gz"}:
        written.unlink()
    tiny = write_tiny_model(tmp_path_factory.mktemp("home"))
    monkeypatch.setattr(store, "_default_model", lambda: tiny)
    monkeypatch.chdir(folder_of_a_user)
    names: dict[str, Any] = {}
    exec(compile(code, where, "exec"), names)
    assert set(names) & {"result", "mask", "volumes", "lesions"}


def shell_examples() -> list[list[str]]:
    """The words of every command that the README shows as an example, in its order."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```shell\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line, comments=True) for line in "".join(blocks).splitlines() if line]


def test_there_are_shell_examples() -> None:
    commands = shell_examples()
    assert len(commands) >= 8
    assert {words[0] for words in commands} == {"stroke-lesion-seg"}
    assert len({words[1] for words in commands}) >= 7


@pytest.fixture
def folder_of_a_lab(tmp_path: Path) -> Path:
    """A BIDS data set with the head that ships, twice, and a reference mask of each session."""
    head = template_head()
    truth = np.zeros(head.array.shape, np.uint8)
    truth[45:50, 55:60, 30:35] = 1
    for session in ("ses-1", "ses-2"):
        name = f"sub-01_{session}"
        anat = tmp_path / "bids" / "sub-01" / session / "anat"
        anat.mkdir(parents=True)
        (tmp_path / "truth").mkdir(exist_ok=True)
        write_volume(anat / f"{name}_T1w.nii.gz", head, dtype=np.uint8)
        write_volume(tmp_path / "truth" / f"{name}_mask.nii.gz", Volume(truth, head.affine))
    (tmp_path / "bids" / "dataset_description.json").write_text(
        '{"Name": "Heads", "BIDSVersion": "1.10.0"}', encoding="utf-8"
    )
    return tmp_path


@pytest.mark.long
@pytest.mark.timeout(900)
def test_shell_examples_run(
    folder_of_a_lab: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One after the other in one folder, as they are pasted, with a small model."""
    tiny = write_tiny_model(tmp_path_factory.mktemp("home"))
    monkeypatch.setattr(store, "_default_model", lambda: tiny)
    monkeypatch.chdir(folder_of_a_lab)
    for _, *arguments in shell_examples():
        assert main(arguments) == EXIT_OK, (arguments, capsys.readouterr().err)
    said = capsys.readouterr().out
    assert "2 scans: 2 done" in said
    assert "StrokeLesionSeg" in said
    for name in (
        "demo/demo.png",
        "pages/t1.html",
        "results/index.html",
        "results/group_scans.tsv",
        "results/scores/scores_atlas2022.html",
        "change/change.html",
    ):
        assert (folder_of_a_lab / name).is_file(), name


def test_there_are_python_examples() -> None:
    assert python_examples()[0][0] == "README.md, 1"
    assert len(python_examples()) >= 6
