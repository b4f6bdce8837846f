"""The ledger survives torn writes; the lock lets one batch in and outlives no owner."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from StrokeLesionSegLib.cohort import lock as lock_module
from StrokeLesionSegLib.cohort.fingerprint import fingerprint, unchanged
from StrokeLesionSegLib.cohort.ledger import LEDGER_NAME, Ledger, read_ledger
from StrokeLesionSegLib.cohort.lock import LOCK_NAME, STALE_S, FolderLock, read_owner
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.pipeline.contents import scan_files

LIB_ROOT = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"


def scan_record(stem: str, state: str = "done") -> dict[str, object]:
    return {"record": "scan", "stem": stem, "state": state, "name": "Mü\nller\udcff"}


def test_records_come_back_and_the_last_one_counts(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append({"record": "run", "run": "r1", "input": "x"})
        ledger.append(scan_record("sub-1", "failed"))
        ledger.append(scan_record("sub-2"))
        ledger.append(scan_record("sub-1", "done"))
    content = read_ledger(tmp_path)
    assert content.scans == {"sub-1": scan_record("sub-1"), "sub-2": scan_record("sub-2")}
    assert content.runs["r1"]["input"] == "x"
    assert len((tmp_path / LEDGER_NAME).read_bytes().splitlines()) == 4


def test_every_torn_end_is_cut_off(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(scan_record("sub-1"))
        ledger.append(scan_record("sub-2"))
    path = tmp_path / LEDGER_NAME
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        assert set(read_ledger(tmp_path).scans) == {"sub-1"}
        with Ledger(tmp_path) as ledger:
            assert ledger.unreadable == 0
            ledger.append(scan_record("sub-3"))
        assert set(read_ledger(tmp_path).scans) == {"sub-1", "sub-3"}


def test_strange_lines_are_counted_and_harm_nothing(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_NAME
    path.parent.mkdir()
    path.write_bytes(
        b'null\n[]\n{}\n\xff\n{"record": "scan"}\n{"record": "scan", "stem": 1, "state": "x"}\n'
        + json.dumps(scan_record("sub-1")).encode()
        + b"\n"
    )
    with Ledger(tmp_path) as ledger:
        assert set(ledger.scans) == {"sub-1"}
        assert ledger.unreadable == 6


def test_one_batch_at_a_time(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "first"):
        owner = read_owner(tmp_path / LOCK_NAME)
        assert owner is not None
        assert (owner["run"], owner["pid"]) == ("first", os.getpid())
        with (
            pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing there"),
            FolderLock(tmp_path, "second"),
        ):
            pass
        assert read_owner(tmp_path / LOCK_NAME) == owner
    assert read_owner(tmp_path / LOCK_NAME) is None
    with FolderLock(tmp_path, "third"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from StrokeLesionSegLib.cohort.lock import FolderLock\n"
        "with FolderLock(Path(sys.argv[1]), 'child'): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(LIB_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "held"
        with (
            pytest.raises(InputError, match=f"process {child.pid} on"),
            FolderLock(tmp_path, "me"),
        ):
            pass
    finally:
        child.kill()
        child.communicate()
    with FolderLock(tmp_path, "me"):
        assert read_owner(tmp_path / LOCK_NAME)["run"] == "me"  # type: ignore[index]


@pytest.mark.parametrize(("age", "free"), [(0.0, False), (STALE_S + 30, True)])
def test_the_heartbeat_decides_between_machines(
    tmp_path: Path, age: float, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LOCK_NAME
    path.parent.mkdir()
    path.write_text(json.dumps({"run": "r", "pid": 1, "host": f"not-{platform.node()}"}))
    now = time.time() - age
    os.utime(path, (now, now))
    monkeypatch.setattr(lock_module, "SETTLE_S", 0.0)
    if free:
        with FolderLock(tmp_path, "me"):
            pass
    else:
        with pytest.raises(InputError, match="sign of life"), FolderLock(tmp_path, "me"):
            pass
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]


def test_the_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    (out / "logs").mkdir(parents=True)
    (out / LOCK_NAME).symlink_to(victim)
    with pytest.raises(InputError), FolderLock(out, "me"):
        pass
    assert victim.read_text() == "precious"


def test_fingerprints_tell_contents_not_dates(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"12345")
    before = fingerprint(path)
    assert unchanged(path, before)
    os.utime(path, (1, 1))
    assert unchanged(path, before)
    path.write_bytes(b"12346")
    assert not unchanged(path, before)
    path.unlink()
    assert not unchanged(path, before)


def test_fingerprints_of_folders_and_detached_headers(tmp_path: Path) -> None:
    header, data = tmp_path / "a.nhdr", tmp_path / "a.raw"
    header.write_bytes(b"NRRD0004\ndata file: a.raw\n")
    data.write_bytes(b"1")
    assert scan_files(header) == [header, data]
    before = fingerprint(header)
    data.write_bytes(b"2")
    assert not unchanged(header, before)
    other = tmp_path / "a.mhd"
    other.write_bytes(b"NDims = 3\nElementDataFile = a.raw\n")
    assert scan_files(other) == [other, data]
    header.write_bytes(b"NRRD0004\ndata file: ../../secret\n")
    assert scan_files(header) == [header]
    # As teem writes it, in a folder below, and one file a slice.
    (tmp_path / "below").mkdir()
    slices = [tmp_path / "below" / f"{n}.raw" for n in (1, 2)]
    for file in slices:
        file.write_bytes(b"3")
    for told, files in {
        "./a.raw": [data],
        "below/1.raw": slices[:1],
        "LIST\nbelow/1.raw\nbelow/2.raw": slices,
        "below/%d.raw 1 2 1": slices,
    }.items():
        header.write_text(f"NRRD0004\ndata file: {told}\n")
        assert scan_files(header) == [header, *files], told

    folder = tmp_path / "dicom"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "1.dcm").write_bytes(b"1")
    before = fingerprint(folder)
    assert unchanged(folder, before)
    (folder / "sub" / "1.dcm").rename(folder / "1.dcm")
    os.utime(folder / "1.dcm", (5, 5))
    assert not unchanged(folder, before)


def write_owner(out: Path, run: str) -> str:
    text = json.dumps({"run": run, "pid": 1, "host": f"not-{platform.node()}", "since": "now"})
    (out / LOCK_NAME).write_text(text)
    return text


def test_a_batch_that_was_asleep_leaves_the_next_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.02)
    with FolderLock(tmp_path, "old") as lock:
        assert not lock.is_lost()
        text = write_owner(tmp_path, "new")
        time.sleep(0.1)
        os.utime(tmp_path / LOCK_NAME, (1000, 1000))
        time.sleep(0.1)
        assert (tmp_path / LOCK_NAME).stat().st_mtime == 1000  # its heart beats for nobody else
        with pytest.raises(InputError, match="taken over"):
            lock.check()
    assert (tmp_path / LOCK_NAME).read_text() == text


def test_without_the_systems_locks_one_of_two_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen an empty file before either writes its name, and both names were written
    before either looks whose has stayed (however slow the disk is)."""
    both, written = threading.Barrier(2, timeout=20), threading.Barrier(2, timeout=20)
    clock = SimpleNamespace(sleep=lambda seconds: written.wait())
    monkeypatch.setattr(lock_module, "time", clock)
    monkeypatch.setattr(lock_module, "_lock", lambda descriptor: (both.wait(), None)[1])
    ended = threading.Barrier(2, timeout=20)
    inside: list[str] = []

    def enter(run: str) -> None:
        try:
            with FolderLock(tmp_path, run):
                inside.append(run)
                ended.wait()
        except InputError:
            ended.wait()

    threads = [threading.Thread(target=enter, args=(run,)) for run in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 1
