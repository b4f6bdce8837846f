"""What became of lesions between two scans: groups that touch, and their classes."""

from __future__ import annotations

import numpy as np
import pytest
from StrokeLesionSegLib.lesions import CHANGE_COLUMNS, classify, repeat_noise_ml, touching_groups


def block(shape: tuple[int, int, int], **boxes: tuple[slice, slice, slice]) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    for name, box in boxes.items():
        labels[box] = int(name[1:])
    return labels


def test_touching_is_overlap_or_neighbourhood() -> None:
    shape = (12, 12, 12)
    a = block(shape, n1=np.s_[1:3, 1:3, 1:3], n2=np.s_[8:10, 8:10, 8:10], n3=np.s_[1:2, 9:10, 1:2])
    # Beside the corner of the first; two voxels from the second; the third is alone.
    b = block(shape, n1=np.s_[3:5, 3:5, 3:5], n2=np.s_[8:10, 8:10, 11:12])
    assert touching_groups(a, b) == [((1,), (1,)), ((2,), ()), ((3,), ()), ((), (2,))]
    # A bridge in the other scan makes one group of two.
    bridge = block(shape, n1=np.s_[1:10, 2, 2], n2=np.s_[8:10, 8:10, 8:10])
    far = block(shape, n1=np.s_[1:3, 1:3, 1:3], n2=np.s_[8:10, 1:3, 1:3])
    assert touching_groups(far, bridge) == [((1, 2), (1,)), ((), (2,))]
    assert touching_groups(bridge, far) == [((1,), (1, 2)), ((2,), ())]


def test_empty_maps_have_no_groups() -> None:
    nothing = np.zeros((4, 4, 4), np.int32)
    assert touching_groups(nothing, nothing) == []


@pytest.mark.parametrize(
    ("mine", "theirs", "kind"),
    [
        ([5.0], [], "gone"),
        ([], [5.0], "new"),
        ([5.0], [5.2], "unchanged"),
        ([5.0], [8.0], "grown"),
        ([8.0], [5.0], "shrunken"),
        ([3.0, 2.0], [5.0], "merged"),
        ([5.0], [3.0, 2.0], "split"),
        ([3.0, 2.0], [8.0, 1.0], "grown"),
        ([3.0, 2.0], [3.0, 2.1], "unchanged"),
    ],
)
def test_classes(mine: list[float], theirs: list[float], kind: str) -> None:
    a = dict(enumerate(mine, 1))
    b = dict(enumerate(theirs, 1))
    (group,) = classify([(tuple(a), tuple(b))], a, b, a, b)
    assert group.kind == kind
    assert group.change_ml == pytest.approx(sum(theirs) - sum(mine))
    row = group.row()
    assert list(row) == list(CHANGE_COLUMNS)
    assert row["beyond_noise"] == (abs(sum(theirs) - sum(mine)) > group.noise_ml)


def test_what_the_other_scan_does_not_cover_is_not_compared() -> None:
    whole = {1: 4.0, 2: 6.0}
    covered = {1: 1.0, 2: 5.0}
    groups = classify([((1,), ()), ((2,), (1,))], covered, {1: 5.1}, whole, {1: 5.1})
    assert [(g.number, g.kind, g.lesions_a) for g in groups] == [
        (1, "unchanged", (2,)),
        (2, "not covered", (1,)),
    ]
    assert groups[0].not_covered_ml == pytest.approx(1.0)
    row = groups[1].row()
    assert (row["change_ml"], row["beyond_noise"], row["not_covered_ml"]) == (None, None, 3.0)


def test_sides_and_noise() -> None:
    known = {(0, 1): "left", (1, 1): "left", (1, 2): "right"}
    one = {1: 1.0, 2: 1.0}
    groups = classify([((1,), (1,)), ((), (2,))], one, one, one, one, known)
    assert {g.side for g in groups} == {"left", "right"}
    (both,) = classify([((1,), (1, 2))], one, one, one, one, known)
    assert both.side == "both"
    assert repeat_noise_ml(0, 0) > 0
    assert repeat_noise_ml(50, 50) > repeat_noise_ml(5, 5)


def test_pairs_of_large_and_many_lesions_are_those_of_plain_looking() -> None:
    """Voxel by voxel over random blobs; the same for labels whose product is beyond 32 bits."""
    from scipy import ndimage

    random = np.random.default_rng(3)
    a, b = (ndimage.label(random.random((14, 15, 16)) > 0.9)[0] for _ in range(2))
    touching = {
        (int(n), int(b[k, j, i]))
        for k, j, i in np.argwhere(b > 0)
        for n in np.unique(a[max(k - 1, 0) : k + 2, max(j - 1, 0) : j + 2, max(i - 1, 0) : i + 2])
        if n
    }
    for far in (0, 60_000):
        groups = touching_groups(np.where(a > 0, a + far, 0), np.where(b > 0, b + far, 0))
        place = {(0, n): g for g, (own, _) in enumerate(groups) for n in own}
        place |= {(1, m): g for g, (_, own) in enumerate(groups) for m in own}
        assert len(place) == a.max() + b.max()
        assert all(place[0, n + far] == place[1, m + far] for n, m in touching)
        assert sum(not own or not other for own, other in groups) == len(place) - len(
            {(0, n) for n, _ in touching} | {(1, m) for _, m in touching}
        )
