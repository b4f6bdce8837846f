"""``segment --report``: the page beside the other outputs, and what the options refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from cli_support import AFFINE, SHAPE, write_dicom_series, write_head, write_tiny_model
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.lesions import read_table

ARGUMENTS = ("--model", "tiny", "--align", "none", "--threshold", "0.3", "--device", "cpu")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    write_tiny_model(folder)
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(folder))
    return folder


def segment(scan: Path, *more: str | Path) -> int:
    return main(["segment", str(scan), *ARGUMENTS, "--progress", "none", *map(str, more)])


def test_no_folder_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    broken, kept = tmp_path / "broken.nii.gz", tmp_path / "kept"
    broken.write_bytes(b"no scan")
    kept.mkdir()
    for folder in (tmp_path / "new", tmp_path / "new" / "deeper", kept):
        assert segment(broken, "--report", folder) == 2
    assert kept.is_dir()
    assert not (tmp_path / "new").exists()


def test_report_is_written_with_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "patients" / "Doe"
    folder.mkdir(parents=True)
    scan = write_head(folder / "sub-7_T1w.nii.gz")
    reports = tmp_path / "reports" / "new"
    assert segment(scan, "--report", reports) == 0
    assert [p.name for p in reports.iterdir()] == ["sub-7_T1w.html"]
    assert f"report      {reports / 'sub-7_T1w.html'}" in capsys.readouterr().out
    page = (reports / "sub-7_T1w.html").read_text(encoding="utf-8")
    sidecar = json.loads((folder / "sub-7_T1w_lesion.json").read_text(encoding="utf-8"))
    summary = sidecar["summary"]
    assert summary["count"] > 0
    shown = re.search(r"(One lesion|\d+ lesions), ([\d.]+) mL in all", page)
    assert float(shown[2]) == pytest.approx(summary["volume_ml"], abs=0.051)
    # What made it, and nothing of where.
    for fact in (sidecar["model"]["sha256"], sidecar["source"]["sha256"], "Tests only."):
        assert fact in page
    for secret in ("Doe", "patients", str(tmp_path)):
        assert secret not in page
    assert sidecar["timings_s"]["report"] > 0
    assert sidecar["outputs"]["report"] == "sub-7_T1w.html"

    before = page
    assert segment(scan, "--report", reports) == 2
    assert "exists already" in capsys.readouterr().err
    assert segment(scan, "--report", reports, "--overwrite", "--report-paths") == 0
    page = (reports / "sub-7_T1w.html").read_text(encoding="utf-8")
    assert str(scan) in page
    assert page != before


def test_nothing_is_left_when_the_report_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from StrokeLesionSegLib.report import scan_page

    def no_space(path: Path, page: str, *, overwrite: bool) -> None:
        raise OSError(28, "No space left on device", str(path))

    scan = write_head(tmp_path / "a.nii.gz")
    monkeypatch.setattr(scan_page, "write_page", no_space)
    assert segment(scan, "--report", tmp_path) == 2
    message = capsys.readouterr().err
    assert "a.html: the disk is full" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "home"]


def test_dicom_report_names_no_patient(tmp_path: Path) -> None:
    folder = write_dicom_series(tmp_path / "PHANTOM^TEST", uid="1.2.826.0.1.3680043.10.511.3")
    mask = tmp_path / "mask.nii.gz"
    assert segment(folder, "-o", mask, "--report", tmp_path) == 0
    (path,) = tmp_path.glob("dicom-*.html")
    page = path.read_text(encoding="utf-8")
    assert path.stem in page
    for secret in ("PHANTOM", "Phantom", "1.2.826", str(tmp_path)):
        assert secret not in page


def test_atlas_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that is taken to be aligned: regions add up to the lesions' volume."""
    from StrokeLesionSegLib.images import Alignment
    from StrokeLesionSegLib.inference import stages

    known = Alignment(np.eye(4), True, "", 0.9, 0.8, 0.1)
    monkeypatch.setattr(stages, "_align", lambda *arguments: known)
    scan = write_head(tmp_path / "a.nii.gz")
    i = np.arange(SHAPE[0])
    values = np.broadcast_to((1 + i // 20)[:, None, None], SHAPE).astype(np.int16)
    atlas = tmp_path / "halves.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), atlas)
    labels = tmp_path / "halves.csv"
    labels.write_text("value,name\n1,first half\n2,second half\n")
    # The small head is no whole one at the place that the alignment claims.
    more = ("--report", tmp_path, "--atlas", atlas, "--atlas-labels", labels, "--force")
    assert (
        main(["segment", str(scan), "--model", "tiny", "--threshold", "0.3", *map(str, more)]) == 0
    )
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "first half" in page
    sidecar = json.loads((tmp_path / "a_lesion.json").read_text(encoding="utf-8"))
    assert sidecar["atlas"] == "halves"
    rows = read_table(tmp_path / "a_lesion_regions.tsv")
    assert {row["region"] for row in rows} <= {"first half", "second half", "in no region"}
    total = sum(row["volume_ml"] for row in rows)
    assert total == pytest.approx(sidecar["summary"]["volume_ml"], rel=1e-3)
    for row in rows[:2]:
        assert f">{row['volume_ml']:.2f}<" in page or f">{row['volume_ml']:.1f}<" in page
    assert total > 0


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (("--atlas", "a.nii.gz"), "has no list of labels"),
        (("--report", "r", "--atlas-labels", "l.csv"), "no atlas is given for these names"),
        (("--report", "r", "--atlas", "missing.nii.gz"), "missing.nii.gz"),
        (("--report", "a.nii.gz"), "is not a folder"),
        (("--report", "r", "--report-convention", "mirror"), "invalid choice"),
        (("--report-convention", "radiological"), "--report-convention: is for the report, but"),
        (("--report-paths",), "--report-paths: is for the report, but none is asked for"),
        (("--atlas", "a.nii.gz", "--no-table"), "--atlas: is for the volumes by region, but no"),
        (("--no-viewer",), "--no-viewer: is for the report, but none is asked for"),
    ],
)
def test_what_cannot_be_reported_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    more: tuple[str, ...],
    cause: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    scan = write_head(tmp_path / "a.nii.gz")
    assert segment(scan, *more) == 2
    error = capsys.readouterr().err
    assert cause in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("a_lesion*"))
