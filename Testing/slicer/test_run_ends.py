"""A run that is cancelled or fails leaves no nodes and no files, wherever it was."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from bridge_scenes import blob_volume, head_node
from editor_stand_in import Editor
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.slicerbridge.editor.target import EditGrid
from StrokeLesionSegLib.slicerbridge.engine import compare, run
from StrokeLesionSegLib.slicerbridge.engine.polled_thread import PolledThread
from StrokeLesionSegLib.slicerbridge.scene import results, scan_views
from StrokeLesionSegLib.slicerbridge.scene.probability_map import ProbabilityMap
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.volumes import (
    add_volume_node,
    affine_from_node,
    matrix_from_affine,
    set_volume,
    volume_from_node,
)


def about_to_add(slicer: Any, node: Any) -> run.SegmentationRun:
    """A run whose engine has ended well; its results are to be added."""
    made = run.SegmentationRun(node)
    probability = blob_volume(node)
    kept = ProbabilityMap(probability)
    made._affine, made._shape = probability.affine, probability.array.shape
    made._loaded = {
        "sidecar": {},
        "provenance": Provenance(),
        "probability": probability.array,
        "uncertainty": probability.array / 4,
        "map": kept,
        "found": kept.lesions(OperatingPoint(0.5)),
    }
    made.state = "reading"
    made._thread = PolledThread(lambda: None)
    return made


def scene_of(slicer: Any) -> set[str]:
    """The nodes of the scene, without colours and hierarchy, which a scene has once."""
    once = ("vtkMRMLColorNode", "vtkMRMLSubjectHierarchyNode")
    nodes = slicer.util.getNodesByClass("vtkMRMLNode")
    return {n.GetID() for n in nodes if not any(map(n.IsA, once))}


@pytest.mark.parametrize("polls", [1, 2, 3])
def test_cancel_while_adding_leaves_no_nodes(slicer: Any, polls: int) -> None:
    node = head_node(slicer)
    before = scene_of(slicer)
    made = about_to_add(slicer, node)
    while made.state == "reading":
        made.poll()
    for _ in range(polls - 1):
        assert made.poll()
    made.cancel()
    assert made.state == "cancelled"
    assert scene_of(slicer) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_an_error_while_adding_changes_nothing(
    slicer: Any, earlier: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = head_node(slicer)
    if earlier:
        first = about_to_add(slicer, node)
        while first.poll():
            pass
        assert first.state == "done"
    before = scene_of(slicer)
    segmentation = results.find_segmentation(node)
    maps = results.maps_of(segmentation)

    def broken(*_: Any) -> None:
        raise RuntimeError("Slicer did not accept the mask")

    monkeypatch.setattr(results, "set_segment_voxels", broken)
    made = about_to_add(slicer, node)
    while made.poll():
        pass
    assert made.state == "failed"
    assert made.failure is not None
    assert "did not accept" in made.failure.cause
    assert scene_of(slicer) == before
    if earlier:
        assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
        assert results.maps_of(segmentation) == maps
        assert None not in maps


def test_results_lie_on_an_image_that_was_moved_meanwhile(slicer: Any) -> None:
    """Recentred, or with a transform hardened, while the network worked."""
    node = head_node(slicer)
    made = about_to_add(slicer, node)
    to_mni = np.diag([1.0, 1.0, 1.0, 1.0])
    to_mni[:3, 3] = (3.0, 4.0, 5.0)
    made._loaded["provenance"] = Provenance(to_mni=to_mni)
    before = affine_from_node(node)
    node.SetOrigin(*np.add(node.GetOrigin(), (20.0, -10.0, 5.0)))
    now = affine_from_node(node)
    while made.poll():
        pass
    assert made.state == "done"
    assert made.results is not None
    for map_node in (made.results.probability_node, made.results.uncertainty_node):
        np.testing.assert_allclose(affine_from_node(map_node), now)
    patch = results.read_segment(made.results.segmentation_node, made.results.segment_id, node)
    np.testing.assert_array_equal(patch.full(), made.results.found.patch.full())
    np.testing.assert_allclose(made.results.probability.volume.affine, now)
    tag = made.results.segmentation_node.GetSegmentation().GetSegment(made.results.segment_id)
    kept = Provenance.from_segment(tag).to_mni
    assert kept is not None
    np.testing.assert_allclose(kept @ now, to_mni @ before, atol=1e-4)


def resample(node: Any) -> None:
    """In place, to voxels of half the size, as by Slicer's own modules."""
    voxels, affine = volume_from_node(node).array, affine_from_node(node)
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, 0.25)
    affine[:3, :3] /= 2
    set_volume(node, Volume(np.kron(voxels, np.ones((2, 2, 2), voxels.dtype)), affine))


def recentre(node: Any) -> None:
    node.SetOrigin(*np.add(node.GetOrigin(), (20.3, -10.0, 5.0)))


@pytest.mark.parametrize("change", [resample, recentre])
def test_what_is_found_in_an_image_with_other_voxels_is_edited_on_these(
    slicer: Any, change: Any
) -> None:
    """And not on those of the segmentation that an earlier run made."""
    node = head_node(slicer)
    found = []
    for again in (False, True):
        if again:
            change(node)
        made = about_to_add(slicer, node)
        while made.poll():
            pass
        assert made.results is not None
        found.append(made.results)
    first, second = (one.segmentation_node for one in found)
    assert first is not second
    assert results.find_segmentation(node) is second
    scan_views.show_segmentation(second)
    shown = [node.GetDisplayNode().GetVisibility() for node in (first, second)]
    assert shown == [0, 1], "the older one would be taken for a part of it"
    editor = Editor(slicer, node, second)
    image = editor.effect().sourceVolumeImageData()
    grid = EditGrid.from_image(image, second).grid
    assert grid.same_as(volume_from_node(node).grid)


def test_a_finer_geometry_to_edit_on_is_kept_for_the_next_result(slicer: Any) -> None:
    node = head_node(slicer)
    for again in (False, True):
        if again:
            finer = add_volume_node(volume_from_node(node), "finer")
            resample(finer)
            segmentation = results.find_segmentation(node)
            geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(
                matrix_from_affine(affine_from_node(finer)), finer.GetImageData()
            )
            name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
            segmentation.GetSegmentation().SetConversionParameter(name, geometry)
        made = about_to_add(slicer, node)
        while made.poll():
            pass
    assert made.results is not None
    assert made.results.segmentation_node is segmentation


@pytest.mark.parametrize("kind", [run, compare])
def test_cancel_while_the_image_is_handed_over_leaves_no_files(
    slicer: Any, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """The file is closed before its folder is removed, and the folder does go."""
    go = threading.Event()
    nodes = [head_node(slicer) for _ in range(2 if kind is compare else 1)]
    wrote: list[bool] = []

    def slow(path: Any, volume: Any, **options: Any) -> None:
        go.wait(10)
        path.write_bytes(np.zeros(10).tobytes())  # raises if the folder is gone
        wrote.append(True)

    monkeypatch.setattr(kind, "write_volume", slow)
    made: Any
    if kind is compare:
        made = compare.ComparisonRun(*map(compare.ScanToCompare, nodes))
    else:
        made = run.SegmentationRun(*nodes)
    made.start()
    scratch = made.scratch
    assert scratch is not None
    began = time.monotonic()
    made.cancel()
    assert time.monotonic() - began < 1.0
    go.set()
    end = time.monotonic() + 10
    while scratch.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert wrote
    assert not scratch.exists()


def test_the_panel_knows_every_stage_of_a_run() -> None:
    from StrokeLesionSegLib.pipeline import STAGES
    from StrokeLesionSegLib.slicerbridge import engine_words
    from StrokeLesionSegLib.slicerbridge.engine.run import _SHARES

    assert list(_SHARES) == list(engine_words.STAGES)[: len(_SHARES)]
    assert list(_SHARES) == ["export", "start", *STAGES, "results"]
