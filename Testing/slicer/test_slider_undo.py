"""Undo of the sliders changes their own segment only; whose map is whose; hand work stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vtk
from bridge_scenes import AFFINES, blob_volume, head_node, make_thresholder, voxels
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.slicerbridge.module.logic import SEGMENT_ATTRIBUTE, BridgeLogic
from StrokeLesionSegLib.slicerbridge.scene import results, volumes
from StrokeLesionSegLib.slicerbridge.scene.patch import Patch
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance


def by_hand(slicer: Any, sliders: Any, node: Any, segment_id: str) -> np.ndarray:
    """Paint a corner of a segment as the Segment Editor does; returns its mask."""
    array = results.read_segment(sliders.segmentation_node, segment_id, node).full()
    array[0:2, 0:3, 0:4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        array, sliders.segmentation_node, segment_id, node
    )
    return array


@pytest.mark.parametrize("name", list(AFFINES))
def test_undo_leaves_all_other_segments_alone(slicer: Any, name: str) -> None:
    node, sliders = make_thresholder(slicer, affine=AFFINES[name])
    segmentation = sliders.segmentation_node
    grid = volumes.volume_from_node(node).grid
    one = Patch(np.ones((4, 4, 4), np.uint8), (6, 6, 6), grid)  # overlaps ours
    other = results.add_segment(segmentation, one, Provenance(), "Other")
    first = voxels(sliders, node)
    tags = Provenance.from_segment(sliders.segment)
    sliders.begin()
    sliders.apply(0.3, 0.0)
    low = voxels(sliders, node)
    corrected = by_hand(slicer, sliders, node, other)
    added = results.add_segment(segmentation, one, Provenance(), "Added since")
    for step, expected in ((sliders.undo, first), (sliders.redo, low), (sliders.undo, first)):
        assert step()
        np.testing.assert_array_equal(voxels(sliders, node), expected)
        np.testing.assert_array_equal(
            results.read_segment(segmentation, other, node).full(), corrected
        )
        np.testing.assert_array_equal(
            results.read_segment(segmentation, added, node).full(), one.full()
        )
    assert Provenance.from_segment(sliders.segment) == tags


@pytest.mark.parametrize("how", ["edited", "completed"])
def test_undo_is_refused_where_it_would_lose_hand_work(slicer: Any, how: str) -> None:
    node, sliders = make_thresholder(slicer)
    first = voxels(sliders, node)
    sliders.begin()
    sliders.apply(0.3, 0.0)
    work = voxels(sliders, node)
    if how == "edited":
        work = by_hand(slicer, sliders, node, sliders.segment_id)
    else:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetSegmentStatus(sliders.segment, logic.Completed)
    with pytest.raises(ValueError, match="by hand or finished"):
        sliders.undo()
    np.testing.assert_array_equal(voxels(sliders, node), work)
    # The sliders go on beside it, and their own steps can be taken back.
    kept = sliders.segment_id
    sliders.begin()
    sliders.apply(0.6, 0.0)
    assert sliders.undo()
    assert sliders.segment_id == kept
    np.testing.assert_array_equal(voxels(sliders, node), work)
    assert not np.array_equal(first, work)


def test_a_new_segment_of_the_sliders_goes_and_comes_back(slicer: Any) -> None:
    """A step that began a segment beside hand work; segments of others come after it."""
    node, sliders = make_thresholder(slicer)
    segmentation, mine = sliders.segmentation_node, sliders.segment_id
    results.set_maps(segmentation, mine, (node, None))
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, mine)
    logic = BridgeLogic()
    logic._thresholders[segmentation.GetID()] = sliders
    work = by_hand(slicer, sliders, node, mine)
    logic.threshold(segmentation, 0.3, 0.0, measure=False)
    begun, low = logic.segment_id(segmentation), voxels(sliders, node)
    assert begun != mine
    grid = volumes.volume_from_node(node).grid
    last = results.add_segment(
        segmentation, Patch(np.ones((2, 2, 2), np.uint8), (1, 1, 1), grid), Provenance()
    )
    assert logic.undo(segmentation) is not None
    assert logic.segment_id(segmentation) == mine != last
    assert segmentation.GetSegmentation().GetSegment(begun) is None
    np.testing.assert_array_equal(results.read_segment(segmentation, mine, node).full(), work)
    # Hand work is where undo has arrived: going forward again must not need to change it.
    again = logic.undo(segmentation, redo=True)
    assert again is not None
    assert again.threshold == pytest.approx(0.3)
    assert logic.segment_id(segmentation) == begun
    np.testing.assert_array_equal(voxels(sliders, node), low)
    np.testing.assert_array_equal(results.read_segment(segmentation, mine, node).full(), work)
    assert results.maps_of(segmentation, begun)[0] is node
    segmentation.GetSegmentation().RemoveSegment(mine)
    assert logic.undo(segmentation) is None, "there is nothing to go back to"
    np.testing.assert_array_equal(voxels(sliders, node), low)


@pytest.mark.parametrize("name", list(AFFINES))
@pytest.mark.parametrize("how", ["moved", "hardened", "together"])
def test_a_moved_image_is_no_edit(slicer: Any, how: str, name: str) -> None:
    node, sliders = make_thresholder(slicer, affine=AFFINES[name])
    segmentation = sliders.segmentation_node
    before = results.read_own(segmentation, sliders.segment_id, node).full()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    turn = vtk.vtkTransform()
    turn.Translate(7, -3, 2)
    turn.RotateX(20)
    transform.SetMatrixTransformToParent(turn.GetMatrix())
    node.SetAndObserveTransformNodeID(transform.GetID())
    if how == "hardened":
        node.HardenTransform()
    elif how == "together":
        segmentation.SetAndObserveTransformNodeID(transform.GetID())
    assert not results.edited(segmentation, sliders.segment_id, node)
    sliders.begin()
    assert not sliders.kept_apart
    sliders.apply(0.3, 0.0)
    assert sliders.undo()
    after = results.read_own(segmentation, sliders.segment_id, node).full()
    np.testing.assert_array_equal(after, before)
    segment = sliders.segment
    image = segment.GetRepresentation(
        slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    )
    extent = image.GetExtent()
    image.SetScalarComponentFromDouble(extent[0], extent[2], extent[4], 0, 1.0)
    changed = not np.array_equal(
        results.read_own(segmentation, sliders.segment_id, node).full(), before
    )
    assert results.edited(segmentation, sliders.segment_id, node) == changed


@pytest.mark.parametrize("name", list(AFFINES))
def test_a_result_follows_an_image_whose_transform_is_hardened(slicer: Any, name: str) -> None:
    """Image and segmentation get their place for good: voxels, sliders, maps and MNI follow."""
    to_mni = np.diag([1.1, 0.9, 1.0, 1.0])
    made = Provenance(min_volume_ml=0.01, to_mni=to_mni)
    node, sliders = make_thresholder(slicer, made, AFFINES[name])
    segmentation, segment_id = sliders.segmentation_node, sliders.segment_id
    maps = [results.add_map(blob_volume(node), node, kind) for kind in ("probability",) * 2]
    results.set_maps(segmentation, segment_id, tuple(maps))
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    logic = BridgeLogic()
    before, rows = voxels(sliders, node), logic.threshold(segmentation, 0.5, 0.01)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    turn = vtk.vtkTransform()
    turn.Translate(70, -3, 2)
    turn.RotateX(20)
    transform.SetMatrixTransformToParent(turn.GetMatrix())
    for moved in (node, segmentation):
        moved.SetAndObserveTransformNodeID(transform.GetID())
    logic.threshold(segmentation, 0.3, 0.01)
    assert logic.steps(segmentation)[0]
    assert [m.GetTransformNodeID() for m in maps] == [transform.GetID()] * 2
    for moved in (node, segmentation):
        moved.HardenTransform()
    assert not results.edited(segmentation, segment_id, node)
    again = logic.threshold(segmentation, 0.5, 0.01)
    np.testing.assert_array_equal(voxels(sliders, node), before)
    for old, new in zip(rows, again, strict=True):
        assert new.volume_ml == pytest.approx(old.volume_ml)
        assert new.seed == old.seed
        place = turn.TransformPoint(old.centroid_ras_mm)
        np.testing.assert_allclose(new.centroid_ras_mm, place, atol=1e-4)
        np.testing.assert_allclose(new.centroid_mni_mm, old.centroid_mni_mm, atol=1e-3)
    for m in maps:
        assert m.GetTransformNodeID() is None
        np.testing.assert_allclose(
            volumes.affine_from_node(m), volumes.affine_from_node(node), atol=1e-9
        )


@pytest.mark.parametrize("kept", ["never", "removed"])
def test_the_alignment_of_a_result_without_maps_follows_its_image(slicer: Any, kept: str) -> None:
    """One of a comparison or of a batch, or of a scene that was saved without its maps."""
    made = Provenance(to_mni=np.diag([1.1, 0.9, 1.0, 1.0]))
    node, sliders = make_thresholder(slicer, made)
    segmentation, segment_id = sliders.segmentation_node, sliders.segment_id
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    if kept == "removed":
        probability = results.add_map(blob_volume(node), node, "probability")
        results.set_maps(segmentation, segment_id, (probability, None))
        slicer.mrmlScene.RemoveNode(probability)
    logic = BridgeLogic()
    with pytest.raises(ValueError, match="has no probability map"):
        logic.thresholder(segmentation)
    before = logic.measure(segmentation)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    turn = vtk.vtkTransform()
    turn.Translate(70, -3, 2)
    transform.SetMatrixTransformToParent(turn.GetMatrix())
    for moved in (node, segmentation):
        moved.SetAndObserveTransformNodeID(transform.GetID())
        moved.HardenTransform()
    for _again in range(2):
        for old, new in zip(before, logic.measure(segmentation), strict=True):
            np.testing.assert_allclose(new.centroid_mni_mm, old.centroid_mni_mm, atol=1e-3)
    # Of other voxels nothing is known.
    slicer.util.updateVolumeFromArray(node, np.roll(slicer.util.arrayFromVolume(node), 3, 1))
    with pytest.raises(ValueError, match="not aligned"):
        logic.in_mni(segmentation)


def test_each_segment_keeps_the_map_of_its_own_run(slicer: Any, tmp_path: Any) -> None:
    node = head_node(slicer)
    segmentation = results.add_segmentation(node)
    first = results.add_map(blob_volume(node), node, "probability")
    half = Volume(blob_volume(node).array / 2, volumes.affine_from_node(node))
    second = results.add_map(half, node, "probability")
    patch = Patch(np.ones((3, 3, 3), np.uint8), (8, 8, 7), half.grid)
    ids = []
    for probability in (first, second):
        segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, probability.GetID())
        ids.append(results.add_segment(segmentation, patch, Provenance()))
        results.set_maps(segmentation, ids[-1], (probability, None))
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, ids[1])
    means = [BridgeLogic().measure(segmentation, i)[0].mean_probability for i in ids]
    assert means[0] == pytest.approx(2 * means[1])
    logic = BridgeLogic()
    logic.thresholder(segmentation)  # its map is at hand, and is not the first segment's
    assert logic.measure(segmentation, ids[0])[0].mean_probability == pytest.approx(means[0])
    file = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(file)
    slicer.mrmlScene.Clear(0)
    # Merged into a scene that has volumes already, so that the nodes get other IDs.
    head_node(slicer, name="Another")
    assert slicer.mrmlScene.ReadFromMRB(file, False)
    segmentation = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    loaded = [BridgeLogic().measure(segmentation, i)[0].mean_probability for i in ids]
    assert loaded == pytest.approx(means)
    slicer.mrmlScene.RemoveNode(results.maps_of(segmentation, ids[0])[0])
    assert results.maps_of(segmentation, ids[0])[0] is None, "not that of another run"


def test_a_removed_segmentation_is_let_go(slicer: Any) -> None:
    logic = BridgeLogic()
    for _ in range(2):
        node, sliders = make_thresholder(slicer)
        segmentation = sliders.segmentation_node
        segmentation.SetAttribute(SEGMENT_ATTRIBUTE, sliders.segment_id)
        probability = results.add_map(blob_volume(node), node, "probability")
        results.set_maps(segmentation, sliders.segment_id, (probability, None))
        logic.thresholder(segmentation)
        assert list(logic._thresholders) == [segmentation.GetID()]
        slicer.mrmlScene.RemoveNode(segmentation)


def test_the_users_own_fusion_stays(slicer: Any) -> None:
    node = head_node(slicer)
    flair = head_node(slicer, name="FLAIR")
    ours = results.add_map(blob_volume(node), node, "probability")
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    for number, composite in enumerate(composites):
        composite.SetForegroundVolumeID(ours.GetID() if number == 0 else flair.GetID())
        composite.SetForegroundOpacity(0.7)
    results.show_overlay(None)
    assert not composites[0].GetForegroundVolumeID()
    for composite in composites[1:]:
        assert composite.GetForegroundVolumeID() == flair.GetID()
        assert composite.GetForegroundOpacity() == pytest.approx(0.7)
