"""What surrounds the windows: the brain box, background, spaces, progress, cancelling, commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from cli_support import write_head
from nnunet_support import NATIVE, fixture, installed
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import Cancelled
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Volume
from StrokeLesionSegLib.inference import (
    SegmentOptions,
    expected_run,
    make_predictor,
    segment_volume,
)
from StrokeLesionSegLib.inference.placing import place
from StrokeLesionSegLib.inference.sliding_window import SlidingWindowPredictor
from StrokeLesionSegLib.models import ImportChoices, load_model

ONE_FOLD = replace(NATIVE, folds=("0",))
FAST = {"align": "none", "threads": 1, "device": "cpu", "precision": "float32", "mirror": False}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))


def predictor(name: str, **options: Any) -> SlidingWindowPredictor:
    made = make_predictor(load_model(name), SegmentOptions(**{**FAST, **options}))
    assert isinstance(made, SlidingWindowPredictor)
    return made


def windows_of(made: SlidingWindowPredictor, volume: Volume, alignment: Any = None) -> int:
    placed = place(volume, alignment, made.grid)
    plan = made._plan(made.prepare(placed))
    return sum(len(found) for _, found in plan.windows)


def test_only_windows_around_the_brain_are_asked() -> None:
    """In a scan on the MNI grid that is bright everywhere."""
    volume = Volume(
        np.random.default_rng(0).uniform(1, 2, MNI_GRID.shape).astype(np.float32),
        MNI_GRID.affine,
    )
    name = installed("plain3d", ONE_FOLD).name
    everywhere = windows_of(predictor(name, exact=True), volume)
    around = windows_of(predictor(name), volume)
    elsewhere = Volume(volume.array, volume.affine + np.eye(4, k=3))  # on no known grid
    assert windows_of(predictor(name), elsewhere) == everywhere
    assert windows_of(predictor(name), elsewhere, Alignment.identity()) == around
    assert 0.3 * everywhere < around < 0.7 * everywhere


def test_windows_of_nothing_are_left_out_and_hold_no_lesion() -> None:
    volume, _ = fixture("plain3d")
    array = np.zeros((80, *volume.array.shape[1:]), np.float32)
    array[:32] = volume.array
    array[-1, 0, 0] = 1  # so that the crop keeps the empty half
    name = installed("plain3d", ONE_FOLD).name
    exact, usual = (
        segment_volume(
            Volume(array, volume.affine), load_model(name), SegmentOptions(**FAST, exact=e)
        )
        for e in (True, False)
    )
    assert exact.details["windows_skipped"] == 0
    assert usual.details["windows_skipped"] > 0
    assert usual.probability.array[49:53].max() < 1e-6
    first = slice(0, 20)
    assert np.abs(exact.probability.array[first] - usual.probability.array[first]).max() < 1e-4


def test_a_model_of_mni_space_gets_its_grid() -> None:
    choices = ImportChoices(space="mni152-2009c-1mm", orientation="LPS", folds=("0",))
    made = predictor(installed("plain3d", choices).name)
    assert made.grid.grid is not None
    assert made.grid.grid.shape == (193, 229, 193)
    volume, _ = fixture("plain3d")
    placed = place(volume, Alignment.identity(), made.grid)
    assert placed.in_mni
    scan = made.prepare(placed)
    back = placed.to_native(np.ones(placed.volume.array.shape, np.float32))
    assert back.grid.same_as(volume.grid)
    assert scan.order.flips == (False, False, False)


def test_progress_by_window_and_cancel() -> None:
    volume, _ = fixture("plain3d")
    model = load_model(installed("plain3d").name)
    told: list[tuple[str, int, int]] = []
    options = SegmentOptions(**FAST)
    segment_volume(volume, model, options, progress=lambda *step: told.append(step))
    steps = [step for step in told if step[0] == "network"]
    assert [done for _, done, _ in steps] == list(range(17))  # eight windows, two folds
    assert {total for *_, total in steps} == {16}
    asked = iter([False] * 8)
    with pytest.raises(Cancelled):
        segment_volume(volume, model, options, cancel=lambda: next(asked, True))


def test_time_and_memory_are_told() -> None:
    one, two = (installed("plain3d", choices) for choices in (ONE_FOLD, NATIVE))
    few, many = expected_run(one), expected_run(two, SegmentOptions())
    assert few is not None
    assert many is not None
    share = two.windows.measured["seconds"] / one.windows.measured["seconds"]  # type: ignore[union-attr]
    assert many.seconds / few.seconds == pytest.approx(2 * share)
    plain = expected_run(two, SegmentOptions(mirror=False))
    assert plain is not None
    assert many.seconds / plain.seconds == pytest.approx(8)
    assert plain.peak_mb > 300


@pytest.mark.slow
def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = installed("plain3d", replace(ONE_FOLD, name="theirs")).name
    scan = write_head(tmp_path / "sub-01_T1w.nii.gz")
    options = ["--model", name, "--align", "none", "--no-mirror", "--force", "--threads", "1"]
    arguments = [str(scan), "-o", str(tmp_path / "mask.nii.gz"), "--exact"]
    more = ["--probability", str(tmp_path / "p.nii.gz"), "--report", str(tmp_path / "report")]
    assert main(["segment", *arguments, *more, *options]) == 0
    assert "theirs: about" in capsys.readouterr().err
    sidecar = json.loads((tmp_path / "mask.json").read_text())
    assert sidecar["model"]["name"] == "theirs"
    assert sidecar["inference"]["exact"] is True
    assert sidecar["inference"]["folds"] == ["0"]
    assert nibabel.load(tmp_path / "p.nii.gz").shape == nibabel.load(scan).shape
    assert "theirs" in next((tmp_path / "report").glob("*.html")).read_text(encoding="utf-8")
    (tmp_path / "in").mkdir()
    scan.rename(tmp_path / "in" / scan.name)
    assert main(["batch", str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 0
    assert list((tmp_path / "out").rglob("*_probseg.nii.gz"))
    capsys.readouterr()
    assert main(["models", "list"]) == 0
    assert "native, RAS" in capsys.readouterr().out
