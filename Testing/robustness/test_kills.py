"""A batch that is killed at random moments, from its first millisecond on, loses nothing.

``STROKE_LESION_SEG_KILLS`` gives the number of kills; see CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import cohort_support as support
import pytest
from StrokeLesionSegLib.cohort.ledger import read_ledger

KILLS = int(os.environ.get("STROKE_LESION_SEG_KILLS", "4"))
SCANS = 12
pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's"),
]


@pytest.mark.timeout(120 * KILLS + 600)
def test_kills_at_random_moments(tmp_path: Path) -> None:
    source = support.write_cohort(tmp_path / "in", SCANS)
    chance = random.Random(int(os.environ.get("STROKE_LESION_SEG_SEED", "17")))
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    rounds = killed = mid_work = 0
    while killed < KILLS:
        out = tmp_path / f"out{rounds}"
        rounds += 1
        ended = False
        while not ended and killed < KILLS:
            known = read_ledger(out).scans
            process = support.start(source, out)
            if chance.random() < 0.25:  # while it starts
                time.sleep(chance.uniform(0, 4))
            else:  # while it works
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(chance.uniform(0, 0.4))
            process.kill()
            code, error = support.finished(process)
            ended = code == 0
            killed += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL), error
            now = read_ledger(out).scans
            # Nothing that was done is forgotten or done again, and nothing is half-written.
            assert {stem: now.get(stem) for stem in known} == known
            mid_work += 0 < len(now) < SCANS
            support.check_complete(out)
        code, error = support.finished(support.start(source, out), timeout=600)
        assert (code, error) == (0, "")
        support.check_complete(out)
        records = support.records(out)
        assert sorted(r["stem"] for r in records) == sorted(f"sub-Case{n}" for n in range(SCANS))
        assert support.leftovers(out) == []
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before
    # A handful of kills may all hit the start or the end.
    assert mid_work or KILLS < 10
