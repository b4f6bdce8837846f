"""The Segment Editor effects offscreen: their options, view events, timers and shortcuts.

A smoke test on PySide6 with stand-ins for Slicer's widgets (see ``effect_stand_in``), over Slicer's
real editor logic and MRML. Pictures go to ``STROKE_LESION_SEG_PICTURES`` if it is set.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import fill

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
        volume = edit_target.volume_of_image(image, grid)
        entry = edit_store.Entry(
            session, grid, edit_store._key(self.editor.node), self.editor.volume.GetID(), volume
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


def blobs(one: Desk) -> Any:
    import bridge_scenes
    import map_session

    return map_session.MapSession(bridge_scenes.blob_volume(one.editor.volume))


NAMES = ("StrokeLesion", "LesionReview")


def ready(desk: Any, name: str = "StrokeLesion", affine: Any = None) -> Desk:
    one: Desk = desk(name, affine)
    entry = one.prepare(blobs(one))
    one.activate()
    if name == "StrokeLesion":
        assert one.effect.entry is entry
    return one


def probability(one: Desk) -> np.ndarray:
    import bridge_scenes

    return np.asarray(bridge_scenes.blob_volume(one.editor.volume).array)


def ball(one: Desk, index: tuple[int, int, int], radius: float = 2.0) -> np.ndarray:
    k, j, i = np.indices(probability(one).shape)
    away = (k - index[0]) ** 2 + (j - index[1]) ** 2 + (i - index[2]) ** 2
    return np.asarray(away <= radius**2)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_behind_after_the_effect(desk: Any, name: str) -> None:
    one = ready(desk, name)
    one.settle(0.3)
    effect = one.effect
    assert effect._shortcuts
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


@pytest.mark.parametrize("name", NAMES)
def test_the_options_are_no_wider_than_slicers_threshold(desk: Any, name: str) -> None:
    one = ready(desk, name)
    one.settle(0.2)
    one.picture(name)
    assert one.options.minimumSizeHint().width() <= 415


# -- clicks -------------------------------------------------------------------------------------


def test_left_is_lesion_right_and_control_are_not(desk: Any) -> None:
    one = ready(desk)
    index = (12, 16, 21)
    xy = one.xy_of("Red", index)
    assert one.event(PRESS, "Red", xy)
    assert not one.editor.voxels("one").any(), "the segment changes when the button goes up"
    assert one.event(RELEASE, "Red", xy)
    lesion = one.editor.voxels("one")
    assert lesion[index]
    assert not (lesion & ~(probability(one) >= 0.5) & ~ball(one, index)).any()
    assert "mL added" in one.text()
    for press, release, keys in (
        ("RightButtonPressEvent", "RightButtonReleaseEvent", {}),
        (PRESS, RELEASE, {"control": 1}),
    ):
        one.editor.put("one", lesion)
        assert one.event(press, "Red", xy, **keys)
        assert one.event(release, "Red", xy, **keys)
        assert not one.editor.voxels("one")[index]
    for keys in ({"shift": 1}, {"alt": 1}):
        assert not one.event(PRESS, "Red", xy, **keys), f"{keys} belongs to Slicer"
    assert not one.event("MouseWheelForwardEvent", "Red", xy, shift=1)
    assert one.event(DOUBLE, "Red", xy, shift=1), "no maximizing while clicking"
    assert one.effect.gesture is None
    assert one.scripted.saves == 3


def test_a_drag_is_one_stroke_of_many_clicks(desk: Any) -> None:
    one = ready(desk)
    start, end = one.xy_of("Red", (16, 3, 18)), one.xy_of("Red", (16, 3, 25))
    one.event(PRESS, "Red", start)
    for n in range(1, 6):
        one.event(MOVE, "Red", (start[0] + (end[0] - start[0]) * n // 5, start[1]))
    shown = one.effect.actors.overlay.labels.copy()
    one.event(RELEASE, "Red", end)
    assert one.editor.voxels("one")[16, 3, 18:26].all()
    assert (shown[16, 3, 18:25] == 2).all(), "the path is drawn"
    assert one.effect.entry.session.calls == one.scripted.saves == 1
    assert "finds no lesion here" in one.text()


def test_a_stroke_ends_with_the_button_that_began_it(desk: Any) -> None:
    one = ready(desk)
    x, y = one.xy_of("Red", (9, 9, 8))
    one.event(PRESS, xy=(x, y))
    one.event(MOVE, xy=(x + 10, y))
    one.event("RightButtonPressEvent", xy=(x + 10, y))
    one.event("RightButtonReleaseEvent", xy=(x + 10, y))
    assert one.effect.gesture is not None, "the left button is down still"
    assert not one.editor.voxels("one").any()
    one.event(MOVE, xy=(x + 20, y))
    assert one.event(RELEASE, xy=(x + 20, y))
    assert one.effect.gesture is None
    assert one.editor.voxels("one").any()
    one.event("RightButtonPressEvent", xy=(x, y))
    one.event("RightButtonReleaseEvent", xy=(x, y))
    assert one.effect.gesture is None
    assert len(one.effect.entry.works[one.effect.target()].texts) == 3


def test_clicks_of_an_earlier_session_are_drawn_before_the_next_one(desk: Any) -> None:
    """A scene was loaded, or the session was opened anew."""
    one = ready(desk)
    index = (12, 16, 21)
    xy = one.xy_of("Red", index)
    one.event("RightButtonPressEvent", "Red", xy)
    one.event("RightButtonReleaseEvent", "Red", xy)
    drawn = one.effect.actors.overlay.labels.copy()
    assert drawn[index] == 3
    one.effect.deactivate()
    one.prepare(blobs(one))
    one.activate()
    np.testing.assert_array_equal(one.effect.actors.overlay.labels, drawn)
    one.editor.select("two")
    one.effect.refresh()
    assert not one.effect.actors.overlay.labels.any()


def test_a_click_can_be_shown_before_it_is_taken(desk: Any) -> None:
    one = ready(desk)
    one.click(one.effect.options.showCheck)
    xy = one.xy_of("Red", (12, 16, 21))
    one.event(PRESS, "Red", xy)
    shown = one.effect.actors.overlay.labels == 2
    assert shown.any()
    assert not one.editor.voxels("one").any()
    one.event(RELEASE, "Red", xy)
    after = one.editor.voxels("one")
    assert not (shown & ~after & ~ball(one, (12, 16, 21))).any(), (
        "the outline was that of the answer"
    )
    one.editor.undo()
    one.until(lambda: one.effect.store.work(one.effect.entry, one.effect.target()).texts == [""])


def test_what_is_shown_first_is_cut_where_the_click_will_be(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ready(desk)
    one.scripted.setParameter("ShowFirst", 1)
    one.scripted.setParameter("Threshold", 0.3)
    shown: list[Any] = []
    monkeypatch.setattr(one.effect.drawing, "drawChange", lambda change, _: shown.append(change))
    one.event("LeftButtonPressEvent", xy=(xy := one.xy_of("Red", (12, 16, 21))))
    one.event("LeftButtonReleaseEvent", xy=xy)
    assert shown[0].voxels == one.editor.voxels("one").sum() > 0


def warming_up(desk: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Desk, Any]:
    """A desk whose effect opens its sessions, and the event upon which they are open."""
    import threading

    import StrokeLesionSegLib.correction as correction

    go, one = threading.Event(), desk("StrokeLesion")

    def opened(*_known: Any, progress: Any = None, cancel: Any = None, **_more: Any) -> Any:
        progress("align", 0, 1)
        while not go.wait(0.005):
            if cancel():
                raise RuntimeError("given up")
        return blobs(one)

    monkeypatch.setattr(correction.CorrectionSession, "open", opened)
    monkeypatch.setattr(correction, "load_click_model", lambda name: None)
    return one, go


def click_early(one: Desk, index: tuple[int, int, int]) -> None:
    """A click on a voxel (k, j, i) during the warm-up."""
    from StrokeLesionSegLib.slicerbridge.editor import views as edit_views

    grid = one.effect.opening.edit_grid
    world = grid.to_world(grid.index_to_local(index))
    node = one.layout.sliceWidget("Red").node
    node.JumpSliceByOffsetting(*world)
    x, y, _off = edit_views.world_to_xy(node, world)
    xy = (round(float(x)), round(float(y)))
    assert one.event(PRESS, "Red", xy)
    assert one.event(RELEASE, "Red", xy)


def test_clicks_wait_for_the_session_and_are_drawn(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warm-up begins with the effect; nobody presses anything."""
    one, go = warming_up(desk, monkeypatch)
    one.activate()
    one.until(lambda: "Aligning" in one.text())
    assert "may click already" in one.text()
    for mode in ("brush", "outline"):  # they do nothing yet
        one.effect.setMode(mode)
        assert "may click already" not in one.text()
    one.effect.setMode("click")
    first, second = (12, 16, 21), (16, 3, 24)
    for index in (first, second):
        click_early(one, index)
    assert "2 clicks wait" in one.text()
    assert one.effect.actors.overlay.labels[first] == one.effect.actors.overlay.labels[second] == 2
    assert not one.editor.voxels("one").any()
    go.set()
    one.until(lambda: one.effect.entry is not None)
    voxels = one.editor.voxels("one")
    assert voxels[first]
    assert voxels[second]
    assert one.scripted.saves == 2
    assert one.effect.queue == []


@pytest.mark.parametrize("other_model", [False, True])
def test_clicks_that_waited_are_those_of_their_segment(
    desk: Any, monkeypatch: pytest.MonkeyPatch, other_model: bool
) -> None:
    """Another one is selected before the session is open; one of another model has another."""
    from StrokeLesionSegLib.slicerbridge.scene.provenance import TAG

    one, go = warming_up(desk, monkeypatch)
    for name in ("one", "two") if other_model else ():
        segment = one.editor.segmentation.GetSegmentation().GetSegment(name)
        segment.SetTag(TAG + "Model", name)
        segment.SetTag(TAG + "Checksum", name)
    one.activate()
    click_early(one, (12, 16, 21))
    assert "A click waits" in one.text()
    one.editor.select("two")
    one.effect.pulse()
    one.effect.pulse()
    assert ("may click already" in one.text()) == other_model
    assert not one.effect.actors.overlay.labels.any()
    go.set()
    one.until(lambda: one.effect.entry is not None)
    assert "Click: left lesion" in one.text(), "nothing was done to the selected segment"
    one.editor.select("one")
    one.effect.pulse()
    one.until(lambda: one.effect.queue == [])
    assert one.editor.voxels("one")[12, 16, 21]
    assert not one.editor.voxels("two").any()
    assert one.scripted.saves == 1


def test_a_gesture_ends_with_the_grid_that_it_was_begun_on(desk: Any) -> None:
    """Such as where the image is taken away, or the scene closed, while a button is down."""
    one = ready(desk)
    xy = one.xy_of("Red", (12, 16, 21))
    assert one.event(PRESS, "Red", xy)
    one.editor.logic.SetSourceVolumeNode(None)
    one.effect.sourceVolumeNodeChanged()
    one.event(MOVE, "Red", (xy[0] + 20, xy[1]))
    one.event(RELEASE, "Red", xy)
    assert "Choose the T1-weighted image" in one.text()
    assert one.scripted.saves == 0


def test_an_effect_that_is_left_opens_nothing_later(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    import StrokeLesionSegLib.correction as correction

    go = threading.Event()
    monkeypatch.setattr(correction.CorrectionSession, "open", lambda *a, **k: go.wait(5))
    monkeypatch.setattr(correction, "load_click_model", lambda name: None)
    one: Desk = desk("StrokeLesion")
    one.activate()
    work = one.effect.opening._work
    one.effect.deactivate()
    go.set()
    one.until(lambda: not work.wait(0))
    one.settle(0.05)
    assert one.effect.store._entries == []


def test_a_failing_model_is_told_once_and_can_be_tried_again(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import StrokeLesionSegLib.correction as correction
    from StrokeLesionSegLib.errors import InputError

    asked: list[str] = []

    def fail(name: str) -> None:
        asked.append(name)
        raise InputError("model", "the weights are damaged", "Install the model again")

    monkeypatch.setattr(correction, "load_click_model", fail)
    one: Desk = desk("StrokeLesion")
    one.activate()
    one.until(lambda: "damaged" in one.text())
    one.settle(0.5)
    assert len(asked) == 1
    assert "damaged" in one.text()
    assert one.stand_in.raw(one.effect.options.readyButton).text() == "Try again"
    one.click(one.effect.options.readyButton)
    one.until(lambda: len(asked) == 2)
    one.until(lambda: "damaged" in one.text())


def test_a_defect_is_logged_and_told(
    desk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = ready(desk)

    def fail(*_args: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(one.effect.entry.session, "stroke", fail)
    xy = one.xy_of("Red", (9, 9, 8))
    with caplog.at_level("ERROR"):
        one.event(PRESS, "Red", xy)
        one.event(RELEASE, "Red", xy)
    assert "A defect of StrokeLesionSeg" in one.text()
    assert "Traceback" in caplog.text
    assert one.scripted.saves == 0


def test_a_disk_that_is_full_takes_no_click(
    desk: Any,
    small_disk: tuple[Path, Callable[[str], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clicks, Apply and undo lie in memory: they need no disk."""
    disk, _mount_again = small_disk
    fill(disk)
    with pytest.raises(OSError, match="No space left"):
        (disk / "more").write_bytes(bytes(8192))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr("slicer.app.temporaryPath", str(disk), raising=False)
    monkeypatch.chdir(disk)
    one = ready(desk)
    xy = one.xy_of("Red", (9, 9, 8))
    one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    clicked = one.editor.voxels("one")
    assert clicked.any()
    one.editor.undo()
    assert not one.editor.voxels("one").any()
    one.editor.redo()
    np.testing.assert_array_equal(one.editor.voxels("one"), clicked)
    painting = brush(desk)
    painting.event(PRESS, "Red", painting.xy_of("Red", (9, 9, 8)))
    painting.event(RELEASE, "Red", painting.xy_of("Red", (9, 9, 8)))
    assert painting.editor.voxels("one").any()
    assert "<b>" not in one.text()
    assert "<b>" not in painting.text()


def test_a_disk_that_is_full_while_the_model_is_read_is_told(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, as no defect of ours; what the segment holds stays, and the next try works."""
    import StrokeLesionSegLib.correction as correction

    full = [True]
    one: Desk = desk("StrokeLesion")
    session = blobs(one)

    def opened(*_known: Any, **_more: Any) -> Any:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/cache")
        return session

    monkeypatch.setattr(correction.CorrectionSession, "open", opened)
    monkeypatch.setattr(correction, "load_click_model", lambda name: None)
    one.editor.put("one", ball(one, (5, 5, 5)))
    before = one.editor.voxels("one")
    one.activate()
    one.until(lambda: "is full" in one.text())
    assert "Free some space" in one.text()
    assert "<br>" not in one.text()
    assert "defect" not in one.text()
    np.testing.assert_array_equal(one.editor.voxels("one"), before)
    full[0] = False
    one.click(one.effect.options.readyButton)
    one.until(lambda: one.effect.entry is not None)
    xy = one.xy_of("Red", (9, 9, 8))
    one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    assert one.editor.voxels("one").sum() > before.sum()


def test_the_overlay_follows_a_moved_segmentation(desk: Any) -> None:
    one = ready(desk)
    widget = one.layout.sliceWidget("Red")
    transform = one.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    one.editor.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    before = one.effect.actors._overlays[widget].reslice.GetResliceTransform()
    matrix = one.vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 7.0)
    transform.SetMatrixTransformToParent(matrix)
    after = one.effect.actors._overlays[widget].reslice.GetResliceTransform()
    points = [t.TransformPoint(0, 0, 0) for t in (before, after)]
    assert abs(points[1][0] - points[0][0]) == pytest.approx(7.0)


# -- threshold ----------------------------------------------------------------------------------


def test_the_preview_shows_what_apply_does(desk: Any) -> None:
    one = ready(desk)
    one.stand_in.raw(one.effect.options.thresholdSlider).setValue(0.4)
    wanted = probability(one) >= 0.4
    one.until(lambda: (one.effect.actors.overlay.labels == 1).any())
    np.testing.assert_array_equal(one.effect.actors.overlay.labels == 1, wanted)
    assert f"{wanted.sum() / 1000:.1f} mL" in one.text()
    assert not one.editor.voxels("one").any()
    managers = [w.manager for w in one.layout.widgets.values()]
    display = one.editor.segmentation.GetDisplayNode().GetID()
    one.until(lambda: all([*m.hidden.values()] == [(display, "one")] for m in managers))
    one.click(one.effect.options.applyButton)
    np.testing.assert_array_equal(one.editor.voxels("one"), wanted)
    assert not any(m.hidden for m in managers)
    assert not one.effect.actors.overlay.labels.any()
    one.editor.undo()
    assert not one.editor.voxels("one").any()


def test_the_preview_is_that_of_the_segment_that_is_selected(desk: Any) -> None:
    """Chosen in the list of segments while another one's preview pulses: its clicks count."""
    one = ready(desk)
    one.event("LeftButtonPressEvent", xy=(xy := one.xy_of("Red", (16, 3, 24))))
    one.event("LeftButtonReleaseEvent", xy=xy)
    one.effect.onThreshold(0.3)
    one.settle(0.05)
    wanted = probability(one) >= 0.3
    drawing = one.effect.drawing
    assert drawing.preview[16, 3, 24]
    one.editor.select("two")
    one.effect.pulse()
    one.settle(0.05)
    np.testing.assert_array_equal(drawing.preview, wanted)
    assert "at this threshold: Apply or Cancel." in one.text()
    one.effect.onApply()
    np.testing.assert_array_equal(one.editor.voxels("two"), wanted)


def test_what_a_click_did_is_not_said_of_another_segment(desk: Any) -> None:
    one = ready(desk)
    one.event("LeftButtonPressEvent", xy=(xy := one.xy_of("Red", (16, 3, 24))))
    one.event("LeftButtonReleaseEvent", xy=xy)
    assert "mL painted" in one.text()
    one.editor.select("two")
    one.effect.pulse()
    assert "Click: left lesion" in one.text()


def test_cancel_goes_back_to_the_models_own_threshold(desk: Any) -> None:
    one = ready(desk)
    slider = one.stand_in.raw(one.effect.options.thresholdSlider)
    assert slider.value == pytest.approx(0.5)
    slider.setValue(0.3)
    one.until(lambda: one.stand_in.raw(one.effect.options.cancelButton).isEnabled())
    one.click(one.effect.options.cancelButton)
    assert slider.value == pytest.approx(0.5)
    assert not one.effect.actors.overlay.labels.any()
    assert not one.editor.voxels("one").any()
    assert one.scripted.saves == 0


def test_cancel_goes_back_to_the_models_own_threshold_after_a_click(desk: Any) -> None:
    """Which was cut at the threshold that is cancelled."""
    one = ready(desk)
    one.effect.onThreshold(0.3)
    one.settle(0.05)
    one.event("LeftButtonPressEvent", xy=(xy := one.xy_of("Red", (12, 16, 21))))
    one.event("LeftButtonReleaseEvent", xy=xy)
    assert one.editor.voxels("one").any()
    one.effect.onCancel()
    assert one.effect.threshold() == 0.5


def test_the_threshold_of_one_scan_is_not_that_of_the_next(desk: Any, slicer: Any) -> None:
    import bridge_scenes

    one = ready(desk)
    slider = one.stand_in.raw(one.effect.options.thresholdSlider)
    slider.setValue(0.3)
    one.effect.onApply()
    one.effect.deactivate()
    one.activate()
    assert slider.value == pytest.approx(0.3), "it is still the same scan"
    one.effect.deactivate()
    one.editor.volume = bridge_scenes.head_node(slicer, None, "the next")
    one.editor.logic.SetSourceVolumeNode(one.editor.volume)
    one.prepare(blobs(one))
    one.activate()
    assert slider.value == pytest.approx(0.5)
    assert one.effect.threshold() == 0.5
    # One that a script sets before the session of the next is there.
    one.effect.deactivate()
    one.editor.volume = bridge_scenes.head_node(slicer, None, "the last")
    one.editor.logic.SetSourceVolumeNode(one.editor.volume)
    one.prepare(blobs(one))
    one.scripted.setParameter("Threshold", 0.7)
    one.activate()
    assert slider.value == pytest.approx(0.7)


# -- brush --------------------------------------------------------------------------------------


def brush(desk: Any, diameter: float = 6.0) -> Desk:
    one = ready(desk)
    keys = {one.stand_in.raw(s).key().toString().lower(): s for s, _call in one.effect._shortcuts}
    one.stand_in.raw(keys["m"]).activated.emit()
    assert one.effect.isBrush()
    one.effect.onDiameter(diameter)
    return one


def test_the_brush_paints_by_the_probability(desk: Any) -> None:
    one = brush(desk)
    start, end = one.xy_of("Red", (9, 9, 5)), one.xy_of("Red", (9, 9, 12))
    one.event(MOVE, "Red", start)
    circle = one.effect.actors._circles[one.layout.sliceWidget("Red")]
    assert circle.actor.GetVisibility()
    assert circle.source.GetRadius() == pytest.approx(3.0 * 200 / 60)
    assert one.event(PRESS, "Red", start)
    one.event(MOVE, "Red", end)
    assert (one.effect.actors.overlay.labels == 2).any()
    assert one.event(RELEASE, "Red", end)
    painted = one.editor.voxels("one")
    assert painted[9, 9, 5:13].all()
    assert painted[8].any(), "a sphere, if nothing else is said"
    assert one.scripted.saves == 1
    # The other button erases where the model finds none, or none more surely than where it begins.
    everything, values = np.ones(painted.shape, bool), probability(one)
    for low, high in ((0.2, 0.45), (0.55, 0.7)):
        one.editor.put("one", everything)
        j, i = np.argwhere((values[9] > low) & (values[9] < high))[0].tolist()
        xy = one.xy_of("Red", (9, j, i))
        one.event("RightButtonPressEvent", "Red", xy)
        one.event("RightButtonReleaseEvent", "Red", xy)
        erased = everything & ~one.editor.voxels("one")
        assert erased[9, j, i]
        bound = 0.5 if high < 0.5 else 1 - 0.6 * (1 - values[9, j, i])
        assert values[erased].max() <= bound


def test_where_the_model_sees_nothing_the_brush_paints_and_says_so(desk: Any) -> None:
    one = brush(desk)
    xy = one.xy_of("Red", (17, 3, 26))
    assert probability(one)[ball(one, (17, 3, 26), 4)].max() < 0.02
    one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    assert one.editor.voxels("one").any()
    assert "Painted; the model finds no lesion here. 0.1 mL" in one.text()
    # What was undone, or what another effect changed, is no longer told.
    one.editor.undo()
    one.until(lambda: ">0.0 mL<" in one.text())
    one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    one.settle(0.5)
    assert "Painted" in one.text(), "it stays as long as nothing changes"
    one.editor.put("one", np.ones(one.editor.voxels("one").shape, bool))
    one.until(lambda: "Painted" not in one.text())


def test_the_brush_is_a_sphere_whatever_paint_is(desk: Any) -> None:
    one: Desk = desk("StrokeLesion")
    one.scripted.setCommonParameter("BrushSphere", 0)  # as Slicer's Paint begins
    one.effect.setMRMLDefaults()
    one.effect.updateGUIFromMRML()
    assert one.effect.brushTool.brush(0.5, erase=False).sphere
    assert one.stand_in.raw(one.effect.options.sphereCheck).isChecked()


def test_size_of_the_brush(desk: Any) -> None:
    one = brush(desk, 10.0)
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
    one.scripted.setCommonParameter("BrushDiameterIsRelative", 1)
    one.scripted.setCommonParameter("BrushRelativeDiameter", 3.0)
    one.event(MOVE, "Red", (100, 100))
    assert one.effect.brushTool.diameter() == pytest.approx(0.03 * 1000 * 60 / 200)


# -- outline ------------------------------------------------------------------------------------


def around(one: Desk, k: int, low: int, high: int, kind: str = "Left", **keys: Any) -> None:
    """Draw a square in slice k."""
    corners = [(low, low), (low, high), (high, high), (high, low)]
    way = [one.xy_of("Red", (k, j, i)) for j, i in corners]
    assert one.event(f"{kind}ButtonPressEvent", "Red", way[0], **keys)
    for xy in way[1:]:
        one.event(MOVE, "Red", xy, **keys)
    assert (one.effect.actors.overlay.labels == (3 if keys or kind == "Right" else 2)).any()
    assert one.event(f"{kind}ButtonReleaseEvent", "Red", way[-1], **keys)


def test_an_outline_is_drawn_around_lesion_and_around_what_is_none(desk: Any) -> None:
    one = ready(desk)
    button = one.effect.options.modeButtons[2]
    one.click(button)
    assert one.effect.mode() == "outline"
    assert "Draw around" in one.text()
    around(one, 9, 4, 16)
    drawn = one.editor.voxels("one")
    assert drawn[9, 5:16, 5:16].all()
    assert drawn[9].sum() <= 13 * 13
    assert 0 < drawn[8].sum() < drawn[9].sum(), "the slices around follow"
    assert one.effect.entry.session.calls == 0, "no network is asked"
    ml = drawn.sum() / 1000
    assert f"{ml:.1f} mL, {ml:+.1f} by corrections" in one.text(), "of what was there at first"
    assert one.scripted.saves == 1
    # The same again is no step; what is around no lesion goes.
    around(one, 9, 4, 16)
    assert "nothing changed" in one.text()
    assert one.scripted.saves == 1
    around(one, 9, 8, 12, "Right")
    assert not one.editor.voxels("one")[9, 9:12, 9:12].any()
    one.editor.undo()
    np.testing.assert_array_equal(one.editor.voxels("one"), drawn)
    around(one, 9, 8, 12, control=1)
    assert not one.editor.voxels("one")[9, 9:12, 9:12].any()
    # In one slice only, if that is asked for.
    one.editor.put("one", np.zeros(drawn.shape, bool))
    one.scripted.setParameter("Sphere", 0)
    around(one, 12, 4, 16)
    now = one.editor.voxels("one")
    assert now[12].any()
    assert not now[[11, 13]].any()


def test_a_key_goes_through_clicks_brush_and_outline(desk: Any) -> None:
    one = ready(desk)
    seen = [one.effect.mode()]
    for _ in range(3):
        one.effect.onOtherMode()
        seen.append(one.effect.mode())
        checked = [one.stand_in.raw(b).isChecked() for b in one.effect.options.modeButtons]
        assert checked.count(True) == 1
    assert seen == ["click", "brush", "outline", "click"]
    # A scene may come from a version that has other modes.
    one.effect.setMode("lasso")
    assert one.effect.mode() == "click"
    one.effect.setMode("outline")
    xy = one.xy_of("Red", (9, 9, 8))
    one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    assert not one.editor.voxels("one").any(), "a press alone goes around nothing"
    assert one.scripted.saves == 0


# -- review -------------------------------------------------------------------------------------


def test_review_from_the_keyboard(desk: Any) -> None:
    one: Desk = desk("LesionReview")
    one.editor.put("one", probability(one) >= 0.5)
    one.activate()
    effect = one.effect
    keys = {one.stand_in.raw(s).key().toString().lower(): s for s, _call in effect._shortcuts}
    assert sorted(keys) == ["k", "n", "p", "s", "u", "x"]
    assert not any(one.stand_in.raw(s).autoRepeat() for s in keys.values())

    def press(key: str) -> None:
        one.stand_in.raw(keys[key]).activated.emit()

    pieces = effect.reviewer.pieces
    assert [p.id for p in pieces] == [effect.current, pieces[1].id], "the largest comes first"
    from StrokeLesionSegLib.slicerbridge.editor import views as edit_views

    node = one.layout.sliceWidget("Red").node
    grid = effect.reviewer.edit_grid
    off = edit_views.world_to_xy(node, grid.to_world(grid.index_to_local(pieces[0].voxel)))[2]
    assert abs(off) < 1e-3, "the views jumped there"
    assert (effect.actors.overlay.labels != 0).sum() == pieces[0].voxels
    # Slicer tells nothing of views that move during activation: the overlay is cut there too.
    drawn = effect.actors._overlays[one.layout.sliceWidget("Red")]
    middle = drawn.reslice.GetResliceTransform().TransformPoint(100, 100, 0)
    np.testing.assert_allclose(middle[2], pieces[0].voxel[0], atol=1e-3)
    press("k")
    assert effect.current == pieces[1].id, "it goes on by itself"
    press("x")
    assert one.editor.voxels("one").sum() == pieces[0].voxels
    assert "all are decided" in one.text()
    one.picture("LesionReview-decided")
    press("u")
    assert one.editor.voxels("one").sum() == pieces[0].voxels + pieces[1].voxels
    press("s")
    assert len(effect.reviewer.pieces) == 3
    one.editor.undo()
    one.until(lambda: len(effect.reviewer.pieces) == 2)
    assert effect.current == effect.reviewer.pieces[1].id, "the undone one is still looked at"
    # A row that is chosen, by mouse or arrow keys.
    for row in (0, 1):
        one.stand_in.raw(effect.table).setCurrentCell(row, 0)
        assert effect.current == effect.reviewer.pieces[row].id
    # Another segment, and one that others paint in.
    one.editor.select("two")
    one.until(lambda: "empty" in one.text())
    one.editor.put("two", ball(one, (5, 5, 5)))
    one.until(lambda: len(effect.reviewer.pieces) == 1)


def test_review_follows_another_geometry_of_the_segmentation(desk: Any, slicer: Any) -> None:
    from StrokeLesionSegLib.images import Volume
    from StrokeLesionSegLib.slicerbridge.scene import volumes

    one: Desk = desk("LesionReview")
    one.editor.put("one", probability(one) >= 0.5)
    one.activate()
    effect, before = one.effect, [p.volume_ml for p in one.effect.reviewer.pieces]
    # As Slicer's dialog of the geometry does: a finer grid for segmentation and segments.
    kept = volumes.volume_from_node(one.editor.volume)
    shape = tuple(2 * n for n in kept.array.shape)
    affine = kept.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, 0.5)
    finer = volumes.add_volume_node(Volume(np.zeros(shape, np.float32), affine), "finer")
    one.editor.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(finer)
    one.editor.logic.UpdateReferenceGeometryImage()
    effect.referenceGeometryChanged()
    assert effect.reviewer.edit_grid.grid.shape == shape
    np.testing.assert_allclose([p.volume_ml for p in effect.reviewer.pieces], before)
    assert effect.actors.overlay.labels.shape == shape
    effect.onDrop()
    assert len([p for p in effect.reviewer.pieces if p.state == "dropped"]) == 1
    reviewer = effect.reviewer
    effect.pulse()
    assert effect.reviewer is reviewer


def test_a_key_that_changes_nothing_says_what_stands(desk: Any) -> None:
    """What is decided stays, and one line tells how to take it back, until the next key."""
    one: Desk = desk("LesionReview")
    single = np.zeros_like(probability(one), dtype=bool)
    single[2, 2, 2] = True
    one.editor.put("one", (probability(one) >= 0.5) | single)
    one.activate()
    effect = one.effect
    keys = {one.stand_in.raw(s).key().toString().lower(): s for s, _call in effect._shortcuts}

    def press(key: str) -> None:
        one.stand_in.raw(keys[key]).activated.emit()
        one.settle(0.3)  # the line outlives the pulse of the effect

    def looked_at() -> tuple[int | None, list[str], int]:
        states = [p.state for p in effect.reviewer.pieces]
        return effect.current, states, int(one.editor.voxels("one").sum())

    press("u")
    assert "Nothing is decided about this piece" in one.text()
    press("k")
    assert "to decide" in one.text()
    press("p")
    before = looked_at()
    press("k")
    assert "This piece is kept already: u takes that back, n goes on." in one.text()
    assert looked_at() == before
    press("n")
    press("x")
    press("p")
    before = looked_at()
    for key in "ksx":
        press(key)
        assert "This piece is dropped: u brings it back, n goes on." in one.text()
        assert looked_at() == before
    press("u")
    assert effect.piece().state == "open"
    assert "to decide" in one.text()
    one.stand_in.raw(effect.table).setCurrentCell(2, 0)
    assert effect.piece().voxels == 1
    press("s")
    assert "A single voxel cannot be split" in one.text()
    effect.current = None
    press("k")
    assert "No piece is chosen" in one.text()


# -- both ---------------------------------------------------------------------------------------


def test_a_finished_segment_is_not_touched(desk: Any) -> None:
    one = ready(desk)
    logic = one.slicer.vtkSlicerSegmentationsModuleLogic
    segment = one.editor.segmentation.GetSegmentation().GetSegment("one")
    logic.SetSegmentStatus(segment, logic.Completed)
    xy = one.xy_of("Red", (9, 9, 8))
    assert one.event(PRESS, "Red", xy)
    one.event(RELEASE, "Red", xy)
    assert not one.editor.voxels("one").any()
    assert "marked as completed" in one.text()


def test_a_refusal_is_told_as_long_as_it_holds(desk: Any, slicer: Any) -> None:
    one = ready(desk)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = one.editor.segmentation.GetSegmentation().GetSegment("one")
    logic.SetSegmentStatus(segment, logic.Completed)
    one.event(PRESS, xy=one.xy_of("Red", (16, 3, 24)))
    assert "<b>" in one.text()
    assert "marked as completed" in one.text()
    one.effect.pulse()
    assert "<b>" in one.text()
    logic.SetSegmentStatus(segment, logic.InProgress)
    one.effect.pulse()
    assert "Click: left lesion" in one.text()


def test_a_hidden_segment_is_asked_about(desk: Any) -> None:
    one = ready(desk)
    xy = one.xy_of("Red", (9, 9, 8))
    for answer in (one.scripted.NotConfirmed, one.scripted.ConfirmedWithDialog):
        one.scripted.answer = answer
        assert one.event(PRESS, "Red", xy), "button up went to the dialog: take the event"
        one.event(RELEASE, "Red", xy)
        assert not one.editor.voxels("one").any()
        assert one.scripted.saves == 0


def test_missing_torch_leads_to_the_module(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from StrokeLesionSegLib.slicerbridge.editor import store as edit_store
    from StrokeLesionSegLib.slicerbridge.engine.torch_setup import TorchState

    monkeypatch.setattr(edit_store, "torch_state", lambda: TorchState(False))
    one = desk("StrokeLesion")
    chosen: list[str] = []
    monkeypatch.setattr(one.slicer.util, "selectModule", chosen.append, raising=False)
    one.activate()
    assert "PyTorch" in one.text()
    one.click(one.effect.options.readyButton)
    assert chosen == ["StrokeLesionSeg"]


def test_helps_fold_as_slicers_own(desk: Any) -> None:
    """Slicer shows what stands before the first <br> and folds the rest."""
    for name in NAMES:
        head, rest = desk(name).effect.helpText().split("<br>", 1)
        assert len(head) < 120
        assert "<li>" in rest


def test_every_key_is_in_the_help(desk: Any) -> None:
    for name in NAMES:
        one = desk(name)
        text = one.effect.helpText()
        for key, _call in one.effect.shortcuts():
            assert f"<b>{key}:" in text, f"{name}: {key}"


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
