"""Batches that are killed, stopped, or meet another one; each in a process of its own."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import cohort_support as support
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cohort.ledger import read_ledger
from StrokeLesionSegLib.lesions import read_table

pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's"),
]


def test_killed_again_and_again_it_loses_nothing(tmp_path: Path) -> None:
    """Kills at random moments; what was recorded as done is never done again."""
    source, out = support.write_cohort(tmp_path / "in", 40), tmp_path / "out"
    chance = random.Random(5)
    killed = 0
    for attempt in range(4):
        process = support.start(source, out)
        if attempt == 0:
            support.wait_for_scans(process, 1)
        else:
            support.wait_for_scans(process, 1)
            time.sleep(chance.uniform(0, 0.15))
        process.kill()
        code, _ = support.finished(process)
        killed += code == -signal.SIGKILL
        # What is there under a final name is whole, recorded or not.
        for path in out.rglob("sub-*.nii.gz"):
            if not any(part.startswith(".") for part in path.relative_to(out).parts):
                assert np.asarray(nibabel.load(path).dataobj).size
    assert killed == 4
    before = read_ledger(out).scans
    code, error = support.finished(support.start(source, out))
    assert (code, error) == (0, "")
    records = support.records(out)
    assert sorted(r["stem"] for r in records) == sorted(f"sub-Case{n}" for n in range(40))
    assert len(support.records(out, "run")) == 5
    assert len(support.records(out, "end")) == 1
    after = read_ledger(out).scans
    assert {stem: after[stem] for stem in before} == before
    support.check_complete(out)
    assert support.leftovers(out) == []
    assert len(read_table(out / "group_scans.tsv")) == 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    source, out = support.write_cohort(tmp_path / "in", 60), tmp_path / "out"
    process = support.start(source, out)
    support.wait_for_scans(process, 2)
    process.send_signal(number)
    code, error = support.finished(process)
    assert (code, error) == (130, "stroke-lesion-seg: stopped\n")
    done = len(support.records(out))
    assert 2 <= done < 60
    # The tables are those of what is done, and nothing half-done is left.
    assert len(read_table(out / "group_scans.tsv")) == done
    assert len(support.records(out, "end")) == 1
    support.check_complete(out)
    assert support.leftovers(out) == []
    assert (out / "logs" / "batch.lock").read_text() == ""


def test_a_second_batch_is_turned_away(tmp_path: Path) -> None:
    source, out = support.write_cohort(tmp_path / "in", 60), tmp_path / "out"
    process = support.start(source, out)
    try:
        support.wait_for_scans(process, 1)
        before = len(support.records(out, "run"))
        code, error = support.finished(support.start(source, out))
        assert code == 2
        assert f"process {process.pid} on" in error
        assert len(error.splitlines()) == 1
        assert len(support.records(out, "run")) == before
    finally:
        process.terminate()
        assert support.finished(process)[0] == 130
    support.check_complete(out)
