"""What the effects stand on: grids and targets, the session store, clicks, strokes, review, mirror.

On Slicer's real libraries. Voxel counts under masking and overwriting are in ``test_edit_voxels``.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_scenes import AFFINES, blob_volume, head_node
from editor_stand_in import Editor, LayoutManager
from map_session import MapSession
from StrokeLesionSegLib.boxes import whole_box
from StrokeLesionSegLib.correction import Change
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images.volume import Grid, Volume
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.slicerbridge.editor import correct, outline
from StrokeLesionSegLib.slicerbridge.editor import (
    mirror as edit_mirror,
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
from StrokeLesionSegLib.slicerbridge.editor.review import REVIEW_TAG, Reviewer
from StrokeLesionSegLib.slicerbridge.editor.stroke import Brush, Stroke
from StrokeLesionSegLib.slicerbridge.scene import results, volumes
from StrokeLesionSegLib.slicerbridge.scene.patch import Patch
from StrokeLesionSegLib.slicerbridge.scene.probability_map import ProbabilityMap
from StrokeLesionSegLib.slicerbridge.scene.provenance import TAG, Provenance
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
    with pytest.raises(edit_write.CannotEdit, match="marked as completed"):
        click(bench, (9, 9, 8), False)
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


# -- strokes ------------------------------------------------------------------------------------


def flat_plane(bench: Bench) -> edit_views.ViewPlane:
    axes = np.eye(3)
    return edit_views.ViewPlane(np.zeros(3), axes[0], axes[1], 0, 0)


def stroke_of(bench: Bench, probability: float, brush: Brush) -> Stroke:
    values = np.full(bench.probability.shape, probability, np.float32)
    return Stroke(bench.grid, values, bench.target, brush)


def test_a_stroke_has_no_gaps_and_is_one_step(slicer: Any) -> None:
    bench = Bench(slicer)
    stroke = stroke_of(bench, 1.0, Brush(1.2, 0.5))
    for index in ((10, 2, 2), (10, 2, 26)):
        stroke.touch(bench.grid.index_to_local(index), flat_plane(bench))
    assert stroke.mask[10, 2, 2:27].all()
    assert stroke.apply(bench.effect) == (stroke.mask & ~bench.before["one"]).sum()
    assert bench.effect.saves == 1
    np.testing.assert_array_equal(bench.now()["one"], bench.before["one"] | stroke.mask)


def test_a_stroke_that_changes_nothing_is_no_step_for_undo(slicer: Any) -> None:
    bench = Bench(slicer)
    outside = stroke_of(bench, 1.0, Brush(3.0, 0.5))
    outside.touch((500.0, 0.0, 0.0), flat_plane(bench))
    within = stroke_of(bench, 1.0, Brush(2.0, 0.5))
    within.touch(bench.grid.index_to_local((9, 8, 10)), flat_plane(bench))
    assert within.mask.any()
    for stroke in (outside, within):
        assert stroke.apply(bench.effect) == 0
    assert bench.effect.saves == 0


def test_a_faint_first_touch_lowers_the_bound(slicer: Any) -> None:
    bench = Bench(slicer)
    place = bench.grid.index_to_local((16, 3, 24))
    for follow in (False, True):
        stroke = stroke_of(bench, 0.3, Brush(3.0, 0.5, follow=follow))
        stroke.touch(place, flat_plane(bench))
        assert stroke.by_hand is not follow


@pytest.mark.parametrize("follow", [False, True])
def test_erasing_follows_the_place_where_it_began(slicer: Any, follow: bool) -> None:
    """What the model calls lesion nowhere more surely than there goes, and the sure part stays."""
    bench = Bench(slicer)
    index, away = (9, 8, 10), bench.distance((9, 8, 10))
    values = np.where(away <= 1.5, 0.6, 0.95).astype(np.float32)
    brush = Brush(2.5, 0.5, erase=True, follow=follow)
    stroke = Stroke(bench.grid, values, bench.target, brush)
    stroke.touch(bench.grid.index_to_local(index), flat_plane(bench))
    assert stroke.by_hand is not follow
    np.testing.assert_array_equal(stroke.mask, away <= (1.5 if follow else 2.5))


@pytest.mark.parametrize("erase", [False, True])
def test_where_the_model_has_nothing_to_say_the_brush_paints(slicer: Any, erase: bool) -> None:
    bench = Bench(slicer)
    brush = Brush(2.5, 0.5, erase=erase, follow=False)
    stroke = stroke_of(bench, 1.0 if erase else 0.0, brush)
    index = (9, 8, 10) if erase else (16, 3, 24)
    stroke.touch(bench.grid.index_to_local(index), flat_plane(bench))
    assert stroke.by_hand
    ball = bench.distance(index) <= 2.5
    assert stroke.apply(bench.effect) == ball.sum()
    wanted = bench.before["one"] & ~ball if erase else bench.before["one"] | ball
    np.testing.assert_array_equal(bench.now()["one"], wanted)


def test_the_brush_keeps_its_size_under_a_scaling_transform(slicer: Any) -> None:
    bench = Bench(slicer)
    moved(slicer, bench.editor.segmentation, scale=2.0)
    local = bench.grid.index_to_local((10, 12, 14))
    stroke = stroke_of(bench, 1.0, Brush(8.2, 0.5))
    stroke.touch(bench.grid.to_world(local), flat_plane(bench))
    np.testing.assert_array_equal(stroke.mask, bench.distance((10, 12, 14)) <= 4.1)


# -- outlines -----------------------------------------------------------------------------------


def draw(bench: Bench, k: int, low: float, high: float, lesion: bool = True) -> int:
    """A square outline in slice k; how many voxels changed."""
    corners = [(k, low, low), (k, low, high), (k, high, high), (k, high, low)]
    path = np.array([bench.grid.index_to_local(corner) for corner in corners])
    normal = bench.grid.grid.affine[:3, 2]
    return outline.draw(
        bench.effect, bench.target, bench.grid, path, normal, lesion=lesion, around=True
    )


def test_a_segment_keeps_its_outlines_and_undo_takes_them_along(slicer: Any) -> None:
    bench = Bench(slicer)
    assert draw(bench, 9, 1.4, 18.6) > 0
    first = bench.now()["one"]
    assert draw(bench, 12, 3.4, 9.6) > 0
    second = bench.now()["one"]
    np.testing.assert_array_equal(second[:10], first[:10], "an outline holds its slice")
    assert (second != first)[11].any()
    assert [round(float(o.centre[2])) for o in outline.drawn(bench.target)] == [9, 12]
    assert bench.effect.saves == 2
    bench.editor.undo()
    np.testing.assert_array_equal(bench.now()["one"], first)
    assert len(outline.drawn(bench.target)) == 1
    bench.editor.undo()
    np.testing.assert_array_equal(bench.now()["one"], bench.before["one"])
    assert outline.drawn(bench.target) == []
    bench.editor.redo()
    bench.editor.redo()
    np.testing.assert_array_equal(bench.now()["one"], second)
    assert len(outline.drawn(bench.target)) == 2
    # The slider fills the segment anew; then no slice is held any more.
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.4)
    assert outline.drawn(bench.target) == []
    bench.editor.undo()
    assert len(outline.drawn(bench.target)) == 2


def test_an_outline_that_changes_nothing_is_no_step(slicer: Any) -> None:
    bench = Bench(slicer)
    assert draw(bench, 9, 1.4, 18.6) > 0
    assert draw(bench, 9, 1.4, 18.6) == 0
    assert draw(bench, 9, 20.4, 22.6, lesion=False) == 0
    assert bench.effect.saves == 1
    assert len(outline.drawn(bench.target)) == 1


@pytest.mark.parametrize("text", ["no", "[1, 2]", '{"a": 1}', '[["x"]]', "null"])
def test_outlines_that_make_no_sense_are_ignored(slicer: Any, text: str) -> None:
    bench = Bench(slicer)
    bench.target.segment.SetTag(TAG + outline.OUTLINES_TAG, text)
    assert outline.drawn(bench.target) == []
    assert draw(bench, 9, 1.4, 18.6) > 0
    assert len(outline.drawn(bench.target)) == 1


def test_masking_that_keeps_all_out_is_no_stroke_and_no_outline(slicer: Any) -> None:
    bench = Bench(slicer)
    bench.rules("EditAllowedInsideAllSegments", False, "OverwriteNone")
    for name in ("two", "three"):
        bench.editor.put(name, np.zeros(bench.probability.shape, bool))
    before = bench.now()["one"]
    stroke = stroke_of(bench, 0.9, Brush(2.0, 0.5))
    stroke.touch(bench.grid.index_to_local((17, 20, 24)), flat_plane(bench))
    assert stroke.apply(bench.effect) == 0
    assert draw(bench, 17, 14.4, 18.6) == 0
    assert outline.drawn(bench.target) == []
    np.testing.assert_array_equal(bench.now()["one"], before)


def test_an_outline_leaves_clicks_and_their_undo_alone(slicer: Any) -> None:
    bench = Bench(slicer)
    click(bench, (12, 16, 21), True)
    clicked = bench.now()["one"]
    draw(bench, 5, 1.4, 18.6)
    work = bench.store.work(bench.entry, bench.target)
    assert [c.voxel for c in work.session.clicks] == [(12, 16, 21)]
    bench.editor.undo()
    work = bench.store.work(bench.entry, bench.target)
    np.testing.assert_array_equal(bench.now()["one"], clicked)
    assert [c.voxel for c in work.session.clicks] == [(12, 16, 21)]
    bench.editor.undo()
    assert bench.store.work(bench.entry, bench.target).session.clicks == ()


def test_a_finished_segment_takes_no_outline(slicer: Any) -> None:
    bench = Bench(slicer)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(bench.target.segment, logic.Completed)
    with pytest.raises(edit_write.CannotEdit, match="marked as completed"):
        draw(bench, 9, 1.4, 18.6)
    assert bench.effect.saves == 0


# -- clicks -------------------------------------------------------------------------------------


def click(bench: Bench, index: tuple[int, int, int], lesion: bool, **more: Any) -> Any:
    return correct.correct(
        bench.effect, bench.store, bench.entry, bench.target, [index], lesion, **more
    )


def clicks_of(bench: Bench) -> list[tuple[tuple[int, int, int], bool]]:
    work = bench.store.work(bench.entry, bench.target)
    return [(c.voxel, c.lesion) for c in work.session.clicks]


def test_one_click_is_one_step_and_undo_takes_it_along(slicer: Any) -> None:
    bench = Bench(slicer)
    states = [bench.now()["one"]]
    known = [clicks_of(bench)]
    for index, lesion in (((12, 16, 21), True), ((16, 3, 24), True), ((9, 8, 10), False)):
        assert click(bench, index, lesion).voxels > 0
        states.append(bench.now()["one"])
        known.append(clicks_of(bench))
    assert bench.effect.saves == 3
    assert [len(k) for k in known] == [0, 1, 2, 3]
    for n in (2, 1, 0):
        bench.editor.undo()
        np.testing.assert_array_equal(bench.now()["one"], states[n])
        assert clicks_of(bench) == known[n]
    for n in (1, 2, 3):
        bench.editor.redo()
        np.testing.assert_array_equal(bench.now()["one"], states[n])
        assert clicks_of(bench) == known[n]
    # What was redone is no handwork: a click changes it as before.
    assert click(bench, (12, 16, 21), False).voxels > 1


def test_undo_beyond_what_the_session_remembers_takes_clicks_along(slicer: Any) -> None:
    """The session forgets old steps; Slicer may be told to keep more of them."""
    bench = Bench(slicer)
    states, known = [bench.now()["one"]], [clicks_of(bench)]
    for index, lesion in (((12, 16, 21), True), ((16, 3, 24), True), ((9, 8, 10), False)):
        click(bench, index, lesion)
        states.append(bench.now()["one"])
        known.append(clicks_of(bench))
    bench.store.work(bench.entry, bench.target).session._steps.popleft()
    bench.editor.undo()
    assert clicks_of(bench) == known[2]
    for _ in range(2):
        bench.editor.undo()
    np.testing.assert_array_equal(bench.now()["one"], states[0])
    assert clicks_of(bench) == []
    # What was undone counts as nobody's handwork.
    session = bench.store.work(bench.entry, bench.target).session
    np.testing.assert_array_equal(session._mask, session._made)


def test_a_click_that_changes_nothing_is_no_step(slicer: Any) -> None:
    bench = Bench(slicer)
    change = click(bench, (9, 8, 10), True)
    assert change.voxels == 0
    assert bench.effect.saves == 0
    assert clicks_of(bench) == [((9, 8, 10), True)], "it is remembered all the same"
    assert "nothing changed" in change.sentence


@pytest.mark.parametrize(
    ("lesion", "model_voxels", "said", "shown"),
    [
        (True, 20, "0.03 mL added.", "0.03 mL added."),
        (False, 20, "0.03 mL removed.", "0.03 mL removed."),
        (
            True,
            0,
            "The model finds no lesion here: painted 0.03 mL.",
            "0.03 mL painted; the model finds no lesion here.",
        ),
        (
            False,
            0,
            "The model finds lesion here: erased 0.03 mL.",
            "0.03 mL erased; the model finds lesion here.",
        ),
    ],
)
def test_what_a_click_did_is_told(lesion: bool, model_voxels: int, said: str, shown: str) -> None:
    box = (slice(0, 3), slice(0, 3), slice(0, 3))
    change = Change(box, np.ones((3, 3, 3), bool), lesion, 27, 0.027, model_voxels)
    assert change.sentence == said
    assert correct.change_text(change) == shown
    assert correct.change_text(Change.none(lesion)).endswith("nothing changed.")


def test_what_was_drawn_by_hand_changes_only_where_it_is_clicked(slicer: Any) -> None:
    bench = Bench(slicer)
    assert click(bench, (9, 8, 10), False).voxels > 0  # the session knows the segment from now on
    drawn = bench.now()["one"]
    drawn[14:18, 14:20, 18:26] = True
    bench.editor.put("one", drawn)
    change = click(bench, (15, 16, 21), False)
    assert change.voxels == 1
    np.testing.assert_array_equal(bench.now()["one"].sum(), drawn.sum() - 1)


def test_what_was_erased_before_the_first_click_changes_only_where_it_is_clicked(
    slicer: Any,
) -> None:
    """By Slicer's own Erase, say, in a segment that a run has made: the session learns of it by
    what the segment keeps of its run."""
    bench = Bench(slicer)
    node, made = bench.editor.segmentation, Provenance(model="a", threshold=0.5)
    probability = blob_volume(bench.volume)
    point = OperatingPoint(0.5, min_volume_ml=0.0)
    automatic = ProbabilityMap(probability).lesions(point).patch
    results.write_segment(node, "one", automatic, made)
    kept = results.add_map(probability, bench.volume, "probability")
    results.set_maps(node, "one", (kept, None))
    erased = np.zeros_like(automatic.full(), bool)
    erased[:, :, :8] = automatic.full()[:, :, :8] != 0
    bench.editor.put("one", (automatic.full() != 0) & ~erased)
    work = bench.store.work(bench.entry, bench.target)
    assert work.first_ml == pytest.approx(automatic.full().sum() * automatic.grid.voxel_volume_ml)
    seed = tuple(np.argwhere((bench.probability > 0.4) & ~bench.now()["one"] & ~erased)[0])
    assert click(bench, seed, True, threshold=0.3).voxels > 1
    now = bench.now()["one"]
    assert now[seed]
    assert not now[erased].any()


def test_what_was_painted_between_clicks_is_known_to_the_next_session(slicer: Any) -> None:
    """That of the first scan goes when two others are corrected; a saved scene begins with none."""
    bench = Bench(slicer)
    assert click(bench, (9, 8, 10), False).voxels > 0
    drawn = bench.now()["one"]
    drawn[14:18, 14:20, 18:26] = True
    bench.editor.put("one", drawn)
    assert click(bench, (2, 20, 3), True).voxels > 0
    bench.entry.works.clear()
    bench.entry.session = MapSession(blob_volume(bench.volume))
    before = bench.now()["one"]
    assert click(bench, (15, 16, 21), False).voxels == 1
    assert bench.now()["one"].sum() == before.sum() - 1
    assert click(bench, (2, 20, 3), False).voxels > 1, "what a click has made is no handwork"


def test_what_masking_kept_out_is_neither_told_nor_held(slicer: Any) -> None:
    bench = Bench(slicer)
    for name in ("two", "three"):
        bench.editor.put(name, np.zeros(bench.probability.shape, bool))
    wanted = click(bench, (12, 16, 21), True)
    bench.editor.undo()
    bench.rules("EditAllowedInsideAllSegments", False, "OverwriteNone")
    before = bench.now()["one"]
    none = click(bench, (12, 16, 21), True)
    np.testing.assert_array_equal(bench.now()["one"], before)
    assert none.voxels == 0
    assert "masking" in correct.change_text(none)
    # A part of it is allowed.
    bench.editor.put("two", bench.distance((12, 16, 21)) < 2.5)
    some = click(bench, (12, 16, 21), True)
    now = bench.now()["one"]
    assert some.voxels == (now & ~before).sum()
    assert 0 < some.voxels < wanted.voxels
    assert now[some.box][some.changed].all()
    # Without masking the next click goes on from there.
    bench.rules("EditAllowedEverywhere", False, "OverwriteNone")
    assert click(bench, (12, 16, 24), True).voxels > 20
    for _ in range(2):
        bench.editor.undo()
        clicks_of(bench)
    # All but the voxel that was clicked while nothing was allowed.
    assert click(bench, (12, 16, 22), True).voxels == wanted.voxels - 1


def test_a_stroke_of_many_clicks_is_one_answer_and_one_step(slicer: Any) -> None:
    bench = Bench(slicer)
    path = [bench.grid.index_to_local(n) for n in ((16, 3, 18), (16, 3, 26))]
    voxels = correct.voxels_along(bench.grid, path)
    assert voxels == [(16, 3, n) for n in range(18, 27)]
    correct.correct(bench.effect, bench.store, bench.entry, bench.target, voxels, True)
    assert bench.session.calls == bench.effect.saves == 1
    assert bench.now()["one"][16, 3, 18:27].all()
    with pytest.raises(edit_write.CannotEdit, match="outside"):
        correct.voxels_along(bench.grid, [(500.0, 0.0, 0.0)])


def test_the_threshold_decides_how_much_a_click_takes(slicer: Any) -> None:
    bench = Bench(slicer)
    less = click(bench, (12, 16, 21), True, threshold=0.7).voxels
    bench.editor.undo()
    more = click(bench, (12, 16, 21), True, threshold=0.3).voxels
    assert 0 < less < more


def test_filling_keeps_the_clicks(slicer: Any) -> None:
    bench = Bench(slicer)
    click(bench, (16, 3, 24), True)
    click(bench, (9, 9, 8), False)
    wanted = bench.probability >= 0.4
    wanted[16, 3, 24], wanted[9, 9, 8] = True, False
    assert correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.4) == wanted.sum()
    np.testing.assert_array_equal(bench.now()["one"], wanted)
    assert len(clicks_of(bench)) == 2
    assert bench.effect.saves == 3
    # Again: nothing changes, and it is no step.
    assert correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.4) == wanted.sum()
    assert bench.effect.saves == 3
    bench.editor.undo()
    assert bench.now()["one"].sum() != wanted.sum()


def test_a_fill_that_is_undone_counts_as_nobodys_handwork(slicer: Any) -> None:
    """Clicks are the same before and after a fill; the next click goes on from the right mask."""
    bench = Bench(slicer)
    click(bench, (16, 3, 24), True)
    wanted = click(bench, (12, 16, 21), True).voxels
    bench.editor.undo()
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.3)
    filled = bench.now()["one"]
    bench.editor.undo()
    assert clicks_of(bench) == [((16, 3, 24), True)]
    assert click(bench, (12, 16, 21), True).voxels == wanted > 1
    bench.editor.undo()
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.3)
    for step in (bench.editor.undo, bench.editor.redo):
        step()
        clicks_of(bench)
    np.testing.assert_array_equal(bench.now()["one"], filled)
    assert click(bench, (12, 16, 21), False).voxels > 1


def test_a_threshold_of_clicks_leaves_the_models_second_one_alone(slicer: Any) -> None:
    """Clicks are cut above it for a while; what is filled below it then has to reach it, too."""
    bench = Bench(slicer)
    bench.session.recommended = bench.session.point = OperatingPoint(0.4, 0.97)
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.4)
    filled = bench.now()["one"]
    assert not filled[12, 16, 21]
    assert click(bench, (16, 3, 24), True, threshold=0.98).voxels > 0
    bench.editor.undo()
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.4)
    np.testing.assert_array_equal(bench.now()["one"], filled)


def test_each_segment_has_its_own_clicks(slicer: Any) -> None:
    bench = Bench(slicer)
    first = bench.target
    click(bench, (12, 16, 21), True)
    bench.target = edit_target.EditTarget(first.segmentation_id, "two")
    assert clicks_of(bench) == []
    click(bench, (16, 3, 24), True)
    assert clicks_of(bench) == [((16, 3, 24), True)]
    bench.target = first
    assert clicks_of(bench) == [((12, 16, 21), True)]


class Taught(MapSession):
    """The map is that of the last answer, as a network's is: around a click it says as clicked."""

    def _answered(self, wrong: Any, lesion: bool, before: Any) -> Any:
        answered = super()._answered(wrong, lesion, before)
        taught = self.map.array.copy()
        for k, j, i in wrong:
            taught[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2] = lesion
        self.map = self.map.with_array(taught)
        return answered


def test_what_clicks_on_one_segment_have_taught_does_not_fill_another(slicer: Any) -> None:
    bench = Bench(slicer)
    first = bench.target
    bench.entry.session = Taught(blob_volume(bench.volume))
    click(bench, (16, 3, 24), True)
    bench.target = edit_target.EditTarget(first.segmentation_id, "two")
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.5)
    np.testing.assert_array_equal(bench.now()["two"], bench.probability >= 0.5)
    bench.target = first
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.5)
    assert bench.now()["one"][15:18, 2:5, 23:26].all(), "it is still known where it was clicked"


def test_clicks_and_decisions_survive_a_saved_scene(slicer: Any, tmp_path: Path) -> None:
    bench = Bench(slicer)
    click(bench, (12, 16, 21), True)
    reviewer = Reviewer(bench.effect, bench.grid, bench.target)
    pieces = reviewer.look()
    assert len(pieces) == 2
    reviewer.drop(pieces[1].id)
    reviewer.keep(pieces[0].id)
    before, known = bench.now()["one"], clicks_of(bench)
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.ReadFromMRB(path, False)
    segmentation = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    volume = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[0]
    editor = Editor(slicer, volume, segmentation)
    effect = editor.effect()
    grid = edit_target.EditGrid.from_image(effect.sourceVolumeImageData(), segmentation)
    target = edit_target.EditTarget(segmentation.GetID(), "one")
    fresh = edit_store.Entry(
        MapSession(Volume(bench.probability, grid.grid.affine)),
        grid,
        edit_store._key(editor.node),
        volume.GetID(),
        volumes.volume_from_node(volume),
    )
    store = edit_store.SessionStore()
    assert [(c.voxel, c.lesion) for c in store.work(fresh, target).session.clicks] == known
    again = Reviewer(effect, grid, target)
    found = again.look()
    assert [(p.voxels, p.state) for p in found] == [
        (pieces[0].voxels, "kept"),
        (pieces[1].voxels, "dropped"),
    ]
    again.take_back(found[1].id)
    np.testing.assert_array_equal(editor.voxels("one").sum(), before.sum() + pieces[1].voxels)


@pytest.mark.parametrize("text", ["{broken", "[]", '{"clicks": [[1]]}', '{"clicks": 3}'])
def test_a_tag_that_makes_no_sense_is_ignored(slicer: Any, text: str) -> None:
    bench = Bench(slicer)
    bench.target.segment.SetTag(TAG + edit_store.STATE_TAG, text)
    assert clicks_of(bench) == []
    bench.target.segment.SetTag(TAG + REVIEW_TAG, text)
    assert [p.state for p in Reviewer(bench.effect, bench.grid, bench.target).look()] == ["open"]


def test_what_a_tag_keeps_of_a_segment_costs_what_that_does_and_not_what_the_scan_does() -> None:
    """It is written at every click."""
    mask = np.zeros((160, 160, 160), bool)
    mask[50:60, 60:80, 70:75] = True
    grid = Grid(mask.shape, np.eye(4))
    tracemalloc.start()
    try:
        texts = (edit_store._packed(mask, grid), edit_store._checksum(mask, grid))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mask.nbytes / 10
    state = {"made": texts[0], "grid": {"shape": list(mask.shape)}}
    np.testing.assert_array_equal(edit_store._made_in(state, ~mask), mask)
    assert texts[1] == Patch(mask.astype(np.uint8), (0, 0, 0), grid).checksum()
    empty = mask & False
    state["made"] = edit_store._packed(empty, grid)
    np.testing.assert_array_equal(edit_store._made_in(state, mask), empty)
    assert edit_store._checksum(empty, grid) == "0"


def test_the_volume_is_told_since_the_first_correction(slicer: Any) -> None:
    bench = Bench(slicer)
    work = bench.store.work(bench.entry, bench.target)
    assert correct.volume_text(work, True) == f"{bench.before['one'].sum() / 1000:.1f} mL"
    change = click(bench, (12, 16, 21), True)
    work = bench.store.work(bench.entry, bench.target)
    text = correct.volume_text(work, True)
    assert f", +{change.volume_ml:.1f} since the automatic mask" in text
    assert "by corrections" in correct.volume_text(work, False)


# -- review -------------------------------------------------------------------------------------


def test_review_goes_through_the_pieces_of_the_segment(slicer: Any) -> None:
    bench = Bench(slicer)
    mask = np.zeros(bench.probability.shape, bool)
    mask[2:8, 2:8, 2:8] = mask[12:14, 3:5, 3:5] = mask[15:18, 16:19, 20:23] = True
    bench.editor.put("one", mask)
    reviewer = Reviewer(bench.effect, bench.grid, bench.target, bench.probability)
    assert [p.voxels for p in reviewer.look()] == [216, 27, 8]
    large, middle, small = reviewer.pieces
    assert large.mean_probability == pytest.approx(
        bench.probability[2:8, 2:8, 2:8].mean(), rel=1e-5
    )
    assert reviewer.next_open(None) is large
    reviewer.keep(large.id)
    reviewer.drop(small.id)
    assert [p.state for p in reviewer.pieces] == ["kept", "open", "dropped"]
    assert reviewer.next_open(large.id).id == middle.id
    assert reviewer.previous(large.id).id == small.id
    mask[12:14, 3:5, 3:5] = False
    np.testing.assert_array_equal(bench.now()["one"], mask)
    assert bench.effect.saves == 2
    # Slicer's undo takes the decision along, whoever made it.
    assert not reviewer.is_stale()
    bench.editor.undo()
    assert reviewer.is_stale()
    assert [p.state for p in reviewer.look()] == ["kept", "open", "open"]


def test_decisions_come_back_with_the_voxels_that_they_are_of(slicer: Any) -> None:
    """The segment is filled anew, which joins its pieces, and that is undone while it is looked
    at: Slicer's undo leaves the tag as it is, since nothing was decided in between."""
    bench = Bench(slicer)
    mask = np.zeros(bench.probability.shape, bool)
    mask[2:8, 2:8, 2:8] = mask[12:14, 3:5, 3:5] = mask[15:18, 16:19, 20:23] = True
    bench.editor.put("one", mask)
    reviewer = Reviewer(bench.effect, bench.grid, bench.target)
    large, middle, small = reviewer.look()
    reviewer.keep(large.id)
    reviewer.drop(middle.id)
    reviewer.drop(small.id)
    before = bench.now()["one"]
    bench.effect.saveStateForUndo()
    bench.editor.put("one", np.ones_like(mask))
    assert [p.state for p in reviewer.look()] == ["open"]
    bench.editor.undo()
    np.testing.assert_array_equal(bench.now()["one"], before)
    assert [p.state for p in reviewer.look()] == ["kept", "dropped", "dropped"]
    reviewer.take_back(reviewer.pieces[2].id)
    mask[15:18, 16:19, 20:23] = False
    np.testing.assert_array_equal(bench.now()["one"], mask)


def test_a_split_piece_is_dropped_in_part(slicer: Any) -> None:
    bench = Bench(slicer)
    mask = np.zeros(bench.probability.shape, bool)
    mask[3:8, 3:8, 3:8] = mask[3:8, 3:8, 14:20] = mask[5, 5, 8:14] = True
    bench.editor.put("one", mask)
    reviewer = Reviewer(bench.effect, bench.grid, bench.target)
    (whole,) = reviewer.look()
    assert reviewer.split(whole.id) == 2
    np.testing.assert_array_equal(bench.now()["one"], mask)
    larger, smaller = reviewer.pieces
    assert larger.voxels + smaller.voxels == mask.sum()
    reviewer.drop(smaller.id)
    assert bench.now()["one"].sum() == larger.voxels
    reviewer.take_back(smaller.id)
    np.testing.assert_array_equal(bench.now()["one"], mask)
    # Another Review, such as after a change of effects, knows the cut.
    again = Reviewer(bench.effect, bench.grid, bench.target)
    assert [p.voxels for p in again.look()] == [larger.voxels, smaller.voxels]


def test_a_piece_that_masking_keeps_out_stays_listed_as_dropped(slicer: Any) -> None:
    bench = Bench(slicer)
    mask = np.zeros(bench.probability.shape, bool)
    mask[2:8, 2:8, 2:8] = mask[10:12, 10:12, 12:14] = True  # the latter lies in "two"
    bench.editor.put("one", mask)
    reviewer = Reviewer(bench.effect, bench.grid, bench.target)
    small = reviewer.look()[1]
    reviewer.drop(small.id)
    bench.rules("EditAllowedOutsideAllSegments", False, "OverwriteNone")
    with pytest.raises(edit_write.CannotEdit, match="masking"):
        reviewer.take_back(small.id)
    assert bench.now()["one"].sum() == 216
    assert [p.state for p in reviewer.pieces] == ["open", "dropped"]
    bench.rules("EditAllowedEverywhere", False, "OverwriteNone")
    reviewer.take_back(small.id)
    np.testing.assert_array_equal(bench.now()["one"], mask)
    assert [p.state for p in reviewer.pieces] == ["open", "open"]


# -- sessions -----------------------------------------------------------------------------------


class WithoutParts:
    """An effect of an editor that lacks something."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def parameterSetNode(self) -> Any:
        return self._node


def test_readiness_names_what_is_missing(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from StrokeLesionSegLib.slicerbridge.engine.torch_setup import TorchState

    store = edit_store.SessionStore()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "empty")
    assert store.readiness(WithoutParts(None)).kind == "segment"
    assert store.readiness(WithoutParts(node)).kind == "segment"
    bench = Bench(slicer)
    bench.editor.node.SetAndObserveSourceVolumeNode(None)
    assert store.readiness(bench.effect).kind == "source"
    bench.editor.logic.SetSourceVolumeNode(bench.volume)
    assert store.readiness(bench.effect).kind == "session"
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
    """A session that is opened as in Slicer, with a map in the place of the network."""

    def opened(volume: Volume, _model: Any, known: Any, **_more: Any) -> Any:
        said = bench.probability if known.probability is None else known.probability
        return MapSession(Volume(said, volume.affine))

    import StrokeLesionSegLib.correction as correction

    monkeypatch.setattr(correction.CorrectionSession, "open", opened)
    monkeypatch.setattr(correction, "load_click_model", lambda name: None)
    bench.store.forget()
    return bench.store.open(bench.effect)


def test_opening_makes_a_map_that_the_scene_keeps(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(slicer, AFFINES["oblique, thick"])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "both")
    for node in (bench.volume, bench.editor.segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    entry = open_real(bench, monkeypatch)
    assert bench.store.open(bench.effect) is entry
    assert entry.session.grid.same_as(bench.grid.grid)
    node = results.maps_of(bench.editor.segmentation)[0]
    assert node.GetTransformNodeID() == transform.GetID()
    kept = volumes.volume_from_node(node)
    np.testing.assert_array_equal(kept.array, entry.session.probability)
    # The next session starts from the map, and adds no other one.
    again = open_real(bench, monkeypatch)
    assert again is not entry
    np.testing.assert_allclose(again.session.probability, kept.array, atol=1e-6)
    assert results.maps_of(bench.editor.segmentation)[0] is node
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2


def test_the_map_of_another_scan_is_not_used(slicer: Any) -> None:
    """A segmentation of scan A, with scan B chosen as source volume."""
    bench = Bench(slicer)
    other = head_node(slicer, name="B")
    node = results.add_map(blob_volume(bench.volume), bench.volume, "probability")
    bench.editor.segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, node.GetID())
    assert edit_store.map_for(bench.editor.node) is node
    bench.editor.logic.SetSourceVolumeNode(other)
    assert edit_store.map_for(bench.editor.node) is None


def test_the_map_of_other_voxels_is_not_used(slicer: Any) -> None:
    """The scan was filtered, or warped on its own grid, since the map was made of it."""
    bench = Bench(slicer)
    node = results.add_map(blob_volume(bench.volume), bench.volume, "probability")
    bench.editor.segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, node.GetID())
    assert edit_store.map_for(bench.editor.node) is node
    voxels = slicer.util.arrayFromVolume(bench.volume)
    slicer.util.updateVolumeFromArray(bench.volume, np.ascontiguousarray(voxels[:, ::-1]))
    assert edit_store.map_for(bench.editor.node) is None
    slicer.util.updateVolumeFromArray(bench.volume, voxels.copy())


@pytest.mark.parametrize("hardened", [False, True])
def test_a_map_follows_where_image_and_segmentation_are_moved(slicer: Any, hardened: bool) -> None:
    """Who moves an image and its segmentation leaves the map behind that nobody sees."""
    bench = Bench(slicer)
    node = results.add_map(blob_volume(bench.volume), bench.volume, "probability")
    bench.editor.segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, node.GetID())
    moved(slicer, bench.volume)
    parent = bench.volume.GetTransformNodeID()
    bench.editor.segmentation.SetAndObserveTransformNodeID(parent)
    if hardened:
        bench.volume.HardenTransform()
        bench.editor.segmentation.HardenTransform()
    plan = bench.store.plan(bench.effect)
    assert plan.probability is not None
    np.testing.assert_allclose(plan.probability, bench.probability, atol=1e-5)
    assert node.GetTransformNodeID() == (None if hardened else parent)
    # Moved apart, each is where it is.
    bench.volume.SetAndObserveTransformNodeID(None if not hardened else parent)
    assert edit_store.map_for(bench.editor.node) is node
    assert node.GetTransformNodeID() == (None if hardened else parent)


def test_clicks_and_outlines_move_along_when_a_transform_is_hardened(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(slicer)
    bench.entry = open_real(bench, monkeypatch)
    click(bench, (12, 16, 21), True)
    click(bench, (9, 8, 10), False)
    known = clicks_of(bench)
    assert draw(bench, 9, 1.4, 18.6) > 0
    (before,) = outline.drawn(bench.target, bench.grid)
    matrix = moved(slicer, bench.volume)
    bench.editor.segmentation.SetAndObserveTransformNodeID(bench.volume.GetTransformNodeID())
    for node in (bench.volume, bench.editor.segmentation):
        node.HardenTransform()
    bench.editor.logic.UpdateReferenceGeometryImage()
    bench.entry = open_real(bench, monkeypatch)
    bench.grid = bench.entry.edit_grid
    assert clicks_of(bench) == known
    (after,) = outline.drawn(bench.target, bench.grid)
    np.testing.assert_allclose(after.centre, (matrix @ [*before.centre, 1])[:3], atol=0.01)
    np.testing.assert_allclose(after.normal, matrix[:3, :3] @ before.normal, atol=0.01)
    # The next steps are kept as of now.
    click(bench, (16, 3, 24), True)
    assert len(clicks_of(bench)) == 3
    assert clicks_of(bench)[:2] == known
    bench.entry = open_real(bench, monkeypatch)
    assert clicks_of(bench)[:2] == known


@pytest.mark.parametrize("how", ["warped", "filtered"])
def test_clicks_from_before_a_warp_are_not_used(
    slicer: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Image and segmentation lie elsewhere since, each place by a way of its own. Filtering the
    image moves nothing."""
    bench = Bench(slicer)
    bench.entry = open_real(bench, monkeypatch)
    click(bench, (12, 16, 21), True)
    click(bench, (9, 8, 10), False)
    known = clicks_of(bench)
    if how == "warped":
        warped(slicer, bench.volume)
        bench.editor.segmentation.SetAndObserveTransformNodeID(bench.volume.GetTransformNodeID())
        for node in (bench.volume, bench.editor.segmentation):
            assert node.HardenTransform()
        bench.editor.logic.UpdateReferenceGeometryImage()
        shape = bench.effect.sourceVolumeImageData().GetDimensions()[::-1]
        bench.probability = np.zeros(shape, np.float32)
    else:
        voxels = slicer.util.arrayFromVolume(bench.volume)
        slicer.util.updateVolumeFromArray(bench.volume, np.sqrt(voxels).astype(np.float32))
    bench.entry = open_real(bench, monkeypatch)
    bench.grid = bench.entry.edit_grid
    assert clicks_of(bench) == (known if how == "filtered" else [])
    session = bench.store.work(bench.entry, bench.target).session
    now = edit_write.segment_voxels(bench.target, bench.grid) != 0
    if how == "warped":
        np.testing.assert_array_equal(session.made, now)


def test_the_alignment_of_another_scan_is_not_used(slicer: Any) -> None:
    bench = Bench(slicer)
    made = Provenance(model="one", to_mni=np.diag([1.0, 1, 1, 1]))
    for key, value in made.tags().items():
        bench.target.segment.SetTag(TAG + key, value)
    assert bench.store.plan(bench.effect).alignment is not None
    bench.editor.logic.SetSourceVolumeNode(head_node(slicer, name="B"))
    plan = bench.store.plan(bench.effect)
    assert plan.alignment is None
    assert plan.model == "one"


def test_a_map_made_of_another_scan_is_not_kept(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stand for that of the scan that the segmentation was made on."""
    bench = Bench(slicer)
    bench.editor.logic.SetSourceVolumeNode(head_node(slicer, name="B"))
    open_real(bench, monkeypatch)
    assert results.maps_of(bench.editor.segmentation)[0] is None
    bench.editor.logic.SetSourceVolumeNode(bench.volume)
    assert edit_store.map_for(bench.editor.node) is None
    open_real(bench, monkeypatch)
    assert edit_store.map_for(bench.editor.node).GetName().startswith("T1 ")


def test_a_segment_is_corrected_with_the_model_and_the_map_that_made_it(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two results of one scan, by two models; a session of the one is none of the other."""
    bench = Bench(slicer)
    segmentation, blob = bench.editor.segmentation, blob_volume(bench.volume)
    maps = {}
    for number, name in enumerate(("one", "two"), start=1):
        halved = blob.with_array(blob.array / number)
        maps[name] = results.add_map(halved, bench.volume, "probability")
        results.set_maps(segmentation, name, (maps[name], None))
        made = Provenance(model=f"model {name}", checksum=name)
        for key, value in made.tags().items():
            segmentation.GetSegmentation().GetSegment(name).SetTag(TAG + key, value)
    segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, maps["two"].GetID())
    bench.editor.select("one")
    assert bench.store.plan(bench.effect).model == "model one"
    first = open_real(bench, monkeypatch)
    bench.editor.select("two")
    assert bench.store.plan(bench.effect).model == "model two"
    assert bench.store.find(bench.effect) is None
    second = bench.store.open(bench.effect)
    bench.editor.select("three")
    assert bench.store.find(bench.effect) is second, "drawn by hand: that of the newest result"
    bench.editor.select("one")
    assert bench.store.find(bench.effect) is first
    for name, entry in (("one", first), ("two", second)):
        kept = volumes.volume_from_node(maps[name]).array
        np.testing.assert_allclose(entry.session.probability, kept, atol=1e-6)


def test_unusable_sources_are_told(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
    colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "RGB")
    values = np.arange(20 * 24 * 28 * 3).reshape(20, 24, 28, 3)
    slicer.util.updateVolumeFromArray(colour, values.astype(np.int16))
    bench.editor.logic.SetSourceVolumeNode(colour)
    with pytest.raises(InputError, match="each voxel has 3 values"):
        open_real(bench, monkeypatch)


def test_closing_the_scene_lets_sessions_go(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(slicer)
    open_real(bench, monkeypatch)
    assert bench.store._entries
    slicer.mrmlScene.Clear(0)
    assert not bench.store._entries


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
    np.testing.assert_array_equal(volumes.volume_from_node(node).array, bench.entry.mirrored())
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
    # Both views then show all of the scan, in the slice that was looked at.
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    slicer.app.applicationLogic().GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetSliceNode(nodes["Red"])
    logic.SetSliceCompositeNode(by_name["Red"])
    offset = logic.GetSliceOffset()
    nodes["Red"].SetDimensions(300, 200, 1)
    nodes["Yellow"].SetDimensions(300, 200, 1)
    view.fit()
    for name in matrices:
        wide, high, _ = nodes[name].GetFieldOfView()
        assert (wide, high) != (70, 50)
        assert wide / high == pytest.approx(1.5)
    assert logic.GetSliceOffset() == pytest.approx(offset)
    assert edit_mirror._placed(nodes["Yellow"])[1:] == edit_mirror._placed(nodes["Red"])[1:]
    view.show("none", bench.entry)
    view.fit()  # there is nothing to fit
    back = edit_mirror._placed(nodes["Yellow"])
    assert back[1:] == kept[1:]
    for n in range(16):
        assert back[0].GetElement(n // 4, n % 4) == kept[0].GetElement(n // 4, n % 4)
    # The mirrored scan is deleted while it is shown.
    view.show("overlay", bench.entry)
    slicer.mrmlScene.RemoveNode(edit_mirror.mirrored_node(bench.entry))
    assert view.look() == "none"
    assert all(not c.GetForegroundVolumeID() for c in composites)


@pytest.mark.parametrize("how", ["overlay", "beside"])
def test_a_map_over_the_image_comes_back_after_the_mirror_image(slicer: Any, how: str) -> None:
    bench = Bench(slicer)
    LayoutManager(slicer)
    results.show_background(bench.volume)
    above = results.add_map(blob_volume(bench.volume), bench.volume, "probability")
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    for composite in composites:
        composite.SetForegroundVolumeID(above.GetID())
        composite.SetForegroundOpacity(0.4)
    view = edit_mirror.MirrorView()
    view.show(how, bench.entry)
    view.show("none", bench.entry)
    assert {c.GetForegroundVolumeID() for c in composites} == {above.GetID()}
    assert {c.GetForegroundOpacity() for c in composites} == {0.4}


def test_a_mirror_image_that_the_panel_has_taken_away_is_not_told_as_shown(slicer: Any) -> None:
    """The panel's overlay goes to a map and back to none, which takes away what is ours."""
    bench = Bench(slicer)
    LayoutManager(slicer)
    results.show_background(bench.volume)
    above = results.add_map(blob_volume(bench.volume), bench.volume, "probability")
    results.show_overlay(above)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    view = edit_mirror.MirrorView()
    view.show("overlay", bench.entry)
    assert view.look(bench.entry.source_id) == "overlay"
    results.show_overlay(None)
    assert view.look(bench.entry.source_id) == "none"
    view.show("none", bench.entry)
    assert all(not c.GetForegroundVolumeID() for c in composites), "the map was taken away, too"


@pytest.mark.parametrize("how", ["overlay", "beside"])
def test_the_mirror_image_of_one_scan_is_not_shown_with_the_next(slicer: Any, how: str) -> None:
    bench = Bench(slicer)
    LayoutManager(slicer)
    results.show_background(bench.volume)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    view = edit_mirror.MirrorView()
    view.show(how, bench.entry)
    assert view.look(bench.entry.source_id) == how
    other = head_node(slicer, None, "the next")
    results.show_background(other)  # as Slicer does with a new source volume
    assert view.look(other.GetID()) == "none"
    assert {c.GetBackgroundVolumeID() for c in composites} == {other.GetID()}
    assert all(not c.GetForegroundVolumeID() for c in composites)
    assert all(c.GetForegroundOpacity() == 0 for c in composites)


def test_the_mirror_image_is_where_the_scan_is_now(slicer: Any) -> None:
    bench = Bench(slicer)
    node = edit_mirror.mirrored_node(bench.entry)
    assert node.GetTransformNodeID() is None
    moved(slicer, bench.volume)
    parent = bench.volume.GetTransformNodeID()
    bench.editor.segmentation.SetAndObserveTransformNodeID(parent)
    assert edit_mirror.mirrored_node(bench.entry) is node
    assert node.GetTransformNodeID() == parent
    grid = bench.entry.edit_grid.grid
    node.SetIJKToRASMatrix(volumes.matrix_from_affine(np.diag([2.0, 2, 2, 1])))
    assert edit_mirror.mirrored_node(bench.entry) is node
    assert volumes.volume_from_node(node).grid.same_as(grid)
    np.testing.assert_array_equal(volumes.volume_from_node(node).array, bench.entry.mirrored())


def test_the_mirror_image_is_that_of_the_voxels_that_the_scan_has_now(slicer: Any) -> None:
    """Which was filtered in place, so that a session was opened anew."""
    bench = Bench(slicer)
    node = edit_mirror.mirrored_node(bench.entry)
    before = volumes.volume_from_node(node).array
    volume = bench.entry.volume
    bench.entry.volume = volume.with_array(volume.array // 2)
    assert edit_mirror.mirrored_node(bench.entry) is node
    now = volumes.volume_from_node(node).array
    np.testing.assert_array_equal(now, bench.entry.mirrored())
    assert now.mean() == pytest.approx(before.mean() / 2, rel=0.01)


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


def test_the_mirror_view_ends_with_its_scene(slicer: Any) -> None:
    """The next scene gives the same ids to other nodes: nothing of it may be changed."""
    view = edit_mirror.MirrorView()
    bench = Bench(slicer, AFFINES["LPS"])
    LayoutManager(slicer)
    view.show("beside", bench.entry)
    shown = edit_mirror.mirrored_node(bench.entry).GetID()
    slicer.mrmlScene.Clear(0)
    assert view.how == "none"
    # And a node of that id which is no mirrored scan is not taken for it.
    bench = Bench(slicer, AFFINES["LPS"])
    view.show("overlay", bench.entry)
    node = slicer.mrmlScene.GetNodeByID(shown)
    assert node is edit_mirror.mirrored_node(bench.entry)
    assert view.look() == "overlay"
    node.SetAttribute("StrokeLesionSeg", None)
    assert view.look() == "none"
