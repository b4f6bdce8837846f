"""From a simulated tree to a trained, exported, evaluated model, small."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import forked_python
import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
from StrokeLesionSegLib.models import load_model
from stroketrain import cli
from stroketrain.data.augment import augment, resampling_blur
from stroketrain.data.cache import Cache
from stroketrain.data.reading import WINDOW_LOW_OF
from stroketrain.data.splits import Split
from stroketrain.product.module import LesionModule
from stroketrain.product.options import FitOptions
from stroketrain.product.slices import PATCH, Sampling, SliceStream

SPEC = {
    "name": "residual_unet",
    "in_channels": 1,
    "filters": [4, 8, 8],
    "skip": "stem",
    "dropout": 0.0,
}


@pytest.fixture
def tree(drawn: Path) -> Path:
    return drawn / "tree"


@pytest.fixture
def cache(drawn: Path) -> Path:
    return drawn / "cache"


def test_cache_holds_what_the_tree_holds(cache: Path) -> None:
    opened = Cache.open(cache)
    assert opened.images.shape == opened.masks.shape == (2, 189, 233, 197)
    assert opened.images.dtype == np.uint8
    assert opened.images.max() == 255
    for n, scan in enumerate(opened.scans):
        assert scan["volume_ml"] == pytest.approx(opened.masks[n].sum() / 1000)
        assert scan["volume_ml"] == pytest.approx(scan["simulation"]["volume_ml"], abs=1e-3)


def test_stream_is_the_same_for_the_same_step(cache: Path) -> None:
    opened = Cache.open(cache)
    stream = SliceStream(opened, Sampling(batch=3), 8, seed=1)
    whole = list(stream)
    later = list(SliceStream(opened, Sampling(batch=3), 8, seed=1, skip=5))
    assert len(whole) == 8
    for a, b in zip(whole[5:], later, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["mask"], b["mask"])
    assert {tuple(b["image"].shape[-2:]) for b in whole} <= set(PATCH.values())
    assert sum(float(b["mask"].any()) for b in whole) >= 4


def test_augmentation_moves_image_and_mask_together() -> None:
    image = torch.zeros(8, 1, 96, 80)
    image[:, :, 30:60, 20:50] = 1.0
    moved, mask = augment(torch.Generator().manual_seed(0), image, image.clone(), mirror=True)
    inside, outside = moved[mask > 0.5].mean(), moved[mask < 0.5].mean()
    assert inside > 0.7
    assert outside < 0.12
    assert not torch.equal(moved[0], moved[1])


def test_resampling_blur_keeps_what_is_even_and_blurs_a_share() -> None:
    flat = torch.full((6, 1, 40, 32), 0.4)
    inner = (..., slice(6, -6), slice(6, -6))
    drawn = resampling_blur(torch.Generator().manual_seed(0), flat, share=1.0)
    torch.testing.assert_close(drawn[inner], flat[inner])
    point = torch.zeros(200, 1, 21, 21)
    point[..., 10, 10] = 1
    out = resampling_blur(torch.Generator().manual_seed(1), point, share=0.4)
    torch.testing.assert_close(out.sum(dim=(1, 2, 3)), torch.ones(200))
    changed = out[:, 0, 10, 10] < 0.999
    assert 55 < int(changed.sum()) < 105
    # Along the rows, along the columns, and both, about a third each.
    rows = (out[:, 0, :, 10].sum(dim=1) > 0.999) & changed
    columns = (out[:, 0, 10, :].sum(dim=1) > 0.999) & changed
    assert not bool((rows & columns).any())
    for one in (rows, columns, changed & ~rows & ~columns):
        assert int(one.sum()) > 10
    assert torch.equal(resampling_blur(torch.Generator().manual_seed(1), point, share=0.0), point)


def test_options_of_the_loss_do_what_they_say() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 1, 16, 16), (torch.rand(2, 1, 16, 16) < 0.1).float()
    plain, strict, hard = (
        LesionModule(FitOptions(SPEC, steps=10, positive_weight=1.0, **options))
        for options in ({}, {"false_positive": 0.7}, {"hard_share": 0.25})
    )
    p = torch.sigmoid(logits)
    tp, fp, fn = (p * mask).sum(), (p * (1 - mask)).sum(), ((1 - p) * mask).sum()
    for module, a in ((plain, 0.5), (strict, 0.7)):
        wanted = 1 - (tp + 1) / (tp + a * fp + (1 - a) * fn + 1)
        assert float(module.region_loss(logits, mask)) == pytest.approx(float(wanted), abs=1e-5)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    worst = each.flatten().sort(descending=True).values[:128]
    assert float(hard._entropy(logits, mask, 0)) == pytest.approx(
        float(each.mean() + worst.mean()), rel=1e-5
    )
    assert float(plain._entropy(logits, mask, 0)) == pytest.approx(float(each.mean()), rel=1e-5)


def test_compilation_is_of_the_forward_pass_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in checkpoints stay the same: a run may be compiled in one part and not in another."""
    asked: list[torch.nn.Module] = []

    def compiled(network: torch.nn.Module, **options: object) -> object:
        asked.append(network)
        return lambda x: network(x) + 1

    plain = LesionModule(FitOptions(SPEC, steps=10))
    monkeypatch.setattr(torch, "compile", compiled)
    module = LesionModule(FitOptions(SPEC, steps=10, compile=True))
    assert asked == [module.network]
    x = torch.zeros(1, 1, 16, 16)
    module.eval()
    torch.testing.assert_close(module._forward[0](x), module.network(x) + 1)
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert plain._forward[0] is plain.network


def test_the_average_of_the_weights_follows_them() -> None:
    slow, fast = (LesionModule(FitOptions(SPEC, steps=10, ema=decay)) for decay in (0.9, 0.1))
    for module in (slow, fast):
        before = module.network.head.bias.detach().clone()
        module.average.update_parameters(module.network)  # the first call copies
        with torch.no_grad():
            module.network.head.bias += 1
        module.average.update_parameters(module.network)
        moved = float((module.average.module.head.bias - before).mean())
        assert moved == pytest.approx(1 - module.options.ema, abs=1e-5)
        assert not any(p.requires_grad for p in module.average.parameters())


def test_fit_resumes_exports_and_evaluates(cache: Path, tree: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit = ["fit", str(cache), str(run), "--network", json.dumps(SPEC), "--batch", "4"]
    more = ["--false-positive", "0.6", "--hard-share", "0.05", "--lesion-share", "0.9"]
    more += ["--ema", "0.9", "--also", str(cache), "--paint", "0.5"]
    assert cli.main([*fit, *more, "--steps", "6", "--precision", "32-true"]) == 0
    record = json.loads((run / "run.json").read_text())
    assert record["steps"] == 6
    assert (record["false_positive"], record["hard_share"]) == (0.6, 0.05)
    assert (record["lesion_share"], record["ema"], record["paint"]) == (0.9, 0.9, 0.5)
    assert record["data"]["scans"] == 4  # the cache and, once more, the same beside it
    # Asked for again, a finished run does nothing.
    weights = (run / "weights.safetensors").read_bytes()
    assert cli.main([*fit, *more, "--steps", "6", "--precision", "32-true"]) == 0
    assert (run / "weights.safetensors").read_bytes() == weights
    model = tmp_path / "tiny"
    assert cli.main(["export", str(run), str(model), "--name", "tiny"]) == 0
    loaded = load_model(model)
    assert loaded.manifest.name == "tiny"
    assert loaded.manifest.training["data"]["scans"] == 4
    assert loaded.manifest.preprocessing.window_low_of == WINDOW_LOW_OF == "volume"
    assert json.loads((cache / "index.json").read_text())["window_low_of"] == "volume"
    out = tmp_path / "scores.json"
    assert cli.main(["evaluate", str(tree), "--model", str(model), "--out", str(out)]) == 0
    scores = json.loads(out.read_text())
    assert scores["summary"]["dice_all_lesioned"]["n"] == 2
    assert set(scores["summary"]["scorers"]) == {"atlas2022", "isles2022", "isles2026"}
    assert "pr_auc" in scores["summary"]["scorers"]["isles2026"]
    assert "simulated strokes" in loaded.manifest.intended_use
    assert len(scores["cases"]) == 2
    assert 0 <= scores["cases"][0]["isles2022.dice"] <= 1
    # One part of a split and one scorer; a split by slice parts no scan from another.
    names = [case["name"] for case in scores["cases"]]
    parts = {"train": {names[0]: None}, "val": {}, "test": {names[1]: None, "sub-gone_ses-1": None}}
    file = tmp_path / "split.json"
    Split("subject", 0, "", parts).save(file)
    only = ["evaluate", str(tree), "--model", str(model), "--out", str(out), "--split", str(file)]
    assert cli.main([*only, "--scorer", "atlas2022"]) == 0
    scores = json.loads(out.read_text())
    assert [case["name"] for case in scores["cases"]] == names[1:]
    assert list(scores["summary"]["scorers"]) == ["atlas2022"]
    assert cli.main([*only, "--part", "val"]) == 2
    Split("slice", 0, "", parts).save(file)
    assert cli.main(only) == 2


def test_a_folder_with_another_run_is_refused(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", str(cache), str(tmp_path), "--network", json.dumps(SPEC), "--batch", "2"]
    fit += ["--precision", "32-true", "--accelerator", "cpu", "--steps"]
    assert cli.main([*fit, "2"]) == 0
    weights = (tmp_path / "weights.safetensors").read_bytes()
    record = (tmp_path / "run.json").read_bytes()
    others = (
        (["2", "--seed", "1"], "seed"),
        (["2", "--also", str(cache)], "data"),
        (["3"], "steps"),
    )
    for other, name in others:
        assert cli.main([*fit, *other]) == 2
        assert f"asked for in another way ({name})" in capsys.readouterr().err
    assert (tmp_path / "weights.safetensors").read_bytes() == weights
    assert (tmp_path / "run.json").read_bytes() == record


def test_a_run_that_is_told_to_end_is_kept_and_says_so(cache: Path, tmp_path: Path) -> None:
    fit = ["fit", str(cache), "RUN", "--network", json.dumps(SPEC), "--batch", "1"]
    fit += ["--steps", "90", "--precision", "32-true", "--threads", "1", "--accelerator", "cpu"]
    stopped, whole = (
        [str(tmp_path / name) if part == "RUN" else part for part in fit]
        for name in ("stopped", "whole")
    )
    process = forked_python.Popen([sys.executable, "-m", "stroketrain.cli", *stopped], text=True)
    assert "step 50" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=120)[1].splitlines()
    assert (process.returncode, told[-1]) == (130, "stroketrain: stopped")
    assert not (tmp_path / "stopped" / "weights.safetensors").exists()
    assert list((tmp_path / "stopped").glob("**/*.ckpt"))
    for arguments in (stopped, whole):
        assert cli.main(arguments) == 0
    one, other = (tmp_path / name / "weights.safetensors" for name in ("stopped", "whole"))
    assert one.read_bytes() == other.read_bytes()


def test_options_that_would_be_ignored_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", str(tmp_path), str(tmp_path / "r")]
    preset = [*fit, "--preset", "unet_paper"]
    for wrong in (["--simulate", "none"], ["--compile"], ["--lr", "0.1"]):
        assert cli.main([*preset, *wrong]) == 2
        assert f"{wrong[0]}: does not apply to a preset" in capsys.readouterr().err
    for wrong in (["--pool", "8"], ["--turnover", "5"], ["--anatomies", "people"]):
        assert cli.main([*fit, *wrong]) == 2
        assert f"{wrong[0]}: is about scans that are simulated" in capsys.readouterr().err
    drawn = ["fit", "none", str(tmp_path / "run"), "--simulate", "none", "--resident", "no"]
    assert cli.main(drawn) == 2
    assert "--resident no: simulated scans are drawn into" in capsys.readouterr().err
    assert cli.main([*fit, "--lr-schedule", "poly"]) == 2
    assert "Add --preset" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path), "--part", "val"]) == 2
    assert "--part: is of a split, but none is given" in capsys.readouterr().err
    assert cli.main(preset) == 2  # there is no cache
    assert "no finished cache" in capsys.readouterr().err


def test_wrong_folders_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", str(tmp_path / "none"), str(tmp_path / "c")]) == 2
    assert cli.main(["prepare", str(tmp_path), str(tmp_path / "c")]) == 2
    assert cli.main(["fit", str(tmp_path), str(tmp_path / "r")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("stroketrain: ") for line in lines)
