"""Runs inside Slicer: takes every picture of the module and its effects in docs/ and Resources/.

    SLICER=.../Slicer python Testing/desktop/launch.py take_pictures.py

``PICTURES``: a folder that they go to instead; ``SIZE``: of the window, such as 1900x1000 (with
``--screen 1920x1080``). Two minutes on a quiet machine.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import qt
import slicer

sys.path.insert(0, str(Path(__file__).parent))
import correct_cases
import inside
import robot_hand

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("PICTURES") or ROOT / "docs" / "pictures")
WIDTH, HEIGHT = (int(n) for n in os.environ.get("SIZE", "1100x749").split("x"))
RUN_S = 240.0
SCREENSHOTS = {"slices.png": "screenshot-slices.png", "panel-4-result.png": "screenshot-panel.png"}


def take(widget, name):
    """A picture of a widget as it is on the screen."""
    slicer.app.processEvents()
    file = str(FOLDER / f"{name}.png")
    assert widget.grab().save(file), file
    print(f"{name}: {widget.width} x {widget.height}", flush=True)


class Session:
    """A user with one scan."""

    def __init__(self):
        self.window = slicer.util.mainWindow()
        self.window.showNormal()
        self.window.resize(WIDTH, HEIGHT)
        slicer.util.selectModule("StrokeLesionSeg")
        widget = slicer.modules.strokelesionseg.widgetRepresentation().self()
        self.ui, self.panel = widget.ui, widget.controller

    def views(self):
        return slicer.app.layoutManager().viewport()

    def layout(self, name):
        arrangement = getattr(slicer.vtkMRMLLayoutNode, f"SlicerLayout{name}View")
        slicer.app.layoutManager().setLayout(arrangement)
        inside.settle(0.5)

    def segment(self):
        self.ui.sampleButton.click()
        inside.until(lambda: self.ui.segmentButton.enabled, 20, "the sample")
        slicer.util.setSliceViewerLayers(background=self.panel.parameters.inputVolume, fit=True)
        inside.settle(1.0)
        take(self.window, "panel-2-ready")
        self.ui.segmentButton.click()
        inside.until(lambda: self.panel.run.current is None, RUN_S, "the run")
        inside.until(lambda: bool(self.panel.result.table.rows), 20, "the table")
        self.ui.lesionTable.setCurrentCell(0, 1)
        inside.settle(1.0)
        take(self.window, "panel-4-result")

    def look(self):
        self.window.resize(max(1500, WIDTH), HEIGHT)
        self.layout("FourUp")
        self.ui.surfaceButton.click()
        inside.settle(1.0)
        view = slicer.app.layoutManager().threeDWidget(0).threeDView()
        view.resetFocalPoint()
        view.resetCamera()
        inside.settle(1.0)
        take(self.views(), "slices")
        self.layout("OneUp3D")
        view.resetCamera()
        renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
        renderer.GetActiveCamera().Zoom(1.7)
        inside.settle(0.5)
        take(self.views(), "three-d")
        self.layout("FourUp")
        self.ui.surfaceButton.click()
        self.ui.overlayComboBox.setCurrentIndex(1)
        segmentation = self.panel.parameters.segmentation
        segmentation.SetDisplayVisibility(False)
        inside.settle(1.5)
        take(self.views(), "overlay")
        segmentation.SetDisplayVisibility(True)
        self.ui.overlayComboBox.setCurrentIndex(0)
        self.window.resize(WIDTH, HEIGHT)
        inside.settle(0.5)

    def sections(self, folder):
        """The sections that are folded at the start, each opened by itself."""
        ui = self.ui
        ui.regionsButton.click()
        inside.settle(0.3)
        inside.until(lambda: not self.panel.report.busy, RUN_S, "the volumes by region")
        inside.settle(0.5)
        take(ui.resultCollapsibleButton, "panel-regions")
        ui.batchInputPathLineEdit.currentPath = str(folder / "scans")
        ui.batchOutputPathLineEdit.currentPath = str(folder / "results")
        for name in ("resultCollapsibleButton", "advancedCollapsibleButton"):
            getattr(ui, name).collapsed = True
        ui.batchCollapsibleButton.collapsed = False
        ui.previewButton.click()
        inside.settle(0.3)
        inside.until(lambda: not self.panel.batch.running, RUN_S, "the preview of a batch")
        inside.settle(0.5)
        take(ui.batchCollapsibleButton, "panel-batch")
        ui.batchCollapsibleButton.collapsed = True
        for section, name in (
            (ui.advancedCollapsibleButton, "panel-advanced"),
            (ui.changeCollapsibleButton, "panel-compare"),
            (ui.checkCollapsibleButton, "panel-check"),
            (ui.keysCollapsibleButton, "panel-keys"),
        ):
            section.collapsed = False
            inside.settle(1.0)
            take(section, name)
            section.collapsed = True
        ui.resultCollapsibleButton.collapsed = False

    def correct(self):
        """A lesion that is missing is clicked, then the pieces are gone through."""
        table, last = self.ui.lesionTable, self.ui.lesionTable.rowCount - 1
        row = self.panel.result.table.rows[last]
        table.item(last, 0).setCheckState(qt.Qt.Unchecked)
        inside.settle(1.5)
        self.ui.editButton.click()
        inside.settle(1.0)
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        effect = correct_cases.ready(editor)
        inside.settle(0.5)
        correct_cases.drag([row.centroid_ras_mm])
        inside.until(lambda: bool(effect.said), 60, "the answer to a click")
        inside.settle(0.5)
        take(self.window, "editing-click")
        effect.setMode("outline")
        correct_cases.drag(true_outline(), before_release=self.while_drawing)
        effect.setMode("click")
        effect.onMirror("beside")
        inside.settle(1.0)
        take(self.window, "editing-mirror")
        effect.onMirror("none")
        inside.choose_effect(editor, "LesionReview")
        inside.settle(1.0)
        take(self.window, "editing-review")
        editor.setActiveEffectByName("")

    def while_drawing(self):
        inside.settle(0.5)
        take(self.window, "editing-outline")


def true_outline():
    """Once around the sample's lesion in the slice where it is largest (RAS mm)."""
    from scipy import ndimage
    from StrokeLesionSegLib.sample_scan import stroke_in_head

    truth = stroke_in_head().truth
    lesion = truth.array > 0
    k = int(lesion.sum(axis=(1, 2)).argmax())
    labels, _ = ndimage.label(lesion[k], np.ones((3, 3)))
    edge = robot_hand.edge(labels == np.bincount(labels[labels > 0]).argmax())[::2]
    ijk = np.c_[edge[:, ::-1], np.full(len(edge), k)]
    return list(ijk @ truth.affine[:3, :3].T + truth.affine[:3, 3])


def small_study(folder):
    """Three scans to preview a batch of, and images that it leaves out."""
    from StrokeLesionSegLib.images import Volume, write_volume
    from StrokeLesionSegLib.sample_scan import stroke_in_head

    t1 = stroke_in_head().t1
    half = Volume(
        np.ascontiguousarray(t1.array[::2, ::2, ::2]), t1.affine @ np.diag([2, 2, 2, 1.0])
    )
    (folder / "results").mkdir()
    for name in ("sub-01", "sub-02", "sub-03"):
        place = folder / "scans" / name / "anat"
        place.mkdir(parents=True)
        write_volume(place / f"{name}_T1w.nii.gz", half)
        (place / f"{name}_FLAIR.nii.gz").write_bytes(b"")
    description = {"Name": "example", "BIDSVersion": "1.9.0"}
    (folder / "scans" / "dataset_description.json").write_text(json.dumps(description))


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    session = Session()
    inside.settle(1.0)
    session.segment()
    session.look()
    # A name that does not look strange in a picture.
    study = Path(tempfile.gettempdir()) / "stroke-study"
    shutil.rmtree(study, ignore_errors=True)
    study.mkdir()
    try:
        small_study(study)
        session.sections(study)
    finally:
        shutil.rmtree(study, ignore_errors=True)
    session.correct()
    if not os.environ.get("PICTURES"):
        for picture, screenshot in SCREENSHOTS.items():
            shutil.copy(FOLDER / picture, ROOT / "Resources" / screenshot)
    print("all done", flush=True)


inside.run(main)
