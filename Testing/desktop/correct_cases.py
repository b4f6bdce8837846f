"""Runs inside Slicer: a robot that knows only the expert's outline corrects masks by mouse, with
Stroke Lesion, with Slicer's Paint and with Slicer's Grow from seeds, as many actions each.

    CASES=folder Slicer --python-script Testing/desktop/correct_cases.py

``CASES``: a folder of ``correction_cases.py``; without it, the sample of the module is the only
case. ``COUNT``: only so many of them; ``ACTIONS``: 15 each; ``TOOLS``: which ("stroke paint grow");
``RESULTS``: a file that gets a line of JSON for each case as it ends; ``SHAKES``: by how many mm
the hand misses an outline that it draws (standard deviation; 0); ``OUTLINES``: 0 draws none.

The figures of ``docs/editing.md`` are of a screen of 1600x1000; on a smaller one a mouse is less
exact.

An action is a press, a drag and a release of a mouse button in one axial view; a click is a short
one. Stroke Lesion and Paint begin with the automatic mask, and ``robot_hand`` has what is common to
both: it looks at the largest errors, in two slices each, and takes what mends most there. With
Paint that is the way of a stroke of the sphere brush and its diameter. With Stroke Lesion it is the
same with the brush that follows the probability, or an outline, or a click, or at the very first
the slider of the threshold. Grow from seeds begins with nothing, as in use: an action is a ball of
seeds in the middle of the largest error, the largest that does not cross the outline, of lesion or
of other tissue (within 12 mm of the lesion first); its preview is what is compared.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import slicer
import vtk
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent))
import correction_table
import inside
import robot_hand

ACTIONS = int(os.environ.get("ACTIONS", "15"))
TOOLS = os.environ.get("TOOLS", "stroke paint grow").split()
SHAKES_MM = float(os.environ.get("SHAKES", "0"))
OUTLINES = os.environ.get("OUTLINES", "1") != "0"
OPEN_S, GROW_S = 240.0, 240.0
SLIDER = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


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
        # Large enough that a pixel is smaller than a voxel: a stroke begins where it is meant to.
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        inside.settle(0.5)
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

    def wrong(self, marked):
        """The largest errors, see ``robot_hand``."""
        return robot_hand.errors(marked, self.truth, self.grid.spacing[::-1])

    def dice(self, marked):
        from StrokeLesionSegLib.correction.robot import dice_of

        return round(dice_of(marked, self.truth), 4)

    def ras(self, place):
        return (self.grid.affine @ [*place[::-1], 1.0])[:3]

    def way(self, touch):
        """Where the mouse is seen on a stroke (RAS mm): touches overlap by more than half."""
        places = [self.ras(place) for place in touch.path]
        way = places[:1]
        for place in places[1:]:
            if np.linalg.norm(place - way[-1]) >= 0.4 * touch.radius_mm:
                way.append(place)
        return way


def drag(path_ras, right=False, before_release=None):
    """Press, move through places (RAS mm) of one axial slice, release, by the view's own events.

    ``before_release``: called while the button is still down."""
    widget = slicer.app.layoutManager().sliceWidget("Red")
    node, interactor = widget.sliceLogic().GetSliceNode(), widget.sliceView().interactor()
    node.JumpSliceByOffsetting(*path_ras[0])
    inside.settle(0.02)
    to_xy = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), to_xy)
    side = "Right" if right else "Left"
    for number, ras in enumerate(path_ras):
        x, y = (round(n) for n in to_xy.MultiplyPoint((*ras, 1.0))[:2])
        interactor.SetEventInformation(x, y, 0, 0, "\0", 0, "")
        interactor.InvokeEvent(vtk.vtkCommand.MouseMoveEvent)
        if number == 0:
            interactor.InvokeEvent(getattr(vtk.vtkCommand, f"{side}ButtonPressEvent"))
    if before_release is not None:
        before_release()
    interactor.InvokeEvent(getattr(vtk.vtkCommand, f"{side}ButtonReleaseEvent"))
    inside.settle(0.02)


def ready(editor):
    """The effect Stroke Lesion, once its model answers."""
    effect = inside.choose_effect(editor, "StrokeLesion")
    inside.until(lambda: effect.entry is not None or effect.problem, OPEN_S, "opening")
    assert effect.entry is not None, effect.problem
    return effect


class Corrector:
    """The robot with Stroke Lesion."""

    def __init__(self, case):
        self.case, self.node = case, case.segmentation("stroke")
        self.editor = inside.open_editor(self.node, case.volume)
        self.editor.setCurrentSegmentID("stroke")
        self.effect = ready(self.editor)
        self.effect.onApply()
        self.hand = np.random.default_rng(0)
        self.automatic = case.mask(self.node, "stroke")
        self.dice = [case.dice(self.automatic)]
        self.actions, self.seconds = [], {"click": [], "brush": [], "outline": []}

    def act(self):
        """The next action."""
        case, marked = self.case, self.case.mask(self.node, "stroke")
        wrongs = case.wrong(marked)
        if wrongs:
            self.actions.append(self.mend(marked, wrongs))
            assert not self.effect.problem, self.effect.problem
        self.dice.append(case.dice(case.mask(self.node, "stroke")))

    def mend(self, marked, wrongs):
        """What it did: the best of all that it could do."""
        from StrokeLesionSegLib.slicerbridge.editor import correct, outline

        case, effect, threshold = self.case, self.effect, self.effect.threshold()
        session = effect.store.work(effect.entry, effect.target()).session
        session.change_threshold(threshold)
        choices = robot_hand.choices(
            marked,
            case.truth,
            wrongs,
            case.grid,
            session,
            outline.drawn(effect.target()),
        )
        choices = [c for c in choices if OUTLINES or not isinstance(c, robot_hand.Drawn)]
        best = max(choices, key=lambda choice: choice.dice)
        if not self.actions:
            value, dice = robot_hand.best_threshold(
                case.truth, lambda at: correct.found(session, at), SLIDER
            )
            if dice > best.dice:
                effect.options.thresholdSlider.value = value
                inside.settle(0.1)
                effect.onApply()
                return f"threshold {value:g}"
        if isinstance(best, robot_hand.Touch):
            effect.setMode("brush")
            effect.onDiameter(2 * best.radius_mm)
            drag(case.way(best), right=not best.adds)
            done, kind = f"{'paint' if best.adds else 'erase'} {best.radius_mm:g}", "brush"
        elif isinstance(best, robot_hand.Drawn):
            effect.setMode("outline")
            path = best.path
            if SHAKES_MM:
                path = robot_hand.shaken(path, SHAKES_MM, case.grid.spacing[::-1], self.hand)
            drag([case.ras(place) for place in path], right=not best.adds)
            done = kind = "outline"
        else:
            effect.setMode("click")
            drag([case.ras(best.place)], right=not best.adds)
            done = kind = "click"
        self.seconds[kind].append(round(effect.seconds, 4))
        return done


def by_effect(case):
    """Stroke Lesion: Dice after each action, what was done, seconds of each from the mouse's
    release to the labelmap, and the automatic mask."""
    robot = Corrector(case)
    for _ in range(ACTIONS):
        robot.act()
    robot.editor.setActiveEffectByName("")
    return robot


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
        wrongs = case.wrong(marked)
        if wrongs:
            touch = robot_hand.best_stroke(marked, case.truth, wrongs, case.grid.spacing[::-1])
            brush(editor, "paint", case.way(touch), touch.radius_mm, touch.adds)
        dice.append(case.dice(case.mask(node, "paint")))
    editor.setActiveEffectByName("")
    return dice


def brush(editor, segment, way, radius_mm, adds):
    """One stroke of Slicer's sphere brush."""
    editor.setCurrentSegmentID(segment)
    name = "Paint" if adds else "Erase"
    if editor.activeEffect() is None or editor.activeEffect().name != name:
        editor.setActiveEffectByName(name)
    effect = editor.activeEffect()
    effect.setCommonParameter("BrushSphere", 1)
    effect.setCommonParameter("BrushDiameterIsRelative", 0)
    effect.setCommonParameter("BrushAbsoluteDiameter", 2 * radius_mm)
    inside.settle(0.3)  # an effect's brush follows what was chosen when Slicer gets its turn
    drag(way)


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
        wrongs = case.wrong(marked)
        place = wrongs[0].place if wrongs else None
        if number == 1:
            # Growing needs seeds of both kinds.
            near = (depth[False] > 0) & (depth[False] <= 12.0)
            place = np.unravel_index(int(np.argmax(depth[False] * near)), near.shape)
        if place is not None:
            adds = bool(case.truth[place])
            radius = min(max(float(depth[adds][place]) - 0.5, 0.6), 30.0 if adds else 10.0)
            brush(editor, "lesion" if adds else "other", [case.ras(place)], radius, True)
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
    if "stroke" in TOOLS or "paint" in TOOLS:
        robot = by_effect(case)
        row |= {"stroke": robot.dice, "actions": robot.actions}
        row["release_to_labelmap_s"] = robot.seconds
    if "paint" in TOOLS:
        row["paint"] = by_paint(case, robot.automatic)
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
    print("\n".join([*correction_table.table(rows), *correction_table.times(rows)]))
    print("all done", flush=True)


if __name__ == "__main__":
    inside.run(main)
