"""A folder of scans from the panel: batch, its table, a correction that goes back, and learning."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from panel_support import Panel
from StrokeLesionSegLib.cohort.corrected import corrected_masks
from StrokeLesionSegLib.images import Volume, read_scan, write_volume
from StrokeLesionSegLib.slicerbridge.engine import batch
from StrokeLesionSegLib.slicerbridge.engine.process import EngineProcess, Progress
from StrokeLesionSegLib.slicerbridge.module.panel import followed
from StrokeLesionSegLib.slicerbridge.scene import derivative, results
from StrokeLesionSegLib.slicerbridge.scene.patch import Patch
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.volumes import set_volume, volume_from_node
from test_derivative import batch_of_one


def run_batch(panel: Panel) -> None:
    panel.stand_in.raw(panel.ui.batchButton).click()
    assert panel.text("batchButton") == "Cancel batch"
    panel.until(lambda: not panel.controller.batch.running, 240)


def cell(panel: Panel, row: int, column: int) -> str:
    return str(panel.stand_in.raw(panel.ui.batchTable).item(row, column).text())


def test_from_the_batch_to_a_corrected_mask(ready: Panel, tmp_path: Path) -> None:
    panel = ready
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    volume = volume_from_node(panel.parameters.inputVolume)
    write_volume(scans / "sub-01_T1w.nii", volume, dtype=np.int16)
    panel.stand_in.raw(panel.ui.batchButton).click()
    assert "Choose the folder" in panel.text("batchLabel")
    panel.ui.batchInputPathLineEdit.currentPath = str(scans)
    panel.ui.batchOutputPathLineEdit.currentPath = str(out)
    write_volume(scans / "sub-01_FLAIR.nii", volume, dtype=np.int16)
    panel.click("previewButton")
    panel.until(lambda: not panel.controller.batch.running, 120)
    assert panel.text("batchLabel") == "1 scan would be done, 1 image is left out."
    assert [cell(panel, 0, n) for n in (0, 1)] == ["sub-01", "to do"]
    assert cell(panel, 1, 1).startswith("left out: ")
    tip = panel.stand_in.raw(panel.ui.batchTable).item(1, 1).toolTip()
    assert tip
    assert cell(panel, 1, 1).endswith(tip), "what does not fit into the column"
    table = panel.stand_in.raw(panel.ui.batchTable)
    assert table.columnCount() == 2, "room for the reasons"
    assert not out.exists()
    run_batch(panel)
    assert table.columnCount() == 5
    assert panel.text("batchLabel").startswith("1 scan: 1 done. Double-click")
    assert out.as_uri() in panel.ui.batchLabel.text
    automatic = next(out.rglob("*_label-lesion_mask.nii.gz"))
    kept = automatic.read_bytes()
    assert [cell(panel, 0, n) for n in (0, 1, 4)] == ["sub-01", "done", ""]

    save = panel.stand_in.raw(panel.ui.saveCorrectionButton)
    assert not save.isEnabled()
    panel.stand_in.raw(panel.ui.batchTable).cellDoubleClicked.emit(0, 0)
    panel.until(lambda: not panel.controller.results.busy, 60)
    panel.measured()
    assert panel.parameters.inputVolume.GetName() == "sub-01"
    found = read_scan(automatic, allow_constant=True).volume.array != 0
    np.testing.assert_array_equal(panel.mask() != 0, found)
    assert panel.rows

    # What the sliders ask for is saved, also right after they were moved.
    corrected = automatic.with_name("sub-01_desc-corrected_mask.nii.gz")
    panel.parameters.threshold = 0.9
    save.click()
    saved = read_scan(corrected, allow_constant=True).volume.array != 0
    assert 0 < np.count_nonzero(saved) < np.count_nonzero(found)
    panel.settle(0.3)
    np.testing.assert_array_equal(panel.mask() != 0, saved)
    panel.click("undoButton")
    panel.applied()
    np.testing.assert_array_equal(panel.mask() != 0, found)

    node = panel.parameters.segmentation
    segment_id = panel.widget.logic.segment_id(node)
    patch = results.read_segment(node, segment_id, panel.parameters.inputVolume)
    wanted = patch.full()
    wanted[40:50, 40:50, 40:50] = 1
    whole = type(patch)(wanted, (0, 0, 0), patch.grid)
    results.set_segment_voxels(node, segment_id, whole)
    panel.ui.whoLineEdit.text = "Rater 2"
    save.click()
    assert corrected.as_uri() in panel.ui.batchLabel.text
    np.testing.assert_array_equal(read_scan(corrected).volume.array != 0, wanted != 0)
    assert automatic.read_bytes() == kept
    facts = json.loads(corrected.with_name("sub-01_desc-corrected_mask.json").read_text())
    assert facts["corrected_by"] == "Rater 2"
    assert facts["model"]["name"] == "fluid"
    assert len(facts["model"]["sha256"]) == len(facts["source"]["sha256"]) == 64
    assert cell(panel, 0, 4) == "yes"

    # What learns from corrections finds it, with its scan; a later batch leaves it alone.
    (known,) = corrected_masks(out)
    assert known.mask == corrected
    assert known.scan == scans / "sub-01_T1w.nii"
    assert known.sha256 == facts["source"]["sha256"]
    before = corrected.read_bytes()
    panel.ui.batchResumeCheckBox.checked = False
    run_batch(panel)
    assert corrected.read_bytes() == before

    # Opened again, it is the corrected one.
    panel.stand_in.raw(panel.ui.batchTable).cellDoubleClicked.emit(0, 0)
    panel.until(lambda: not panel.controller.results.busy, 60)
    panel.measured()
    np.testing.assert_array_equal(panel.mask() != 0, wanted != 0)

    # One corrected scan is too few to learn from, and the panel says so.
    panel.choose("model", "")
    panel.click("learnButton")
    panel.click("learnButton")  # of a double-click
    assert panel.text("learnButton") == "Stop learning"
    panel.until(lambda: not panel.controller.learn.learning, 120)
    assert "12" in panel.text("learnLabel")
    assert panel.text("learnButton") == "Learn from my corrections"

    # A scan that is gone is told, and the table stays.
    (scans / "sub-01_T1w.nii").unlink()
    panel.stand_in.raw(panel.ui.batchTable).cellDoubleClicked.emit(0, 0)
    panel.until(lambda: not panel.controller.results.busy, 60)
    assert "is not there" in panel.text("batchLabel")


def opened(panel: Panel, tmp_path: Path) -> tuple[Path, Any, Any]:
    """A batch of one scan, and its volume and segmentation, chosen in the panel."""
    out, _mask = batch_of_one(tmp_path, np.eye(4))
    read = derivative.read_result(out, "sub-01")
    volume, segmentation, segment_id = derivative.add_result(read, Provenance())
    panel.widget.logic.choose(segmentation, segment_id)
    panel.parameters.inputVolume = volume
    panel.measured()
    return out, volume, segmentation


@pytest.mark.usefixtures("coarse_sample")
def test_what_a_reader_drew_beside_the_segment_that_is_saved_is_told(
    panel: Panel, tmp_path: Path
) -> None:
    _out, volume, segmentation = opened(panel, tmp_path)
    panel.click("saveCorrectionButton")
    assert "alone" not in panel.text("batchLabel")
    drawn = segmentation.GetSegmentation().AddEmptySegment("", "Segment_1")
    patch = Patch(np.ones((3, 3, 3), np.uint8), (1, 2, 3), volume_from_node(volume).grid)
    results.set_segment_voxels(segmentation, drawn, patch)
    panel.click("saveCorrectionButton")
    said = html.unescape(panel.text("batchLabel"))
    assert "This is the segment 'Stroke lesion' alone, without 'Segment_1'." in said


def test_a_correction_of_an_image_that_may_have_been_warped_is_saved_when_asked_for_again(
    panel: Panel, tmp_path: Path
) -> None:
    """Its file would be the one that opens next time, that tables prefer and that models learn."""
    out, volume, _segmentation = opened(panel, tmp_path)
    corrected = out / "sub-01_desc-corrected_mask.nii.gz"
    for _again in (False, True):
        voxels = volume_from_node(volume)
        set_volume(volume, voxels.with_array(np.roll(voxels.array, 2, axis=1)))
        panel.click("saveCorrectionButton")
        assert panel.text("batchLabel").startswith("Nothing was saved yet: the image was filtered")
        assert not corrected.exists()
        panel.click("saveCorrectionButton")
        assert panel.text("batchLabel").startswith("Saved:")
        corrected.unlink()
    panel.click("saveCorrectionButton")
    assert corrected.exists(), "it is asked once of each image"


def test_a_batch_that_was_stopped_or_failed_in_part(ready: Panel, tmp_path: Path) -> None:
    """What was done until a stop can be opened, and why a scan failed is told, also by a
    double-click on it; the next start does the rest."""
    panel = ready
    scans, out = tmp_path / "scans", tmp_path / "out"
    panel.choose_folders(scans, out)
    contents = (scans / "sub-01_T1w.nii").read_bytes()
    # So many that it cannot end between the first that is told and the press that stops it.
    for n in range(2, 9):
        (scans / f"sub-{n:02}_T1w.nii").write_bytes(contents)
    (scans / "sub-09_T1w.nii").write_bytes(contents[:5000])
    table = panel.stand_in.raw(panel.ui.batchTable)
    panel.click("previewButton")
    panel.until(lambda: not panel.controller.batch.running, 120)
    table.cellDoubleClicked.emit(0, 0)
    assert panel.text("batchLabel") == "sub-01: to do"
    panel.click("batchButton")
    panel.click("batchButton")  # of a double-click
    panel.settle(0.6)  # the second press of a double-click is none
    panel.until(lambda: re.match("[1-9] of 9 ", panel.ui.batchProgressBar.format), 240)
    panel.click("batchButton")
    assert panel.text("batchLabel") == "Stopped. Start again to resume."
    assert not (out / "group_scans.tsv").exists()
    assert [cell(panel, 0, n) for n in (0, 1)] == ["sub-01", "done"]
    table.cellDoubleClicked.emit(0, 0)
    panel.until(lambda: not panel.controller.results.busy, 60)
    assert panel.parameters.inputVolume.GetName() == "sub-01"
    run_batch(panel)
    said = panel.text("batchLabel")
    counts = re.match(r"9 scans: (\d) done, (\d) w\w+ done before, 1 could not be used\.", said)
    assert counts is not None, said
    assert int(counts[1]) + int(counts[2]) == 8
    assert int(counts[2]) > 0
    assert "sub-09_T1w.nii: " in said
    assert [cell(panel, n, 1) for n in range(8)] == ["done"] * 8
    assert cell(panel, 8, 1).startswith("failed: ")
    assert cell(panel, 8, 1).endswith(table.item(8, 1).toolTip())
    table.cellDoubleClicked.emit(8, 0)
    assert panel.text("batchLabel").startswith("sub-09: the file is")
    assert panel.parameters.inputVolume.GetName() == "sub-01"


@pytest.mark.usefixtures("coarse_sample")
def test_each_scan_is_shown_while_the_batch_runs(ready: Panel, tmp_path: Path) -> None:
    """Waiting, running, done and failed, each in its row; a scan that is done is opened before the
    batch ends. What an earlier batch has done stays in the table."""
    panel = ready
    scans, out = tmp_path / "scans", tmp_path / "out"
    panel.choose_folders(scans, out, "sub-02_T1w.nii")
    contents = (scans / "sub-02_T1w.nii").read_bytes()
    table = panel.stand_in.raw(panel.ui.batchTable)
    run_batch(panel)
    (scans / "sub-01_T1w.nii").write_bytes(contents[:5000])
    for n in range(3, 9):
        (scans / f"sub-{n:02}_T1w.nii").write_bytes(contents)
    panel.click("batchButton")
    panel.until(lambda: table.rowCount() == 8, 60)
    names = [f"sub-{n:02}" for n in range(1, 9)]

    def states() -> list[str]:
        assert [cell(panel, row, 0) for row in range(table.rowCount())] == names
        return [cell(panel, row, 1) for row in range(8)]

    seen = states()
    assert seen[1] == "done", "of the batch before"
    assert "waiting" in seen[2:]
    table.cellDoubleClicked.emit(7, 0)
    assert panel.text("batchLabel") == "sub-08: waiting"
    panel.until(lambda: states()[0].startswith("failed: "), 60)
    table.cellDoubleClicked.emit(0, 0)
    assert panel.text("batchLabel").startswith("sub-01: the file is")
    panel.until(lambda: "running" in states(), 60)
    panel.until(lambda: states()[2] == "done", 120)
    assert cell(panel, 2, 2) == cell(panel, 1, 2) != ""
    assert cell(panel, 2, 3) == cell(panel, 1, 3) != ""
    table.cellDoubleClicked.emit(2, 0)
    panel.until(lambda: not panel.controller.results.busy, 60)
    assert panel.controller.batch.running
    assert panel.parameters.inputVolume.GetName() == "sub-03"
    told = panel.ui.batchProgressBar.format
    assert re.match(r"[2-7] of 8 scans done, about ", told)
    panel.until(lambda: panel.ui.batchProgressBar.format != told, 120)
    assert panel.text("batchLabel").startswith("sub-03 is shown above."), "until the batch ends"
    assert table.horizontalHeader().length() <= table.viewport().width()
    widths = [table.columnWidth(n) for n in range(5)]
    for n in (1, 2, 3):
        assert widths[n] >= table.sizeHintForColumn(n) or widths[n] >= 90, "words are in sight"
    # Another folder's results are not mixed with what the batch tells.
    panel.ui.batchOutputPathLineEdit.currentPath = str(tmp_path)
    panel.settle(0.5)
    assert table.rowCount() == 0
    panel.ui.batchOutputPathLineEdit.currentPath = str(out)
    assert "waiting" in states() or "running" in states()
    panel.until(lambda: not panel.controller.batch.running, 240)
    assert states()[1:] == ["done"] * 7
    assert table.horizontalHeader().length() <= table.viewport().width()
    assert states()[0].startswith("failed: ")


def test_learning_can_be_stopped_whichever_folder_is_shown(
    panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(followed, "EngineProcess", lambda _: EngineProcess(lasting, whole=True))
    learn, button = panel.controller.learn, panel.stand_in.raw(panel.ui.learnButton)
    panel.ui.batchOutputPathLineEdit.currentPath = str(tmp_path)
    learn.offer(True)
    panel.click("learnButton")
    panel.ui.batchOutputPathLineEdit.currentPath = str(tmp_path / "elsewhere")
    panel.until(lambda: not learn._process._started.just_now, 5)
    assert learn.learning
    panel.click("learnButton")
    assert panel.text("learnLabel") == "Stopped. Press again to resume."
    assert not button.isEnabled(), "there is nothing to learn from in the folder that is shown"


def test_one_scan_is_followed_after_a_preview(panel: Panel, tmp_path: Path) -> None:
    """The table of a preview has two columns; what comes has five."""
    listed, table = panel.controller.results, panel.stand_in.raw(panel.ui.batchTable)
    panel.ui.batchOutputPathLineEdit.currentPath = str(tmp_path)
    left_out = batch.row_of("sub-01_FLAIR.nii", "left out", error="looks like FLAIR")
    listed.list_plan([batch.row_of("sub-01", "planned"), left_out])
    listed.begin()
    listed.follow(Progress("scans", 0, 1, {"state": "waiting", "stems": ["sub-01"]}))
    done = {"stem": "sub-01", "state": "done", "lesions": 2, "volume_ml": 3.0}
    listed.follow(Progress("scans", 1, 1, {"scan": done}))
    assert (table.rowCount(), table.columnCount()) == (1, 5)
    assert [cell(panel, 0, n) for n in range(5)] == ["sub-01", "done", "2", "3.0", ""]


def test_a_tilde_is_the_home_folder_for_the_table_too(
    panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tmp_path))
    panel.ui.batchOutputPathLineEdit.currentPath = "~/out"
    assert panel.controller.results.folder == str(tmp_path / "out")
    panel.ui.batchOutputPathLineEdit.currentPath = " "
    assert panel.controller.results.folder == ""


def test_a_preview_of_a_large_cohort_is_read() -> None:
    """The engine tells it in one line, however long."""
    code = """
import json
planned = [{"stem": f"sub-{n:05}_ses-01", "place": "x" * 80} for n in range(5000)]
print(json.dumps({"stage": "result", "planned": planned}))
"""
    process = EngineProcess([sys.executable, "-c", code], whole=True)
    process.start()
    process.wait(60)
    process.close()
    assert batch.plan_text(process.result) == "5000 scans would be done."


def test_a_long_text_pushes_down_what_is_below_it(panel: Panel) -> None:
    ui, raw = panel.ui, panel.stand_in.raw
    ui.batchCollapsibleButton.collapsed = False
    panel.window.resize(360, 2000)  # nothing scrolls here
    panel.controller.results.list_rows(
        [{"scan": "a", "state": "done", "lesions": 1, "volume_ml": 2.0, "corrected": False}] * 4
    )
    for text in ("Done.", "A sentence that is much too long for the width of the panel. " * 6):
        panel.controller.results.tell(text)
        panel.settle(0.3)
        label, table, below = (raw(w) for w in (ui.batchLabel, ui.batchTable, ui.whoLineEdit))
        assert label.height() >= label.heightForWidth(label.width())
        assert label.geometry().bottom() < table.geometry().top()
        assert table.height() >= 120
        assert table.geometry().bottom() < below.geometry().top()


def test_what_is_done_and_left_is_told() -> None:
    assert batch.progress_text(Progress("scans", 0, 9), 5.0) == "0 of 9 scans done"
    said = batch.progress_text(Progress("scans", 3, 9), 180.0)
    assert said == "3 of 9 scans done, about 6 minutes left"
    said = batch.progress_text(Progress("scans", 8, 9), 180.0)
    assert said == "8 of 9 scans done, about a minute left"
    said = batch.progress_text(Progress("scans", 90, 100), 120.0, before=88)
    assert said == "90 of 100 scans done, about 10 minutes left", "80 were done before"
    said = batch.progress_text(Progress("scans", 88, 100), 120.0, before=88)
    assert said == "88 of 100 scans done"
    many = {"planned": [{}, {}], "skipped": 1, "left_out": {"a": "?", "b": "?"}}
    said = batch.plan_text(many)
    assert said == "2 scans would be done, 1 was done before, 2 images are left out."
    assert batch.result_text({"scans": 2, "failed": 2}) == "2 scans: 0 done, 2 could not be used."
    assert batch.learning_text(Progress("learn", 1, 4)) == "Learning: 25 %"
    assert batch.learning_text(Progress("judge", 0, 0)) == "Judging the new model..."


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"installed": "lab-adapted"}, "lab-adapted is installed"),
        ({"installed": None, "reasons": ["no better on 4 subjects."]}, "no better on 4"),
    ],
)
def test_what_was_learnt_is_told(result: dict[str, object], said: str) -> None:
    assert said in batch.learnt_text(result)


def test_a_result_that_is_read_while_the_scene_closes_does_not_come_into_the_next(
    ready: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = ready
    scan = Volume(np.zeros((4, 5, 6), np.int16), np.eye(4))
    read, closed = derivative.ReadResult(Path(), "sub-01", scan, scan, None, {}, False), Event()

    def slowly(*_: Any) -> derivative.ReadResult:
        assert closed.wait(60)
        return read

    monkeypatch.setattr(derivative, "read_result", slowly)
    row = {"scan": "sub-01", "state": "done", "lesions": 1, "volume_ml": 1.0, "corrected": False}
    panel.controller.results.list_rows([row])
    panel.stand_in.raw(panel.ui.batchTable).cellDoubleClicked.emit(0, 0)
    assert panel.controller.results.busy
    panel.slicer.mrmlScene.Clear(0)
    closed.set()
    panel.until(lambda: not panel.controller.results.busy, 60)
    assert not panel.slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert panel.text("batchLabel") == ""
