"""Two volumes of one person in the scene: compared in a process, aligned, and turned back."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from heads import AFFINE, ball, head, move, moved
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.slicerbridge.engine.compare import (
    ComparisonRun,
    FoundMask,
    ScanChange,
    ScanToCompare,
    patch_of,
)
from StrokeLesionSegLib.slicerbridge.engine.polled_thread import PolledThread
from StrokeLesionSegLib.slicerbridge.engine.run import RunParameters
from StrokeLesionSegLib.slicerbridge.scene import results, side_by_side
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.volumes import (
    add_volume_node,
    matrix_from_affine,
    set_volume,
)

MATRIX = move(4)


def scan(array: np.ndarray, name: str, mask: np.ndarray | None = None) -> ScanToCompare:
    node = add_volume_node(Volume(array.astype(np.float32), AFFINE), name)
    if mask is None:
        return ScanToCompare(node)
    segmentation = results.add_segmentation(node)
    segment = results.add_segment(segmentation, patch_of(mask, node), Provenance())
    return ScanToCompare(node, segmentation, segment)


def two_scans() -> tuple[ScanToCompare, ScanToCompare]:
    """The same head in two poses; one lesion has grown, one is new."""
    person = head(1).array
    before = ball((40, 0, 20), 12).astype(np.uint8)
    after = ball((40, 0, 20), 16) | ball((10, -60, -10), 9)
    earlier = scan(person, "earlier T1", before)
    later = scan(moved(person, MATRIX), "later T1", moved(after, MATRIX, labels=True))
    return earlier, later


def ended(run: ComparisonRun, seconds: float = 280) -> ComparisonRun:
    end = time.monotonic() + seconds
    while run.poll():
        assert time.monotonic() < end, run.state
        time.sleep(0.02)
    return run


def world(node: Any, point: tuple[float, float, float]) -> np.ndarray:
    place = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(point, place)
    return np.array(place)


def test_compared_aligned_and_turned_back(slicer: Any) -> None:
    earlier, later = two_scans()
    # As in a panel where model, alignment and precision are chosen: both masks are known.
    chosen = RunParameters("triplanar", "none", "cpu", "float32", "stroke-t1-volumetric")
    run = ComparisonRun(earlier, later, chosen)
    run.start()
    ended(run)
    assert run.failure is None, str(run.failure)
    assert run.change is not None
    kinds = {row["class"]: row for row in run.change.rows}
    assert set(kinds) == {"grown", "new"}
    assert run.change.facts["first"]["name"] == "earlier"
    assert not run.change.found
    assert run._process is not None
    assert not run._process.scratch.exists()
    # What lay at one place of the head lies at one place of the scene.
    first, second = earlier.volume_node, later.volume_node
    node = side_by_side.align_later(first, second, run.change.matrix, [later.segmentation_node])
    inside = (30.0, -20.0, 10.0)
    there = (MATRIX @ np.array([*inside, 1.0]))[:3]
    assert np.abs(world(second, tuple(there)) - world(first, inside)).max() < 0.7
    assert later.segmentation_node.GetTransformNodeID() == node.GetID()
    assert side_by_side.alignment_of(second) is node
    # Again: no second transform.
    assert side_by_side.align_later(first, second, run.change.matrix, []) is node
    side_by_side.turn_back(second)
    assert second.GetTransformNodeID() is None
    assert later.segmentation_node.GetTransformNodeID() is None
    assert not slicer.mrmlScene.IsNodePresent(node)
    side_by_side.show_side_by_side(first, second)  # no window here: nothing happens


def test_a_parent_transform_comes_back(slicer: Any) -> None:
    first, second = (scan(head(n).array, f"scan {n}").volume_node for n in (1, 2))
    mine, theirs = (
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode") for _ in range(2)
    )
    first.SetAndObserveTransformNodeID(theirs.GetID())
    second.SetAndObserveTransformNodeID(mine.GetID())
    node = side_by_side.align_later(first, second, MATRIX, [])
    assert node.GetTransformNodeID() == theirs.GetID()
    side_by_side.turn_back(second)
    assert second.GetTransformNodeID() == mine.GetID()


def test_scans_that_are_compared_both_ways_make_no_circle(slicer: Any) -> None:
    first, second = (scan(head(n).array, f"scan {n}").volume_node for n in (1, 2))
    inside = (30.0, -20.0, 10.0)
    there = tuple((MATRIX @ np.array([*inside, 1.0]))[:3])
    # A slice view that a test before has made keeps a transform of its own.
    of_views = slicer.util.getNodesByClass("vtkMRMLLinearTransformNode")
    side_by_side.align_later(first, second, MATRIX, [])
    side_by_side.align_later(second, first, np.linalg.inv(MATRIX), [])
    node = side_by_side.align_later(first, second, MATRIX, [])
    assert first.GetTransformNodeID() is None
    assert node.GetTransformNodeID() is None
    assert np.allclose(world(second, there), inside, atol=1e-6)
    side_by_side.turn_back(second)
    assert slicer.util.getNodesByClass("vtkMRMLLinearTransformNode") == of_views


def test_two_people_and_one_scan_twice(slicer: Any) -> None:
    mask = ball((40, 0, 20), 12).astype(np.uint8)
    first, other = scan(head(1).array, "Anna", mask), scan(head(2).array, "Berta", mask)
    run = ComparisonRun(first, other)
    run.start()
    ended(run)
    assert run.state == "failed"
    assert run.failure is not None
    assert "does not look like a scan of the same person" in run.failure.cause
    assert "--force" not in str(run.failure)
    with pytest.raises(InputError, match="is both the earlier and the later scan"):
        ComparisonRun(first, first).start()


def test_cancelled_or_closed_it_leaves_nothing(slicer: Any) -> None:
    earlier, later = two_scans()
    run = ComparisonRun(earlier, later)
    run.start()
    assert run._process is not None
    folder = run._process.scratch
    run.cancel()
    run.cancel()
    assert run.state == "cancelled"
    assert not folder.exists()
    run = ComparisonRun(earlier, later)
    run.start()
    while run.state == "exporting":
        run.poll()
    slicer.mrmlScene.RemoveNode(later.volume_node)
    ended(run)
    assert run.state == "cancelled"
    assert run.change is None


def test_a_scan_that_goes_while_the_results_are_read_ends_it(slicer: Any) -> None:
    earlier, later = scan(head(1).array, "earlier"), scan(head(2).array, "later")
    run = ComparisonRun(earlier, later)
    run.start()
    while run.state == "exporting":
        run.poll()
    assert run._process is not None
    read = PolledThread(lambda: ScanChange([], {}, np.eye(4), {}, np.eye(4)))
    run._thread, run.state = read, "reading"  # as if the engine had ended well
    slicer.mrmlScene.RemoveNode(later.volume_node)
    ended(run)
    assert run.state == "cancelled"
    assert run.change is None


def results_of_an_engine(run: ComparisonRun, change: ScanChange) -> ComparisonRun:
    """The end of a run whose engine gave this."""
    run._thread, run.state = PolledThread(lambda: change), "reading"
    return ended(run)


def test_results_are_where_scans_that_were_moved_meanwhile_lie_now(slicer: Any) -> None:
    """Both are recentred, each by its own way, while the engine works."""
    earlier, later = scan(head(1).array, "earlier"), scan(head(2).array, "later")
    run = ComparisonRun(earlier, later)
    run.start()
    first, second = earlier.volume_node, later.volume_node
    shape = run._grids[1].shape
    made = Provenance(to_mni=move(5))
    row = {"centre_r_mm": 30.0, "centre_a_mm": -20.0, "centre_s_mm": 10.0}
    found = {1: FoundMask(np.ones(shape, np.uint8), made)}
    change = ScanChange([row], {}, MATRIX, found, AFFINE)
    inside, there = (30.0, -20.0, 10.0), (MATRIX @ np.array([30.0, -20.0, 10.0, 1.0]))[:3]
    moves = move(2), move(3)
    for node, one in zip((first, second), moves, strict=True):
        node.SetIJKToRASMatrix(matrix_from_affine(one @ AFFINE))
    got = results_of_an_engine(run, change).change
    assert got is not None
    now = [(one @ np.array([*p, 1.0]))[:3] for one, p in zip(moves, (inside, there), strict=True)]
    side_by_side.align_later(first, second, got.matrix, [])
    assert np.allclose(world(second, tuple(now[1])), world(first, tuple(now[0])), atol=1e-6)
    assert np.allclose(got.centre(0, first), now[0], atol=1e-6)
    to_mni = got.found[1].made.to_mni
    assert np.allclose(to_mni @ [*now[1], 1.0], move(5) @ [*there, 1.0], atol=1e-6)


@pytest.mark.parametrize("change", [lambda array: array[1:], lambda array: np.roll(array, 3, 1)])
def test_a_scan_with_other_voxels_meanwhile_ends_it(slicer: Any, change: Any) -> None:
    """It was resampled, or a warp was hardened on it that keeps its grid."""
    earlier, later = scan(head(1).array, "earlier"), scan(head(2).array, "later")
    run = ComparisonRun(earlier, later)
    run.start()
    set_volume(later.volume_node, Volume(change(head(2).array).astype(np.float32), AFFINE))
    results_of_an_engine(run, ScanChange([], {}, MATRIX, {}, AFFINE))
    assert run.change is None
    assert run.failure is not None
    assert "later" in run.failure.cause
    assert "was warped, resampled or filtered meanwhile" in run.failure.cause
