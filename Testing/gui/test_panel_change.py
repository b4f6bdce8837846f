"""Two scans of one person from the panel: a table of changes, and both scans aligned."""

from __future__ import annotations

import numpy as np
from heads import AFFINE, ball, head, move, moved
from panel_support import Panel
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.slicerbridge.engine.compare import (
    ComparisonRun,
    FoundMask,
    ScanChange,
    ScanToCompare,
    patch_of,
)
from StrokeLesionSegLib.slicerbridge.scene import results, side_by_side
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node


def add_scan(panel: Panel, array: np.ndarray, name: str, mask: np.ndarray) -> object:
    node = add_volume_node(Volume(array.astype(np.float32), AFFINE), name)
    segmentation = results.add_segmentation(node)
    segment = results.add_segment(segmentation, patch_of(mask, node), Provenance())
    probability = results.add_map(Volume(mask.astype(np.float32), AFFINE), node, "probability")
    results.set_maps(segmentation, segment, (probability, None))
    panel.widget.logic.choose(segmentation, segment)
    return node


def cell(panel: Panel, row: int, column: int) -> str:
    return str(panel.stand_in.raw(panel.ui.changeTable).item(row, column).text())


def test_two_scans_from_the_panel(panel: Panel) -> None:
    panel.click("compareButton")
    assert "Choose the later scan at the top" in panel.text("changeLabel")
    matrix, person = move(4), head(1).array
    before = ball((40, 0, 20), 12).astype(np.uint8)
    after = moved(ball((40, 0, 20), 16), matrix, labels=True)
    earlier = add_scan(panel, person, "before", before)
    later = add_scan(panel, moved(person, matrix), "after", after)
    drawn = panel.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by hand")
    drawn.SetReferenceImageGeometryParameterFromVolumeNode(later)
    panel.parameters.inputVolume = later
    panel.ui.earlierSelector.setCurrentNode(later)
    panel.click("compareButton")
    assert "is both the earlier and the later scan" in panel.text("changeLabel")
    panel.ui.earlierSelector.setCurrentNode(earlier)
    panel.click("compareButton")
    panel.click("compareButton")  # of a double-click
    assert panel.text("compareButton") == "Cancel"
    panel.until(lambda: not panel.controller.change.running, 280)
    assert panel.text("compareButton") == "Compare"
    assert "Groups of lesions: 1 grown." in panel.text("changeLabel")
    assert [cell(panel, 0, n) for n in (0, 1)] == ["1", "grown"]
    assert float(cell(panel, 0, 5)) > 5
    assert side_by_side.alignment_of(later) is not None
    assert results.same_parent(drawn, later)
    # What is shown above the image, and what clicks start from, lies on it.
    of_later = results.find_segmentation(later)
    probability = results.maps_of(of_later, panel.widget.logic.segment_id(of_later))[0]
    assert results.same_parent(probability, later)
    panel.stand_in.raw(panel.ui.changeTable).cellClicked.emit(0, 0)
    panel.picture("change")
    panel.parameters.inputVolume = earlier
    assert not panel.stand_in.raw(panel.ui.turnBackButton).isEnabled()
    panel.parameters.inputVolume = later
    panel.click("turnBackButton")
    assert side_by_side.alignment_of(later) is None
    assert probability.GetTransformNodeID() is None
    assert drawn.GetTransformNodeID() is None
    assert not panel.stand_in.raw(panel.ui.turnBackButton).isEnabled()
    assert not panel.stand_in.raw(panel.ui.changeTable).isHidden()
    # The scene goes: the panel holds on to nothing of it.
    panel.slicer.mrmlScene.Clear()
    assert panel.controller.change.earlier is None
    assert panel.stand_in.raw(panel.ui.changeTable).isHidden()
    assert panel.text("changeLabel") == ""


def test_both_scans_keep_their_lesions_where_those_of_the_later_one_were_found_on_the_way(
    panel: Panel,
) -> None:
    """A result that comes for the chosen scan is shown, and the earlier scan's is not hidden."""
    person, mask = head(1).array, ball((40, 0, 20), 12).astype(np.uint8)
    earlier = add_scan(panel, person, "before", mask)
    later = add_volume_node(Volume(person.astype(np.float32) + 1, AFFINE), "after")
    panel.parameters.inputVolume = later
    panel.settle(0.3)
    found = {1: FoundMask(mask, Provenance(model="found on the way"))}
    change = ScanChange([], {}, np.eye(4), found, AFFINE)
    scans = tuple(ScanToCompare(node) for node in (earlier, later))
    panel.controller.change._take(ComparisonRun(*scans), change)
    of_later = results.find_segmentation(later)
    panel.until(lambda: panel.parameters.segmentation is of_later, 30)
    panel.measured()
    for node in (results.find_segmentation(earlier), of_later):
        assert node.GetDisplayNode().GetVisibility()
