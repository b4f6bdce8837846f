"""The benchmark's report says what was measured: medians, ratios, bars, the block in README."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import report  # noqa: E402
from cases import BARS, CASES, REFERENCE  # noqa: E402
from measuring import run_process  # noqa: E402


def line(case: str, network: float, precision: str = "float32", **changes: object) -> dict:
    return {
        "case": case, "round": 0, "network_s": network, "volume_s": network + 1, "ready_s": 2.0,
        "process_s": network + 3, "peak_mb": 500.0, "parameters": 2_000_000, "gmac": 100.0,
        "items": 3, "precision": precision, "threads": 2, "cpu": "a CPU", "load_before": 0.1,
        "when": "2026-01-02T03:04:05+00:00", "versions": {"torch": "2"}, **changes,
    }  # fmt: skip


def measured() -> list[dict]:
    return [
        line(REFERENCE, 1.0, "bfloat16"),
        line(REFERENCE, 9.0, "bfloat16", round=1, peak_mb=700.0),
        line(REFERENCE, 2.0, "bfloat16", round=2),
        line("ours axial float32", 4.0),
        line("nnunet-3d-flips", 120.0),
        line("nnunet-3d", 24.0),
        line("monai-3d", 1.0, failed="out of memory"),
    ]


def test_names_of_cases_and_bars_fit() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {name for bar in BARS for name in bar[:2]} <= set(names)
    assert set(report.README_ROWS) <= set(names)


def test_rows_are_medians_and_failures_are_left_out() -> None:
    rows = report.summarise(measured())
    assert list(rows) == [REFERENCE, "ours axial float32", "nnunet-3d", "nnunet-3d-flips"]
    assert rows[REFERENCE]["network_s"] == 2.0
    assert rows[REFERENCE]["peak_mb"] == 700.0
    assert rows[REFERENCE]["runs"] == 3


def test_ratios_shares_and_missed_bars_are_said() -> None:
    rows = report.summarise(measured())
    peak = {"gmac_per_s": {"bfloat16": 100.0, "float32": 50.0}}
    assert report.share_of_peak(rows[REFERENCE], peak) == pytest.approx(0.5)
    assert report.share_of_peak(rows["nnunet-3d"], None) is None
    text = report.side_table(rows, peak)
    flips = next(row for row in text.splitlines() if row.startswith("| nnU-Net v2 3d_fullres |"))
    assert "| 60 | 30 |" in flips  # times ours in bfloat16, in float32
    bars = report.bars_table(rows).splitlines()
    assert "60.00 (**missed**) | 80 | 30.00" in bars[2]
    assert "| 12.00 | 10 | 6.00 |" in bars[3]


def test_readme_block_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Name\n\n## Speed\n\nOld words.\n\n## Next\n\nMore.\n", encoding="utf-8")
    report.put_into_readme(readme, "first")
    once = readme.read_text(encoding="utf-8")
    assert once.index("Old words.") < once.index("first") < once.index("## Next")
    report.put_into_readme(readme, "second")
    twice = readme.read_text(encoding="utf-8")
    assert twice == once.replace("first", "second")
    assert twice.count(report.BEGIN) == twice.count(report.END) == 1
    readme.write_text("# Name\n", encoding="utf-8")
    with pytest.raises(ValueError, match="neither"):
        report.put_into_readme(readme, "third")


def test_report_is_written_from_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("bench", "docs", "Testing/benchmarks"):
        (tmp_path / name).mkdir(parents=True)
    bench = tmp_path / "bench"
    (bench / "side.jsonl").write_text("\n".join(map(json.dumps, measured())), encoding="utf-8")
    growth = {
        "slices": [{"slices": n, "seconds": n / 10} for n in (1, 2)],
        "scans": [{"scans": n, "seconds": n, "peak_mb": 700} for n in (1, 2)],
    }
    part = {"result": growth, "command": "python growth.py", "when": "2026-01-02T03:04:05"}
    (bench / "growth.json").write_text(json.dumps(part), encoding="utf-8")
    (tmp_path / "README.md").write_text("# Name\n\n## Speed\n", encoding="utf-8")
    report.write_report(bench, tmp_path, readme=True)
    results = (tmp_path / "Testing" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    assert "### Slices" in results
    assert "`python growth.py`" in results
    assert "| **ours**, axial, brain box | bfloat16 | 2.0 |" in (tmp_path / "README.md").read_text()
    for name in ("benchmark.png", "benchmark-growth.png"):
        assert 2_000 < (tmp_path / "docs" / name).stat().st_size < 100_000


def test_a_failed_process_is_no_result() -> None:
    run = run_process([sys.executable, "-c", "print('{\"a\": 1}'); raise SystemExit(3)"])
    assert (run.code, run.stdout.strip()) == (3, '{"a": 1}')
    with pytest.raises(RuntimeError, match="exit code 3"):
        run.last_json()
    fine = run_process([sys.executable, "-c", "print('noise'); print('{\"a\": 1}')"])
    assert fine.last_json() == {"a": 1}
    assert fine.wall_s > 0
    assert fine.peak_mb > 1


def test_unknown_parts_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench.py"), "--parts", "speed", "--report"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no part speed" in done.stderr
