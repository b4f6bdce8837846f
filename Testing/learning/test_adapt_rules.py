"""Who judges, and by which rules an adapted model is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Volume, write_volume
from StrokeLesionSegLib.learning.adapt.measure import Figures, KeptScore, RegressionScore
from StrokeLesionSegLib.learning.adapt.pairs import Pair
from StrokeLesionSegLib.learning.adapt.prepare import read_pair
from StrokeLesionSegLib.learning.adapt.split import split_subjects
from StrokeLesionSegLib.learning.adapt.verdict import judge, tables_of

NAMES = [f"{n:03d}" for n in range(40)]


def test_a_third_judges_and_at_least_four() -> None:
    for seed in range(20):
        for count in (12, 24, 40):
            split = split_subjects(NAMES[:count], seed)
            assert 4 <= len(split.kept) <= count // 2
            assert sorted(split.learn + split.kept) == NAMES[:count]
    counts = [len(split_subjects(NAMES, seed).kept) for seed in range(30)]
    assert 11 < np.mean(counts) < 15
    with pytest.raises(InputError, match="at least 12"):
        split_subjects(NAMES[:11], 0)


def test_whom_an_ancestor_learnt_from_never_judges() -> None:
    for seed in range(20):
        first = split_subjects(NAMES[:24], seed)
        child = split_subjects(NAMES, seed + 1, first.learn, first.kept)
        assert not set(child.kept) & set(first.learn)
        assert set(first.kept) <= set(child.kept)
    with pytest.raises(InputError, match="have to judge"):
        split_subjects(NAMES[:12], 0, NAMES[:10])


def figures(dice: float, drawn: float = 0.6, healthy: float = 0.0, click: float = 0.8) -> Figures:
    kept = tuple(KeptScore(s, 5.0, 5.0, dice, (dice, click)) for s in ("a", "b", "b"))
    return Figures(
        kept,
        (RegressionScore("own", 4.0, 4.0, drawn), RegressionScore("healthy", 0.0, healthy, 1.0)),
    )


BEFORE = figures(0.5)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (figures(0.505), "kept subjects changes by +0.005"),
        (figures(0.6, drawn=0.58), "simulated strokes are found worse"),
        (figures(0.6, healthy=0.5), "healthy scans are not as empty"),
        (figures(0.6, click=0.78), "clicks bring less"),
    ],
)
def test_each_rule_refuses_on_its_own(after: Figures, reason: str) -> None:
    verdict = judge(BEFORE, after)
    assert not verdict.better
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]


def test_one_subject_that_falls_is_enough() -> None:
    good = figures(0.7)
    worse = replace(good, kept=(replace(good.kept[0], dice=0.44), *good.kept[1:]))
    (reason,) = judge(BEFORE, worse).reasons
    assert "falls by 0.060" in reason
    # Two scans of a subject count as one subject.
    mixed = replace(good, kept=(*good.kept[:2], replace(good.kept[2], dice=0.44)))
    assert judge(BEFORE, mixed).better


def test_better_is_better_and_the_tables_say_it() -> None:
    after = figures(0.51, drawn=0.591, click=0.791)
    verdict = judge(BEFORE, after)
    assert verdict.better
    assert verdict.figures["kept Dice"] == [0.5, 0.51]
    kept, drawn = tables_of(BEFORE, after)
    assert kept.rows[-1][-3:] == ("0.500", "0.510", "+0.010")
    assert "2 healthy" in drawn.text()
    assert Figures.from_dict(BEFORE.as_dict()) == BEFORE


def test_masks_on_other_grids_and_empty_ones_are_told(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    write_volume(tmp_path / "t1.nii", Volume(scan, np.eye(4)))
    moved = np.eye(4)
    moved[0, 3] = 1.0
    for name, affine, value in (("other", moved, 1), ("empty", np.eye(4), 0), ("ok", np.eye(4), 1)):
        mask = np.zeros(scan.shape, np.uint8)
        mask[4:8, 4:8, 4:8] = value
        write_volume(tmp_path / f"{name}.nii", Volume(mask, affine))

    def pair(name: str) -> Pair:
        return Pair("a", tmp_path / "t1.nii", tmp_path / f"{name}.nii", "", "")

    with pytest.raises(InputError, match="another grid"):
        read_pair(pair("other"))
    with pytest.raises(InputError, match="is empty"):
        read_pair(pair("empty"))
    assert read_pair(pair("ok"))[1].sum() == 64
