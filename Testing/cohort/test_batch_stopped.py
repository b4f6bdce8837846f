"""Batches that are killed, stopped, or meet another one; each in a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cohort_support as support
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cohort.ledger import read_ledger
from StrokeLesionSegLib.lesions import read_sidecar, read_table

LIB_ROOT = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's"),
]


def start(source: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "StrokeLesionSegLib", "batch", str(source), str(out)]
    return subprocess.Popen(
        [*command, *support.QUICK, "--progress", "json", *arguments],
        env={**os.environ, "PYTHONPATH": str(LIB_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str]:
    _, error = process.communicate(timeout=timeout)
    return process.returncode, error


def wait_for_scans(process: subprocess.Popen[str], count: int) -> None:
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


def test_killed_again_and_again_it_loses_nothing(tmp_path: Path) -> None:
    """Kills at random moments; what was recorded as done is never done again."""
    source, out = support.write_cohort(tmp_path / "in", 40), tmp_path / "out"
    chance = random.Random(5)
    killed = 0
    for attempt in range(4):
        process = start(source, out)
        if attempt == 0:
            wait_for_scans(process, 1)
        else:
            wait_for_scans(process, 1)
            time.sleep(chance.uniform(0, 0.15))
        process.kill()
        code, _ = finished(process)
        killed += code == -signal.SIGKILL
        # What is there under a final name is whole, recorded or not.
        for path in out.rglob("sub-*.nii.gz"):
            if not any(part.startswith(".") for part in path.relative_to(out).parts):
                assert np.asarray(nibabel.load(path).dataobj).size
    assert killed == 4
    before = read_ledger(out).scans
    code, error = finished(start(source, out))
    assert (code, error) == (0, "")
    records = support.records(out)
    assert sorted(r["stem"] for r in records) == sorted(f"sub-Case{n}" for n in range(40))
    assert len(support.records(out, "run")) == 5
    assert len(support.records(out, "end")) == 1
    after = read_ledger(out).scans
    assert {stem: after[stem] for stem in before} == before
    check_complete(out)
    assert support.leftovers(out) == []
    assert len(read_table(out / "group_scans.tsv")) == 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    source, out = support.write_cohort(tmp_path / "in", 60), tmp_path / "out"
    process = start(source, out)
    wait_for_scans(process, 2)
    process.send_signal(number)
    code, error = finished(process)
    assert (code, error) == (130, "stroke-lesion-seg: stopped\n")
    done = len(support.records(out))
    assert 2 <= done < 60
    # The tables are those of what is done, and nothing half-done is left.
    assert len(read_table(out / "group_scans.tsv")) == done
    assert len(support.records(out, "end")) == 1
    check_complete(out)
    assert support.leftovers(out) == []
    assert (out / "logs" / "batch.lock").read_text() == ""


def test_a_second_batch_is_turned_away(tmp_path: Path) -> None:
    source, out = support.write_cohort(tmp_path / "in", 60), tmp_path / "out"
    process = start(source, out)
    try:
        wait_for_scans(process, 1)
        before = len(support.records(out, "run"))
        code, error = finished(start(source, out))
        assert code == 2
        assert f"process {process.pid} on" in error
        assert len(error.splitlines()) == 1
        assert len(support.records(out, "run")) == before
    finally:
        process.terminate()
        assert finished(process)[0] == 130
    check_complete(out)
