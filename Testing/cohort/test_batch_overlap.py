"""Preparing, network and finishing of a batch beside each other: overlap, memory, priorities."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import cohort_support as support
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort import local, scan_job
from StrokeLesionSegLib.inference import device

pytestmark = pytest.mark.usefixtures("home")


def test_the_next_scan_is_prepared_while_the_network_runs(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the overlap the network would wait for the reader, and the event never come."""
    source = support.write_cohort(tmp_path / "in", 2)
    second_read = threading.Event()
    waited: list[bool] = []
    prepare, predict = local.prepare, local.predict

    def reading(found, *more):  # type: ignore[no-untyped-def]
        result = prepare(found, *more)
        if found.stem == "sub-Case1":
            second_read.set()
        return result

    def predicting(*arguments):  # type: ignore[no-untyped-def]
        waited.append(second_read.wait(60))
        return predict(*arguments)

    monkeypatch.setattr(local, "prepare", reading)
    monkeypatch.setattr(local, "predict", predicting)
    assert support.batch(source, out) == 0
    assert waited == [True, True]
    (end,) = support.records(out, "end")
    assert 0 < end["network_share"] <= 1


def test_few_scans_are_in_memory_at_a_time(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weakref

    monkeypatch.setattr(local, "helpers", lambda threads: (1, 1))  # as on up to three cores
    source = support.write_cohort(tmp_path / "in", 12)
    prepared: list[weakref.ref[scan_job.Prepared]] = []
    most: list[int] = []
    prepare, predict = local.prepare, local.predict

    def preparing(*arguments):  # type: ignore[no-untyped-def]
        result = prepare(*arguments)
        prepared.append(weakref.ref(result))
        return result

    def counting(*arguments):  # type: ignore[no-untyped-def]
        most.append(sum(reference() is not None for reference in prepared))
        return predict(*arguments)

    monkeypatch.setattr(local, "prepare", preparing)
    monkeypatch.setattr(local, "predict", counting)
    given_back: list[int] = []
    monkeypatch.setattr(device, "release_freed_memory", lambda: given_back.append(1))
    monkeypatch.setattr(local, "_TRIM_EVERY", 4)
    assert support.batch(source, out) == 0
    assert len(prepared) == 12
    assert len(given_back) == 3
    # One just read, one waiting, one in the network, one waiting, one being written.
    assert max(most) <= 5


def test_the_next_head_finds_the_gaps_of_the_one_before(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan alone gives gaps back before it takes much; a batch does not, and only while it
    runs."""
    source = support.write_cohort(tmp_path / "in", 2)
    trimmed: list[int] = []
    monkeypatch.setattr(device, "_keeps_freed", True)
    monkeypatch.setattr(device, "_keeps_gaps", False)
    monkeypatch.setattr(device, "_trim", lambda: trimmed.append(1) or True)
    assert support.batch(source, out) == 0
    assert not trimmed
    scan = next(source.glob("*.nii.gz"))
    mask = tmp_path / "mask.nii.gz"
    assert main(["segment", str(scan), "-o", str(mask), "--model", "tiny", "--align", "none"]) == 0
    assert trimmed


@pytest.mark.parametrize(
    ("threads", "expected"),
    [(1, (1, 1)), (2, (1, 1)), (3, (1, 1)), (4, (2, 1)), (8, (4, 2)), (64, (4, 2))],
)
def test_more_cores_have_more_readers(threads: int, expected: tuple[int, int]) -> None:
    assert local.helpers(threads) == expected


def test_several_readers_and_writers_give_the_same(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every scan once, in whatever order; the readers do work at the same time."""
    source = support.write_cohort(tmp_path / "in", 9)
    (source / "case4.nii.gz").write_bytes(b"broken")
    assert support.batch(source, tmp_path / "one") == 3
    monkeypatch.setattr(local, "helpers", lambda threads: (3, 2))
    meeting = threading.Barrier(3)
    prepare, met = local.prepare, []

    def together(found, *more):  # type: ignore[no-untyped-def]
        if found.stem in ("sub-Case0", "sub-Case1", "sub-Case2"):
            met.append(meeting.wait(60))
        return prepare(found, *more)

    monkeypatch.setattr(local, "prepare", together)
    assert support.batch(source, out) == 3
    assert sorted(met) == [0, 1, 2]
    assert sorted(r["stem"] for r in support.records(out)) == [f"sub-Case{n}" for n in range(9)]
    for mask in (tmp_path / "one").rglob("*_mask.nii.gz"):
        same = out / mask.relative_to(tmp_path / "one")
        assert same.read_bytes() == mask.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_the_network_lets_the_others_go_first(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    nice: dict[str, set[int]] = {}

    def watched(name: str):  # type: ignore[no-untyped-def]
        step = getattr(local, name)

        def call(*arguments):  # type: ignore[no-untyped-def]
            value = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            nice.setdefault(name, set()).add(value)
            return step(*arguments)

        return call

    for name in ("prepare", "predict", "finish"):
        monkeypatch.setattr(local, name, watched(name))
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert support.batch(source, out) == 0
    assert nice["prepare"] == nice["finish"] == {before}
    assert nice["predict"] == {min(19, before + local._NICER)}
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.parametrize("where", ["prepare", "predict", "finish"])
def test_a_thread_that_breaks_ends_the_batch(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Not an error of a scan, but one that no step may swallow: nobody waits for ever."""
    source = support.write_cohort(tmp_path / "in", 6)
    step = getattr(local, where)

    def broken(*arguments):  # type: ignore[no-untyped-def]
        found = arguments[0] if where != "predict" else None
        stem = found.stem if found else arguments[0].run.source.name
        if "ase2" in stem:
            raise SystemExit("enough")
        return step(*arguments)

    monkeypatch.setattr(local, where, broken)
    with pytest.raises(SystemExit, match="enough"):
        support.batch(source, out)
    assert threading.active_count() < 10
    monkeypatch.setattr(local, where, step)
    assert support.batch(source, out) == 0
    assert set(support.states(out).values()) == {"done"}
    assert len(support.states(out)) == 6
