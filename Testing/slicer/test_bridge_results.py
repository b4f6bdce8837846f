"""Segments, maps and thresholds in a real MRML scene: exact voxels, nothing overwritten."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from bridge_scenes import AFFINES, blob_volume, head_node, make_thresholder, voxels
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.slicerbridge.module import threshold
from StrokeLesionSegLib.slicerbridge.scene import results, terminology, volumes
from StrokeLesionSegLib.slicerbridge.scene.patch import Patch
from StrokeLesionSegLib.slicerbridge.scene.probability_map import ProbabilityMap
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance


@pytest.mark.parametrize("name", list(AFFINES))
def test_a_volume_keeps_voxels_and_affine_through_mrml(slicer: Any, name: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 4000, (5, 6, 7)).astype(np.int16)
    volume = Volume(array, AFFINES[name])
    node = volumes.add_volume_node(volume, "T1")
    back = volumes.volume_from_node(node)
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, AFFINES[name], atol=1e-12)


@pytest.mark.parametrize("name", list(AFFINES))
def test_the_segment_lies_on_the_image(slicer: Any, name: str) -> None:
    node = head_node(slicer, AFFINES[name])
    mask = np.zeros((20, 24, 28), np.uint8)
    mask[3:9, 5:8, 11:20] = 1
    segmentation = results.add_segmentation(node)
    patch = Patch(mask[2:10, 4:9, 10:22], (2, 4, 10), volumes.volume_from_node(node).grid)
    segment_id = results.add_segment(segmentation, patch, Provenance(model="m"))
    np.testing.assert_array_equal(patch.full(), mask)
    # Slicer's own export says where the voxels lie, not our way back.
    exported = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node)
    np.testing.assert_array_equal(exported, mask)
    back = results.read_segment(segmentation, segment_id, node)
    np.testing.assert_array_equal(back.full(), mask)
    assert back.checksum() == patch.checksum()


def test_what_a_segment_says_about_itself(slicer: Any) -> None:
    node = head_node(slicer)
    segmentation = results.add_segmentation(node)
    grid = volumes.volume_from_node(node).grid
    to_mni = np.array([[1, 0.01, 0, 3], [0, 1.1, 0, 0], [0, 0, 0.9, -7], [0, 0, 0, 1.0]])
    provenance = Provenance(
        "atlas-unet", "1.0", "abc", 0.4, 0.25, 0.05, "axial", "", "1 2 3", to_mni
    )
    segment_id = results.add_segment(
        segmentation, Patch(np.ones((2, 2, 2), np.uint8), (5, 5, 5), grid), provenance
    )
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    back = Provenance.from_segment(segment)
    assert (back.model, back.version, back.checksum) == ("atlas-unet", "1.0", "abc")
    assert (back.threshold, back.second_threshold, back.min_volume_ml) == (0.4, 0.25, 0.05)
    assert back.dropped == "1 2 3"
    np.testing.assert_array_equal(back.to_mni, to_mni)
    assert back.date.startswith("20")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.GetSegmentStatus(segment) == logic.InProgress
    results.write_segment(
        segmentation, segment_id, Patch(np.ones((3, 2, 2), np.uint8), (5, 5, 5), grid), provenance
    )
    assert logic.GetSegmentStatus(segment) == logic.InProgress
    entry = slicer.vtkSlicerTerminologyEntry()
    text = terminology.INFARCT.entry()
    assert slicer.modules.terminologies.logic().DeserializeTerminologyEntry(text, entry)
    assert entry.GetTypeObject().GetCodeValue() == "55641003"
    import vtk

    tag = vtk.reference("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), tag)
    assert str(tag) == text


def test_every_run_gets_a_segment_of_its_own(slicer: Any) -> None:
    node = head_node(slicer)
    segmentation = results.add_segmentation(node)
    assert results.find_segmentation(node) is segmentation
    grid = volumes.volume_from_node(node).grid
    one = Patch(np.ones((4, 4, 4), np.uint8), (2, 2, 2), grid)
    two = Patch(np.ones((4, 4, 4), np.uint8), (4, 4, 4), grid)  # overlaps the first
    first = results.add_segment(segmentation, one, Provenance())
    second = results.add_segment(segmentation, two, Provenance())
    names = [segmentation.GetSegmentation().GetSegment(s).GetName() for s in (first, second)]
    assert names == ["Stroke lesion", "Stroke lesion 2"]
    for segment_id, patch in ((first, one), (second, two)):
        got = results.read_segment(segmentation, segment_id, node).full()
        np.testing.assert_array_equal(got, patch.full())
    empty = Patch(np.zeros((4, 4, 4), np.uint8), (2, 2, 2), grid)
    results.write_segment(segmentation, first, empty, Provenance())
    assert results.read_segment(segmentation, first, node).full().sum() == 0
    np.testing.assert_array_equal(
        results.read_segment(segmentation, second, node).full(), two.full()
    )


def test_overlay_has_colours_and_follows_the_transform(slicer: Any) -> None:
    node = head_node(slicer)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "move")
    node.SetAndObserveTransformNodeID(transform.GetID())
    for kind, top in (("probability", 1.0), ("uncertainty", 0.5)):
        added = results.add_map(blob_volume(node), node, kind)
        assert added.GetTransformNodeID() == transform.GetID()
        display = added.GetScalarVolumeDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, top)
        assert display.GetApplyThreshold()
        color = display.GetColorNode()
        assert color is results.color_node(kind)
        results.show_overlay(added, 0.6)
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            assert composite.GetForegroundVolumeID() == added.GetID()
            assert composite.GetForegroundOpacity() == pytest.approx(0.6)
    results.show_overlay(None)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert composites
    assert all(not c.GetForegroundVolumeID() for c in composites)


def test_colours_that_a_scene_was_saved_without_come_back(slicer: Any) -> None:
    """Slicer 5.8 writes into a .mrml only the name of a colour node, and skips hidden ones' files:
    such a scene comes back with empty colours."""
    import vtk

    node = results.color_node("probability")
    assert not node.GetHideFromEditors()
    size = node.GetColorTransferFunction().GetSize()
    node.SetHideFromEditors(True)
    node.SetAndObserveColorTransferFunction(vtk.vtkColorTransferFunction())
    shown = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    results.show_overlay(shown)
    assert node.GetColorTransferFunction().GetSize() == 0, "not ours"
    shown.SetAttribute("StrokeLesionSeg", "probability")
    results.show_overlay(shown)
    assert node.GetColorTransferFunction().GetSize() == size > 2
    assert not node.GetHideFromEditors()
    assert results.color_node("probability") is node


# -- the sliders ----------------------------------------------------------------------------


def test_the_slider_gives_what_the_engine_gives(slicer: Any) -> None:
    from StrokeLesionSegLib.lesions import find_lesions

    node, sliders = make_thresholder(slicer)
    probability = blob_volume(node)
    for value, smallest in ((0.3, 0.0), (0.5, 0.0), (0.5, 0.1), (0.8, 0.0), (0.03, 0.0)):
        sliders.begin()
        found = sliders.apply(value, smallest).lesion_map
        expected = find_lesions(
            probability.array, probability.affine, OperatingPoint(value, min_volume_ml=smallest)
        )
        np.testing.assert_array_equal(voxels(sliders, node), expected.mask)
        assert [x.side for x in found.lesions] == [x.side for x in expected.lesions]
        for ours, theirs in zip(found.lesions, expected.lesions, strict=True):
            np.testing.assert_allclose(ours.centroid_ras_mm, theirs.centroid_ras_mm, atol=1e-9)
            assert ours.mean_probability == pytest.approx(theirs.mean_probability)


def test_a_second_threshold_has_to_be_reached(slicer: Any) -> None:
    from StrokeLesionSegLib.lesions import find_lesions

    # One of the two blobs has its peak below the second threshold.
    _node, sliders = make_thresholder(slicer)
    peaks = sorted(x.peak_probability for x in sliders.apply(0.3, 0.0).lesion_map.lesions)
    second = (peaks[0] + peaks[1]) / 2
    node, sliders = make_thresholder(slicer, Provenance(second_threshold=second))
    probability = blob_volume(node)
    counts = []
    for value in (0.3, 0.5, peaks[0] - 0.01, (second + peaks[1]) / 2, 0.4):
        sliders.begin()
        found = sliders.apply(value, 0.0)
        expected = find_lesions(
            probability.array,
            probability.affine,
            OperatingPoint(value, second if second > value else None),
        )
        np.testing.assert_array_equal(voxels(sliders, node), expected.mask)
        np.testing.assert_array_equal(sliders.found().patch.full(), expected.mask)
        counts.append(len(found.lesion_map.lesions))
    assert counts == [1, 1, 1, 1, 1]


def test_undo_and_redo_give_back_every_voxel(slicer: Any) -> None:
    node, sliders = make_thresholder(slicer)
    states = [voxels(sliders, node)]
    for value in (0.3, 0.7):
        sliders.begin()
        for step in (0.4, 0.45, value):  # one drag with several updates is one step
            sliders.apply(step, 0.0)
        states.append(voxels(sliders, node))
    assert len({s.sum() for s in states}) == 3
    assert sliders.undo()
    np.testing.assert_array_equal(voxels(sliders, node), states[1])
    assert sliders.undo()
    np.testing.assert_array_equal(voxels(sliders, node), states[0])
    assert not sliders.undo()
    assert sliders.redo()
    assert sliders.redo()
    np.testing.assert_array_equal(voxels(sliders, node), states[2])
    assert not sliders.redo()


def test_a_dropped_lesion_goes_and_comes_back_at_any_threshold(slicer: Any) -> None:
    node, sliders = make_thresholder(slicer)
    found = sliders.apply(0.5, 0.0)
    lesions, seeds = found.lesion_map.lesions, found.seeds
    assert len(lesions) == 2
    full = voxels(sliders, node)
    sliders.apply(0.5, 0.0, dropped=seeds[:1])
    assert voxels(sliders, node).sum() == full.sum() - lesions[0].voxels
    found = sliders.apply(0.6, 0.0, dropped=seeds[:1])
    assert len(found.lesion_map.lesions) == 2, "a dropped lesion stays listed"
    assert voxels(sliders, node).sum() == found.lesion_map.lesions[1].voxels
    assert found.seeds[0] == seeds[0]
    assert found.dropped == {1}
    sliders.apply(0.5, 0.0)
    np.testing.assert_array_equal(voxels(sliders, node), full)


@pytest.mark.parametrize("how", ["edited", "completed", "flagged"])
def test_manual_work_is_never_overwritten(slicer: Any, how: str) -> None:
    node, sliders = make_thresholder(slicer)
    segmentation, mine = sliders.segmentation_node, sliders.segment_id
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = segmentation.GetSegmentation().GetSegment(mine)
    if how == "edited":
        array = voxels(sliders, node)
        array[0:2, 0:2, 0:2] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, mine, node)
    else:
        logic.SetSegmentStatus(segment, logic.Completed if how == "completed" else logic.Flagged)
    work = voxels(sliders, node)
    sliders.begin()
    assert sliders.kept_apart
    sliders.apply(0.3, 0.0)
    assert sliders.segment_id != mine
    np.testing.assert_array_equal(results.read_segment(segmentation, mine, node).full(), work)
    sliders.begin()
    assert not sliders.kept_apart


def test_the_sliders_work_from_a_saved_scene(slicer: Any, tmp_path: Any) -> None:
    node, sliders = make_thresholder(slicer, Provenance(second_threshold=0.35, model="m"))
    probability = results.add_map(blob_volume(node), node, "probability")
    sliders.segmentation_node.SetNodeReferenceID(results.PROBABILITY_ROLE, probability.GetID())
    segment_id = sliders.segment_id
    sliders.apply(0.5, 0.0)
    before = voxels(sliders, node)
    file = str(tmp_path / "szene mit Umlaut ä.mrb")
    assert slicer.mrmlScene.WriteToMRB(file)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(file, True)
    node = slicer.util.getNode("T1")
    segmentation = results.find_segmentation(node)
    probability, uncertainty = results.maps_of(segmentation)
    assert uncertainty is None
    loaded = threshold.ThresholdEditor.from_nodes(segmentation, segment_id, node, probability)
    loaded.begin()
    assert not loaded.kept_apart
    loaded.apply(0.3, 0.0)
    loaded.apply(0.5, 0.0)
    np.testing.assert_array_equal(voxels(loaded, node), before)
    assert loaded.undo()


def test_a_whole_head_follows_the_slider_within_200_ms(slicer: Any) -> None:
    """256 x 256 x 180 at 1 mm, a large lesion and a rim of doubtful voxels; the median counts."""
    shape = (180, 256, 256)
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    distance = np.sqrt((k - 90.0) ** 2 + (j - 120.0) ** 2 + (i - 90.0) ** 2)
    array = np.clip(1.2 - distance / 40, 0, 1).astype(np.float32)
    rng = np.random.default_rng(0)
    for _ in range(60):
        z, y, x = rng.integers(30, 150), rng.integers(40, 210), rng.integers(40, 210)
        array[z : z + 3, y : y + 4, x : x + 4] = 0.6
    node = volumes.add_volume_node(Volume(array, np.diag([1.0, 1, 1, 1])), "T1")
    segmentation = results.add_segmentation(node)
    made = ProbabilityMap(Volume(array, np.eye(4)))
    patch = made.lesions(OperatingPoint(0.5, min_volume_ml=0.05)).patch
    sliders = threshold.ThresholdEditor(
        segmentation, results.add_segment(segmentation, patch, Provenance()), node, made
    )
    took, busy = [], []
    for value in (0.2, 0.4, 0.6, 0.5, 0.3, 0.45, 0.55):
        began, worked = time.perf_counter(), time.thread_time()
        sliders.begin()
        sliders.apply(value, 0.05)
        took.append(time.perf_counter() - began)
        busy.append(time.thread_time() - worked)
    print(
        f"save for undo and apply: {np.median(took) * 1000:.0f} ms by the clock, "
        f"{np.median(busy) * 1000:.0f} ms of work; worst {max(took) * 1000:.0f} ms"
    )
    # The work counts, so that a busy machine does not fail the test.
    assert np.median(busy) < 0.2


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_files_for_the_engine_keep_voxels_and_affine(tmp_path: Any, kind: str) -> None:
    """The engine's reader and nibabel are the witnesses; the affine keeps double precision."""
    import nibabel
    from StrokeLesionSegLib.images import NiftiFields, read_scan, write_volume

    rng = np.random.default_rng(0)
    array = (rng.random((6, 7, 8)) * 200).astype(kind)
    affine = AFFINES["oblique, thick"] * np.array([1, 1, 1, np.pi])[None]
    affine[3] = (0, 0, 0, 1)
    write_volume(tmp_path / "a.nii", Volume(array, affine), nifti=NiftiFields(version=2))
    scan = read_scan(tmp_path / "a.nii")
    np.testing.assert_array_equal(scan.volume.affine, affine)
    np.testing.assert_allclose(scan.volume.array, array.astype(np.float32), rtol=1e-6)
    image = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(image.affine, affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, array)


def test_the_affine_of_the_file_counts_to_the_last_digit(slicer: Any, tmp_path: Any) -> None:
    """A left-handed file with the crooked numbers of a float32 header, as Slicer loads it."""
    import nibabel

    affine = AFFINES["oblique, thick"].copy()
    affine[:3, 0] *= -1  # left-handed: Slicer reverses an axis
    affine = affine.astype(np.float32).astype(np.float64)
    image = nibabel.Nifti1Image(np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7), affine)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(tmp_path / "scan.nii.gz"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
    assert storage.ReadData(node)
    node.SetAndObserveStorageNodeID(storage.GetID())
    exact = volumes.exact_affine(node)
    stated = nibabel.load(tmp_path / "scan.nii.gz").affine
    axes = np.rint(np.linalg.inv(stated) @ exact)
    np.testing.assert_array_equal(exact, stated @ axes)
    np.testing.assert_allclose(exact, volumes.affine_from_node(node), atol=1e-5)
    # Moved or given another grid since: the node counts.
    moved = volumes.affine_from_node(node)
    moved[0, 3] += 2
    node.SetIJKToRASMatrix(volumes.matrix_from_affine(moved))
    np.testing.assert_array_equal(volumes.exact_affine(node), volumes.affine_from_node(node))
    (tmp_path / "scan.nii.gz").write_bytes(b"\x1f\x8bno gzip at all")
    np.testing.assert_array_equal(volumes.exact_affine(node), volumes.affine_from_node(node))


def test_a_segment_shown_in_3d_follows_its_voxels(
    slicer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = head_node(slicer, AFFINES["RAS"])
    grid = volumes.volume_from_node(node).grid
    segmentation = results.add_segmentation(node)
    mask = np.zeros((20, 24, 28), np.uint8)
    mask[3:9, 5:12, 11:20] = 1
    segment_id = results.add_segment(segmentation, Patch(mask, (0, 0, 0), grid), Provenance("m"))
    assert segmentation.CreateClosedSurfaceRepresentation()
    capfd.readouterr()
    mask = np.roll(mask, 5, axis=0)
    results.set_segment_voxels(segmentation, segment_id, Patch(mask, (0, 0, 0), grid))
    surface = (
        segmentation.GetSegmentation().GetSegment(segment_id).GetRepresentation("Closed surface")
    )
    low, high = np.array(surface.GetBounds()).reshape(3, 2).T
    places = np.argwhere(mask)[:, ::-1]
    ends = np.sort(
        [(grid.affine[:3, :3] @ p) + grid.affine[:3, 3] for p in (places.min(0), places.max(0))],
        axis=0,
    )
    np.testing.assert_allclose([low, high], ends, atol=2.5)
    np.testing.assert_array_equal(results.read_segment(segmentation, segment_id, node).full(), mask)
    results.set_segment_voxels(segmentation, segment_id, Patch(mask * 0, (0, 0, 0), grid))
    assert not results.read_segment(segmentation, segment_id, node).full().any()
    seen = capfd.readouterr()
    assert "rror" not in seen.out + seen.err
