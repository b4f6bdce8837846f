"""The module and its effects in the desktop application, whose launcher SLICER names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import launch
import pytest

SLICER = os.environ.get("SLICER", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SLICER, reason="SLICER does not name the launcher of a 3D Slicer"),
]

SELF_TEST = """
import slicer
slicer.util.selectModule("StrokeLesionSeg")
import StrokeLesionSeg
StrokeLesionSeg.StrokeLesionSegTest().runTest()
print("all done")
slicer.util.exit(0)
"""

EFFECTS = """
import slicer
import StrokeLesionSegEffects as effects
from StrokeLesionSegLib.slicerbridge.module import sample

volume = sample.add_sample()
node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
node.GetSegmentation().AddEmptySegment("lesion")
slicer.util.selectModule("SegmentEditor")
editor = slicer.modules.SegmentEditorWidget.editor
editor.setSegmentationNode(node)
editor.setSourceVolumeNode(volume)
for name in effects.EFFECT_NAMES:
    editor.setActiveEffectByName(name)
    slicer.app.processEvents()
    active = editor.activeEffect()
    assert active is not None and active.name == name, name
editor.setActiveEffectByName("")
print("all done")
slicer.util.exit(0)
"""


def run_inside(what: list[str], home: Path, more: dict[str, str] | None = None) -> str:
    """What Slicer prints that runs code or a script with an empty profile of its own."""
    ended = subprocess.run(
        launch.command(what),
        env=launch.surroundings(home, more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert "all done" in ended.stdout, ended.stdout[-4000:]
    return ended.stdout


@pytest.mark.parametrize("code", [SELF_TEST, EFFECTS], ids=["self test", "effects"])
def test_it_runs_in_the_desktop_without_a_complaint(code: str, tmp_path: Path) -> None:
    printed = run_inside(["--python-code", code], tmp_path)
    assert "Traceback" not in printed, printed[-4000:]


def test_what_is_needed_is_in_sight_on_a_small_screen(tmp_path: Path) -> None:
    run_inside(["--python-script", str(Path(__file__).with_name("small_screen.py"))], tmp_path)


def test_a_robot_corrects_the_sample_by_mouse(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("correct_cases.py"))
    wanted = {"TOOLS": "clicks paint", "ACTIONS": "2", "RESULTS": str(tmp_path / "results")}
    run_inside(["--python-script", script], tmp_path, wanted)
    found = json.loads((tmp_path / "results").read_text())
    assert len(found["release_to_labelmap_s"]) == 2
    for tool in ("clicks", "paint"):
        assert found[tool][2] > found[tool][0] > 0.5, tool


def test_random_actions_leave_nothing_behind(tmp_path: Path) -> None:
    """Thirty; ``random_actions.py`` runs as many as are asked for."""
    script = Path(__file__).with_name("random_actions.py")
    wanted = {"ACTIONS": "30", "SEED": "1"}
    printed = run_inside(["--python-script", str(script)], tmp_path, wanted)
    assert "30 actions of seed 1" in printed
