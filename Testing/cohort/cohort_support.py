"""A small cohort, and looking at what a batch made of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import cli_support
import forked_python
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort.ledger import read_ledger
from StrokeLesionSegLib.lesions import read_sidecar, read_table

LIB_ROOT = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"

# Fast, and enough for what is tested here: everything beside the network.
QUICK = ["--model", "tiny", "--align", "none", "--precision", "float32", "--threshold", "0.3"]


def batch(source: Path, out: Path, *arguments: object) -> int:
    """Run ``stroke-lesion-seg batch`` in this process; its exit code."""
    return main(["batch", str(source), str(out), *QUICK, *map(str, arguments)])


def write_cohort(folder: Path, count: int = 3) -> Path:
    """``count`` scans ``case0.nii.gz`` and so on, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cli_support.write_head(folder / f"case{number}.nii.gz", cli_support.head_array(number))
    return folder


def records(out: Path, kind: str = "scan") -> list[dict[str, Any]]:
    """All records of one kind in a ledger, torn and strange lines being errors."""
    lines = (out / "logs" / "scans.jsonl").read_text(encoding="utf-8").splitlines()
    return [r for r in map(json.loads, lines) if r["record"] == kind]


def states(out: Path) -> dict[str, str]:
    """The last state of each scan, by stem."""
    return {r["stem"]: r["state"] for r in records(out)}


def leftovers(out: Path) -> list[str]:
    """Hidden files and folders in a data set that no finished batch leaves."""
    found = [p.relative_to(out).as_posix() for p in out.rglob(".*")]
    return sorted(name for name in found if name != ".bidsignore")


def outputs(out: Path, stem: str) -> list[Path]:
    return sorted(p for p in out.rglob(f"{stem}_*") if p.is_file())


def start(source: Path, out: Path, *arguments: str) -> forked_python.Popen:
    command = [sys.executable, "-m", "StrokeLesionSegLib", "batch", str(source), str(out)]
    return forked_python.Popen(
        [*command, *QUICK, "--progress", "json", *arguments],
        env={**os.environ, "PYTHONPATH": str(LIB_ROOT)},
        text=True,
    )


def finished(process: forked_python.Popen, timeout: float = 120) -> tuple[int, str]:
    _, error = process.communicate(timeout=timeout)
    return process.returncode, error


def wait_for_scans(process: forked_python.Popen, count: int) -> None:
    """Return when the batch has said that ``count`` scans were worked on."""
    assert process.stdout is not None
    for line in process.stdout:
        count -= "scan" in json.loads(line)
        if count == 0:
            return
    pytest.fail(f"the batch ended early: {process.stderr.read() if process.stderr else ''}")


def check_complete(out: Path) -> None:
    """Every file in the data set can be read, and says the same as the ledger."""
    for record in read_ledger(out).scans.values():
        assert record["state"] == "done"
        for name, size in record["outputs"].items():
            path = out / name
            assert path.stat().st_size == size
            if name.endswith(".nii.gz"):
                assert np.asarray(nibabel.load(path).dataobj).size
            elif name.endswith(".json"):
                assert read_sidecar(path)
            else:
                assert len(read_table(path)) == record["lesions"]
