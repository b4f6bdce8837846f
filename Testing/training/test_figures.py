"""Every figure is drawn from a toy cache and a toy manifest: both formats, not blank."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")
pytest.importorskip("nilearn")
pytest.importorskip("matplotlib")
from PIL import Image
from stroketrain import cli
from stroketrain.commands.figures import OF_DATA
from stroketrain.data.cache import Cache
from stroketrain.figures import of_runs
from stroketrain.papers.facts import FACTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cache")
    images = np.zeros((3, 189, 233, 197), np.uint8)
    masks = np.zeros_like(images)
    images[:, 40:140, 60:180, 50:150] = 150
    masks[0, 80:100, 90:110, 60:80] = 1
    masks[1, 70:95, 100:130, 60:90] = 1
    scans = [
        {"name": f"s{n}_ses-1", "subject": f"s{n}", "site": "R1", "volume_ml": float(m.sum()) / 1e3}
        for n, m in enumerate(masks)
    ]
    np.save(out / "images.npy", images)
    np.save(out / "masks.npy", masks)
    (out / "index.json").write_text(json.dumps({"scans": scans, "fingerprint": "f"}))
    return out


def check(out: Path, name: str) -> None:
    with Image.open(out / f"{name}.png") as image:
        assert min(image.size) > 200
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    assert "<svg" in (out / f"{name}.svg").read_text(encoding="utf-8")[:2000]


@pytest.mark.parametrize("name", OF_DATA)
def test_figures_of_data(folder: Path, tmp_path: Path, name: str) -> None:
    assert cli.main(["figures", name, str(folder), "--out", str(tmp_path)]) == 0
    check(tmp_path, name)


def test_rows_say_what_was_drawn(folder: Path) -> None:
    (line,) = FACTS["pipeline_figure"](Cache.open(folder))
    assert line.startswith("pipeline.png (")
    assert line.endswith("pixels) and pipeline.svg were drawn")


def test_figures_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"train_loss": 0.9, "val_loss": 0.8, "volume_iou": 0.1, "auc": None}
    history = [{**row, "epoch": n, "precision": 0.1 * n, "recall": 0.5} for n in range(4)]
    scans = {f"s{n}": {"subject": f"s{n}", "volume_dice": 0.1 * n, "tp": 5, "fn": 1} for n in "123"
             for n in [int(n)]}  # fmt: skip
    manifests = tmp_path / "m" / "smoke"
    manifests.mkdir(parents=True)
    for key in ("a", "b"):
        (manifests / f"{key}.json").write_text(
            json.dumps({"history": history, "test_scans": scans, "scores": {"test": {}}})
        )
    runs = [
        {"variant": v, "by": "subject", "seed": 0, "key": k}
        for v, k in (("residual", "a"), ("plain", "b"))
    ]
    index = {"data": {}, "rows": {"A13": {"facts": [], "runs": runs}}}
    (manifests / "index.json").write_text(json.dumps(index))
    out = str(tmp_path / "out")
    files = [str(manifests / "a.json"), str(manifests / "b.json")]
    assert cli.main(["figures", "curves", *files, "--out", out]) == 0
    check(tmp_path / "out", "curves")
    where = ["--manifests", str(tmp_path / "m"), "--budget", "smoke", "--out", out]
    assert cli.main(["figures", "bars", "A13", *where]) == 0
    check(tmp_path / "out", "bars_A13")
    assert cli.main(["figures", "bars", "A9", *where]) == 2
    assert cli.main(["figures", "curves", str(tmp_path / "none"), "--out", out]) == 2
    assert "not run at budget smoke" in capsys.readouterr().err


def test_curves_of_a_fit_without_a_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    log = run / "log" / "version_0"
    log.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    out = str(tmp_path / "out")
    assert cli.main(["figures", "curves", str(run), "--out", out]) == 2
    assert "has logged no step" in capsys.readouterr().err
    rows = [f"0,{20 * n},{0.03 * n},{1 - 0.03 * n}" for n in range(1, 30)]
    head = "epoch,step,train/batch_dice,train/loss"
    (log / "metrics.csv").write_text("\n".join([head, *rows]))
    assert cli.main(["figures", "curves", str(run), "--out", out]) == 0
    check(tmp_path / "out", "curves")
    # After a stop, from step 500 on.
    more = log.with_name("version_1")
    more.mkdir()
    (more / "metrics.csv").write_text("\n".join([head, "0,500,0.5,0.25", "0,600,0.6,0.2"]))
    entries = of_runs.steps_of([log / "metrics.csv", more / "metrics.csv"])
    assert list(entries) == [20 * n for n in range(1, 31)]
    assert entries[500]["train/loss"] == "0.25"
    assert cli.main(["figures", "curves", str(run), "--out", out]) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text("{}")
    assert cli.main(["figures", "curves", str(run), str(tmp_path / "other"), "--out", out]) == 2
    assert "not a run of the same kind" in capsys.readouterr().err
    (run / "broken.json").write_text("{")
    assert cli.main(["figures", "curves", str(run / "broken.json"), "--out", out]) == 2
    assert "is not JSON" in capsys.readouterr().err


def test_curves_of_the_volumetric_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", str(tmp_path / "out")
    run.mkdir()
    (run / "state.json").write_text('{"step": 0, "log": []}')
    assert cli.main(["figures", "curves", str(run), "--out", out]) == 2
    assert "has logged no step" in capsys.readouterr().err
    lines = [
        {"step": 50 * n, "minutes": 1.2 * n, "loss": 1 / n, "dice": 0.5, "dice_guided": None}
        for n in range(1, 40)
    ]
    (run / "state.json").write_text(json.dumps({"step": 1950, "log": lines}))
    assert cli.main(["figures", "curves", str(run), "--out", out]) == 0
    check(tmp_path / "out", "curves")
    assert cli.main(["figures", "curves", str(run), str(tmp_path), "--out", out]) == 2
    assert "not a run of the volumetric network" in capsys.readouterr().err


def test_a_panel_of_a_row_says_which_runs_are_not_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifests of a checkout come without the weights of their runs."""
    panel = ["figures", "panel", str(folder), str(tmp_path), "--row", "B3", "--out", str(tmp_path)]
    assert cli.main([*panel, "--seed", "9"]) == 2
    assert "row B3: has no run with seed 9 at budget small" in capsys.readouterr().err
    assert cli.main(panel) == 2
    assert "there are no weights of this run of row B3. Name the" in capsys.readouterr().err


def test_a_cache_that_is_not_whole_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that was being copied, and an index of something else."""

    def refused() -> bool:
        assert cli.main(["split", str(tmp_path), str(tmp_path / "split.json")]) == 2
        return "is not a whole cache" in capsys.readouterr().err

    shutil.copy(folder / "index.json", tmp_path)
    assert refused()
    (tmp_path / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:1_000_000])
    shutil.copy(folder / "masks.npy", tmp_path)
    assert refused()
    (tmp_path / "index.json").write_text('{"rows": {}}')
    assert refused()
