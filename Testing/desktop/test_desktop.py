"""The module and its effects in the desktop application, whose launcher SLICER names."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import launch
import numpy as np
import pytest
from StrokeLesionSegLib.images import Volume, write_volume
from StrokeLesionSegLib.sample_scan import stroke_in_head

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
node.CreateDefaultDisplayNodes()
node.GetSegmentation().AddEmptySegment("lesion", "lesion")
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
TWO_SCANS = """
import numpy as np
import slicer
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.slicerbridge.scene import results, side_by_side
from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node

affine = np.diag([3.0, 3.0, 3.0, 1.0])
affine[:3, 3] = -90
grey = np.random.default_rng(0).random((60, 60, 60), np.float32)
earlier, later = (add_volume_node(Volume(grey, affine), name) for name in ("earlier", "later"))
matrix = np.eye(4)
matrix[:3, 3] = (5, -3, 2)
side_by_side.align_later(earlier, later, matrix, [])
side_by_side.show_side_by_side(earlier, later)
results.jump_to((30.0, 0.0, 20.0), earlier)
for _ in range(5):
    slicer.app.processEvents()
layout = slicer.app.layoutManager()
for names, node in zip(side_by_side.VIEWS, (earlier, later)):
    for name in names:
        widget = layout.sliceWidget(name)
        assert widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() == node.GetID(), name
    axial = layout.sliceWidget(names[0]).mrmlSliceNode()
    assert abs(axial.GetSliceOffset() - 20) < 2, axial.GetSliceOffset()
print("all done")
slicer.util.exit(0)
"""
ENDING = """
assert editor.activeEffect().self().problem == ""
assert slicer.util.arrayFromSegmentBinaryLabelmap(node, "lesion", volume).sum() > 1000
editor.setActiveEffectByName("")
print("all done")
slicer.util.exit(0)
"""


def run(command: list[str], home: Path, more: dict[str, str] | None = None) -> str:
    """What a program prints whose empty profile is its working directory, too."""
    ended = subprocess.run(
        command,
        env=launch.surroundings(home, more),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    return ended.stdout


def run_inside(what: list[str], home: Path, more: dict[str, str] | None = None) -> str:
    """What Slicer prints that runs code or a script, which has to say that all is done."""
    printed = run(launch.command(what), home, more)
    assert "all done" in printed, printed[-4000:]
    return printed


def test_two_scans_side_by_side(tmp_path: Path) -> None:
    run_inside(["--python-code", TWO_SCANS], tmp_path)


def recipes(page: str) -> list[str]:
    """The scripts on a page of the manual."""
    text = (launch.MODULE.parent / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def small_scan(file: Path) -> None:
    """The sample at 2 mm."""
    t1 = stroke_in_head().t1
    array, affine = t1.array[::2, ::2, ::2], t1.affine @ np.diag([2.0, 2, 2, 1])
    write_volume(file, Volume(np.ascontiguousarray(array), affine))


@pytest.mark.parametrize("code", [SELF_TEST, EFFECTS], ids=["self test", "effects"])
def test_it_runs_in_the_desktop_without_a_complaint(code: str, tmp_path: Path) -> None:
    printed = run_inside(["--python-code", code], tmp_path)
    assert "Traceback" not in printed, printed[-4000:]


def test_the_recipe_of_the_manual(tmp_path: Path) -> None:
    small_scan(tmp_path / "sub-01_T1w.nii.gz")
    (tmp_path / "file.py").write_text(recipes("slicer.md")[0], encoding="utf-8")
    run(launch.command(["--no-main-window", "--python-script", "file.py"]), tmp_path)
    assert (tmp_path / "sub-01_lesion.seg.nrrd").stat().st_size > 0
    assert [p.suffix for p in (tmp_path / "reports").iterdir()] == [".html"]


def test_the_recipe_of_the_effects(tmp_path: Path) -> None:
    before, _, _ = EFFECTS.partition("for name in effects")
    run_inside(["--python-code", before + recipes("editing.md")[0] + ENDING], tmp_path)


def test_the_command_line_by_slicers_python(tmp_path: Path) -> None:
    launchers = [Path(SLICER).parent / folder / "PythonSlicer" for folder in ("", "bin")]
    launcher = next((p for p in launchers if p.exists()), None)
    if launcher is None:
        pytest.skip("there is no PythonSlicer beside it")
    small_scan(tmp_path / "sub-01_T1w.nii.gz")
    command = [str(launcher), "-m", "StrokeLesionSegLib", "segment", "sub-01_T1w.nii.gz"]
    run(command, tmp_path, {"PYTHONPATH": str(launch.MODULE)})
    assert (tmp_path / "sub-01_T1w_lesion.nii.gz").stat().st_size > 0


@pytest.mark.parametrize("style", ["Light Slicer", "Dark Slicer"])
def test_what_is_needed_is_in_sight_on_a_small_screen(tmp_path: Path, style: str) -> None:
    launch.choose_style(tmp_path, style)
    script = str(Path(__file__).with_name("small_screen.py"))
    printed = run(launch.command(["--python-script", script], testing=False), tmp_path)
    assert "all done" in printed, printed[-4000:]


def test_a_batch_shows_each_scan_while_it_runs(tmp_path: Path) -> None:
    run_inside(["--python-script", str(Path(__file__).with_name("batch_table.py"))], tmp_path)


def test_a_robot_corrects_the_sample_by_mouse(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("correct_cases.py"))
    wanted = {"TOOLS": "stroke paint", "ACTIONS": "2", "RESULTS": str(tmp_path / "results")}
    run_inside(["--python-script", script], tmp_path, wanted)
    found = json.loads((tmp_path / "results").read_text())
    assert len(found["actions"]) == 2
    for tool in ("stroke", "paint"):
        assert found[tool][2] > found[tool][0] > 0.5, tool


def test_random_actions_leave_nothing_behind(tmp_path: Path) -> None:
    """Thirty; ``random_actions.py`` runs as many as are asked for."""
    script = Path(__file__).with_name("random_actions.py")
    wanted = {"ACTIONS": "30", "SEED": "1"}
    printed = run_inside(["--python-script", str(script)], tmp_path, wanted)
    assert "30 actions of seed 1" in printed
