"""The sample in Slicer: a simulated stroke T1, made on this computer in a second or two."""

from __future__ import annotations

import contextlib
from typing import Any

from ...sample_scan import stroke_in_head

SAMPLE_NAME = "StrokeT1Simulated"
NODE_NAME = "Simulated stroke T1"


def add_sample(seed: int = 0) -> Any:
    """Add the simulated T1 to the scene and show it; returns the volume node."""
    from ..scene.results import show_background
    from ..scene.volumes import add_volume_node

    node = add_volume_node(stroke_in_head(seed).t1, NODE_NAME)
    node.CreateDefaultDisplayNodes()
    display = node.GetScalarVolumeDisplayNode()
    if display is not None:
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0, 900)
    show_background(node, fit=True)
    return node


def register_sample(category: str, thumbnail: str = "") -> bool:
    """Offer the sample in Slicer's Sample Data module; False where that module is not there."""
    try:
        import SampleData
    except ImportError:
        return False
    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12 and newer
        # With another signature the next call makes the category, too.
        with contextlib.suppress(TypeError):
            logic.registerCustomSampleDataCategory(category, category)
    logic.registerCustomSampleDataSource(
        category=category,
        sampleName=SAMPLE_NAME,
        # Nothing is fetched: the custom downloader makes the volume here.
        uris="file:///made-on-this-computer",
        fileNames="StrokeT1Simulated.nrrd",
        nodeNames=NODE_NAME,
        thumbnailFileName=thumbnail,
        customDownloader=_make_sample,
    )
    return True


def _make_sample(source: Any = None) -> list[Any]:
    """For Sample Data: always the same function, by which it knows a source that it has."""
    return [add_sample()]
