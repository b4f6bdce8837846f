"""Frames, batches, recipes, runs that resume, and the table of the papers' rows."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.networks import build_network

pytest.importorskip("lightning")
pytest.importorskip("monai")
from stroketrain import cli
from stroketrain.data import cache as caches
from stroketrain.data.augment import paper_augment
from stroketrain.data.cache import Cache
from stroketrain.data.splits import Split, make_split
from stroketrain.fit.devices import Devices
from stroketrain.fit.trainer import Runtime
from stroketrain.papers import run as runs
from stroketrain.papers.facts import FACTS
from stroketrain.papers.fit import run_recipe
from stroketrain.papers.plan import BUDGETS, budgeted, load_rows, runs_of
from stroketrain.papers.planes import (
    BatchPlan,
    Frame,
    PlaneBatches,
    SlabBatches,
    slice_range,
    units_of,
)
from stroketrain.papers.recipe import Recipe, load_recipe, merge, preset_names
from stroketrain.papers.run import RowsOptions, run_rows
from stroketrain.papers.table import build_table, paired, result_line, runs_id

PAPER_ROWS = [f"A{n}" for n in range(1, 16)] + [f"B{n}" for n in range(1, 14)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of 12 scans of 189 slices with 40 x 36 pixels: bright disc, dark lesion."""
    out = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    images = np.zeros((12, 189, 40, 36), np.uint8)
    masks = np.zeros_like(images)
    rows, columns = np.mgrid[:40, :36]
    disc = (rows - 20) ** 2 + (columns - 18) ** 2 < 15**2
    scans = []
    for n in range(12):
        images[n, 20:170] = disc * 180
        if n != 5:
            a, b, z = rng.integers(10, 24), rng.integers(8, 20), rng.integers(55, 80)
            masks[n, z : z + 25, a : a + 8, b : b + 8] = 1
        images[n][masks[n] > 0] = 40
        images[n] += rng.integers(0, 20, images[n].shape).astype(np.uint8)
        name = f"sub-{n:02d}"
        ml = float(masks[n].sum()) / 1000
        scans.append(
            {"name": f"{name}_ses-1", "subject": name, "site": f"R{n % 4}", "volume_ml": ml}
        )
    np.save(out / "images.npy", images)
    np.save(out / "masks.npy", masks)
    (out / "index.json").write_text(json.dumps({"scans": scans, "fingerprint": "ab" * 32}))
    return out


@pytest.fixture(scope="module")
def cache(folder: Path) -> Cache:
    return Cache.open(folder)


def test_slices_of_the_paper() -> None:
    assert slice_range() == range(189)
    assert slice_range([70, 90]) == range(70, 90)
    assert slice_range([70, 90], "stack") == range(114, 134)
    with pytest.raises(InputError):
        slice_range([90, 110], "stack")
    with pytest.raises(InputError):
        slice_range([70, 90], "relative")


def test_frames_pad_and_crop_as_the_papers_and_back() -> None:
    assert Frame("pad", 16).size() == (240, 208)
    assert Frame("crop", 4).size() == (232, 196)
    x = torch.rand(2, 1, 233, 197)
    padded = Frame("pad", 16).put(x)
    assert padded.shape[-2:] == (240, 208)
    assert float(padded.sum()) == pytest.approx(float(x.sum()), rel=1e-5)
    assert torch.equal(Frame("pad", 16).take(padded, 233, 197), x)
    cropped = Frame("crop", 4).put(x)
    assert cropped.shape[-2:] == (232, 196)
    back = Frame("crop", 4).take(cropped, 233, 197, outside=-1.0)
    assert back.shape == x.shape
    kept = back != -1
    assert int(kept.sum()) == 2 * 232 * 196
    assert torch.equal(back[kept], x[kept])
    small = Frame("crop", 4, shrink=4)
    assert small.put(small.shrunk(x)).shape[-2:] == small.size()
    assert small.shrunk(torch.eye(8)[None, None], mask=True).sum() == 2


def test_paper_augmentation_moves_image_and_mask_alike() -> None:
    image = torch.zeros(40, 1, 64, 48)
    image[..., 20:44, 12:30] = 1
    stack = torch.cat([image, 0.5 * image], dim=1)
    moved, mask = paper_augment(torch.Generator().manual_seed(0), stack, image)
    inside = torch.nn.functional.max_pool2d(1 - mask, 5, 1, 2) == 0
    assert moved[:, :1][inside].min() > 0.95
    torch.testing.assert_close(moved[:, 1], 0.5 * moved[:, 0])
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    sizes = mask.sum(dim=(1, 2, 3)) / image[0].sum()
    assert 0.75 < sizes.min() < 0.9
    assert 1.1 < sizes.max() < 1.3
    # An off-centre mark shows both flips at work.
    centre = (mask * torch.arange(48.0)).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))
    assert 8 < int((centre > 24).sum()) < 32


def test_slabs_are_the_same_however_often_they_are_counted(cache: Cache) -> None:
    units = units_of(cache, make_split(cache.scans, seed=0), "train", range(40, 120))
    read: list[object] = []

    class Counted:
        shape = cache.masks.shape

        def __getitem__(self, index: object) -> np.ndarray:
            read.append(index)
            return cache.masks[index]

    counted = replace(cache, masks=Counted())
    plan = BatchPlan(2, depth=16, repeats=2, seed=3)
    stream = SlabBatches(counted, units, plan)
    first = stream.batches(1)
    once = len(read)
    assert once == len(units)
    assert len(stream) > 0
    assert stream.batches(1) == first == SlabBatches(cache, units, plan).batches(1)
    assert len(read) == once


def test_batches_of_slices_and_of_scans(cache: Cache) -> None:
    split = make_split(cache.scans, seed=0)
    units = units_of(cache, split, "train", range(70, 90))
    assert len(units) == 20 * len(split.parts["train"])
    by_scan = PlaneBatches(cache, units, BatchPlan(20, by_scan=True, repeats=3, seed=1))
    groups = by_scan.batches(0)
    assert len(groups) == 3 * len(split.parts["train"])
    assert all(
        [z for _, z in g] == list(range(70, 90)) and len({n for n, _ in g}) == 1 for g in groups
    )
    assert by_scan.batches(0) == groups
    assert by_scan.batches(1) != groups
    mixed = PlaneBatches(cache, units, BatchPlan(32, slices=3, seed=1))
    batch = next(iter(mixed))
    n, z = mixed.batches(0)[0][0]
    np.testing.assert_array_equal(batch["image"][0], cache.images[n, z - 1 : z + 2])
    np.testing.assert_array_equal(batch["mask"][0, 0], cache.masks[n, z])
    seen = [u for g in mixed.batches(0) for u in g]
    assert sorted(seen) == sorted(units)
    slabs = SlabBatches(cache, units, BatchPlan(2, depth=16, seed=1))
    slab = next(iter(slabs))
    assert slab["image"].shape == (2, 1, 16, 40, 36)
    n, z = slabs.batches(0)[0][0]
    np.testing.assert_array_equal(slab["mask"][0, 0], cache.masks[n, z : z + 16])


def test_presets_are_what_the_papers_say() -> None:
    assert {"residual_unet_paper", "unet_paper", "cs230_paper"} <= set(preset_names())
    for name in preset_names():
        build_spec = load_recipe(name).spec()
        with torch.device("meta"):
            build_network(build_spec)
    cs230 = load_recipe("cs230_paper")
    assert cs230.spec()["input_size"] == [232, 196]
    assert (cs230.batch, cs230.clip, cs230.optimizer["lr"]) == (100, 5.0, 1e-3)
    assert cs230.loss == {"name": "weighted_ce", "positive_weight": 100}
    residual = load_recipe("residual_unet_paper")
    assert (residual.batch, residual.batching, residual.repeats) == (20, "scan", 3)
    assert residual.slices == residual.scored == range(70, 90)
    with pytest.raises(InputError, match="unknown fields colour"):
        load_recipe("cs230_paper", {"colour": 1})
    with pytest.raises(InputError, match="unknown preset 'best'"):
        load_recipe("best")
    with pytest.raises(InputError, match=r"recipe\.augment"):
        load_recipe("cs230_paper", {"augment": "much"})


def test_merging_replaces_what_has_another_name() -> None:
    base = {"loss": {"name": "weighted_ce", "positive_weight": 100}, "batch": 2}
    assert merge(base, {"loss": {"positive_weight": 1}})["loss"]["name"] == "weighted_ce"
    assert merge(base, {"loss": {"name": "dice"}})["loss"] == {"name": "dice"}
    assert base["loss"]["positive_weight"] == 100


def test_every_row_of_the_papers_is_there() -> None:
    rows = load_rows()
    assert list(rows) == PAPER_ROWS
    for row in rows.values():
        assert set(row.facts) <= set(FACTS)
        variants = set(row.variants or {"default": {}})
        assert {v for pair in row.compare for v in pair} <= variants, row.row
        for budget in BUDGETS:
            runs = list(runs_of(row, budget, "f"))
            assert len(runs) == (
                len(variants) * len(row.splits) * len(BUDGETS[budget]["seeds"]) if row.preset else 0
            )
            # What differs between variants must still differ within the budget.
            first = BUDGETS[budget]["seeds"][0]
            keys = [run.key for run in runs if run.seed == first]
            assert len(set(keys)) == len(keys), (row.row, budget)


def test_rows_that_were_not_installed_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a checkout has the rows"):
        load_rows(tmp_path / "experiments")


def test_an_unknown_row_is_told_before_data_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["experiments", "run", "A1", "A99", "--out", str(tmp_path / "runs")]) == 2
    assert "unknown row A99" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_full_budget_is_the_papers_recipe() -> None:
    rows = load_rows()
    assert budgeted(rows["B3"], {}, "full") == load_recipe("cs230_paper")
    weight_one = budgeted(rows["B3"], rows["B3"].variants["w = 1"], "smoke")
    assert weight_one.loss == {"name": "weighted_ce", "positive_weight": 1}
    assert weight_one.batch == 100
    assert weight_one.network["hidden"] == [32, 16]
    assert budgeted(rows["B11"], {}, "full").epochs == 60
    assert budgeted(rows["B11"], {}, "small").epochs == BUDGETS["small"]["epochs_asked"] == 48
    assert budgeted(rows["B5"], {}, "small").epochs == BUDGETS["small"]["epochs_of"]["cs230"]
    assert budgeted(rows["B3"], {}, "small").epochs == 24 > load_recipe("cs230_paper").epochs
    assert budgeted(rows["A13"], {}, "small").epochs == BUDGETS["small"]["recipe"]["epochs"]


TINY = {
    "network": {"filters": [4, 8, 16]},
    "frame": {"shrink": 2},
    "batch": 8,
    "epochs": 3,
    "steps_per_epoch": 3,
    "repeats": 1,
    "evaluate_scans": 2,
}


def test_a_run_is_repeatable_and_resumes_to_the_same_weights(cache: Cache, tmp_path: Path) -> None:
    recipe = load_recipe("residual_unet_paper", TINY)
    split = make_split(cache.scans, seed=0)
    whole = run_recipe(
        recipe, cache, split, tmp_path / "a", seed=3, runtime=Runtime(Devices("cpu"))
    )
    # Stopped after two epochs, then asked for the third: dropout, batches, optimiser go on.
    place = tmp_path / "b"
    shorter = Recipe(**{**recipe.as_dict(), "epochs": 2})
    assert (
        run_recipe(shorter, cache, split, place, seed=3, runtime=Runtime(Devices("cpu")))["steps"]
        == 6
    )
    resumed = run_recipe(recipe, cache, split, place, seed=3, runtime=Runtime(Devices("cpu")))
    assert resumed["steps"] == whole["steps"] == 9
    assert [h["train_loss"] for h in resumed["history"]] == [
        h["train_loss"] for h in whole["history"]
    ]
    a = torch.load(tmp_path / "a/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    b = torch.load(place / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_network_learns_and_exports(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lesions of the toy data are a dark square: a small U-Net finds them in a minute."""
    over = {
        "network": {"filters": [8, 16, 16]},
        "frame": {"shrink": 2},
        "window": [50, 110],
        "evaluate_window": "same",
        "batching": "slices",
        "augment": "none",
        "repeats": 1,
        "loss": {"name": "dice_ce"},
        "optimizer": {"lr": 0.01},
        "epochs": 4,
        "steps_per_epoch": 20,
    }
    out = tmp_path / "run"
    command = ["fit", str(folder), str(out), "--preset", "unet_paper", "--lr-schedule", "poly"]
    assert cli.main([*command, "--override", json.dumps(over)]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["scores"]["test"]["volume_dice"] > 0.7
    assert result["scores"]["test"]["auc"] > 0.9
    assert result["recipe"]["schedule"]["name"] == "poly"
    assert result["data"]["fingerprint"] == "ab" * 32
    model = tmp_path / "model"
    # As if it had been trained at full resolution.
    record = json.loads((out / "run.json").read_text())
    assert record["simulated_scans"] == 0
    record["recipe"]["frame"]["shrink"] = 1
    (out / "run.json").write_text(json.dumps(record))
    assert cli.main(["export", str(out), str(model), "--name", "toy"]) == 0
    assert json.loads((model / "manifest.json").read_text())["network"]["filters"] == [8, 16, 16]
    # Of a run at half the resolution, or of a network that takes no slice alone, none is made.
    record["recipe"]["frame"]["shrink"] = 2
    (out / "run.json").write_text(json.dumps(record))
    assert cli.main(["export", str(out), str(model), "--name", "toy"]) == 2
    for name in ("cs230", "residual_unet_25d", "cascade"):
        (out / "run.json").write_text(json.dumps({"network": {"name": name}}))
        assert cli.main(["export", str(out), str(model), "--name", "toy"]) == 2
    assert cli.main(["export", str(tmp_path / "none"), str(model), "--name", "toy"]) == 2
    said = capsys.readouterr().err
    for text in (
        "averaged down by 2",
        "cannot run cs230",
        "cannot run cascade",
        "is not a finished run",
    ):
        assert text in said


def test_rows_run_resume_and_fill_the_table(
    cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = replace(cache, layout="r1.1")
    options = {"options": RowsOptions("smoke", tmp_path / "m"), "runtime": Runtime(Devices("cpu"))}
    names = ["A6", "A9", "B2", "B13"]
    lines: list[str] = []
    done = run_rows(names, cache, tmp_path / "r", say=lines.append, **options)
    assert done == 2 + 1 + 4
    assert run_rows(names, cache, tmp_path / "r", **options) == 0  # nothing is run twice
    table = build_table(tmp_path / "m")
    rows = {m[1]: m[0] for m in re.finditer(r"^\| ([AB]\d+) \|.*$", table, re.M)}
    assert list(rows) == PAPER_ROWS
    assert "not run" in rows["A1"]
    assert "identical" in rows["A6"]
    assert "93,705,297" in rows["B2"]
    assert "slice_dice" in rows["B2"]
    assert "stem minus block_input" in rows["A9"]
    assert rows["B13"].count("volume_dice") == 4
    assert "12 scans of 12 subjects from 4 sites, as read from an ATLAS tree" in table
    index_file = tmp_path / "m" / "smoke" / "index.json"
    index = json.loads(index_file.read_text())
    for entry in index["rows"].values():
        entry["data"].update(simulated=12, heads=3)
    index_file.write_text(json.dumps(index))
    assert "12 of them simulated strokes on 3 heads" in build_table(tmp_path / "m")
    assert "| R1.1, 12 scans, 12 simulated, `abababab` |" in build_table(tmp_path / "m")
    # Another tree for some rows: the others stay, each with its data.
    other = replace(cache, fingerprint="cd" * 32, layout="r2.0")
    run_rows(["A6"], other, tmp_path / "r", **options)
    table = build_table(tmp_path / "m")
    assert "| R2.0, 12 scans, `cdcdcdcd` |" in table
    assert "| R1.1, 12 scans, 12 simulated, `abababab` (the paper: R2.0) |" in table
    assert "stem minus block_input" in table
    assert "Smoke budget" in table
    assert "say nothing about the systems" in table
    with pytest.raises(InputError, match="unknown row C1"):
        run_rows(["C1"], cache, tmp_path / "r", **options)
    # Sentences by hand: for these runs only.
    comments = tmp_path / "m" / "smoke" / "comments.yaml"
    now = runs_id(json.loads(index_file.read_text())["rows"]["A9"])
    comments.write_text(f"A9: {{runs: '{now}', text: Because of that.}}\n")
    assert "<br>**Because of that.** |" in build_table(tmp_path / "m")
    comments.write_text("A9: {runs: 01234567, text: Because of that.}\n")
    assert "Because" not in build_table(tmp_path / "m")
    assert now in capsys.readouterr().out
    # The runs of a row as figures, those of two rows by their manifests alone.
    pytest.importorskip("matplotlib")
    from PIL import Image
    from stroketrain.figures.of_runs import panel_of_row, sweep

    where = (tmp_path / "m", "smoke", tmp_path / "figures")
    paths = panel_of_row(cache, "A9", tmp_path / "r" / "smoke", *where, seed=0)
    paths += sweep("B13", *where)
    assert [p.name for p in paths] == [
        "panel_A9.png", "panel_A9.svg", "sweep_B13.png", "sweep_B13.svg"
    ]  # fmt: skip
    with Image.open(paths[0]) as image:
        assert image.width > image.height  # T1, truth and two networks, in three scans
        assert len(image.convert("RGB").getcolors(10**6)) > 50


def test_the_cache_of_one_tree_is_not_taken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trees of two releases may be called the same."""

    def prepared(tree: Path, out: Path) -> Cache:
        out.mkdir(parents=True)
        for name in ("images", "masks"):
            np.save(out / f"{name}.npy", np.zeros((0, 1, 1, 1), np.uint8))
        (out / "index.json").write_text(json.dumps({"scans": [], "fingerprint": tree.parent.name}))
        return Cache.open(out)

    ran: list[str] = []
    monkeypatch.setattr(caches, "prepare", prepared)
    monkeypatch.setattr(
        runs, "run_rows", lambda names, cache, *rest, **more: ran.append(cache.fingerprint) or 0
    )
    command = ["experiments", "run", "A1", "--budget", "full", "--out", str(tmp_path / "runs")]
    for _ in range(2):
        assert cli.main([*command, "--tree", str(tmp_path / "r2" / "Training")]) == 0
    # What is prepared may be shared; two processes that prepare it at once may not.
    half = ("--shard", "0/2", "--tree")
    assert cli.main([*command, *half, str(tmp_path / "r2" / "Training")]) == 0
    assert cli.main([*command, *half, str(tmp_path / "r2" / "Testing")]) == 2
    assert "is not prepared yet" in capsys.readouterr().err
    assert cli.main([*command, "--tree", str(tmp_path / "r3" / "Training")]) == 2
    assert "made of something else (tree)" in capsys.readouterr().err
    assert ran == ["r2", "r2", "r2"]


def test_every_nth_training_and_the_rest(cache: Cache, tmp_path: Path) -> None:
    options = RowsOptions("smoke", tmp_path / "m", shard=(0, 2))
    where, runtime = tmp_path / "r", Runtime(Devices("cpu"))
    first = run_rows(["A9"], cache, where, options, runtime=runtime)
    assert (first, "1 run," in build_table(tmp_path / "m")) == (1, True)
    options = replace(options, shard=(1, 2))
    assert run_rows(["A9"], cache, where, options, runtime=runtime) == 1
    assert (
        run_rows(["A9"], cache, where, RowsOptions("smoke", tmp_path / "m"), runtime=runtime) == 0
    )
    assert "stem minus block_input" in build_table(tmp_path / "m")
    for wrong in ("2/2", "1", "a/b"):
        rows = ["experiments", "run", "A6", "--shard", wrong, "--cache", str(tmp_path)]
        assert cli.main(rows) == 2


def test_the_small_budget_costs_the_same_for_every_batch() -> None:
    rows = load_rows()
    recipes = [budgeted(rows["B6"], v, "small") for v in rows["B6"].variants.values()]
    assert [r.batch for r in recipes] == [10, 100, 200]
    # As near as whole batches allow.
    seen = [r.batch * r.steps_per_epoch for r in recipes]
    assert max(seen) <= 1.05 * min(seen)
    assert budgeted(rows["A13"], {}, "small").evaluate_step == 1  # a window of 20 slices
    assert len(budgeted(rows["B6"], {}, "small").scored) < 60
    slabs = budgeted(rows["B13"], rows["B13"].variants["3D"], "small")
    flat = budgeted(rows["B13"], rows["B13"].variants["2D"], "small")
    assert slabs.batch * slabs.depth * slabs.steps_per_epoch == pytest.approx(
        flat.batch * flat.steps_per_epoch, rel=0.1
    )


def test_splits_are_compared_over_the_subjects_that_both_tested(
    cache: Cache, tmp_path: Path
) -> None:
    """Twelve subjects: all are tested by slice, two of them by the first fold of subjects."""
    options = {"options": RowsOptions("smoke", tmp_path / "m"), "runtime": Runtime(Devices("cpu"))}
    run_rows(["B12"], cache, tmp_path / "r", **options)
    (row,) = [line for line in build_table(tmp_path / "m").splitlines() if "| B12 |" in line]
    assert "w = 100, split by slice minus by subject, subjects: " in row
    assert "best configuration, split by subject minus by site, subjects: " in row
    manifests = [json.loads(p.read_text()) for p in (tmp_path / "m/smoke").glob("cs230-*.json")]
    assert {m["split"]["by"]: m["split"]["fold"] for m in manifests} == dict.fromkeys(
        ("slice", "subject", "site"), 0
    )


def test_a_panel_shows_what_every_run_has_tested(cache: Cache, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from stroketrain.figures.of_runs import panel

    run_rows(["B2"], cache, tmp_path / "r", RowsOptions("smoke", tmp_path / "m"),
             runtime=Runtime(Devices("cpu")))  # fmt: skip
    (one,) = (tmp_path / "r" / "smoke").iterdir()
    other = shutil.copytree(one, tmp_path / "other")
    by_slice = make_split(cache.scans, "slice", seed=0)
    by_slice.save(other / "split.json")
    assert panel(cache, [one, other], tmp_path / "figures")[0].is_file()
    split = make_split(cache.scans, "subject", seed=0, fold=0)
    turned = {"train": split.parts["test"], "val": split.parts["val"], "test": split.parts["train"]}
    replace(split, parts=turned).save(other / "split.json")
    with pytest.raises(InputError, match="tested by every run"):
        panel(cache, [one, other], tmp_path / "figures")


def test_gap_and_swing_are_of_the_rows_metric() -> None:
    result = {
        "scores": {
            "train": {"slice_dice": 0.5, "volume_dice": 0.9},
            "val": {"slice_dice": 0.3, "volume_dice": 0.1},
            "test": {"slice_dice": 0.25},
        },
        "history": [
            {"slice_dice": 0.4, "volume_dice": 0.8},
            {"slice_dice": 0.3, "volume_dice": 0.2},
        ],
        "test_scans": {"a": {"subject": "a", "slice_dice": 0.25, "tp": 1, "fn": 1}},
    }
    text = result_line([result], "slice_dice", ["train_val_gap", "swing"])
    assert "gap in slice_dice from training to validation 0.200" in text
    assert "swing of slice_dice 0.250" in text


def test_a_run_that_had_stopped_early_or_ended_does_not_go_on(cache: Cache, tmp_path: Path) -> None:
    """A rate of nought never improves: patience 1 stops after the second epoch of nine."""
    still = {**TINY, "epochs": 9, "patience": 1, "optimizer": {"lr": 0.0}, "evaluate_scans": 1}
    recipe = load_recipe("residual_unet_paper", still)
    split = make_split(cache.scans, seed=0)
    first = run_recipe(recipe, cache, split, tmp_path, runtime=Runtime(Devices("cpu")))
    assert first["epochs"] < 9
    assert first["recipe"]["optimizer"]["lr"] == 0.0
    checkpoint = tmp_path / "checkpoints/last.ckpt"
    written = checkpoint.stat().st_mtime_ns
    assert run_recipe(recipe, cache, split, tmp_path, runtime=Runtime(Devices("cpu"))) == first
    # Its weights are not those of another seed, whose test scans they may have seen.
    other = make_split(cache.scans, seed=1)
    with pytest.raises(InputError, match=r"another way \(seed, split\)"):
        run_recipe(recipe, cache, other, tmp_path, seed=1, runtime=Runtime(Devices("cpu")))
    assert Split.read(tmp_path / "split.json") == split
    assert checkpoint.stat().st_mtime_ns == written
    (tmp_path / "result.json").unlink()  # killed between the last epoch and the scores
    again = run_recipe(recipe, cache, split, tmp_path, runtime=Runtime(Devices("cpu")))
    assert [again[k] for k in ("epochs", "steps", "scores")] == [
        first[k] for k in ("epochs", "steps", "scores")
    ]
    assert again["seconds"] > 0.5 * first["seconds"]  # those before the kill count


def test_paired_differences() -> None:
    a = {f"s{n}": 0.5 + 0.01 * n for n in range(10)}
    b = {f"s{n}": 0.4 + 0.005 * n for n in range(12)}
    text = paired(a, b)
    assert text.startswith("+0.122 [")
    assert "n = 10, Wilcoxon p = 0.002" in text
    few = paired({"s1": 0.2, "s2": 0.1}, {"s1": 0.1, "s2": 0.1})
    assert "too few subjects" in few
    assert paired(a, {}) == "no common test subject"


def test_facts_measure_the_data(cache: Cache) -> None:
    elsewhere = {"cs230_size", "sample_figure", "pipeline_figure"}  # slow, or in test_figures
    found = {name: fact(cache) for name, fact in FACTS.items() if name not in elsewhere}
    assert "12 labelled scans of 12 subjects from 4 sites, 1 lesion-free" in found["data_found"][0]
    assert "; 3 without a mask" in FACTS["data_found"](replace(cache, unlabelled=3))[0]
    assert any("slice" in line and "12 / " in line for line in found["split_sizes"])
    assert any("7,765,409 parameters, 9.2 GMAC" in line for line in found["unet_sizes"])
    assert "identical" in found["frame_round_trip"][0]
    # Lesions are squares of 8 x 8: discs of the same area measure 9 mm.
    assert "9, 9, 9, 9 mm" in found["receptive_fields"][-1]
    total = cache.masks.sum()
    share = cache.masks[:, 70:90].sum() / total
    assert f"{share:.0%}" in found["lesion_share"][1]
