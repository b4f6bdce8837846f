"""A small study with the shipped model, from a BIDS folder to maps, tables, DICOM and pages."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.lesions import read_table
from whole_study import agreement, run_all

PEOPLE = 3
# Eight scans and three comparisons come before the first test.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("highdicom", reason="highdicom (extra: dicom) is not installed")
    folder = tmp_path_factory.mktemp("study")
    run_all(folder, PEOPLE, 1, lambda arguments: main([*arguments, "--progress", "none"]))
    return folder


def test_maps_and_tables(made: Path) -> None:
    out = made / "derivative"
    scans = read_table(out / "group_scans.tsv")
    assert [row["state"] for row in scans] == ["done"] * 2 * PEOPLE
    counts = np.asarray(nibabel.load(out / "group_overlap_count.nii.gz").dataobj)
    assert counts.shape == (197, 233, 189)
    # Both sessions of a person lie on each other.
    assert counts.max() >= 2
    regions = read_table(out / "group_regions.tsv")
    assert {row["scan"] for row in regions} == {row["scan"] for row in scans if row["lesions"]}
    assert (out / "group_lesion_symptom.csv").read_text(encoding="utf-8").count("\n") == 7


def test_changes_are_those_that_were_simulated(made: Path) -> None:
    pairs = {
        row["participant_id"]: row
        for row in read_table(made / "derivative" / "group_change_pairs.tsv")
    }
    assert [row["state"] for row in pairs.values()] == ["done"] * PEOPLE
    kinds = {
        who: sorted(
            str(row["class"])
            for row in read_table(made / "derivative" / "group_change.tsv")
            if row["participant_id"] == who
        )
        for who in pairs
    }
    told = "\n".join(agreement(made))
    assert kinds["sub-01"] == ["grown"], told
    assert kinds["sub-02"] == ["unchanged"], told
    assert kinds["sub-03"] == ["new", "unchanged"], told


def test_dicom_objects(made: Path) -> None:
    out = made / "dicom-derivative"
    for kind, modality in (("seg", "SEG"), ("sr", "SR"), ("rtstruct", "RTSTRUCT")):
        files = sorted(out.rglob(f"*_label-lesion_{kind}.dcm"))
        assert [file.parent.parent.name for file in files] == ["ses-1", "ses-2"]
        assert {pydicom.dcmread(file).Modality for file in files} == {modality}


def test_pages(made: Path) -> None:
    out = made / "derivative"
    assert len(list(out.rglob("*_report.html"))) == 2 * PEOPLE
    assert len(list(out.rglob("*_change.html"))) == PEOPLE + 1
    index = (out / "index.html").read_text(encoding="utf-8")
    assert 'href="./group_change.html"' in index
    assert "Simulated strokes, two sessions" in index
