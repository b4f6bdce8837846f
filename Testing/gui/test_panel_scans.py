"""One story for each scan: what the panel and the views show follows the scan that is chosen."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_support import Panel, result_of_a_script, simulated_once
from StrokeLesionSegLib.slicerbridge.module import sample
from StrokeLesionSegLib.slicerbridge.module.logic import SEGMENT_ATTRIBUTE
from StrokeLesionSegLib.slicerbridge.module.panel import texts as panel_texts
from StrokeLesionSegLib.slicerbridge.scene import look, results, scan_views, volumes
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance


def second_scan(panel: Panel) -> Any:
    """Another head, elsewhere."""
    t1 = simulated_once().t1
    affine = t1.affine.copy()
    affine[:3, 3] += (40.0, 0.0, 0.0)
    return volumes.add_volume_node(type(t1)(t1.array[::-1].copy(), affine), "second")


def shown(node: Any) -> bool:
    return bool(node.GetDisplayNode().GetVisibility())


def backgrounds(panel: Panel) -> set[Any]:
    nodes = panel.slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {node.GetBackgroundVolumeID() for node in nodes}


def choose(panel: Panel, scan: Any) -> None:
    panel.parameters.inputVolume = scan
    panel.measured()


def test_each_scan_brings_its_own_back(panel: Panel) -> None:
    """Two scans, each with a result: sliders, table, image, segments and places are its own."""
    first, of_first = result_of_a_script(panel)
    second, of_second = result_of_a_script(panel)
    choose(panel, first)
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    rows = [row.volume_ml for row in panel.rows]
    results.jump_to(panel.rows[0].centroid_ras_mm, first)
    slices = panel.slicer.util.getNodesByClass("vtkMRMLSliceNode")
    places = [node.GetSliceOffset() for node in slices]
    assert backgrounds(panel) == {first.GetID()}
    choose(panel, second)
    assert panel.parameters.segmentation is of_second
    assert panel.parameters.threshold == pytest.approx(0.45)
    assert (shown(of_first), shown(of_second)) == (False, True)
    assert backgrounds(panel) == {second.GetID()}
    results.jump_to((0.0, 0.0, 0.0), second)
    choose(panel, first)
    assert panel.parameters.segmentation is of_first
    assert panel.parameters.threshold == pytest.approx(0.3)
    assert [row.volume_ml for row in panel.rows] == rows
    assert (shown(of_first), shown(of_second)) == (True, False)
    assert backgrounds(panel) == {first.GetID()}
    assert [node.GetSliceOffset() for node in slices] == pytest.approx(places)


def test_a_segmentation_that_somebody_drew_stays_shown(panel: Panel) -> None:
    first, _of_first = result_of_a_script(panel)
    drawn = panel.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by hand")
    drawn.CreateDefaultDisplayNodes()
    choose(panel, first)
    choose(panel, second_scan(panel))
    assert shown(drawn)


def test_a_new_run_hides_the_older_result_and_the_panel_says_whose_the_sliders_are(
    ready: Panel,
) -> None:
    panel = ready
    panel.segment()
    panel.measured()
    node = panel.parameters.segmentation
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    panel.segment()
    panel.measured()
    (old, _), (new, _) = scan_views.results_of(node)
    display = node.GetDisplayNode()
    assert (display.GetSegmentVisibility(old), display.GetSegmentVisibility(new)) == (0, 1)
    colors = [node.GetSegmentation().GetSegment(s).GetColor() for s in (old, new)]
    assert not np.allclose(*colors)
    combo = panel.ui.resultComboBox
    assert combo.currentText == "Stroke lesion 2"
    assert panel.parameters.threshold == pytest.approx(0.5)
    combo.currentIndex = 0
    panel.measured()
    assert panel.parameters.threshold == pytest.approx(0.3)
    assert panel.widget.logic.segment_id(node) == old
    assert (display.GetSegmentVisibility(old), display.GetSegmentVisibility(new)) == (1, 0)
    before = panel.mask().sum()
    panel.parameters.threshold = 0.7
    panel.applied()
    assert panel.mask().sum() < before


def correct_by_hand(panel: Panel, node: Any, segment_id: str, volume: Any) -> None:
    """A cube is painted into the segment, as by another effect."""
    patch = results.read_segment(node, segment_id, volume)
    wanted = patch.full()
    wanted[40:50, 40:50, 40:50] = 1
    results.set_segment_voxels(node, segment_id, type(patch)(wanted, (0, 0, 0), patch.grid))
    panel.controller.lookAgain()
    panel.measured()


def test_what_was_corrected_by_hand_is_told_and_hidden_when_the_sliders_begin_anew(
    panel: Panel,
) -> None:
    first, node = result_of_a_script(panel)
    choose(panel, first)
    old, display = panel.widget.logic.segment_id(node), node.GetDisplayNode()
    assert "You have corrected" not in panel.text("nextStepLabel")
    correct_by_hand(panel, node, old, first)
    assert panel.text("nextStepLabel").startswith("You have corrected this segment. Press Report")
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    new = panel.widget.logic.segment_id(node)
    assert new != old
    assert "is kept, hidden" in panel.text("nextStepLabel")
    assert [display.GetSegmentVisibility(s) for s in (old, new)] == [0, 1]
    panel.click("undoButton")
    panel.measured()
    assert panel.widget.logic.segment_id(node) == old
    assert display.GetSegmentVisibility(old)
    assert panel.text("nextStepLabel").startswith("You have corrected this segment.")


def test_what_could_not_be_undone_is_not_told_of_the_next_move_of_the_sliders(
    panel: Panel,
) -> None:
    first, node = result_of_a_script(panel)
    choose(panel, first)
    panel.parameters.threshold = 0.4
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    old = panel.widget.logic.segment_id(node)
    correct_by_hand(panel, node, old, first)
    panel.click("undoButton")
    assert "Not undone: manual edits would be lost" in panel.text("nextStepLabel")
    panel.parameters.threshold = 0.3
    panel.applied()
    assert "is kept, hidden" in panel.text("nextStepLabel")


def test_the_results_that_are_left_follow_one_that_is_removed(panel: Panel) -> None:
    """In the Segment Editor, or by its undo, which takes away what came after a step."""
    first, node = result_of_a_script(panel)
    old = panel.widget.logic.segment_id(node)
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    made = Provenance.from_segment(segmentation.GetSegment(old))
    new = results.add_segment(node, results.read_segment(node, old, first), made)
    panel.widget.logic.choose(node, new)
    choose(panel, first)
    assert not display.GetSegmentVisibility(old)
    segmentation.RemoveSegment(new)
    panel.until(lambda: bool(display.GetSegmentVisibility(old)), 30)
    panel.measured()
    assert panel.widget.logic.segment_id(node) == old
    assert panel.parameters.segmentation is node
    before = panel.mask().sum()
    panel.parameters.threshold = 0.9
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    assert panel.mask().sum() < before
    segmentation.RemoveSegment(old)
    panel.until(lambda: panel.parameters.segmentation is None, 30)
    panel.measured()
    assert panel.ui.lesionTable.rowCount == 0
    assert panel.text("nextStepLabel").startswith("Press Segment.")


def test_the_sliders_are_where_an_undo_of_the_segment_editor_has_put_the_segment(
    panel: Panel,
) -> None:
    """Slicer's undo brings back a segment as it was before the sliders moved, tags and all."""
    first, node = result_of_a_script(panel)
    choose(panel, first)
    before, volumes_ml = panel.parameters.threshold, [row.volume_ml for row in panel.rows]
    history = panel.slicer.vtkSegmentationHistory()
    history.SetSegmentation(node.GetSegmentation())
    history.SaveState()
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 30)
    assert [row.volume_ml for row in panel.rows] != volumes_ml
    history.RestorePreviousState()
    panel.controller.lookAgain()
    panel.measured()
    assert [row.volume_ml for row in panel.rows] == volumes_ml
    assert panel.parameters.threshold == pytest.approx(before)
    panel.settle(0.3)
    assert [row.volume_ml for row in panel.rows] == volumes_ml, "nothing is applied again"


def test_a_scan_that_arrives_is_chosen_when_none_is(panel: Panel) -> None:
    assert panel.parameters.inputVolume is None
    picture = np.random.default_rng(0).random((1, 64, 64)).astype(np.float32)
    volumes.add_volume_node(type(simulated_once().t1)(picture, np.eye(4)), "a picture")
    panel.settle(0.5)
    assert panel.parameters.inputVolume is None, "no scan"
    first = sample.add_sample()
    panel.until(lambda: panel.parameters.inputVolume is first, 5)
    second = second_scan(panel)
    panel.settle(0.5)
    assert panel.parameters.inputVolume is first
    assert "The views show" not in panel.text("nextStepLabel")
    # Slicer shows what it loads: the panel says whose the views are, and how to work on it.
    results.show_background(second)
    panel.controller.somethingArrived()
    panel.settle(0.5)
    assert "The views show second: choose it as Image" in panel.text("nextStepLabel")
    choose(panel, second)
    assert "The views show" not in panel.text("nextStepLabel")


def test_our_own_maps_are_not_among_the_images_to_choose_from(panel: Panel, tmp_path: Path) -> None:
    """Nor is a scan of the next scene missing that has the ID of a map of this one."""
    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    scene, selectors = panel.slicer.mrmlScene, (panel.ui.inputSelector, panel.ui.earlierSelector)
    own = [node.GetID() for node in volumes.own_maps()]
    assert own
    for selector in selectors:
        offered = panel.stand_in.raw(selector)
        names = [offered.itemText(n) for n in range(1, offered.count())]
        assert names == [first.GetName()]
    ids = {node.GetID() for node in panel.slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
    scene.Clear(0)
    while True:
        scan = second_scan(panel)
        if scan.GetID() in own:
            break
        assert scan.GetID() in ids
    choose(panel, scan)
    panel.settle(0.3)
    assert panel.ui.inputSelector.currentNode() is scan
    assert panel.parameters.inputVolume is scan


def test_a_scene_that_is_loaded_chooses_what_it_says_itself(panel: Panel, tmp_path: Path) -> None:
    """Saved without a choice: none is made. Saved with the second scan chosen: that one."""
    scene = panel.slicer.mrmlScene
    first, other = sample.add_sample(), second_scan(panel)
    for chosen in (None, other):
        panel.parameters.inputVolume = chosen
        file = str(tmp_path / f"{chosen is None}.mrb")
        panel.controller.leaveAlone()
        assert scene.WriteToMRB(file)
    del first, other, chosen
    for name in ("True", "False"):
        for added in (False, True):
            scene.Clear(0)
            assert scene.ReadFromMRB(str(tmp_path / f"{name}.mrb"), not added)
            panel.settle(0.5)
            node = panel.parameters.inputVolume
            assert (node.GetName() if node else None) == (None if name == "True" else "second")


def test_a_scene_that_is_added_twice_keeps_every_result_with_its_scan(
    panel: Panel, tmp_path: Path
) -> None:
    """Slicer gives other IDs to what is there already: only references follow."""
    scene, file = panel.slicer.mrmlScene, str(tmp_path / "one.mrb")
    first, node = result_of_a_script(panel)
    choose(panel, first)
    volume_ml = panel.rows[0].volume_ml
    assert scene.WriteToMRB(file)
    assert scene.ReadFromMRB(file, False)
    panel.settle(0.5)
    (second,) = [
        scan
        for scan in panel.slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if scan is not first and not scan.GetAttribute("StrokeLesionSeg")
    ]
    for scan, threshold in ((first, 0.3), (second, 0.6)):
        choose(panel, scan)
        own = panel.parameters.segmentation
        assert (own is node) == (scan is first)
        probability = results.maps_of(own, panel.widget.logic.segment_id(own))[0]
        assert (probability in results.maps_of(node)) == (scan is first)
        assert panel.rows[0].volume_ml == pytest.approx(volume_ml)
        panel.parameters.threshold = threshold
        panel.applied()
        panel.until(lambda: not panel.controller.result.step_open, 10)
    choose(panel, first)
    assert panel.parameters.threshold == pytest.approx(0.3)


def test_what_a_script_segments_appears(panel: Panel) -> None:
    """By another logic, as in the Python console; then a second run into the same segmentation."""
    from StrokeLesionSegLib.slicerbridge.engine.run import RunParameters

    scan = sample.add_sample()
    logic = type(panel.widget.logic)()
    fast = RunParameters(model="fluid", align="none", device="cpu", precision="float32")
    node = logic.segment(scan, fast, timeout_s=240)
    panel.until(lambda: panel.parameters.segmentation is node, 10)
    panel.measured()
    assert panel.parameters.inputVolume is scan
    assert panel.rows
    assert logic.segment(scan, fast, timeout_s=240) is node
    panel.until(lambda: panel.ui.resultComboBox.currentText == "Stroke lesion 2", 10)


def test_results_that_were_there_before_the_panel_are_followed_too(
    slicer: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The panel is made when its module is entered first, maybe long after the scene was filled."""
    monkeypatch.setattr(sample, "stroke_in_head", simulated_once)
    scan, segmentation = result_of_a_script(None)
    first = segmentation.GetAttribute(SEGMENT_ATTRIBUTE)
    patch = results.read_segment(segmentation, first, scan)
    made = Provenance.from_segment(segmentation.GetSegmentation().GetSegment(first))
    second = results.add_segment(segmentation, patch, made)
    panel: Panel = request.getfixturevalue("panel")
    panel.until(lambda: panel.parameters.segmentation is segmentation, 10)
    panel.measured()
    panel.settle(0.3)
    assert panel.ui.resultComboBox.currentText == "Stroke lesion"
    panel.widget.logic.choose(segmentation, second)
    panel.until(lambda: panel.ui.resultComboBox.currentText == "Stroke lesion 2", 5)


@pytest.mark.parametrize("moved", [False, True], ids=["at rest", "just after a slider moved"])
def test_a_scan_that_is_removed_leaves_the_panel_empty_and_usable(
    panel: Panel, moved: bool
) -> None:
    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    if moved:
        panel.parameters.threshold = 0.3
        panel.applied()
    panel.slicer.mrmlScene.RemoveNode(first)
    panel.settle(0.3)
    assert panel.parameters.inputVolume is None
    assert "Choose a T1-weighted" in panel.text("nextStepLabel")
    assert panel.ui.lesionTable.rowCount == 0
    again = sample.add_sample()
    panel.until(lambda: panel.parameters.inputVolume is again, 5)


# -- small things that were wrong -----------------------------------------------------------------


def test_a_double_click_on_segment_starts_one_run(ready: Panel) -> None:
    panel = ready
    panel.click("segmentButton")
    panel.click("segmentButton")
    assert panel.controller.run.current is not None
    assert panel.controller.run.current.active
    panel.until(lambda: panel.controller.run.current is None, 240)
    assert panel.parameters.segmentation is not None


def test_a_result_of_another_scan_is_not_drawn_over_the_one_that_is_shown(ready: Panel) -> None:
    """While a run goes on, a scan of a batch may be opened."""
    panel = ready
    first = panel.parameters.inputVolume
    second, of_second = result_of_a_script(panel)
    panel.click("segmentButton")
    choose(panel, second)
    panel.until(lambda: panel.controller.run.current is None, 240)
    of_first = results.find_segmentation(first)
    assert (shown(of_first), shown(of_second)) == (False, True)
    choose(panel, first)
    assert (shown(of_first), shown(of_second)) == (True, False)
    assert panel.parameters.segmentation is of_first


def test_places_in_the_table_are_those_of_the_views(panel: Panel) -> None:
    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    transform = panel.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (100, -20, 7)
    transform.SetMatrixTransformToParent(volumes.matrix_from_affine(matrix))
    first.SetAndObserveTransformNodeID(transform.GetID())
    panel.settle(0.4)
    row = panel.rows[0]
    expected = np.add(row.centroid_ras_mm, (100, -20, 7))
    said = panel.stand_in.raw(panel.ui.lesionTable).item(0, 3).text()
    assert said == ", ".join(f"{v:.0f}" for v in expected)


def test_an_image_with_other_voxels_is_told_before_a_slider_moves(panel: Panel) -> None:
    """It was filtered, or a warp was hardened on it."""
    node, segmentation = result_of_a_script(panel)
    choose(panel, node)
    assert "Click a lesion" in panel.text("nextStepLabel")
    kept = panel.slicer.util.arrayFromVolume(node).copy()
    panel.slicer.util.updateVolumeFromArray(node, np.roll(kept, 2, 1))
    panel.settle(0.4)
    panel.measured()
    assert "or another frame is shown" in panel.text("nextStepLabel")
    assert "expected Dice" not in panel.text("totalLabel")
    panel.slicer.util.updateVolumeFromArray(node, kept)
    panel.settle(0.4)
    panel.measured()
    assert "Click a lesion" in panel.text("nextStepLabel")
    # Also where it happened while another scan was chosen, or another module.
    choose(panel, second_scan(panel))
    panel.slicer.util.updateVolumeFromArray(node, np.roll(kept, 2, 1))
    choose(panel, node)
    assert "or another frame is shown" in panel.text("nextStepLabel")
    panel.slicer.mrmlScene.RemoveNode(segmentation)
    panel.settle(0.4)
    assert "Press Segment." in panel.text("nextStepLabel")


def test_rows_are_gone_through_by_arrow_keys_and_keep_their_mark(panel: Panel) -> None:
    from PySide6 import QtCore, QtTest

    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    table = panel.stand_in.raw(panel.ui.lesionTable)
    table.setCurrentCell(0, 1)
    QtTest.QTest.keyClick(table, QtCore.Qt.Key.Key_Down)
    assert table.currentRow() == 1
    place = panel.rows[1].centroid_ras_mm
    axial = panel.slicer.util.getNodesByClass("vtkMRMLSliceNode")[0]
    offsets = {round(axial.GetSliceOffset(), 1)}
    assert any(abs(v - o) < 1.0 for v in place for o in offsets)
    seed = panel.rows[1].seed
    table.item(1, 0).setCheckState(QtCore.Qt.CheckState.Unchecked)
    panel.applied()
    assert panel.rows[table.currentRow()].seed == seed
    # The tick of another row, by mouse: that one is gone to, and marked.
    table.setCurrentCell(1, 1)
    seed, box = panel.rows[0].seed, table.visualItemRect(table.item(0, 0))
    QtTest.QTest.mouseClick(
        table.viewport(),
        QtCore.Qt.MouseButton.LeftButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
        QtCore.QPoint(box.left() + 9, box.center().y()),
    )
    panel.applied()
    assert [row.keep for row in panel.rows if row.seed == seed] == [False]
    assert panel.rows[table.currentRow()].seed == seed


def test_undo_and_redo_are_enabled_when_they_have_a_step(panel: Panel) -> None:
    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    buttons = [panel.stand_in.raw(b) for b in (panel.ui.undoButton, panel.ui.redoButton)]
    assert [b.isEnabled() for b in buttons] == [False, False]
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    assert [b.isEnabled() for b in buttons] == [True, False]
    panel.click("undoButton")
    panel.measured()
    assert [b.isEnabled() for b in buttons] == [False, True]


def test_without_a_lesion_nobody_is_sent_to_one(panel: Panel) -> None:
    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    panel.parameters.minimumVolumeMl = 90.0
    panel.applied()
    assert not [row for row in panel.rows if row.keep]
    assert "Click a lesion" not in panel.text("nextStepLabel")
    assert "No lesion at these settings" in panel.text("nextStepLabel")


# -- how it looks ---------------------------------------------------------------------------------


def test_a_window_shows_a_part_of_the_grey_values_and_is_the_scans_own(panel: Panel) -> None:
    first, _segmentation = result_of_a_script(panel)
    second = second_scan(panel)
    choose(panel, first)
    combo, display = panel.ui.windowComboBox, first.GetDisplayNode()
    ends = {}
    for index, name in enumerate(("automatic", "tissue", "fluid", "whole")):
        combo.currentIndex = index
        panel.settle(0.05)
        assert look.window_of(first) == name
        ends[name] = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
    assert ends["fluid"][1] < ends["tissue"][1] < ends["whole"][1]
    assert ends["fluid"][0] < ends["tissue"][0]
    choose(panel, second)
    assert combo.currentText == "Automatic"
    choose(panel, first)
    assert combo.currentText == "Whole range"


def test_the_surface_comes_and_goes_with_its_button(panel: Panel) -> None:
    first, segmentation = result_of_a_script(panel)
    choose(panel, first)
    panel.click("surfaceButton")
    assert look.shown_in_3d(segmentation)
    assert panel.ui.surfaceButton.checked
    panel.click("surfaceButton")
    assert not look.shown_in_3d(segmentation)
    assert not panel.ui.surfaceButton.checked


def test_an_overlay_has_its_legend(panel: Panel) -> None:
    first, segmentation = result_of_a_script(panel)
    probability = results.maps_of(segmentation)[0]
    uncertainty = results.add_map(volumes.volume_from_node(probability), first, "uncertainty")
    segmentation.SetNodeReferenceID(results.UNCERTAINTY_ROLE, uncertainty.GetID())
    choose(panel, first)
    for value in ("probability", "uncertainty", "none"):
        panel.choose("overlay", value)
        nodes = panel.slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
        shown = [(n.GetTitleText(), n.GetColorNode().GetName()) for n in nodes if n.GetVisibility()]
        wanted = (value.capitalize(), f"Lesion {value}")
        assert shown == ([] if value == "none" else [wanted])


def test_a_map_of_other_voxels_is_not_shown_above_the_image(panel: Panel) -> None:
    """Nor is it used; it comes back with the voxels that it was made of."""
    first, segmentation = result_of_a_script(panel)
    probability = results.maps_of(segmentation)[0]
    choose(panel, first)
    panel.choose("overlay", "probability")
    views = panel.slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")

    def above() -> set[Any]:
        return {view.GetForegroundVolumeID() for view in views}

    assert above() == {probability.GetID()}
    kept = panel.slicer.util.arrayFromVolume(first).copy()
    panel.slicer.util.updateVolumeFromArray(first, np.roll(kept, 2, 1))
    panel.until(lambda: above() == {None}, 10)
    panel.measured()
    panel.slicer.util.updateVolumeFromArray(first, kept)
    panel.until(lambda: above() == {probability.GetID()}, 10)
    panel.measured()


def test_why_there_is_no_uncertainty_is_told(panel: Panel) -> None:
    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    panel.choose("overlay", "uncertainty")
    said = panel.text("totalLabel")
    assert "comes from a batch or a comparison" in said
    assert "Accurate" not in said  # the model that ships has no views


def test_the_term_and_the_model_of_a_segment_are_told(panel: Panel) -> None:
    first, _segmentation = result_of_a_script(panel)
    choose(panel, first)
    assert panel.ui.colorButton.toolTip == (
        "Colour of the segment: Infarct (SCT 55641003), by a script."
    )


def test_the_colour_of_a_segment_is_chosen(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    first, node = result_of_a_script(panel)
    choose(panel, first)
    segment = node.GetSegmentation().GetSegment(panel.widget.logic.segment_id(node))
    answers = iter([panel.qt.QColor(), panel.qt.QColor.fromRgbF(0.2, 0.4, 0.6)])
    dialog = types.SimpleNamespace(getColor=lambda _now: next(answers))
    monkeypatch.setattr(panel.qt, "QColorDialog", dialog)
    before = segment.GetColor()
    panel.click("colorButton")  # given up
    assert segment.GetColor() == before
    panel.click("colorButton")
    assert segment.GetColor() == pytest.approx((0.2, 0.4, 0.6), abs=0.01)


def test_every_key_of_the_effects_is_listed(panel: Panel, repository: Path) -> None:
    folder = repository / "StrokeLesionSeg" / "StrokeLesionSegEffects"
    text = "".join(p.read_text(encoding="utf-8") for p in folder.glob("SegmentEditor*.py"))
    keys = set(re.findall(r'\("(\w)", self\.on', text))
    assert len(keys) >= 7
    said = {
        k.strip()
        for _where, rows in panel_texts.KEYS
        for key, _what in rows
        for k in key.split(",")
    }
    assert keys <= said
    assert "Lesion Review" in panel.ui.keysLabel.text


def test_nothing_moves_below_the_text_and_the_bar(ready: Panel) -> None:
    panel = ready
    panel.settle(0.1)
    table = panel.stand_in.raw(panel.ui.resultCollapsibleButton)
    before = table.y()
    panel.click("segmentButton")
    panel.settle(0.3)
    assert table.y() == before
    panel.until(lambda: panel.controller.run.current is None, 240)
    panel.settle(0.1)
    assert table.y() == before
    assert (
        "It takes about"
        in panel_texts.view(
            panel_texts.PanelState(
                panel.controller.scan.check, seconds=panel.controller.run.seconds
            )
        ).next_step
    )


def test_where_a_file_was_written_is_shown_with_links(tmp_path: Path) -> None:
    file = tmp_path / "a & b.html"
    file.write_text("")
    said = panel_texts.links_html("Report:", file)
    assert f'href="{file.as_uri()}"' in said
    assert f'href="{tmp_path.as_uri()}"' in said
    assert "a &amp; b.html" in said
    assert said.count("href") == 2
    assert panel_texts.links_html("Results:", tmp_path).count("href") == 1
