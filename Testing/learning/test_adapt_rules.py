"""Who judges, and by which rules an adapted model is installed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cli_support
import numpy as np
import pytest
from adapt_support import cohort, tiny_model
from StrokeLesionSegLib import models
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort import find_scans
from StrokeLesionSegLib.cohort.corrected import SourceScans
from StrokeLesionSegLib.cohort.dicom_study import told_as
from StrokeLesionSegLib.cohort.fingerprint import fingerprint
from StrokeLesionSegLib.cohort.ledger import Ledger
from StrokeLesionSegLib.commands import adapt as command
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Volume, read_scan, write_volume
from StrokeLesionSegLib.learning import adapt as adapting
from StrokeLesionSegLib.learning import loop
from StrokeLesionSegLib.learning.adapt import naming
from StrokeLesionSegLib.learning.adapt import run as running
from StrokeLesionSegLib.learning.adapt.card import Ancestry
from StrokeLesionSegLib.learning.adapt.measure import Figures, KeptScore, RegressionScore
from StrokeLesionSegLib.learning.adapt.naming import run_identity
from StrokeLesionSegLib.learning.adapt.options import AdaptOptions
from StrokeLesionSegLib.learning.adapt.pairs import FoundPairs, Pair, find_pairs
from StrokeLesionSegLib.learning.adapt.prepare import prepare_pairs, read_pair
from StrokeLesionSegLib.learning.adapt.run import Outcome
from StrokeLesionSegLib.learning.adapt.split import (
    SubjectSplit,
    choosing_subjects,
    split_subjects,
)
from StrokeLesionSegLib.learning.adapt.verdict import judge, tables_of
from StrokeLesionSegLib.models import load_model

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
    with pytest.raises(InputError, match="are needed to test"):
        split_subjects(NAMES[:12], 0, NAMES[:10])


def test_a_quarter_of_many_only_chooses() -> None:
    for seed in range(5):
        chosen = choosing_subjects(NAMES[:32], seed)
        assert len(chosen) == 8
        assert set(chosen) < set(NAMES[:32])
    assert len({choosing_subjects(NAMES[:32], seed) for seed in range(5)}) > 1
    # Of few nobody can be spared.
    assert choosing_subjects(NAMES[:11], 0) == tuple(NAMES[:11])
    assert len(choosing_subjects(NAMES[:12], 0)) == 3


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


def test_scans_of_a_dicom_export_are_found(tmp_path: Path) -> None:
    """Ledger and sidecars call them by checksums; two series of one folder are two scans."""
    for number in (1, 2):
        cli_support.write_dicom_series(
            tmp_path / "in" / "DOE_JANE", uid=f"1.2.3.{number}", shift=7.0 * number
        )
    out = tmp_path / "out"
    found = find_scans(tmp_path / "in").scans
    assert len(found) == 2
    for scan in found:
        place = out / scan.entities.folder
        place.mkdir(parents=True, exist_ok=True)
        volume = read_scan(scan.path, series=scan.series).volume
        mask = np.zeros(volume.array.shape, np.uint8)
        mask[4:6, 8:12, 8:12] = 1
        write_volume(place / f"{scan.stem}_desc-corrected_mask.nii.gz", volume.with_array(mask))
        facts = {
            "Sources": [f"bids:input:{scan.relative}"],
            "source": {"sha256": fingerprint(scan.path)["sha256"]},
        }
        (place / f"{scan.stem}_desc-corrected_mask.json").write_text(json.dumps(facts))
    (out / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"input": "../in"}}))
    with Ledger(out) as ledger:
        for scan in found:
            record = {"record": "scan", "stem": scan.stem, "state": "done", "series": scan.series}
            ledger.append({**record, "source": scan.relative})
    pairs = find_pairs(out)
    assert pairs.left_out == ()
    assert {(p.scan, p.series) for p in pairs.pairs} == {(s.path, s.series) for s in found}
    assert all(read_pair(p)[1].sum() == 32 for p in pairs.pairs)
    # Another series of the same folder makes another run: what was prepared, or refused, is of one.
    parent = load_model(tiny_model(tmp_path / "tiny")).manifest
    first = replace(pairs.pairs[0], subject="a", mask_sha256="0")
    ids = {
        run_identity(parent, FoundPairs((replace(first, series=s),)), AdaptOptions())
        for s in ("1.2.3.1", "1.2.3.2", "1.2.3.2")
    }
    assert len(ids) == 2
    # As a list of folders calls them.
    place = found[0].place
    assert SourceScans(out).find(told_as(place)) == found[0].path
    assert SourceScans(out).find("nowhere.nii") == tmp_path / "in" / "nowhere.nii"


def test_nobody_learns_and_judges_under_two_names(tmp_path: Path) -> None:
    for n, name in enumerate(("a", "b", "c", "sub-01_T1w", "P01_pre", "P01_post")):
        (tmp_path / f"{name}.nii").write_bytes(b"%d" % n)
    (tmp_path / "mask.nii").write_bytes(b"mask")
    table = tmp_path / "pairs.csv"

    def subjects(heading: str, *lines: str) -> tuple[str, ...]:
        table.write_text("\n".join((heading, *lines)))
        return find_pairs(table).subjects

    heading = "scan,mask,subject"
    assert subjects(heading, "a.nii,mask.nii,P01", "b.nii,mask.nii,p01") == ("P01",)
    # Excel takes the zeros of a column of numbers.
    lines = ("a.nii,mask.nii,1", "sub-01_T1w.nii,mask.nii,", "c.nii,mask.nii,10")
    assert subjects(heading, *lines) == ("1", "10")
    lines = ("a.nii,mask.nii,P01", "b.nii,mask.nii,P01")
    assert subjects("scan,mask,patient ID", *lines) == ("P01",)
    lines = ("a.nii,mask.nii,sub-01_ses-1", "b.nii,mask.nii,sub-01_ses-2")
    assert subjects(heading, *lines) == ("01",)
    with pytest.raises(InputError, match=r"does not say whose scan P01_pre\.nii is"):
        subjects("scan,mask", "P01_pre.nii,mask.nii", "P01_post.nii,mask.nii")
    # An ancestor has learnt from them by other names.
    spelled = [f"P{n:02d}" for n in range(24)]
    split = split_subjects(
        spelled, 0, [f"p{n}" for n in range(12)], [f"p{n}" for n in range(12, 16)]
    )
    assert set(spelled[12:16]) <= set(split.kept) <= set(spelled[12:])


def test_masks_that_teach_nothing_are_told(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    write_volume(tmp_path / "t1.nii", Volume(scan, np.eye(4)))
    moved = np.eye(4)
    moved[0, 3] = 1.0
    for name, affine, value in (("other", moved, 1), ("empty", np.eye(4), 0), ("ok", np.eye(4), 1)):
        mask = np.zeros(scan.shape, np.uint8)
        mask[4:8, 4:8, 4:8] = value
        write_volume(tmp_path / f"{name}.nii", Volume(mask, affine))
    # A probability map, or a mask that was resampled with interpolation.
    write_volume(tmp_path / "soft.nii", Volume(np.where(scan > 0.5, scan, 0), np.eye(4)))
    # Lesion and ventricle, as Slicer exports two segments.
    mask = np.zeros(scan.shape, np.uint8)
    mask[4:8, 4:8, 4:6], mask[4:8, 4:8, 6:8] = 1, 2
    write_volume(tmp_path / "labels.nii", Volume(mask, np.eye(4)))

    def pair(name: str) -> Pair:
        return Pair("a", tmp_path / "t1.nii", tmp_path / f"{name}.nii", "", "")

    with pytest.raises(InputError, match="not on the grid"):
        read_pair(pair("other"))
    with pytest.raises(InputError, match="is empty"):
        read_pair(pair("empty"))
    with pytest.raises(InputError, match="is a soft or probability map"):
        read_pair(pair("soft"))
    with pytest.raises(InputError, match=r"holds several labels \(1, 2\)"):
        read_pair(pair("labels"))
    assert read_pair(pair("ok"))[1].sum() == 64


def test_an_update_of_the_program_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new weights would be judged against figures of the version before."""
    parent = load_model(tiny_model(tmp_path / "tiny")).manifest
    found = FoundPairs(())
    before = run_identity(parent, found, AdaptOptions())
    assert run_identity(parent, found, AdaptOptions()) == before
    monkeypatch.setattr(naming, "__version__", "99.0.0")
    assert run_identity(parent, found, AdaptOptions()) != before


def test_a_scan_that_the_input_check_refuses_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((32, 32, 32)).astype(np.float32)
    write_volume(tmp_path / "t1.nii", Volume(noise, np.eye(4)))
    mask = np.zeros(noise.shape, np.uint8)
    mask[4:8, 4:8, 4:8] = 1
    write_volume(tmp_path / "mask.nii", Volume(mask, np.eye(4)))
    pair = Pair("a", tmp_path / "t1.nii", tmp_path / "mask.nii", "", "")
    # Before anything asks for the model.
    ready, (left_out,) = prepare_pairs(
        [pair],
        None,
        tmp_path / "scans",
        lambda *_: None,
        lambda: False,  # type: ignore[arg-type]
    )
    assert ready == []
    assert left_out.path == pair.mask
    assert left_out.reason.startswith("its T1, t1.nii: ")
    assert "noise" in left_out.reason
    # Its data lie in another file, which is not there.
    (tmp_path / "t1.nhdr").write_text(
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 32 32 32\nspace: RAS\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\ndata file: t1.raw\n"
    )
    pair = replace(pair, scan=tmp_path / "t1.nhdr")
    told = prepare_pairs([pair], None, tmp_path / "more", lambda *_: None, lambda: False)[1]  # type: ignore[arg-type]
    assert told[0].reason.startswith("its T1, t1.")


def test_a_scan_that_was_put_right_is_used_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its sidecar nor its name is in its checksum."""
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    source, parent = cohort(tmp_path, 2), load_model(tiny_model(tmp_path / "tiny"))
    sidecar = tmp_path / "raw" / "sub-02_T1w.json"
    sidecar.write_text(json.dumps({"EchoTime": 0.09, "RepetitionTime": 6.0}))
    monkeypatch.setattr(running, "LEAST_SUBJECTS", 1)
    run = running._Run(
        parent, Ancestry(), "new", find_pairs(source), AdaptOptions(threads=1),
        lambda *told: None, lambda: False,
    )  # fmt: skip
    assert [r.pair.subject for r in run._prepared()] == ["01"]
    (run.folder / "run").mkdir()
    learnt = [run.folder / "run", run.folder / "before.json"]
    learnt[1].write_text("{}")
    assert [r.pair.subject for r in run._prepared()] == ["01"]
    assert all(path.exists() for path in learnt)
    sidecar.unlink()
    assert [r.pair.subject for r in run._prepared()] == ["01", "02"]
    # Who learns and who judges has changed with it.
    assert not any(path.exists() for path in learnt)


def test_a_machine_that_was_asleep_has_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(loop.time, "monotonic", lambda: now)
    clock = loop._Clock(60.0)
    now += 5
    assert clock.tick() == 65
    now += 8 * 3600
    assert clock.tick() == 65 + loop._LONGEST_STEP_S
    now += 5
    assert clock.tick() == 70 + loop._LONGEST_STEP_S


def test_what_cannot_be_exported_is_refused_before_and_told_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(tiny_model(tmp_path / "tiny")).manifest
    before, after = figures(0.5), figures(0.7)
    outcome = Outcome(
        model, judge(before, after), tables_of(before, after), (), tmp_path / "card.json",
        SubjectSplit(("a",), ("b",)), {"steps": 1, "minutes in all": 2.0},
    )  # fmt: skip
    asked = []

    def learnt(*arguments: object, **options: object) -> Outcome:
        asked.append(arguments)
        return outcome

    monkeypatch.setattr(adapting, "adapt", learnt, raising=False)
    monkeypatch.setattr(command, "lower_priority", lambda: None)
    (tmp_path / "file").touch()
    run = ["adapt", str(tmp_path), "--progress", "none", "--export"]
    for place in (tmp_path, tmp_path / "file" / "model.zip", Path()):
        assert main([*run, str(place)]) == 2
        assert not asked
    # A folder that is missing is made in the end; a name may be any.
    assert main([*run, str(tmp_path / "new" / "model")]) == 0
    assert (tmp_path / "new" / "model").is_file()

    def full(*arguments: object) -> Path:
        raise InputError("model.zip", "the disk is full", "Free some space")

    monkeypatch.setattr(models, "pack_model", full, raising=False)
    capsys.readouterr()
    assert main([*run, str(tmp_path / "new" / "model.zip")]) == 2
    told = capsys.readouterr()
    assert "Kept subjects" in told.out
    assert "installed as tiny" in told.out
    assert "for a colleague" not in told.out
    assert "the disk is full" in told.err
