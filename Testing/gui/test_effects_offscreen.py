"""The Segment Editor effects offscreen: their options, view events, timers and shortcuts.

A smoke test on PySide6 with stand-ins for Slicer's widgets (see ``effect_stand_in``), over Slicer's
real editor logic and MRML. Pictures go to ``STROKE_LESION_SEG_PICTURES`` if it is set.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PRESS, RELEASE, MOVE = "LeftButtonPressEvent", "LeftButtonReleaseEvent", "MouseMoveEvent"


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
        self.options.resize(420, 700)
        self.options.show()

    def activate(self) -> None:
        self.effect.activate()
        self.effect.updateGUIFromMRML()

    def prepare(self, session: Any) -> Any:
        """Give the effect a session with known answers."""
        from StrokeLesionSegLib.slicerbridge import edit_store, edit_target

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
        from StrokeLesionSegLib.slicerbridge import edit_views

        grid = self.effect.entry.edit_grid
        world = grid.to_world(grid.index_to_local(index))
        node = self.layout.sliceWidget(view).node
        node.JumpSliceByCentering(*world)
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
def desk(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Desk]]:
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
        one.effect.cleanup()
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
