"""Every effect's voxels under every masking and overwrite mode, after undo and redo.

Slicer's own editor logic and history do the work; what they have to give is computed here with
numpy, from Slicer's documented rules. The session's answers are known beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bridge_scenes import AFFINES, blob_volume, head_node
from editor_stand_in import Editor
from map_session import BALL_MM, MapSession
from StrokeLesionSegLib.correction import outlined
from StrokeLesionSegLib.correction.merge_rule import merge
from StrokeLesionSegLib.slicerbridge.editor import correct, outline
from StrokeLesionSegLib.slicerbridge.editor import (
    store as edit_store,
)
from StrokeLesionSegLib.slicerbridge.editor import (
    target as edit_target,
)
from StrokeLesionSegLib.slicerbridge.editor.review import Reviewer
from StrokeLesionSegLib.slicerbridge.editor.stroke import Brush, Stroke
from StrokeLesionSegLib.slicerbridge.editor.views import view_plane
from StrokeLesionSegLib.slicerbridge.scene import volumes

RANGE = (300.0, 700.0)
MASKS = (
    "EditAllowedEverywhere",
    "EditAllowedInsideAllSegments",
    "EditAllowedInsideVisibleSegments",
    "EditAllowedOutsideAllSegments",
    "EditAllowedOutsideVisibleSegments",
    "EditAllowedInsideSingleSegment",
)
OVERWRITES = ("OverwriteAllSegments", "OverwriteVisibleSegments", "OverwriteNone")
Segments = dict[str, np.ndarray]


class Bench:
    """An editor with three segments, the third hidden, and a session whose map is known."""

    def __init__(self, slicer: Any, affine: np.ndarray | None = None) -> None:
        self.slicer = slicer
        self.volume = head_node(slicer, affine)
        self.editor = Editor(slicer, self.volume)
        self.editor.segmentation.GetSegmentation().AddEmptySegment("three", "three")
        self.effect = self.editor.effect()
        self.effect.name = "Test"
        image = self.effect.sourceVolumeImageData()
        self.grid = edit_target.EditGrid.from_image(image, self.editor.segmentation)
        probability = blob_volume(self.volume)
        self.probability = probability.array
        self.session = MapSession(probability)
        self.store = edit_store.SessionStore()
        self.entry = edit_store.Entry(
            self.session,
            self.grid,
            edit_store._key(self.editor.node),
            self.volume.GetID(),
            volumes.volume_from_node(self.volume),
        )
        self.store._entries = [self.entry]
        self.target = edit_target.EditTarget.selected(self.editor.node)
        shape = self.probability.shape
        self.before: Segments = {name: np.zeros(shape, bool) for name in ("one", "two", "three")}
        self.before["one"][5:13, 4:12, 6:16] = True
        self.before["two"][8:16, 8:20, 10:20] = True
        self.before["three"][3:10, 10:16, 2:12] = True
        for name, mask in self.before.items():
            self.editor.put(name, mask)
        display = self.editor.segmentation.GetDisplayNode()
        display.SetSegmentVisibility("three", False)

    def rules(self, mask_mode: str, intensity: bool, overwrite: str) -> None:
        node = self.editor.node
        node.SetMaskMode(getattr(self.slicer.vtkMRMLSegmentationNode, mask_mode))
        node.SetMaskSegmentID("two")
        node.SetOverwriteMode(getattr(self.slicer.vtkMRMLSegmentEditorNode, overwrite))
        node.SetSourceVolumeIntensityMask(intensity)
        node.SetSourceVolumeIntensityMaskRange(*RANGE)

    def now(self) -> Segments:
        return {name: self.editor.voxels(name) for name in self.before}

    def distance(self, index: tuple[int, int, int]) -> np.ndarray:
        """Of every voxel centre from that of a voxel, mm."""
        k, j, i = np.indices(self.probability.shape).reshape(3, -1)
        affine = self.grid.grid.affine
        places = (affine @ np.array([i, j, k, np.ones_like(i)]))[:3]
        centre = (affine @ np.array([*index[::-1], 1.0]))[:3]
        off = np.sqrt(((places - centre[:, None]) ** 2).sum(0))
        return off.reshape(self.probability.shape)


# -- what Slicer has to do ------------------------------------------------------------------------


def editable(bench: Bench, mask_mode: str, intensity: bool) -> np.ndarray:
    s = bench.before
    everywhere = np.ones(bench.probability.shape, bool)
    where = {
        "EditAllowedEverywhere": everywhere,
        "EditAllowedInsideAllSegments": s["one"] | s["two"] | s["three"],
        "EditAllowedInsideVisibleSegments": s["one"] | s["two"],
        "EditAllowedOutsideAllSegments": ~(s["two"] | s["three"]),
        "EditAllowedOutsideVisibleSegments": ~s["two"],
        "EditAllowedInsideSingleSegment": s["two"],
    }[mask_mode]
    if intensity:
        grey = volumes.volume_from_node(bench.volume).array
        where = where & (grey >= RANGE[0]) & (grey <= RANGE[1])
    return where


def expected(
    bench: Bench, change: str, mask: np.ndarray, mask_mode: str, intensity: bool, overwrite: str
) -> Segments:
    """The segments after ``mask`` was added to "one", removed from it, or set as it."""
    after = {name: voxels.copy() for name, voxels in bench.before.items()}
    allowed = editable(bench, mask_mode, intensity)
    inside_one_segment = mask_mode == "EditAllowedInsideSingleSegment"
    if change == "remove":
        if inside_one_segment:
            allowed = allowed | bench.before["one"]
        gone = mask & allowed
        after["one"] &= ~gone
        if inside_one_segment:  # what is erased there goes back to the segment around it
            after["two"] |= gone
        return after
    new = mask & allowed
    if change == "set":
        if intensity or mask_mode != "EditAllowedEverywhere":
            new = new | (bench.before["one"] & ~allowed)
        after["one"] = new
    else:
        after["one"] |= new
    losers = {"OverwriteAllSegments": ("two", "three"), "OverwriteVisibleSegments": ("two",)}
    for name in losers.get(overwrite, ()):
        after[name] &= ~new
    return after


# -- what the effects do --------------------------------------------------------------------------


def fill_whole(bench: Bench) -> tuple[str, np.ndarray]:
    correct.fill(bench.effect, bench.store, bench.entry, bench.target, 0.5)
    return "set", bench.probability >= 0.5


def _stroke(bench: Bench, erase: bool) -> np.ndarray:
    brush = Brush(5.9, 0.5, sphere=True, erase=erase, follow=False)
    stroke = Stroke(bench.grid, bench.probability, bench.target, brush)
    node = bench.slicer.util.getNodesByClass("vtkMRMLSliceNode")[0]
    index = (9, 12, 12)
    stroke.touch(bench.grid.index_to_local(index), view_plane(node, bench.grid))
    assert stroke.apply(bench.effect) > 0
    return bench.distance(index) <= 5.9


def brush_paint(bench: Bench) -> tuple[str, np.ndarray]:
    return "add", _stroke(bench, False) & (bench.probability >= 0.5)


def brush_erase(bench: Bench) -> tuple[str, np.ndarray]:
    return "remove", _stroke(bench, True) & (bench.probability < 0.5)


def _click(bench: Bench, index: tuple[int, int, int], lesion: bool) -> np.ndarray:
    """What the rule makes of a click that the map answers."""
    change = correct.correct(bench.effect, bench.store, bench.entry, bench.target, [index], lesion)
    clicked = np.zeros(bench.probability.shape, bool)
    clicked[index] = True
    held = np.zeros_like(clicked)
    ball = bench.distance(index) <= BALL_MM
    changed = merge(bench.before["one"], held, bench.probability >= 0.5, ball, clicked, lesion)
    assert changed.any()
    # What masking keeps out is not told.
    assert change.voxels == (bench.now()["one"] != bench.before["one"]).sum()
    return changed


def click_lesion(bench: Bench) -> tuple[str, np.ndarray]:
    return "add", _click(bench, (12, 16, 21), True)


def click_other(bench: Bench) -> tuple[str, np.ndarray]:
    return "remove", _click(bench, (12, 11, 15), False)


def _outline(bench: Bench, lesion: bool) -> np.ndarray:
    """Around the first segment in slice 9, or around its middle; how the whole of it changes."""
    low, high = (1.4, 18.6) if lesion else (5.4, 18.6)
    corners = [(9, low, low), (9, low, high), (9, high, high), (9, high, low)]
    path = np.array([bench.grid.index_to_local(corner) for corner in corners])
    normal = np.cross(path[1] - path[0], path[2] - path[1])
    what = {"lesion": lesion}
    count = outline.draw(bench.effect, bench.target, bench.grid, path, normal, around=True, **what)
    box, found = outlined(bench.before["one"], bench.grid.grid, path, normal, **what)
    after = bench.before["one"].copy()
    after[box] = found
    changed = after != bench.before["one"]
    assert count == (bench.now()["one"] != bench.before["one"]).sum()
    assert changed[8].any(), "the slices around follow"
    return np.asarray(changed)


def outline_lesion(bench: Bench) -> tuple[str, np.ndarray]:
    return "add", _outline(bench, True)


def outline_other(bench: Bench) -> tuple[str, np.ndarray]:
    return "remove", _outline(bench, False)


def review_drop(bench: Bench) -> tuple[str, np.ndarray]:
    reviewer = Reviewer(bench.effect, bench.grid, bench.target)
    (piece,) = reviewer.look()
    reviewer.drop(piece.id)
    return "remove", bench.before["one"]


ACTIONS = (
    fill_whole,
    brush_paint,
    brush_erase,
    click_lesion,
    click_other,
    outline_lesion,
    outline_other,
    review_drop,
)


@pytest.mark.parametrize("mask_mode", MASKS)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: a.__name__)
def test_voxels_under_all_rules(
    slicer: Any, action: Callable[[Bench], tuple[str, np.ndarray]], mask_mode: str
) -> None:
    counts = set()
    for intensity, overwrite in itertools.product((False, True), OVERWRITES):
        slicer.mrmlScene.Clear(0)
        bench = Bench(slicer)
        bench.rules(mask_mode, intensity, overwrite)
        change, mask = action(bench)
        after = expected(bench, change, mask, mask_mode, intensity, overwrite)
        case = f"{mask_mode}, intensity range {intensity}, {overwrite}"
        for name, voxels in bench.now().items():
            wrong = int(np.count_nonzero(voxels != after[name]))
            assert not wrong, f"{case}: {wrong} voxels of '{name}' ({voxels.sum()} in all)"
        counts.add(tuple(int(after[name].sum()) for name in after))
        assert bench.effect.saves == 1, "one action is one step"
        bench.editor.undo()
        for name, voxels in bench.now().items():
            np.testing.assert_array_equal(voxels, bench.before[name], f"{case}: undo of {name}")
        bench.editor.redo()
        for name, voxels in bench.now().items():
            np.testing.assert_array_equal(voxels, after[name], f"{case}: redo of {name}")
    unchanged = tuple(int(voxels.sum()) for voxels in bench.before.values())
    assert counts - {unchanged}, "nothing ever changed: the scene tests nothing"


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: a.__name__)
def test_voxels_on_any_orientation(
    slicer: Any, action: Callable[[Bench], tuple[str, np.ndarray]], affine: np.ndarray
) -> None:
    bench = Bench(slicer, affine)
    change, mask = action(bench)
    after = expected(bench, change, mask, MASKS[0], False, "OverwriteNone")
    for name, voxels in bench.now().items():
        np.testing.assert_array_equal(voxels, after[name], name)
    changed = {name for name in after if (after[name] != bench.before[name]).any()}
    assert changed == {"one"}
