"""The benchmark's report says what was measured: medians, ratios, bars, the block in README."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import report  # noqa: E402
from cases import BARS, CASES, REFERENCE  # noqa: E402
from measuring import busy_share, run_process  # noqa: E402


def line(case: str, network: float, precision: str = "float32", **changes: object) -> dict:
    return {
        "case": case, "round": 0, "network_s": network, "volume_s": network + 1, "ready_s": 2.0,
        "process_s": network + 3, "peak_mb": 500.0, "parameters": 2_000_000, "gmac": 100.0,
        "items": 3, "precision": precision, "threads": 2, "cpu": "a CPU", "busy_before": 0.1,
        "when": "2026-01-02T03:04:05+00:00", "versions": {"torch": "2"},
        "key": {"volume": "v"}, **changes,
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
    bars = report.bars_table(rows, {"peak": peak}).splitlines()
    assert "| at least 80 times as fast | 60.00 times | **missed** | 30.00 |" in bars[2]
    assert "| at least 10 times as fast | 12.00 times | yes | 6.00 |" in bars[3]
    assert "bfloat16: share of the matrix-product peak | at least 70% | 50% | **missed**" in bars[4]


def test_the_bars_of_segment_itself_are_judged() -> None:
    stages = {"axial": {"file_to_file_s": 7.9}, "axial, aligned": {"file_to_file_s": 12.3}}
    contended = {"held_to_one_core": {"file_to_file_s": 1.21}}
    parts = {"stages": {"result": stages}, "contended": {"result": contended}}
    assert [bar.met for bar in report.bars({}, parts)] == [True, False, False]
    told = report.verdict({}, parts)
    assert "1 are met" in told
    assert "with alignment: 12.3 s (at most 12 s asked)" in told
    assert "1.21 (at most 1.2 asked)" in told


def test_results_of_another_model_or_volume_are_left_out() -> None:
    def keyed(case: str, network: float, **key: str) -> dict:
        return line(case, network, key={"volume": "new", **key})

    lines = [
        keyed(REFERENCE, 5.0, model="m 1"),
        keyed("ours axial float32", 5.0, model="m 1"),
        line("nnunet-2d", 7.0, key={"volume": "old"}),
        keyed("nnunet-3d", 9.0),
        keyed(REFERENCE, 2.0, model="m 2", round=1),
    ]
    rows = report.summarise(lines)
    assert list(rows) == [REFERENCE, "nnunet-3d"]
    assert rows[REFERENCE]["network_s"] == 2.0


def test_single_runs_are_named() -> None:
    rows = report.summarise(measured())
    assert "single run of: ours, axial, brain box; nnU-Net" in report.runs_told(rows)
    assert report.runs_told({"nnunet-3d": rows["nnunet-3d"]}) == "Every figure is of a single run."


def test_a_gpu_is_named_with_its_own_memory() -> None:
    lines = [
        line("ours axial float16", 0.1, "float16", gpu="a GPU", gpu_peak_mb=123.0),
        line("nnunet-3d", 0.4, "float16", gpu="a GPU", gpu_peak_mb=2345.0),
    ]
    parts = {
        "training-cuda": {
            "result": {
                "images_per_second": {"ours": 90.0, "network": 100.0},
                "batch": 16, "precision": "bf16-mixed", "device": "a GPU",
            },
            "command": "python training.py --device cuda",
            "when": "2026-01-02T03:04:05",
        }
    }  # fmt: skip
    text = report.results_text({}, parts, report.summarise(lines))
    assert "a GPU, a CPU" in text
    assert "| 2345 |" in text
    assert "| 4.0 |" in text  # times ours, in float16
    assert "## Training throughput, on a GPU" in text
    assert "--parts training --device cuda" in text


def test_chosen_cases_are_forgotten_and_failures_are_tried_again(tmp_path: Path) -> None:
    import bench

    log = tmp_path / "side.jsonl"
    log.write_text("".join(json.dumps(one) + "\n" for one in measured()), encoding="utf-8")
    bench.drop_cases(log, {REFERENCE})
    assert [one["case"] for one in bench.read_lines(log)] == [
        "ours axial float32", "nnunet-3d-flips", "nnunet-3d", "monai-3d",
    ]  # fmt: skip
    runner = bench.Bench(
        argparse.Namespace(
            out=tmp_path,
            device="cpu",
            volume=None,
            cases="axial float32,monai-3d",
            rounds=1,
            again=False,
            model=None,
        )
    )
    tried: list[str] = []
    runner.key = lambda peer: {"volume": "v"}
    runner._one = lambda case: tried.append(case.name) or {"network_s": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "PEERS_PYTHON", tmp_path)
        patch.setattr(bench, "facts", dict)
        runner.side()
        runner.side()
    # The failed case again, and what was never measured; nothing twice.
    assert tried == ["ours axial float32 full", "monai-3d", "monai-3d-wide"]


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
    report.put_into_readme(tmp_path / "absent.md", "fourth")  # --out, away from the checkout
    assert "fourth" in (tmp_path / "absent.md").read_text(encoding="utf-8")


def test_readme_block_names_no_option_that_readme_may_not() -> None:
    from test_readme import OTHERS

    rows = report.summarise(measured())
    text = report.readme_text(rows, {})
    assert "Missed" in text
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= OTHERS


def test_report_is_written_from_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("bench", "docs", "Testing/benchmarks"):
        (tmp_path / name).mkdir(parents=True)
    bench = tmp_path / "bench"
    (bench / "side.jsonl").write_text("\n".join(map(json.dumps, measured())), encoding="utf-8")
    growth = {
        "slices": [{"slices": n, "seconds": n / 10} for n in (1, 2)],
        "scans": [{"scans": n, "seconds": n, "peak_mb": 700} for n in (1, 2)],
        "editing": [{"voxels": n, "slice_ms": n, "threshold_ms": n, "click_ms": n} for n in (1, 2)],
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_all_processes_and_not_of_the_one_that_starts_them() -> None:
    """Two children hold 60 MB each, the parent next to nothing; this process has held 400 MB."""
    ballast = bytearray(b"x") * 400_000_000
    del ballast
    child = "import time; a = bytearray(b'x') * 60_000_000; time.sleep(1)"
    code = f"""
import subprocess, sys
both = [subprocess.Popen([sys.executable, "-c", {child!r}]) for _ in range(2)]
[one.wait() for one in both]
"""
    run = run_process([sys.executable, "-c", code])
    assert run.code == 0
    assert 120 < run.peak_mb < 220
    alone = run_process([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert alone.peak_mb < 60


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_busy_share_sees_a_busy_processor() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        share = busy_share(0.5)
        process.kill()
    assert share is not None
    assert 0.5 / os.cpu_count() < share <= 1


def test_cohort_takes_the_template_where_no_scans_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cohort

    seen: list[Path] = []

    def stop(folder: Path, scans: list[Path], count: int) -> Path:
        seen.extend(scans)
        raise SystemExit

    monkeypatch.setenv("STROKE_LESION_SEG_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["cohort.py", "--scans", "2"])
    monkeypatch.setattr(cohort, "make_scan", lambda path: path)
    monkeypatch.setattr(cohort, "make_input", stop)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: None)
    with pytest.raises(SystemExit):
        cohort.main()
    assert [path.name for path in seen] == ["template.nii.gz"]


def test_unknown_parts_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench.py"), "--parts", "speed", "--report"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no part speed" in done.stderr


def test_alignments_of_two_checkouts_are_compared_in_mm_and_by_ratio() -> None:
    import alignment
    import numpy as np

    moved = np.eye(4)
    moved[:3, 3] = 3, 0, 4
    assert alignment.moved_mm(moved, np.eye(4)) == pytest.approx((5.0, 5.0))
    assert alignment.beside({"cold s": 1.0}, [{"cold s": 4.0}], "cold s") == "4.00, 1.00 (x 0.25)"
    assert alignment.beside({"ok": True}, [{"ok": False}], "ok") == "no, yes"
