"""Ratings of the quality control in the tables of the group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from cohort_support import batch, records, write_cohort
from StrokeLesionSegLib.cohort.corrected import Corrected
from StrokeLesionSegLib.cohort.ratings import with_ratings
from StrokeLesionSegLib.lesions import read_table

HEAD = "study\tscan\trating\tcomment\trated\n"


def rows(out: Path) -> dict[str, dict[str, object]]:
    return {str(row["scan"]): row for row in read_table(out / "group_scans.tsv")}


def save(out: Path, name: str, *lines: str, study: str | None = None) -> Path:
    study = study or str(records(out, "run")[0]["study"])
    file = out / name
    file.write_text(HEAD + "".join(f"{study}\t{line}\n" for line in lines), encoding="utf-8")
    return file


@pytest.mark.usefixtures("home")
def test_ratings_are_in_the_table(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture) -> None:
    source = write_cohort(tmp_path / "in", 2)
    assert batch(source, out) == 0
    assert {row["rating"] for row in rows(out).values()} == {None}
    # As the page saves them, and as a spreadsheet leaves them; of two the later one counts.
    save(
        out,
        "ratings_study-1.tsv",
        "sub-Case0\taccepted\t\t2124-01-02T10:00:00Z",
        "sub-Case1\trejected\tmotion, # 2\t2124-01-01T10:00:00Z",
    )
    save(out, "ratings_second.tsv", "sub-Case0\tcorrect\tedge\t2124-01-01T10:00:00Z")
    assert batch(source, out) == 0
    table = rows(out)
    assert (table["sub-Case0"]["rating"], table["sub-Case0"]["rating_comment"]) == (
        "accepted",
        None,
    )
    assert table["sub-Case1"]["rating"] == "rejected"
    assert table["sub-Case1"]["rating_comment"] == "motion, # 2"
    assert "ratings" not in capsys.readouterr().err
    for file in out.glob("ratings*"):
        file.unlink()
    assert batch(source, out) == 0
    assert {row["rating"] for row in rows(out).values()} == {None}


@pytest.mark.usefixtures("home")
def test_a_rating_of_another_mask_is_told(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture
) -> None:
    source = write_cohort(tmp_path / "in", 1)
    assert batch(source, out) == 0
    # Between the mask and what follows, though all of it happens in this second.
    ledger = out / "logs" / "scans.jsonl"
    ledger.write_text(re.sub(r'"time": "\d{4}', '"time": "2020', ledger.read_text()))
    save(out, "ratings.tsv", "sub-Case0\taccepted\tfine\t2021-01-02T10:00:00.123Z")
    # The same lesions with other files beside them are the mask that was rated.
    assert batch(source, out, "--no-probability") == 0
    assert "Rated" not in str(rows(out)["sub-Case0"]["look_at"])
    assert "rating" not in capsys.readouterr().err
    assert batch(source, out, "--threshold", "0.62") == 0
    row = rows(out)["sub-Case0"]
    assert (row["rating"], row["rating_comment"]) == ("accepted", "fine")
    assert "Rated before this mask was made." in str(row["look_at"])
    assert "1 rating is older than its mask (sub-Case0): rate again." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rated", "corrected", "older"),
    [
        ("2021-01-02T10:00:00Z", "", False),
        ("2021-01-02T10:00:00Z", "2021-01-02T10:30:00+01:00", False),
        ("2021-01-02T10:00:00Z", "2021-01-02T11:30:00+01:00", True),
        ("2019-12-31T23:59:59", "", True),
        ("1.2.2019 10:00", "", False),
        ("", "", False),
    ],
)
def test_what_tells_that_a_rating_is_older(
    out: Path, rated: str, corrected: str, older: bool
) -> None:
    out.mkdir()
    (out / "ratings.tsv").write_text(f"{HEAD}cafe\tsub-1\tcorrect\t\t{rated}\n")
    record: dict[str, Any] = {"stem": "sub-1"}
    since = {"sub-1": "2020-01-01T00:00:00+00:00"}
    if corrected:
        record["correction"] = Corrected(out, "sub-1", None, None, None, corrected)
    (told,), notes, _ = with_ratings(out, [record], "cafe", since)
    assert ("look_at" in told, bool(notes)) == (older, older)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "ratings.tsv is not used: it has no columns study, scan and rating."),
        ("scan\trating\nsub-1\taccepted\n", "is not used: it has no columns study"),
        (HEAD + "beef\tsub-1\taccepted\n", "its ratings are of another study (beef, not cafe)"),
        (HEAD + '"torn\n', "is not used: it cannot be read as a table."),
        ("\0\0", "is not used: it cannot be read as a table."),
    ],
)
def test_a_file_that_does_not_fit_is_named(out: Path, text: str, says: str) -> None:
    out.mkdir()
    (out / "ratings.tsv").write_text(text, encoding="utf-8")
    (record,), notes, mark = with_ratings(out, [{"stem": "sub-1"}], "cafe", {})
    assert says in notes[0]
    assert len(notes) == 1
    assert record == {"stem": "sub-1"}
    assert mark


def test_what_does_not_fit_in_it_is_left_out(out: Path) -> None:
    out.mkdir()
    lines = ("sub-9\taccepted", "sub-1\tperhaps", "sub-2\trejected\tx")
    text = HEAD + "".join(f"cafe\t{line}\n" for line in lines)
    (out / "ratings.tsv").write_text(text, encoding="utf-8")
    records, notes, _ = with_ratings(out, [{"stem": "sub-1"}, {"stem": "sub-2"}], "cafe", {})
    assert "rates 1 scan that this study does not have and has 1 rating that is none" in notes[0]
    assert "rating" not in records[0]
    assert (records[1]["rating"], records[1]["rating_comment"]) == ("rejected", "x")


@pytest.mark.parametrize("comment", ['"left" is wrong', '5" wide', "pasted\u2028text", "a;b"])
def test_a_comment_may_hold_what_tables_are_made_of(out: Path, comment: str) -> None:
    """As the page saves it, which quotes nothing."""
    out.mkdir()
    lines = f"cafe\tsub-1\trejected\t{comment}\t\ncafe\tsub-2\taccepted\t\t\n"
    (out / "ratings.tsv").write_text(HEAD + lines, encoding="utf-8")
    told, notes, _ = with_ratings(out, [{"stem": "sub-1"}, {"stem": "sub-2"}], "cafe", {})
    assert notes == []
    assert [record["rating"] for record in told] == ["rejected", "accepted"]
    assert told[0]["rating_comment"] == comment
