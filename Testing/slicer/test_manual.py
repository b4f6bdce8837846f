"""The manual of the module: links, pictures, named tests and the script in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from StrokeLesionSegLib.models import Manifest, find_model
from StrokeLesionSegLib.slicerbridge.engine import process, torch_setup
from StrokeLesionSegLib.slicerbridge.engine.run import RunParameters
from StrokeLesionSegLib.slicerbridge.module.logic import BridgeLogic
from StrokeLesionSegLib.slicerbridge.module.panel import texts as panel_texts
from StrokeLesionSegLib.slicerbridge.scene import input_check

PAGES = (
    "tutorial.md",
    "slicer.md",
    "editing.md",
    "offline.md",
    "troubleshooting.md",
    "complaints.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_are_there(repository: Path, page: str) -> None:
    text = (repository / "docs" / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("http"):
            assert (repository / "docs" / link).exists(), link


def test_the_tutorial_is_a_page_with_five_pictures(repository: Path) -> None:
    text = (repository / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert len(re.findall(r"!\[[^]]+\]\(pictures/", text)) == 5
    assert len(text.split()) < 600


def test_the_complaints_name_tests_that_exist(repository: Path) -> None:
    text = (repository / "docs" / "complaints.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)\. ", text, re.MULTILINE)
    assert [int(r) for r in rows] == list(range(1, 16))
    named = set(re.findall(r"`(test_\w+\.py)`", text))
    assert len(named) >= 4
    known = {p.name for p in (repository / "Testing").rglob("test_*.py")}
    assert named <= known


def test_the_script_of_the_manual_uses_what_there_is(repository: Path) -> None:
    text = (repository / "docs" / "slicer.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    called = {
        node.func.attr
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logic"
    }
    assert called == {"segment", "threshold", "measure", "report", "forget"}
    assert all(hasattr(BridgeLogic, name) for name in called)
    assert RunParameters(device="cpu").device == "cpu"


def test_troubleshooting_quotes_what_is_really_said(repository: Path) -> None:
    """A message that was reworded has to be found by its new words."""
    text = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert torch_setup.NEEDS_EXTENSION.split(".")[0] in text
    said = " ".join(cause for _, cause, _ in process._KNOWN_FAILURES)
    for words in (
        "PyTorch is installed but does not load",
        "The model's file is damaged",
        "The computer ran out of memory",
        "The disk for temporary files is full",
    ):
        assert words in text
        assert words in said
    source = Path(input_check.__file__).read_text(encoding="utf-8")
    for words in ("a colour or vector image", "a 4D image", "contrast unclear"):
        assert words in text
        assert words in source
    empty = panel_texts.PanelState(input_check.InputCheck(True, "T1"), has_model=False)
    assert "No model is installed" in panel_texts.view(empty).next_step
    assert "No model is installed" in text


def test_the_manual_names_the_second_threshold_of_the_model_that_ships(repository: Path) -> None:
    text = " ".join((repository / "docs" / "slicer.md").read_text(encoding="utf-8").split())
    (said,) = re.findall(r"the one that ships says (\.\d+)", text)
    assert float(said) == Manifest.from_file(find_model()).operating_point().second_threshold
