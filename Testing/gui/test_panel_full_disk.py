"""A disk that is full: one line where the user looks, nothing lost, and the next click works."""

from __future__ import annotations

import errno
import os
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from full_disk import fill
from panel_support import Panel, result_of_a_script
from StrokeLesionSegLib.images import Alignment, read_scan
from StrokeLesionSegLib.slicerbridge.scene import results
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance

Disk = tuple[Path, Callable[[str], None]]


def one_line(panel: Panel, label: str, *words: str) -> None:
    shown = getattr(panel.ui, label).text
    assert "<b>" in shown
    assert "<br>" not in shown
    for word in ("the disk is full", "Free some space", *words):
        assert word in panel.text(label)


def test_report_and_files_in_mni_space(
    panel: Panel, small_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, mount_again = small_disk
    alignment = Alignment(np.eye(4), True, "", 0.9, 0.5, 0.0)
    made = Provenance(
        model="by a script",
        threshold=0.45,
        min_volume_ml=0.1,
        to_mni=alignment.matrix,
        alignment="0.9 0.5",
    )
    scan, _segmentation = result_of_a_script(panel, made)
    panel.parameters.inputVolume = scan
    panel.measured()
    dialog = types.SimpleNamespace(getExistingDirectory=lambda *_: str(disk))
    monkeypatch.setattr(panel.qt, "QFileDialog", dialog)
    services = types.SimpleNamespace(openUrl=lambda url: None)
    monkeypatch.setattr(panel.qt, "QDesktopServices", services)
    mask, rows = panel.mask(), list(panel.rows)
    filler = fill(disk)

    def press(button: str) -> list[str]:
        panel.click(button)
        panel.until(lambda: not panel.controller.report.busy, 120)
        return sorted(file.name for file in disk.iterdir() if file != filler)

    for button in ("reportButton", "mniButton"):
        assert press(button) == [], "no half a file"
        one_line(panel, "nextStepLabel")
        np.testing.assert_array_equal(panel.mask(), mask)
        assert [row.seed for row in panel.rows] == [row.seed for row in rows]
    mount_again("size=80m")
    assert [Path(name).suffix for name in press("reportButton")] == [".html"]
    assert "the disk is full" not in panel.text("nextStepLabel")
    assert len(press("mniButton")) == 4
    assert "the disk is full" not in panel.text("nextStepLabel")


def test_a_correction_that_goes_back(ready: Panel, tmp_path: Path, small_disk: Disk) -> None:
    """What was saved before stays whole, mask and facts, and so does the segment in the scene."""
    panel, (disk, mount_again) = ready, small_disk
    mount_again("size=80m")
    scans, out = tmp_path / "scans", disk / "out"
    panel.choose_folders(scans, out)
    panel.click("batchButton")
    panel.until(lambda: not panel.controller.batch.running, 240)
    panel.stand_in.raw(panel.ui.batchTable).cellDoubleClicked.emit(0, 0)
    panel.until(lambda: not panel.controller.results.busy, 60)
    panel.measured()
    node = panel.parameters.segmentation
    segment_id = panel.widget.logic.segment_id(node)

    def correct(place: int) -> np.ndarray:
        patch = results.read_segment(node, segment_id, panel.parameters.inputVolume)
        wanted = patch.full()
        wanted[place : place + 8, 40:50, 40:50] = 1
        whole = type(patch)(wanted, (0, 0, 0), patch.grid)
        results.set_segment_voxels(node, segment_id, whole)
        return np.asarray(wanted != 0)

    def saved() -> dict[str, bytes]:
        folder = next(out.rglob("*_label-lesion_mask.nii.gz")).parent
        found = sorted(folder.glob("*_desc-corrected*"))
        assert {file for file in folder.iterdir() if file.name.startswith(".")} == set()
        return {file.name: file.read_bytes() for file in found}

    first = correct(30)
    filler = fill(disk)
    panel.click("saveCorrectionButton")
    one_line(panel, "batchLabel", "sub-01_desc-corrected_mask")
    assert saved() == {}, "no half a file"
    np.testing.assert_array_equal(panel.mask() != 0, first)
    filler.unlink()
    panel.click("saveCorrectionButton")
    assert panel.text("batchLabel").startswith("Saved:")
    before = saved()
    assert len(before) == 2

    second = correct(60)
    filler = fill(disk)
    panel.ui.whoLineEdit.text = "Rater 2"
    panel.click("saveCorrectionButton")
    one_line(panel, "batchLabel")
    assert saved() == before, "mask and facts of the first correction"
    np.testing.assert_array_equal(panel.mask() != 0, second)
    filler.unlink()
    panel.click("saveCorrectionButton")
    assert panel.text("batchLabel").startswith("Saved:")
    mask = next(out.rglob("*_desc-corrected_mask.nii.gz"))
    np.testing.assert_array_equal(read_scan(mask).volume.array != 0, second)
    assert b"Rater 2" in saved()["sub-01_desc-corrected_mask.json"]


def test_a_batch_and_a_model_that_learns(
    ready: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No place for what the process needs: told where the button is, and the next press works."""
    panel, (scans, out) = ready, (tmp_path / "scans", tmp_path / "out")
    panel.choose_folders(scans, out)
    said = "The disk for temporary files is full. Free some space"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/input.nii")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", full)
        panel.click("batchButton")
    assert panel.text("batchLabel").startswith(said)
    assert panel.text("batchButton") == "Start batch"
    assert not out.exists()
    panel.click("batchButton")
    panel.until(lambda: not panel.controller.batch.running, 240)
    assert panel.text("batchLabel").startswith("1 scan: 1 done.")
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", full)
        panel.click("learnButton")
    assert panel.text("learnLabel").startswith(said)
    panel.click("learnButton")
    assert panel.text("learnButton") == "Stop learning"
    panel.until(lambda: not panel.controller.learn.learning, 120)
    assert panel.text("learnLabel").startswith("fluid: "), "the engine's own answer"
