"""The Segment Editor effects offscreen: their options, view events, timers and shortcuts.

A smoke test on PySide6 with stand-ins for Slicer's widgets (see ``effect_stand_in``), over Slicer's
real editor logic and MRML. Pictures go to ``STROKE_LESION_SEG_PICTURES`` if it is set.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PRESS, RELEASE, MOVE = "LeftButtonPressEvent", "LeftButtonReleaseEvent", "MouseMoveEvent"
DOUBLE = "LeftButtonDoubleClickEvent"


class Desk:
    """A Segment Editor with one of our effects in it, its options shown in a window."""

    def __init__(self, slicer: Any, package: Any, name: str, volume: Any) -> None:
        import editor_stand_in
        import effect_stand_in
        import vtk

        self.slicer, self.vtk, self.stand_in = slicer, vtk, effect_stand_in
        self.app = self.stand_in.application()
        self.editor = editor_stand_in.Editor(slicer, volume)
        self.layout = slicer.app.layoutManager()
        self.scripted = self.editor.effect()
        kind = getattr(package, f"SegmentEditor{name}Effect")
        self.effect = kind(self.scripted)
        self.options = effect_stand_in.Options(self.scripted.title, self.effect.helpText())
        self.scripted.addOptionsWidget = self.options.addOptionsWidget
        self.scripted.addLabeledOptionsWidget = self.options.addLabeledOptionsWidget
        self.effect.setupOptionsFrame()
        self.effect.setMRMLDefaults()
        node = self.editor.node
        node.AddObserver(node.EffectParameterModified, lambda *_: self.effect.updateGUIFromMRML())
        self.options.resize(420, 700)
        self.options.show()

    def activate(self) -> None:
        self.effect.activate()
        self.effect.updateGUIFromMRML()

    def prepare(self, session: Any) -> Any:
        """Give the effect a session with known answers."""
        from StrokeLesionSegLib.slicerbridge.editor import (
            store as edit_store,
        )
        from StrokeLesionSegLib.slicerbridge.editor import (
            target as edit_target,
        )

        image = self.scripted.sourceVolumeImageData()
        grid = edit_target.EditGrid.from_image(image, self.editor.segmentation)
        entry = edit_store.Entry(
            session, grid, edit_store._key(self.editor.node), self.editor.volume.GetID()
        )
        self.effect.store._entries = [entry]
        return entry

    def settle(self, seconds: float = 0.1) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.002)

    def until(self, done: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "it did not happen in time"
            self.app.processEvents()
            time.sleep(0.002)

    def click(self, button: Any) -> None:
        raw = self.stand_in.raw(button)
        assert raw.isEnabled(), f"disabled: {raw.toolTip()}"
        raw.click()

    def text(self) -> str:
        return str(self.stand_in.raw(self.effect.statusLabel).text())

    def xy_of(self, view: str, index: tuple[int, int, int]) -> tuple[int, int]:
        """The pixel at which a view shows the voxel (k, j, i); the view jumps there."""
        from StrokeLesionSegLib.slicerbridge.editor import views as edit_views

        grid = self.effect.entry.edit_grid
        world = grid.to_world(grid.index_to_local(index))
        node = self.layout.sliceWidget(view).node
        node.JumpSliceByOffsetting(*world)
        x, y, _off = edit_views.world_to_xy(node, world)
        return round(float(x)), round(float(y))

    def event(
        self, name: str, view: str = "Red", xy: tuple[int, int] = (0, 0), **keys: Any
    ) -> bool:
        """Hand a view event to the effect, through a real interactor."""
        interactor = self.vtk.vtkGenericRenderWindowInteractor()
        interactor.SetEventInformation(
            *xy,
            int(keys.get("control", 0)),
            int(keys.get("shift", 0)),
            "\0",
            0,
            keys.get("key", "None"),
        )
        interactor.SetAltKey(int(keys.get("alt", 0)))
        widget = self.layout.sliceWidget(view)
        event = getattr(self.vtk.vtkCommand, name)
        return bool(self.effect.processInteractionEvents(interactor, event, widget))

    def picture(self, name: str) -> None:
        folder = os.environ.get("STROKE_LESION_SEG_PICTURES")
        self.settle(0.05)
        if folder:
            self.options.grab().save(str(Path(folder) / f"effect-{name}.png"))


@pytest.fixture
def desk(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Desk]]:
    import bridge_scenes
    import editor_stand_in
    import effect_stand_in

    package = effect_stand_in.install(slicer, monkeypatch)
    layout = editor_stand_in.LayoutManager(slicer)
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: layout)
    window = effect_stand_in.Thing(effect_stand_in.QtWidgets.QMainWindow())
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: window, raising=False)
    swallowed: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: swallowed.append(error))
    made: list[Desk] = []

    def make(name: str, affine: Any = None) -> Desk:
        volume = bridge_scenes.head_node(slicer, affine)
        made.append(Desk(slicer, package, name, volume))
        made[-1].window = window
        return made[-1]

    yield make
    for one in made:
        one.effect.deactivate()  # Slicer 5.8 calls nothing else
        assert not any(timer.isActive() for timer, _call in one.effect._timers)
        assert one.scripted.actors == []
        one.effect.store.forget()
        one.options.close()
    app = effect_stand_in.application()
    assert app.overrideCursor() is None, "a wait cursor was left"
    assert not swallowed, repr(swallowed)


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(2).random((20, 24, 28)).astype(np.float32)


def blobs(one: Desk, unknown: int = 0) -> Any:
    import bridge_scenes
    import map_session

    return map_session.MapSession(bridge_scenes.blob_volume(one.editor.volume), unknown)


NAMES = ("StrokeLesion", "LesionBrush", "LesionClicks", "LesionReview")


@pytest.mark.parametrize("name", NAMES)
def test_options_say_what_to_do_in_every_state(desk: Any, name: str) -> None:
    one = desk(name)
    one.activate()
    assert "no lesion probability" in one.text() or "No model" in one.text()
    assert one.stand_in.raw(one.effect.readyButton).isVisible()
    one.picture(f"{name}-1-offer")
    entry = one.prepare(blobs(one))
    one.until(lambda: one.effect.entry is entry)
    one.settle(0.3)
    assert "is known" in one.text()
    assert not one.stand_in.raw(one.effect.readyButton).isVisible()
    assert one.effect.problem == ""
    one.picture(f"{name}-2-ready")


def ready(desk: Any, name: str, affine: Any = None, unknown: int = 0) -> Desk:
    one: Desk = desk(name, affine)
    one.activate()
    entry = one.prepare(blobs(one, unknown))
    one.effect.refresh()
    assert one.effect.entry is entry
    return one


def probability(one: Desk) -> np.ndarray:
    import bridge_scenes

    return np.asarray(bridge_scenes.blob_volume(one.editor.volume).array)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_behind_after_the_effect(desk: Any, name: str) -> None:
    one = ready(desk, name, unknown=3)
    one.settle(0.3)
    effect = one.effect
    assert [s for s, _call in effect._shortcuts] or name in ("StrokeLesion", "LesionBrush")
    effect.deactivate()
    one.settle(0.05)
    assert one.scripted.actors == []
    assert not any(timer.isActive() for timer, _call in effect._timers)
    assert effect._shortcuts == []
    window = one.stand_in.raw(one.window)
    shortcuts = window.findChildren(type(window).__mro__[0].__base__)
    assert not [s for s in shortcuts if type(s).__name__ == "QShortcut"]
    # And again: an effect is chosen many times.
    one.activate()
    one.settle(0.05)
    effect.deactivate()
    assert one.scripted.actors == []


def test_the_preview_shows_what_apply_does(desk: Any) -> None:
    one = ready(desk, "StrokeLesion")
    one.stand_in.raw(one.effect.thresholdSlider).setValue(0.4)
    one.settle(0.1)
    assert one.scripted.doubleParameter("Threshold") == pytest.approx(0.4)
    wanted = probability(one) >= 0.4
    np.testing.assert_array_equal(one.effect.actors.overlay.labels != 0, wanted)
    assert f"{wanted.sum()} voxels" in one.stand_in.raw(one.effect.foundLabel).text()
    assert not one.editor.voxels("one").any()
    assert len(one.scripted.actors) == 3
    one.picture("StrokeLesion-3-preview")
    one.click(one.effect.applyButton)
    np.testing.assert_array_equal(one.editor.voxels("one"), wanted)
    assert one.scripted.selected == [""]
    one.editor.undo()
    assert not one.editor.voxels("one").any()


def test_it_begins_as_an_automatic_run_ends(desk: Any) -> None:
    """The model's own bound, what a lesion must reach, and smallest volume; then the user's."""
    from scipy import ndimage

    one: Desk = desk("StrokeLesion")
    one.activate()
    labels, count = ndimage.label(probability(one) >= 0.3)
    assert count == 2
    peaks = [float(probability(one)[labels == n].max()) for n in (1, 2)]
    session = blobs(one)
    session.threshold, session.sure, session.min_volume_ml = 0.3, sum(peaks) / 2, 0.25
    one.prepare(session)
    one.effect.refresh()
    one.effect.updateGUIFromMRML()  # as the editor does when a parameter changes
    one.settle(0.1)
    raw = one.stand_in.raw
    sliders = (one.effect.thresholdSlider, one.effect.sureSlider, one.effect.smallestSlider)
    expected = (0.3, round(session.sure, 2), 0.25)
    assert [raw(slider).value for slider in sliders] == pytest.approx(expected, abs=0.006)
    surest = labels == 1 + int(np.argmax(peaks))
    np.testing.assert_array_equal(one.effect.actors.overlay.labels != 0, surest)
    raw(one.effect.sureSlider).setValue(0.05)
    one.settle(0.1)
    np.testing.assert_array_equal(one.effect.actors.overlay.labels != 0, labels > 0)
    # What was not moved is the next model's own.
    other = blobs(one)
    other.threshold, other.sure, other.min_volume_ml = 0.4, 0.7, 0.5
    one.prepare(other)
    one.effect.refresh()
    assert [raw(slider).value for slider in sliders] == pytest.approx((0.4, 0.05, 0.5))


@pytest.mark.parametrize("name", NAMES)
def test_sliders_keep_the_models_values_until_they_are_moved(desk: Any, name: str) -> None:
    one: Desk = desk(name)
    one.activate()
    effect, raw = one.effect, one.stand_in.raw
    # Whatever else is set before a session is there leaves the threshold alone.
    effect.updateMRMLFromGUI()
    if name == "LesionReview":
        raw(effect.smallestSlider).setValue(0.3)
    session = blobs(one)
    session.threshold = 0.1
    one.prepare(session)
    effect.refresh()
    assert raw(effect.thresholdSlider).value == pytest.approx(0.1)
    assert effect.threshold() == pytest.approx(0.1)
    if name == "LesionReview":
        assert one.scripted.doubleParameter("SmallestMl") == pytest.approx(0.3)
        assert raw(effect.smallestSlider).value == pytest.approx(0.3)
    raw(effect.thresholdSlider).setValue(0.6)
    assert effect.threshold() == pytest.approx(0.6)


def test_the_segment_is_hidden_under_every_preview(desk: Any) -> None:
    one = ready(desk, "StrokeLesion")
    managers = [w.manager for w in one.layout.widgets.values()]
    display = one.editor.segmentation.GetDisplayNode().GetID()
    for _ in range(2):
        one.until(lambda: all([*m.hidden.values()] == [(display, "one")] for m in managers))
        one.effect.deactivate()
        assert not any(m.hidden for m in managers)
        one.activate()
    one.editor.select("two")
    one.until(lambda: all([*m.hidden.values()] == [(display, "two")] for m in managers))
    # What Apply leaves alone stays in the views.
    mode, region = one.effect.modeBox, one.effect.regionBox
    for box, value in ((mode, "add"), (region, "slice"), (region, "slab"), (region, "roi")):
        choose(one, box, value)
        one.until(lambda: not any(m.hidden for m in managers), 2)
        choose(one, mode, "replace")
        choose(one, region, "whole")
        one.until(lambda: all([*m.hidden.values()] == [(display, "two")] for m in managers), 2)


def choose(one: Desk, box: Any, value: str) -> None:
    combo = one.stand_in.raw(box)
    combo.setCurrentIndex(combo.findData(value))
    combo.activated.emit(combo.currentIndex())


@pytest.mark.parametrize("kind", ["slice", "slab", "roi"])
def test_apply_in_a_region(desk: Any, kind: str) -> None:
    one = ready(desk, "StrokeLesion")
    one.event(MOVE, "Red")
    one.xy_of("Red", (9, 9, 8))
    combo = one.stand_in.raw(one.effect.regionBox)
    combo.setCurrentIndex(combo.findData(kind))
    combo.activated.emit(combo.currentIndex())
    inside = np.zeros(probability(one).shape, bool)
    if kind == "slice":
        inside[9] = True
    elif kind == "slab":
        one.effect.slabSlider.setValue(3.0)
        inside[8:11] = True
    else:
        roi = one.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "ROI")
        roi.SetCenter([8.0, 9.0, 9.0])
        roi.SetSize([6.2, 8.2, 4.2])
        one.effect.roiSelector.setCurrentNode(roi)
        inside[7:12, 5:14, 5:12] = True
    drawn = np.zeros(inside.shape, bool)
    drawn[2:18, 2:5, 3:25] = True
    one.editor.put("one", drawn)
    one.settle(0.1)
    wanted = np.where(inside, probability(one) >= 0.5, drawn)
    one.picture(f"StrokeLesion-4-{kind}")
    one.click(one.effect.applyButton)
    np.testing.assert_array_equal(one.editor.voxels("one"), wanted)


def test_apply_waits_for_the_background_and_remembers_its_segment(desk: Any) -> None:
    one = ready(desk, "StrokeLesion", unknown=20)
    one.effect.workTimer.stop()
    one.effect.onApply()
    assert one.scripted.selected == []
    assert not one.stand_in.raw(one.effect.applyButton).isEnabled()
    assert "when ready" in one.stand_in.raw(one.effect.applyButton).text()
    one.picture("StrokeLesion-5-waiting")
    one.editor.select("two")
    one.until(lambda: bool(one.scripted.selected))
    np.testing.assert_array_equal(one.editor.voxels("one"), probability(one) >= 0.5)
    assert not one.editor.voxels("two").any()
    from StrokeLesionSegLib.slicerbridge.scene import results

    one.until(lambda: results.maps_of(one.editor.segmentation)[0] is not None)


def test_a_background_that_fails_is_told_and_nothing_waits(
    desk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = ready(desk, "StrokeLesion", unknown=20)
    one.effect.workTimer.stop()
    one.effect.onApply()

    def fail(*_args: Any) -> None:
        raise RuntimeError("out of memory")

    one.effect.entry.session.work = fail
    with caplog.at_level("ERROR"):
        one.effect._onWork()
    assert "A defect of StrokeLesionSeg" in one.text()
    assert "out of memory" in one.text()
    assert "Traceback" in caplog.text
    assert "Nothing was applied" in one.text()
    assert one.stand_in.raw(one.effect.applyButton).isEnabled()
    assert not one.editor.voxels("one").any()


def test_a_new_roi_has_a_size_and_the_preview_follows_it(desk: Any) -> None:
    one = ready(desk, "StrokeLesion")
    one.xy_of("Red", (9, 9, 8))
    combo = one.stand_in.raw(one.effect.regionBox)
    combo.setCurrentIndex(combo.findData("roi"))
    combo.activated.emit(combo.currentIndex())
    roi = one.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "ROI")
    roi.SetSize([0, 0, 0])
    one.stand_in.raw(one.effect.roiSelector).nodeAddedByUser.emit(roi)
    assert min(roi.GetSize()) > 3
    one.effect.roiSelector.setCurrentNode(roi)
    one.settle(0.05)
    shown = []
    for centre in ([8.0, 9.0, 9.0], [9.0, 9.0, 10.0]):
        roi.SetCenter(centre)
        one.settle(0.05)
        shown.append(one.effect.actors.overlay.labels.copy())
    assert shown[0].any()
    assert (shown[0] != shown[1]).any(), "the preview did not follow"
    one.effect.deactivate()
    assert not roi.HasObserver("ModifiedEvent") or not one.effect._observed["roi"][1]


def test_the_overlay_follows_a_moved_segmentation(desk: Any) -> None:
    one = ready(desk, "LesionBrush")
    transform = one.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "both")
    for node in (one.editor.volume, one.editor.segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    one.effect.refresh()
    assert one.effect.entry is not None
    drawn = one.effect.actors._overlays[one.layout.sliceWidget("Red")]
    before = drawn.reslice.GetResliceTransform().TransformPoint(5, 5, 0)
    matrix = one.vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 7)
    transform.SetMatrixTransformToParent(matrix)
    after = drawn.reslice.GetResliceTransform().TransformPoint(5, 5, 0)
    assert abs(abs(after[0] - before[0]) - 7) < 1e-6


def test_a_hidden_segments_clicks_are_not_taken_back_unasked(desk: Any) -> None:
    one = ready(desk, "LesionClicks")
    one.event(PRESS, "Red", one.xy_of("Red", (3, 20, 24)))
    one.until(lambda: one.effect.entry.work is None)
    voxels, saves = one.editor.voxels("one"), one.scripted.saves
    one.scripted.answer = one.scripted.NotConfirmed
    one.effect.onRemoveLast()
    one.effect.onClear()
    one.effect.onPointMoved(1, (5.0, 5.0, 5.0))
    one.settle(0.1)
    assert one.scripted.saves == saves
    assert len(one.effect.entry.session.clicks) == 1
    np.testing.assert_array_equal(one.editor.voxels("one"), voxels)


def test_scrolling_predicts_when_it_pauses(desk: Any) -> None:
    one = ready(desk, "StrokeLesion", unknown=20)
    one.effect.workTimer.stop()
    session = one.effect.entry.session
    seen = len(session.visible)
    widget = one.layout.sliceWidget("Red")
    for index in (3, 4, 5, 6):
        one.xy_of("Red", (index, 9, 8))
        one.effect.processViewNodeEvents(widget.node, 0, widget)
        assert len(session.visible) == seen, "scrolling waited for the network"
    one.effect.workTimer.stop()
    one.until(lambda: (0, 6) in session.visible)


def test_a_stroke_by_view_events(desk: Any) -> None:
    one = ready(desk, "LesionBrush")
    one.effect.onRelative(False)
    one.effect.diameterSlider.setValue(6.0)
    start, end = one.xy_of("Red", (9, 9, 5)), one.xy_of("Red", (9, 9, 12))
    assert not one.event(MOVE, "Red", start)
    circle = one.effect.actors._circles[one.layout.sliceWidget("Red")]
    assert circle.actor.GetVisibility()
    assert circle.source.GetRadius() == pytest.approx(3.0 * 200 / 60)
    assert one.event(PRESS, "Red", start)
    one.event(MOVE, "Red", end)
    overlay = one.effect.actors.overlay.labels != 0
    assert overlay.any()
    assert not one.editor.voxels("one").any(), "the segment changes when the button goes up"
    assert one.event(RELEASE, "Red", end)
    painted = one.editor.voxels("one")
    assert {int(k) for k in np.nonzero(painted)[0]} == {9}
    assert painted.sum() >= overlay.sum() > 10
    assert not (painted & (probability(one) < 0.5)).any()
    assert painted[9, 9, 5:13].all()
    assert not (one.effect.actors.overlay.labels != 0).any()
    assert one.scripted.saves == 1
    # The other mode, by either key; plain keys of Slicer are left alone.
    faint = np.ones(painted.shape, bool)
    one.editor.put("one", faint)
    for keys in ({"alt": 1}, {"control": 1, "shift": 1}):
        one.editor.put("one", faint)
        assert one.event(PRESS, "Red", end, **keys)
        one.event(RELEASE, "Red", end, **keys)
        erased = faint & ~one.editor.voxels("one")
        assert not (erased & (probability(one) >= 0.5)).any()
    for keys in ({"shift": 1}, {"control": 1}, {"alt": 1, "control": 1}, {"alt": 1, "shift": 1}):
        assert not one.event(PRESS, "Red", end, **keys), f"{keys} belongs to Slicer"
    assert one.effect.stroke is None
    # A quick second press comes as a double click: it paints as well, and maximizes no view.
    one.editor.put("one", np.zeros(painted.shape, bool))
    assert one.event(DOUBLE, "Red", start)
    one.event(MOVE, "Red", end)
    assert one.event(RELEASE, "Red", end)
    np.testing.assert_array_equal(one.editor.voxels("one"), painted)
    assert one.event(DOUBLE, "Red", end, shift=1), "no maximizing while painting"
    assert one.effect.stroke is None


def test_the_brush_erases_where_the_model_finds_none(desk: Any) -> None:
    one = ready(desk, "LesionBrush")
    one.effect.onRelative(False)
    one.effect.diameterSlider.setValue(10.0)
    everything = np.ones(probability(one).shape, bool)
    one.editor.put("one", everything)
    one.click(one.effect.eraseButton)
    one.click(one.effect.sphereCheck)
    xy = one.xy_of("Red", (9, 14, 8))
    one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    from StrokeLesionSegLib.slicerbridge.editor import views as edit_views

    # The grid of this scene is RAS at 1 mm from 0: indices are places.
    x, y, z = edit_views.xy_to_world(one.layout.sliceWidget("Red").node, xy)
    k, j, i = np.ogrid[:20, :24, :28]
    ball = (k - z) ** 2 + (j - y) ** 2 + (i - x) ** 2 <= 25
    np.testing.assert_array_equal(
        everything & ~one.editor.voxels("one"), ball & (probability(one) < 0.5)
    )
    one.picture("LesionBrush-3-erase")


def test_size_of_the_brush(desk: Any) -> None:
    one = ready(desk, "LesionBrush")
    one.effect.onRelative(False)
    one.scripted.setCommonParameter("BrushAbsoluteDiameter", 10.0)
    assert one.event("MouseWheelForwardEvent", shift=1)
    assert one.scripted.doubleParameter("BrushAbsoluteDiameter") == pytest.approx(12.0)
    assert not one.event("MouseWheelForwardEvent")
    assert one.event("MouseWheelBackwardEvent", shift=1)
    assert one.event("KeyPressEvent", key="plus")
    assert one.event("KeyPressEvent", key="minus")
    assert not one.event("KeyPressEvent", key="a")
    size = one.scripted.doubleParameter("BrushAbsoluteDiameter")
    assert size == pytest.approx(10 * 1.2 * 0.8 * 1.2 * 0.8, rel=1e-3)
    # As Paint does it: a share of the screen's height, in the view's millimetres.
    one.effect.onRelative(True)
    one.scripted.setCommonParameter("BrushRelativeDiameter", 3.0)
    one.event(MOVE, "Red", (100, 100))
    assert one.effect.diameter() == pytest.approx(0.03 * 1000 * 60 / 200)


def test_clicks_by_view_events(desk: Any) -> None:
    one = ready(desk, "LesionClicks")
    xy = one.xy_of("Red", (3, 20, 24))
    assert one.event(PRESS, "Red", xy)
    assert one.event(RELEASE, "Red", xy)
    session = one.effect.entry.session
    assert [(c.positive, c.axis) for c in session.clicks] == [(True, 0)]
    one.until(lambda: not one.effect.work.working)
    lesion = one.editor.voxels("one")
    assert lesion[3, 20, 24]
    assert one.stand_in.raw(one.effect.table).rowCount() == 1
    # The point is there: a press on it is left to Markups, which drags it.
    assert not one.event(PRESS, "Red", xy)
    other = one.xy_of("Green", (9, 9, 8))
    one.editor.put("one", np.ones(lesion.shape, bool))
    assert one.event(PRESS, "Green", other, alt=1)
    one.until(lambda: not one.effect.work.working)
    assert [(c.positive, c.axis) for c in session.clicks] == [(True, 0), (False, 1)]
    assert not one.editor.voxels("one")[9, 9, 8]
    one.picture("LesionClicks-3-two")
    # Slicer's undo takes voxels and point; the list follows by itself.
    one.editor.undo()
    one.until(lambda: len(session.clicks) == 1)
    one.settle(0.3)
    assert one.stand_in.raw(one.effect.table).rowCount() == 1
    markups = one.slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert sum(m.GetNumberOfControlPoints() for m in markups) == 1
    # Dragged by the user.
    node = next(m for m in markups if m.GetNumberOfControlPoints())
    node.SetNthControlPointPosition(0, 22.0, 19.0, 4.0)
    node.InvokeEvent(node.PointEndInteractionEvent)
    one.until(lambda: session.clicks[0].ras_mm == (22.0, 19.0, 4.0))
    one.until(lambda: not one.effect.work.working)
    one.effect.onRemoveLast()
    one.until(lambda: not one.effect.work.working)
    assert session.clicks == ()
    assert not one.event(PRESS, "Red", xy, shift=1)
    assert one.event(DOUBLE, "Red", xy, shift=1)
    assert session.clicks == ()


def test_clicks_in_the_next_slice_and_quick_ones(desk: Any) -> None:
    one = ready(desk, "LesionClicks")
    session = one.effect.entry.session
    for count, index in enumerate((3, 4, 6), 1):
        xy = one.xy_of("Red", (index, 20, 24))
        assert one.event(PRESS, "Red", xy), f"slice {index}"
        assert one.event(RELEASE, "Red", xy)
        assert len(session.clicks) == count
    # Two presses in one place are one click; in another place they are two.
    assert one.event(DOUBLE, "Red", xy)
    assert len(session.clicks) == 3
    assert not one.event(RELEASE, "Red", xy)
    other = (xy[0] + 40, xy[1])
    assert one.event(DOUBLE, "Red", other)
    assert one.event(RELEASE, "Red", other)
    assert len(session.clicks) == 4
    # A list of points that is locked takes no clicks.
    (node,) = one.slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    node.SetLocked(True)
    assert one.event(PRESS, "Red", xy)
    assert one.event(RELEASE, "Red", xy)
    assert len(session.clicks) == 5


def test_points_move_with_the_segmentation(desk: Any) -> None:
    one = ready(desk, "LesionClicks")
    xy = one.xy_of("Red", (3, 20, 24))
    one.event(PRESS, "Red", xy)
    transform = one.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "later")
    (node,) = one.slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    one.editor.volume.SetAndObserveTransformNodeID(transform.GetID())
    one.editor.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    assert node.GetTransformNodeID() == transform.GetID()


@pytest.mark.parametrize("then", ["select", "click", "leave", "leave for good"])
def test_a_click_is_worked_out_whatever_is_chosen_next(desk: Any, then: str) -> None:
    """Another segment, a click in it at once, no effect at all: nothing stays half corrected."""
    one = ready(desk, "LesionClicks")
    effect, session = one.effect, one.effect.entry.session
    xy = one.xy_of("Red", (3, 20, 24))
    one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    place = session.clicks[0].ras_mm
    assert effect.entry.work is not None
    if then.startswith("leave"):
        effect.deactivate()
    else:
        one.editor.select("two")
    if then == "click":
        other = one.xy_of("Red", (15, 4, 4))
        one.event(PRESS, "Red", other)
    if not then.startswith("leave"):
        one.settle(0.1)
        one.until(lambda: effect.entry.work is None)
        # Then the list and the points are those of the segment that is chosen now.
        one.until(lambda: len(session.clicks) == (then == "click"))
        assert one.stand_in.raw(effect.table).rowCount() == len(session.clicks)
    k, j, i = np.indices(probability(one).shape)
    near = (i - place[0]) ** 2 + (j - place[1]) ** 2 + (k - place[2]) ** 2 <= 25
    np.testing.assert_array_equal(one.editor.voxels("one")[near], True)
    assert one.editor.voxels("two").any() == (then == "click")
    assert not one.editor.voxels("two")[near].any()


def test_points_are_hidden_while_another_effect_works(desk: Any) -> None:
    one = ready(desk, "LesionClicks")
    xy = one.xy_of("Red", (3, 20, 24))
    one.event(PRESS, "Red", xy)
    node = one.slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")[0]
    assert node.GetDisplayNode().GetVisibility()
    one.effect.deactivate()
    assert not node.GetDisplayNode().GetVisibility()
    one.activate()
    assert node.GetDisplayNode().GetVisibility()


def test_review_from_the_keyboard(desk: Any) -> None:
    one = ready(desk, "LesionReview")
    effect = one.effect
    one.settle(0.05)
    one.editor.put("one", probability(one) >= 0.5)
    keys = {one.stand_in.raw(s).key().toString().lower(): s for s, _call in effect._shortcuts}
    assert sorted(keys) == ["a", "k", "n", "p", "s", "u", "x"]
    assert not any(one.stand_in.raw(s).autoRepeat() for s in keys.values())
    # Taken by the editor and by the slice views.
    assert not set(keys) & set("qwzyi0123456789gtfbvr")

    def press(key: str) -> None:
        one.stand_in.raw(keys[key]).activated.emit()

    press("n")
    first = effect.candidate()
    node = one.layout.sliceWidget("Red").node
    from StrokeLesionSegLib.slicerbridge.editor import views as edit_views

    off = edit_views.world_to_xy(node, first.voxel_ras_mm)[2]
    assert abs(off) < 1e-3, "the views jumped there"
    assert (effect.actors.overlay.labels != 0).sum() == first.voxels
    press("x")
    assert one.editor.voxels("one").sum() == (probability(one) >= 0.5).sum() - first.voxels
    second = effect.candidate()
    assert second.id != first.id, "it goes on by itself"
    press("a")
    assert sorted(c.state for c in effect.reviewer.candidates) == ["accepted", "rejected"]
    one.picture("LesionReview-3-decided")
    while effect.candidate().state != "rejected":
        press("p")
    saves = one.scripted.saves
    press("u")
    assert one.scripted.saves == saves + 1
    press("u")
    assert one.scripted.saves == saves + 1, "an open one leaves no empty step"
    np.testing.assert_array_equal(one.editor.voxels("one"), probability(one) >= 0.5)
    one.editor.undo()
    one.until(lambda: "rejected" in {c.state for c in effect.reviewer.candidates})


def test_a_finished_segment_is_not_touched(desk: Any) -> None:
    one = ready(desk, "LesionBrush")
    logic = one.slicer.vtkSlicerSegmentationsModuleLogic
    segment = one.editor.segmentation.GetSegmentation().GetSegment("one")
    logic.SetSegmentStatus(segment, logic.Completed)
    xy = one.xy_of("Red", (9, 9, 8))
    assert one.event(PRESS, "Red", xy)
    assert not one.event(RELEASE, "Red", xy)
    assert not one.editor.voxels("one").any()
    assert "marked as completed" in one.text()


@pytest.mark.parametrize("name", ["LesionBrush", "LesionClicks"])
def test_a_hidden_segment_is_asked_about(desk: Any, name: str) -> None:
    one = ready(desk, name)
    xy = one.xy_of("Red", (9, 9, 8))
    for answer in (one.scripted.NotConfirmed, one.scripted.ConfirmedWithDialog):
        one.scripted.answer = answer
        assert one.event(PRESS, "Red", xy), "button up went to the dialog: take the event"
        one.event(RELEASE, "Red", xy)
        assert not one.editor.voxels("one").any()
        assert one.scripted.saves == 0


@pytest.mark.parametrize("name", NAMES)
def test_missing_torch_leads_to_the_module(
    desk: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from StrokeLesionSegLib.slicerbridge.editor import store as edit_store
    from StrokeLesionSegLib.slicerbridge.engine.torch_setup import TorchState

    monkeypatch.setattr(edit_store, "torch_state", lambda: TorchState(False))
    one = desk(name)
    chosen: list[str] = []
    monkeypatch.setattr(one.slicer.util, "selectModule", chosen.append, raising=False)
    one.activate()
    assert "PyTorch" in one.text()
    one.click(one.effect.readyButton)
    assert chosen == ["StrokeLesionSeg"]
    one.picture(f"{name}-0-torch")


def test_opening_shows_its_steps_and_can_be_cancelled(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from StrokeLesionSegLib.errors import Cancelled

    one = desk("StrokeLesion")
    one.activate()
    effect, store, go = one.effect, one.effect.store, threading.Event()
    entry = one.prepare(blobs(one))
    store.forget()

    class Plan:
        source_id = one.editor.volume.GetID()

        def open(self, progress: Any, cancel: Any) -> Any:
            progress("align", 0, 0)
            while not go.wait(0.005):
                if cancel():
                    raise Cancelled("told so")
            return entry.session

    monkeypatch.setattr(store, "plan", lambda *_: Plan())
    monkeypatch.setattr(store, "add", lambda plan, session: store._entries.append(entry))
    ready = types.SimpleNamespace(kind="session", text="offer", button="Look")
    asked: list[bool] = []
    monkeypatch.setattr(
        store, "readiness", lambda *_: (asked.append(effect.opening is None), ready)[1]
    )
    effect.showStatus()
    assert asked
    button = one.stand_in.raw(effect.readyButton)
    one.click(button)
    one.until(lambda: "Aligning" in one.text())
    assert button.text() == "Cancel"
    thread = effect.opening._thread
    one.click(button)
    assert (effect.opening, button.text()) == (None, "Look")
    one.until(lambda: not thread.is_alive())
    one.settle(0.05)
    assert effect.entry is None
    # Nor does it come after the effect was left.
    one.click(button)
    thread = effect.opening._thread
    effect.deactivate()
    one.until(lambda: not thread.is_alive())
    assert not effect.openTimer.isActive()
    one.activate()
    assert effect.entry is None
    go.set()
    one.click(button)
    one.until(lambda: effect.entry is entry)
    assert effect.opening is None
    assert all(asked), "while it opens, nothing is looked for on the disk"


def test_a_failing_model_is_told_and_the_cursor_comes_back(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from StrokeLesionSegLib.errors import InputError

    one = desk("StrokeLesion")
    one.activate()

    def fail(*_: Any) -> None:
        raise InputError("model", "the weights are damaged", "Install the model again")

    monkeypatch.setattr(one.effect.store, "plan", fail)
    monkeypatch.setattr(
        one.effect.store,
        "readiness",
        lambda *_: types.SimpleNamespace(kind="session", text="", button="Look"),
    )
    one.effect.onReadyButton()
    assert "damaged" in one.text()


def test_every_key_is_in_the_help(desk: Any) -> None:
    for name in NAMES:
        one = desk(name)
        text = one.effect.helpText()
        for key, _call in one.effect.shortcuts():
            assert f"<b>{key}" in text, f"{name}: {key}"


def test_registration_names_files_that_slicers_loader_finds(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As qSlicerSegmentEditorScriptedEffect: package by the folder, class by the file."""
    import effect_stand_in

    package = effect_stand_in.install(slicer, monkeypatch)

    class FakeScripted:
        def __init__(self, parent: Any) -> None:
            self.name = self.title = ""

        def setPythonSource(self, path: str) -> None:
            assert Path(path).is_file()
            assert "\\" not in path
            module = sys.modules[Path(path).parent.name]
            self.python = getattr(module, Path(path).stem)(self)

        def self(self) -> Any:
            return self.python

    effects = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    effects.qSlicerSegmentEditorScriptedEffect = FakeScripted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, effects.__name__, effects)
    effect_stand_in.registered.clear()
    package.registerEffects()
    assert [e.name for e in effect_stand_in.registered] == list(NAMES)
    for scripted in effect_stand_in.registered:
        assert scripted.title
        icon = effect_stand_in.raw(scripted.python.icon())
        assert not icon.isNull()
        assert icon.availableSizes()[0].width() == 48
        assert scripted.python.clone().name == scripted.name
        scripted.python.cleanup()


def test_the_recipe_of_an_effect_runs(desk: Any) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
    recipe = re.search(
        r"^```python slicer\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.M
    )
    assert recipe is not None
    exec(recipe[1], {"__name__": "a_recipe"})
