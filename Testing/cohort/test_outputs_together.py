"""Outputs appear together or not at all; an optional one that proves impossible costs no other."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cli_support
import numpy as np
import pydicom
import pytest
from cohort_support import batch
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from StrokeLesionSegLib import outputs, pipeline
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan
from StrokeLesionSegLib.images.formats import dicom_seg
from StrokeLesionSegLib.lesions import read_sidecar, read_table
from StrokeLesionSegLib.outputs import OutputSet

QUICK = ["--align", "none", "--precision", "float32", "--threshold", "0.3", "--force"]


@pytest.fixture(autouse=True)
def _tiny(home: Path) -> None:
    """The tiny model is in use."""


def segment(*arguments: object) -> int:
    return main(["segment", *map(str, arguments), "--model", "tiny", *QUICK])


def raw(dataset: pydicom.Dataset, keyword: str, data: bytes) -> None:
    tag = Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    dataset[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)


def series(folder: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    cli_support.write_dicom_series(folder, uid="1.2.3.4", slices=10)
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)
    return folder


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
KOREAN = "Hong^Gildong=洪^吉洞=홍^길동"
# What is stated, what the bytes are, and the name that is meant.
NAMES = {
    "Japanese": (b"\\ISO 2022 IR 87", None, JAPANESE),
    "Korean": (b"\\ISO 2022 IR 149", None, KOREAN),
    "Latin-1, not stated": (b"", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
    "UTF-8, not stated": (b"", "Müller^Jörg".encode(), "Müller^Jörg"),
    "Latin-1 for UTF-8": (b"ISO_IR 192", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
    "an unknown set": (b"ISO_IR 999", "Müller^Jörg".encode(), "Müller^Jörg"),
    "control characters": (b"", b"Doe^J\x00ohn\n", "Doe^John"),
    "a backslash": (b"", b"Doe\\Roe^J", "Doe Roe^J"),
}


@pytest.mark.filterwarnings("ignore")  # of pydicom, when the test writes such files
@pytest.mark.parametrize("kind", NAMES)
def test_names_in_any_character_set_get_into_dicom_seg(tmp_path: Path, kind: str) -> None:
    stated, data, name = NAMES[kind]

    def change(dataset: pydicom.Dataset) -> None:
        if data is None:
            dataset.SpecificCharacterSet = stated.decode().split("\\")
            dataset.PatientName = name
        else:
            raw(dataset, "SpecificCharacterSet", stated)
            raw(dataset, "PatientName", data)

    scan = read_scan(series(tmp_path / "d", change))
    mask = np.zeros(scan.volume.array.shape, np.uint8)
    mask[2:4, 4:8, 4:8] = 1
    assert dicom_seg.write_dicom_seg(tmp_path / "s.dcm", mask, scan, ("a", "1")) == []
    written = pydicom.dcmread(tmp_path / "s.dcm")
    assert str(written.PatientName) == name
    assert written.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "data", "value", "told"),
    [
        ("StudyDate", b"2020-01-31", "20200131", False),
        ("StudyDate", b"20201399", "", True),
        ("PatientBirthDate", b"unknown ", "", True),
        ("StudyTime", b"12:30:59", "123059", False),
        ("StudyTime", b"anonym", "", True),
        ("PatientSex", b"female", "F", False),
        ("PatientSex", b"?", "", True),
        ("PatientAge", b"61 years", "061Y", False),
        ("PatientAge", b"old ", "", True),
        ("PatientWeight", b"70.5", 70.5, False),
        ("PatientWeight", b"70 kg ", None, True),
    ],
)
def test_dates_and_codes_that_are_none_are_left_empty_and_told(
    tmp_path: Path,
    keyword: str,
    data: bytes,
    value: str | float | None,
    told: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = series(tmp_path / "d", lambda dataset: raw(dataset, keyword, data))
    assert segment(folder, "-o", tmp_path / "m.nii", "--dicom-seg", tmp_path / "s.dcm") == 0
    assert pydicom.dcmread(tmp_path / "s.dcm")[keyword].value == value
    assert (f"{keyword} is" in capsys.readouterr().err) is told


def test_a_seg_that_cannot_be_made_is_known_before_the_network_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> None:
        raise KeyError("something that a library wants")

    folder = series(tmp_path / "d", lambda dataset: None)
    monkeypatch.setattr(dicom_seg, "_segmentation", broken)
    order: list[str] = []
    network = pipeline.runner.ScanRunner.network
    say = pipeline.segment.not_written

    monkeypatch.setattr(
        pipeline.runner.ScanRunner,
        "network",
        lambda *given, **named: (order.append("network"), network(*given, **named))[1],
    )
    monkeypatch.setattr(
        pipeline.segment, "not_written", lambda *given: (order.append("told"), say(*given))[1]
    )
    (tmp_path / "s.dcm").write_bytes(b"of an earlier run")
    arguments = (folder, "-o", tmp_path / "m.nii", "--dicom-seg", tmp_path / "s.dcm", "--overwrite")
    assert segment(*arguments) == 3
    assert order == ["told", "network"]
    captured = capsys.readouterr()
    assert "s.dcm could not be written" in captured.err
    assert "DICOM SEG" not in captured.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "m.json", "m.nii", "m.tsv"]
    sidecar = read_sidecar(tmp_path / "m.json")
    assert "dicom_seg" not in sidecar["outputs"]
    assert any("could not be written" in text for text in sidecar["warnings"])


def test_a_page_that_fails_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("in a picture")

    monkeypatch.setattr("StrokeLesionSegLib.report.write_scan_report", broken)
    scan = cli_support.write_head(tmp_path / "t1.nii.gz")
    assert segment(scan, "--report", tmp_path / "pages") == 3
    assert "ZeroDivisionError: in a picture" in capsys.readouterr().err
    names = ["t1.nii.gz", "t1_lesion.json", "t1_lesion.nii.gz", "t1_lesion.tsv"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == names
    assert list((tmp_path / "pages").iterdir()) == []


def test_in_a_batch_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> None:
        raise KeyError("something that a library wants")

    series(tmp_path / "in" / "sub-1", lambda dataset: None)
    monkeypatch.setattr(dicom_seg, "_segmentation", broken)
    out = tmp_path / "out"
    assert batch(tmp_path / "in", out, "--force", "--dicom-seg", "--reports") == 3
    assert "could not be written" in capsys.readouterr().err
    assert not list(out.rglob("*.dcm"))
    assert list(out.rglob("*_report.html"))
    (row,) = read_table(out / "group_scans.tsv")
    assert row["state"] == "done"
    assert "could not be written" in row["warnings"]
    # The state is remembered, and the scan is not done again.
    assert (
        batch(tmp_path / "in", out, "--force", "--dicom-seg", "--reports", "--progress=json") == 3
    )
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["skipped"], len(last["incomplete"])) == (1, 1)


@pytest.mark.parametrize(
    ("option", "module"), [("--dicom-seg", "dicom_seg"), ("--dicom-sr", "dicom_sr")]
)
def test_a_batch_knows_of_impossible_dicom_before_the_network(
    tmp_path: Path, option: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise KeyError("something that a library wants")

    series(tmp_path / "in" / "sub-1", lambda dataset: None)
    maker = {"dicom_seg": "_segmentation", "dicom_sr": "_report"}[module]
    monkeypatch.setattr(importlib.import_module(f"{dicom_seg.__package__}.{module}"), maker, broken)
    known: list[int] = []
    network = pipeline.ScanRunner.network

    def counted(runner: pipeline.ScanRunner, run: pipeline.ScanRun, **more: object) -> None:
        known.append(len(run.impossible))
        network(runner, run, **more)

    monkeypatch.setattr(pipeline.ScanRunner, "network", counted)
    assert batch(tmp_path / "in", tmp_path / "out", "--force", option) == 3
    assert known == [1]


def test_dicom_results_of_a_cohort_without_dicom_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_support.write_head(tmp_path / "t1.nii.gz")
    options = ("--dicom-sr", "--dicom-rtstruct")
    assert batch(tmp_path / "t1.nii.gz", tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert "contains no DICOM files" in said
    assert "--dicom-sr and --dicom-rtstruct" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_place_that_takes_no_results_is_known_before_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_support.write_head(tmp_path / "case0.nii.gz")
    assert batch(tmp_path / "case0.nii.gz", tmp_path / "out", "--force") == 0
    place = outputs.tempfile.mkdtemp

    def read_only(*arguments: object, **named: object) -> str:
        if "sub-" in str(named.get("dir")):
            raise OSError(errno.EACCES, "Permission denied")
        return place(*arguments, **named)

    monkeypatch.setattr(outputs.tempfile, "mkdtemp", read_only)
    monkeypatch.setattr(
        pipeline.ScanRunner, "prepare", lambda *given, **named: pytest.fail("it was aligned")
    )
    assert batch(tmp_path / "case0.nii.gz", tmp_path / "out", "--force", "--no-resume") == 3
    assert "cannot be written here" in capsys.readouterr().err


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_meanwhile_is_left_as_it_is(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def no_link(*arguments: object, **named: object) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(outputs.os, "link", no_link)
    mask, table = tmp_path / "m.nii", tmp_path / "m.tsv"
    with OutputSet([mask], [(table, ".tsv")]) as ours:
        for file in (mask, table):
            ours.staged(file).write_text("ours")
        mask.write_text("theirs")
        with pytest.raises(InputError, match="appeared during the run"):
            ours.commit()
    assert mask.read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["m.nii"]
    with OutputSet([mask], [(table, ".tsv")], overwrite=True) as ours:
        for file in (mask, table):
            ours.staged(file).write_text("ours")
        ours.commit()
    assert mask.read_text() == "ours"


def test_folders_are_made_and_go_again_if_nothing_comes_into_them(tmp_path: Path) -> None:
    mask, table = tmp_path / "a" / "b" / "m.nii", tmp_path / "a" / "m.tsv"
    with OutputSet([mask], [(table, ".tsv")]) as ours:
        ours.staged(mask).write_text("ours")
    assert list(tmp_path.iterdir()) == []
    with OutputSet([mask], [(table, ".tsv")]) as ours:
        for file in (mask, table):
            ours.staged(file).write_text("ours")
        ours.commit()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "m.nii", "m.tsv"]
    below = mask / "c" / "x.nii"
    with pytest.raises(InputError, match="is not a folder"), OutputSet([below]):
        pass
    scan = cli_support.write_head(tmp_path / "t1.nii.gz")
    assert segment(scan, "-o", tmp_path / "new" / "m.nii") == 0
    assert (tmp_path / "new" / "m.nii").is_file()


@pytest.mark.parametrize("name", ["脳 T1.nii", os.fsdecode(b"M\xfcller T1.nii")])
def test_names_that_the_terminal_cannot_show(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In code pages of old terminals; and names in one of these on a disk of today."""
    try:
        scan = cli_support.write_head(tmp_path / "t1.nii").rename(tmp_path / name)
    except (OSError, UnicodeError):
        pytest.skip("the file system takes no such name")
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert segment(scan, "--report", tmp_path / "pages") == 0
    assert b"T1_lesion.nii" in shown.getvalue()
    stem = name[: -len(".nii")]
    assert read_sidecar(tmp_path / f"{stem}_lesion.json")["warnings"]
    (page,) = (tmp_path / "pages").iterdir()
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert batch(scan, tmp_path / "out", "--force") == 0


def test_what_killed_runs_have_staged_goes_after_a_day(tmp_path: Path) -> None:
    """``segment`` again into a folder: the hidden folders of runs that were killed piled up."""
    for name, hours in (("dead", 25), ("alive", 23)):
        folder = tmp_path / f".stroke-lesion-seg-{name}"
        folder.mkdir()
        (folder / "mask.nii.gz").write_bytes(b"half")
        os.utime(folder, times=(time.time() - 3600 * hours,) * 2)
    (tmp_path / ".stroke-lesion-seg-link").symlink_to(tmp_path / ".stroke-lesion-seg-alive")
    with OutputSet([tmp_path / "mask.nii.gz"]):
        pass
    names = {".stroke-lesion-seg-alive", ".stroke-lesion-seg-link"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_mask_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees a mask may count on its table, even after a kill within the commit."""
    files = [tmp_path / name for name in ("a.nii", "m.json", "z.tsv")]
    placed: list[str] = []
    place = outputs._place
    monkeypatch.setattr(outputs, "_place", lambda a, b: (placed.append(b.name), place(a, b))[1])
    with OutputSet(files[:1], [(f, f.suffix) for f in files[1:]]) as ours:
        for file in files:
            ours.staged(file).write_text("x")
        ours.commit()
    assert placed == ["m.json", "z.tsv", "a.nii"]


@pytest.mark.parametrize("letter", ["x", "ü", "脳"])
def test_long_names_are_refused_at_the_start_or_work(
    tmp_path: Path,
    letter: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    width = len(letter.encode())
    scan = cli_support.write_head(tmp_path / "t1.nii.gz")
    most = (255 - len("__regions.tsv")) // width
    fits = letter * most + "_.nii"
    assert segment(scan, "-o", tmp_path / fits) == 0
    assert (tmp_path / fits).is_file()
    capsys.readouterr()
    monkeypatch.setattr(pipeline.segment, "_read", lambda *given: pytest.fail("the scan was read"))
    assert segment(scan, "-o", tmp_path / (letter * (most + 8) + "_.nii")) == 2
    error = capsys.readouterr().err
    assert "name is too long" in error
    assert error.count("\n") == 1
    deep = tmp_path / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    assert not [p for p in tmp_path.rglob(".*")]


@pytest.mark.usefixtures("no_network_timed")
@pytest.mark.parametrize(
    "command", [["models", "list"], ["info"], ["models", "install", "m.zip"], ["segment"]]
)
def test_no_home_folder(
    tmp_path: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in containers: no HOME, and no entry of the user in the system's list."""
    for name in ("HOME", "STROKE_LESION_SEG_HOME", "XDG_DATA_HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    pwd = pytest.importorskip("pwd")

    def nobody(*arguments: object) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert os.path.expanduser("~") == "~"
    monkeypatch.chdir(tmp_path)
    scan = cli_support.write_head(tmp_path / "t1.nii.gz")
    (tmp_path / "m.zip").write_bytes(b"x")
    before = set(tmp_path.iterdir())
    if command == ["segment"]:
        assert main(["segment", str(scan), "--align", "none", "--force", "--model", "none"]) == 2
        assert "none" in capsys.readouterr().err
        assert main(["segment", "~/t1.nii.gz"]) == 2
        assert "no such home folder" in capsys.readouterr().err
    elif "install" in command:
        assert main(command) == 2
        assert "STROKE_LESION_SEG_HOME" in capsys.readouterr().err
    else:
        assert main(command) == 0
    assert set(tmp_path.iterdir()) == before
