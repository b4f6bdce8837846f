"""The lesion table: measured from the segment as it is, kept in the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_scenes import AFFINES, blob_volume, head_node
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.slicerbridge.module import measure
from StrokeLesionSegLib.slicerbridge.module.logic import SEGMENT_ATTRIBUTE, BridgeLogic
from StrokeLesionSegLib.slicerbridge.scene import results, volumes
from StrokeLesionSegLib.slicerbridge.scene.probability_map import (
    ProbabilityMap,
    seeds_from_text,
    seeds_to_text,
)
from StrokeLesionSegLib.slicerbridge.scene.provenance import TAG, Provenance
from test_run_ends import about_to_add


def scene(slicer: Any, affine: np.ndarray | None = None) -> tuple[Any, Any, str, Any]:
    node = head_node(slicer, affine)
    made = ProbabilityMap(blob_volume(node))
    segmentation = results.add_segmentation(node)
    found = made.lesions(OperatingPoint(0.5))
    segment_id = results.add_segment(segmentation, found.patch, Provenance())
    return node, segmentation, segment_id, made


def move(slicer: Any, *nodes: Any) -> tuple[float, float, float]:
    """Move nodes by a transform that is hardened; by how much, in mm."""
    by = (40.0, -3.0, 5.0)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    shift = np.eye(4)
    shift[:3, 3] = by
    transform.SetMatrixTransformToParent(volumes.matrix_from_affine(shift))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
        node.HardenTransform()
    return by


@pytest.mark.parametrize("name", list(AFFINES))
def test_the_table_measures_the_segment(slicer: Any, name: str) -> None:
    node, segmentation, segment_id, made = scene(slicer, AFFINES[name])
    rows = measure.measure_segment(segmentation, segment_id, node, made)
    by_threshold = measure.rows_of(made.lesions(OperatingPoint(0.5)))
    assert len(rows) == 2
    for row, other in zip(rows, by_threshold, strict=True):
        assert row.volume_ml == pytest.approx(other.volume_ml)
        assert row.mean_probability == pytest.approx(other.mean_probability, abs=1e-6)
        assert row.peak_probability == pytest.approx(other.peak_probability)
        assert row.seed == other.seed
        assert row.side == other.side
        np.testing.assert_allclose(row.centroid_ras_mm, other.centroid_ras_mm, atol=1e-6)


def test_a_hand_drawn_piece_is_counted_with_its_true_probability(slicer: Any) -> None:
    node, segmentation, segment_id, made = scene(slicer)
    array = results.read_segment(segmentation, segment_id, node).full()
    array[0:2, 20:22, 24:27] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segment_id, node)
    rows = measure.measure_segment(segmentation, segment_id, node, made)
    assert len(rows) == 3
    last = rows[-1]
    assert last.volume_ml == pytest.approx(12 / 1000)
    values = made.volume.array[0:2, 20:22, 24:27]
    assert last.mean_probability == pytest.approx(values.mean(), abs=1e-6)
    assert measure.total_text(rows).startswith("3 lesions, ")


def test_the_table_node_survives_a_scene_file(slicer: Any, tmp_path: Any) -> None:
    node, segmentation, _, made = scene(slicer)
    found = made.lesions(OperatingPoint(0.5), dropped=made.lesions(OperatingPoint(0.5)).seeds[1:])
    rows = measure.rows_of(found)
    assert [row.keep for row in rows] == [True, False]
    table = measure.add_table(rows, node, segmentation)
    assert measure.add_table(rows, node, segmentation) is table, "one table a segmentation"
    before = measure.table_rows(table)
    assert before[0]["Volume (mL)"] == pytest.approx(rows[0].volume_ml)
    assert [row["Keep"] for row in before] == [1, 0]
    file = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(file)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(file, True)
    again = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    table = again.GetNodeReference(measure.TABLE_ROLE)
    after = measure.table_rows(table)
    assert len(after) == len(before)
    for row, other in zip(after, before, strict=True):
        for name in other:
            expected = other[name]
            if isinstance(expected, float):
                assert float(row[name]) == pytest.approx(expected, rel=1e-5)
            else:
                assert str(row[name]) == str(expected)
    assert seeds_from_text(str(after[1]["Seed"])) == (rows[1].seed,)


def test_dropped_seeds_as_a_parameter() -> None:
    seeds = ((1, 2, 3), (40, 50, 60))
    assert seeds_from_text(seeds_to_text(seeds)) == seeds
    assert seeds_from_text("") == ()
    assert seeds_from_text("1 2; x y z; 4 5 6") == ((4, 5, 6),)


def test_jump_goes_where_the_lesion_is_seen(slicer: Any) -> None:
    import vtk

    node, segmentation, segment_id, made = scene(slicer)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "move")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 15)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    row = measure.measure_segment(segmentation, segment_id, node, made)[0]
    world = results.jump_to(row.centroid_ras_mm, node)
    expected = np.add(row.centroid_ras_mm, (15, 0, 0))
    np.testing.assert_allclose(world, expected, atol=1e-6)
    slices = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    assert slices
    for view in slices:
        m = view.GetSliceToRAS()
        centre = [m.GetElement(r, 3) for r in range(3)]
        np.testing.assert_allclose(centre, expected, atol=1e-6)
    assert slicer.util.getNode("T1").GetTransformNodeID() == transform.GetID()


def test_a_report_of_the_segment_as_it_is(slicer: Any, tmp_path: Any) -> None:
    from simulated import simulated_head
    from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node

    made = simulated_head()
    node = add_volume_node(made.t1, "Scan: <1>")
    truth = made.truth.with_array(made.truth.array.astype(np.float32))
    found = ProbabilityMap(truth).lesions(OperatingPoint(0.5))
    segmentation = results.add_segmentation(node)
    segment_id = results.add_segment(segmentation, found.patch, Provenance())
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    folder = tmp_path / "Bericht für Ärzte"
    page = BridgeLogic().report(segmentation, folder)
    text = page.path.read_text(encoding="utf-8")
    assert page.path.parent == folder
    assert f"{made.truth.array.sum() / 1000:.1f}" in text
    assert "corrected by hand" not in text
    assert "Expected Dice" not in text
    assert str(tmp_path) not in text
    array = found.patch.full()
    array[:20, :20, :20] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segment_id, node)
    second = BridgeLogic().report(segmentation, folder)
    assert second.path != page.path
    assert "corrected by hand" in second.path.read_text(encoding="utf-8")


def test_a_report_tells_the_expected_dice_of_a_calibrated_model(slicer: Any, tmp_path: Any) -> None:
    from StrokeLesionSegLib.lesions import expected_dice
    from StrokeLesionSegLib.models import Manifest, find_model

    manifest = Manifest.from_file(find_model())
    made = Provenance(manifest.name, manifest.version, manifest.sha256)
    node = head_node(slicer)
    probability = blob_volume(node)
    found = ProbabilityMap(probability).lesions(OperatingPoint(0.5))
    segmentation = results.add_segmentation(node)
    segment_id = results.add_segment(segmentation, found.patch, made)
    added = results.add_map(probability, node, "probability")
    results.set_maps(segmentation, segment_id, (added, None))
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    text = BridgeLogic().report(segmentation, tmp_path).path.read_text(encoding="utf-8")
    value = expected_dice(
        probability.array, found.patch.full(), calibration=manifest.inference.calibration
    ).value
    assert "Expected Dice" in text
    assert f">{value:.2f}<" in text
    # Of what a reader has left out the model would still expect that it is lesion.
    logic = BridgeLogic()
    rows = logic.threshold(segmentation, 0.5, 0.0)
    logic.threshold(segmentation, 0.5, 0.0, [rows[-1].seed])
    text = logic.report(segmentation, tmp_path).path.read_text(encoding="utf-8")
    assert "Expected Dice" not in text


def test_maps_from_before_a_hardened_warp_are_not_used(slicer: Any, tmp_path: Path) -> None:
    """Image and segmentation were warped for good, the maps were not: they fit no more."""
    import vtk

    node, segmentation, segment_id, made = scene(slicer)
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    aligned = Provenance(to_mni=np.eye(4)).tags()["ToMNI"]
    segmentation.GetSegmentation().GetSegment(segment_id).SetTag(TAG + "ToMNI", aligned)
    maps = [results.add_map(made.volume, node, kind) for kind in ("probability", "uncertainty")]
    results.set_maps(segmentation, segment_id, (maps[0], maps[1]))
    logic = BridgeLogic()
    assert logic.thresholder(segmentation).probability is not None
    warp = vtk.vtkThinPlateSplineTransform()
    for points, shift in ((vtk.vtkPoints(), 0.0), (vtk.vtkPoints(), 3.0)):
        for n, place in enumerate(((0, 0, 0), (28, 0, 0), (0, 24, 0), (0, 0, 20), (14, 12, 10))):
            points.InsertNextPoint(place[0] + shift * n, place[1] - shift * (n % 3), place[2])
        (warp.SetTargetLandmarks if shift else warp.SetSourceLandmarks)(points)
    warp.SetBasisToR()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    transform.SetAndObserveTransformToParent(warp)
    for moved in (node, segmentation, *maps):
        moved.SetAndObserveTransformNodeID(transform.GetID())
    for moved in (node, segmentation):
        assert moved.HardenTransform()
    rows = logic.measure(segmentation)
    assert [row.mean_probability for row in rows] == [1.0] * len(rows), "as without a map"
    assert logic.found_later(segmentation)().lesion_map.lesions
    with pytest.raises(ValueError, match="resampled or filtered since"):
        logic.thresholder(segmentation)
    with pytest.raises(ValueError, match="not aligned"):
        logic.in_mni(segmentation)
    assert logic.report(segmentation, tmp_path).path.exists()


def _bump(slicer: Any) -> Any:
    """A transform that shifts the middle of ``head_node`` by some voxels and leaves its rim."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    k, j, i = np.mgrid[:20, :24, :28]
    rim = np.sin(np.pi * k / 19) * np.sin(np.pi * j / 23) * np.sin(np.pi * i / 27)
    field = vtk.vtkImageData()
    field.SetDimensions(28, 24, 20)
    field.AllocateScalars(vtk.VTK_DOUBLE, 3)
    shifts = vtk_to_numpy(field.GetPointData().GetScalars())
    shifts[:] = 0
    shifts[:, 0] = 4 * rim.ravel()
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(field)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "bump")
    node.SetAndObserveTransformFromParent(grid)
    return node


@pytest.mark.parametrize("how", ["warped", "filtered"])
def test_maps_of_other_voxels_on_the_same_grid_are_not_used(slicer: Any, how: str) -> None:
    """A warp that keeps the grid was hardened, or the image was filtered in place."""
    node, segmentation, segment_id, made = scene(slicer)
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    aligned = Provenance(to_mni=np.eye(4)).tags()["ToMNI"]
    segmentation.GetSegmentation().GetSegment(segment_id).SetTag(TAG + "ToMNI", aligned)
    probability = results.add_map(made.volume, node, "probability")
    results.set_maps(segmentation, segment_id, (probability, None))
    logic = BridgeLogic()
    node.GetDisplayNode().SetWindowLevelMinMax(0, 17)
    assert logic.threshold(segmentation, 0.5, 0.0)
    before, grid = slicer.util.arrayFromVolume(node).copy(), volumes.affine_from_node(node)
    if how == "warped":
        transform = _bump(slicer)
        for moved in (node, segmentation):
            moved.SetAndObserveTransformNodeID(transform.GetID())
            assert moved.HardenTransform()
    else:
        slicer.util.updateVolumeFromArray(node, np.sqrt(before).astype(np.int16))
    after = slicer.util.arrayFromVolume(node)
    assert after.shape == before.shape
    assert (after != before).any()
    np.testing.assert_array_equal(volumes.affine_from_node(node), grid)
    with pytest.raises(ValueError, match="warped, resampled or filtered since"):
        logic.threshold(segmentation, 0.5, 0.0)
    rows = logic.measure(segmentation)
    assert [row.mean_probability for row in rows] == [1.0] * len(rows), "as without a map"
    with pytest.raises(ValueError, match="not aligned"):
        logic.in_mni(segmentation)


def test_results_are_there_again_with_the_frame_of_a_sequence_that_they_are_of(
    slicer: Any,
) -> None:
    """Another frame is shown for a while; meanwhile both are moved for good."""
    node, segmentation, segment_id, made = scene(slicer)
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    aligned = Provenance(to_mni=np.diag([1.1, 1, 1, 1])).tags()["ToMNI"]
    segmentation.GetSegmentation().GetSegment(segment_id).SetTag(TAG + "ToMNI", aligned)
    probability = results.add_map(made.volume, node, "probability")
    results.set_maps(segmentation, segment_id, (probability, None))
    logic = BridgeLogic()
    before = logic.measure(segmentation)
    frame = slicer.util.arrayFromVolume(node).copy()
    slicer.util.updateVolumeFromArray(node, frame[:, ::-1].copy())
    with pytest.raises(ValueError, match="not aligned"):
        logic.in_mni(segmentation)
    move(slicer, node, segmentation)
    logic.measure(segmentation)
    slicer.util.updateVolumeFromArray(node, frame)
    for _again in range(2):
        assert logic.in_mni(segmentation)
        for old, new in zip(before, logic.measure(segmentation), strict=True):
            np.testing.assert_allclose(new.centroid_mni_mm, old.centroid_mni_mm, atol=1e-3)
            assert new.mean_probability == pytest.approx(old.mean_probability)
    assert logic.threshold(segmentation, 0.5, 0.0)


@pytest.mark.parametrize("affine", ["RAS", "LPS", "left-handed"])
@pytest.mark.parametrize("stored", [np.int16, np.float32, np.float64])
def test_maps_stay_those_of_an_image_that_is_saved_and_loaded(
    slicer: Any, tmp_path: Path, stored: Any, affine: str
) -> None:
    node = head_node(slicer, AFFINES.get(affine, np.diag([-1.0, 1, 1, 1])))
    kept = results.add_map(blob_volume(node), node, "probability")
    slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node).astype(stored))
    storage = node.CreateDefaultStorageNode()
    storage.SetFileName(str(tmp_path / "scan.nrrd"))
    assert storage.WriteData(node)
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    reading = loaded.CreateDefaultStorageNode()
    reading.SetFileName(storage.GetFileName())
    assert reading.ReadData(loaded)
    assert slicer.util.arrayFromVolume(loaded).dtype == stored
    assert results.made_of(kept, loaded)


def test_a_left_handed_image_of_a_script_keeps_its_result_when_the_scene_is_loaded(
    slicer: Any, tmp_path: Path
) -> None:
    """Slicer turns the image and its maps then, and not the segmentation: what was left out stays
    so, and what belongs to the image goes on following it."""
    affine = np.diag([-1.0, 1.2, 2.0, 1.0])
    affine[:3, 3] = (5, 6, 7)
    node = head_node(slicer, affine)
    logic = BridgeLogic()
    run = about_to_add(slicer, node)
    while run.poll():
        pass
    segmentation = logic.accept(run).segmentation_node
    rows = logic.rows(segmentation)
    logic.threshold(segmentation, 0.5, 0.0, [rows[1].seed])
    first = logic.measure(segmentation)
    file = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(file)
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.ReadFromMRB(file, True)
    (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    node, logic = volumes.image_of(segmentation), BridgeLogic()
    assert np.linalg.det(affine[:3, :3]) < 0 < np.linalg.det(volumes.affine_from_node(node)[:3, :3])
    assert [row.keep for row in logic.rows(segmentation)] == [True, False]
    made = logic.settings(segmentation)
    logic.threshold(segmentation, 0.4, 0.0, seeds_from_text(made.dropped))
    logic.undo(segmentation)
    (now,) = logic.measure(segmentation)
    assert now.volume_ml == pytest.approx(first[0].volume_ml)
    np.testing.assert_allclose(now.centroid_ras_mm, first[0].centroid_ras_mm, atol=1e-6)
    # A transform that is hardened on both takes the maps along.
    shift = move(slicer, node, segmentation)
    (row,) = [row for row in logic.threshold(segmentation, 0.5, 0.0, [now.seed]) if not row.keep]
    wanted = np.add(first[0].centroid_ras_mm, shift)
    np.testing.assert_allclose(row.centroid_ras_mm, wanted, atol=1e-6)
