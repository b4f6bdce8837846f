"""What the engine says in the panel is translated: the tables against the engine's own code."""

from __future__ import annotations

import ast
import functools
import html
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib import pipeline
from StrokeLesionSegLib.cohort import image_names, ledger
from StrokeLesionSegLib.commands import progress
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Alignment, Volume, checked_scan
from StrokeLesionSegLib.inference import Expectation
from StrokeLesionSegLib.input_check import (
    Finding,
    check_aligned,
    check_looks,
    check_name,
    refuse_or_warn,
    repair,
    sentence,
)
from StrokeLesionSegLib.lesions import change
from StrokeLesionSegLib.lesions.regions import OUTSIDE
from StrokeLesionSegLib.models.window_settings import Space
from StrokeLesionSegLib.slicerbridge import engine_words
from StrokeLesionSegLib.slicerbridge.engine.process import in_the_panel

MODULE = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
LIB = MODULE / "StrokeLesionSegLib"
BRIDGE = LIB / "slicerbridge"
ENGINE = [file for file in sorted(LIB.rglob("*.py")) if BRIDGE not in file.parents]
#: Where the notes on scans, runs, images of a folder and models that learn are made.
NOTES = [
    *sorted((LIB / "input_check").glob("*.py")),
    *sorted((LIB / "inference").glob("*.py")),
    *sorted((LIB / "images" / "space").glob("registration*.py")),
    LIB / "images" / "formats" / "checks.py",
    *(LIB / "pipeline" / name for name in ("runner.py", "images.py")),
    *(LIB / "cohort" / name for name in ("image_names.py", "inputs.py")),
    LIB / "commands" / "info.py",
    LIB / "learning" / "adapt" / "verdict.py",
]
#: Names of lists, variables, arguments and functions that hold or give notes.
HOLDING = re.compile(r"(warnings?|reasons?|notes|missing|why|out|found|expected|fact)\Z")
GIVING = re.compile(
    r"_?(.*warnings?|.*written.*|_absurd|absurd|verdict|align|why_not|unread|among_masks|"
    r"chosen_by_program|made_from|bids_copy|echo|unwrapped|upright|dark_background|without_absurd|"
    r"write_in_mni|regions|why_not|choose_precision)\Z"
)
#: Reasons for device and format that stand in the sidecar alone; and what is never put together.
NOT_SHOWN = {
    *("{} failed its check", "the exact answer is asked for", "{} ran out of memory"),
    *("is {}, not T1-weighted", "may be {}, not T1-weighted"),
    "was made after a contrast agent was given, which the model has hardly seen ({})",
}


def templates(node: ast.AST, known: dict[str, list[ast.expr]]) -> set[str]:
    """The texts that an expression may give, with {} for each value in them."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, ast.Name):
        # Once only: ``known = known or other``.
        rest = {name: values for name, values in known.items() if name != node.id}
        return set().union(*(templates(value, rest) for value in known.get(node.id, ())))
    if isinstance(node, ast.FormattedValue):
        return templates(node.value, known) or {"{}"}
    if isinstance(node, ast.JoinedStr):
        parts = [templates(part, known) for part in node.values]
        return {"".join(chosen) for chosen in itertools.product(*parts)}
    if isinstance(node, ast.IfExp):
        return templates(node.body, known) | templates(node.orelse, known)
    if isinstance(node, ast.BoolOp):
        return set().union(*(templates(value, known) for value in node.values))
    if isinstance(node, (ast.Tuple, ast.List)):
        return set().union(*(templates(part, known) for part in node.elts))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return templates(node.left, known)
    return set()


def notes(function: ast.FunctionDef) -> Iterator[str]:
    """What a function of the engine may say of a scan, a run, an image or a model."""
    known: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known.setdefault(node.targets[0].id, []).append(node.value)
    told: list[ast.expr] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "Finding":
                told.append(node.args[2])
            elif name in ("_Format", "_WindowFormat", "Device"):
                told += node.args
            elif name == "append" and isinstance(node.func, ast.Attribute):
                of = getattr(node.func.value, "attr", getattr(node.func.value, "id", ""))
                told += node.args if HOLDING.match(of) else []
        elif isinstance(node, ast.Assign):
            target = node.targets[0]
            target = target.value if isinstance(target, ast.Subscript) else target
            name = getattr(target, "attr", getattr(target, "id", ""))
            told += [node.value] if HOLDING.match(name) else []
        elif isinstance(node, ast.Return) and node.value and GIVING.match(function.name):
            told.append(node.value)
    for node in told:
        yield from templates(node, known)


def of_the_engine() -> set[str]:
    found = set()
    for file in NOTES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                found |= set(notes(node))
    found |= {*image_names._MAPS.values(), *image_names._ANTS_KINDS, *image_names._PARTS.values()}
    for seconds in (8, 320, 20_000):
        found.add(re.sub(r"[\d.]+", "{}", Expectation(8, seconds, 2100.0).in_words))
    sentences = {text for text in found if " " in text.replace("{}", "").strip()}
    return {*sentences, OUTSIDE, Space().in_words.replace("RAS", "{}")} - NOT_SHOWN


def with_gaps(english: str) -> str:
    return re.sub(r"\{\w+\}", "{}", english)


def test_every_note_of_the_engine_is_in_the_table_and_no_other() -> None:
    table = {with_gaps(english) for english in engine_words.SENTENCES}
    assert len(table) == len(engine_words.SENTENCES)
    engine = of_the_engine()
    assert sorted(engine - table) == [], "said by the engine, and not to be translated"
    assert sorted(table - engine) == [], "to be translated, and never said"
    marked = {_shown(finding) for finding in engine_words.FINDINGS}
    assert len(marked) == len(engine_words.FINDINGS)


@functools.lru_cache(maxsize=1)
def calls_of_the_engine() -> list[ast.Call]:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in ENGINE]
    nodes = itertools.chain.from_iterable(map(ast.walk, trees))
    return [node for node in nodes if isinstance(node, ast.Call)]


def calls(name: str, count: int) -> set[str]:
    """The texts that come first in calls of functions of that name with so many arguments."""
    found = set()
    for node in calls_of_the_engine():
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if len(node.args) == count and called.lstrip("_") == name:
            first = getattr(node.args[0], "value", None)
            found |= {first} if isinstance(first, str) else set()
    return found


def test_every_stage_state_and_class_has_its_word() -> None:
    told = calls("tell", 3) | calls("progress", 3) | calls("reporter", 3)
    told |= {*progress._TITLES, *pipeline.STAGES}
    assert told >= {"align", "network", "learn", "judge", "scans", "pairs", "score"}
    own = {"export", "start", "results"}  # of the panel itself
    assert set(engine_words.STAGES) == told | own
    states = {ledger.DONE, ledger.FAILED, *calls("tell", 2)}
    assert set(engine_words.STATES) == {*states, "planned", "left out"}
    assert {"waiting", "running"} < states
    assert tuple(engine_words.CLASSES) == tuple(
        kind for kind in engine_words.CLASSES if kind in change.CLASSES
    )
    assert set(engine_words.CLASSES) == set(change.CLASSES)


def _shown(finding: str) -> str:
    return engine_words.said(f"The scan {finding}.")


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language in which every translated text stands in brackets."""
    monkeypatch.setattr(engine_words, "tr", lambda text: f"<{text}>")


@pytest.mark.usefixtures("marked")
def test_values_come_along() -> None:
    said = engine_words.said
    assert said("is a mask (its middle has 3 values)") == "<is a mask (its middle has 3 values)>"
    assert said("The scan is of unclear contrast; is it T1-weighted?") == (
        "<The scan <is of unclear contrast; is it T1-weighted?>>"
    )
    assert said("The scan is noise: neighbouring voxels are unlike (correlation 0.12).") == (
        "<The scan <is noise: neighbouring voxels are unlike (correlation 0.12)>.>"
    )
    assert said("a copy of T1.nii in another format") == "<a copy of T1.nii in another format>"
    why = "The alignment did not converge"
    text = f"The scan could not be aligned to MNI152 ({why}). Segmented without alignment; "
    assert said(text + "accuracy may be lower.").startswith("<The scan could not")
    # What is not known stays whole, with no half in another language.
    for text in ("", "t1.nii: there is no such file. Check the path.", "The scan has a hat."):
        assert said(text) == text
    assert engine_words.stage_name("network") == "<Looking for lesions>"
    assert engine_words.stage_name("something new") == "something new"
    assert engine_words.state_name("failed") == "<failed>"
    assert engine_words.class_name("not covered") == "<not covered>"
    assert engine_words.side_name("left") == "<left>"


@pytest.mark.usefixtures("marked")
def test_what_real_checks_find_is_known() -> None:
    grid = np.eye(4)
    rng = np.random.default_rng(0)
    arrays = {
        "mask": (np.indices((40, 40, 40)).sum(0) > 60).astype(np.float32),
        "noise": rng.random((40, 40, 40)).astype(np.float32),
        "empty": np.eye(40, dtype=np.float32)[None].repeat(40, 0) * (np.arange(40) == 20),
        "small": rng.random((6, 6, 6)).astype(np.float32),
    }
    found = [f for array in arrays.values() for f in check_looks(Volume(array, grid))]
    found += check_name("sub-01_FLAIR.nii.gz") + check_name("sub-01_part-phase_T1w.nii")
    found += check_name("t2_flair.nii.gz") + check_name("sub-01_ce-gd_T1w.nii.gz")
    failed = Alignment(grid, False, "The alignment did not converge.", 0.0, 0.0, 0.0)
    found += check_aligned(Volume(arrays["noise"], grid), failed)
    assert len({finding.code for finding in found}) >= 5
    for finding in found:
        assert engine_words.said(finding.text).startswith("<"), finding
        assert engine_words.said(sentence(finding)).startswith("<"), finding
    dark = np.full((9, 9, 9), -1000.0)
    dark[3:6, 3:6, 3:6] = np.arange(27).reshape(3, 3, 3)
    (note,) = repair(checked_scan("t1", dark, grid)).warnings
    assert engine_words.said(note).startswith("<")


def marked_texts(file: Path) -> set[str]:
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "_"
        and isinstance(node.args[0], ast.Constant)
    }


def test_lupdate_finds_every_text(tmp_path: Path) -> None:
    """Qt's own tool, with the function of Slicer by the name that it has in all files."""
    beside = shutil.which("pyside6-lupdate", path=str(Path(sys.executable).parent))
    if beside is None:
        pytest.skip("lupdate comes with PySide6-Essentials")
    files = [MODULE / "StrokeLesionSeg.py", *(MODULE / "StrokeLesionSegEffects").glob("*.py")]
    files += BRIDGE.rglob("*.py")
    target = tmp_path / "texts.ts"
    command = [beside, "-silent", "-tr-function-alias", "tr+=_", *map(str, files)]
    subprocess.run([*command, "-ts", str(target)], check=True, capture_output=True, timeout=120)
    sources = re.findall(r"<source>(.*?)</source>", target.read_text("utf-8"), re.DOTALL)
    assert {html.unescape(source) for source in sources} == set().union(*map(marked_texts, files))
    assert {*engine_words.SENTENCES, *engine_words.STAGES.values()} <= set(
        map(html.unescape, sources)
    )


def test_a_refusal_in_the_panel_names_no_option_of_the_command_line() -> None:
    finding = Finding("refuse", "cut", "does not show the whole brain", "Give the whole head")
    with pytest.raises(InputError) as refused:
        refuse_or_warn("t1", [finding], force=False)
    assert (
        in_the_panel(str(refused.value))
        == "t1: does not show the whole brain. Give the whole head."
    )
    failed = Alignment(np.eye(4), False, "Nothing fits.", 0.0, 0.0, 0.0)
    (finding,) = check_aligned(Volume(np.ones((4, 4, 4)), np.eye(4)), failed)
    assert "--" in finding.remedy
    assert "Alignment 'None' under Advanced" in in_the_panel(finding.remedy)
    assert "--" not in in_the_panel(finding.remedy)
    compare = (LIB / "pipeline" / "compare.py").read_text(encoding="utf-8")
    remedies = re.findall(r'"([^"\n]*--force)",', compare)
    assert remedies
    assert not any("--" in in_the_panel(remedy) for remedy in remedies)
