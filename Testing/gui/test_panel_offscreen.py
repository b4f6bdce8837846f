"""The module's widget offscreen: every state says what to do, and nothing waits.

A smoke test on PySide6 with stand-ins for Slicer's widgets (see ``pythonqt_stand_in``), over
Slicer's real MRML. Pictures of each state go to ``STROKE_LESION_SEG_PICTURES`` if it is set.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import forked_python
import numpy as np
import pytest
from panel_support import Panel, result_of_a_script, simulated_once
from StrokeLesionSegLib.lesions import expected_dice
from StrokeLesionSegLib.models import Manifest, find_model
from StrokeLesionSegLib.models.foreign import child
from StrokeLesionSegLib.slicerbridge.module import sample
from StrokeLesionSegLib.slicerbridge.scene import results
from StrokeLesionSegLib.slicerbridge.scene.patch import Patch
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance


@pytest.mark.usefixtures("whole_sample")
def test_each_state_says_what_to_do_next(panel: Panel) -> None:
    assert "Choose a T1-weighted" in panel.text("nextStepLabel")
    assert not panel.stand_in.raw(panel.ui.segmentButton).isEnabled()
    assert "Choose a T1-weighted" in panel.ui.segmentButton.toolTip
    assert not panel.stand_in.raw(panel.ui.thresholdSlider).isEnabled()
    panel.picture("1-empty")
    panel.click("sampleButton")
    assert panel.parameters.inputVolume.GetName() == "Simulated stroke T1"
    assert panel.text("nextStepLabel") == "Press Segment."
    assert panel.text("inputCheckLabel").startswith("Looks T1-weighted, 1 x 1 x 1 mm")
    assert panel.stand_in.raw(panel.ui.segmentButton).isEnabled()
    panel.picture("2-ready")
    transform = panel.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    panel.parameters.inputVolume.SetAndObserveTransformNodeID(transform.GetID())
    panel.settle(0.3)
    assert "under the transform 'Moved': the mask will follow it" in panel.text("inputCheckLabel")
    vector = panel.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "RGB")
    panel.slicer.util.updateVolumeFromArray(vector, np.zeros((9, 9, 9, 3), np.uint8))
    panel.parameters.inputVolume = vector
    assert "colour or vector" in panel.text("inputCheckLabel")
    assert not panel.stand_in.raw(panel.ui.segmentButton).isEnabled()
    assert "colour or vector" in panel.ui.segmentButton.toolTip


@pytest.mark.usefixtures("whole_sample")
def test_the_whole_panel_by_hand(ready: Panel) -> None:
    panel = ready
    panel.click("segmentButton")
    assert panel.text("segmentButton") == "Cancel"
    panel.until(lambda: panel.controller.run.current.stage == "network", 120)
    panel.picture("3-running")
    panel.until(lambda: panel.controller.run.current is None, 240)
    assert panel.text("segmentButton") == "Segment"
    assert "Click a lesion" in panel.text("nextStepLabel")
    table = panel.stand_in.raw(panel.ui.lesionTable)
    assert table.rowCount() == len(panel.rows) > 0
    panel.choose("overlay", "probability")
    composites = panel.slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    probability, _ = results.maps_of(panel.parameters.segmentation)
    assert {c.GetForegroundVolumeID() for c in composites} == {probability.GetID()}
    panel.picture("4-result")

    first = panel.mask()
    slider = panel.stand_in.raw(panel.ui.thresholdSlider)
    panel.controller.result._settle.setInterval(60_000)  # however slow this machine: one drag
    for position in (400, 350, 300):
        slider.slider.setValue(position)
        panel.applied()
    low = panel.mask()
    assert low.sum() > first.sum()
    panel.controller.result._settle.setInterval(50)
    panel.controller.result._settle.start()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    panel.click("undoButton")
    panel.measured()
    np.testing.assert_array_equal(panel.mask(), first)
    assert sum(row.volume_ml for row in panel.rows) == pytest.approx(first.sum() / 1000)
    assert panel.parameters.threshold == pytest.approx(0.5)
    assert slider.spin.value() == pytest.approx(0.5)
    panel.click("redoButton")
    np.testing.assert_array_equal(panel.mask(), low)

    spin = panel.stand_in.raw(panel.ui.minimumVolumeSpinBox)
    spin.setValue(10.0)
    panel.applied()
    assert panel.rows
    assert min(row.volume_ml for row in panel.rows) >= 10.0

    before, rows = panel.mask(), list(panel.rows)
    checked = panel.stand_in.QtCore.Qt.CheckState
    table.item(0, 0).setCheckState(checked.Unchecked)
    panel.applied()
    assert (before.sum() - panel.mask().sum()) / 1000 == pytest.approx(rows[0].volume_ml)
    assert not panel.rows[0].keep
    assert "1 dropped" in panel.text("totalLabel")
    panel.picture("5-dropped")
    table.item(0, 0).setCheckState(checked.Checked)
    panel.applied()
    np.testing.assert_array_equal(panel.mask(), before)

    table.cellClicked.emit(1, 1)
    view = panel.slicer.util.getNodesByClass("vtkMRMLSliceNode")[0].GetSliceToRAS()
    centre = [view.GetElement(r, 3) for r in range(3)]
    np.testing.assert_allclose(centre, rows[1].centroid_ras_mm, atol=1e-6)


def test_a_drag_is_followed_while_it_lasts(panel: Panel) -> None:
    """Events that come faster than the timer must not put it off until the hand rests."""
    panel.click("sampleButton")
    applied: list[float] = []
    section = panel.controller.result

    def apply() -> None:
        section._apply_due = False
        applied.append(panel.parameters.threshold)

    section._apply = panel.controller.panel.timer(20, apply)
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        section._apply_soon()
        panel.app.processEvents()
    assert len(applied) > 3


def test_a_scan_that_came_meanwhile_is_chosen(panel: Panel) -> None:
    """Loaded in another module, such as Sample Data; our own maps and label maps are not taken."""
    volume = simulated_once().t1
    panel.widget.exit()
    from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node

    add_volume_node(volume, "Labels", class_name="vtkMRMLLabelMapVolumeNode")
    add_volume_node(volume, "A map").SetAttribute("StrokeLesionSeg", "probability")
    assert panel.parameters.inputVolume is None
    panel.widget.enter()
    assert panel.parameters.inputVolume is None
    node = add_volume_node(volume, "T1")
    panel.widget.enter()
    assert panel.parameters.inputVolume is node


def test_a_defect_is_told_and_not_swallowed(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(logging, "exception", lambda *a: told.append(a))
    monkeypatch.setattr(sample, "add_sample", lambda: {}["no such key"])
    panel.click("sampleButton")
    assert len(told) == 1
    assert "KeyError" in panel.text("nextStepLabel")


def test_the_user_comes_back_after_editing_by_hand(panel: Panel) -> None:
    """Leaving for the Segment Editor and coming back measures what was made of the segment."""
    node, segmentation = result_of_a_script(panel)
    panel.parameters.inputVolume = node
    panel.measured()
    assert len(panel.rows) == 2
    segment_id = panel.widget.logic.segment_id(segmentation)
    mask = panel.mask()
    left = mask.copy()
    left[:, :, mask.shape[2] // 2 :] = 0
    panel.widget.exit()
    grid = results.read_segment(segmentation, segment_id, node).grid
    results.set_segment_voxels(segmentation, segment_id, Patch(left, (0, 0, 0), grid))
    panel.widget.enter()
    panel.measured()
    assert 0 < left.sum() < mask.sum()
    total = sum(row.volume_ml for row in panel.rows)
    assert total == pytest.approx(left.sum() * grid.voxel_volume_ml)


@pytest.mark.usefixtures("whole_sample")
def test_the_gui_is_never_held_for_200_ms(
    ready: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two turns of the event loop, from pressing Segment to the report."""
    panel = ready
    beats: list[tuple[float, float]] = []
    timer = panel.stand_in.QtCore.QTimer()
    timer.timeout.connect(lambda: beats.append((time.perf_counter(), time.thread_time())))

    def longest() -> float:
        clock = np.diff([b[0] for b in beats])
        # Work, not the clock: on a busy machine the thread waits for its turn without being held.
        work = np.diff([b[1] for b in beats])
        print(
            f"longest hold of the GUI thread: {work.max() * 1000:.0f} ms of work, "
            f"{clock.max() * 1000:.0f} ms by the clock, {len(beats)} turns"
        )
        beats.clear()
        return float(work.max())

    timer.start(5)
    panel.settle(0.2)
    panel.click("segmentButton")
    panel.until(lambda: panel.controller.run.current is None, 240)
    panel.settle(0.2)
    held = {"a run": longest()}
    slider = panel.stand_in.raw(panel.ui.thresholdSlider)
    for position in range(500, 250, -50):
        slider.slider.setValue(position)
        panel.settle(0.2)
    panel.applied()
    panel.settle(0.9)
    held["the slider"] = longest()
    checked = panel.stand_in.QtCore.Qt.CheckState
    for state in (checked.Unchecked, checked.Checked):
        item = panel.stand_in.raw(panel.ui.lesionTable).item(0, 0)
        item.setCheckState(state)
        panel.applied()
        panel.settle(0.9)
    held["a tick"] = longest()
    for button in ("undoButton", "redoButton"):
        panel.click(button)
        panel.measured()
        panel.settle(0.1)
    held["undo"] = longest()
    panel.widget.exit()
    node = panel.parameters.segmentation
    segment_id = panel.widget.logic.segment_id(node)
    patch = results.read_segment(node, segment_id, panel.parameters.inputVolume)
    patch.mask[: len(patch.mask) // 2] = 0
    results.set_segment_voxels(node, segment_id, patch)
    beats.clear()
    panel.widget.enter()
    panel.measured()
    panel.settle(0.1)
    held["coming back after editing"] = longest()
    dialog = types.SimpleNamespace(getExistingDirectory=lambda *a: str(tmp_path))
    monkeypatch.setattr(panel.qt, "QFileDialog", dialog)
    services = types.SimpleNamespace(openUrl=lambda url: None)
    monkeypatch.setattr(panel.qt, "QDesktopServices", services)
    panel.click("reportButton")
    panel.until(lambda: not panel.controller.report.busy, 120)
    held["a report"] = longest()
    print({what: f"{seconds * 1000:.0f} ms" for what, seconds in held.items()})
    assert max(held.values()) < 0.2, held


@pytest.mark.usefixtures("whole_sample")
def test_cancel_leaves_the_scene_as_it_was(ready: Panel) -> None:
    panel = ready
    nodes = panel.slicer.mrmlScene.GetNumberOfNodes()
    panel.click("segmentButton")
    run = panel.controller.run.current
    panel.until(lambda: run.state == "running", 60)
    panel.settle(0.6)  # longer than a double-click
    began = time.monotonic()
    panel.click("segmentButton")
    panel.until(lambda: not run.scratch.exists(), 1.0)
    assert time.monotonic() - began < 1.0
    assert panel.slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert panel.text("segmentButton") == "Segment"
    assert panel.text("nextStepLabel").startswith("Cancelled; the scene is as it was.")


def test_closing_and_loading_a_scene(ready: Panel, tmp_path: Path) -> None:
    panel = ready
    panel.segment()
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)  # the hand rests
    mask, rows = panel.mask(), len(panel.rows)
    file = str(tmp_path / "scene.mrb")
    assert panel.slicer.mrmlScene.WriteToMRB(file)
    panel.slicer.mrmlScene.Clear(0)
    assert "Choose a T1-weighted" in panel.text("nextStepLabel")
    assert panel.slicer.mrmlScene.ReadFromMRB(file, True)
    panel.widget.enter()
    panel.settle(0.3)
    panel.measured()
    assert panel.parameters.threshold == pytest.approx(0.3)
    np.testing.assert_array_equal(panel.mask(), mask)
    assert len(panel.rows) == rows
    panel.parameters.threshold = 0.6
    panel.applied()
    assert panel.mask().sum() < mask.sum()
    panel.click("segmentButton")
    panel.until(lambda: panel.controller.run.current.state == "running", 60)
    panel.slicer.mrmlScene.Clear(0)  # during a run
    panel.settle(0.3)
    assert panel.controller.run.current is None


def test_a_result_that_a_script_made_is_taken_over(panel: Panel) -> None:
    """Choosing an image that has a result shows it; here one with two clean lesions."""
    node, segmentation = result_of_a_script(panel)
    probability = simulated_once().truth.with_array(
        panel.slicer.util.arrayFromVolume(results.maps_of(segmentation)[0]).copy()
    )
    panel.parameters.inputVolume = node
    assert panel.parameters.segmentation is segmentation
    assert panel.parameters.threshold == pytest.approx(0.45)
    assert panel.parameters.minimumVolumeMl == pytest.approx(0.1)
    panel.measured()
    rows = panel.rows
    assert [row.side for row in rows] == ["left", "right"]
    panel.choose("overlay", "probability")
    panel.picture("7-two-lesions")
    panel.parameters.threshold = 0.3
    panel.applied()
    np.testing.assert_array_equal(panel.mask(), (probability.array >= 0.3).astype(np.uint8))


def test_the_expected_dice_follows_the_segment(panel: Panel) -> None:
    """Of a model whose probabilities are calibrated, until a reader has changed the segment."""
    manifest = Manifest.from_file(find_model())
    made = Provenance(manifest.name, manifest.version, manifest.sha256, 0.45, min_volume_ml=0.1)
    node, segmentation = result_of_a_script(panel, made)
    probability = panel.slicer.util.arrayFromVolume(results.maps_of(segmentation)[0]).copy()

    def told(mask: np.ndarray) -> str:
        calibration = manifest.inference.calibration
        value = expected_dice(probability, mask, calibration=calibration).value
        assert 0.3 < value < 1
        return f"; expected Dice {value:.2f}"

    panel.parameters.inputVolume = node
    panel.measured()
    first = panel.text("totalLabel")
    assert first.endswith(told(panel.mask()))
    assert "rater" in panel.ui.totalLabel.toolTip
    panel.parameters.threshold = 0.3
    panel.applied()
    second = panel.text("totalLabel")
    assert second.endswith(told(panel.mask()))
    assert second != first
    checked = panel.stand_in.QtCore.Qt.CheckState
    panel.stand_in.raw(panel.ui.lesionTable).item(0, 0).setCheckState(checked.Unchecked)
    panel.applied()
    assert panel.text("totalLabel").endswith("1 dropped")
    panel.stand_in.raw(panel.ui.lesionTable).item(0, 0).setCheckState(checked.Checked)
    panel.applied()
    assert panel.text("totalLabel") == second

    segment_id = panel.widget.logic.segment_id(segmentation)
    mask = panel.mask()
    mask[:5] = 1
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment_id, node)
    panel.widget.exit()
    panel.widget.enter()
    panel.measured()
    assert "mL in all" in panel.text("totalLabel")
    assert "expected Dice" not in panel.text("totalLabel")


def test_a_model_without_calibration_promises_no_dice(panel: Panel) -> None:
    node, _ = result_of_a_script(panel)
    panel.parameters.inputVolume = node
    panel.measured()
    assert panel.text("totalLabel").endswith("mL in all")


def test_edit_opens_the_segment_editor_on_the_result(
    ready: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = ready
    panel.segment()
    calls: list[tuple[str, Any]] = []
    editor = types.SimpleNamespace(
        setSegmentationNode=lambda n: calls.append(("segmentation", n)),
        setSourceVolumeNode=lambda n: calls.append(("source", n)),
        setCurrentSegmentID=lambda s: calls.append(("segment", s)),
        setActiveEffectByName=lambda e: calls.append(("effect", e)),
    )
    module = types.SimpleNamespace(editor=editor)
    representation = types.SimpleNamespace(self=lambda: module)
    monkeypatch.setattr(
        panel.slicer.modules,
        "segmenteditor",
        types.SimpleNamespace(widgetRepresentation=lambda: representation),
        raising=False,
    )
    monkeypatch.setattr(panel.slicer.util, "selectModule", lambda n: calls.append(("module", n)))
    panel.click("editButton")
    node = panel.parameters.segmentation
    assert calls == [
        ("module", "SegmentEditor"),
        ("segmentation", node),
        ("source", panel.parameters.inputVolume),
        ("segment", panel.widget.logic.segment_id(node)),
        ("effect", "StrokeLesion"),
    ]


def test_report_is_written_and_opened(
    ready: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = ready
    panel.segment()
    opened: list[str] = []
    qt = panel.qt
    dialog = types.SimpleNamespace(getExistingDirectory=lambda *a: str(tmp_path / "out"))
    monkeypatch.setattr(qt, "QFileDialog", dialog)
    monkeypatch.setattr(
        qt, "QDesktopServices", types.SimpleNamespace(openUrl=lambda u: opened.append(u))
    )
    panel.click("reportButton")
    panel.until(lambda: not panel.controller.report.busy, 60)
    assert [p.suffix for p in (tmp_path / "out").iterdir()] == [".html"]
    assert len(opened) == 1


def test_a_failing_engine_is_told_in_the_panel(ready: Panel) -> None:
    panel = ready
    panel.parameters.model = "no-such-model"
    panel.click("segmentButton")
    panel.until(lambda: panel.controller.run.current is None, 60)
    assert "no-such-model" in panel.text("nextStepLabel")
    assert panel.stand_in.raw(panel.ui.segmentButton).isEnabled()
    panel.picture("6-failed")


def no_torch(panel: Panel, monkeypatch: pytest.MonkeyPatch, extension: Any) -> list[Any]:
    """PyTorch is absent, and can be installed by ``extension``; the first entry says so."""
    from StrokeLesionSegLib.slicerbridge.engine import torch_setup
    from StrokeLesionSegLib.slicerbridge.module.panel import engine

    states = [torch_setup.TorchState(False)]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    monkeypatch.setattr(torch_setup.shutil, "which", lambda name: f"/Slicer/bin/{name}")
    for place in (engine, torch_setup):
        monkeypatch.setattr(place, "torch_state", lambda: states[0])
    monkeypatch.setattr(panel.slicer.app, "testingEnabled", lambda: False)
    return states


@pytest.mark.parametrize("closes_the_scene", [False, True])
def test_slicer_is_used_while_pytorch_is_installed(
    ready: Panel, monkeypatch: pytest.MonkeyPatch, closes_the_scene: bool
) -> None:
    """Slicer processes events at each line of pip: buttons are pressed, scenes closed."""
    panel = ready
    began: list[str] = []

    def install() -> object:
        began.append(panel.text("nextStepLabel"))
        for name in ("segmentButton", "installTorchButton"):
            assert not panel.stand_in.raw(getattr(panel.ui, name)).isEnabled(), name
        panel.controller.run.press()
        panel.controller.engine.press_install()
        assert panel.controller.run.current is None
        if closes_the_scene:
            panel.slicer.mrmlScene.Clear(0)
        states[0] = type(states[0])(True, "2.9")
        return object()

    extension = types.ModuleType("PyTorchUtils")
    logic = types.SimpleNamespace(installTorch=install)
    extension.PyTorchUtilsLogic = lambda: logic  # type: ignore[attr-defined]
    states = no_torch(panel, monkeypatch, extension)
    monkeypatch.setattr(panel.slicer.util, "confirmOkCancelDisplay", lambda text: True)
    panel.controller.lookAgain()
    panel.click("segmentButton")
    assert began == ["Installing PyTorch, this takes minutes..."]
    if closes_the_scene:
        assert panel.controller.run.current is None
        assert "Choose a T1-weighted" in panel.text("nextStepLabel")
    else:
        assert panel.controller.run.current is not None
        panel.controller.cancel()
        assert panel.text("nextStepLabel") == "Press Segment."


def test_a_run_that_ends_during_an_import_is_shown(ready: Panel) -> None:
    """Segment, another module, a scene is added meanwhile; then back."""
    panel = ready
    for earlier in (False, True):
        panel.click("segmentButton")
        panel.widget.exit()
        panel.window.entered = False
        scene = panel.slicer.mrmlScene
        scene.InvokeEvent(scene.StartImportEvent)
        scene.InvokeEvent(scene.EndImportEvent)
        assert panel.parameters is None
        panel.until(lambda: panel.controller.run.current is None, 240)
        panel.window.entered = True
        panel.widget.enter()
        panel.measured()
        assert panel.parameters.segmentation is not None
        assert panel.parameters.threshold == pytest.approx(0.5)
        assert panel.rows
        if not earlier:  # the next run's sliders are those of its own segment
            first = panel.mask()
            panel.parameters.threshold = 0.3
            panel.applied()
            assert panel.mask().sum() > first.sum()
    np.testing.assert_array_equal(panel.mask(), first)


def test_folding_a_section_keeps_the_width(panel: Panel) -> None:
    """The scroll bar stays while the module is shown, and is as Slicer has it in others."""
    from PySide6 import QtCore, QtWidgets

    area = QtWidgets.QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(panel.window)
    area.resize(440, 700)
    area.show()
    try:
        panel.widget.enter()
        widths = []
        for collapsed in (False, True):
            for section in ("result", "advanced", "batch", "change", "check", "keys"):
                getattr(panel.ui, f"{section}CollapsibleButton").collapsed = collapsed
            panel.settle(0.1)
            widths.append(area.viewport().width())
        assert widths[0] == widths[1]
        panel.widget.exit()
        policy = area.verticalScrollBarPolicy()
        assert policy == QtCore.Qt.ScrollBarPolicy.ScrollBarAsNeeded
        panel.settle(0.1)
        assert area.viewport().width() > widths[1], "without it there would be none now"
    finally:
        area.takeWidget()
        area.close()


def test_the_panel_is_narrow(panel: Panel) -> None:
    """With Advanced open, long names of models and scans, at the width that Slicer gives it."""
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.parameters.model = "a-model-of-another-computer-with-a-long-name"
    panel.click("sampleButton")
    panel.parameters.inputVolume.SetName("501: sag 3D T1 MPRAGE iso 1 mm after contrast, sharpened")
    panel.stand_in.raw(panel.ui.inputSelector)._refill()
    panel.settle()
    panel.picture("8-advanced")
    assert panel.window.minimumSizeHint().width() <= 400
    sections = ("result", "advanced", "change", "batch", "check", "keys")
    for name in sections:
        getattr(panel.ui, f"{name}CollapsibleButton").collapsed = False
    panel.settle()
    for name in sections:
        section = panel.stand_in.raw(getattr(panel.ui, f"{name}CollapsibleButton"))
        assert section.minimumSizeHint().width() <= 400, name


def test_models_that_are_no_longer_asked_for_leave_the_list(panel: Panel) -> None:
    choice = panel.controller.choices["model"]
    combo, entries = choice.combo, choice.entries
    there = list(entries)
    for name in ("gone", "lost"):
        panel.parameters.model = name
        assert combo.currentText == f"{name} (not installed)"
        assert len(entries) == len(there) + 1 == combo.count
        assert panel.parameters.model == name
    panel.parameters.model = "fluid"
    assert entries == there
    assert [combo.itemText(n) for n in range(combo.count)] == [text for text, _ in there]
    assert panel.parameters.model == "fluid"
    assert "fluid" in combo.currentText


def test_an_old_python_is_told(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["StrokeLesionSeg"]
    monkeypatch.setattr(module, "PYTHON_NEEDED", (4, 0))
    window = panel.stand_in.ModuleParent()
    widget = module.StrokeLesionSegWidget(panel.stand_in.proxy_of(window))
    widget.setup()
    (label,) = window.findChildren(panel.stand_in.QtWidgets.QLabel)
    assert "needs Slicer 5.10 or newer" in label.text()
    widget.enter()
    widget.exit()
    widget.cleanup()
    window.deleteLater()  # now, not when a thread collects garbage
    panel.settle()


def test_a_no_installs_nothing(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = lambda: calls.append("installed")  # type: ignore[attr-defined]
    no_torch(panel, monkeypatch, extension)
    asked: list[str] = []

    def no(text: str) -> bool:
        asked.append(text)
        return False

    monkeypatch.setattr(panel.slicer.util, "confirmOkCancelDisplay", no)
    panel.click("sampleButton")
    assert "you will be asked first" in panel.text("nextStepLabel")
    panel.click("segmentButton")
    assert len(asked) == 1
    assert not calls
    assert panel.controller.run.current is None
    assert "Nothing was changed" in panel.text("nextStepLabel")


def test_a_batch_takes_the_sliders_of_the_models_own_result(ready: Panel) -> None:
    panel = ready
    assert panel.controller.batch.operating_point() == (None, None), "no result: the model's own"
    _node, segmentation = result_of_a_script(panel)
    panel.parameters.inputVolume = _node
    panel.measured()
    assert panel.controller.batch.operating_point() == (None, None), "made by another model"
    logic = panel.widget.logic
    segment = segmentation.GetSegmentation().GetSegment(logic.segment_id(segmentation))
    segment.SetTag("StrokeLesionSeg.Model", "fluid")
    assert panel.controller.batch.operating_point() == pytest.approx((0.45, 0.1))


def test_hand_work_after_a_drag_is_not_undone(panel: Panel) -> None:
    """Drag, correct in the Segment Editor, come back, press Undo: it is refused and said."""
    node, segmentation = result_of_a_script(panel)
    panel.parameters.inputVolume = node
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.widget.exit()
    segment_id = panel.widget.logic.segment_id(segmentation)
    work = panel.mask()
    work[:, :, : work.shape[2] // 2] = 0
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(work, segmentation, segment_id, node)
    panel.widget.enter()
    panel.measured()
    panel.click("undoButton")
    assert "corrected by hand" in panel.text("nextStepLabel")
    np.testing.assert_array_equal(panel.mask(), work)
    assert panel.parameters.threshold == pytest.approx(0.3)


@pytest.mark.usefixtures("first_entry")
def test_the_device_is_told_without_a_button(panel: Panel) -> None:
    """And how long a run takes; the check itself is folded to one line. It can be copied, and
    repeated by a button."""
    panel.click("sampleButton")
    assert panel.text("nextStepLabel") == "Press Segment."
    panel.widget.enter()
    assert panel.controller.engine.checking
    panel.until(lambda: not panel.controller.engine.checking, 120)
    assert "Device: cpu" in panel.text("deviceReasonLabel")
    assert re.fullmatch(r"Press Segment. It takes about \d+ s here.", panel.text("nextStepLabel"))
    section = panel.ui.checkCollapsibleButton
    assert (section.collapsed, section.text) == (True, "System check: all is well")
    panel.widget.enter()
    assert not panel.controller.engine.checking, "once in a session"
    panel.stand_in.raw(panel.ui.copyCheckButton).click()
    text = panel.slicer.app.clipboard().text()
    assert "Engine in its own process: works" in text
    assert "device: cpu" in text
    assert "fluid" in text
    assert str(Path.home()) not in text
    panel.stand_in.raw(panel.ui.checkButton).click()
    assert panel.controller.engine.checking
    assert panel.ui.checkText.toPlainText() == "Checking the engine in its own process..."


@pytest.mark.usefixtures("first_entry")
def test_a_check_that_fails_unfolds_itself(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    from StrokeLesionSegLib.slicerbridge.module.panel import engine

    monkeypatch.setattr(engine, "verify_arguments", lambda: ["no-such-command"])
    panel.widget.enter()
    panel.until(lambda: not panel.controller.engine.checking, 120)
    section = panel.ui.checkCollapsibleButton
    assert not section.collapsed
    assert section.text == "System check: the engine does not work"
    assert "no-such-command" in panel.text("deviceReasonLabel")


def test_disabled_widgets_say_why(panel: Panel) -> None:
    for name in ("undoButton", "redoButton", "editButton", "reportButton", "thresholdSlider"):
        assert not panel.stand_in.raw(getattr(panel.ui, name)).isEnabled()
        assert getattr(panel.ui, name).toolTip == "Segment an image first.", name


def test_a_model_of_others_is_installed_and_shown_with_its_space_and_time(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its files do not say is asked in dialogs."""
    # That a new interpreter reads its checkpoint is asked by the tests of such models.
    monkeypatch.setattr(child, "subprocess", forked_python.Subprocess)
    file = Path(__file__).resolve().parents[1] / "nnunet" / "models" / "plain3d.zip"
    asked: list[tuple[str, tuple[str, ...]]] = []

    class Answered:
        def __bool__(self) -> bool:
            return True

    def choose(_parent: Any, _title: str, text: str, items: list[str], *_: Any) -> str:
        asked.append((text, tuple(items)))
        return items[0]

    qt = panel.qt
    for name, value in (
        ("QFileDialog", types.SimpleNamespace(getOpenFileName=lambda *_: str(file))),
        ("QInputDialog", types.SimpleNamespace(getItem=choose)),
        ("BoolResult", Answered),
    ):
        monkeypatch.setattr(qt, name, value, raising=False)
    panel.click("installModelButton")
    panel.until(lambda: not panel.controller.models.busy, 240)
    assert panel.controller.panel.notes.problem == ""
    assert [items[0] for _, items in asked] == ["native", "RAS"]
    name = "Dataset001_TinyPlain3d-3d_fullres"
    assert panel.parameters.model == name
    text = next(t for t, value in panel.controller.choices["model"].entries if value == name)
    assert "native, RAS; about" in text
    assert text.endswith("GB")
