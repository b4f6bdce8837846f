"""A release cut out of a run: a model that the engine loads and runs, and the run as it was."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Volume
from StrokeLesionSegLib.images.space.template import template_head, upsample_linear
from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
from StrokeLesionSegLib.learning import checkpoint, loop
from StrokeLesionSegLib.learning.checkpoint import (
    TrainingProgress,
    load_run,
    mean_weights,
    save_run,
)
from StrokeLesionSegLib.learning.loop import Trained
from StrokeLesionSegLib.learning.step import StepResult
from StrokeLesionSegLib.models import load_model
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet
from StrokeLesionSegLib.operating_point import OperatingPoint
from stroketrain.volumetric import release
from stroketrain.volumetric.heads import HeadFolder
from stroketrain.volumetric.release import ReleaseOptions, cut_release
from stroketrain.volumetric.trainer import TrainOptions, train
from stroketrain.volumetric.validation import ScanScore, summary
from volumetric_support import head_folder

pytestmark = pytest.mark.usefixtures("first_scan_soon")
POINTS = (OperatingPoint(0.3, 0.7, 0.1), OperatingPoint(0.5, 0.9, 0.1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> HeadFolder:
    return head_folder(tmp_path_factory.mktemp("heads"))


def test_a_release_is_a_model_that_runs(
    folder: HeadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "POINTS", POINTS)
    run, out = tmp_path / "run", tmp_path / "model"
    options = TrainOptions(steps=1, workers=0, threads=2, seed=1)
    train(folder, run, options)
    before = (run / "state.json").read_text()
    made = cut_release(folder, run, out, ReleaseOptions("fresh", "0.1", minutes=0.001), options)
    assert (run / "state.json").read_text() == before
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "volumetric"
    assert manifest["training"]["steps"] >= 2
    assert manifest["metrics"]["validation"] == made["validation"]
    assert Calibration.from_dict(manifest["inference"]["calibration"]) == Calibration(
        **made["calibration"]
    )
    assert manifest["inference"]["threshold"] in {p.threshold for p in POINTS}
    head = upsample_linear(template_head().array)[:189, :233, :197]
    found = segment_volume(
        Volume(head, MNI_GRID.affine),
        load_model(out),
        SegmentOptions(precision="float32"),
        alignment=Alignment.identity(),
    )
    assert found.probability.array.shape == MNI_GRID.shape
    assert np.isfinite(found.probability.array).all()
    assert not list(tmp_path.glob("*.kept"))
    assert not list(tmp_path.glob("*.tail*"))


def test_what_cannot_be_released_is_told_before_the_tail(
    folder: HeadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "train", lambda *told: pytest.fail("half an hour"))
    monkeypatch.setattr(release, "load_run", lambda *told: TrainingProgress(1))
    monkeypatch.setattr(release, "_copy_run", lambda *told: None)
    # As the heads of a pack are, or those of one labelled subject.
    alone = HeadFolder(shutil.copytree(folder.path, tmp_path / "heads"))
    (alone.path / "split.json").write_text(json.dumps({"train": ["one"], "validation": []}))
    for heads, name, cause in (
        (alone, "fresh", "holds nobody to choose"),
        (folder, "our model", "is no name of a model"),
    ):
        with pytest.raises(InputError, match=cause):
            cut_release(
                heads, tmp_path, tmp_path / "m", ReleaseOptions(name, "1"), TrainOptions(steps=1)
            )


def test_a_release_is_cut_from_the_run_as_it_is(
    folder: HeadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from what the release before, or one that was killed while it copied, has left."""
    begun: list[int] = []

    def tail(folder: HeadFolder, work: Path, options: TrainOptions) -> Trained:
        progress = load_run(work, VolumetricUNet(), VolumetricUNet())
        assert progress is not None
        begun.append(progress.step)
        return Trained(VolumetricUNet(), progress, True)

    monkeypatch.setattr(release, "train", tail)
    monkeypatch.setattr(release, "measure", lambda *told, **more: None)
    monkeypatch.setattr(release, "choose_point", lambda *told: (POINTS[0], []))
    monkeypatch.setattr(release, "_answers", lambda *told: [])
    run, network = tmp_path / "run", VolumetricUNet()
    optimizer = torch.optim.AdamW(network.parameters())
    (tmp_path / "model.tail.part").mkdir()
    for step in (1, 2):
        (tmp_path / "model.kept").mkdir(exist_ok=True)
        save_run(run, network, network, optimizer, TrainingProgress(step), {})
        cut_release(
            folder, run, tmp_path / "model", ReleaseOptions("a", "1"), TrainOptions(steps=1)
        )
    assert begun == [1, 2]


def test_a_tail_that_is_told_to_end_is_no_release(
    folder: HeadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rate has not fallen yet."""
    run, network = tmp_path / "run", VolumetricUNet()
    optimizer = torch.optim.AdamW(network.parameters())
    save_run(run, network, network, optimizer, TrainingProgress(1), {})
    step = loop.make_step

    def stopped(*told: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return step(*told)

    monkeypatch.setattr(loop, "make_step", stopped)
    options = TrainOptions(workers=0, threads=2, seed=1)
    with pytest.raises(KeyboardInterrupt):
        cut_release(folder, run, tmp_path / "model", ReleaseOptions("a", "1"), options)
    assert not (tmp_path / "model").exists()
    kept = load_run(tmp_path / "model.tail", network, network)
    assert kept is not None
    assert kept.step == 2  # the next call goes on
    # Not as the tail of another run.
    save_run(tmp_path / "other", network, network, optimizer, TrainingProgress(7), {})
    with pytest.raises(InputError, match="tail of another run"):
        cut_release(
            folder, tmp_path / "other", tmp_path / "model", ReleaseOptions("a", "1"), options
        )


def test_a_tail_that_goes_on_counts_what_was_done_before(
    folder: HeadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its minutes and its falling rate are those of one that was never stopped."""
    run, network = tmp_path / "run", VolumetricUNet()
    optimizer = torch.optim.AdamW(network.parameters())
    save_run(run, network, network, optimizer, TrainingProgress(900, 36_000.0), {})
    rates: list[float] = []

    def step(network: torch.nn.Module, *more: Any) -> tuple[torch.Tensor, Any]:
        return sum(p.sum() for p in network.parameters()), StepResult(0.0, None, False)

    class Clock:
        """Ten seconds a step; told to end after every third."""

        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def tick(self) -> float:
            self.seconds += 10
            if len(rates) in (3, 6):
                signal.raise_signal(signal.SIGTERM)
            return self.seconds

    falling = loop._falling

    def noted(share: float, fall: float) -> float:
        rates.append(falling(share, fall))
        return rates[-1]

    monkeypatch.setattr(loop, "make_step", step)
    monkeypatch.setattr(loop, "_Clock", Clock)
    monkeypatch.setattr(loop, "_falling", noted)
    monkeypatch.setattr(release, "measure", _enough)
    options = TrainOptions(workers=0, threads=2, seed=1)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            cut_release(
                folder, run, tmp_path / "model", ReleaseOptions("a", "1", minutes=1.5), options
            )
    with pytest.raises(_Enough):
        cut_release(folder, run, tmp_path / "model", ReleaseOptions("a", "1", minutes=1.5), options)
    assert rates == pytest.approx([falling(n / 9, 1.0) for n in range(9)])


class _Enough(Exception):
    """What comes behind the tail is not looked at."""


def _enough(*told: object, **more: object) -> None:
    raise _Enough


def test_a_run_that_saves_meanwhile_is_read_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, network = tmp_path / "run", VolumetricUNet(filters=(4, 6))
    optimizer = torch.optim.AdamW(network.parameters())
    steps = iter(range(1, 9))

    def save() -> None:
        save_run(run, network, network, optimizer, TrainingProgress(next(steps)), {})

    def first_saved(do: Callable[..., object]) -> Callable[..., object]:
        """``do``, before which the run saves, the first time."""
        waiting = [save]

        def done(*arguments: object, **options: object) -> object:
            if waiting:
                waiting.pop()()
            return do(*arguments, **options)

        return done

    save()
    reading = checkpoint.read_safetensors
    for take in (lambda: load_run(run, network, network), lambda: mean_weights(run)):
        monkeypatch.setattr(checkpoint, "read_safetensors", first_saved(reading))
        take()
    monkeypatch.setattr(checkpoint, "read_safetensors", reading)
    monkeypatch.setattr(release.shutil, "copyfile", first_saved(shutil.copyfile))
    release._copy_run(run, tmp_path / "work")
    progress = load_run(tmp_path / "work", network, network)
    assert progress is not None
    assert progress.step == 4
    (run / "state-0000004.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_run(run, network, network)


def test_a_folder_without_a_run_is_refused(folder: HeadFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no saved run"):
        cut_release(
            folder, tmp_path, tmp_path / "m", ReleaseOptions("a", "1"), TrainOptions(steps=1)
        )


def test_a_summary_keeps_the_kinds_apart() -> None:
    scores = [
        ScanScore("a chronic", "chronic", 10, 9, 0.8, 1.0, 0.001),
        ScanScore("b faint", "faint", 10, 2, 0.2, 0.5, 0.0),
        ScanScore("c healthy", "healthy", 0, 0, 1, 1, 0),
        ScanScore("d healthy", "healthy", 0, 1.5, 0, 0, 0),
    ]
    assert summary(scores) == {
        "chronic Dice": 0.8,
        "chronic F1": 1.0,
        "faint Dice": 0.2,
        "faint F1": 0.5,
        "healthy empty": 0.5,
        "healthy worst mL": 1.5,
        "ventricle share": 0.0005,
        "ventricle worst": 0.001,
    }
