"""The cache on the device, windowing there, several processes, and scans simulated on the fly."""

from __future__ import annotations

import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked_python
import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("monai")
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import apply_window, window_range
from stroketrain import cli
from stroketrain.data.cache import Cache, join_caches
from stroketrain.data.reading import WINDOW, WINDOW_LOW_OF
from stroketrain.data.resident import ResidentCache
from stroketrain.data.splits import make_split
from stroketrain.fit.devices import Devices, place
from stroketrain.fit.trainer import Runtime
from stroketrain.papers.fit import run_recipe
from stroketrain.papers.planes import BatchPlan, PlaneBatches, SlabBatches, units_of
from stroketrain.papers.recipe import load_recipe
from stroketrain.product.simulated import PoolStream, SimulatedPool
from stroketrain.product.slices import PATCH, VIEWS, Sampling, SliceStream
from stroketrain.product.windowing import percentile, window_to_bytes

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = {"name": "residual_unet", "in_channels": 1, "filters": [4, 8], "skip": "stem"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Six scans of three subjects on the MNI grid, noise with a dark box each."""
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 189, 233, 197), np.uint8)
    masks = np.zeros_like(images)
    for n in range(6):
        masks[n, 70:95, 90:120, 50 + 10 * n : 80 + 10 * n] = 1
        images[n][masks[n] > 0] //= 8
    scans = [
        {"name": f"s{n // 2}_ses-{n % 2}", "subject": f"s{n // 2}", "site": f"R{n // 2}",
         "volume_ml": 22.5}
        for n in range(6)
    ]  # fmt: skip
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    (folder / "index.json").write_text(json.dumps({"scans": scans, "fingerprint": "ef" * 32}))
    return Cache.open(folder)


@pytest.fixture(scope="module")
def resident(cache: Cache) -> ResidentCache:
    return ResidentCache(cache, "cpu")


def test_joined_and_chosen_caches_read_what_lies_there(cache: Cache) -> None:
    one = cache.sessions(1)
    assert [s["name"] for s in one.scans] == ["s0_ses-0", "s1_ses-0", "s2_ses-0"]
    assert one.images.shape == (3, 189, 233, 197)
    np.testing.assert_array_equal(one.images[2, 50:52], cache.images[4, 50:52])
    assert len(list(one.masks)) == 3
    assert one.fingerprint != cache.fingerprint
    assert cache.sessions(2) is cache
    both = join_caches([one, cache])
    assert len(both) == len(both.scans) == 9
    assert both.images.shape == (9, 189, 233, 197)
    np.testing.assert_array_equal(both.images[2, :, 30], one.images[2, :, 30])
    np.testing.assert_array_equal(both.images[8, 9], cache.images[5, 9])
    np.testing.assert_array_equal(both.masks[3], cache.masks[0])
    assert both.scans[3] == cache.scans[0]
    with pytest.raises(IndexError):
        both.images[9]
    other_way = join_caches([cache, one])
    assert len({c.fingerprint for c in (one, cache, both, other_way)}) == 4
    assert join_caches([cache]) is cache


def test_a_shrunk_cache_averages_slices_and_keeps_every_lesion(cache: Cache) -> None:
    small = cache.sessions(1).shrunk(4)
    assert small.images.shape == small.masks.shape == (3, 189, 58, 49)
    assert small.shrink == 4
    block = np.asarray(cache.images[2, 80, 4:8, 8:12]).mean()
    assert small.images[1, 80, 1, 2] == pytest.approx(block, abs=0.5)
    mask = np.asarray(cache.masks[4, 80])
    for a, b in ((22, 12), (22, 22), (30, 25)):
        assert small.masks[2, 80, a, b] == mask[4 * a : 4 * a + 4, 4 * b : 4 * b + 4].max()
    assert small.masks[2].any(axis=(1, 2)).sum() == 25


def test_the_device_cuts_what_the_host_reads(cache: Cache, resident: ResidentCache) -> None:
    sampling = Sampling(views=(0.4, 0.3, 0.3), batch=3)
    pixels, numbers = (SliceStream(cache, sampling, 8, seed=2) for _ in range(2))
    numbers.numbers_only = True
    seen = set()
    for read, where in zip(pixels, numbers, strict=True):
        axis = int(where["axis"])
        seen.add(axis)
        image, mask = resident.patches(axis, where["places"], PATCH[VIEWS[axis]])
        assert torch.equal(image, read["image"])
        assert torch.equal(mask, read["mask"])
        assert int(where["mirror"]) == int(read["mirror"])
    assert seen == {0, 1, 2}
    units = units_of(cache, make_split(cache.scans, seed=0), "train", range(180, 189))
    for kind, extra in ((PlaneBatches, {"slices": 5}), (SlabBatches, {"depth": 16})):
        plan = BatchPlan(4, seed=1, **extra)
        read = next(iter(kind(cache, units, plan)))
        units_only = next(iter(kind(cache, units, plan, numbers_only=True)))["units"]
        if kind is PlaneBatches:
            image, mask = resident.slices(units_only, 5)
        else:
            image, mask = resident.slabs(units_only, 16)
        assert torch.equal(image, read["image"])
        assert torch.equal(mask, read["mask"])


def test_residency_changes_no_result(cache: Cache, tmp_path: Path) -> None:
    recipe = load_recipe(
        "residual_unet_paper",
        {"network": {"filters": [4, 8]}, "frame": {"shrink": 4}, "epochs": 2, "window": [80, 84],
         "steps_per_epoch": 2, "batching": "slices", "batch": 4, "evaluate_scans": 1},
    )  # fmt: skip
    split = make_split(cache.scans, seed=0)
    small = cache.shrunk(4)
    results = [
        run_recipe(
            recipe, small, split, tmp_path / resident,
            runtime=Runtime(Devices("cpu"), resident=resident, logger=logger),
        )
        for resident, logger in (("no", "csv"), ("yes", "tensorboard"))
    ]  # fmt: skip
    assert results[0]["history"] == results[1]["history"]
    assert results[0]["scores"] == results[1]["scores"]
    assert list((tmp_path / "no").rglob("metrics.csv"))
    assert list((tmp_path / "yes").rglob("events.out.tfevents.*"))


def test_residency_is_asked_for_or_decided(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert place(cache, cpu) is None
    assert place(cache, cpu, "no") is None
    with pytest.raises(InputError, match="unknown value 'perhaps'"):
        place(cache, cpu, "perhaps")
    monkeypatch.setattr("stroketrain.data.resident.free_memory", lambda device: 10**6)
    with pytest.raises(InputError, match="does not fit"):
        place(cache, cpu, "yes")
    monkeypatch.setattr("stroketrain.data.resident.free_memory", lambda device: 10**9)
    kept = place(cache, cpu, "yes")
    assert kept is not None
    assert place(cache, cpu, "yes") is kept
    with pytest.raises(InputError, match="less than one"):
        Devices(devices=0)


@pytest.mark.parametrize("kind", ["head", "stripped"])
def test_windowing_in_torch_is_the_engines(kind: str) -> None:
    rng = np.random.default_rng(4)
    k, j, i = np.ogrid[:60, :70, :64]
    radius = np.sqrt((k - 30) ** 2 + (j - 35) ** 2 + (i - 32) ** 2)
    volume = np.where(radius < 26, 600.0, 0) - np.where(radius < 9, 450.0, 0)
    volume += rng.normal(0, 25, volume.shape) * (1 if kind == "head" else radius < 26)
    volume = np.abs(volume).round().astype(np.int32)
    wanted = apply_window(volume, window_range(volume, *WINDOW, low_of=WINDOW_LOW_OF)) * 255
    got = window_to_bytes(torch.from_numpy(volume))
    assert got.dtype == torch.uint8
    assert np.abs(got.numpy().astype(float) - wanted).max() < 1.6
    assert len(np.unique(got)) > 50
    values = torch.from_numpy(rng.normal(size=1001))
    assert float(percentile(values, 12.3)) == pytest.approx(np.percentile(values, 12.3))
    assert not window_to_bytes(torch.full((3, 4, 5), 7)).any()


def test_each_process_gets_its_own_batches(cache: Cache) -> None:
    units = units_of(cache, make_split(cache.scans, seed=0), "train", range(60, 100))
    whole = PlaneBatches(cache, units, BatchPlan(4, seed=1), numbers_only=True)
    parts = [
        PlaneBatches(cache, units, whole.plan, numbers_only=True, rank=rank, world=3)
        for rank in range(3)
    ]
    assert {len(p) for p in parts} == {len(whole) // 3}
    dealt = [tuple(u) for p in parts for b in p for u in b["units"].tolist()]
    assert len(dealt) == len(set(dealt)) == 3 * 4 * (len(whole) // 3)
    whole.skip = 3
    rest = list(whole)
    assert len(rest) == len(whole) - 3
    assert torch.equal(rest[0]["units"], torch.tensor(whole.batches(0)[3]))
    assert len(list(whole)) == len(whole)  # the next epoch is whole again
    streams = [SliceStream(cache, Sampling(batch=2), 3, seed=1) for _ in range(3)]
    for rank, stream in enumerate(streams):
        stream.rank, stream.world = rank, 3
    assert len({str(stream.places(1)) for stream in streams}) == 3


# Both commands in one pair of processes, which take longer to import Lightning than to fit.
BOTH = """
import json, os, sys
from stroketrain import cli
for port, arguments in json.loads(sys.argv[1]):
    os.environ["MASTER_PORT"] = port
    assert cli.main(arguments) == 0, arguments
"""


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def in_two_processes(commands: list[list[str]]) -> None:
    """Run ``stroketrain`` with several arguments, one after the other, in two processes that find
    in their environment what torchrun says there."""
    path = os.pathsep.join(str(REPOSITORY / part) for part in ("StrokeLesionSeg", "training"))
    several = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]
    asked = json.dumps([(free_port(), [*words, *several]) for words in commands])
    of_both = {
        **os.environ,
        **{"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "GROUP_RANK": "0"},
        **{"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
    }
    processes = [
        forked_python.Popen(
            [sys.executable, "-c", BOTH, asked],
            env={**of_both, "RANK": rank, "LOCAL_RANK": rank},
            text=True,
        )
        for rank in "01"
    ]
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda process: process.communicate(timeout=900), processes))
    for process, (_, error) in zip(processes, said, strict=True):
        assert process.returncode == 0, error[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_share_a_recipe_and_fit_one_network(cache: Cache, tmp_path: Path) -> None:
    """Without a learning rate nothing moves: what two processes measured must be what one does."""
    folder = Path(cache.images.filename).parent
    over = {"network": {"hidden": [16, 8]}, "frame": {"shrink": 4}, "epochs": 1, "batch": 8,
            "window": [80, 86], "evaluate_window": "same", "optimizer": {"lr": 0.0}}  # fmt: skip
    make_split(cache.scans, "slice", seed=0, slices=range(80, 86)).save(tmp_path / "split.json")
    options = ["--preset", "cs230_paper", "--override", json.dumps(over)]
    options += ["--split", str(tmp_path / "split.json")]
    network = ["--network", json.dumps(SPEC), "--steps", "2", "--batch", "2"]
    network += ["--precision", "32-true", "--resident", "yes"]
    alone, shared, run = (tmp_path / name for name in ("alone", "shared", "run"))
    assert cli.main(["fit", str(folder), str(alone), *options, "--accelerator", "cpu"]) == 0
    in_two_processes(
        [
            ["fit", str(folder), str(shared), *options],
            ["fit", str(folder), str(run), *network],
        ]
    )
    one, two = (json.loads((f / "result.json").read_text()) for f in (alone, shared))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["steps"] == one["steps"] // 2
    compared = ("volume_dice", "slice_dice", "pooled_dice", "auc", "precision", "recall")
    for key in compared:
        assert one["history"][0][key] == pytest.approx(two["history"][0][key], abs=2e-4), key
    assert one["scores"]["test"] == two["scores"]["test"]
    assert 0 < one["history"][0]["pooled_dice"] < 1
    record = json.loads((run / "run.json").read_text())
    assert (record["processes"], record["steps"], record["resident"]) == (2, 2, True)
    assert (run / "weights.safetensors").stat().st_size > 1000


def drawn(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stands for a simulated scan: its number as grey value, a lesion where the number says."""
    image = torch.full((189, 233, 197), number, dtype=torch.uint8)
    mask = torch.zeros_like(image)
    mask[60 + number, 100:120, 90:110] = 1
    return image, mask


def test_the_pool_is_renewed_and_depends_on_the_step_alone(cache: Cache) -> None:
    def stream() -> PoolStream:
        resident = ResidentCache(cache.sessions(1), "cpu", room=3)
        pool = SimulatedPool(resident, 3, 3, drawn, turnover=2)
        return PoolStream(
            cache.sessions(1), pool, Sampling(views=(1, 0, 0), lesion_share=1, batch=16), 8, 5
        )

    walked, jumped = stream(), stream()
    batches = list(walked)
    assert sorted(walked.pool.holds) == [3, 4, 5]  # steps 6 and 7
    jumped.skip = 5  # as after a kill
    for a, b in zip(batches[5:], jumped, strict=True):
        assert torch.equal(a["places"], b["places"])
    assert torch.equal(walked.pool.resident.images[3:, 0, 0, 0], torch.tensor([3, 4, 5]).byte())
    places = batches[0]["places"]
    simulated = places[places[:, 0] >= 3]
    assert len(simulated)
    # Slices with lesion are known for the scans in the pool too.
    assert torch.equal(simulated[:, 1], 60 + (simulated[:, 0] - 3))
    image, mask = walked.pool.resident.patches(0, places, PATCH["axial"])
    assert image.shape == mask.shape == (16, 1, *PATCH["axial"])
    for made in (walked, jumped):
        made.pool.close()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_fit_on_simulated_scans_alone(tmp_path: Path) -> None:
    """Procedural lesions on nilearn's template: the same weights for the same seed."""
    weights = []
    for name in ("a", "b"):
        run = tmp_path / name
        options = ["--simulate", "none", "--pool", "1", "--turnover", "2", "--steps", "2"]
        options += ["--network", json.dumps(SPEC), "--batch", "2", "--precision", "32-true"]
        assert cli.main(["fit", "none", str(run), *options, "--accelerator", "cpu"]) == 0
        weights.append((run / "weights.safetensors").read_bytes())
        record = json.loads((run / "run.json").read_text())
        assert record["simulated"] == {"pool": 1, "turnover": 2}
        assert record["data"]["scans"] == 0
    assert weights[0] == weights[1]


def test_no_source_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "none", str(tmp_path / "run")]) == 2
    assert cli.main(["fit", "none", str(tmp_path / "run"), "--simulate", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "no finished cache" in lines[0]
    assert "no folder t1" in lines[1]
