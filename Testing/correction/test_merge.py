"""The rule by which a click changes a mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from StrokeLesionSegLib.boxes import EMPTY, whole_box
from StrokeLesionSegLib.correction.merge_rule import merge, merge_around

NEIGHBOURS = np.ones((3, 3, 3))


def random_case(seed: int, shape=(30, 34, 38), share: float = 0.25):
    rng = np.random.default_rng(seed)

    def blobs(share: float) -> np.ndarray:
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
        return noise > np.quantile(noise, 1 - share)

    mask, held, proposal = blobs(share), blobs(0.05), blobs(share)
    voxel = tuple(int(rng.integers(n)) for n in shape)
    near = np.zeros(shape, bool)
    near[voxel] = True
    near = ndimage.binary_dilation(near, iterations=2)
    return mask, held, proposal, near, voxel


def row(text: str) -> np.ndarray:
    return np.array([[[c == "x" for c in text]]])


def words(array: np.ndarray) -> str:
    return "".join(".x"[int(v)] for v in array.ravel())


@pytest.mark.parametrize(
    ("mask", "held", "proposal", "near", "click", "lesion", "changed"),
    [
        # What the model proposes elsewhere is dropped.
        ("........", "........", ".xx..xxx", "..x.....", "..x.....", True, ".xx....."),
        # The model says nothing: what lies near is painted.
        ("........", "........", "........", "...xxx..", "....x...", True, "...xxx.."),
        # What is held stays, and the change does not go on behind it.
        ("........", "...x....", ".xxxxxx.", "........", ".x......", True, ".xx....."),
        # ... but where it is clicked itself it changes.
        ("........", "...x....", ".xxxxxx.", "........", "...x....", True, ".xxxxxx."),
        # A positive click never removes, a negative one never adds.
        (".xxxx...", "........", "......xx", "...x....", "...x....", False, ".xxxx..."),
        (".xxxx...", "........", ".xx...xx", "...x....", "...x....", False, "...xx..."),
        # The mask says so already.
        (".xxxx...", "........", ".xxxxxxx", "...x....", "...x....", True, "........"),
        ("........", "........", "........", "...x....", "...x....", False, "........"),
        # A stroke may change several sets, each with a voxel of the stroke.
        ("........", "........", "xx.xx.xx", "........", "x......x", True, "xx....xx"),
    ],
)
def test_small_cases(mask, held, proposal, near, click, lesion, changed) -> None:
    found = merge(row(mask), row(held), row(proposal), row(near), row(click), lesion)
    assert words(found) == changed


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lesion", [True, False])
def test_one_connected_set_that_holds_the_click(seed: int, lesion: bool) -> None:
    mask, held, proposal, near, voxel = random_case(seed)
    mask[voxel] = not lesion
    clicked = np.zeros(mask.shape, bool)
    clicked[voxel] = True
    changed = merge(mask, held, proposal, near, clicked, lesion)
    assert changed[voxel]
    assert ndimage.label(changed, NEIGHBOURS)[1] == 1
    assert (mask[changed] != lesion).all()
    assert not (changed & held & ~clicked).any()
    # Nothing that could have come along was left out.
    wished = (proposal if lesion else ~proposal) & (mask != lesion) & ~held
    beside = ndimage.binary_dilation(changed, NEIGHBOURS) & wished
    assert not (beside & ~changed).any()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("lesion", [True, False])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_widened_window_gives_what_the_whole_array_gives(seed, lesion, share) -> None:
    shape = (40, 70, 60)
    mask, held, proposal, near, voxel = random_case(seed, shape, share)
    mask[voxel] = not lesion
    clicked = np.zeros(shape, bool)
    clicked[voxel] = True
    whole = merge(mask, held, proposal, near, clicked, lesion)
    windows = []

    def propose(box):
        windows.append(box)
        return proposal[box]

    box, changed, by_model = merge_around(
        mask, held.__getitem__, propose, near.__getitem__, [voxel], lesion, whole_box(shape)
    )
    found = np.zeros(shape, bool)
    found[box] = changed
    np.testing.assert_array_equal(found, whole)
    assert by_model == np.count_nonzero(whole & (proposal if lesion else ~proposal))
    assert all(part.stop > part.start for part in windows[0])


def test_a_small_change_costs_a_small_window() -> None:
    shape = (120, 120, 120)
    nothing = np.zeros(shape, bool)
    proposal = nothing.copy()
    proposal[58:63, 58:63, 58:63] = True
    seen = []

    def propose(box):
        seen.append(proposal[box].size)
        return proposal[box]

    _, changed, _ = merge_around(
        nothing,
        nothing.__getitem__,
        propose,
        nothing.__getitem__,
        [(60, 60, 60)],
        True,
        whole_box(shape),
    )
    assert changed.sum() == 125
    assert sum(seen) < nothing.size / 20


def test_a_click_that_says_what_is_there_gives_an_empty_box() -> None:
    mask = np.ones((5, 5, 5), bool)
    no = np.zeros((5, 5, 5), bool)
    found = merge_around(
        mask, no.__getitem__, no.__getitem__, no.__getitem__, [(2, 2, 2)], True, EMPTY
    )
    assert found[0] == EMPTY
    assert found[1].size == 0
