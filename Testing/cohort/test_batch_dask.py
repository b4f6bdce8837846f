"""A cohort on Dask workers: same results, models loaded once, a killed worker costs nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cohort_support as support
import pytest
from StrokeLesionSegLib.cohort import BatchOptions, cluster, run_batch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.operating_point import OperatingPointChoice

LIB_ROOT = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
needs_distributed = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason="dask.distributed (extra: cluster) is not installed",
)
pytestmark = pytest.mark.usefixtures("home")


def options(**changes: object) -> BatchOptions:
    engine = SegmentOptions(align="none", precision="float32", threads=1)
    return BatchOptions("tiny", engine, OperatingPointChoice(threshold=0.3), **changes)  # type: ignore[arg-type]


@pytest.fixture
def worker_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes import the Lib from a checkout that is not installed."""
    monkeypatch.setenv("PYTHONPATH", str(LIB_ROOT))


@needs_distributed
@pytest.mark.usefixtures("worker_path")
def test_workers_give_what_one_process_gives_and_a_killed_one_costs_nothing(
    tmp_path: Path,
) -> None:
    source = support.write_cohort(tmp_path / "in", 10)
    (source / "bad.nii.gz").write_bytes(b"bad")
    killed: list[int] = []

    def kill_one(record: object, done: int, total: int) -> None:
        if record is not None and not killed:
            pids = client.run(os.getpid)
            killed.append(next(iter(pids.values())))
            os.kill(killed[0], signal.SIGKILL)

    with cluster.local_workers(2) as client:
        address = client.scheduler.address
        report = run_batch(source, tmp_path / "out", options(scheduler=address), progress=kill_one)
    assert killed
    assert (report.done, len(report.failed), report.total) == (10, 1, 11)
    alone = run_batch(source, tmp_path / "alone", options())
    assert (alone.done, len(alone.failed)) == (10, 1)
    for path in sorted((tmp_path / "alone").rglob("*.nii.gz")):
        other = tmp_path / "out" / path.relative_to(tmp_path / "alone")
        assert path.read_bytes() == other.read_bytes()
    assert support.leftovers(tmp_path / "out") == []
    again = run_batch(source, tmp_path / "out", options())
    assert (again.done, again.skipped, len(again.failed)) == (0, 10, 1)


@needs_distributed
def test_no_scheduler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    monkeypatch.setattr(cluster, "_ANSWER_S", 1.0)
    with pytest.raises(InputError, match="no scheduler answers"):
        run_batch(source, tmp_path / "out", options(scheduler="tcp://127.0.0.1:9"))
    # Another program, such as a web server, which waits for a question that it understands.
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(InputError, match="something else does, without a word in 1 second"):
            run_batch(source, tmp_path / "out", options(scheduler=address))
    assert support.states(tmp_path / "out") == {}


@needs_distributed
@pytest.mark.long
@pytest.mark.usefixtures("worker_path")
def test_a_scheduler_that_goes_away_is_one_line_and_what_is_done_stays(tmp_path: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 6)
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    told = tmp_path / "scheduler.json"
    scheduler = subprocess.Popen(
        [*command, "--port", "0", "--no-dashboard", "--scheduler-file", str(told)],
        stderr=subprocess.DEVNULL,
    )

    def kill(record: object, done: int, total: int) -> None:
        if record is not None:
            scheduler.kill()

    try:
        while not told.is_file():
            time.sleep(0.1)
        address = json.loads(told.read_text())["address"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny"]
        worker += ["--nthreads", "1", "--no-dashboard"]
        with subprocess.Popen(worker, stderr=subprocess.DEVNULL) as process:
            try:
                with pytest.raises(InputError, match="connection to the scheduler was lost"):
                    run_batch(source, tmp_path / "out", options(scheduler=address), progress=kill)
            finally:
                process.kill()
    finally:
        scheduler.kill()
        scheduler.wait()
    done = len(support.states(tmp_path / "out"))
    again = run_batch(source, tmp_path / "out", options())
    assert done
    assert (again.skipped, again.done) == (done, 6 - done)


@needs_distributed
def test_a_scheduler_without_workers_is_said_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import distributed

    monkeypatch.setattr(cluster, "_ASK_S", 0.1)
    source = support.write_cohort(tmp_path / "in", 1)
    with distributed.LocalCluster(
        n_workers=0, processes=False, dashboard_address=None, protocol="tcp"
    ) as alone:
        chosen = options(scheduler=alone.scheduler_address, worker_timeout=0.3)
        with pytest.raises(InputError, match="has had no workers"):
            run_batch(source, tmp_path / "out", chosen)
    assert "no workers; waiting" in caplog.text
    assert support.states(tmp_path / "out") == {}


def test_without_distributed_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    source = support.write_cohort(tmp_path / "in", 1)
    with pytest.raises(InputError, match=r"pip install .dask\[distributed\]"):
        run_batch(source, tmp_path / "out", options(workers=2))
    assert not (tmp_path / "out").exists()


def test_a_task_loads_the_model_once_and_stops_when_superseded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from StrokeLesionSegLib import models
    from StrokeLesionSegLib.cohort.batch import _settings
    from StrokeLesionSegLib.cohort.inputs import find_scans
    from StrokeLesionSegLib.cohort.lock import FolderLock

    source, out = support.write_cohort(tmp_path / "in", 3), tmp_path / "out"
    out.mkdir()
    loads: list[str] = []
    real = models.load_model
    monkeypatch.setattr(models, "load_model", lambda name: loads.append(name) or real(name))
    cluster._model.cache_clear()
    scans = find_scans(source).scans
    settings, _ = _settings(options(), out, "mine")
    with FolderLock(out, "mine"):
        assert cluster.segment_task(scans[0], settings)["state"] == "done"
        assert cluster.segment_task(scans[1], settings)["state"] == "done"
    assert loads == ["tiny"]
    with FolderLock(out, "another"), pytest.raises(InputError, match="taken over"):
        cluster.segment_task(scans[2], settings)
    assert support.outputs(out, "sub-Case2") == []


def test_a_worker_with_another_model_stops_the_batch(tmp_path: Path) -> None:
    cluster._model.cache_clear()
    with pytest.raises(InputError, match="differs on this worker"):
        cluster._model("tiny", "0" * 64, cluster.__version__)
    with pytest.raises(InputError, match=r"has version .*, not 0\.0\.0"):
        cluster._model("tiny", "0" * 64, "0.0.0")


def test_times_are_told_in_words() -> None:
    said = [cluster.in_words(seconds) for seconds in (0.2, 12, 60, 90, 1800)]
    assert said == ["0.2 seconds", "12 seconds", "1 minute", "1.5 minutes", "30 minutes"]
