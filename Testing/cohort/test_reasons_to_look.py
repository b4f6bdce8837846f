"""Why a result should be looked at: the same in tables, sidecar, ledger, stdout and pages."""

from __future__ import annotations

import json
from pathlib import Path

import cli_support
import pytest
from cohort_support import batch, records
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.images import read_scan
from StrokeLesionSegLib.lesions import expected_dice, read_sidecar, read_table


def test_reasons_and_mean_probability_are_everywhere(
    tmp_path: Path, out: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    scan = cli_support.write_head(folder / "a.nii.gz")
    # Probabilities near one half: very uncertain.
    assert batch(folder, out, "--reports") == 0
    (row,) = read_table(out / "group_scans.tsv")
    lesions = read_table(out / "group_lesions.tsv")
    total = sum(r["volume_ml"] for r in lesions)
    mean = sum(r["volume_ml"] * r["mean_probability"] for r in lesions) / total
    assert row["mean_probability"] == pytest.approx(mean, abs=1e-4)
    assert "Very uncertain" in row["look_at"]
    (record,) = records(out)
    sidecar = read_sidecar(next(out.rglob("*_mask.json")))
    assert sidecar["reasons_to_look"] == record["look_at"]
    assert " ".join(record["look_at"]) == row["look_at"]
    for page in (out / "index.html", next(out.rglob("*_report.html"))):
        assert all(reason in page.read_text(encoding="utf-8") for reason in record["look_at"])
    capsys.readouterr()
    quick = ["--model", "tiny", "--align", "none", "--precision", "float32", "--threshold", "0.3"]
    assert main(["segment", str(scan), *quick]) == 0
    said = capsys.readouterr().out
    assert f"mean probability {mean:.2f}" in said
    assert all(f"look at it: {reason}" in said for reason in record["look_at"])


def test_a_scan_without_lesion_has_no_reason(tmp_path: Path, out: Path, home: Path) -> None:
    cli_support.write_head(tmp_path / "a.nii.gz")
    assert batch(tmp_path / "a.nii.gz", out, "--threshold", "0.99") == 0
    (row,) = read_table(out / "group_scans.tsv")
    assert (row["lesions"], row["look_at"], row["mean_probability"]) == (0, None, None)


def test_the_expected_dice_is_everywhere_if_the_model_is_calibrated(
    tmp_path: Path, out: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    scan = cli_support.write_head(folder / "a.nii.gz")
    assert batch(folder, tmp_path / "plain") == 0
    assert read_table(tmp_path / "plain" / "group_scans.tsv")[0]["expected_dice"] is None
    file = next(home.rglob("tiny/manifest.json"))
    content = json.loads(file.read_text(encoding="utf-8"))
    content["inference"]["calibration"] = {"slope": 0.7, "shift": -0.4}
    file.write_text(json.dumps(content), encoding="utf-8")

    assert batch(folder, out, "--reports") == 0
    (row,) = read_table(out / "group_scans.tsv")
    sidecar = read_sidecar(next(out.rglob("*_mask.json")))
    p = read_scan(next(out.rglob("*_probseg.nii.gz"))).volume.array
    mask = read_scan(next(out.rglob("*_mask.nii.gz")), allow_constant=True).volume.array
    worth = expected_dice(p, mask, calibration=Calibration(0.7, -0.4)).value
    assert sidecar["expected_dice"] == pytest.approx(worth, abs=1e-3)
    assert row["expected_dice"] == pytest.approx(worth, abs=1e-3)
    assert worth < expected_dice(p, mask).value
    page = next(out.rglob("*_report.html")).read_text(encoding="utf-8")
    assert "Expected Dice" in page
    assert f"{worth:.2f}" in page
    capsys.readouterr()
    quick = ["--model", "tiny", "--align", "none", "--precision", "float32"]
    assert main(["segment", str(scan), *quick]) == 0
    assert f"expected Dice {worth:.2f}" in capsys.readouterr().out
