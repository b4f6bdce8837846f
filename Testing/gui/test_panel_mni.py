"""The panel's buttons for MNI space: volumes by region, files there, the batch's option."""

from __future__ import annotations

import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_support import Panel, result_of_a_script
from StrokeLesionSegLib.atlases import region_table
from StrokeLesionSegLib.images import MNI_GRID, Volume, mask_in_mni, read_scan, read_transform
from StrokeLesionSegLib.sample_scan import HEAD_SHIFT_MM
from StrokeLesionSegLib.slicerbridge.engine.batch import BatchParameters
from StrokeLesionSegLib.slicerbridge.module import in_mni
from StrokeLesionSegLib.slicerbridge.module.in_mni import REGIONS_ROLE
from StrokeLesionSegLib.slicerbridge.module.measure import table_rows
from StrokeLesionSegLib.slicerbridge.scene.provenance import TAG
from StrokeLesionSegLib.slicerbridge.scene.volumes import affine_from_node, voxels_from_node

TO_MNI = np.eye(4)
TO_MNI[:3, 3] = -np.array(HEAD_SHIFT_MM)


def shown(panel: Panel) -> list[list[str]]:
    table = panel.stand_in.raw(panel.ui.regionTable)
    return [
        [table.item(row, column).text() for column in range(table.columnCount())]
        for row in range(table.rowCount())
    ]


def aligned_result(panel: Panel) -> tuple[Any, Any]:
    node, segmentation = result_of_a_script(panel)
    segment_id = panel.widget.logic.segment_id(segmentation)
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    segment.SetTag(TAG + "ToMNI", " ".join(repr(float(v)) for v in TO_MNI.ravel()))
    panel.parameters.inputVolume = node
    panel.measured()
    return node, segmentation


def test_regions_are_those_of_the_segment_as_it_has_become_meanwhile(panel: Panel) -> None:
    node, segmentation = aligned_result(panel)
    begin = in_mni.SegmentInMni.regions
    late = []

    def regions(there: Any) -> Any:
        """The sliders are moved while the first one is under way."""
        while not late:
            time.sleep(0.01)
        return begin(there)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_mni.SegmentInMni, "regions", regions)
        panel.click("regionsButton")
        panel.parameters.threshold = 0.3
        panel.applied()
        late.append(True)
        panel.until(lambda: not panel.controller.report.busy, 120)
    wanted = region_table(Volume(panel.mask(), affine_from_node(node)), TO_MNI).table_rows()
    assert [row[2] for row in shown(panel)] == [f"{row['volume_ml']:.2f}" for row in wanted]
    kept = table_rows(segmentation.GetNodeReference(REGIONS_ROLE))
    assert kept[0]["Volume (mL)"] == pytest.approx(wanted[0]["volume_ml"])


def test_regions_and_files_of_a_segment(
    panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, segmentation = aligned_result(panel)
    mask = Volume(panel.mask(), affine_from_node(node))
    expected = region_table(mask, TO_MNI).table_rows()
    table = panel.stand_in.raw(panel.ui.regionTable)
    assert not table.isVisible()
    panel.click("regionsButton")
    panel.until(lambda: not panel.controller.report.busy, 120)
    assert panel.text("nextStepLabel").count("not aligned") == 0
    rows = shown(panel)
    assert [row[0] for row in rows] == [row["region"] for row in expected]
    assert [row[2] for row in rows] == [f"{row['volume_ml']:.2f}" for row in expected]
    assert rows[0][1] == "left"
    assert not table.isHidden()
    # All columns are in sight, however long the names of regions are.
    panel.settle(0.1)
    assert table.horizontalHeader().length() <= table.viewport().width()
    assert table.item(0, 0).toolTip() == rows[0][0]
    kept = table_rows(segmentation.GetNodeReference(REGIONS_ROLE))
    assert [row["Region"] for row in kept] == [row["region"] for row in expected]
    assert kept[0]["Volume (mL)"] == pytest.approx(expected[0]["volume_ml"])

    dialog = types.SimpleNamespace(getExistingDirectory=lambda *_: str(tmp_path))
    monkeypatch.setattr(panel.qt, "QFileDialog", dialog)
    panel.click("mniButton")
    panel.until(lambda: not panel.controller.report.busy, 120)
    assert str(tmp_path) in panel.text("reportLabel")
    files = {file.name.split("_", 1)[1]: file for file in tmp_path.iterdir()}
    space = "MNI152NLin2009aSym"
    there = read_scan(files[f"space-{space}_label-lesion_mask.nii.gz"], allow_constant=True)
    assert there.volume.grid.same_as(MNI_GRID)
    wanted = mask_in_mni(mask, TO_MNI).array
    assert 2 * (there.volume.array * wanted).sum() / (there.volume.array + wanted).sum() > 0.99
    probability = read_scan(files[f"space-{space}_label-lesion_probseg.nii.gz"]).volume
    assert probability.array[there.volume.array > 0].mean() > 0.4
    matrix = read_transform(files[f"from-T1w_to-{space}_mode-image_xfm.h5"])
    assert matrix == pytest.approx(TO_MNI)
    # Nothing is written over, and that is said.
    before = {file: file.read_bytes() for file in files.values()}
    panel.click("mniButton")
    panel.until(lambda: not panel.controller.report.busy, 120)
    assert "exists" in panel.text("nextStepLabel")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    # What the sliders change is no longer what the table tells, nor that of the scene.
    panel.controller.lookAgain()
    panel.measured()
    assert segmentation.GetNodeReference(REGIONS_ROLE) is not None, "it is still the same segment"
    panel.parameters.threshold = 0.6
    panel.applied()
    assert table.isHidden()
    assert segmentation.GetNodeReference(REGIONS_ROLE) is None
    assert voxels_from_node(node) is not None


def test_an_image_that_was_not_aligned_is_told(panel: Panel) -> None:
    node, _segmentation = result_of_a_script(panel)
    panel.parameters.inputVolume = node
    panel.measured()
    panel.click("regionsButton")
    assert "was not aligned to MNI152" in panel.text("nextStepLabel")
    assert not panel.controller.report.busy


def test_the_batch_is_asked_for_results_in_mni_space(panel: Panel) -> None:
    assert "--space" not in BatchParameters("in", "out").arguments()
    arguments = BatchParameters("in", "out", in_mni=True).arguments()
    assert arguments[arguments.index("--space") + 1] == "native,MNI152NLin2009aSym"
    assert not panel.ui.batchMniCheckBox.checked
