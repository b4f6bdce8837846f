"""Runs inside Slicer: what has to be seen without scrolling in a window for 1020 x 768 pixels, with
Data Probe open, that sections do not change the panel's width, and that our effects ask for no
more width than Slicer's Threshold."""

import sys
from pathlib import Path

import qt
import slicer

sys.path.insert(0, str(Path(__file__).parent))
import inside

# What the frame and the bars of a window manager leave of it; Slicer's own least width is more.
WIDTH, HEIGHT = 1020, 749


def panel():
    return slicer.util.findChildren(slicer.util.mainWindow(), name="ModulePanel")[0]


def in_sight(widget, height=None):
    """Whether the upper ``height`` pixels of a widget are in sight, by default all of it."""
    area = slicer.util.findChildren(panel(), name="ScrollArea")[0]
    viewport = area.viewport()
    top = widget.mapTo(viewport, qt.QPoint(0, 0)).y()
    return top >= 0 and top + (height or widget.height) <= viewport.height


def main():
    """Raises at what is not as it should be."""
    from StrokeLesionSegLib.slicerbridge.module import sample

    window = slicer.util.mainWindow()
    window.showNormal()
    window.resize(WIDTH, HEIGHT)
    slicer.util.selectModule("StrokeLesionSeg")
    volume = sample.add_sample()
    ui = slicer.modules.strokelesionseg.widgetRepresentation().self().ui
    inside.until(lambda: not ui.sampleButton.visible, 20, "the scan is chosen")
    inside.settle(1.0)
    assert window.height <= HEIGHT, window.size
    assert in_sight(ui.segmentButton)
    # The header and three lesions.
    assert in_sight(ui.lesionTable, 96)
    panels = []
    for name in ("result", "advanced", "change", "batch", "check", "keys"):
        for other in ("result", "advanced", "change", "batch", "check", "keys"):
            getattr(ui, f"{other}CollapsibleButton").collapsed = other != name
        inside.settle(0.3)
        panels.append(panel().width)
    assert max(panels) == min(panels), f"the views move by {panels}"
    area = slicer.util.findChildren(panel(), name="ScrollArea")[0]
    slicer.util.selectModule("Data")
    inside.settle(0.3)
    assert area.verticalScrollBarPolicy == qt.Qt.ScrollBarAsNeeded, "as Slicer has it elsewhere"
    slicer.util.selectModule("StrokeLesionSeg")
    inside.settle(0.3)
    assert panel().width == panels[0]
    ui.resultCollapsibleButton.collapsed = False
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().AddEmptySegment("lesion")
    editor = inside.open_editor(node, volume)
    frame = slicer.util.findChildren(editor, name="SegmentsTableResizableFrame")[0]
    before, widths = frame.height, {}
    for name in ("Threshold", "StrokeLesion", "LesionReview"):
        effect = inside.choose_effect(editor, name)
        inside.settle(0.5)
        widths[name] = editor.sizeHint.width()
        if name == "StrokeLesion":
            assert in_sight(effect.statusLabel)
            assert in_sight(effect.options.applyButton)
        elif name == "LesionReview":
            assert in_sight(effect.keepButton)
            assert in_sight(effect.table, 88)
        editor.setActiveEffectByName("")
        inside.settle(0.5)
        assert frame.height >= before, f"{name} left the list of segments lower"
    assert max(widths.values()) == widths["Threshold"], widths
    print("all done")


inside.run(main)
