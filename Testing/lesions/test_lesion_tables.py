"""TSV and JSON of a scan: columns, units, round trip, atomic writing, hostile names."""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.lesions import (
    COLUMN_DESCRIPTIONS,
    COLUMNS,
    find_lesions,
    read_sidecar,
    read_table,
    summary_dict,
    write_rows,
    write_sidecar,
    write_table,
)
from StrokeLesionSegLib.operating_point import OperatingPoint


@pytest.fixture
def lesion_map():
    p = np.zeros((10, 12, 14), dtype=np.float32)
    p[2:5, 3:6, 1:4] = 0.75
    p[7, 7, 9:12] = 0.9
    return find_lesions(p, np.diag([1.0, 1.0, 2.0, 1.0]), OperatingPoint(0.5))


def test_table_round_trip(tmp_path, lesion_map):
    path = tmp_path / "lesions.tsv"
    write_table(path, lesion_map, leading={"subject": "01", "session": "1e5"})
    text = path.read_text(encoding="utf-8")
    assert text.split("\n")[0].split("\t") == ["subject", "session", *COLUMNS]
    rows = read_table(path)
    assert len(rows) == 2
    assert rows[0]["subject"] == "01"  # not the number 1
    assert rows[0]["session"] == "1e5"
    assert rows[0]["lesion"] == 1
    assert rows[0]["voxels"] == 27
    assert rows[0]["volume_ml"] == pytest.approx(0.054)
    assert rows[0]["centroid_mni_x_mm"] is None
    assert rows[0]["keep"] is True
    for row, lesion in zip(rows, lesion_map.lesions, strict=True):
        centroid = [row[f"centroid_{a}_mm"] for a in "ras"]
        assert centroid == pytest.approx(lesion.centroid_ras_mm, abs=1e-6)
        extent = [row[f"extent_{a}_mm"] for a in ("rl", "ap", "si")]
        assert extent == pytest.approx(lesion.extent_mm, abs=1e-6)
        assert row["peak_probability"] == pytest.approx(lesion.peak_probability, abs=1e-6)
        assert row["side"] == lesion.side


def test_mni_columns(tmp_path):
    p = np.zeros((5, 5, 5), dtype=np.float32)
    p[1, 2, 3] = 1
    mni = np.eye(4)
    mni[:3, 3] = (-10, 20, 30)
    write_table(tmp_path / "t.tsv", find_lesions(p, np.eye(4), OperatingPoint(0.5), to_mni=mni))
    (row,) = read_table(tmp_path / "t.tsv")
    assert [row[f"centroid_mni_{a}_mm"] for a in "xyz"] == [-7, 22, 31]


def test_no_lesions_give_a_header_only(tmp_path):
    found = find_lesions(np.zeros((3, 3, 3)), np.eye(4), OperatingPoint(0.5))
    write_table(tmp_path / "t.tsv", found)
    assert (tmp_path / "t.tsv").read_text().split("\n") == ["\t".join(COLUMNS), ""]
    assert read_table(tmp_path / "t.tsv") == []


def test_every_column_is_described():
    assert set(COLUMN_DESCRIPTIONS) == set(COLUMNS)
    for name in COLUMNS:
        assert ("Units" in COLUMN_DESCRIPTIONS[name]) == name.endswith(("_mm", "_ml"))


def test_cells(tmp_path):
    values = {
        "tab": "a\tb\nc\rd",
        "minus_zero": -0.0,
        "nothing": None,
        "nan": math.nan,
        "inf": math.inf,
        "numpy": np.float32(0.5),
        "count": np.int64(3),
        "flag": np.bool_(False),
        "empty": "",
        "tiny": 1e-9,
        "surrogate": "\udcff",
    }
    write_rows(tmp_path / "t.tsv", tuple(values), [values])
    (row,) = read_table(tmp_path / "t.tsv")
    assert row["tab"] == "a b c d"
    assert row["minus_zero"] == 0
    assert row["nothing"] is row["nan"] is row["inf"] is row["empty"] is None
    assert row["numpy"] == 0.5
    assert row["count"] == 3
    assert row["flag"] is False
    assert row["tiny"] == 0
    with pytest.raises(ValueError, match="twice"):
        write_rows(tmp_path / "t.tsv", ("a", "a"), [])


def test_a_cell_that_begins_with_a_quote_takes_no_rows_away(tmp_path):
    texts = ['"left one missed', "fine", '"cavity" is not marked', '3" away', '"all"']
    path = tmp_path / "table.tsv"
    write_rows(path, ["comment", "ml"], [{"comment": text, "ml": 1.5} for text in texts])
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))  # as pandas and R read it
    for found in (rows, read_table(path), read_table(path, text=("comment",))):
        assert [row["comment"] for row in found] == texts


def test_outputs_are_not_overwritten_unless_told(tmp_path, lesion_map):
    path = tmp_path / "t.tsv"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        write_table(path, lesion_map, overwrite=False)
    with pytest.raises(InputError, match="exists already"):
        write_sidecar(path, {}, overwrite=False)
    assert path.read_text() == "precious"
    write_table(path, lesion_map)
    assert len(read_table(path)) == 2


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, lesion_map, monkeypatch):
    path = tmp_path / "t.tsv"
    path.write_text("precious")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="disk is full") as caught:
        write_table(path, lesion_map)
    assert caught.value.where == str(path)
    assert os.listdir(tmp_path) == ["t.tsv"]
    assert path.read_text() == "precious"
    with pytest.raises(InputError, match="cannot be written"):
        write_table(tmp_path / "no" / "such" / "folder.tsv", lesion_map)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace a file that is open")
def test_a_reader_of_the_old_file_never_sees_half_of_the_new_one(tmp_path, lesion_map):
    path = tmp_path / "t.tsv"
    path.write_text("old")
    with path.open() as reader:
        write_table(path, lesion_map)
        assert reader.read() == "old"
    assert len(read_table(path)) == 2


def test_damaged_tables_are_named(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n1\n")
    with pytest.raises(InputError, match="line 2 has 1 cells, not 2"):
        read_table(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "absent.tsv")


@dataclass
class Options:
    views: str
    threads: int | None


def test_sidecar_takes_what_a_run_produces(tmp_path, lesion_map):
    content = {
        "options": Options("axial", None),
        "path": Path("in") / "scan.nii",
        "affine": np.eye(2),
        "number": np.float32(0.5),
        "count": np.int64(4),
        "nan": float("nan"),
        "tuple": (1, 2),
        "set": {"b", "a"},
        "text": "Ärztin \udcff",
        **summary_dict(lesion_map),
    }
    path = tmp_path / "s.json"
    write_sidecar(path, content)
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    back = read_sidecar(path)
    assert list(back) == list(content)
    assert back["options"] == {"views": "axial", "threads": None}
    assert back["path"] == os.path.join("in", "scan.nii")
    assert back["affine"] == [[1.0, 0.0], [0.0, 1.0]]
    assert back["nan"] is None
    assert back["set"] == ["a", "b"]
    assert back["summary"]["count"] == 2
    assert back["operating_point"]["threshold"] == 0.5
    assert list(back["lesions"][0]) == list(COLUMNS)
    with pytest.raises(TypeError, match="no JSON form"):
        write_sidecar(path, {"bad": object()})
    assert read_sidecar(path) == back


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_damaged_sidecars_are_named(tmp_path, text):
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_sidecar(path)
    assert caught.value.where == str(path)


def test_why_a_file_was_not_read_is_said_in_words(tmp_path):
    for read in (read_table, read_sidecar):
        with pytest.raises(InputError, match=r"\(No such file or directory\)"):
            read(tmp_path / "none")
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match=r"\(it is not UTF-8 text\)"):
            read(tmp_path / "binary")
