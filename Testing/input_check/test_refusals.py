"""``segment`` refuses with exit 2 and one line, ``batch`` that scan with exit 3; ``--force``."""

from __future__ import annotations

import json
from pathlib import Path

import cli_support
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.pipeline import FileOptions, OutputPaths, segment_file

QUICK = ["--model", "tiny", "--align", "none", "--precision", "float32"]


@pytest.fixture(autouse=True)
def _model(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.getbasetemp() / "input-check-home"
    if not home.is_dir():
        cli_support.write_tiny_model(home)
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(home))


def noise(folder: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 500, cli_support.SHAPE)
    return cli_support.write_head(folder / "noise.nii.gz", values.astype(np.int16))


def test_segment_refuses_in_one_line_and_forces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = noise(tmp_path)
    assert main(["segment", str(scan), *QUICK]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is noise" in error
    assert "--force" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["noise.nii.gz"]
    assert main(["segment", str(scan), "--force", *QUICK]) == 0
    assert "is noise" in capsys.readouterr().err
    sidecar = json.loads((tmp_path / "noise_lesion.json").read_text())
    assert sidecar["input_check"]["forced"] is True
    assert {f["code"] for f in sidecar["input_check"]["findings"]} >= {"noise"}
    assert any("segmented all the same" in warning for warning in sidecar["warnings"])


def test_python_refuses_and_forces(tmp_path: Path) -> None:
    scan = noise(tmp_path)
    paths = OutputPaths.beside(scan)
    with pytest.raises(InputError, match="is noise"):
        segment_file(scan, paths, FileOptions("tiny"))
    assert not paths.mask.exists()


def test_batch_fails_that_scan_only(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    noise(source)
    cli_support.write_head(source / "good.nii.gz")
    assert main(["batch", str(source), str(out), *QUICK, "--progress", "none"]) == 3
    table = (out / "group_scans.tsv").read_text()
    assert "is noise" in table
    assert "done" in table
    # What was refused is tried again once it is forced.
    assert main(["batch", str(source), str(out), *QUICK, "--progress", "none", "--force"]) == 0
    assert "segmented all the same" in (out / "group_scans.tsv").read_text()


def test_a_warning_reaches_stderr_sidecar_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    cli_support.write_head(source / "a.nii.gz")  # 48 mm, no head
    said = "less than a head"
    assert main(["segment", str(source / "a.nii.gz"), *QUICK, "-o", str(tmp_path / "m.nii")]) == 0
    assert said in capsys.readouterr().err
    sidecar = json.loads((tmp_path / "m.json").read_text())
    assert sidecar["input_check"]["forced"] is False
    assert any(said in warning for warning in sidecar["warnings"])
    assert main(["batch", str(source), str(out), *QUICK, "--progress", "none"]) == 0
    assert said in (out / "group_scans.tsv").read_text()


@pytest.mark.parametrize("address", ["https://example.org/t1.nii.gz", "s3://bucket/sub-1/t1.nii"])
def test_addresses_are_not_said_to_be_missing_files(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["segment", address], ["batch", address, str(tmp_path / "out")]):
        assert main([*command, *QUICK]) == 2
        said = capsys.readouterr().err
        assert "is an address" in said
        assert said.count("\n") == 1
    (tmp_path / "list.txt").write_text(f"{address}\n")
    assert main(["batch", str(tmp_path / "list.txt"), str(tmp_path / "out"), *QUICK]) == 3
    assert "is an address" in capsys.readouterr().err
