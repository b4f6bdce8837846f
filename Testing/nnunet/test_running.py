"""What surrounds the windows: the brain box, background, spaces, progress, cancelling, commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from cli_support import write_head
from nnunet_support import NATIVE, fixture, installed
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Volume
from StrokeLesionSegLib.inference import (
    Device,
    SegmentOptions,
    expected_run,
    make_predictor,
    segment_volume,
)
from StrokeLesionSegLib.inference.placing import place
from StrokeLesionSegLib.inference.sliding_window import SlidingWindowPredictor
from StrokeLesionSegLib.inference.window_grid import fewest
from StrokeLesionSegLib.inference.window_scan import normalise
from StrokeLesionSegLib.models import ImportChoices, load_model
from StrokeLesionSegLib.networks import joined_up

ONE_FOLD = replace(NATIVE, folds=("0",))
FAST = {"align": "none", "threads": 1, "device": "cpu", "precision": "float32", "mirror": False}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))


def predictor(name: str, **options: Any) -> SlidingWindowPredictor:
    made = make_predictor(load_model(name), SegmentOptions(**{**FAST, **options}))
    assert isinstance(made, SlidingWindowPredictor)
    return made


def windows_of(
    made: SlidingWindowPredictor, volume: Volume, alignment: Any = None
) -> tuple[int, int]:
    """How many windows are asked at once, and how many at most."""
    placed = place(volume, alignment, made.grid)
    plan = made._plan(made.prepare(placed))
    return sum(len(way.first) for way in plan.ways), plan.most


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
    assert windows_of(predictor(name), elsewhere)[1] == everywhere[1]
    shifted = windows_of(predictor(name), elsewhere, Alignment.identity())
    assert shifted == pytest.approx(around, rel=0.02)
    assert everywhere[0] == everywhere[1]
    assert around[0] <= around[1]
    assert 0.5 * everywhere[1] < around[1] < 0.9 * everywhere[1]


def test_windows_between_others_are_asked_where_these_see_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a network that marks what is bright, in one long image without a brain box."""

    def marks_bright(part: torch.Tensor) -> torch.Tensor:
        return torch.cat([20 * (2 - part), 20 * (part - 2)], 1)

    monkeypatch.setattr(SlidingWindowPredictor, "_network", lambda self, number: marks_bright)
    name = installed("plain3d", ONE_FOLD).name
    made, exact = predictor(name), predictor(name, exact=True)
    array = np.random.default_rng(0).uniform(1, 2, (50, 24, 32)).astype(np.float32)
    asked = {}
    for middle in (None, 45, 21):
        if middle is not None:
            array[middle - 1 : middle + 1, 10:14, 10:14] = 30
        told: list[tuple[int, int]] = []
        scan = made.prepare(place(Volume(array, np.eye(4)), None, made.grid))
        result = made.predict(scan, progress=lambda _, done, total: told.append((done, total)))  # noqa: B023
        theirs = exact.predict(scan)
        assert np.array_equal(result.probability.array >= 0.5, theirs.probability.array >= 0.5)
        asked[middle] = result.details["windows"]
        assert asked[middle] + result.details["windows_skipped"] == theirs.details["windows"] == 4
        assert told[-1] == (4, 4)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
    # They start at 0, 9, 17 and 26; the second one waits for what is seen in its middle.
    assert asked == {None: 3, 45: 3, 21: 4}


def test_intensities_that_the_plans_name() -> None:
    """Those that no tiny model was trained with, by nnU-Net's formulas."""
    settings = load_model(installed("plain3d", ONE_FOLD).name).manifest.windows
    assert settings is not None
    image = np.random.default_rng(0).normal(100, 60, (6, 7, 8)).astype(np.float32)
    plain = replace(settings, normalization="none")
    assert np.array_equal(normalise(image.copy(), plain, None), image)
    numbers = {"mean": 90.0, "std": 40.0, "percentile_00_5": 20.0, "percentile_99_5": 180.0}
    ct = replace(settings, normalization="ct", intensity=numbers)
    expected = (np.clip(image, 20, 180) - 90) / 40
    assert np.allclose(normalise(image.copy(), ct, None), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("places", "low", "high", "expected"),
    [
        ([0, 52, 105], 20, 213, [0, 52, 105]),  # the outer ones share less than a quarter
        ([0, 45, 90], 20, 200, [0, 90]),
        ([0, 34, 69], 22, 175, [0, 69]),
        ([0, 64, 69], 22, 175, [0, 69]),
        ([0, 45, 90], 60, 150, [45]),
        ([0, 45, 90], 95, 210, [90]),
        ([0], 10, 120, [0]),
        ([0, 128, 256], 0, 384, [0, 128, 256]),  # these share nothing
    ],
)
def test_the_fewest_windows_that_hold_a_brain(
    places: list[int], low: int, high: int, expected: list[int]
) -> None:
    assert fewest(places, 128, low, high, 32) == expected


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


def test_a_gpu_without_memory_leaves_the_windows_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume, _ = fixture("plain3d")
    name = installed("plain3d", ONE_FOLD).name
    expected = predictor(name)
    scan = expected.prepare(place(volume, None, expected.grid))
    made, left = predictor(name), [3]
    # Everything is on the CPU, only the name and the error are the GPU's.
    made.device = Device("mps", "pretended")
    real = SlidingWindowPredictor._ask

    def ask(self: SlidingWindowPredictor, network: Any, part: Any, precision: str) -> Any:
        if not self.device.is_gpu:
            return real(self, network, part, precision)
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)")
        return torch.zeros(1, *part.shape[2:])

    monkeypatch.setattr(SlidingWindowPredictor, "_ask", ask)
    monkeypatch.setattr(joined_up, "ready_to_ask", lambda network, dimensions, device: network)
    told: list[int] = []
    found = made.predict(scan, progress=lambda stage, done, total: told.append(done))
    assert found.warnings == ("Memory ran out on mps; the CPU goes on.",)
    assert found.details["device_reason"] == "mps ran out of memory"
    assert np.array_equal(found.probability.array, expected.predict(scan).probability.array)
    assert told == list(range(9))


def test_what_stops_the_windows_is_said_by_older_torch_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2.4 has no ``torch.OutOfMemoryError``; and the CPU's allocator raises another error."""
    volume, _ = fixture("plain3d")
    made = predictor(installed("plain3d", ONE_FOLD).name)
    scan = made.prepare(place(volume, None, made.grid))
    monkeypatch.delattr(torch, "OutOfMemoryError", raising=False)
    with pytest.raises(Cancelled):
        made.predict(scan, cancel=lambda: True)

    def full(self: object, *told: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(SlidingWindowPredictor, "_ask", full)
    with pytest.raises(InputError, match="not enough memory for its windows"):
        made.predict(scan)
