"""What cannot be used, or fails on the way: one line at the place, and the next click works."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_support import Panel, result_of_a_script
from StrokeLesionSegLib.images import write_volume
from StrokeLesionSegLib.images.volume import Grid, Volume
from StrokeLesionSegLib.slicerbridge.engine import run as engine_run
from StrokeLesionSegLib.slicerbridge.module import sample
from StrokeLesionSegLib.slicerbridge.scene import results, volumes


def empty(slicer: Any) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")


def flat(slicer: Any) -> Any:
    picture = np.random.default_rng(0).random((1, 64, 64)).astype(np.float32)
    return volumes.add_volume_node(Volume(picture, np.eye(4)), "a picture")


def colour(slicer: Any) -> Any:
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "a photograph")
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 8)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    return node


def series(slicer: Any) -> Any:
    """A 4D image that was loaded as a volume of many values."""
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "bold")
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 8)
    image.AllocateScalars(vtk.VTK_SHORT, 20)
    node.SetAndObserveImageData(image)
    return node


def labels(slicer: Any) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    volumes.set_volume(node, Volume(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4)))
    return node


UNUSABLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an empty volume": (empty, "This volume is empty."),
    "a 2D image": (flat, "This is a single slice."),
    "a colour volume": (colour, "This is a colour or vector image."),
    "a time series": (series, "Each voxel has 20 values."),
    "a label map": (labels, "This is a label map."),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_segmented_is_told_and_another_scan_can(panel: Panel, case: str) -> None:
    make, said = UNUSABLE[case]
    panel.parameters.inputVolume = make(panel.slicer)
    panel.settle(0.3)
    for label in ("nextStepLabel", "inputCheckLabel"):
        assert panel.text(label).startswith(said)
        assert "<br>" not in getattr(panel.ui, label).text
    button = panel.stand_in.raw(panel.ui.segmentButton)
    assert not button.isEnabled()
    assert button.toolTip().startswith(said)
    # A scan that is opened now is shown: the panel says how to go on with it.
    scan = sample.add_sample()
    results.show_background(scan)
    panel.settle(0.5)
    assert panel.parameters.inputVolume is not scan
    assert panel.text("nextStepLabel").startswith(f"The views show {scan.GetName()}: choose it")
    panel.parameters.inputVolume = scan
    panel.settle(0.3)
    assert panel.text("nextStepLabel") == "Press Segment."
    assert button.isEnabled()


def then_it_works(panel: Panel) -> None:
    panel.segment()
    assert panel.parameters.segmentation is not None
    panel.measured()
    assert panel.rows


def failed(panel: Panel, *words: str) -> None:
    """The last run has left nothing, and one line says why."""
    assert panel.controller.run.current is None
    assert panel.parameters.segmentation is None
    said = panel.text("nextStepLabel")
    assert "<br>" not in panel.ui.nextStepLabel.text
    for word in words:
        assert word in said
    assert not panel.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_a_disk_that_is_full(ready: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/input.nii")

    with monkeypatch.context() as patch:
        patch.setattr(engine_run, "write_volume", full)
        ready.segment()
    failed(ready, "The disk for temporary files is full.", "Free some space")
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", full)
        ready.click("segmentButton")
    failed(ready, "The disk for temporary files is full.")
    then_it_works(ready)


def test_an_engine_that_is_killed(ready: Panel) -> None:
    ready.click("segmentButton")
    run = ready.controller.run.current
    ready.until(lambda: run._process.pid is not None, 60)
    os.kill(run._process.pid, signal.SIGKILL)
    ready.until(lambda: ready.controller.run.current is None, 60)
    failed(ready, "The system killed the engine", "try again")
    then_it_works(ready)


def test_a_model_that_was_removed_meanwhile(ready: Panel, model_home: Path) -> None:
    folder = next(p for p in model_home.rglob("manifest.json") if "fluid" in p.parent.name).parent
    aside = folder.with_name(f".{folder.name}-aside")
    # By its name: other tests may have installed another one, which would be taken in its place.
    ready.parameters.model = json.loads((folder / "manifest.json").read_text())["name"]
    shutil.move(folder, aside)
    try:
        ready.segment()
        failed(ready, "fluid")
    finally:
        shutil.move(aside, folder)
    then_it_works(ready)


def test_a_folder_that_cannot_be_written_to(panel: Panel, tmp_path: Path, monkeypatch: Any) -> None:
    """The report: the text says which folder, and another one works."""
    first, _segmentation = result_of_a_script(panel)
    panel.parameters.inputVolume = first
    panel.measured()
    blocked = tmp_path / "a file"
    blocked.write_text("")
    qt, folders = panel.qt, iter([str(blocked), str(tmp_path)])
    dialog = types.SimpleNamespace(getExistingDirectory=lambda *_: next(folders))
    monkeypatch.setattr(qt, "QFileDialog", dialog)
    monkeypatch.setattr(qt, "QDesktopServices", types.SimpleNamespace(openUrl=lambda url: None))
    panel.click("reportButton")
    panel.until(lambda: not panel.controller.report.busy, 120)
    assert "a file" in panel.text("nextStepLabel")
    assert "<br>" not in panel.ui.nextStepLabel.text
    panel.click("reportButton")
    panel.until(lambda: not panel.controller.report.busy, 120)
    assert "a file" not in panel.text("nextStepLabel")
    assert list(tmp_path.glob("*.html"))
    assert ".html" in panel.text("reportLabel")
    # It is of that scan, and of no other.
    panel.parameters.inputVolume = flat(panel.slicer)
    assert panel.text("reportLabel") == ""


def test_a_batch_whose_folder_cannot_be_written_to_or_whose_engine_is_killed(
    ready: Panel, tmp_path: Path
) -> None:
    """Each is told in one line below the button, and the next start works. So with a correction."""
    panel, ui = ready, ready.ui
    scans, blocked, out = tmp_path / "scans", tmp_path / "a file", tmp_path / "out"
    scans.mkdir()
    blocked.write_text("")
    volume = volumes.volume_from_node(panel.parameters.inputVolume)
    write_volume(scans / "sub-01_T1w.nii", volume, dtype=np.int16)
    ui.batchInputPathLineEdit.currentPath = str(scans)

    def ended() -> str:
        panel.until(lambda: not panel.controller.batch.running, 240)
        assert panel.text("batchButton") == "Start batch"
        return panel.text("batchLabel")

    ui.batchOutputPathLineEdit.currentPath = str(blocked)
    panel.click("batchButton")
    assert "a file" in ended()
    assert "<br>" not in ui.batchLabel.text
    ui.batchOutputPathLineEdit.currentPath = str(out)
    panel.click("batchButton")
    process = panel.controller.batch._process._process
    panel.until(lambda: process.pid is not None, 60)
    os.kill(process.pid, signal.SIGKILL)
    assert "The system killed the engine" in ended()
    panel.click("batchButton")
    assert ended().startswith("1 scan: 1 done.")

    panel.stand_in.raw(ui.batchTable).cellDoubleClicked.emit(0, 0)
    panel.until(lambda: not panel.controller.results.busy, 60)
    mask = next(out.rglob("*_label-lesion_mask.nii.gz"))
    corrected = mask.with_name("sub-01_desc-corrected_mask.nii.gz")
    corrected.mkdir()  # where a folder of that name is, no file can be written
    panel.click("saveCorrectionButton")
    assert corrected.name in panel.text("batchLabel")
    assert "<b>" in ui.batchLabel.text
    corrected.rmdir()
    panel.click("saveCorrectionButton")
    assert panel.text("batchLabel").startswith("Saved:")
    assert "warped" not in panel.text("batchLabel")
    assert corrected.is_file()
    # A warp may keep the grid: what is saved then does not lie on the scan.
    volumes.voxels_from_node(panel.parameters.inputVolume)[:] = 7
    panel.click("saveCorrectionButton")
    assert panel.text("batchLabel").startswith("Nothing was saved yet")
    assert "open that again and correct it" in panel.text("batchLabel")


def test_a_scan_under_a_warp(ready: Panel) -> None:
    """It is said, and the segment lies under the same transform, on the same voxels."""
    import vtk

    panel, slicer = ready, ready.slicer
    scan = panel.parameters.inputVolume
    panel.segment()
    panel.measured()
    straight = panel.mask().sum()
    points = vtk.vtkPoints()
    moved = vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        place = 160.0 * np.array(corner) - 80.0
        points.InsertNextPoint(*place)
        moved.InsertNextPoint(*(place * 1.1 + (0, 0, 5.0 * corner[0])))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(moved)
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    warp.SetAndObserveTransformToParent(spline)
    scan.SetAndObserveTransformNodeID(warp.GetID())
    panel.settle(0.4)
    assert "under the non-linear transform 'warp'" in panel.text("inputCheckLabel")
    panel.segment()
    panel.measured()
    node = panel.parameters.segmentation
    assert node.GetTransformNodeID() == warp.GetID()
    assert panel.mask().sum() == straight
    place = panel.rows[0].centroid_ras_mm
    said = panel.stand_in.raw(panel.ui.lesionTable).item(0, 3).text()
    assert said == ", ".join(f"{v:.0f}" for v in spline.TransformPoint(place))


def test_a_segment_that_somebody_resampled_to_another_grid(panel: Panel) -> None:
    """It is measured on the scan's grid; the sliders leave it alone and begin a new one."""
    first, node = result_of_a_script(panel)
    panel.parameters.inputVolume = first
    panel.measured()
    volume_ml = sum(row.volume_ml for row in panel.rows)
    old = panel.widget.logic.segment_id(node)
    patch = results.read_segment(node, old, first)
    coarse = Grid(
        tuple(n // 2 for n in patch.grid.shape), patch.grid.affine @ np.diag([2, 2, 2, 1])
    )
    mask = np.ascontiguousarray(patch.full()[::2, ::2, ::2][tuple(slice(n) for n in coarse.shape)])
    results.set_segment_voxels(node, old, type(patch)(mask, (0, 0, 0), coarse))
    panel.controller.lookAgain()
    panel.measured()
    assert sum(row.volume_ml for row in panel.rows) == pytest.approx(volume_ml, rel=0.2)
    assert panel.text("nextStepLabel").startswith("You have corrected this segment.")
    panel.parameters.threshold = 0.3
    panel.applied()
    panel.until(lambda: not panel.controller.result.step_open, 10)
    assert panel.widget.logic.segment_id(node) != old
    assert panel.mask().any()
