"""``compare`` over a study: pairs of sessions, tables, pages, failures, what is done already."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cohort_support import batch, records
from heads import AFFINE, ball, head, move, moved
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort.change_pairs import session_pairs
from StrokeLesionSegLib.cohort.corrections import save_correction
from StrokeLesionSegLib.cohort.lock import FolderLock
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Volume, write_volume
from StrokeLesionSegLib.lesions import read_table

# Pairs are aligned several times in a test.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("aligned_once")]
BEFORE = ball((40, 0, 20), 12) | ball((-40, -20, 0), 10)
# The first has grown, the second is as it was, a third is new.
AFTER = ball((40, 0, 20), 16) | ball((-40, -20, 0), 10) | ball((10, -60, -10), 9)


def scan(source: Path, subject: str, session: str, array: np.ndarray) -> Path:
    folder = source / f"sub-{subject}" / f"ses-{session}" / "anat"
    folder.mkdir(parents=True)
    file = folder / f"sub-{subject}_ses-{session}_T1w.nii.gz"
    write_volume(file, Volume(array.astype(np.float32), AFFINE))
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model_home: Path) -> Path:
    """A study of three people: three sessions, two of which the second is a stranger's, and one."""
    folder = tmp_path_factory.mktemp("study")
    source, out = folder / "in", folder / "out"
    person, matrix = head(1), move(4)
    shown = {"1": person.array, "2": moved(person.array, matrix), "10": person.array + 1}
    for session, array in shown.items():
        scan(source, "01", session, array)
    scan(source, "02", "1", head(1).array)
    scan(source, "02", "2", head(2).array)
    scan(source, "03", "1", head(2).array)
    (source / "dataset_description.json").write_text('{"Name": "Two times", "BIDSVersion": "1.10"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROKE_LESION_SEG_HOME", str(model_home))
        assert batch(source, out, "--force", "--progress", "none") == 0
    masks = {
        "sub-01_ses-1": BEFORE,
        "sub-01_ses-2": moved(AFTER, matrix, labels=True),
        "sub-01_ses-10": AFTER,
    }
    for record in records(out):
        mask = masks.get(record["stem"], BEFORE)
        save_correction(out, record, Volume(mask.astype(np.uint8), AFFINE), "R1")
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A copy of the study, ``in`` and ``out``."""
    shutil.copytree(made, tmp_path / "study", copy_function=shutil.copy2)
    return tmp_path / "study"


@pytest.fixture(scope="module")
def compared(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study with the comparisons of its first person."""
    folder = tmp_path_factory.mktemp("compared") / "study"
    shutil.copytree(made, folder, copy_function=shutil.copy2)
    assert compare(folder, "--participant-label", "01") == 0
    return folder


@pytest.fixture
def done(compared: Path, tmp_path: Path) -> Path:
    """A copy of the study as it is after ``compare`` of its first person."""
    shutil.copytree(compared, tmp_path / "study", copy_function=shutil.copy2)
    return tmp_path / "study"


def compare(study: Path, *more: object) -> int:
    where = ["--input", study / "in", "--progress", "none"]
    return main(["compare", str(study / "out"), *map(str, (*where, *more))])


def test_tables_and_pages(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = study / "out"
    assert compare(study) == 3
    said = capsys.readouterr()
    assert said.err.count("failed: sub-02 ses-1 ses-2: sub-02_ses-2: does not look like") == 1
    assert "sub-03 has one session only" in said.err
    assert "3 pairs of sessions: 2 compared, 0 before, 1 failed" in said.out
    rows = read_table(out / "group_change.tsv")
    # Sessions in the order of their numbers, not of the alphabet.
    first = [row for row in rows if row["session_b"] == "ses-2"]
    second = [row for row in rows if row["session_a"] == "ses-2"]
    assert sorted(row["class"] for row in first) == ["grown", "new", "unchanged"]
    assert {row["class"] for row in second} == {"unchanged"}
    assert {row["session_b"] for row in second} == {"ses-10"}
    pairs = {row["session_a"]: row for row in read_table(out / "group_change_pairs.tsv")[:2]}
    assert pairs["ses-1"]["beyond_noise"] == 2
    assert pairs["ses-1"]["change_ml"] == pytest.approx(
        sum(row["change_ml"] for row in first), abs=1e-5
    )
    assert pairs["ses-1"]["corrected"] == "ses-1 ses-2"
    failed = read_table(out / "group_change_pairs.tsv")[2]
    assert failed["state"] == "failed"
    assert failed["volume_a_ml"] is None
    described = json.loads((out / "group_change.json").read_text(encoding="utf-8"))
    assert set(described) == set(rows[0])
    page = (out / "group_change.html").read_text(encoding="utf-8")
    assert "Two times" in page
    assert "3 pairs of sessions, 1 failed. In 1 a lesion has changed beyond" in page
    link = "group_change/sub-01_ses-1_ses-2_change.html"
    assert f'href="./{link}"' in page
    single = (out / link).read_text(encoding="utf-8")
    assert 'href="../group_change.html"' in single
    assert str(study) not in page + single
    # The group's page leads there.
    assert 'href="./group_change.html"' in (out / "index.html").read_text(encoding="utf-8")
    assert not list(out.rglob(".stroke-lesion-seg-*"))


def test_what_is_done_is_left_out(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out = done, done / "out"
    only = ("--participant-label", "01")
    before = (out / "group_change.tsv").read_bytes()
    capsys.readouterr()
    assert compare(study, *only) == 0
    assert "0 compared, 2 before, 0 failed" in capsys.readouterr().out
    # A part of it: the tables keep what is known of the others.
    assert compare(study, "--participant-label", "02") == 3
    assert "1 pair of sessions: 0 compared, 0 before, 1 failed" in capsys.readouterr().out
    assert (out / "group_change.tsv").read_bytes() == before
    assert len(read_table(out / "group_change_pairs.tsv")) == 3
    # A scan that cannot be reached says nothing about results that hold.
    scans = study / "in" / "sub-01"
    scans.rename(study / "away")
    assert compare(study, "--overwrite", *only) == 3
    assert "0 compared, 0 before, 2 failed" in capsys.readouterr().out
    assert (out / "group_change" / "sub-01_ses-1_ses-2_change.html").is_file()
    (study / "away").rename(scans)
    # Another mask, another result: both pairs that it takes part in.
    (record,) = [r for r in records(out) if r["stem"] == "sub-01_ses-2"]
    save_correction(out, record, Volume(np.zeros(BEFORE.shape, np.uint8), AFFINE), "R2")
    assert compare(study, *only) == 0
    assert "2 compared, 0 before" in capsys.readouterr().out
    rows = read_table(out / "group_change.tsv")
    assert {row["class"] for row in rows if row["session_b"] == "ses-2"} == {"gone"}


def test_files_that_somebody_has_broken_are_made_again(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out = done, done / "out"
    only = ("--participant-label", "01")
    before = (out / "group_change.tsv").read_bytes()
    broken = out / "group_change"
    (broken / "sub-01_ses-1_ses-2_change.json").write_text("{", encoding="utf-8")
    (broken / "sub-01_ses-2_ses-10_change.tsv").write_bytes(b"\0")
    capsys.readouterr()
    assert compare(study, *only) == 0
    assert "2 compared, 0 before, 0 failed" in capsys.readouterr().out
    assert (out / "group_change.tsv").read_bytes() == before


def test_force_and_labels_and_another_folder(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    before = sorted(study.rglob("*"))
    assert compare(study, "-o", other, "--force", "--participant-label", "sub-02") == 0
    assert sorted(p for p in study.rglob("*") if "logs" not in p.parts) == [
        p for p in before if "logs" not in p.parts
    ]
    (row,) = read_table(other / "group_change_pairs.tsv")
    assert row["participant_id"] == "sub-02"
    assert "do not look like scans of one person" in str(row["warnings"])
    assert "index.html" not in (other / "group_change.html").read_text(encoding="utf-8")
    # Backwards, and past one.
    args = ("-o", other, "--participant-label", "01", "--session-label", "10", "1")
    assert compare(study, *args) == 0
    rows = read_table(other / "group_change_pairs.tsv")
    assert [(row["session_a"], row["session_b"]) for row in rows] == [("ses-10", "ses-1")]
    capsys.readouterr()
    assert compare(study, "--participant-label", "04") == 2
    assert "sub-04: is not in the study" in capsys.readouterr().err


def test_a_scan_that_has_gone(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "in" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz").unlink()
    assert compare(study, "--participant-label", "01") == 3
    said = capsys.readouterr().err
    assert "failed: sub-01 ses-1 ses-2: sub-01_ses-1: its scan is no longer in the input" in said
    # The other pair of this person is there all the same.
    assert (study / "out" / "group_change" / "sub-01_ses-2_ses-10_change.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "nothing: there is no such file or folder"),
        (["in"], "in: is a single scan, or a folder that batch has not written"),
        (
            ["in/dataset_description.json"],
            "is a single scan, or a folder that batch has not written",
        ),
        (
            ["out", "-o", "in/dataset_description.json"],
            "in/dataset_description.json: is not a folder",
        ),
        (["out", "--mask-a", "x.nii"], "--mask-a: is for two scans"),
        (["out", "--threshold", "0.5"], "--threshold: is for two scans"),
        (["out", "--tta"], "--tta: is for two scans"),
        (["out", "--device", "cpu"], "--device: is for two scans"),
        (["out", "--batch-size", "4"], "--batch-size: is for two scans"),
        (["out", "--min-volume", "0"], "--min-volume: is for two scans"),
        (["out", "--align", "none"], "--align: is for two scans"),
        (["out", "--input", "nowhere"], "does not exist, and the scans of the study were there"),
        (["out", "--session-label", "1"], "ses-1: is only one session"),
        (["a.nii", "b.nii", "--session-label", "1"], "--session-label: is for a study"),
    ],
)
def test_refused_in_one_line(
    study: Path,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(study)
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_folder_that_another_batch_works_in_is_left_as_it_was(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study / "elsewhere"
    with FolderLock(out, "another"):
        before = sorted(out.rglob("*"))
        assert compare(study, "-o", out) == 2
        assert sorted(out.rglob("*")) == before
    assert "another" in capsys.readouterr().err


def test_nobody_has_two_sessions(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(study, "--participant-label", "03") == 2
    assert "no subject has scans of two sessions" in capsys.readouterr().err


def test_a_result_of_before_that_cannot_be_removed_is_said_in_one_line(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = done / "out" / "group_change" / "sub-01_ses-1_ses-2_change.tsv"
    table.unlink()
    table.mkdir()
    capsys.readouterr()
    assert compare(done, "--participant-label", "01") == 2
    error = capsys.readouterr().err
    assert f"{table}: cannot be written" in error
    assert error.count("\n") == 1


def entry(subject: str, session: str, run: str = "", state: str = "done") -> dict[str, str]:
    stem = f"sub-{subject}_ses-{session}{run}"
    return {"subject": subject, "session": session, "stem": stem, "state": state}


def test_what_a_killed_comparison_was_writing_is_swept(done: Path) -> None:
    staging = done / "out" / "group_change" / ".stroke-lesion-seg-killed"
    staging.mkdir()
    (staging / "half.html").write_bytes(b"half")
    assert compare(done, "--participant-label", "01") == 0
    assert not staging.exists()


def names(found: tuple[list, list[str]]) -> list[str]:
    return [pair.name for pair in found[0]]


def test_the_order_of_sessions(tmp_path: Path) -> None:
    numbered = [entry("1", "m12"), entry("1", "m3"), entry("1", "m6")]
    assert names(session_pairs(numbered)) == ["sub-1_ses-m3_ses-m6", "sub-1_ses-m6_ses-m12"]
    # Times go before numbers, and that is said.
    folder = tmp_path / "sub-1"
    folder.mkdir()
    (folder / "sub-1_sessions.tsv").write_text(
        "session_id\tacq_time\nses-m3\t2021-01-01T00:00:00\nses-m6\t2020-01-01\nses-m12\t2022-01-01"
    )
    found = session_pairs(numbered, tmp_path)
    assert names(found) == ["sub-1_ses-m6_ses-m3", "sub-1_ses-m3_ses-m12"]
    assert "in the order of their times (m6, m3, m12)" in found[1][0]
    # A file that does not tell of all does not count.
    (folder / "sub-1_sessions.tsv").write_text("session_id\tacq_time\nses-m3\tn/a\n")
    assert names(session_pairs(numbered, tmp_path))[0] == "sub-1_ses-m3_ses-m6"
    words = [entry("1", "post"), entry("1", "pre")]
    found = session_pairs(words)
    assert names(found) == ["sub-1_ses-post_ses-pre"]
    assert "--session-label says another" in found[1][0]
    assert names(session_pairs(words, sessions=["pre", "ses-post"])) == ["sub-1_ses-pre_ses-post"]


@pytest.mark.parametrize("folder", ["sub-P-01", "site1/sub-P-01", "sub-P01"])
def test_the_table_of_sessions_is_that_of_the_folder(tmp_path: Path, folder: str) -> None:
    """A label has no hyphens; the folder and the file that it was made of may have some."""
    name = folder.rpartition("/")[2]
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / f"{name}_sessions.tsv").write_text(
        "session_id\tacq_time\nses-pre-op\t2020-01-01\nses-post\t2021-01-01\n"
    )
    words = [
        {**entry("P01", label), "source": f"{folder}/ses-{session}/anat/{name}_T1w.nii"}
        for label, session in (("preop", "pre-op"), ("post", "post"))
    ]
    pairs, notes = session_pairs(words, tmp_path)
    assert [pair.name for pair in pairs] == ["sub-P01_ses-preop_ses-post"]
    assert notes == []


def test_times_of_several_time_zones_are_in_the_order_that_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "sub-1"
    folder.mkdir()
    # 23:30 and 15:00 in UTC: as texts they would stand the other way round.
    (folder / "sub-1_sessions.tsv").write_text(
        "session_id\tacq_time\nses-late\t2020-01-01T15:30:00.5-08:00\n"
        "ses-early\t2020-01-02T00:00:00+0900\nses-last\t2020-01-02T00:00:00Z\n"
        "ses-odd\t2020-02-30T00:00:00+01:00\n"
    )
    told = [entry("1", label) for label in ("late", "early", "last", "odd")]
    assert names(session_pairs(told, tmp_path)[:2]) == [
        *("sub-1_ses-early_ses-late", "sub-1_ses-late_ses-last", "sub-1_ses-last_ses-odd"),
    ]


def test_one_scan_of_a_session_is_chosen() -> None:
    several = [
        entry("1", "1", "_run-1", "failed"),
        entry("1", "1", "_run-2"),
        {**entry("1", "1", "_run-3"), "corrected": "mask"},
        entry("1", "2"),
    ]
    pairs, notes = session_pairs(several)
    assert pairs[0].first["stem"] == "sub-1_ses-1_run-3"
    assert "several scans take part with one of them: sub-1_ses-1_run-3" in notes[0]
    with pytest.raises(InputError, match="no subject has scans of two sessions"):
        session_pairs(several[:3])
