"""Pictures and figures of docs/editing.md: a wrong automatic mask put right by the effects.

    python Testing/slicer/make_editing_pictures.py [FOLDER] [--model NAME] [--seed N]

The real effects work offscreen on the simulated sample, over Slicer's own libraries. A made-up
reader, who knows the truth of the simulation, decides on candidates, clicks and paints, as the page
tells a user to. Writes pictures and ``editing.json`` (what was done, Dice after each step, seconds)
into FOLDER (default: docs/pictures). Needs EGL and Qt, as ``make_pictures.py`` does.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_pictures  # first: it chooses EGL and sets the path

ROOT = make_pictures.ROOT
sys.path.insert(0, str(ROOT / "Testing" / "gui"))

import headless_slicer  # noqa: E402
import numpy as np  # noqa: E402

NEAR_MM = 110.0
SECONDS_PER_ACTION = 2.0
START, END = "<!-- steps -->", "<!-- end of steps -->"
ORANGE, BLUE = (0.95, 0.45, 0.1), (0.2, 0.65, 1.0)


class Patches:
    """What a monkeypatch does, for a script."""

    def setattr(self, owner: Any, name: str, value: Any, raising: bool = True) -> None:
        setattr(owner, name, value)

    def setitem(self, mapping: Any, key: Any, value: Any) -> None:
        mapping[key] = value

    def delitem(self, mapping: Any, key: Any, raising: bool = True) -> None:
        mapping.pop(key, None)

    def syspath_prepend(self, path: str) -> None:
        sys.path.insert(0, path)


class Reader:
    """Knows the truth and acts as a user: keys, clicks and strokes, all counted."""

    def __init__(self, slicer: Any, package: Any, truth: np.ndarray, volume: Any) -> None:
        import editor_stand_in
        import effect_stand_in
        from StrokeLesionSegLib.slicerbridge.scene import results, terminology

        self.slicer, self.package, self.stand_in = slicer, package, effect_stand_in
        self.truth = truth
        segmentation = results.add_segmentation(volume)
        name = segmentation.GetSegmentation().AddEmptySegment("", "Stroke lesion")
        terminology.set_term(segmentation.GetSegmentation().GetSegment(name))
        self.editor = editor_stand_in.Editor(slicer, volume, segmentation)
        self.segment_id = name
        self.clicks = self.keys = 0
        self.spent = 0.0  # seconds of the effects, without the reader's thinking
        self.steps: list[dict[str, Any]] = []

    def effect(self, name: str) -> Any:
        """Choose an effect, as by its button; returns it with its options as a picture."""
        scripted = self.editor.effect()
        made = getattr(self.package, f"SegmentEditor{name}Effect")(scripted)
        options = self.stand_in.Options(scripted.title, "")
        options.form.removeRow(1)
        scripted.addOptionsWidget = options.addOptionsWidget
        scripted.addLabeledOptionsWidget = options.addLabeledOptionsWidget
        made.setupOptionsFrame()
        made.setMRMLDefaults()
        options.resize(400, options.sizeHint().height())
        options.show()
        made.options = options
        made.activate()
        made.updateGUIFromMRML()
        return made

    def voxels(self) -> np.ndarray:
        return self.editor.voxels(self.segment_id)

    def dice(self) -> float:
        mask = self.voxels()
        return float(2 * (mask & self.truth).sum() / max(1, mask.sum() + self.truth.sum()))

    def do(self, call: Callable[[], Any]) -> None:
        """Let an effect act, and count its time."""
        started = time.perf_counter()
        call()
        self.spent += time.perf_counter() - started

    def note(self, what: str) -> None:
        """Write down what was done and how good the segment is now."""
        self.steps.append(
            {
                "step": what,
                "clicks": self.clicks,
                "keys": self.keys,
                "seconds": round(self.spent, 2),
                "dice": round(self.dice(), 3),
                "ml": round(float(self.voxels().sum()) / 1000, 2),
            }
        )
        self.clicks = self.keys = 0
        self.spent = 0.0
        print(self.steps[-1], flush=True)

    def worst_error(self) -> tuple[tuple[int, ...], bool]:
        """The deepest voxel of the largest wrong piece, and whether it is missed lesion."""
        from scipy import ndimage

        best: tuple[float, tuple[int, ...], bool] = (0.0, (0, 0, 0), True)
        mask = self.voxels()
        for wrong, positive in ((self.truth & ~mask, True), (mask & ~self.truth, False)):
            depth = ndimage.distance_transform_edt(wrong)
            labels, _count = ndimage.label(depth > 1)
            if not labels.any():
                continue
            largest = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
            size = float(np.count_nonzero(labels == largest))
            if size > best[0]:
                where = np.unravel_index(
                    int(np.argmax(np.where(labels == largest, depth, 0))), depth.shape
                )
                best = (size, tuple(int(n) for n in where), positive)
        return best[1], best[2]


def markers(entry: Any) -> Any:
    """Draws the clicks as the markups would look."""
    import vtk
    from StrokeLesionSegLib.slicerbridge.editor import views as edit_views

    def draw(renderer: Any, node: Any) -> None:
        for click in entry.session.clicks:
            x, y, off = edit_views.world_to_xy(node, entry.edit_grid.to_world(click.ras_mm))
            if abs(off) > 1.0:
                continue
            text = vtk.vtkTextActor()
            text.SetInput("o" if click.positive else "x")
            text.GetTextProperty().SetColor(*(ORANGE if click.positive else BLUE))
            text.GetTextProperty().SetFontSize(30)
            text.GetTextProperty().BoldOn()
            text.GetTextProperty().SetJustificationToCentered()
            text.GetTextProperty().SetVerticalJustificationToCentered()
            text.SetPosition(float(x), float(y))
            renderer.AddViewProp(text)

    return draw


def overlay_of(effect: Any, circle: tuple[Any, float] | None = None) -> Any:
    """Draws an effect's overlay, and the brush at (world, radius in mm)."""
    from StrokeLesionSegLib.slicerbridge.editor import views as edit_views

    kept: list[Any] = []

    def draw(renderer: Any, node: Any) -> None:
        drawn = edit_views.OverlayActor(effect.actors.overlay)
        drawn.follow(node)
        renderer.AddViewProp(drawn.actor)
        kept.append(drawn)
        if circle is not None:
            brush = edit_views.CircleActor()
            brush.show(edit_views.brush_circle(node, circle[0], circle[1], False, True), (1, 1, 0))
            renderer.AddViewProp(brush.actor)
            kept.append(brush)

    return draw


def save(folder: Path, name: str, pictures: list[np.ndarray]) -> None:
    from PIL import Image

    Image.fromarray(np.hstack(pictures)).save(folder / f"editing-{name}.png", optimize=True)


def table(result: dict[str, Any]) -> str:
    """The steps as a table of the page, with sums and the time that a person needs."""
    lines = ["| step | clicks | keys | computer | Dice |", "|---|---|---|---|---|"]
    for step in result["steps"]:
        lines.append(
            f"| {step['step']} | {step['clicks']} | {step['keys']} | {step['seconds']:.1f} s "
            f"| {step['dice']:.2f} |"
        )
    clicks, keys, seconds = (
        sum(step[name] for step in result["steps"]) for name in ("clicks", "keys", "seconds")
    )
    hand = SECONDS_PER_ACTION * (clicks + keys)
    lines += [
        "",
        f"Together {clicks} clicks and {keys} keys. At {SECONDS_PER_ACTION:g} seconds for each, "
        f"looking included, that is {hand:.0f} seconds of work; the computer needed "
        f"{seconds:.0f} seconds on a processor. The simulated lesions have "
        f"{result['lesion_ml']:.1f} mL.",
    ]
    return "\n".join(lines)


def write_table(result: dict[str, Any]) -> None:
    """Put the table into docs/editing.md, between its marks."""
    page = ROOT / "docs" / "editing.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(START, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{START}\n{table(result)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--model", default="")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = arguments.folder
    slicer = headless_slicer.start(tempfile.mkdtemp())
    import editor_stand_in
    import effect_stand_in
    from StrokeLesionSegLib.sample_scan import stroke_in_head
    from StrokeLesionSegLib.slicerbridge.editor import views as edit_views
    from StrokeLesionSegLib.slicerbridge.module import sample

    package = effect_stand_in.install(slicer, Patches())
    volume = sample.add_sample(arguments.seed)
    layout = editor_stand_in.LayoutManager(slicer)
    slicer.app.layoutManager = lambda: layout
    slicer.util.mainWindow = lambda: None
    truth = stroke_in_head(arguments.seed).truth.array != 0
    reader = Reader(slicer, package, truth, volume)
    views = make_pictures.Views(slicer)
    orientations = make_pictures.ORIENTATIONS

    # 1. The automatic mask: Stroke Lesion, Apply.
    fill = reader.effect("StrokeLesion")
    started = time.perf_counter()
    entry = fill.store.open(fill.scriptedEffect, arguments.model)
    print(f"opened in {time.perf_counter() - started:.1f} s", flush=True)
    while entry.session.work(500.0) is not None:
        pass
    fill.refresh()
    fill.updateGUIFromMRML()  # as the editor does when a parameter changes
    fill.updatePreview()
    fill.options.adjustSize()
    print(f"the volume is known after {time.perf_counter() - started:.1f} s", flush=True)
    fill.options.grab().save(str(folder / "editing-panel-fill.png"))
    reader.clicks += 2  # effect, Apply
    reader.do(fill.onApply)
    fill.deactivate()
    fill.options.close()
    reader.note("Stroke Lesion: Apply")

    def local(index: tuple[int, ...]) -> tuple[float, float, float]:
        x, y, z = entry.edit_grid.index_to_local(index)
        return float(x), float(y), float(z)

    middle = local(tuple(int(n) for n in np.argwhere(truth).mean(0)))
    save(folder, "1-automatic", [views.slice(o, middle, volume) for o in orientations])

    # 2. Review: every candidate once.
    review = reader.effect("LesionReview")
    reader.clicks += 1
    reader.do(review.onNext)
    reader.keys += 1
    shown = False
    for _turn in range(20):
        candidate = review.candidate()
        if candidate is None or candidate.state != "open":
            break
        box, mask = entry.session.candidate_mask(candidate.id)
        lesion = truth[box][mask != 0].mean() > 0.5
        if not shown and (not lesion or len(review.reviewer.candidates) == 1):
            shown = True
            review.options.grab().save(str(folder / "editing-panel-review.png"))
            point = candidate.voxel_ras_mm
            pictures = [views.slice(o, point, volume, overlay_of(review)) for o in orientations]
            save(folder, "2-review", pictures)
        reader.do(review.onAccept if lesion else review.onReject)
        reader.keys += 1
    review.deactivate()
    review.options.close()
    reader.note("Lesion Review: decide")

    # 3. Clicks where the mask is most wrong.
    clicks = reader.effect("LesionClicks")
    reader.clicks += 1
    for number in range(4):
        index, positive = reader.worst_error()
        if reader.dice() > 0.95:
            break
        place = local(index)
        if number == 0:
            before = [views.slice("Axial", place, volume, width_mm=NEAR_MM)]
        widget = layout.sliceWidget("Red")
        widget.node.JumpSliceByOffsetting(*place)
        x, y, _off = edit_views.world_to_xy(widget.node, place)
        reader.do(functools.partial(clicks.onClick, widget, (x, y), positive))
        reader.clicks += 1
        if number == 0:
            now = [views.slice("Axial", place, volume, markers(entry), NEAR_MM)]
        while clicks.work is not None and clicks.work.working:
            reader.do(clicks.onStep)
        if number == 0:
            through = [views.slice("Coronal", place, volume, markers(entry), NEAR_MM)]
            save(folder, "3-clicks", before + now + through)
    clicks.showClicks()
    clicks.options.grab().save(str(folder / "editing-panel-clicks.png"))
    clicks.deactivate()
    clicks.options.close()
    reader.note("Lesion Clicks: correct")

    # 4. The brush along what is still missing or too much.
    brush = reader.effect("LesionBrush")
    reader.clicks += 1
    brush.onRelative(False)
    brush.scriptedEffect.setCommonParameter("BrushAbsoluteDiameter", 16.0)
    brush.scriptedEffect.setCommonParameter("BrushSphere", 1)
    for number in range(3):
        index, positive = reader.worst_error()
        if reader.dice() > 0.95:
            break
        place = local(index)
        widget = layout.sliceWidget("Red")
        widget.node.JumpSliceByOffsetting(*place)
        x, y, _off = edit_views.world_to_xy(widget.node, place)
        brush._mouse = (widget, (x, y))
        before_dice = reader.dice()
        reader.do(functools.partial(brush.beginStroke, not positive))
        if number == 0:
            drawn = overlay_of(brush, (place, 8.0))
            save(folder, "4-brush", [views.slice("Axial", place, volume, drawn, NEAR_MM)])
            brush.options.grab().save(str(folder / "editing-panel-brush.png"))
        reader.do(brush.endStroke)
        reader.clicks += 1
        if reader.dice() < before_dice:
            reader.editor.undo()
            reader.keys += 1
            break
    brush.deactivate()
    brush.options.close()
    reader.note("Lesion Brush: touch up")
    save(folder, "5-right", [views.slice(o, middle, volume) for o in orientations])
    result = {"seed": arguments.seed, "lesion_ml": float(truth.sum()) / 1000, "steps": reader.steps}
    text = json.dumps(result, indent=2) + "\n"
    (folder / "editing.json").write_text(text, encoding="utf-8")
    if folder == ROOT / "docs" / "pictures":
        write_table(result)
    print(f"pictures in {folder}")


if __name__ == "__main__":
    main()
