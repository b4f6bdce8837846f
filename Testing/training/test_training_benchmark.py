"""The benchmark of training speed: that it runs, and that its figures are those it measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("monai")


@pytest.mark.slow
def test_three_pipelines_in_one_run(
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(repository / "Testing" / "benchmarks"))
    file = repository / "Testing" / "benchmarks" / "training.py"
    loaded = importlib.util.spec_from_file_location("training_benchmark", file)
    assert loaded
    assert loaded.loader
    benchmark = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(benchmark)
    spec = {"name": "residual_unet", "in_channels": 1, "filters": [4, 8], "skip": "stem"}
    options = ["--device", "cpu", "--network", json.dumps(spec), "--batch", "2", "--scans", "1"]
    options += ["--steps", "2", "--warm", "1", "--workers", "0", "--precision", "32-true"]
    out, table = tmp_path / "out.json", tmp_path / "out.md"
    assert benchmark.main([*options, "--json", str(out), "--markdown", str(table)]) == 0
    result = json.loads(out.read_text())
    rates = result["images_per_second"]
    assert list(rates) == ["ours", "MONAI", "network"]
    assert all(rate > 0 for rate in rates.values())
    assert result["ours_of_network"] == pytest.approx(rates["ours"] / rates["network"], rel=0.05)
    text = table.read_text()
    assert text in capsys.readouterr().out
    assert f"| MONAI | {rates['MONAI']:.1f} |" in text
    assert "| network |" in text
    assert "| 100% |" in text
