"""What the effects stand on: grids and targets, the session store, clicks, strokes, review, mirror.

On Slicer's real libraries. Voxel counts under masking and overwriting are in ``test_edit_voxels``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_scenes import AFFINES, blob_volume, head_node
from editor_stand_in import Editor, LayoutManager
from map_session import BALL_MM, MapSession
from StrokeLesionSegLib.boxes import whole_box
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.slicerbridge.editor import (
    mirror as edit_mirror,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    points as edit_points,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    store as edit_store,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    target as edit_target,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    views as edit_views,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    write as edit_write,
)
from StrokeLesionSegLib.slicerbridge.editor.clicks import ClickWork
from StrokeLesionSegLib.slicerbridge.editor.regions import region_of, region_voxels
from StrokeLesionSegLib.slicerbridge.editor.review import Reviewer
from StrokeLesionSegLib.slicerbridge.editor.stroke import Brush, Stroke
from StrokeLesionSegLib.slicerbridge.scene import results, volumes
from StrokeLesionSegLib.slicerbridge.scene.provenance import TAG, get_tag
from test_edit_voxels import Bench


def moved(slicer: Any, node: Any, scale: float = 1.0) -> np.ndarray:
    """Put a node under a linear transform; returns its matrix."""
    matrix = np.eye(4)
    turn = np.radians(25)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, :3] *= scale
    matrix[:3, 3] = (12, -7, 31)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(volumes.matrix_from_affine(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return matrix


# -- grid and target ----------------------------------------------------------------------------


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_the_edited_grid_is_the_volumes(slicer: Any, affine: np.ndarray) -> None:
    bench = Bench(slicer, affine)
    volume = volumes.volume_from_node(bench.volume)
    assert bench.grid.grid.same_as(volume.grid)
    image = bench.effect.sourceVolumeImageData()
    taken = edit_target.volume_of_image(image, bench.grid)
    np.testing.assert_array_equal(taken.array, volume.array)
    index = (3, 7, 11)
    local = bench.grid.index_to_local(index)
    np.testing.assert_allclose(bench.grid.local_to_index(local), index, atol=1e-9)
    np.testing.assert_allclose(bench.grid.to_world(local), local, atol=1e-9)
    assert bench.grid.inside(local)
    assert not bench.grid.inside(bench.grid.index_to_local((3, 7, 28)))


def test_places_go_through_the_segmentations_transform(slicer: Any) -> None:
    bench = Bench(slicer, AFFINES["oblique, thick"])
    matrix = moved(slicer, bench.editor.segmentation)
    local = bench.grid.index_to_local((5, 6, 7))
    world = (matrix @ np.array([*local, 1]))[:3]
    np.testing.assert_allclose(bench.grid.to_world(local), world, atol=1e-9)
    np.testing.assert_allclose(bench.grid.to_local(world), local, atol=1e-9)
    ijk = bench.grid.world_to_index_transform().TransformPoint(list(world))
    np.testing.assert_allclose(ijk, (7, 6, 5), atol=1e-6)


def test_a_source_of_other_geometry_comes_onto_the_grid(slicer: Any) -> None:
    """Coarser, elsewhere and under a transform of its own: the values are those of its places."""
    bench = Bench(slicer)
    ramp = np.zeros((12, 14, 16), np.float32)
    ramp[:] = np.arange(16) * 4.0  # 2 mm voxels: the value is twice the local x
    other = volumes.add_volume_node(Volume(ramp, np.diag([2.0, 2, 2, 1])), "coarse")
    matrix = moved(slicer, other)
    moved_segmentation = moved(slicer, bench.editor.segmentation)
    np.testing.assert_array_equal(matrix, moved_segmentation)
    bench.editor.logic.SetSourceVolumeNode(other)
    image = bench.effect.sourceVolumeImageData()
    grid = edit_target.EditGrid.from_image(image, bench.editor.segmentation)
    assert grid.grid.same_as(bench.grid.grid)
    values = edit_target.volume_of_image(image, grid).array[4, 6, 1:27]
    np.testing.assert_allclose(values, 2.0 * np.arange(1, 27), atol=1e-3)
    np.testing.assert_allclose(edit_target.resampled(other, grid)[4, 6, 1:27], values, atol=1e-3)


def test_segment_voxels_of_any_box(slicer: Any) -> None:
    bench = Bench(slicer, AFFINES["sagittal"])
    full = edit_write.segment_voxels(bench.target, bench.grid)
    np.testing.assert_array_equal(full != 0, bench.before["one"])
    for box in (np.s_[4:14, 3:6, 10:28], np.s_[0:2, 0:2, 0:2], np.s_[12:13, 0:24, 0:28]):
        part = edit_write.segment_voxels(bench.target, bench.grid, box)
        np.testing.assert_array_equal(part, full[box])
    gone = edit_target.EditTarget(bench.target.segmentation_id, "no such segment")
    assert not edit_write.segment_voxels(gone, bench.grid).any()


def test_finished_and_missing_segments_are_refused(slicer: Any) -> None:
    bench = Bench(slicer)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(bench.target.segment, logic.Completed)
    with pytest.raises(edit_write.CannotEdit, match="marked as completed"):
        edit_write.begin(bench.effect, bench.target)
    work = ClickWork(bench.effect, bench.store, bench.entry, bench.target, 0.5)
    with pytest.raises(edit_write.CannotEdit, match="marked as completed"):
        work.click(bench.grid.index_to_local((9, 9, 8)), False, 0)
    assert bench.session.clicks == ()
    assert bench.effect.saves == 0
    bench.editor.segmentation.GetSegmentation().RemoveSegment("one")
    with pytest.raises(edit_write.CannotEdit, match="removed"):
        edit_write.begin(bench.effect, bench.target)


def test_the_remembered_segment_is_changed_and_its_masking_counts(slicer: Any) -> None:
    """Another segment is selected meanwhile; "outside all segments" still means all but ours."""
    bench = Bench(slicer)
    bench.rules("EditAllowedOutsideAllSegments", False, "OverwriteNone")
    bench.editor.select("two")
    told: list[Any] = []
    bench.editor.node.AddObserver("ModifiedEvent", lambda *a: told.append(a))
    mask = np.ones(bench.probability.shape, bool)
    whole = whole_box(mask.shape)
    edit_write.add(bench.effect, bench.target, bench.grid, whole, mask)
    now = bench.now()
    outside = ~(bench.before["two"] | bench.before["three"])
    np.testing.assert_array_equal(now["one"], bench.before["one"] | outside)
    np.testing.assert_array_equal(now["two"], bench.before["two"])
    assert bench.editor.node.GetSelectedSegmentID() == "two"
    assert told == []


# -- views --------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_view_knows_its_native_slice(slicer: Any, affine: np.ndarray) -> None:
    bench = Bench(slicer, affine)
    layout = LayoutManager(slicer)
    centre = bench.grid.index_to_local((7, 9, 11))
    aligned = 0
    for widget in layout.widgets.values():
        widget.node.JumpSliceByCentering(*centre)
        plane = edit_views.view_plane(widget.node, bench.grid)
        if plane.axis is not None:
            aligned += 1
            assert plane.index == (7, 9, 11)[plane.axis]
        else:
            assert affine is AFFINES["oblique, thick"]
        x, y, off = edit_views.world_to_xy(widget.node, centre)
        assert abs(off) < 1e-6
        np.testing.assert_allclose(edit_views.xy_to_world(widget.node, (x, y)), centre, atol=1e-6)
    assert aligned == (0 if affine is AFFINES["oblique, thick"] else 3)


def test_a_view_along_an_oblique_grid_knows_its_slice(slicer: Any) -> None:
    bench = Bench(slicer, AFFINES["oblique, thick"])
    node = LayoutManager(slicer).sliceWidget("Red").node
    node.RotateToVolumePlane(bench.volume)
    node.JumpSliceByCentering(*bench.grid.index_to_local((7, 9, 11)))
    plane = edit_views.view_plane(node, bench.grid)
    assert plane.axis is not None
    assert plane.index == (7, 9, 11)[plane.axis]
    assert edit_views.axis_of_view(plane, bench.grid) == plane.axis


def warped(slicer: Any, node: Any) -> None:
    """Put a node under a warp of a few millimetres."""
    import vtk

    warp = vtk.vtkThinPlateSplineTransform()
    places = [
        (-60, -60, -20),
        (60, -60, 0),
        (-60, 60, 20),
        (60, 60, 90),
        (0, 0, 140),
        (-20, 10, 60),
    ]
    for points, shift in ((vtk.vtkPoints(), 0.0), (vtk.vtkPoints(), 4.0)):
        for n, (x, y, z) in enumerate(places):
            points.InsertNextPoint(x + shift * (n % 2), y - shift * (n % 3), z + shift)
        (warp.SetTargetLandmarks if shift else warp.SetSourceLandmarks)(points)
    warp.SetBasisToR()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    transform.SetAndObserveTransformToParent(warp)
    node.SetAndObserveTransformNodeID(transform.GetID())


@pytest.mark.parametrize("put_under", [moved, warped], ids=["linear", "warp"])
def test_an_overlay_shows_the_voxels_that_lie_there(slicer: Any, put_under: Any) -> None:
    from vtk.util.numpy_support import vtk_to_numpy

    bench = Bench(slicer, AFFINES["oblique, thick"])
    put_under(slicer, bench.editor.segmentation)
    assert (bench.grid.world_to_index_matrix() is None) == (put_under is warped)
    overlay = edit_views.Overlay(bench.grid)
    overlay.labels[6:9, 8:11, 10:13] = 1
    overlay.changed()
    node = LayoutManager(slicer).sliceWidget("Green").node
    world = bench.grid.to_world(bench.grid.index_to_local((7, 9, 11)))
    node.JumpSliceByCentering(*world)
    drawn = edit_views.OverlayActor(overlay)
    drawn.follow(node)
    drawn.reslice.Update()
    image = drawn.reslice.GetOutput()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(200, 200)
    assert 0 < pixels.sum() < 20000
    for y, x in [(5, 5), (100, 100), (99, 104), (112, 96)]:
        index = np.rint(
            bench.grid.local_to_index(bench.grid.to_local(edit_views.xy_to_world(node, (x, y))))
        ).astype(int)
        inside = (index >= (6, 8, 10)).all() and (index < (9, 11, 13)).all()
        assert bool(pixels[y, x]) == bool(inside)
    overlay.labels[:] = 0
    overlay.changed()
    drawn.reslice.Update()
    pixels = vtk_to_numpy(drawn.reslice.GetOutput().GetPointData().GetScalars())
    assert not pixels.any()


def test_regions_from_views_and_rois(slicer: Any) -> None:
    bench = Bench(slicer)
    node = LayoutManager(slicer).sliceWidget("Red").node
    node.JumpSliceByCentering(*bench.grid.index_to_local((7, 9, 11)))
    plane = edit_views.view_plane(node, bench.grid)

    def voxels(kind: str, roi: Any = None) -> np.ndarray:
        found = region_voxels(region_of(kind, bench.grid, plane, 5.0, roi), bench.grid)
        assert found is not None
        return found

    assert region_voxels(region_of("whole", bench.grid, None, 0, None), bench.grid) is None
    only = voxels("slice")
    assert only[7].all()
    assert only.sum() == only[7].size
    slab = voxels("slab")
    assert [n for n in range(20) if slab[n].any()] == [5, 6, 7, 8, 9]
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "ROI")
    roi.SetCenter([10.0, 8.0, 6.0])
    roi.SetSize([4.2, 6.2, 2.2])
    inside = voxels("roi", roi)
    wanted = np.zeros(inside.shape, bool)
    wanted[5:8, 5:12, 8:13] = True
    np.testing.assert_array_equal(inside, wanted)
    # Moved together, ROI and segmentation mean the same voxels.
    moved(slicer, roi)
    roi_transform = roi.GetTransformNodeID()
    bench.editor.segmentation.SetAndObserveTransformNodeID(roi_transform)
    np.testing.assert_array_equal(voxels("roi", roi), wanted)
    with pytest.raises(edit_write.CannotEdit, match="region of interest"):
        voxels("roi")
    with pytest.raises(edit_write.CannotEdit, match="No slice view"):
        region_of("slice", bench.grid, None, 0, None)


# -- strokes ------------------------------------------------------------------------------------


def flat_plane(bench: Bench) -> edit_views.ViewPlane:
    axes = np.eye(3)
    return edit_views.ViewPlane(np.zeros(3), axes[0], axes[1], 0, 0)


def test_a_stroke_has_no_gaps_and_is_one_step(slicer: Any) -> None:
    bench = Bench(slicer)
    bench.session.probability[:] = 1.0
    stroke = Stroke(bench.entry, bench.target, Brush(1.2, 0.5, sphere=True))
    for index in ((10, 2, 2), (10, 2, 26)):
        stroke.touch(bench.grid.index_to_local(index), flat_plane(bench))
    assert stroke.mask[10, 2, 2:27].all()
    assert stroke.apply(bench.effect, bench.store) == stroke.mask.sum()
    assert bench.effect.saves == 1
    np.testing.assert_array_equal(bench.now()["one"], bench.before["one"] | (stroke.mask != 0))


def test_a_stroke_outside_of_everything_changes_nothing(slicer: Any) -> None:
    bench = Bench(slicer)
    stroke = Stroke(bench.entry, bench.target, Brush(3.0, 0.5))
    stroke.touch((500.0, 0.0, 0.0), flat_plane(bench))
    assert stroke.apply(bench.effect, bench.store) == 0
    assert bench.effect.saves == 0


def test_a_faint_first_touch_lowers_the_bound(slicer: Any) -> None:
    bench = Bench(slicer)
    bench.session.probability[:] = 0.3
    place = bench.grid.index_to_local((16, 3, 24))
    for follow, count in ((False, False), (True, True)):
        brush = Brush(3.0, 0.5, sphere=True, follow=follow)
        stroke = Stroke(bench.entry, bench.target, brush)
        stroke.touch(place, flat_plane(bench))
        assert bool(stroke.mask.any()) == count


def test_the_brush_keeps_its_size_under_a_scaling_transform(slicer: Any) -> None:
    bench = Bench(slicer)
    bench.session.probability[:] = 1.0
    moved(slicer, bench.editor.segmentation, scale=2.0)
    local = bench.grid.index_to_local((10, 12, 14))
    stroke = Stroke(bench.entry, bench.target, Brush(8.2, 0.5, sphere=True))
    stroke.touch(bench.grid.to_world(local), flat_plane(bench))
    np.testing.assert_array_equal(stroke.mask != 0, bench.distance((10, 12, 14)) <= 4.1)


# -- clicks -------------------------------------------------------------------------------------


def new_work(bench: Bench) -> ClickWork:
    return ClickWork(bench.effect, bench.store, bench.entry, bench.target, 0.5)


def finish(work: ClickWork) -> None:
    while work.step():
        pass


def test_the_slice_first_then_the_others(slicer: Any) -> None:
    bench = Bench(slicer)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((3, 20, 24)), True, 0)
    gained = bench.now()["one"] & ~bench.before["one"]
    ball = (bench.distance((3, 20, 24)) <= BALL_MM) | bench.before["one"]
    assert {int(k) for k in np.nonzero(gained)[0]} == {3}
    np.testing.assert_array_equal(bench.now()["one"][3], ball[3])
    finish(work)
    assert not work.working
    np.testing.assert_array_equal(
        bench.now()["one"] & (bench.distance((3, 20, 24)) <= BALL_MM),
        bench.distance((3, 20, 24)) <= BALL_MM,
    )


def test_a_missing_lesion_is_taken_whole_and_a_trimmed_one_is_left(slicer: Any) -> None:
    bench = Bench(slicer)
    lesion = bench.component(0.5, (9, 9, 8))
    bench.editor.put("one", np.zeros(lesion.shape, bool))
    work = new_work(bench)
    work.click(bench.grid.index_to_local((9, 9, 8)), True, 0)
    np.testing.assert_array_equal(bench.now()["one"][9], lesion[9])
    finish(work)
    np.testing.assert_array_equal(bench.now()["one"], lesion)
    # Somebody cut a part away: the next click in the rest does not bring it back.
    trimmed = lesion.copy()
    trimmed[:, :6] = False
    bench.editor.put("one", trimmed)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((9, 12, 8)), True, 0)
    finish(work)
    turned = (bench.distance((9, 12, 8)) <= BALL_MM) & (bench.distance((9, 9, 8)) > BALL_MM)
    np.testing.assert_array_equal(bench.now()["one"], trimmed | (turned & ~lesion))
    assert (bench.now()["one"] & ~trimmed).any()


def test_what_others_drew_stays(slicer: Any) -> None:
    bench = Bench(slicer)
    drawn = np.zeros(bench.probability.shape, bool)
    drawn[14, 2:5, 2:26] = True
    bench.editor.put("one", drawn)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    finish(work)
    assert (bench.now()["one"] & drawn).sum() == drawn.sum()


def test_one_click_is_one_step_and_undo_takes_the_point_along(slicer: Any) -> None:
    bench = Bench(slicer)
    work = new_work(bench)
    first = work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    finish(work)
    one_click = bench.now()["one"]
    work = new_work(bench)
    work.click(bench.grid.index_to_local((4, 4, 24)), True, 2)
    finish(work)
    two_clicks = bench.now()["one"]
    assert bench.effect.saves == 2
    bench.editor.undo()
    np.testing.assert_array_equal(bench.now()["one"], one_click)
    assert bench.store.follow(bench.entry, bench.target)
    assert [c.id for c in bench.session.clicks] == [first]
    bench.editor.redo()
    np.testing.assert_array_equal(bench.now()["one"], two_clicks)
    assert bench.store.follow(bench.entry, bench.target)
    assert len(bench.session.clicks) == 2
    bench.editor.undo()
    bench.editor.undo()
    np.testing.assert_array_equal(bench.now()["one"], bench.before["one"])
    bench.store.follow(bench.entry, bench.target)
    assert bench.session.clicks == ()


def test_undo_while_work_runs_ends_the_work(slicer: Any) -> None:
    bench = Bench(slicer)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    assert work.step()
    bench.editor.undo()
    assert not work.step()
    assert not work.working
    np.testing.assert_array_equal(bench.now()["one"], bench.before["one"])


def test_work_goes_on_in_its_own_segment(slicer: Any) -> None:
    bench = Bench(slicer)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    bench.editor.select("two")
    finish(work)
    now = bench.now()
    np.testing.assert_array_equal(now["two"], bench.before["two"])
    assert (now["one"] & (bench.distance((14, 16, 24)) <= BALL_MM)).sum() == (
        bench.distance((14, 16, 24)) <= BALL_MM
    ).sum()
    bench.editor.segmentation.GetSegmentation().RemoveSegment("one")
    bench.entry.work = work
    assert not work.step()
    assert bench.entry.work is None


def test_what_was_drawn_over_old_clicks_stays(slicer: Any) -> None:
    """The clicks of a segment that was left, undone or loaded are in it already."""
    bench = Bench(slicer)
    two = edit_target.EditTarget(bench.target.segmentation_id, "two")
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    finish(work)
    drawn = bench.now()["one"]
    rim = (14, 16, 20)  # of the click's ball, not next to the click
    assert drawn[rim]
    drawn[12:17, :, 20] = False
    bench.editor.put("one", drawn)
    assert bench.store.follow(bench.entry, two)
    assert bench.store.follow(bench.entry, bench.target)
    assert bench.session.is_behind()
    work = new_work(bench)
    work.click(bench.grid.index_to_local((4, 4, 24)), True, 0)
    finish(work)
    near = bench.distance((4, 4, 24)) <= BALL_MM
    np.testing.assert_array_equal(bench.now()["one"], drawn | near)
    # And after undo of a click.
    bench.editor.undo()
    bench.store.follow(bench.entry, bench.target)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((4, 20, 4)), True, 0)
    finish(work)
    near = bench.distance((4, 20, 4)) <= BALL_MM
    np.testing.assert_array_equal(bench.now()["one"], drawn | near)


def test_two_quick_clicks_take_two_lesions_whole(slicer: Any) -> None:
    bench = Bench(slicer)
    lesion = bench.component(0.5, (9, 9, 8))
    bench.editor.put("one", np.zeros(lesion.shape, bool))
    first = new_work(bench)
    first.click(bench.grid.index_to_local((9, 9, 8)), True, 0)
    second = new_work(bench)
    second.click(bench.grid.index_to_local((3, 20, 24)), True, 0)
    assert not first.step()
    finish(second)
    np.testing.assert_array_equal(bench.now()["one"] & lesion, lesion)


def test_another_segments_work_is_done_before_its_own(slicer: Any) -> None:
    bench = Bench(slicer)
    two = edit_target.EditTarget(bench.target.segmentation_id, "two")
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    assert work.working
    bench.store.follow(bench.entry, two)
    assert bench.entry.work is None
    assert bench.session.clicks == ()
    ball = bench.distance((14, 16, 24)) <= BALL_MM
    assert bench.now()["one"][ball].all()
    np.testing.assert_array_equal(bench.now()["two"], bench.before["two"])


def test_moving_removing_and_clearing_clicks(slicer: Any) -> None:
    bench = Bench(slicer)
    bench.editor.put("one", np.zeros(bench.probability.shape, bool))
    work = new_work(bench)
    click_id = work.click(bench.grid.index_to_local((3, 18, 24)), True, 0)
    finish(work)
    np.testing.assert_array_equal(bench.now()["one"], bench.distance((3, 18, 24)) <= BALL_MM)
    work = new_work(bench)
    work.move(click_id, bench.grid.index_to_local((15, 4, 22)))
    finish(work)
    np.testing.assert_array_equal(bench.now()["one"], bench.distance((15, 4, 22)) <= BALL_MM)
    work = new_work(bench)
    work.remove(click_id)
    finish(work)
    assert not bench.now()["one"].any()
    assert bench.effect.saves == 3
    for index in ((3, 18, 24), (15, 4, 22)):
        work = new_work(bench)
        work.click(bench.grid.index_to_local(index), True, 0)
        finish(work)
    work = new_work(bench)
    work.clear()
    finish(work)
    assert bench.session.clicks == ()
    assert not bench.now()["one"].any()
    with pytest.raises(edit_write.CannotEdit, match="outside"):
        work.click((900.0, 0, 0), True, 0)


def test_a_segment_made_by_hand_is_the_starting_point(slicer: Any) -> None:
    bench = Bench(slicer)
    work = new_work(bench)
    assert work.start_from_segment() == bench.before["one"].sum()
    work.click(bench.grid.index_to_local((8, 8, 10)), False, 0)
    finish(work)
    away = bench.distance((8, 8, 10)) <= BALL_MM
    np.testing.assert_array_equal(bench.now()["one"], bench.before["one"] & ~away)
    # Another segment starts from the model again; back here, from the segment as it is now.
    bench.editor.select("two")
    two = edit_target.EditTarget.selected(bench.editor.node)
    assert bench.store.follow(bench.entry, two)
    np.testing.assert_array_equal(bench.session.guided_mask(0.5)[1], bench.probability >= 0.5)
    assert bench.store.follow(bench.entry, bench.target)
    np.testing.assert_array_equal(bench.session.guided_mask(0.5)[1], bench.now()["one"])


# -- state in the scene -------------------------------------------------------------------------


def test_clicks_and_decisions_survive_the_segmentations_file(slicer: Any, tmp_path: Path) -> None:
    bench = Bench(slicer)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    finish(work)
    reviewer = Reviewer(bench.effect, bench.store, bench.entry, bench.target)
    candidate = reviewer.look(0.5, 0.0)[0]
    reviewer.reject(candidate.id)
    state = json.loads(get_tag(bench.target.segment, edit_store.STATE_TAG))
    path = str(tmp_path / "edited.seg.nrrd")
    saved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    saved.SetFileName(path)
    assert saved.WriteData(bench.editor.segmentation)
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    loaded.SetFileName(path)
    again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "again")
    assert loaded.ReadData(again)
    segment = again.GetSegmentation().GetSegment("one")
    assert json.loads(get_tag(segment, edit_store.STATE_TAG)) == state
    fresh = edit_store.Entry(
        MapSession(blob_volume(bench.volume)), bench.grid, bench.entry.key, bench.volume.GetID()
    )
    assert bench.store.follow(fresh, edit_target.EditTarget(again.GetID(), "one"))
    assert fresh.session.to_state() == bench.session.to_state()


def test_a_tag_that_makes_no_sense_is_ignored(slicer: Any) -> None:
    bench = Bench(slicer)
    bench.target.segment.SetTag(TAG + edit_store.STATE_TAG, "{broken")
    assert bench.store.follow(bench.entry, bench.target)
    assert bench.session.clicks == ()
    assert not bench.store.follow(bench.entry, bench.target)


def test_points_are_shown_moved_deleted_and_saved(slicer: Any, tmp_path: Path) -> None:
    bench = Bench(slicer)
    moved(slicer, bench.editor.segmentation)
    told: list[Any] = []
    points = edit_points.ClickPoints(
        lambda n, place: told.append((n, tuple(np.round(place, 3)))),
        lambda n: told.append((n, None)),
    )
    for index, positive in (((14, 16, 24), True), ((9, 9, 8), False), ((3, 3, 3), True)):
        work = new_work(bench)
        work.click(bench.grid.index_to_local(index), positive, 0)
        finish(work)
    points.show(bench.entry, bench.target)
    nodes = {n.GetName(): n for n in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")}
    assert sorted(nodes) == ["one: lesion", "one: not lesion"]
    lesion, other = nodes["one: lesion"], nodes["one: not lesion"]
    assert (lesion.GetNumberOfControlPoints(), other.GetNumberOfControlPoints()) == (2, 1)
    place = [0.0, 0.0, 0.0]
    lesion.GetNthControlPointPositionWorld(0, place)
    local = bench.grid.index_to_local((14, 16, 24))
    np.testing.assert_allclose(place, bench.grid.to_world(local), atol=1e-4)
    node = LayoutManager(slicer).sliceWidget("Red").node
    node.JumpSliceByCentering(*place)
    x, y, _off = edit_views.world_to_xy(node, place)
    assert points.near(node, (x + 3, y - 3)) == 1
    assert points.near(node, (x + 30, y)) is None
    # Shown again they stay the same nodes and points, and tell nothing.
    points.show(bench.entry, bench.target)
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")) == 2
    assert told == []
    lesion.SetNthControlPointPosition(1, 5.0, 6.0, 7.0)
    lesion.InvokeEvent(lesion.PointEndInteractionEvent)
    assert told == [(3, (5.0, 6.0, 7.0))]
    other.RemoveNthControlPoint(0)
    assert told[1:] == [(2, None)]
    points.set_visible(bench.target, False)
    assert not lesion.GetDisplayNode().GetVisibility()
    points.forget()
    lesion.RemoveNthControlPoint(0)
    assert len(told) == 2


def test_a_saved_scene_brings_points_and_parameters_back(slicer: Any, tmp_path: Path) -> None:
    bench = Bench(slicer)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    finish(work)
    points = edit_points.ClickPoints(lambda *a: None, lambda *a: None)
    points.show(bench.entry, bench.target)
    bench.effect.setParameter("Threshold", 0.35)
    state = bench.session.to_state()
    voxels = bench.now()["one"]
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    points.forget()
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.ReadFromMRB(path, False)
    segmentation = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    editor = slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode")[0]
    assert editor.GetAttribute("Test.Threshold") == "0.35"
    target = edit_target.EditTarget(segmentation.GetID(), "one")
    volume = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[0]
    image = bench.grid.frame
    image = edit_target.empty_image(bench.grid)
    grid = edit_target.EditGrid.from_image(image, segmentation)
    session = MapSession(blob_volume(volume))
    entry = edit_store.Entry(session, grid, (), volume.GetID())
    assert edit_store.SessionStore().follow(entry, target)
    assert session.to_state() == state
    np.testing.assert_array_equal(edit_write.segment_voxels(target, grid) != 0, voxels)
    points.show(entry, target)
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")) == 1
    points.forget()


# -- review -------------------------------------------------------------------------------------


def test_decisions_can_be_taken_back_exactly(slicer: Any) -> None:
    bench = Bench(slicer)
    reviewer = Reviewer(bench.effect, bench.store, bench.entry, bench.target)
    order = [c.id for c in reviewer.look(0.5, 0.0)]
    doubts = [c.doubt for c in reviewer.candidates]
    assert doubts == sorted(doubts, reverse=True)
    assert len(order) == 2
    assert reviewer.next_open(None).id == order[0]
    assert reviewer.next_open(order[0]).id == order[1]
    assert reviewer.previous(order[0]).id == order[1]
    for first, second in (("accept", None), ("reject", None), ("accept", "reject")):
        getattr(reviewer, first)(order[0])
        assert reviewer.next_open(None).id == order[1]
        if second:
            getattr(reviewer, second)(order[0])
        assert {c.state for c in reviewer.candidates} != {"open"}
        reviewer.take_back(order[0])
        assert {c.state for c in reviewer.candidates} == {"open"}
        np.testing.assert_array_equal(bench.now()["one"], bench.before["one"])
    reviewer.reject(order[0])
    rejected = bench.now()["one"]
    bench.editor.undo()
    assert bench.store.follow(bench.entry, bench.target)
    assert {c.state for c in reviewer.look(0.5, 0.0)} == {"open"}
    bench.editor.redo()
    assert bench.store.follow(bench.entry, bench.target)
    np.testing.assert_array_equal(bench.now()["one"], rejected)


def test_a_rejected_candidate_of_a_loaded_scene_comes_back(slicer: Any) -> None:
    bench = Bench(slicer)
    whole = bench.component(0.5, (9, 9, 8))
    reviewer = Reviewer(bench.effect, bench.store, bench.entry, bench.target)
    chosen = next(c for c in reviewer.look(0.5, 0.0) if c.voxels == whole.sum())
    reviewer.reject(chosen.id)
    again = Reviewer(bench.effect, bench.store, bench.entry, bench.target)
    again.look(0.5, 0.0)
    again.take_back(chosen.id)
    np.testing.assert_array_equal(bench.now()["one"], bench.before["one"] | whole)


def test_running_again_brings_the_segment_along(slicer: Any) -> None:
    bench = Bench(slicer)
    old = bench.component(0.5, (9, 9, 8))
    bench.editor.put("one", old)
    reviewer = Reviewer(bench.effect, bench.store, bench.entry, bench.target)
    chosen = next(c for c in reviewer.look(0.5, 0.0) if c.voxels == old.sum())
    reviewer.rerun(chosen.id)
    new = old & (bench.probability * np.float32(0.9) >= 0.5)
    assert 0 < new.sum() < old.sum()
    np.testing.assert_array_equal(bench.now()["one"], new)
    bench.editor.undo()
    np.testing.assert_array_equal(bench.now()["one"], old)


# -- store --------------------------------------------------------------------------------------


class WithoutParts:
    """An effect of an editor that lacks something."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def parameterSetNode(self) -> Any:
        return self._node


def test_readiness_names_what_is_missing(
    slicer: Any, monkeypatch: pytest.MonkeyPatch, model_home: Path
) -> None:
    from StrokeLesionSegLib.slicerbridge.engine.torch_setup import TorchState

    store = edit_store.SessionStore()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "empty")
    assert store.readiness(WithoutParts(None)).kind == "segment"
    assert store.readiness(WithoutParts(node)).kind == "segment"
    bench = Bench(slicer)
    bench.editor.node.SetAndObserveSourceVolumeNode(None)
    assert store.readiness(bench.effect).kind == "source"
    bench.editor.logic.SetSourceVolumeNode(bench.volume)
    offer = store.readiness(bench.effect)
    assert (offer.kind, offer.button) == ("session", "Look for lesions")
    bench.editor.segmentation.SetNodeReferenceID(
        results.PROBABILITY_ROLE,
        results.add_map(blob_volume(bench.volume), bench.volume, "probability").GetID(),
    )
    assert "probability map" in store.readiness(bench.effect).text
    monkeypatch.setattr(edit_store, "_has_model", lambda: False)
    assert store.readiness(bench.effect).kind == "model"
    monkeypatch.setattr(edit_store, "torch_state", lambda: TorchState(False))
    without = store.readiness(bench.effect)
    assert without.kind == "torch"
    assert "PyTorch" in without.text
    assert "set-up" in without.button
    assert bench.store.readiness(bench.effect).kind == "ready"
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(bench.target.segment, logic.Completed)
    assert "completed" in bench.store.readiness(bench.effect).text
    bench.editor.node.SetSelectedSegmentID("")
    assert store.readiness(bench.effect).kind == "segment"


def test_a_session_is_found_as_long_as_it_fits(slicer: Any) -> None:
    bench = Bench(slicer)
    assert bench.store.find(bench.effect) is bench.entry
    bench.volume.SetName("Renamed")
    assert bench.store.find(bench.effect) is bench.entry
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "both")
    for node in (bench.volume, bench.editor.segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    assert bench.store.find(bench.effect) is bench.entry
    # Moved apart, the image is another one on the grid.
    moved(slicer, bench.volume)
    assert bench.store.find(bench.effect) is None
    bench.volume.SetAndObserveTransformNodeID(transform.GetID())
    assert bench.store.find(bench.effect) is bench.entry
    slicer.util.arrayFromVolume(bench.volume)[:] = 5
    slicer.util.arrayFromVolumeModified(bench.volume)
    bench.volume.GetImageData().Modified()
    assert bench.store.find(bench.effect) is None


def open_real(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> edit_store.Entry:
    """A real session with the model "fluid", without the seconds of an alignment."""
    import StrokeLesionSegLib.inference as inference
    from StrokeLesionSegLib.inference.options import SegmentOptions as options

    monkeypatch.setattr(
        inference, "SegmentOptions", lambda **k: options(**k, align="none", precision="float32")
    )
    bench.store.forget()
    return bench.store.open(bench.effect, "fluid")


def test_opening_makes_a_map_that_the_scene_keeps(
    slicer: Any, model_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(slicer, AFFINES["oblique, thick"])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "both")
    for node in (bench.volume, bench.editor.segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    entry = open_real(bench, monkeypatch)
    assert bench.store.open(bench.effect) is entry
    assert entry.session.grid.same_as(bench.grid.grid)
    assert bench.store.keep_map(entry) is None
    while entry.session.work(1000.0) is not None:
        pass
    assert entry.session.complete
    node = bench.store.keep_map(entry)
    assert results.maps_of(bench.editor.segmentation)[0] is node
    assert node.GetTransformNodeID() == transform.GetID()
    kept = volumes.volume_from_node(node)
    np.testing.assert_array_equal(kept.array, entry.session.probability)
    assert bench.store.keep_map(entry) is None
    # The next session starts from the map.
    bench.store.forget()
    again = open_real(bench, monkeypatch)
    assert again.session.complete
    np.testing.assert_allclose(again.session.probability, kept.array, atol=1e-6)


def test_the_real_session_obeys_clicks_and_paints_what_the_map_says(
    slicer: Any, model_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that nobody else drew in is what model and clicks say together."""
    bench = Bench(slicer)
    bench.editor.segmentation.SetNodeReferenceID(
        results.PROBABILITY_ROLE,
        results.add_map(blob_volume(bench.volume), bench.volume, "probability").GetID(),
    )
    bench.entry = open_real(bench, monkeypatch)
    bench.session = bench.entry.session
    assert bench.session.complete
    box, mask = bench.session.mask(0.5)
    edit_write.begin(bench.effect, bench.target)
    edit_write.replace(bench.effect, bench.target, bench.grid, None, box, mask)
    wanted = bench.probability >= 0.5
    np.testing.assert_array_equal(bench.now()["one"], wanted)
    for index, positive in (((3, 20, 24), True), ((9, 9, 8), False)):
        work = new_work(bench)
        work.click(bench.grid.index_to_local(index), positive, 0)
        finish(work)
        wanted = np.zeros(bench.probability.shape, bool)
        box, mask = bench.session.guided_mask(0.5)
        wanted[box] = mask
        np.testing.assert_array_equal(bench.now()["one"], wanted)
        assert (wanted[bench.distance(index) <= 2.0] == positive).all()
    stroke = Stroke(bench.entry, bench.target, Brush(4.0, 0.3, sphere=True))
    stroke.touch(bench.grid.index_to_local((12, 16, 21)), flat_plane(bench))
    stroke.apply(bench.effect, bench.store)
    wanted |= (bench.distance((12, 16, 21)) <= 4.0) & (bench.probability >= 0.3)
    np.testing.assert_array_equal(bench.now()["one"], wanted)
    bench.editor.undo()
    assert not bench.store.follow(bench.entry, bench.target)
    bench.editor.undo()
    assert bench.store.follow(bench.entry, bench.target)
    assert len(bench.session.clicks) == 1
    bench.editor.undo()
    assert bench.store.follow(bench.entry, bench.target)
    assert bench.session.clicks == ()
    bench.target.segment.SetTag(TAG + edit_store.STATE_TAG, '{"version": 99}')
    assert bench.store.follow(bench.entry, bench.target)
    assert bench.session.clicks == ()


def test_unusable_sources_are_told(
    slicer: Any, model_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(slicer)
    far = volumes.add_volume_node(
        Volume(np.ones((4, 4, 4), np.float32), volumes.affine_from_node(bench.volume) + 0), "far"
    )
    matrix = np.eye(4)
    matrix[:3, 3] = 5000
    far.SetIJKToRASMatrix(volumes.matrix_from_affine(matrix))
    bench.editor.logic.SetSourceVolumeNode(far)
    with pytest.raises(InputError, match="does not overlap"):
        open_real(bench, monkeypatch)


def test_closing_the_scene_lets_sessions_go(
    slicer: Any, model_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(slicer)
    open_real(bench, monkeypatch)
    assert bench.store._entries
    slicer.mrmlScene.Clear(0)
    assert not bench.store._entries


def test_map_session_has_the_real_interface() -> None:
    from StrokeLesionSegLib.editing import EditingSession

    names = [n for n in vars(MapSession) if not n.startswith("_") and n != "visible"]
    assert len(names) > 20
    known = {*dir(EditingSession), *EditingSession.__annotations__}
    assert not set(names) - known


# -- mirror -------------------------------------------------------------------------------------


def test_the_mirror_image_comes_and_goes(slicer: Any) -> None:
    bench = Bench(slicer, AFFINES["LPS"])
    moved(slicer, bench.editor.segmentation)
    LayoutManager(slicer)
    results.show_background(bench.volume)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    before = [
        (c.GetBackgroundVolumeID(), c.GetForegroundVolumeID(), c.GetForegroundOpacity())
        for c in composites
    ]
    view = edit_mirror.MirrorView()
    view.show("overlay", bench.entry)
    node = edit_mirror.mirrored_node(bench.entry)
    assert {c.GetForegroundVolumeID() for c in composites} == {node.GetID()}
    assert node.GetTransformNodeID() == bench.editor.segmentation.GetTransformNodeID()
    np.testing.assert_array_equal(volumes.volume_from_node(node).array, bench.session.mirrored())
    view.show("beside", bench.entry)
    by_name = {c.GetLayoutName(): c for c in composites}
    assert by_name["Red"].GetBackgroundVolumeID() == bench.volume.GetID()
    assert by_name["Yellow"].GetBackgroundVolumeID() == node.GetID()
    # Views that have the source volume nowhere get it as background when the layout changes.
    assert by_name["Yellow"].GetForegroundVolumeID() == bench.volume.GetID()
    assert by_name["Yellow"].GetForegroundOpacity() == 0
    nodes = {n.GetLayoutName(): n for n in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    assert nodes["Yellow"].GetOrientation() == nodes["Red"].GetOrientation()
    assert edit_mirror.mirrored_node(bench.entry) is node
    view.show("none", bench.entry)
    after = [
        (c.GetBackgroundVolumeID(), c.GetForegroundVolumeID(), c.GetForegroundOpacity())
        for c in composites
    ]
    assert after == before
    assert nodes["Yellow"].GetOrientation() == "Sagittal"
    # Views that are turned anyhow.
    matrices = {n: nodes[n].GetSliceToRAS() for n in ("Red", "Yellow")}
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    turn[:3, 3] = (3, 4, 5)
    for name in matrices:
        matrices[name].DeepCopy(volumes.matrix_from_affine(turn))
        turn = turn @ turn
        nodes[name].SetFieldOfView(70, 50, 1)
        nodes[name].SetXYZOrigin(len(name), 2, 0)
        nodes[name].UpdateMatrices()
    kept = edit_mirror._placed(nodes["Yellow"])
    view.show("beside", bench.entry)
    shown = edit_mirror._placed(nodes["Yellow"])
    for n in range(16):
        assert shown[0].GetElement(n // 4, n % 4) == matrices["Red"].GetElement(n // 4, n % 4)
    assert shown[1:] == edit_mirror._placed(nodes["Red"])[1:]
    view.show("none", bench.entry)
    back = edit_mirror._placed(nodes["Yellow"])
    assert back[1:] == kept[1:]
    for n in range(16):
        assert back[0].GetElement(n // 4, n % 4) == kept[0].GetElement(n // 4, n % 4)
    # The mirrored scan is deleted while it is shown.
    view.show("overlay", bench.entry)
    slicer.mrmlScene.RemoveNode(edit_mirror.mirrored_node(bench.entry))
    assert view.look() == "none"
    assert all(not c.GetForegroundVolumeID() for c in composites)


def test_an_editor_of_another_segmentation_has_no_session(slicer: Any) -> None:
    bench = Bench(slicer)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    other.CreateDefaultDisplayNodes()
    other.SetReferenceImageGeometryParameterFromVolumeNode(bench.volume)
    other.GetSegmentation().AddEmptySegment("a", "a")
    editor = Editor(slicer, bench.volume, other)
    assert bench.store.find(editor.effect()) is None
    bench2 = head_node(slicer, name="second")
    assert bench2 is not None
