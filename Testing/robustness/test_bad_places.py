"""OUT on a disk that is full or may not be written to, and models that were tampered with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import cli_support
import cohort_support as support
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main

pytestmark = pytest.mark.usefixtures("home")


def whole_images(out: Path) -> int:
    """Every image under a final name can be read; how many there are."""
    images = [p for p in out.rglob("sub-*.nii.gz") if ".stroke" not in str(p)]
    for path in images:
        assert np.asarray(nibabel.load(path).dataobj).size
    return len(images)


def test_a_disk_that_fills_up(
    tmp_path: Path,
    small_disk: tuple[Path, Callable[[str], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The batch stops with one line and exit code 2; with more room it goes on."""
    disk, mount_again = small_disk
    source, out = support.write_cohort(tmp_path / "in", 12), disk / "out"
    assert support.batch(source, out) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "disk is full" in error
    assert 0 < whole_images(out) < 24
    done = support.states(out)
    assert set(done.values()) == {"done"}
    mount_again("size=60m")
    assert support.batch(source, out) == 0
    assert len(support.records(out)) == 12
    assert whole_images(out) == 24
    assert support.leftovers(out) == []


def test_a_disk_that_becomes_read_only(
    tmp_path: Path,
    small_disk: tuple[Path, Callable[[str], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk, mount_again = small_disk
    mount_again("size=60m")
    source, out = support.write_cohort(tmp_path / "in", 2), disk / "out"
    assert support.batch(source, out) == 0
    cli_support.write_head(source / "case2.nii.gz", cli_support.head_array(2))
    mount_again("ro")
    capsys.readouterr()
    for arguments in ([], ["--no-resume"]):
        assert support.batch(source, out, *arguments) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "cannot be written" in error
    assert whole_images(out) == 4
    mount_again("rw")
    assert support.batch(source, out) == 0
    assert len(support.records(out)) == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = support.write_cohort(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir(mode=0o555)
    assert support.batch(source, out) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", ["a bit", "cut", "longer", "empty", "gone", "pickle"])
def test_weights_that_were_tampered_with(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither segment nor batch runs a network that is not the one of the manifest."""
    home = tmp_path / "other home"
    folder = cli_support.write_tiny_model(home)
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(home))
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    if kind == "a bit":
        data[-20] ^= 1
    elif kind == "cut":
        del data[-7:]
    elif kind == "longer":
        data += b"\0"
    elif kind == "empty":
        data.clear()
    elif kind == "pickle":
        data = bytearray(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    if kind == "gone":
        weights.unlink()
    else:
        weights.write_bytes(bytes(data))
    source = support.write_cohort(tmp_path / "in", 1)
    mask = tmp_path / "mask.nii.gz"
    single = ["segment", str(source / "case0.nii.gz"), "-o", str(mask), *support.QUICK]
    with contextlib.chdir(tmp_path) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        for code in (support.batch(source, tmp_path / "out"), main(single)):
            assert code == 2
            lines = capsys.readouterr().err.splitlines()
            assert all("weights" in line or "SHA-256" in line for line in lines), lines
    assert not mask.exists()
    assert not (tmp_path / "pwned").exists()
    assert list((tmp_path / "out").rglob("*.nii.gz")) == []
