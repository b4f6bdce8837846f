"""Runs killed (SIGKILL) in the middle of an epoch end with the weights of unbroken ones."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import forked_python
import numpy as np
import pytest

pytest.importorskip("lightning")
pytest.importorskip("monai")
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from stroketrain.fit.checkpoints import Snapshot, WholeCheckpointIO

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = {"name": "residual_unet", "in_channels": 1, "filters": [4, 8], "skip": "stem"}
RECIPE = {
    "network": {"filters": [4, 8, 16]},
    "window": [80, 88],
    "batching": "slices",
    "batch": 4,
    "repeats": 4,
    "epochs": 3,
    "steps_per_epoch": 9,
    "monitor_scans": 1,
    "evaluate_scans": 1,
    "frame": {"shrink": 4},
}

# Every run is a fork of one process that has imported what takes long. It reads a line for each,
# from the file that it is given: the run's folder, the kills and the arguments of ``stroketrain``.
# A run is killed once its checkpoint has been written the given number of times, and answered by
# the steps at the kills.
DRIVER = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from stroketrain import cli
import stroketrain.papers.fit, stroketrain.product.fit
def start(arguments):
    child = os.fork()
    if not child:
        code = 1
        try:
            os.dup2(2, 1)
            code = cli.main(arguments)
        finally:
            os._exit(code)
    return child
os.dup2(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT), 2)
for line in open(sys.argv[1]):
    folder, kills, arguments = json.loads(line)
    folder, steps = Path(folder), []
    checkpoint = folder / "checkpoints" / "last.ckpt"
    for count in kills:
        child, seen = start(arguments), set()
        while len(seen) < count:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "over before it was killed"
            if checkpoint.exists():
                seen.add(checkpoint.stat().st_mtime_ns)
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert not (folder / "weights.safetensors").exists()
        steps.append(torch.load(checkpoint, weights_only=True)["global_step"])
    assert os.waitpid(start(arguments), 0)[1] == 0
    print(json.dumps(steps), flush=True)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans of noise about a disc, each with a dark box as its lesion."""
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    images = np.zeros((4, 189, 233, 197), np.uint8)
    masks = np.zeros_like(images)
    scans = []
    for n in range(4):
        images[n, 20:160, 40:200, 30:170] = rng.integers(90, 200, (140, 160, 140), np.uint8)
        masks[n, 70:95, 90:120, 50 + 10 * n : 80 + 10 * n] = 1
        images[n][masks[n] > 0] //= 4
        ml = float(masks[n].sum()) / 1000
        scans.append({"name": f"s{n}_ses-1", "subject": f"s{n}", "site": f"R{n}", "volume_ml": ml})
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    (folder / "index.json").write_text(json.dumps({"scans": scans, "fingerprint": "cd" * 32}))
    return folder


Drive = Callable[[Path, list[int], list[str]], list[int]]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    """Runs ``stroketrain`` with those kills; returns the steps at which it was killed."""
    path = os.pathsep.join(str(REPOSITORY / part) for part in ("StrokeLesionSeg", "training"))
    place = tmp_path_factory.mktemp("driver")
    asked, said = place / "asked", place / "said.txt"
    os.mkfifo(asked)
    process = forked_python.Popen(
        [sys.executable, "-c", DRIVER, str(asked), str(said)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    with asked.open("w", encoding="utf-8") as asks, process.stdout, process.stderr:

        def run(folder: Path, kills: list[int], arguments: list[str]) -> list[int]:
            print(json.dumps([str(folder), kills, arguments]), file=asks, flush=True)
            answer = process.stdout.readline()
            assert answer, said.read_text(encoding="utf-8")[-3000:]
            return json.loads(answer)

        try:
            yield run
        finally:
            asks.close()
            process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["fit", "preset"])
def test_killed_runs_end_with_the_same_weights(
    cache: Path, tmp_path: Path, drive: Drive, kind: str
) -> None:
    options = ["--accelerator", "cpu", "--save-seconds", "0", "--seed", "5", "--threads", "1"]
    if kind == "fit":
        options += ["--network", json.dumps(SPEC), "--steps", "24", "--batch", "2"]
        options += ["--precision", "32-true"]
    else:
        options += ["--preset", "residual_unet_paper", "--override", json.dumps(RECIPE)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert drive(whole, [], ["fit", str(cache), str(whole), *options]) == []
    killed = drive(broken, [4, 3], ["fit", str(cache), str(broken), *options])
    assert 0 < killed[0] < killed[1] < 24
    if kind == "preset":
        assert any(step % 9 for step in killed)  # not at the end of an epoch alone
        a, b = (json.loads((f / "result.json").read_text()) for f in (whole, broken))
        assert a["history"] == b["history"]
        assert a["steps"] == b["steps"] == 27
        assert a["scores"] == b["scores"]
    one, other = ((f / "weights.safetensors").read_bytes() for f in (whole, broken))
    assert one == other


def test_the_best_epoch_of_a_run_that_was_moved_is_known(tmp_path: Path) -> None:
    def best(folder: Path) -> ModelCheckpoint:
        folder.mkdir(exist_ok=True)
        return ModelCheckpoint(folder, "best", monitor="val/volume_dice", mode="max")

    before = best(tmp_path / "scratch")
    file = str(tmp_path / "scratch" / "best.ckpt")
    before.best_model_path = before.kth_best_model_path = file
    before.best_model_score = before.kth_value = torch.tensor(0.7)
    before.best_k_models = {file: torch.tensor(0.7)}
    state = before.state_dict()
    (tmp_path / "scratch").rename(tmp_path / "home")
    after = best(tmp_path / "home")
    snapshot = Snapshot(tmp_path / "home" / "last.ckpt", 60)
    snapshot.on_load_checkpoint(None, None, {"callbacks": {"one": state, "other": {"wait": 1}}})
    after.load_state_dict(state)
    assert after.best_model_score == torch.tensor(0.7)
    assert after.best_model_path == str(tmp_path / "home" / "best.ckpt")
    assert list(after.best_k_models) == [after.best_model_path]


def test_checkpoints_are_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "c" / "last.ckpt"
    plugin = WholeCheckpointIO()
    plugin.save_checkpoint({"step": 1}, target)

    class Interrupted:
        def __reduce__(self) -> object:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plugin.save_checkpoint({"step": 2, "rest": Interrupted()}, target)
    assert torch.load(target, weights_only=True) == {"step": 1}
    plugin.save_checkpoint({"step": 3}, target)
    assert torch.load(target, weights_only=True) == {"step": 3}
    assert [p.name for p in target.parent.iterdir()] == ["last.ckpt"]
