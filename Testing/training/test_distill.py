"""A teacher labels T1s without masks, and both kinds of fit read what it said."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from StrokeLesionSegLib import inference
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID, Volume, write_volume
from StrokeLesionSegLib.images.space.template import template_head, upsample_linear
from stroketrain.cli import main
from stroketrain.data.cache import Cache
from stroketrain.distill import label
from stroketrain.volumetric import stream, trainer
from stroketrain.volumetric.heads import HeadFolder
from stroketrain.volumetric.stream import SimulatedScans
from stroketrain.volumetric.validation import validation_scans

CENTRE, RADIUS = (110, 120, 60), 12
# The name of this model is stroke-t1-sim.
TRAINED = Path(__file__).resolve().parents[1] / "trained_2d"


class Teacher:
    """Says .98 in a ball and .4 in the shell around it, on the scan's own grid."""

    asked = 0

    def __call__(self, volume: Volume, model: Any, options: Any, **_: Any) -> Any:
        Teacher.asked += 1
        k, j, i = np.ogrid[tuple(slice(0, n) for n in volume.array.shape)]
        distance = (k - CENTRE[0]) ** 2 + (j - CENTRE[1]) ** 2 + (i - CENTRE[2]) ** 2
        said = np.where(distance < RADIUS**2, 0.98, np.where(distance < 18**2, 0.4, 0))
        probability = volume.with_array(said.astype(np.float32))
        return inference.Prediction(probability, probability, None, (), {})


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two people who are the template with noise, one of them in two sessions, and one picture of
    nothing."""
    folder = tmp_path / "t1s"
    folder.mkdir()
    head = upsample_linear(template_head().array)
    rng = np.random.default_rng(0)
    for name in ("sub-01_ses-1", "sub-01_ses-2", "sub-02"):
        array = head + np.abs(rng.normal(scale=2, size=head.shape))
        volume = Volume(array.astype(np.float32), MNI_GRID.affine)
        write_volume(folder / f"{name}_T1w.nii", volume)
    noise = np.abs(rng.normal(size=(40, 40, 40))).astype(np.float32)
    write_volume(folder / "sub-03_T1w.nii.gz", Volume(noise, np.eye(4)))
    return folder


def fits_read_what_the_teacher_said(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both commands end, with small networks, and refuse a share that is none."""
    tiny = {"name": "residual_unet", "in_channels": 1, "filters": [4, 8], "skip": "stem"}
    flat = ["fit", str(out), str(tmp_path / "flat"), "--network", json.dumps(tiny)]
    assert main([*flat, "--steps", "2", "--batch", "2", "--soft", "1"]) == 0
    assert json.loads((tmp_path / "flat" / "run.json").read_text())["taught"] is True
    whole = ["fit", str(out / "heads"), str(tmp_path / "whole"), "--network", "volumetric"]
    assert main([*whole, "--steps", "1", "--seed", "1"]) == 0
    capsys.readouterr()
    for command in (flat, whole):
        assert main([*command, "--soft", "2"]) == 2
        assert "--soft: is out of range" in capsys.readouterr().err


@pytest.mark.long
def test_a_teacher_labels_scans_for_both_networks(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inference, "segment_volume", Teacher(), raising=False)
    small = functools.partial(trainer.VolumetricUNet, filters=(4, 6))
    monkeypatch.setattr(trainer, "VolumetricUNet", small)
    Teacher.asked = 0
    out = tmp_path / "cache"
    command = ["distill", str(TRAINED), str(scans), str(out)]
    assert main([*command, "--threshold", "0.5", "--min-volume", "0"]) == 0
    assert "sub-03" in capsys.readouterr().out
    assert Teacher.asked == 3
    cache = Cache.open(out)
    assert [scan["name"] for scan in cache.scans] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert [scan["subject"] for scan in cache.scans] == ["01", "01", "02"]
    ball = 4 / 3 * np.pi * RADIUS**3
    for n in range(3):
        assert cache.masks[n].sum() == pytest.approx(ball, rel=0.02)
        assert cache.scans[n]["teacher"]["teacher"] == "stroke-t1-sim"
    probabilities = np.load(out / "probabilities.npy", mmap_mode="r")
    assert probabilities.shape == cache.images.shape
    assert sorted(np.unique(probabilities[0])) == [0, 102, 250]

    folder = HeadFolder(out / "heads")
    assert len(folder.names("train")) + len(folder.names("validation")) == 3
    assert folder.names("validation")
    head = folder.head(folder.names("train")[0])
    assert head.lesions is not None
    assert head.lesions.sum() == pytest.approx(ball, rel=0.02)
    assert not (head.lesions & head.ventricles).any()
    assert head.said is not None
    assert set(np.unique(head.said)) == {0, 102, 250}
    monkeypatch.setattr(stream, "_APART", 2)  # one head before the first scan, and not three
    image, lesions, _ = next(iter(SimulatedScans(folder, 0)))
    assert image.shape == lesions.shape == head.lesions.shape
    assert lesions.any()
    fits_read_what_the_teacher_said(out, tmp_path, capsys)

    # Another threshold, and nobody is asked again; nor does a release validate by the old labels.
    first = cache.fingerprint
    before = next(validation_scans(folder))
    # Nor are people whom it found strokes in asked to be empty.
    assert {scan.kind for scan in validation_scans(folder)} == {"chronic", "faint"}
    assert main([*command, "--threshold", "0.3", "--min-volume", "0"]) == 0
    assert Teacher.asked == 3
    again = Cache.open(out)
    assert again.masks[0].sum() > 2 * ball
    assert again.fingerprint != first
    assert not np.array_equal(next(validation_scans(folder)).lesions, before.lesions)
    report = json.loads((out / "report.json").read_text())
    assert report["used"] == 3
    assert "sub-03" in report["skipped"][0]["path"]

    assert main(["distill", "stroke-t1-volumetric", str(scans), str(out)]) == 2
    assert "labels of another teacher" in capsys.readouterr().err
    # Nor is half a folder labelled in another way.
    assert main([*command, "--no-mirror"]) == 2
    assert "asked in another way (mirror)" in capsys.readouterr().err


def test_a_scan_that_has_changed_is_labelled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another folder's scans of the same names are."""
    asked: list[str] = []

    def labelled(source: Path, series: str | None, target: Path, *rest: Any) -> None:
        asked.append(source.name)
        np.savez(target, **({"made_of": np.array(rest[2])} if rest[2:] else {}))

    monkeypatch.setattr(label, "_label", labelled)
    monkeypatch.setattr(label, "_write_cache", lambda *told: None)
    monkeypatch.setattr(label, "_write_heads", lambda *told: None)
    folder, names = tmp_path / "t1s", ["sub-01_T1w.nii", "sub-02_T1w.nii"]
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"a scan")
    for _ in range(2):
        label.distill(str(TRAINED), folder, tmp_path / "out", say=lambda text: None)
    assert asked == names
    (folder / names[1]).write_bytes(b"another scan")
    label.distill(str(TRAINED), folder, tmp_path / "out", say=lambda text: None)
    assert asked == [*names, names[1]]


def test_an_unknown_teacher_is_said(tmp_path: Path) -> None:
    from stroketrain.distill.label import distill

    with pytest.raises(InputError, match="no such model"):
        distill("nobody", tmp_path, tmp_path / "out")
