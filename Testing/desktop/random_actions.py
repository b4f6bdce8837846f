"""Random actions of a user inside Slicer, the same ones for the same seed.

Runs by ``Slicer --python-script random_actions.py``; ``ACTIONS`` and ``SEED`` in the environment
say how many and which. Prints a line for each action and "all done" if no slot raised anything, no
process of the engine is left, and the memory is back to that of the start and a gigabyte.
"""

import gc
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk

sys.path.insert(0, str(Path(__file__).parent))
from inside import settle

COUNT, SEED = int(os.environ.get("ACTIONS", "30")), int(os.environ.get("SEED", "0"))
SCANS = 2
RUN_S = 180.0
MORE_MB = 1024.0

problems = []
rng = random.Random(SEED)


def swallowed(kind, error, trace):
    """PythonQt prints what a slot raises and goes on: it is kept here."""
    problems.append("".join(traceback.format_exception(kind, error, trace)))


class Logged(logging.Handler):
    def emit(self, record):
        if record.exc_info:
            problems.append(self.format(record))


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def children():
    """The processes that this one started and that still run: {process id: command line}."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, parent = folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                line = folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(folder.name)] = line
        except OSError:  # it ended
            continue
    return found


class User:
    """What can be done; a method for each action, which does nothing where it cannot be done."""

    def __init__(self, folder):
        from StrokeLesionSegLib.images.volume import Volume
        from StrokeLesionSegLib.sample_scan import stroke_in_head

        t1 = stroke_in_head().t1
        # 2 mm: every step is quicker.
        array = np.ascontiguousarray(t1.array[::2, ::2, ::2])
        affine = t1.affine @ np.diag([2.0, 2, 2, 1])
        self.volume, self.folder, self.saved = Volume(array, affine), folder, []
        self.widget = slicer.modules.strokelesionseg.widgetRepresentation().self()
        self.ui, self.panel = self.widget.ui, self.widget.controller
        self.editor = None

    def scans(self):
        return [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if not node.GetAttribute("StrokeLesionSeg")
        ]

    def home(self):
        if slicer.util.selectedModule() != "StrokeLesionSeg":
            slicer.util.selectModule("StrokeLesionSeg")
            settle(0.3)

    def press(self, button):
        if button.enabled:
            button.click()

    # -- actions ------------------------------------------------------------------------------

    def choose(self):
        self.home()
        if len(self.scans()) < SCANS:
            from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node

            add_volume_node(self.volume, f"scan {len(self.scans()) + 1}")
        elif self.panel.run.current is None:
            self.ui.inputSelector.setCurrentNode(rng.choice([None, *self.scans()]))

    def segment(self):
        self.home()
        if self.panel.run.current is None:
            self.press(self.ui.segmentButton)
            settle(RUN_S, lambda: self.panel.run.current is None)
            settle(0.5)

    def segmentAndCancel(self):
        self.home()
        if self.panel.run.current is None:
            self.press(self.ui.segmentButton)
            settle(rng.uniform(0.6, 4.0))
            if self.panel.run.current is not None:
                self.press(self.ui.segmentButton)

    def slide(self):
        self.home()
        if self.ui.thresholdSlider.enabled:
            self.ui.thresholdSlider.value = rng.uniform(0.05, 0.95)

    def tick(self):
        self.home()
        table = self.ui.lesionTable
        if table.enabled and table.rowCount:
            row = rng.randrange(table.rowCount)
            table.setCurrentCell(row, 1)
            item = table.item(row, 0)
            item.setCheckState(qt.Qt.Unchecked if item.checkState() else qt.Qt.Checked)

    def undoSlider(self):
        self.home()
        self.press(rng.choice([self.ui.undoButton, self.ui.redoButton]))

    def look(self):
        self.home()
        for combo in (self.ui.overlayComboBox, self.ui.windowComboBox, self.ui.resultComboBox):
            if combo.enabled and combo.count:
                combo.setCurrentIndex(rng.randrange(combo.count))

    def surface(self):
        self.home()
        self.press(self.ui.surfaceButton)

    def edit(self):
        self.home()
        self.press(self.ui.editButton)
        if slicer.util.selectedModule() == "SegmentEditor":
            self.editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
            self.effect()

    def effect(self):
        if slicer.util.selectedModule() == "SegmentEditor":
            names = ["StrokeLesion", "StrokeLesion", "LesionReview", "Paint", ""]
            self.editor.setActiveEffectByName(rng.choice(names))

    def ours(self, name):
        effect = self.editor.activeEffect() if self.editor is not None else None
        if slicer.util.selectedModule() != "SegmentEditor" or effect is None:
            return None
        return effect.self() if effect.name == name else None

    def click(self):
        """Left or right, still or a drag, in a slice view, by the view's own events."""
        if self.ours("StrokeLesion") is None:
            self.edit()
        if slicer.util.selectedModule() != "SegmentEditor":
            return
        view = slicer.app.layoutManager().sliceWidget(rng.choice(["Red", "Green", "Yellow"]))
        interactor = view.sliceView().interactor()
        width, height = interactor.GetSize()
        x, y = rng.randrange(max(1, width)), rng.randrange(max(1, height))
        side = rng.choice(["Left", "Right"])
        if self.ours("StrokeLesion") is None:
            side = "Left"  # the right button opens Slicer's menu, which waits for a choice
        interactor.SetEventInformation(x, y, 0, 0, "\0", 0, "")
        interactor.InvokeEvent(getattr(vtk.vtkCommand, f"{side}ButtonPressEvent"))
        if rng.random() < 0.4:
            for _ in range(5):
                x, y = x + rng.randint(-9, 9), y + rng.randint(-9, 9)
                interactor.SetEventInformation(x, y, 0, 0, "\0", 0, "")
                interactor.InvokeEvent(vtk.vtkCommand.MouseMoveEvent)
        interactor.InvokeEvent(getattr(vtk.vtkCommand, f"{side}ButtonReleaseEvent"))

    def waitForModel(self):
        effect = self.ours("StrokeLesion")
        if effect is not None:
            settle(RUN_S, lambda: effect.opening is None)

    def mode(self):
        effect = self.ours("StrokeLesion")
        if effect is not None:
            effect.onOtherMode()

    def review(self):
        effect = self.ours("LesionReview")
        if effect is None and slicer.util.selectedModule() == "SegmentEditor":
            self.editor.setActiveEffectByName("LesionReview")
            effect = self.ours("LesionReview")
        if effect is not None:
            calls = [effect.onNext, effect.onKeep, effect.onDrop, effect.onSplit, effect.onTakeBack]
            rng.choice(calls)()

    def undo(self):
        if slicer.util.selectedModule() == "SegmentEditor" and self.editor is not None:
            rng.choice([self.editor.undo, self.editor.redo])()

    def save(self):
        file = str(self.folder / f"{len(self.saved)}.mrb")
        if self.scans() and slicer.util.saveScene(file):
            self.saved = [*self.saved, file][-2:]

    def load(self):
        if self.saved:
            if rng.random() < 0.7:
                slicer.mrmlScene.Clear(0)
            slicer.util.loadScene(self.saved[-1])

    def close(self):
        slicer.mrmlScene.Clear(0)


WEIGHTS = {
    "choose": 6, "segment": 4, "segmentAndCancel": 2, "slide": 5, "tick": 3, "undoSlider": 3,
    "look": 3, "surface": 1, "edit": 4, "effect": 3, "click": 9, "waitForModel": 3, "mode": 3,
    "review": 4, "undo": 4, "save": 1, "load": 1, "close": 1,
}  # fmt: skip


def main():
    sys.excepthook = swallowed
    logging.getLogger().addHandler(Logged())
    slicer.util.selectModule("StrokeLesionSeg")
    settle(1.0)
    # A launcher may have begun with a virtual screen.
    at_start, older = resident_mb(), set(children())

    def engines():
        return [line for number, line in children().items() if number not in older]

    with tempfile.TemporaryDirectory() as folder:
        user = User(Path(folder))
        user.choose()
        settle(0.5)
        names = list(WEIGHTS)
        for number in range(1, COUNT + 1):
            name = rng.choices(names, [WEIGHTS[n] for n in names])[0]
            began, before = time.monotonic(), len(problems)
            try:
                getattr(user, name)()
                settle(rng.choice([0.0, 0.1, 0.5]))
            except Exception:
                problems.append(traceback.format_exc())
            seconds = time.monotonic() - began
            print(f"{number} {name} {seconds:.1f} s, {resident_mb():.0f} MB", flush=True)
            for problem in problems[before:]:
                print(problem, flush=True)
        user.panel.cancel()
        slicer.mrmlScene.Clear(0)
        slicer.util.selectModule("StrokeLesionSeg")
        settle(40.0, lambda: not engines())
    del user
    gc.collect()
    settle(1.0)
    left, more = engines(), resident_mb() - at_start
    print(f"{COUNT} actions of seed {SEED}: {more:+.0f} MB, {len(problems)} problems", flush=True)
    if left:
        problems.append(f"still running: {left}")
    if more > MORE_MB:
        problems.append(f"{more:.0f} MB more than at the start")
    for problem in problems:
        print(problem, flush=True)
    if not problems:
        print("all done", flush=True)
    slicer.util.exit(1 if problems else 0)


main()
