"""Batches in this process: what is written, what is done again, what fails and how that is told."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import bad_scans
import cli_support
import cohort_support as support
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort import local
from StrokeLesionSegLib.lesions import read_table
from StrokeLesionSegLib.pipeline import runner

pytestmark = pytest.mark.usefixtures("home")


def test_a_bids_data_set_becomes_a_bids_derivative(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "bids"
    for session in ("1", "2"):
        folder = source / "sub-01" / f"ses-{session}" / "anat"
        folder.mkdir(parents=True)
        array = cli_support.head_array(int(session))
        cli_support.write_head(folder / f"sub-01_ses-{session}_T1w.nii.gz", array)
        cli_support.write_head(folder / f"sub-01_ses-{session}_label-L_mask.nii.gz", array)
    assert support.batch(source, out) == 0

    start = out / "sub-01" / "ses-2" / "anat"
    assert sorted(p.name for p in start.iterdir()) == [
        "sub-01_ses-2_desc-lesions_stats.tsv",
        "sub-01_ses-2_label-lesion_mask.json",
        "sub-01_ses-2_label-lesion_mask.nii.gz",
        "sub-01_ses-2_label-lesion_probseg.json",
        "sub-01_ses-2_label-lesion_probseg.nii.gz",
    ]
    scan = nibabel.load(source / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii.gz")
    mask = nibabel.load(start / "sub-01_ses-2_label-lesion_mask.nii.gz")
    probability = nibabel.load(start / "sub-01_ses-2_label-lesion_probseg.nii.gz")
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    inside = np.asarray(mask.dataobj) > 0
    np.testing.assert_array_equal(inside, np.asarray(probability.dataobj) >= 0.3)

    side = json.loads((start / "sub-01_ses-2_label-lesion_mask.json").read_text())
    assert side["Type"] == "Lesion"
    assert side["Sources"] == ["bids:input:sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz"]
    assert side["operating_point"]["threshold"] == 0.3
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "StrokeLesionSeg"
    assert (out / described["DatasetLinks"]["input"]).resolve() == source.resolve()

    scans = read_table(out / "group_scans.tsv")
    assert [(r["participant_id"], r["session_id"], r["state"]) for r in scans] == [
        ("sub-01", "ses-1", "done"),
        ("sub-01", "ses-2", "done"),
    ]
    voxel_ml = abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    assert scans[1]["volume_ml"] == pytest.approx(inside.sum() * voxel_ml, rel=1e-4)
    lesions = read_table(out / "group_lesions.tsv")
    assert len(lesions) == sum(r["lesions"] for r in scans)
    assert sum(r["volume_ml"] for r in lesions if r["session_id"] == "ses-2") == pytest.approx(
        scans[1]["volume_ml"], rel=1e-4
    )
    assert support.leftovers(out) == []


def test_segment_and_batch_agree(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    assert support.batch(source, out) == 0
    single = tmp_path / "single.nii.gz"
    assert main(["segment", str(source / "case0.nii.gz"), "-o", str(single), *support.QUICK]) == 0
    batched = out / "sub-Case0" / "anat" / "sub-Case0_label-lesion_mask.nii.gz"
    assert single.read_bytes() == batched.read_bytes()


def test_bad_scans_are_listed_and_the_rest_goes_on_twice_in_a_row(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    bad = [*bad_scans.write_bad_scans(source), "text\nname.nii.gz"]
    (source / bad[-1]).write_text("no scan")
    assert len(bad) == 21
    for done_now in (2, 0):
        assert support.batch(source, out, "--progress", "json") == 3
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        result = said[-1]
        assert (result["done"], result["skipped"], result["failed"]) == (done_now, 2 - done_now, 21)
        assert sorted(f["place"] for f in result["failures"]) == sorted(bad)
        for failure in result["failures"]:
            assert failure["error"].endswith(".")
            assert "\n" not in failure["error"]
            assert "defect" not in failure["error"], failure
            assert str(tmp_path) not in failure["error"]
        assert said[-2]["done"] == said[-2]["total"] == 23
        # What waits is told first, then each scan that is taken up, and what became of it.
        told = [line for line in said[:-1] if "state" in line or "scan" in line]
        waiting, *rest = told
        assert waiting["state"] == "waiting"
        # The second time, those that cannot be compared with what they were.
        assert (len(waiting["stems"]) == 23) == bool(done_now)
        begun = [line["stems"] for line in rest if line.get("state") == "running"]
        taken_up = [stem for stems in begun for stem in stems]
        through = [line["scan"]["stem"] for line in rest if "scan" in line]
        assert taken_up == waiting["stems"]
        assert sorted(through) == sorted(taken_up)
        for stem in through:
            first, last = (n for n, line in enumerate(rest) if stem in json.dumps(line).split('"'))
            assert "stems" in rest[first]
            assert "scan" in rest[last]
    assert support.batch(source, out) == 3
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 21
    assert "failed: text?name.nii.gz: " in shown.err
    rows = read_table(out / "group_scans.tsv")
    assert sorted(r["state"] for r in rows) == ["done"] * 2 + ["failed"] * 21
    assert all(r["error"] for r in rows if r["state"] == "failed")


def test_only_what_changed_is_done_again(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 3)

    def worked_on() -> list[str]:
        count = len(support.records(out)) if out.exists() else 0
        assert support.batch(source, out) == 0
        return sorted(r["stem"] for r in support.records(out)[count:])

    assert worked_on() == ["sub-Case0", "sub-Case1", "sub-Case2"]
    assert worked_on() == []
    os.utime(source / "case0.nii.gz", (1, 1))
    assert worked_on() == []
    cli_support.write_head(source / "case1.nii.gz", cli_support.head_array(17))
    cli_support.write_head(source / "case3.nii.gz", cli_support.head_array(3))
    assert worked_on() == ["sub-Case1", "sub-Case3"]
    (support.outputs(out, "sub-Case2")[0]).unlink()
    assert worked_on() == ["sub-Case2"]
    mask = out / "sub-Case0" / "anat" / "sub-Case0_label-lesion_mask.nii.gz"
    mask.write_bytes(mask.read_bytes()[:-10])
    assert worked_on() == ["sub-Case0"]
    assert support.batch(source, out, "--threshold", "0.35") == 0
    assert [r["stem"] for r in support.records(out)[-4:]] == [f"sub-Case{n}" for n in range(4)]
    assert support.batch(source, out, "--threshold", "0.35", "--no-resume") == 0
    assert len(support.records(out)) == 3 + 2 + 1 + 1 + 4 + 4


def test_what_is_asked_of_a_model_of_others_is_done_again(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    for asked in ((), ("--no-mirror",), ("--no-mirror",), ("--exact",)):
        assert support.batch(source, out, *asked) == 0
    first, second, third = support.records(out)
    assert len({record["settings"] for record in (first, second, third)}) == 3


def test_another_model_under_the_same_name_is_noticed(
    tmp_path: Path, out: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from StrokeLesionSegLib.models import load_model, write_model

    source = support.write_cohort(tmp_path / "in", 1)
    assert support.batch(source, out) == 0
    loaded = load_model("tiny")
    state = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name] += 0.25
    manifest = {k: v for k, v in loaded.manifest.to_dict().items() if k != "weights"}
    other = tmp_path / "home2"
    write_model(other / "models" / "tiny", manifest, state)
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(other))
    assert support.batch(source, out) == 0
    first, second = support.records(out)
    assert first["model_sha256"] != second["model_sha256"]


def test_failures_are_tried_again_when_asked_or_changed(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    bad = source / "late.nii.gz"
    whole = cli_support.write_head(tmp_path / "whole.nii.gz").read_bytes()
    bad.write_bytes(whole[:100])
    assert support.batch(source, out) == 3
    assert support.batch(source, out) == 3
    assert len(support.records(out)) == 2
    assert support.batch(source, out, "--retry-failed") == 3
    assert len(support.records(out)) == 3
    bad.write_bytes(whole)
    assert support.batch(source, out) == 0
    assert support.states(out) == {"sub-Case0": "done", "sub-Late": "done"}


def test_results_of_an_input_that_went_bad_are_removed(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    assert support.batch(source, out) == 0
    (source / "case0.nii.gz").write_bytes(b"broken")
    assert support.batch(source, out) == 3
    assert support.outputs(out, "sub-Case0") == []
    assert len(support.outputs(out, "sub-Case1")) == 5
    assert {r["participant_id"] for r in read_table(out / "group_lesions.tsv")} == {"sub-Case1"}


def test_results_of_an_input_that_cannot_be_reached_are_kept(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    path = tmp_path / "list.txt"
    path.write_text("in/case0.nii.gz\n")
    assert support.batch(path, out) == 0
    (stem,) = support.states(out)
    files = support.outputs(out, stem)
    away = source.rename(tmp_path / "unmounted")
    assert support.batch(path, out) == 3
    assert support.outputs(out, stem) == files
    away.rename(source)
    assert support.batch(path, out) == 0
    assert support.states(out) == {stem: "done"}


def test_a_moved_input_is_recognised_and_a_foreign_one_refused(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    assert support.batch(source, out) == 0
    moved = source.rename(tmp_path / "elsewhere")
    assert support.batch(moved, out) == 0
    assert len(support.records(out)) == 2
    foreign = tmp_path / "site2"
    foreign.mkdir()
    cli_support.write_head(foreign / "case1.nii.gz", cli_support.head_array(99))
    shutil.copytree(moved, source)
    assert support.batch(foreign, out) == 2
    assert "already holds sub-Case1 from another input" in capsys.readouterr().err
    assert len(support.records(out)) == 2
    # Not even if the other input cannot be seen now; but of course if told so.
    moved.rename(tmp_path / "unmounted")
    shutil.rmtree(source)
    assert support.batch(foreign, out) == 2
    assert support.batch(foreign, out, "--no-resume") == 0


def test_a_new_scan_may_take_over_the_short_name(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in"
    for number, site in enumerate(("site22", "site1")):
        folder = source / site / "sub-01"
        folder.mkdir(parents=True)
        array = cli_support.head_array(number)
        cli_support.write_head(folder / "sub-01_T1w.nii.gz", array)
        assert support.batch(source, out) == 0
    found = {r["stem"]: r["source"] for r in support.records(out)}
    assert found.pop("sub-01") == "site1/sub-01/sub-01_T1w.nii.gz"
    assert list(found.values()) == ["site22/sub-01/sub-01_T1w.nii.gz"]
    # The same file in another format, decompressed by hand, say.
    (source / "site1" / "sub-01" / "sub-01_T1w.nii.gz").unlink()
    cli_support.write_head(source / "site1" / "sub-01" / "sub-01_T1w.nii")
    assert support.batch(source, out) == 0
    assert support.records(out)[-1]["stem"] == "sub-01"


def test_hostile_names_stay_inside(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    names = ["..nii.gz_.nii.gz", "a;rm -rf $HOME.nii.gz", "tab\tnew\nline.nii.gz", "<b>x.nii.gz"]
    for number, name in enumerate(names):
        cli_support.write_head(source / f"{number}.nii.gz").rename(source / name)
    content = (source / names[1]).read_bytes()
    with contextlib.suppress(OSError):  # a file system that takes UTF-8 only
        (source / os.fsdecode(b"\xff\xfe.nii.gz")).write_bytes(content)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert support.batch(source, out) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*before, "out"])
    files = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()]
    assert all(name.isascii() and not set(name) & set("\n\t;<>$ ") for name in files)
    table = (out / "group_scans.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in table.splitlines()]
    assert len(lines) == 5
    assert {len(line) for line in lines} == {len(lines[0])}


def test_a_link_in_the_output_leads_nowhere(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    outside = tmp_path / "outside"
    outside.mkdir()
    out.mkdir()
    (out / "logs").mkdir()
    (out / "logs" / "scans.jsonl").write_text("")
    (out / "sub-Case0").symlink_to(outside)
    assert support.batch(source, out) == 3
    assert [p for p in outside.rglob("*") if p.is_file()] == []
    assert support.states(out) == {"sub-Case0": "failed", "sub-Case1": "done"}
    assert "symbolic link" in support.records(out)[0]["error"]


@pytest.mark.parametrize("kind", ["same", "foreign", "subjects", "file"])
def test_unusable_output_folders(tmp_path: Path, out: Path, kind: str) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    if kind == "same":
        out = source
    elif kind == "file":
        out.write_text("x")
    else:
        (out / "sub-01").mkdir(parents=True)
        if kind == "foreign":
            text = '{"Name": "raw data", "BIDSVersion": "1.8.0"}'
            (out / "dataset_description.json").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    assert support.batch(source, out) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_arguments(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    assert support.batch(tmp_path / "missing", out) == 2
    assert support.batch(source, out, "--model", "unknown") == 2
    assert support.batch(source, out, "--workers", "0") == 2
    assert support.batch(source, out, "--workers", "2", "--scheduler", "tcp://x") == 2
    assert not out.exists()
    assert all(
        line.startswith("stroke-lesion-seg") for line in capsys.readouterr().err.split("\n")[:-1]
    )


def test_a_full_disk_stops_the_batch_and_blames_no_scan(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = support.write_cohort(tmp_path / "in", 3)
    real, calls = runner.write_volumes, []

    def full(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "write_volumes", full)
    assert support.batch(source, out) == 2
    assert "disk is full" in capsys.readouterr().err
    assert support.states(out) == {"sub-Case0": "done"}
    assert support.leftovers(out) == []
    assert support.batch(source, out) == 0
    assert len(support.records(out)) == 3


def test_a_defect_fails_one_scan_and_is_kept_for_the_report(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = support.write_cohort(tmp_path / "in", 3)
    real = local.predict

    def broken(prepared, *more):  # type: ignore[no-untyped-def]
        if prepared.run.source.name == "case1.nii.gz":
            raise ZeroDivisionError("ours")
        return real(prepared, *more)

    monkeypatch.setattr(local, "predict", broken)
    assert support.batch(source, out) == 3
    assert sorted(support.states(out).values()) == ["done", "done", "failed"]
    record = next(r for r in support.records(out) if r["state"] == "failed")
    assert "ZeroDivisionError: ours" in record["error"]
    assert "in broken" in record["traceback"]


def test_a_scan_without_enough_memory_is_told_what_helps(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(local, "predict", hungry)
    assert support.batch(support.write_cohort(tmp_path / "in", 1), out) == 3
    (record,) = support.records(out)
    assert "not enough memory" in record["error"]
    assert "fewer workers" in record["error"]
    assert "--views" not in record["error"]  # the model that ships has none


def test_a_defect_with_a_dicom_scan_is_kept_without_the_name_of_its_folder(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    folder = cli_support.write_dicom_series(source / "DOE_JANE" / "T1", uid="1.2.3")

    def broken(*_: object) -> None:
        raise ZeroDivisionError(f"ours, of {folder.parent.name}, in {next(folder.iterdir())}")

    monkeypatch.setattr(local, "predict", broken)
    assert support.batch(source, out) == 3
    (record,) = support.records(out)
    assert "ZeroDivisionError: ours, of the scan, in the scan" in record["error"]
    assert "in broken" in record["traceback"]
    assert "DOE" not in (out / "logs" / "scans.jsonl").read_text(encoding="utf-8")


def test_a_list_with_subjects(tmp_path: Path, out: Path) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    path = tmp_path / "scans.tsv"
    path.write_text("path\tsubject\tsession\nin/case0.nii.gz\t7\tA\nin/case1.nii.gz\t7\tB\n")
    assert support.batch(path, out) == 0
    assert support.states(out) == {"sub-7_ses-A": "done", "sub-7_ses-B": "done"}
    assert (out / "sub-7" / "ses-B" / "anat" / "sub-7_ses-B_label-lesion_mask.nii.gz").is_file()
    assert source.is_dir()


def test_a_list_names_the_series_of_a_dicom_folder(tmp_path: Path, out: Path) -> None:
    uids = ["1.2.826.0.1.3680043.10.511.9.1", "1.2.826.0.1.3680043.10.511.9.2"]
    for number, uid in enumerate(uids):
        folder = tmp_path / "in" / "patient"
        cli_support.write_dicom_series(folder, uid=uid, shift=50.0 * number)
    # Nothing tells which of both is meant.
    path = tmp_path / "list.tsv"
    path.write_text("in/patient\n")
    assert support.batch(path, out) == 3
    (record,) = support.records(out)
    assert "2 series that may be the T1-weighted scan" in record["error"]
    assert record["error"].endswith(
        "Name the series in a list: path, subject, session, SeriesInstanceUID."
    )
    origins = []
    for uid in (*uids, uids[1]):
        path.write_text(f"path\tsubject\tsession\tseries\nin/patient\tP1\t\t{uid}\n")
        assert support.batch(path, tmp_path / "listed") == 0
        side = json.loads(next((tmp_path / "listed").rglob("*_mask.json")).read_text())
        assert side["source"]["series"] == uid
        origins.append(side["source"]["affine_ijk_to_ras_mm"][0][3])
    assert origins[0] != origins[1]
    # Another series is other input; the same one is not done again.
    assert [r["series"] for r in support.records(tmp_path / "listed")] == uids


def test_pages_for_the_group_and_for_every_scan(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    (source / "bad<b>.nii.gz").write_bytes(b"bad")
    assert support.batch(source, out) == 3
    plain = (out / "index.html").read_text(encoding="utf-8")
    assert "sub-Case0" in plain
    assert "this is not a NIfTI file" in plain
    assert "report.html" not in plain
    assert support.batch(source, out, "--reports") == 3
    index = (out / "index.html").read_text(encoding="utf-8")
    for number in range(2):
        name = f"sub-Case{number}/anat/sub-Case{number}_desc-lesions_report.html"
        assert name in index
        page = (out / name).read_text(encoding="utf-8")
        assert f"sub-Case{number}" in page
        assert str(tmp_path) not in page
    assert str(tmp_path) not in index
    # Nothing to do: the page is kept, and made again if it is missing.
    changed = (out / "index.html").stat().st_mtime_ns
    assert support.batch(source, out, "--reports") == 3
    assert (out / "index.html").stat().st_mtime_ns == changed
    (out / "index.html").unlink()
    assert support.batch(source, out, "--reports") == 3
    assert (out / "index.html").is_file()

    capsys.readouterr()
    assert support.batch(source, out, "--atlas", tmp_path / "atlas.nii.gz") == 2
    assert "atlas.nii.gz" in capsys.readouterr().err


def test_volumes_by_region_and_a_changed_atlas(tmp_path: Path, out: Path) -> None:
    from StrokeLesionSegLib.images import mni_brain_mask, write_volume

    source = support.write_cohort(tmp_path / "in", 1)
    atlas, labels = tmp_path / "atlas.nii.gz", tmp_path / "labels.tsv"
    write_volume(atlas, mni_brain_mask())
    labels.write_text("1\tThalamus of test\n")
    arguments = ["--reports", "--atlas", atlas, "--atlas-labels", labels]
    assert support.batch(source, out, *arguments) == 0
    assert support.batch(source, out, *arguments) == 0
    assert len(support.records(out)) == 1
    labels.write_text("1\tPons of test\n")
    assert support.batch(source, out, *arguments) == 0
    assert len(support.records(out)) == 2
    # Not aligned, and not on the MNI grid: the page says that there is nothing by region.
    (page,) = out.rglob("*_report.html")
    assert "Volumes by region need an alignment" in page.read_text(encoding="utf-8")
