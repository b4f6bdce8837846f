"""Runs inside Slicer: a robot that knows only the expert's outline corrects masks by mouse, with
Stroke Lesion, with Slicer's Paint and with Slicer's Grow from seeds, as many actions each.

    CASES=folder Slicer --python-script Testing/desktop/correct_cases.py

``CASES``: a folder of ``correction_cases.py``; without it, the sample of the module is the only
case. ``COUNT``: only so many of them; ``ACTIONS``: 15 each; ``TOOLS``: which ("clicks paint grow");
``RESULTS``: a file that gets a line of JSON for each case as it ends.

An action is a press and a release of the left button in an axial view, at the middle of the
largest connected error. Stroke Lesion and Paint begin with the automatic mask. Paint paints or
erases with its sphere brush, of the diameter that mends most at this place. Grow from seeds begins
with nothing, as in use: an action is a ball of seeds, the largest that does not cross the outline,
of lesion or of other tissue (within 12 mm of the lesion first); its preview is what is compared.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import slicer
import vtk
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent))
import inside

ACTIONS = int(os.environ.get("ACTIONS", "15"))
TOOLS = os.environ.get("TOOLS", "clicks paint grow").split()
OPEN_S, GROW_S = 240.0, 240.0
RADII_MM = (1.0, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 30)


class Case:
    """A scan in the scene, and its truth."""

    def __init__(self, folder):
        from StrokeLesionSegLib.images import read_scan
        from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node

        if folder is None:
            from StrokeLesionSegLib.sample_scan import stroke_in_head

            self.name, drawn = "sample", stroke_in_head()
            scan, truth = drawn.t1, drawn.truth
        else:
            self.name = folder.name
            scan = read_scan(folder / "t1.nii.gz").volume
            truth = read_scan(folder / "truth.nii.gz", allow_constant=True).volume
        self.truth, self.grid = np.asarray(truth.array) > 0, scan.grid
        self.volume = add_volume_node(scan, self.name)
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)

    def segmentation(self, *names):
        """A segmentation of its own with these segments, empty, in the Segment Editor."""
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", names[0])
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        for name in names:
            node.GetSegmentation().AddEmptySegment(name, name)
        return node

    def mask(self, node, segment):
        return slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, self.volume) > 0

    def error(self, marked):
        """(k, j, i) of the middle of the largest error, or None."""
        from StrokeLesionSegLib.correction.robot import largest_error

        return largest_error(marked, self.truth, self.grid.spacing[::-1])

    def dice(self, marked):
        from StrokeLesionSegLib.correction.robot import dice_of

        return round(dice_of(marked, self.truth), 4)

    def ras(self, place):
        return (self.grid.affine @ [*place[::-1], 1.0])[:3]

    def distance_mm(self, place):
        """Of all voxels from a place, (K, J, I)."""
        k, j, i = np.ogrid[tuple(slice(0, n) for n in self.grid.shape)]
        x, y, z = self.grid.spacing
        off = ((k - place[0]) * z, (j - place[1]) * y, (i - place[2]) * x)
        return np.sqrt(off[0] ** 2 + off[1] ** 2 + off[2] ** 2)


def press(ras, right=False):
    """A click at a place (RAS mm) in the axial view, by the view's own events."""
    widget = slicer.app.layoutManager().sliceWidget("Red")
    node, interactor = widget.sliceLogic().GetSliceNode(), widget.sliceView().interactor()
    node.JumpSliceByOffsetting(*ras)
    inside.settle(0.02)
    to_xy = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), to_xy)
    x, y = (round(n) for n in to_xy.MultiplyPoint((*ras, 1.0))[:2])
    interactor.SetEventInformation(x, y, 0, 0, "\0", 0, "")
    side = "Right" if right else "Left"
    interactor.InvokeEvent(vtk.vtkCommand.MouseMoveEvent)
    interactor.InvokeEvent(getattr(vtk.vtkCommand, f"{side}ButtonPressEvent"))
    interactor.InvokeEvent(getattr(vtk.vtkCommand, f"{side}ButtonReleaseEvent"))
    inside.settle(0.02)


def ready(editor):
    """The effect Stroke Lesion, once its model answers."""
    effect = inside.choose_effect(editor, "StrokeLesion")
    inside.until(lambda: effect.entry is not None or effect.problem, OPEN_S, "opening")
    assert effect.entry is not None, effect.problem
    return effect


def by_clicks(case):
    """Dice after each action, seconds of each from the mouse's release to the labelmap, and the
    automatic mask."""
    node = case.segmentation("clicks")
    editor = inside.open_editor(node, case.volume)
    editor.setCurrentSegmentID("clicks")
    effect = ready(editor)
    effect.onApply()
    automatic = case.mask(node, "clicks")
    dice, seconds = [case.dice(automatic)], []
    for _ in range(ACTIONS):
        marked = case.mask(node, "clicks")
        place = case.error(marked)
        if place is not None:
            press(case.ras(place), right=not case.truth[place])
            assert not effect.problem, effect.problem
            seconds.append(round(effect.seconds, 4))
        dice.append(case.dice(case.mask(node, "clicks")))
    editor.setActiveEffectByName("")
    return dice, seconds, automatic


def by_paint(case, automatic):
    """Dice after each action of Slicer's Paint and Erase."""
    node = case.segmentation("paint")
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        automatic.astype(np.uint8), node, "paint", case.volume
    )
    editor = inside.open_editor(node, case.volume)
    editor.setCurrentSegmentID("paint")
    dice = [case.dice(automatic)]
    for _ in range(ACTIONS):
        marked = case.mask(node, "paint")
        place = case.error(marked)
        if place is not None:
            adds = bool(case.truth[place])
            dab(editor, case, "paint", place, best_radius(case, marked, place, adds), adds)
        dice.append(case.dice(case.mask(node, "paint")))
    editor.setActiveEffectByName("")
    return dice


def best_radius(case, marked, place, adds):
    """The radius in mm of the sphere around ``place`` that makes Dice largest."""
    reach = [int(RADII_MM[-1] / step) + 1 for step in case.grid.spacing[::-1]]
    box = tuple(slice(max(0, n - r), n + r + 1) for n, r in zip(place, reach, strict=True))
    distance, truth = case.distance_mm(place)[box], case.truth[box]
    free = ~marked[box] if adds else marked[box]
    total, both = int(marked.sum()) + int(case.truth.sum()), int((marked & case.truth).sum())
    sign = 1 if adds else -1

    def dice_with(radius):
        change = free & (distance <= radius)
        return 2 * (both + sign * int((change & truth).sum())) / (total + sign * int(change.sum()))

    return max(RADII_MM, key=dice_with)


def dab(editor, case, segment, place, radius_mm, adds):
    """One touch of Slicer's sphere brush."""
    editor.setCurrentSegmentID(segment)
    editor.setActiveEffectByName("Paint" if adds else "Erase")
    effect = editor.activeEffect()
    effect.setCommonParameter("BrushSphere", 1)
    effect.setCommonParameter("BrushDiameterIsRelative", 0)
    effect.setCommonParameter("BrushAbsoluteDiameter", 2 * radius_mm)
    press(case.ras(place))


def by_growing(case):
    """Dice after each action of seeds that grow."""
    node = case.segmentation("lesion", "other")
    editor = inside.open_editor(node, case.volume)
    spacing = case.grid.spacing[::-1]
    depth = {
        True: ndimage.distance_transform_edt(case.truth, sampling=spacing),
        False: ndimage.distance_transform_edt(~case.truth, sampling=spacing),
    }
    marked, dice = np.zeros_like(case.truth), [0.0]
    for number in range(ACTIONS):
        place = case.error(marked)
        if number == 1:
            # Growing needs seeds of both kinds.
            near = (depth[False] > 0) & (depth[False] <= 12.0)
            place = np.unravel_index(int(np.argmax(depth[False] * near)), near.shape)
        if place is not None:
            adds = bool(case.truth[place])
            radius = min(max(float(depth[adds][place]) - 0.5, 0.6), 30.0 if adds else 10.0)
            dab(editor, case, "lesion" if adds else "other", place, radius, True)
            marked = grown(editor, case, node) if number else case.mask(node, "lesion")
        dice.append(case.dice(marked))
    inside.choose_effect(editor, "Grow from seeds").onCancel()
    editor.setActiveEffectByName("")
    return dice


def grown(editor, case, node):
    """What the seeds grow to."""
    effect = inside.choose_effect(editor, "Grow from seeds")
    effect.onPreview()
    preview = effect.getPreviewNode()
    assert preview is not None, "nothing grew"
    return case.mask(preview, "lesion")


def correct(case):
    """One line of results."""
    began = time.monotonic()
    row = {"case": case.name, "ml": round(float(case.truth.sum()) * case.grid.voxel_volume_ml, 1)}
    if "clicks" in TOOLS or "paint" in TOOLS:
        dice, seconds, automatic = by_clicks(case)
        row |= {"clicks": dice, "release_to_labelmap_s": seconds}
    if "paint" in TOOLS:
        row["paint"] = by_paint(case, automatic)
    if "grow" in TOOLS:
        row["grow"] = by_growing(case)
    return row | {"seconds": round(time.monotonic() - began)}


def main():
    folders = [None]
    if os.environ.get("CASES"):
        folders = sorted(f for f in Path(os.environ["CASES"]).iterdir() if f.is_dir())
    folders = folders[: int(os.environ.get("COUNT", "3"))]
    rows = []
    for folder in folders:
        slicer.mrmlScene.Clear(0)
        rows.append(correct(Case(folder)))
        print(json.dumps(rows[-1]), flush=True)
        if os.environ.get("RESULTS"):
            with open(os.environ["RESULTS"], "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    summary(rows)
    print("all done", flush=True)


def summary(rows):
    """Medians over the cases."""
    for tool in ("clicks", "paint", "grow"):
        known = [row[tool] for row in rows if tool in row]
        for after in (0, 5, 15):
            values = [dice[after] for dice in known if after < len(dice)]
            if values:
                print(f"{tool}, after {after}: median Dice {statistics.median(values):.3f}")
    times = [s for row in rows for s in row.get("release_to_labelmap_s", ())]
    if times:
        middle = 1000 * statistics.median(times)
        print(f"release to labelmap: median {middle:.0f} ms of {len(times)}")


if __name__ == "__main__":
    inside.run(main)
