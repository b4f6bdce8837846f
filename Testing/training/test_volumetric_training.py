"""Training the volumetric network: steps, clicks, checkpoints, and a run stopped and resumed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.inference.click_stamp import stamp
from StrokeLesionSegLib.inference.head_box import HEAD_SHAPE
from StrokeLesionSegLib.learning import checkpoint, loop
from StrokeLesionSegLib.learning.checkpoint import TrainingProgress, load_run, save_mean, save_run
from StrokeLesionSegLib.learning.clicks import TrainingClick, channels_of, clicks_on_errors
from StrokeLesionSegLib.learning.heads import load_head, template_as_head
from StrokeLesionSegLib.learning.step import (
    StepOptions,
    StepResult,
    make_batch,
    make_step,
    voxel_weight,
)
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet
from stroketrain.cli import main
from stroketrain.volumetric import heads, stream, trainer
from stroketrain.volumetric.heads import HeadFolder
from stroketrain.volumetric.pack import unpack, write_pack
from stroketrain.volumetric.page import draw_page
from stroketrain.volumetric.trainer import TrainOptions, train
from volumetric_support import head_folder

pytestmark = pytest.mark.usefixtures("first_scan_soon")


def small() -> VolumetricUNet:
    torch.manual_seed(1)
    return VolumetricUNet(filters=(4, 6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> HeadFolder:
    return head_folder(tmp_path_factory.mktemp("heads"))


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder of prepared heads"):
        HeadFolder(tmp_path)


def test_a_full_disk_leaves_no_half_head_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, array: np.ndarray) -> None:
        path.write_bytes(array.tobytes()[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image = template_as_head(Anatomy.of_template()).image
    monkeypatch.setattr(heads, "windowed_on_box", lambda source: image)
    target = tmp_path / "heads" / "one.npy"
    target.parent.mkdir()
    with monkeypatch.context() as full:
        full.setattr(np, "save", half)
        assert "full" in heads._prepare_one(tmp_path / "t1.nii.gz", target)
    # What a run leaves that is killed while it writes.
    (target.parent / ".0123abcd.tmp.two.npy").write_bytes(b"half")
    assert heads._prepare_one(tmp_path / "t1.nii.gz", target) == ""
    heads._add_ventricles(tmp_path)
    assert load_head(target.with_suffix(".npz")).ventricles.any()


def test_a_run_goes_on_where_it_was(folder: HeadFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = TrainOptions(steps=2, workers=0, threads=1, seed=3, report=1)
    first = train(folder, run, options, network=small()).progress
    assert first.step == 2
    assert len(first.log) == 2
    kept = load_file(run / "state-0000002.safetensors")
    again = train(folder, run, options, network=small()).progress
    assert again.step == 4
    assert [line["step"] for line in again.log] == [1, 2, 3, 4]
    # One state only, and it is another one.
    (state,) = run.glob("state-*.safetensors")
    assert state.name == "state-0000004.safetensors"
    moved = load_file(state)
    assert any(not torch.equal(kept[n], moved[n]) for n in kept if n.startswith("network."))
    assert float(moved["optimizer.step.head.weight"]) == 4


def test_a_run_without_workers_keeps_its_threads(folder: HeadFolder, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        options = TrainOptions(steps=1, workers=0, threads=2, seed=3)
        train(folder, tmp_path / "run", options, network=small())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups")
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_terminal_saves(folder: HeadFolder, tmp_path: Path, number: int) -> None:
    """Ctrl-C reaches the trainer and the process that simulates for it."""
    run = tmp_path / "run"
    child = subprocess.Popen(
        [sys.executable, "-c", _TRAINER, str(folder.path), str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        # A suite started in the background of a shell ignores SIGINT, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith("{")
    os.killpg(child.pid, number)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert "Traceback" not in said
    assert json.loads((run / "state.json").read_text())["step"] >= 1


def test_a_command_that_is_told_to_end_says_so(
    folder: HeadFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = loop.make_step

    def told(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(trainer, "VolumetricUNet", small)
    monkeypatch.setattr(loop, "make_step", told)
    run = tmp_path / "run"
    words = ["fit", str(folder.path), str(run), "--network", "volumetric", "--workers", "0"]
    assert main([*words, "--steps", "5"]) == 130
    said = capsys.readouterr()
    assert said.out.startswith("1 step in")
    assert said.err == "stroketrain: stopped\n"
    assert (run / "mean.safetensors").is_file()


def test_no_worker_depends_on_a_server_in_the_terminals_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways = {"fork": None, "spawn": None, "forkserver": "spawn"}
    for usual, way in ways.items():
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda usual=usual: usual)
        context = stream._way_to_start()
        assert (context and context.get_start_method()) == way


_TRAINER = """
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet
from stroketrain.volumetric import stream
from stroketrain.volumetric.heads import HeadFolder
from stroketrain.volumetric.trainer import TrainOptions, train
stream._APART = 2
options = TrainOptions(steps=500, workers=1, threads=1, seed=1, report=1)
network = VolumetricUNet(filters=(4, 6))
train(HeadFolder(Path(sys.argv[1])), Path(sys.argv[2]), options, network=network)
"""


def test_the_command_trains_and_refuses_what_it_would_ignore(
    folder: HeadFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of the usual size it is trained by the test of a release.
    monkeypatch.setattr(trainer, "VolumetricUNet", small)
    words = ["fit", str(folder.path), str(tmp_path / "run"), "--network", "volumetric"]
    assert main([*words, "--steps", "1", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("1 step in")
    for wrong in ("--batch 4", "--devices 2", "--nodes 2", "--strategy ddp", "--resident yes",
                  "--logger tensorboard", "--progress bar"):  # fmt: skip
        assert main([*words, *wrong.split()]) == 2
        told = f"{wrong.split()[0]}: does not apply to the volumetric network"
        assert told in capsys.readouterr().err
    assert main(["fit", str(tmp_path), str(tmp_path / "x"), "--network", "volumetric"]) == 2
    assert "not a folder of prepared heads" in capsys.readouterr().err


def test_a_run_with_a_seed_goes_on_with_other_scans(
    folder: HeadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int | None] = []
    drawn: list[float] = []

    def nothing(*arguments: object) -> Iterator[tuple[torch.Tensor, ...]]:
        seeds.append(arguments[2])
        while True:
            yield tuple(torch.zeros(HEAD_SHAPE) > 0 for _ in range(3))

    def step(network: torch.nn.Module, *more: Any) -> tuple[torch.Tensor, StepResult]:
        drawn.append(more[3].random())
        return sum(p.sum() for p in network.parameters()), StepResult(0.0, None, False)

    monkeypatch.setattr(trainer, "scans", nothing)
    monkeypatch.setattr(loop, "make_step", step)
    options = TrainOptions(steps=2, workers=0, seed=7)
    for run in ("whole", "parts", "parts"):
        train(folder, tmp_path / run, options, network=small())
    assert seeds[0] == seeds[1] == 7
    assert seeds[2] not in seeds[:2]
    assert drawn[:2] == drawn[2:4]
    assert len(set(drawn)) == 4


def test_a_value_that_is_another_networks_default_is_taken(
    folder: HeadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[TrainOptions] = []

    def note(folder: HeadFolder, run: Path, options: TrainOptions, **more: object) -> object:
        taken.append(options)
        return loop.Trained(small(), TrainingProgress(), True)

    monkeypatch.setattr(trainer, "train", note)
    monkeypatch.setattr(checkpoint, "save_mean", lambda run: None)
    words = ["fit", str(folder.path), str(tmp_path), "--network", "volumetric"]
    more = "--steps 4000 --lr 0.002 --seed 0 --workers 0 --save-seconds 300 --guided 0"
    assert main(words) == 0
    assert main([*words, *more.split()]) == 0
    usual = TrainOptions()
    assert taken[0] == usual
    assert taken[1] == replace(
        usual, steps=4000, rate=2e-3, seed=0, workers=0, save_minutes=5.0,
        step=replace(usual.step, guided=0.0),
    )  # fmt: skip


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    network, mean = small(), small()
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    network(torch.rand(1, 27, 8, 8, 8)).sum().backward()
    optimizer.step()
    save_run(
        tmp_path, network, mean, optimizer, TrainingProgress(7, 12.5, [{"step": 7}]), {"rate": 0.01}
    )
    other, other_mean = VolumetricUNet(filters=(4, 6)), VolumetricUNet(filters=(4, 6))
    fresh = torch.optim.AdamW(other.parameters(), 0.01)
    progress = load_run(tmp_path, other, other_mean, fresh)
    assert progress == TrainingProgress(7, 12.5, [{"step": 7}])
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(optimizer.state[a]["exp_avg"], fresh.state[b]["exp_avg"])
    assert load_run(tmp_path / "none", other, other_mean) is None


def test_a_damaged_state_and_another_network_are_told(tmp_path: Path) -> None:
    network = small()
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    save_run(tmp_path, network, small(), optimizer, TrainingProgress(1), {})
    with pytest.raises(InputError, match="cannot be read"):
        load_run(tmp_path, VolumetricUNet(filters=(4, 8)), small())
    (tmp_path / "state-0000001.safetensors").write_bytes(b"12345678")
    with pytest.raises(InputError, match="Start in another folder"):
        load_run(tmp_path, network, small())


def test_weights_that_do_not_fit_are_told(folder: HeadFolder, tmp_path: Path) -> None:
    save_file({"head.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="does not fit the network"):
        train(folder, tmp_path / "r", TrainOptions(steps=1), start=tmp_path / "w.safetensors")


def scene() -> tuple[torch.Tensor, ...]:
    """A bright head with a dark ball in it, which is the lesion."""
    image = torch.full(HEAD_SHAPE, 0.7)
    lesions = torch.zeros(HEAD_SHAPE, dtype=torch.bool)
    lesions[60:100, 60:100, 30:70] = True
    image[lesions] = 0.1
    return image, lesions, torch.zeros_like(lesions)


@pytest.mark.parametrize("guided", [0.0, 1.0])
def test_a_few_steps_on_one_scan_lower_its_loss(guided: float) -> None:
    anatomy = Anatomy.of_template()
    template, weight = torch.zeros(1, 1, 80, 96, 80), voxel_weight(anatomy.brain)
    batch = make_batch(*scene(), template, weight)
    network = small()
    optimizer = torch.optim.AdamW(network.parameters(), 0.04)
    losses = []
    for n in range(5):
        loss, result = make_step(
            network, network, batch, StepOptions(guided=guided), np.random.default_rng(n)
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(result.loss)
        assert result.guided == bool(guided)
    assert np.mean(losses[-2:]) < 0.8 * losses[0]


def test_an_empty_truth_is_charged_by_what_is_given_away() -> None:
    image, lesions, ventricles = scene()
    template, weight = torch.zeros(1, 1, 80, 96, 80), torch.ones(1, 8, 80, 96, 80)
    batch = make_batch(image, lesions & False, ventricles, template, weight)
    shy, bold = small(), small()
    with torch.no_grad():
        shy.head.bias.fill_(-12.0)
        bold.head.bias.fill_(1.0)
    rng = np.random.default_rng(0)
    options = StepOptions(guided=0)
    assert make_step(shy, shy, batch, options, rng)[1].loss < 0.3
    assert make_step(bold, bold, batch, options, rng)[1].loss > 2


def test_clicks_say_what_the_truth_says_where_the_answer_is_wrong() -> None:
    truth = np.zeros((40, 40, 40), np.float32)
    truth[5:15, 5:15, 5:15] = 1
    predicted = np.zeros_like(truth)
    predicted[25:33, 25:33, 25:33] = 1
    rng = np.random.default_rng(0)
    near = 0
    clicks = clicks_on_errors(predicted, truth, rng, 200)
    for click in clicks:
        expected = truth if click.lesion else predicted
        low = tuple(slice(max(0, c - 1), c + 2) for c in click.place)
        assert expected[low].any()  # a click misses by a voxel at the most
        near += expected[click.place] > 0
    assert near > 170
    assert {c.lesion for c in clicks} == {True, False}


def test_where_nothing_is_wrong_a_lesion_is_confirmed_or_nothing_said() -> None:
    truth = np.zeros((20, 20, 20), np.float32)
    rng = np.random.default_rng(0)
    assert clicks_on_errors(truth, truth, rng, 3) == []
    truth[5:9, 5:9, 5:9] = 1
    (click,) = clicks_on_errors(truth, truth, rng, 3)
    assert click.lesion
    assert truth[click.place] == 1


def test_a_stamp_is_one_at_the_click_and_cut_at_the_edge() -> None:
    channels = channels_of(
        [TrainingClick((0, 5, 9), True), TrainingClick((4, 4, 4), False)], (10, 10, 10)
    )
    assert float(channels[0, 0, 5, 9]) == 1
    assert float(channels[1, 4, 4, 4]) == 1
    assert float(channels[0].max()) == 1
    off = np.zeros((10, 10, 10), np.float32)
    stamp(off, (40, 5, 5))
    assert not off.any()


def test_the_page_shows_every_scan(folder: HeadFolder, tmp_path: Path) -> None:
    from PIL import Image

    names = draw_page(folder, tmp_path / "page.png", scans=2, seed=1)
    assert len(names) == 2
    assert all(name.startswith("simulated") for name in names)
    with Image.open(tmp_path / "page.png") as page:
        assert page.size == (4 * (3 * 160 + 4), 2 * 192 + 4)


def test_a_pack_is_a_folder_of_heads_again(folder: HeadFolder, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_file(small().state_dict(), weights)
    size = write_pack(folder, weights, tmp_path / "pack.zip")
    assert size == (tmp_path / "pack.zip").stat().st_size < 2**20
    again, start = unpack(tmp_path / "pack.zip", tmp_path / "heads")
    assert again.names("train") == ["one"]
    assert again.names("validation") == []
    before, after = folder.head("one").image, again.head("one").image
    # Halved, rounded to 64 levels and doubled: nothing moves, edges lose some sharpness.
    inner = (slice(20, 140), slice(20, 170), slice(20, 140))
    away = np.abs(before[inner].astype(int) - after[inner])
    assert away.mean() < 4
    for one, other in zip(folder.bank("train").mask(0), again.bank("train").mask(0), strict=True):
        assert np.array_equal(one, other)
    kept = load_file(start)
    assert all(torch.equal(t.half(), kept[n]) for n, t in small().state_dict().items())
    trained = train(
        again, tmp_path / "run", TrainOptions(steps=1, workers=0, threads=1, seed=1),
        start=start, network=small(),
    )  # fmt: skip
    assert trained.progress.step == 1
    home = load_file(save_mean(tmp_path / "run"))
    assert {n: t.shape for n, t in home.items()} == {n: t.shape for n, t in kept.items()}


def test_other_weights_to_start_from_are_another_run(folder: HeadFolder, tmp_path: Path) -> None:
    options = TrainOptions(steps=1, workers=0, threads=1, seed=1)
    files = [tmp_path / f"{n}.safetensors" for n in (1, 2)]
    for n, file in enumerate(files):
        torch.manual_seed(n)
        save_file(VolumetricUNet(filters=(4, 6)).state_dict(), file)
    for start in (files[0], files[0], None):  # the same command, and without --start, go on
        train(folder, tmp_path / "run", options, start=start, network=small())
    with pytest.raises(InputError, match=r"other weights \(--start\)"):
        train(folder, tmp_path / "run", options, start=files[1], network=small())


def test_the_heads_of_one_pack_are_not_taken_for_another(
    folder: HeadFolder, tmp_path: Path
) -> None:
    for number in (1, 2):
        save_file({"w": torch.full((1,), number)}, tmp_path / "w.safetensors")
        write_pack(folder, tmp_path / "w.safetensors", tmp_path / f"pack{number}.zip")
    for _ in range(2):  # again after a stop
        assert unpack(tmp_path / "pack1.zip", tmp_path / "heads")[0].names("train") == ["one"]
    with pytest.raises(InputError, match=r"another file \(pack\)"):
        unpack(tmp_path / "pack2.zip", tmp_path / "heads")


@pytest.mark.parametrize("content", [b"no zip", b""])
def test_a_file_that_is_no_pack_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "pack.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"pack\.zip.*not a pack of heads"):
        unpack(tmp_path / "pack.zip", tmp_path / "heads")
    assert not (tmp_path / "heads" / "split.json").exists()
