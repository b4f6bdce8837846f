"""DICOM exports in a batch: one patient is one subject, the T1 is taken, nobody is named."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cli_support
import nibabel
import pydicom
import pytest
from cohort_support import batch, records
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort import find_scans
from StrokeLesionSegLib.cohort.pseudonyms import Pseudonyms
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan
from StrokeLesionSegLib.lesions import read_table

JANE = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "19500102"}
JOHN = {"PatientName": "Doe^John", "PatientID": "4712", "PatientBirthDate": "19510102"}
QUICK = ["--model", "tiny", "--align", "none", "--precision", "float32", "--threshold", "0.3"]


def series(folder: Path, number: int, description: str, study: int = 1, **elements: Any) -> None:
    cli_support.write_dicom_series(
        folder,
        uid=f"1.2.3.{number}",
        study=f"1.2.9.{study}",
        slices=elements.pop("slices", 10),
        SeriesDescription=description,
        **elements,
    )


def study(folder: Path, number: int, **patient: str) -> None:
    """A usual study: localizer, T1 before and after contrast, T2, FLAIR, diffusion."""
    series(folder / "loc", 10 * number, "localizer", number, slices=3, **patient)
    series(folder / "t1", 10 * number + 1, "T1 MPRAGE", number, EchoTime="3", **patient)
    series(folder / "t2", 10 * number + 2, "T2 TSE", number, EchoTime="95", **patient)
    series(folder / "fl", 10 * number + 3, "FLAIR", number, EchoTime="120", **patient)
    series(folder / "gd", 10 * number + 4, "T1 MPRAGE post Gd", number, EchoTime="3", **patient)


def everything_written(out: Path) -> str:
    """Names and texts of all files, for looking whether a name is among them."""
    texts = []
    for file in sorted(out.rglob("*")):
        texts.append(file.name)
        if file.suffix in (".json", ".tsv", ".csv", ".html", ".jsonl", ".md", ".js"):
            texts.append(file.read_text(encoding="utf-8"))
    return "\n".join(texts)


def named(out: Path) -> list[str]:
    """Where Jane and John Doe are named; letters without a mark occur in the pages' pictures."""
    return re.findall(r".{30}doe[_^, ]+jo?[ao]?.{30}", everything_written(out), re.IGNORECASE)


def test_a_patient_is_a_subject_and_what_is_no_t1_is_listed(
    tmp_path: Path, out: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path / "in" / "DOE_JANE", 1, **JANE)
    study(tmp_path / "in" / "DOE_JOHN", 2, **JOHN)
    assert batch(tmp_path / "in", out, "--force", "--reports") == 0
    rows = read_table(out / "group_scans.tsv")
    assert [row["state"] for row in rows] == ["done", "done"]
    assert len({row["participant_id"] for row in rows}) == 2
    assert all(row["participant_id"].startswith("sub-dicom") for row in rows)
    listed = {row["image"]: row["reason"] for row in read_table(out / "group_left_out.tsv")}
    assert len(listed) == 8
    assert {name.split('"')[1] for name in listed} == {
        "localizer", "T2 TSE", "FLAIR", "T1 MPRAGE post Gd",
    }  # fmt: skip
    assert {why for name, why in listed.items() if "localizer" in name} == {"3 images only"}
    assert not named(out)
    # Nothing is done again.
    assert batch(tmp_path / "in", out, "--force", "--reports") == 0
    assert "2 done before" in capsys.readouterr().out


def test_two_studies_of_a_patient_are_sessions_in_their_order(tmp_path: Path) -> None:
    series(tmp_path / "late", 1, "T1 MPRAGE", 1, StudyDate="20200601", **JANE)
    series(tmp_path / "early", 2, "T1 MPRAGE", 2, StudyDate="20190601", **JANE)
    scans = {scan.place: scan for scan in find_scans(tmp_path).scans}
    assert scans["late"].entities.subject == scans["early"].entities.subject
    assert (scans["early"].entities.session, scans["late"].entities.session) == ("1", "2")


def test_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    """Two patients and their contrasts, all files in one folder."""
    for number, patient in ((1, JANE), (2, JOHN)):
        series(tmp_path, 12 * number, "T1 MPRAGE", number, EchoTime="3", **patient)
        series(tmp_path, 11 + 12 * number, "T2 TSE", number, EchoTime="95", **patient)
    cohort = find_scans(tmp_path)
    assert [scan.series for scan in cohort.scans] == ["1.2.3.12", "1.2.3.24"]
    assert len({scan.entities.subject for scan in cohort.scans}) == 2
    assert len(cohort.left_out) == 2


def test_a_series_in_several_folders_is_one(tmp_path: Path) -> None:
    series(tmp_path / "cd" / "a", 1, "T1 MPRAGE", **JANE)
    (tmp_path / "cd" / "b").mkdir()
    for file in sorted((tmp_path / "cd" / "a").iterdir())[:5]:
        file.rename(tmp_path / "cd" / "b" / file.name)
    (scan,) = find_scans(tmp_path).scans
    assert scan.path == tmp_path / "cd"


def test_series_whose_images_bear_uids_of_their_own_are_told_apart(tmp_path: Path) -> None:
    """A folder with two studies, of which one has a FLAIR, too."""
    series(tmp_path, 11, "T1 MPRAGE", 1, EchoTime="3", StudyDate="20190601", **JANE)
    series(tmp_path, 22, "FLAIR", 1, EchoTime="120", StudyDate="20190601", **JANE)
    series(tmp_path, 33, "T1 MPRAGE", 2, EchoTime="3", StudyDate="20200601", **JANE)
    for file in tmp_path.iterdir():
        image = pydicom.dcmread(file)
        image.SeriesInstanceUID += f".{image.InstanceNumber}"
        image.save_as(file)
    cohort = find_scans(tmp_path)
    assert [scan.entities.session for scan in cohort.scans] == ["1", "2"]
    assert list(cohort.left_out.values()) == ['FLAIR (echo time 120 ms, "FLAIR")']
    for scan, study_uid in zip(cohort.scans, ("1.2.9.1", "1.2.9.2"), strict=True):
        read = read_scan(scan.path, series=scan.series)
        assert (read.volume.array.shape[0], len(read.header["series"]["files"])) == (10, 10)
        assert read.header["series"]["StudyInstanceUID"] == study_uid
    with pytest.raises(InputError, match=r"2 series that may be .* Choose one with --series UID"):
        read_scan(tmp_path)


def test_repeats_of_a_sequence_are_runs(tmp_path: Path) -> None:
    series(tmp_path / "a", 1, "T1 MPRAGE", **JANE)
    series(tmp_path / "b", 2, "T1 MPRAGE", **JANE)
    stems = [scan.stem for scan in find_scans(tmp_path).scans]
    assert len(stems) == 2
    assert {stem.split("_")[-1] for stem in stems} == {"run-1", "run-2"}
    assert len({stem.split("_")[0] for stem in stems}) == 1


@pytest.mark.parametrize("identifier", ["001", "ANON", ""])
def test_people_who_share_a_number_are_not_merged(tmp_path: Path, identifier: str) -> None:
    """A number of a site, or what anonymisers write for everybody, is no patient."""
    who = {"PatientID": identifier, "PatientName": "Anon", "PatientBirthDate": ""}
    for number, site in enumerate(("siteA", "siteB"), start=1):
        series(tmp_path / site / "x", number, "T1 MPRAGE", number, **who)
    assert len({scan.entities.subject for scan in find_scans(tmp_path).scans}) == 2


def test_a_t1_that_is_of_no_use_has_failed_and_others_are_no_failures(
    tmp_path: Path, out: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series(tmp_path / "in" / "DOE_JANE", 1, "T1 MPRAGE", 1, slices=4, **JANE)
    series(tmp_path / "in" / "DOE_JOHN", 2, "T2 TSE", 2, EchoTime="95", **JOHN)
    study(tmp_path / "in" / "c", 3, PatientID="9", PatientName="C")
    assert batch(tmp_path / "in", out, "--force") == 3
    # The terminal says where the failed one lies, the results do not.
    assert "DOE_JANE" in capsys.readouterr().err
    assert not named(out)
    rows = {row["state"]: row for row in read_table(out / "group_scans.tsv")}
    assert set(rows) == {"done", "failed"}
    assert "T1 MPRAGE" in rows["failed"]["error"]


@pytest.mark.parametrize(
    "text",
    [
        "patient,subject\n4711,S01\nDoe^John,S02\n",
        '"id";"pseudonym"\n"doe, jane";"sub-S01"\n"4712";"S02"\n',
        "DOE_JANE\tS01\nDOE_JOHN\tS02\n",
    ],
)
def test_pseudonyms_of_a_table(tmp_path: Path, out: Path, home: Path, text: str) -> None:
    series(tmp_path / "in" / "DOE_JANE", 1, "T1 MPRAGE", 1, **JANE)
    series(tmp_path / "in" / "DOE_JOHN", 2, "T1 MPRAGE", 2, **JOHN)
    key = tmp_path / "key.csv"
    key.write_text(text)
    assert batch(tmp_path / "in", out, "--force", "--pseudonyms", key) == 0
    rows = read_table(out / "group_scans.tsv")
    assert {row["participant_id"] for row in rows} == {"sub-S01", "sub-S02"}
    assert not named(out)


def test_names_of_folders_go_and_come_with_the_option(
    tmp_path: Path, out: Path, home: Path
) -> None:
    series(tmp_path / "in" / "DOE_JANE", 1, "T1 MPRAGE", 1, **JANE)
    for asked, told in (((), False), (("--source-names",), True), ((), False), ((), False)):
        assert batch(tmp_path / "in", out, "--force", *asked) == 0
        (row,) = read_table(out / "group_scans.tsv")
        assert (row["source"] == "DOE_JANE") is told
        (sidecar,) = out.rglob("*_label-lesion_mask.json")
        assert ("DOE_JANE" in sidecar.read_text(encoding="utf-8")) is told
    assert len(records(out)) == 3


def test_pseudonyms_of_image_files(tmp_path: Path, out: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    cli_support.write_head(tmp_path / "in" / "doe_jane.nii.gz")
    key = tmp_path / "key.tsv"
    key.write_text("doe_jane\tS01\n")
    assert batch(tmp_path / "in", out, "--reports", "--pseudonyms", key) == 0
    assert [row["participant_id"] for row in read_table(out / "group_scans.tsv")] == ["sub-S01"]
    assert not named(out)


def test_images_that_are_left_out_are_not_named_where_patients_have_pseudonyms(
    tmp_path: Path,
) -> None:
    source = tmp_path / "in"
    (source / "DOE_JANE").mkdir(parents=True)
    images = ("T1.nii", "T1.mgz", "T1_brain.nii", "FLAIR.nii", "x.par", "x.rec", "n_part-phase.nii")
    for name in (*(f"DOE_JANE/{image}" for image in images), "doe_john.nii", "c1doe_john.nii"):
        (source / name).write_bytes(b"")
    (tmp_path / "key.tsv").write_text("DOE_JANE\tS01\ndoe_john\tS02\n")
    pseudonyms = Pseudonyms(tmp_path / "key.tsv")
    told = find_scans(source, pseudonyms=pseudonyms).left_out
    assert sorted(told.values()) == [
        "a Philips PAR/REC image, which is not read", "a copy", "a copy", "a map or field",
        "a phase image", "another contrast",
    ]  # fmt: skip
    assert not re.search("doe|jo?[ao]", " ".join((*told, *told.values())), re.IGNORECASE)
    named = find_scans(source, pseudonyms=pseudonyms, source_names=True).left_out
    assert named["DOE_JANE/T1_brain.nii"] == "a copy of T1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("patient,subject\n1,A\n1,B\n", "second pseudonym"),
        ("patient,subject\n1,\n", "lacks"),
        ("patient,subject\n", "no pseudonyms"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "k.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        Pseudonyms(tmp_path / "k.csv")


@pytest.mark.parametrize("given", [None, "Case 7"])
def test_segment_names_nobody_unless_asked(tmp_path: Path, home: Path, given: str | None) -> None:
    series(tmp_path / "DOE_JANE", 1, "T1 MPRAGE", **JANE)
    more = ["--force", "--report", str(tmp_path / "pages")]
    more += ["--label", given] if given else []
    assert main(["segment", str(tmp_path / "DOE_JANE"), *QUICK, *more]) == 0
    for file in (tmp_path / "DOE_JANE").iterdir():
        file.unlink()
    os.rmdir(tmp_path / "DOE_JANE")
    assert not named(tmp_path)
    written = everything_written(tmp_path)
    assert written.count(given or "dicom-") >= 5
    assert main(["segment", "x.nii", "--label", "a/b"]) == 2


def test_a_folder_that_is_called_as_a_word_or_a_number_changes_no_message(
    tmp_path: Path, out: Path, home: Path
) -> None:
    for name, patient in (("a", JANE), ("12", JOHN)):
        series(tmp_path / "in" / name, len(name), "T1 MPRAGE", len(name), slices=12, **patient)
        (tmp_path / "in" / name / f"{len(name)}_006.dcm").unlink()
    assert batch(tmp_path / "in", out, "--force") == 3
    for record in records(out):
        assert re.fullmatch(
            r'series "T1 MPRAGE" \(11 images, UID 1\.2\.3\.(\d)\): 1 slice is missing between '
            r"file 6 and file 7\. Export all its slices\.",
            record["error"],
        )


@pytest.mark.parametrize("option", [[], ["--source-names"]])
def test_files_that_a_scanner_calls_as_the_patient_are_not_named(
    tmp_path: Path, out: Path, home: Path, option: list[str]
) -> None:
    """As Siemens exports them; one slice of the T1 is missing, and the FLAIR cannot be used."""
    source = tmp_path / "in" / "p1"
    series(source, 1, "T1 MPRAGE", EchoTime="3", slices=12, **JANE)
    series(source, 2, "FLAIR", EchoTime="120", **JANE)
    for file in sorted(source.iterdir()):
        image = pydicom.dcmread(file)
        if image.SeriesDescription == "FLAIR":
            del image.ImagePositionPatient
            image.save_as(file)
        number = f"{image.SeriesInstanceUID[-1]}.{image.InstanceNumber:04d}"
        file.rename(source / f"DOE_JANE.MR.HEAD.{number}.IMA")
    (source / "DOE_JANE.MR.HEAD.1.0005.IMA").unlink()
    assert batch(tmp_path / "in", out, "--force", *option) == 3
    (record,) = records(out)
    between = "file 4 and file 5"
    if option:
        between = "DOE_JANE.MR.HEAD.1.0004.IMA and DOE_JANE.MR.HEAD.1.0006.IMA"
    assert f"1 slice is missing between {between}. " in record["error"]
    (row,) = read_table(out / "group_left_out.tsv")
    assert row["reason"] == "an image has no position, orientation or pixel spacing (file 1)"
    assert bool(named(out)) is bool(option)


@pytest.mark.parametrize(
    "emptied", [{"PatientName": ""}, dict.fromkeys(JANE, ""), {"PatientName": "Anonymous"}]
)
def test_a_series_whose_patient_is_not_named_in_one_of_its_folders_is_one_scan(
    tmp_path: Path, out: Path, home: Path, emptied: dict[str, str]
) -> None:
    for name, patient in (("a", {**JANE, **emptied}), ("b", JANE)):
        series(tmp_path / "in" / name, 1, "T1 MPRAGE", slices=20, **patient)
    for number in range(20):
        name = "b" if number < 10 else "a"
        (tmp_path / "in" / name / f"1_{number:03d}.dcm").unlink()
    assert batch(tmp_path / "in", out, "--force") == 0
    (row,) = read_table(out / "group_scans.tsv")
    mask = nibabel.load(next(out.rglob("*_label-lesion_mask.nii.gz")))
    assert (row["state"], mask.shape[2]) == ("done", 20)
    # Named by the folder of the images that tell whose they are.
    series(tmp_path / "other" / "b", 1, "T1 MPRAGE", **JANE)
    assert (
        row["participant_id"] == f"sub-{find_scans(tmp_path / 'other').scans[0].entities.subject}"
    )


def test_the_data_file_of_a_header_with_a_pseudonym_is_not_named(
    tmp_path: Path, out: Path, home: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 40 45 12\nencoding: raw\n"
    (source / "DOE_JANE.nhdr").write_text(f"{header}data file: DOE_JANE.raw\n")
    table = tmp_path / "names.tsv"
    table.write_text("DOE_JANE\tP1\n")
    assert batch(source, out, "--pseudonyms", table) == 3
    (record,) = records(out)
    assert "its data file sub-P1.raw is missing" in record["error"]
    assert "DOE_JANE" not in everything_written(out)


def test_single_images_of_several_patients_are_told_to_be_that(
    tmp_path: Path, out: Path, home: Path
) -> None:
    for number in range(12):
        patient = JANE if number < 6 else JOHN
        series(tmp_path / "all", 1, "T1 MPRAGE", slices=12, **patient)
        (tmp_path / "all" / f"1_{number:03d}.dcm").rename(tmp_path / f"{number}.dcm")
    for file in (tmp_path / "all").iterdir():
        file.unlink()
    for number in range(12):
        image = pydicom.dcmread(tmp_path / f"{number}.dcm")
        image.SeriesInstanceUID = f"1.2.3.{number + 1}"
        image.save_as(tmp_path / "all" / f"{number}.dcm")
    assert batch(tmp_path / "all", out, "--force") == 3
    (record,) = records(out)
    assert "its images bear identifiers of 2 patients" in record["error"]
