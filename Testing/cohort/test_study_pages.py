"""The pages of a batch: one identity, shared scripts, the data set's name, its people."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cohort_support import batch, records, write_cohort
from StrokeLesionSegLib.cohort.participants import read_participants
from StrokeLesionSegLib.report import NIIVUE

pytestmark = pytest.mark.usefixtures("home")


def page_of(out: Path, stem: str) -> str:
    (page,) = out.rglob(f"{stem}_desc-lesions_report.html")
    return page.read_text(encoding="utf-8")


def studies(page: str) -> set[str]:
    return set(re.findall(r'data-study="(\w+)"', page))


def test_identity_is_made_once(tmp_path: Path) -> None:
    source, out = write_cohort(tmp_path / "in", 2), tmp_path / "out"
    assert batch(source, out, "--reports") == 0
    write_cohort(source, 3)
    assert batch(source, out, "--reports") == 0
    (known,) = {run["study"] for run in records(out, "run")}
    assert len(records(out, "run")) == 2
    assert studies((out / "index.html").read_text(encoding="utf-8")) == {known}
    listed = (out / "pages" / "study.js").read_text(encoding="utf-8")
    data = json.loads(listed.removeprefix("window.strokeLesionStudy = ").rstrip(";\n"))
    assert data["study"] == known
    assert len(data["scans"]) == 3
    for name, address in data["scans"]:
        assert (out / address).is_file()
        assert studies(page_of(out, name)) == {known}
    # Another study of the same scans is another one.
    assert batch(source, tmp_path / "other", "--reports") == 0
    assert {run["study"] for run in records(tmp_path / "other", "run")} != {known}


def test_title_tables_and_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_cohort(tmp_path / "in", 2), tmp_path / "out"
    (source / "dataset_description.json").write_text('{"Name": "A & B"}', encoding="utf-8")
    (source / "participants.tsv").write_text("who\tsite\nsub-Case0\tHill\n", encoding="utf-8")
    assert batch(source, out) == 0
    assert "warning: participants.tsv is not used: it has no column" in capsys.readouterr().err
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in page
    assert 'href="./group_scans.tsv"' in page
    assert "participants.tsv is not used" in page
    assert studies(page) == set()  # nothing to rate without pages of scans
    assert not (out / "pages").exists()

    (source / "participants.tsv").write_text(
        "participant_id\tsite\nsub-Case0\tHill\nsub-Case1\tHarbour\n", encoding="utf-8"
    )
    assert batch(source, out, "--no-resume", "--title", "Mine") == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in page
    assert "Harbour" in page


def test_no_viewer(tmp_path: Path) -> None:
    source, out = write_cohort(tmp_path / "in", 1), tmp_path / "out"
    assert batch(source, out, "--reports", "--no-viewer") == 0
    assert not (out / "pages" / NIIVUE).exists()
    assert (out / "pages" / "study.js").is_file()
    (stem,) = [r["stem"] for r in records(out)]
    assert "viewer-data" not in page_of(out, stem)


def test_a_comment_that_begins_with_a_quote_takes_no_participant_away(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text(
        'participant_id\tnote\tage\r\nsub-1\t"left" MCA\t60\r\nsub-2\t"right MCA\t61\r\n'
        'sub-3\t"no ""side"""\t62\r\n',
        encoding="utf-8",
    )
    people = read_participants(tmp_path, ["sub-1", "sub-2", "sub-3"])
    assert people.notes == ()
    assert [people.of(f"sub-{n}")["age"] for n in (1, 2, 3)] == ["60", "61", "62"]
    assert people.of("sub-1")["note"] == '"left" MCA'
    assert people.of("sub-3")["note"] == 'no "side"'
    # Whole cells in quotes may hold a line's end, as R and REDCap write them.
    (tmp_path / "participants.tsv").write_text(
        'participant_id\tnote\nsub-1\t"two\nlines"\n', encoding="utf-8"
    )
    assert read_participants(tmp_path, ["sub-1"]).of("sub-1") == {"note": "two\nlines"}
