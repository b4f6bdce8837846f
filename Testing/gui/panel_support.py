"""The module's panel for offscreen tests: the widget, its form, a result to show in it."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked_python
import numpy as np
import pytest
from simulated import simulated_head, small_head
from StrokeLesionSegLib.images import write_volume
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.sample_scan import SimulatedStroke
from StrokeLesionSegLib.slicerbridge.engine import process
from StrokeLesionSegLib.slicerbridge.module import sample
from StrokeLesionSegLib.slicerbridge.scene import results
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.volumes import volume_from_node


def simulated_once(seed: int = 0) -> SimulatedStroke:
    """The sample, small and coarse, as ``stroke_in_head`` is asked for it."""
    assert seed == 0
    return small_head()


def simulated_as_it_is(seed: int = 0) -> SimulatedStroke:
    """The sample as users get it, at 1 mm."""
    assert seed == 0
    return simulated_head()


def simulated_coarsely(seed: int = 0) -> SimulatedStroke:
    """The sample at 2 mm."""
    assert seed == 0
    return simulated_head(2)


@pytest.fixture
def coarse_sample() -> None:
    """For tests that do something while a run lasts, which need twice as long a one."""


@pytest.fixture
def whole_sample() -> None:
    """For tests that need the sample as it is: of a user's size, or with a run that lasts."""


@pytest.fixture
def first_entry() -> None:
    """For tests of what happens when the module is entered first in a session of Slicer: a system
    check, which runs the network that ships. For all others it has been entered before."""


class Panel:
    """The widget, its form, and what a test needs of both."""

    def __init__(self, slicer: Any, pictures: Path) -> None:
        import pythonqt_stand_in as stand_in

        self.stand_in, self.slicer, self.pictures = stand_in, slicer, pictures
        self.app = stand_in.application()
        self.window = stand_in.ModuleParent()
        self.window.resize(440, 1000)
        module = importlib.import_module("StrokeLesionSeg")
        self.widget = module.StrokeLesionSegWidget(stand_in.proxy_of(self.window))
        self.widget.setup()
        self.window.show()
        self.ui, self.controller = self.widget.ui, self.widget.controller

    @property
    def parameters(self) -> Any:
        return self.widget._parameterNode

    @property
    def qt(self) -> Any:
        """The module ``qt`` that the panel was given."""
        return self.controller.panel.qt

    @property
    def rows(self) -> list[Any]:
        """The lesions in the table."""
        rows: list[Any] = self.controller.result.table.rows
        return rows

    def text(self, name: str) -> str:
        """What a label or button shows, without markup."""
        return re.sub("<[^>]+>", " ", str(getattr(self.ui, name).text)).strip()

    def click(self, name: str) -> None:
        button = self.stand_in.raw(getattr(self.ui, name))
        assert button.isEnabled(), f"{name} is disabled: {button.toolTip()}"
        button.click()

    def choose(self, name: str, value: str) -> None:
        choice = self.controller.choices[name]
        choice.combo.currentIndex = [v for _, v in choice.entries].index(value)

    def until(self, done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "it did not happen in time"
            self.app.processEvents()
            time.sleep(0.005)

    def settle(self, seconds: float = 0.1) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, seconds + 1)

    def applied(self) -> None:
        """Wait until the segment has followed the sliders and ticks."""
        self.settle(0.02)
        self.until(lambda: self.controller.result.follows, 30)
        self.measured()

    def measured(self) -> None:
        """Wait until what a thread measures is shown."""
        self.until(lambda: not self.controller.result.busy, 90)

    def picture(self, name: str) -> None:
        self.settle(0.05)
        self.window.grab().save(str(self.pictures / f"panel-{name}.png"))

    def choose_folders(self, scans: Path, out: Path, scan: str = "sub-01_T1w.nii") -> None:
        """Those of a batch: ``scans`` is made, with the panel's image as ``scan``."""
        scans.mkdir()
        volume = volume_from_node(self.parameters.inputVolume)
        write_volume(scans / scan, volume, dtype=np.int16)
        self.ui.batchInputPathLineEdit.currentPath = str(scans)
        self.ui.batchOutputPathLineEdit.currentPath = str(out)

    def segment(self) -> None:
        self.click("segmentButton")
        self.until(lambda: self.controller.run.current is None, 240)

    def mask(self) -> np.ndarray:
        node = self.parameters.segmentation
        segment_id = self.widget.logic.segment_id(node)
        return results.read_segment(node, segment_id, self.parameters.inputVolume).full()


@pytest.fixture
def panel(
    slicer: Any,
    model_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Panel]:
    import pythonqt_stand_in as stand_in
    import slicer_python

    slicer_python.install(stand_in.make_qt(), stand_in.make_ctk())
    sys.modules.pop("StrokeLesionSeg", None)
    monkeypatch.setattr(slicer.util, "loadUI", stand_in.load_ui)
    monkeypatch.setattr(slicer.util, "childWidgetVariables", stand_in.child_widgets)
    clipboard = stand_in.application().clipboard()
    monkeypatch.setattr(slicer.app, "clipboard", lambda: clipboard, raising=False)
    drawn = simulated_once
    if "whole_sample" in request.fixturenames:
        drawn = simulated_as_it_is
    elif "coarse_sample" in request.fixturenames:
        drawn = simulated_coarsely
    monkeypatch.setattr(sample, "stroke_in_head", drawn)
    monkeypatch.setattr(process, "subprocess", forked_python.Subprocess)
    # Exceptions in slots are printed and swallowed by Qt: collect them.
    swallowed: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: swallowed.append(error))
    # So does the panel itself, which tells them to the user.
    monkeypatch.setattr(
        logging, "exception", lambda *_: swallowed.append(sys.exc_info()[1] or RuntimeError())
    )
    pictures = Path(os.environ.get("STROKE_LESION_SEG_PICTURES") or tmp_path)
    made = Panel(slicer, pictures)
    made.controller.engine._asked = "first_entry" not in request.fixturenames
    yield made
    made.widget.cleanup()
    for selector in (made.ui.inputSelector, made.ui.earlierSelector):
        stand_in.raw(selector).forget()
    made.window.close()
    stand_in.destroy(made.window)
    assert not swallowed, repr(swallowed)


@pytest.fixture
def ready(panel: Panel) -> Panel:
    """With the sample chosen, and settings that are quick."""
    panel.click("sampleButton")
    panel.choose("model", "fluid")
    panel.choose("align", "none")
    panel.choose("precision", "float32")
    panel.choose("device", "cpu")
    return panel


def result_of_a_script(panel: Panel | None, made: Provenance | None = None) -> tuple[Any, Any]:
    """The sample and a segmentation with two clean lesions, made without the panel; ``made`` by a
    model of which nothing is known."""
    from scipy import ndimage
    from StrokeLesionSegLib.slicerbridge.module.logic import SEGMENT_ATTRIBUTE
    from StrokeLesionSegLib.slicerbridge.scene.probability_map import ProbabilityMap

    node = sample.add_sample()
    truth = sample.stroke_in_head().truth
    sigmas = [2.0 / mm for mm in truth.spacing[::-1]]
    soft = ndimage.gaussian_filter(truth.array.astype(np.float32), sigmas)
    probability = truth.with_array(np.clip(soft, 0, 1))
    segmentation = results.add_segmentation(node)
    added = results.add_map(probability, node, "probability")
    segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, added.GetID())
    found = ProbabilityMap(probability).lesions(OperatingPoint(0.45, min_volume_ml=0.1))
    made = made or Provenance(model="by a script", threshold=0.45, min_volume_ml=0.1)
    segment_id = results.add_segment(segmentation, found.patch, made)
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    return node, segmentation
