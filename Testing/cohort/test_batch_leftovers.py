"""What kills and other people's hands leave in OUT, and what the next batch makes of it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import cohort_support as support
import numpy as np
import pytest
from StrokeLesionSegLib.cohort import BatchOptions, batch, index_page, run_batch
from StrokeLesionSegLib.cohort.lock import LOCK_NAME
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.lesions import read_table
from StrokeLesionSegLib.operating_point import OperatingPointChoice

pytestmark = pytest.mark.usefixtures("home")


def test_a_page_older_than_the_last_scan_is_written_again(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the record of the last scan and the page: nothing is left to do but that."""
    source = support.write_cohort(tmp_path / "in", 1)
    assert support.batch(source, out) == 0
    support.write_cohort(source, 2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batch, "write_index", killed)
        assert support.batch(source, out) == 130
    assert "sub-Case1" not in (out / "index.html").read_text(encoding="utf-8")
    assert support.batch(source, out) == 0
    assert len(support.records(out)) == 2
    assert "sub-Case1" in (out / "index.html").read_text(encoding="utf-8")
    written = (out / "index.html").stat().st_mtime_ns
    assert support.batch(source, out) == 0
    assert (out / "index.html").stat().st_mtime_ns == written


def test_a_removed_table_is_no_trouble_for_a_batch_that_is_stopped(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    assert support.batch(source, out) == 0
    assert all(r["lesions"] for r in support.records(out))
    next(out.rglob("sub-Case0_desc-lesions_stats.tsv")).unlink()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batch, "_run", stopped)
        assert support.batch(source, out) == 130
    assert [r["scan"] for r in read_table(out / "group_scans.tsv")] == ["sub-Case1"]
    assert {r["scan"] for r in read_table(out / "group_lesions.tsv")} == {"sub-Case1"}
    assert support.batch(source, out) == 0
    assert len(read_table(out / "group_scans.tsv")) == 2


def test_a_batch_that_has_lost_its_folder_stops_and_writes_no_more(
    tmp_path: Path, out: Path
) -> None:
    """As after a long sleep on a share, when a batch of another machine has taken the lock."""
    source = support.write_cohort(tmp_path / "in", 12)
    owner = json.dumps({"run": "new", "pid": 1, "host": "another", "since": "now"})

    def take_over(record: object, done: int, total: int) -> None:
        if record is not None:
            (out / LOCK_NAME).write_text(owner)

    options = BatchOptions(
        "tiny",
        SegmentOptions(align="none", precision="float32"),
        OperatingPointChoice(threshold=0.3),
    )
    with pytest.raises(InputError, match="another batch has taken over"):
        run_batch(source, out, options, progress=take_over)
    assert len(support.records(out)) == 1
    assert support.records(out, "end") == []
    assert not (out / "group_scans.tsv").exists()
    assert (out / LOCK_NAME).read_text() == owner


def alignments() -> list[object]:
    good = np.eye(4).tolist()
    found = {"ok": True, "reason": "", "overlap": 0.9, "similarity": 0.9}
    return [
        "yes",
        {},
        found,
        {"ok": True, "matrix_ras_mm_to_mni_mm": good},
        {**found, "matrix_ras_mm_to_mni_mm": None},
        {**found, "matrix_ras_mm_to_mni_mm": good[:3]},
        {**found, "matrix_ras_mm_to_mni_mm": [["a"] * 4] * 4},
        {**found, "matrix_ras_mm_to_mni_mm": np.zeros((4, 4)).tolist()},
        {**found, "matrix_ras_mm_to_mni_mm": good},
    ]


def test_an_edited_sidecar_is_left_out_of_the_map(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    assert support.batch(source, out) == 0
    (record,) = support.records(out)
    sidecar = next(out.rglob("*_mask.json"))
    content = json.loads(sidecar.read_text())
    found = []
    for alignment in alignments():
        sidecar.write_text(json.dumps({**content, "alignment": alignment}))
        found.append(len(list(index_page._masks(out, [record]))))
    assert found == [0] * 8 + [1]


def test_a_large_group_is_sampled_for_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_page, "MOST_MAPPED", 4)
    records = [{"stem": str(n)} for n in range(10)]
    assert [r["stem"] for r in index_page._sample(records)] == ["0", "2", "5", "7"]


def test_leftovers_of_kills_are_swept_and_nothing_else(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    assert support.batch(source, out) == 0
    ours = [".0123abcd.tmp.group_scans.tsv", ".0123abcd.tmp.index.html", "logs/.99aa.clock"]
    others = [".mine.tmp.group_scans.tsv", ".0123abcd.tmp.notes", "logs/.young.clock"]
    for name in (*ours, *others):
        (out / name).write_text("x")
    long_ago = time.time() - 3600
    os.utime(out / "logs" / ".99aa.clock", (long_ago, long_ago))
    assert support.batch(source, out) == 0
    assert support.leftovers(out) == sorted(others)


def test_what_was_being_written_beside_complete_results_is_swept(tmp_path: Path, out: Path) -> None:
    """Pages and maps of corrected masks are written when their scans are done."""
    source = support.write_cohort(tmp_path / "in", 1)
    assert support.batch(source, out) == 0
    (folder,) = out.glob("sub-*/anat")
    names = ("0123abcd.tmp.sub-Case0_desc-lesions_report.html", "0123abcd.tmp.notes", "tmp.sub-1")
    for name in names:
        (folder / f".{name}").write_bytes(b"half")
    assert support.batch(source, out) == 0
    assert sorted(p.name for p in folder.glob(".*")) == [f".{name}" for name in names[1:]]


def test_results_of_scans_that_went_or_have_another_name_are_told(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lab renames a scan and takes another out: both would count in the group without a word."""
    source = support.write_cohort(tmp_path / "in", 3)
    assert support.batch(source, out) == 0
    (source / "case0.nii.gz").unlink()
    (source / "case1.nii.gz").rename(source / "case9.nii.gz")
    assert "no longer holds" not in capsys.readouterr().err
    assert support.batch(source, out) == 0
    assert (
        "warning: 2 results are of scans that the input no longer holds under that name "
        "(sub-Case0, sub-Case1), and in the tables all the same. " in capsys.readouterr().err
    )
    for name in ("sub-Case0", "sub-Case1"):
        shutil.rmtree(out / name)
    assert support.batch(source, out) == 0
    assert capsys.readouterr().err == ""
    rows = [row["scan"] for row in read_table(out / "group_scans.tsv")]
    assert rows == ["sub-Case2", "sub-Case9"]
