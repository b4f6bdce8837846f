"""Splits: shares, seeds, nobody on two sides, JSON, and the checks that a wrong one meets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from StrokeLesionSegLib.errors import InputError

pytest.importorskip("lightning")
from stroketrain.data.splits import PARTS, Split, check_split, make_split

# 40 subjects at 5 sites; every fourth has two sessions.
SCANS = [
    {"name": f"sub-{n:02d}_ses-{s}", "subject": f"sub-{n:02d}", "site": f"R{n % 5}"}
    for n in range(40)
    for s in ((1, 2) if n % 4 == 0 else (1,))
]
SUBJECT = {s["name"]: s["subject"] for s in SCANS}
SITE = {s["name"]: s["site"] for s in SCANS}


@pytest.mark.parametrize("by", ["subject", "scan", "site"])
@pytest.mark.parametrize("seed", range(4))
def test_nobody_stands_on_two_sides(by: str, seed: int) -> None:
    split = make_split(SCANS, by, seed=seed)
    people = [{SUBJECT[name] for name in split.parts[part]} for part in PARTS]
    assert set.union(*people) == set(SUBJECT.values())
    assert sum(map(len, people)) == 40
    assert sorted(n for part in PARTS for n in split.parts[part]) == sorted(SUBJECT)
    if by == "subject":
        assert [len(p) for p in people] == [24, 8, 8]
    if by == "scan":
        scans = [len(split.parts[part]) for part in PARTS]
        assert all(
            abs(n - 50 * share) <= 1 for n, share in zip(scans, (0.6, 0.2, 0.2), strict=True)
        )
    if by == "site":
        sites = [{SITE[name] for name in split.parts[part]} for part in PARTS]
        assert sum(map(len, sites)) == 5
        assert [len(s) for s in sites] == [3, 1, 1]


@pytest.mark.parametrize("by", ["subject", "scan", "site", "slice"])
def test_folds_test_everybody_once(by: str) -> None:
    options = {"seed": 2, "slices": range(40, 60)}
    splits = [make_split(SCANS, by, fold=fold, **options) for fold in range(5)]
    tested: list[object] = []
    for fold, split in enumerate(splits):
        units = {
            part: {(n, z) for n, zs in split.parts[part].items() for z in zs or range(40, 60)}
            for part in PARTS
        }
        assert sum(map(len, units.values())) == len(set.union(*units.values())) == 1000
        assert units["val"] != units["test"]
        assert len(units["train"]) == pytest.approx(600, abs=80)
        assert split.fold == fold
        tested += units["test"]
    assert len(tested) == len(set(tested)) == 1000
    assert make_split(SCANS, by, fold=5, **options).parts == splits[0].parts


def test_fewer_sites_than_folds() -> None:
    """Four sites give four folds; the fifth is the first again."""
    scans = [s for s in SCANS if s["site"] != "R4"]
    tests = [
        {SITE[name] for name in make_split(scans, "site", fold=fold).parts["test"]}
        for fold in range(5)
    ]
    assert sorted(site for sites in tests[:4] for site in sites) == ["R0", "R1", "R2", "R3"]
    assert tests[4] == tests[0]


def test_slices_are_dealt_singly() -> None:
    split = make_split(SCANS, "slice", seed=1, slices=range(10, 30))
    units = [{(n, z) for n, zs in split.parts[p].items() for z in zs or ()} for p in PARTS]
    assert [len(u) for u in units] == [600, 200, 200]
    assert len(set.union(*units)) == 1000
    assert set(split.parts["train"]) & set(split.parts["test"])  # the leak


def test_the_seed_decides() -> None:
    assert make_split(SCANS, seed=3) == make_split(SCANS, seed=3)
    assert make_split(SCANS, seed=3).parts != make_split(SCANS, seed=4).parts
    assert make_split(SCANS[::-1], seed=3).parts == make_split(SCANS, seed=3).parts


def test_three_units_fill_three_parts() -> None:
    split = make_split(SCANS[2:5], seed=0)
    assert [len(split.parts[p]) for p in PARTS] == [1, 1, 1]
    with pytest.raises(InputError, match="2 subjects, and three parts need"):
        make_split(SCANS[2:4])
    with pytest.raises(InputError, match="unknown way"):
        make_split(SCANS, "patient")


def test_round_trip_and_checks(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    split = make_split(SCANS, "scan", seed=5, fingerprint="abc")
    split.save(file)
    assert Split.load(file, SCANS) == split
    assert Split.load(file, SCANS, "abc") == split
    with pytest.raises(InputError, match="made of other data"):
        Split.load(file, SCANS, "abd")
    wrong = json.loads(file.read_text())
    name = next(n for n in wrong["parts"]["train"] if n == "sub-04_ses-1" or n == "sub-00_ses-1")
    twin = name.replace("ses-1", "ses-2")
    del wrong["parts"]["train"][twin]
    wrong["parts"]["test"][twin] = None
    file.write_text(json.dumps(wrong))
    with pytest.raises(InputError, match="is both in train and in test"):
        Split.load(file, SCANS)
    with pytest.raises(InputError, match="not in the data"):
        check_split(split, SCANS[5:], file)
    file.write_text("{}")
    with pytest.raises(InputError, match="not a split"):
        Split.load(file, SCANS)
