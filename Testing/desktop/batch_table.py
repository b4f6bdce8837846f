"""Runs inside Slicer: a batch from the panel, whose table shows each scan while it runs. One that
is done is opened before the batch ends; one that failed says why; the panel keeps its width."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import slicer

sys.path.insert(0, str(Path(__file__).parent))
import inside

SCANS = 8


def write_scans(folder):
    """Scans of 2 mm of one simulated head, and at the end a file that is cut off."""
    from StrokeLesionSegLib.images import Volume, write_volume
    from StrokeLesionSegLib.sample_scan import stroke_in_head

    t1 = stroke_in_head().t1
    half = np.ascontiguousarray(t1.array[::2, ::2, ::2])
    first = folder / "sub-01_T1w.nii"
    write_volume(first, Volume(half, t1.affine @ np.diag([2, 2, 2, 1.0])), dtype=np.int16)
    contents = first.read_bytes()
    for number in range(2, SCANS):
        (folder / f"sub-{number:02}_T1w.nii").write_bytes(contents)
    (folder / f"sub-{SCANS:02}_T1w.nii").write_bytes(contents[:5000])


def main():
    """Raises at what is not as it should be."""
    slicer.util.selectModule("StrokeLesionSeg")
    widget = slicer.modules.strokelesionseg.widgetRepresentation().self()
    ui, table, panel = widget.ui, widget.ui.batchTable, widget.controller
    ui.resultCollapsibleButton.collapsed = True
    ui.batchCollapsibleButton.collapsed = False
    around = slicer.util.findChildren(slicer.util.mainWindow(), name="ModulePanel")[0]

    def states():
        return [table.item(row, 1).text() for row in range(table.rowCount)]

    with tempfile.TemporaryDirectory() as place:
        scans, out = Path(place) / "scans", Path(place) / "out"
        scans.mkdir()
        write_scans(scans)
        ui.batchInputPathLineEdit.currentPath = str(scans)
        ui.batchOutputPathLineEdit.currentPath = str(out)
        inside.settle(0.5)
        wide = around.width
        ui.batchButton.click()
        inside.until(lambda: "running" in states(), 60, "a scan is taken up")
        assert states()[-1] == "waiting"
        inside.until(lambda: "done" in states(), 120, "a scan is done")
        row = states().index("done")
        table.cellDoubleClicked(row, 0)
        inside.until(lambda: panel.parameters.inputVolume is not None, 60, "it is opened")
        assert panel.batch.running, "before the batch ends"
        assert panel.parameters.inputVolume.GetName() == table.item(row, 0).text()
        assert "is shown above" in ui.batchLabel.text
        inside.until(lambda: not panel.batch.running, 240, "the batch ends")
        assert states()[:-1] == ["done"] * (SCANS - 1), states()
        assert states()[-1].startswith("failed: "), states()
        assert table.horizontalHeader().length() <= table.viewport().width, "all columns in sight"
        table.cellDoubleClicked(SCANS - 1, 0)
        inside.settle(0.2)
        assert "the file is truncated" in ui.batchLabel.text
        assert around.width == wide
        slicer.mrmlScene.Clear()
    print("all done")


inside.run(main)
