"""Effects amid what the desktop does: other slices, 3D surfaces, transforms, other scenes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bridge_scenes import AFFINES
from editor_stand_in import LayoutManager
from StrokeLesionSegLib.slicerbridge.editor import (
    clicks as edit_clicks,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    mirror as edit_mirror,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    points as edit_points,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    views as edit_views,
)
from test_edit_bridge import finish, moved, new_work
from test_edit_voxels import Bench

LESION = "vtkMRMLMarkupsFiducialNode"


def clicked(bench: Bench, *indices: tuple[int, int, int]) -> edit_points.ClickPoints:
    """Points of "this is lesion" clicks, shown."""
    for index in indices:
        work = new_work(bench)
        work.click(bench.grid.index_to_local(index), True, 0)
        finish(work)
    points = edit_points.ClickPoints(lambda *a: None, lambda *a: None)
    points.show(bench.entry, bench.target)
    return points


# -- points -------------------------------------------------------------------------------------


def test_only_points_that_can_be_dragged_take_a_click(slicer: Any) -> None:
    bench = Bench(slicer)
    points = clicked(bench, (9, 14, 20))
    view = LayoutManager(slicer).sliceWidget("Red").node
    x, y, _off = edit_views.world_to_xy(view, bench.grid.index_to_local((9, 14, 20)))
    for index, taken in ((8, None), (9, 1), (10, None), (11, None)):
        view.JumpSliceByOffsetting(*bench.grid.index_to_local((index, 14, 20)))
        assert points.near(view, (x, y)) == taken, index
    view.JumpSliceByOffsetting(*bench.grid.index_to_local((9, 14, 20)))
    node = slicer.util.getNodesByClass(LESION)[0]
    display = node.GetDisplayNode()
    for set_to, off, on in (
        (node.SetLocked, True, False),
        (display.SetVisibility, False, True),
        (display.SetVisibility2D, False, True),
        (lambda v: node.SetNthControlPointVisibility(0, v), False, True),
        (lambda v: node.SetNthControlPointLocked(0, v), True, False),
    ):
        set_to(off)
        assert points.near(view, (x, y)) is None
        set_to(on)
        assert points.near(view, (x, y)) == 1
    display.AddViewNodeID(slicer.util.getNode("vtkMRMLSliceNodeGreen").GetID())
    assert points.near(view, (x, y)) is None
    display.RemoveAllViewNodeIDs()
    slicer.mrmlScene.RemoveNode(node)
    assert points.near(view, (x, y)) is None


def test_points_follow_a_later_transform(slicer: Any) -> None:
    bench = Bench(slicer)
    points = clicked(bench, (9, 14, 20))
    node, place = slicer.util.getNodesByClass(LESION)[0], [0.0, 0.0, 0.0]
    ways: tuple[Callable[[], Any], ...] = (
        points.follow,
        lambda: points.show(bench.entry, bench.target),
    )
    for follow in ways:
        moved(slicer, bench.editor.segmentation)
        follow()
        assert node.GetTransformNodeID() == bench.editor.segmentation.GetTransformNodeID()
        node.GetNthControlPointPositionWorld(0, place)
        world = bench.grid.to_world(bench.session.clicks[0].ras_mm)
        np.testing.assert_allclose(place, world, atol=1e-4)
    bench.editor.segmentation.SetAndObserveTransformNodeID(None)
    points.follow()
    assert node.GetTransformNodeID() is None


def test_points_are_watched_once_when_showing_them_leads_here_again(slicer: Any) -> None:
    """A new list of points changes the segmentation, upon which the editor activates again."""
    bench = Bench(slicer)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((9, 14, 20)), True, 0)
    finish(work)
    told: list[int] = []
    points = edit_points.ClickPoints(lambda n, place: told.append(n), told.append)
    deep: list[int] = []

    def again(*_args: Any) -> None:
        if not deep:
            deep.append(1)
            points.show(bench.entry, bench.target)

    tag = bench.editor.segmentation.AddObserver("ModifiedEvent", again)
    points.show(bench.entry, bench.target)
    bench.editor.segmentation.RemoveObserver(tag)
    assert deep, "the segmentation told of no change: this tests nothing"
    (node,) = slicer.util.getNodesByClass(LESION)
    assert node.GetNumberOfControlPoints() == 1
    node.SetNthControlPointPosition(0, 5.0, 6.0, 7.0)
    node.InvokeEvent(node.PointEndInteractionEvent)
    assert told == [1]
    points.forget()
    node.InvokeEvent(node.PointEndInteractionEvent)
    assert told == [1]


# -- clicks -------------------------------------------------------------------------------------


def several_clicks(bench: Bench) -> int:
    """Clicks with a missing lesion, a quick second one, a move; returns the changes of voxels."""
    calls: list[int] = []
    modify = bench.effect.modifySegmentByLabelmap
    bench.effect.modifySegmentByLabelmap = lambda *a: (calls.append(1), modify(*a))
    for index, positive in (((9, 9, 8), True), ((3, 20, 24), True), ((12, 9, 13), False)):
        work = new_work(bench)
        work.click(bench.grid.index_to_local(index), positive, 0)
        own = bench.now()["one"]
        assert own[index] == positive, "the click's own slice follows at once"
        assert work.step()
    finish(work)
    work = new_work(bench)
    work.move(2, bench.grid.index_to_local((14, 20, 24)))
    finish(work)
    return len(calls)


def test_a_3d_surface_is_made_anew_a_few_times_only(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment becomes the same as without one, and undo goes back by single clicks."""
    states: list[tuple[list[np.ndarray], int]] = []
    for shown in (False, True):
        slicer.mrmlScene.Clear(0)
        bench = Bench(slicer)
        cut = bench.before["one"].copy()  # holds the middle of no lesion, and parts around it
        cut[:, :6] = cut[9:11] = False
        bench.editor.put("one", cut)
        if shown:
            monkeypatch.setattr(edit_clicks, "TOGETHER_S", 60.0)
            assert bench.editor.segmentation.CreateClosedSurfaceRepresentation()
        changes = several_clicks(bench)
        made = [bench.now()["one"]]
        for _click in range(4):
            bench.editor.undo()
            made.append(bench.now()["one"])
        assert bench.effect.saves == 4
        states.append((made, changes))
    (single, many), (joined, few) = states
    for one, other in zip(single, joined, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((single[n] != single[n + 1]).any() for n in range(4))
    assert few <= 4 * 5 < many, (few, many)


def test_slices_that_wait_are_written_in_time_and_not_after_undo(
    slicer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(slicer)
    assert bench.editor.segmentation.CreateClosedSurfaceRepresentation()
    monkeypatch.setattr(edit_clicks, "TOGETHER_S", 60.0)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((14, 16, 24)), True, 0)
    own = bench.now()["one"]
    assert work.step()
    assert work.step()
    np.testing.assert_array_equal(bench.now()["one"], own)
    monkeypatch.setattr(edit_clicks, "TOGETHER_S", 0.0)
    assert work.step()
    assert bench.now()["one"].sum() > own.sum()
    monkeypatch.setattr(edit_clicks, "TOGETHER_S", 60.0)
    assert work.step()
    work.stop()  # the rest failed, say
    assert not work.working
    work = new_work(bench)
    work.click(bench.grid.index_to_local((3, 4, 24)), True, 0)
    kept = bench.now()["one"]
    assert work.step()
    bench.editor.undo()
    assert not work.step()
    now = bench.now()["one"]
    assert not (now & (bench.distance((3, 4, 24)) <= 4.0)).any()
    assert (now & ~kept).sum() == 0


def test_a_click_that_was_undone_adds_nothing_later(slicer: Any) -> None:
    """The effect may hear of the undo before the work does."""
    bench = Bench(slicer)
    empty = np.zeros(bench.probability.shape, bool)
    bench.editor.put("one", empty)
    work = new_work(bench)
    work.click(bench.grid.index_to_local((9, 9, 8)), True, 0)
    assert work.step()
    bench.editor.undo()
    assert bench.store.follow(bench.entry, bench.target)
    assert not work.working
    work = new_work(bench)
    work.click(bench.grid.index_to_local((3, 20, 24)), True, 0)
    finish(work)
    lesion = bench.component(0.5, (9, 9, 8))
    away = bench.distance((3, 20, 24)) > 6.0
    assert not (bench.now()["one"] & lesion & away).any()


# -- mirror -------------------------------------------------------------------------------------


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
