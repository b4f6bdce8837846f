"""The cohort benchmark's verdict and tables, from figures that are made up."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    folder = REPOSITORY / "Testing" / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("cohort_benchmark", folder / "cohort.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(share: float = 0.9, growth: float | None = 3.0) -> dict[str, Any]:
    memory = {"peak_mb": 1500, "median_mb_by_tenth": [1400]}
    if growth is not None:
        memory["growth_mb_per_100_scans"] = growth
    return {
        "machine": "a machine",
        "cores": 2,
        "scans": 200,
        "network_share": share,
        "cpu_share": 0.5,
        "cpu_s_per_scan": 7.2,
        "seconds_per_scan": 4.0,
        "scans_per_hour": 900,
        "stages_s": {"read": 0.1},
        "memory": memory,
        "ledger_kb_per_scan": 1.0,
        "input_mb_per_scan": 2.0,
        "output_mb_per_scan": {"probseg.nii.gz": 7.0, "mask.nii.gz": 0.1},
    }


def test_the_verdict_names_what_is_missed(bench: ModuleType) -> None:
    def missed(**values: float | None) -> list[bool]:
        return ["MISSED" in line for line in bench.verdicts(figures(**values))]

    assert missed() == [False, False]
    assert missed(share=0.85, growth=20.0) == [False, False]
    assert missed(share=0.84) == [True, False]
    assert missed(growth=20.1) == [False, True]
    assert "not known" in bench.verdicts(figures(growth=None))[1]


def test_the_tables_fit_the_places_in_the_docs(bench: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "scaling.md"
    original = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
    page.write_text(original, encoding="utf-8")
    run = {"result": {"scans": 40, "done": 20, "skipped": 0, "failed": 20}, "exit_code": 3}
    again = {"result": {"scans": 40, "done": 0, "skipped": 20, "failed": 20}, "exit_code": 3}
    tables = {
        "measured": bench.measured_rows(figures()),
        "plan": bench.plan_rows(figures()),
        "bad": bench.bad_rows({**run, "wall_s": 88.0}, {**again, "wall_s": 3.21}),
    }
    for _ in range(2):
        bench.write_tables(page, tables)
        text = page.read_text(encoding="utf-8")
        assert "| second | 40 | 0 | 20 | 20 | 3 | 3.2 |" in text
        # 200 core hours on 80 cores, however busy the two cores were.
        assert "| wall time of 80 workers with one core each | 7.2 s | 2.5 hours |" in text
        assert "120 GB at once" in text
        assert "goal at most 20 MB: met" in text
    assert text.count("<!-- ") == original.count("<!-- ")
    with pytest.raises(SystemExit, match="no place"):
        bench.write_tables(page, {"another": []})


def test_bad_files_are_known_by_their_places(bench: ModuleType) -> None:
    """A DICOM folder's source is a checksum."""
    failures = [
        {"source": "bad/empty.nii", "place": "bad/empty.nii", "error": "is empty."},
        {"source": "dicom-77e2f98e", "place": "bad/series", "error": "contains no images."},
    ]
    result = {"done": 2, "skipped": 0, "failed": 2, "failures": failures}
    run = {"result": result, "exit_code": 3}
    bad = ["bad/series", "bad/empty.nii"]
    bench.check_bad(run, bad, 2, skipped=0)
    with pytest.raises(SystemExit, match="failures listed"):
        bench.check_bad(run, ["bad/other", "bad/empty.nii"], 2, skipped=0)
    with pytest.raises(SystemExit, match="skipped and failed are"):
        bench.check_bad(run, bad, 3, skipped=0)
    with pytest.raises(SystemExit, match="exit code 0"):
        bench.check_bad({**run, "exit_code": 0}, bad, 2, skipped=0)
    failures[1]["error"] = ""
    with pytest.raises(SystemExit, match="failures listed"):
        bench.check_bad(run, bad, 2, skipped=0)
