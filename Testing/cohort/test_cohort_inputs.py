"""Which files count as scans, and what their outputs are called."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort.image_names import why_not
from StrokeLesionSegLib.cohort.inputs import find_scans
from StrokeLesionSegLib.cohort.naming import Entities, entities_of, tell_apart
from StrokeLesionSegLib.cohort.options import BatchOptions
from StrokeLesionSegLib.cohort.participants import read_participants
from StrokeLesionSegLib.cohort.plan import selected
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.file_formats import split_name

STEM = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?(_[a-z]+-[A-Za-z0-9]+)*\Z")


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def stems(source: Path, **more: Path) -> dict[str, str]:
    return {found.relative: found.stem for found in find_scans(source, **more).scans}


def test_bids_with_and_without_sessions(tmp_path: Path) -> None:
    make(
        tmp_path,
        "dataset_description.json",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_T1w.json",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T1w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_acq-mprage_T1w.nii",
        "sub-02/ses-b/func/sub-02_ses-b_task-rest_bold.nii.gz",
        "derivatives/other/sub-01/anat/sub-01_space-MNI152NLin6Asym_desc-preproc_T1w.nii.gz",
        "sourcedata/sub-01_T1w.nii.gz",
        ".git/annex/sub-03_T1w.nii.gz",
    )
    cohort = find_scans(tmp_path)
    assert {s.relative: (s.stem, s.entities.folder.as_posix()) for s in cohort.scans} == {
        "sub-01/anat/sub-01_T1w.nii.gz": ("sub-01", "sub-01/anat"),
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz": (
            "sub-02_ses-a_run-1",
            "sub-02/ses-a/anat",
        ),
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T1w.nii.gz": (
            "sub-02_ses-a_run-2",
            "sub-02/ses-a/anat",
        ),
        "sub-02/ses-b/anat/sub-02_ses-b_acq-mprage_T1w.nii": (
            "sub-02_ses-b_acq-mprage",
            "sub-02/ses-b/anat",
        ),
    }
    assert cohort.passed_over == (
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-02/ses-b/func/sub-02_ses-b_task-rest_bold.nii.gz",
    )


def test_scans_below_derivatives_count_if_there_are_no_others(tmp_path: Path) -> None:
    name = "train/derivatives/ATLAS/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_T1w.nii.gz"
    make(tmp_path, name)
    assert stems(tmp_path) == {name: "sub-r001s001_ses-1"}
    make(tmp_path, "sub-9/anat/sub-9_T1w.nii.gz")
    assert list(stems(tmp_path).values()) == ["sub-9"]


def test_atlas_trees(tmp_path: Path) -> None:
    space = "space-MNI152NLin2009aSym"
    r2 = "ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1"
    r3 = "R3/R002/sub-r002s001/ses-1/anat/sub-r002s001_ses-1_space-orig"
    make(
        tmp_path,
        f"{r2}_{space}_T1w.nii.gz",
        f"{r2}_{space}_label-L_desc-T1lesion_mask.nii.gz",
        f"{r3}_desc-brain_T1w.nii.gz",
        f"{r3}_label-lesion_desc-T1lesion_mask.nii.gz",
        "ATLAS_R1.1/Site1/031768/t01/031768_t1w_deface_stx.nii.gz",
        "ATLAS_R1.1/Site1/031768/t01/031768_LesionSmooth_stx.nii.gz",
        "ATLAS_R1.1/Site1/031768/t01/031768_LesionSmooth_1_stx.nii.gz",
        "standard_MNI/c0008/c0008s0011t01/c0008s0011t01_t1w_stx.nii.gz",
        "standard_MNI/c0008/c0008s0011t01/c0008s0011t01_LesionSmooth_stx.nii.gz",
    )
    cohort = find_scans(tmp_path)
    assert sorted(s.stem for s in cohort.scans) == [
        "sub-031768_ses-t01",
        "sub-c0008s0011_ses-t01",
        "sub-r001s001_ses-1_space-MNI152NLin2009aSym",
        "sub-r002s001_ses-1_space-orig",
    ]
    assert len(cohort.passed_over) == 5


def test_a_folder_of_files(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.nii.gz",
        "b_T1w_brain.nii",
        "deep/er/c.nrrd",
        "d.mha",
        "pair.hdr",
        "pair.img",
        "detached.nhdr",
        "detached.raw",
        "notes.txt",
        "a_lesion.nii.gz",
        "b_T1w_seg.nii.gz",
        "x_FLAIR.nii.gz",
    )
    assert stems(tmp_path) == {
        "a.nii.gz": "sub-A",
        "b_T1w_brain.nii": "sub-BBrain",
        "d.mha": "sub-D",
        "deep/er/c.nrrd": "sub-DeepErC",
        "detached.nhdr": "sub-Detached",
        "pair.hdr": "sub-Pair",
    }


def test_dicom_folders_are_scans(tmp_path: Path) -> None:
    import cli_support

    cli_support.write_dicom_series(tmp_path / "p1" / "s1", uid="1.2.3.4", slices=2)
    cli_support.write_dicom_series(tmp_path / "p2", uid="1.2.3.5", slices=2)
    for file in (tmp_path / "p2").iterdir():
        file.rename(file.with_suffix(""))
    make(tmp_path / "p3", "broken.dcm")
    # Two slices are of no use, but what calls itself T1 is not passed over in silence.
    scans = find_scans(tmp_path, source_names=True).scans
    assert {scan.relative for scan in scans} == {"p1/s1", "p2", "p3"}
    (found,) = stems(tmp_path / "p2").values()
    assert found.startswith("sub-dicom")


def test_names_of_dicom_folders_stay_out_of_the_labels(tmp_path: Path) -> None:
    """They are often the patients'; BIDS entities and what the user says in a list are kept."""
    import cli_support

    folders = ("DOE_JANE/T1", "DOE_JOHN/T1", "sub-07/ses-2/dicom")
    for number, folder in enumerate(folders):
        cli_support.write_dicom_series(
            tmp_path / "in" / folder, uid=f"1.2.3.{number}", study=f"1.2.4.{number}", slices=2
        )
    found = stems(tmp_path / "in")
    assert "DOE" not in repr(found)
    assert "sub-07_ses-2" in found.values()
    found = {place: stem for place, stem in found.items() if stem != "sub-07_ses-2"}
    assert len(set(found.values())) == 2
    assert all(re.fullmatch("sub-dicom[0-9a-f]{8}", stem) for stem in found.values())
    assert stems(tmp_path / "in").items() >= found.items()
    listed = tmp_path / "list.tsv"
    listed.write_text("in/DOE_JANE/T1\t12\nin/DOE_JOHN/T1\nin/DOE_JIM/IM1.dcm\nin/DOE_JOAN/T1\n")
    first, *rest = stems(listed).values()
    assert first == "sub-12"
    assert not [stem for stem in rest if "DOE" in stem.upper()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lesion_study_07_T1w.nii.gz", True),
        ("x_T1w_lesion.nii.gz", False),
        ("x_T1w_label-lesion_mask.nii.gz", False),
        ("patient_t2_flair.nii.gz", False),
        ("t1_and_t2_session.nii.gz", True),
        ("pd_03.nii.gz", True),
        ("sub-01_label-lesion_probseg.nii.gz", False),
        ("sub-01_ses-2.nii.gz", True),
    ],
)
def test_names_of_masks_and_other_contrasts(name: str, expected: bool) -> None:
    assert (not why_not(Path(name), split_name(Path(name))[1])) is expected


@pytest.mark.parametrize("ending", [".nii.gz.gz", ".nii.zst", ".mnc"])
def test_a_scan_in_a_format_that_is_not_read_counts(tmp_path: Path, ending: str) -> None:
    make(tmp_path, f"sub-01_T1w{ending}", f"sub-01_FLAIR{ending}", f"P7{ending}")
    cohort = find_scans(tmp_path)
    assert [s.relative for s in cohort.scans] == [f"P7{ending}", f"sub-01_T1w{ending}"]
    assert cohort.left_out == {f"sub-01_FLAIR{ending}": "another kind of image (_FLAIR)"}


def test_labels_that_bids_does_not_know_tell_subject_and_session(tmp_path: Path) -> None:
    source = make(
        tmp_path / "in",
        "sub-P-01/ses-pre-op/anat/sub-P-01_ses-pre-op_T1w.nii.gz",
        "sub-P-01/ses-post-op/anat/sub-P-01_ses-post-op_T1w.nii.gz",
        "sub-02_ses-2020-01-15_acq-mp.rage_T1w.nii.gz",
        "sub-Müller/anat/sub-Müller_ses-prä_T1w.nii.gz",
    )
    assert sorted(scan.stem for scan in find_scans(source).scans) == [
        "sub-02_ses-20200115_acq-mprage", "sub-Muller_ses-pra",
        "sub-P01_ses-postop", "sub-P01_ses-preop",
    ]  # fmt: skip
    (source / "participants.tsv").write_text("participant_id\tage\nsub-P-01\t60\n02\t70\n")
    people = read_participants(source, ["sub-P01", "sub-02"])
    assert (people.of("sub-P01"), people.notes) == ({"age": "60"}, ())
    chosen = BatchOptions(participants=("sub-P-01",), sessions=("post-op",))
    (scan,) = selected(find_scans(source).scans, chosen, source)
    assert scan.stem == "sub-P01_ses-postop"


def test_same_names_are_told_apart_and_stay_so(tmp_path: Path) -> None:
    make(
        tmp_path,
        "site1/sub-01/anat/sub-01_T1w.nii.gz",
        "site22/sub-01/anat/sub-01_T1w.nii.gz",
        "one.nii",
        "One.nii",
    )
    found = stems(tmp_path)
    assert found["site1/sub-01/anat/sub-01_T1w.nii.gz"] == "sub-01"
    other = found["site22/sub-01/anat/sub-01_T1w.nii.gz"]
    assert re.fullmatch(r"sub-01_rec-[0-9a-f]{8}", other)
    assert len({stem.casefold() for stem in found.values()}) == 4
    make(tmp_path, "site333/sub-02/anat/sub-02_T1w.nii.gz")
    assert stems(tmp_path).items() > found.items()


def test_a_copy_in_mni_space_is_told_apart_from_the_results_there() -> None:
    """A list may name both; in a folder the copy is left out."""
    names = ("sub-01_T1w.nii", "sub-01_space-MNI152NLin2009aSym_T1w.nii", "sub-02_T1w.nii")
    chosen = tell_apart([(name, entities_of(name)) for name in names])
    assert [chosen[0].stem, chosen[2].stem] == ["sub-01", "sub-02"]
    results = {e.stem for e in chosen} | {e.in_space("MNI152NLin2009aSym").stem for e in chosen}
    assert len(results) == 6


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=6))
def test_no_name_leads_out_of_the_folder(names: list[str]) -> None:
    paths = [name.replace("\0", "") or "x" for name in names]
    chosen = tell_apart([(path, entities_of(f"in/{path}")) for path in dict.fromkeys(paths)])
    for entities in chosen:
        assert STEM.fullmatch(entities.stem), entities
        assert len(entities.stem) < 150
        assert all(part not in ("..", "/") for part in entities.folder.parts)
    folded = [entities.stem.casefold() for entities in chosen]
    assert len(set(folded)) == len(folded)


@pytest.mark.parametrize(
    "name",
    [
        "sub-..%2f..%2fetc/anat/x_T1w.nii",
        "sub-01/ses-$(reboot)/anat/sub-01_T1w.nii",
        "new\nline\tname.nii.gz",
        "患者.nii.gz",
        "a" * 200 + ".nii.gz",
        "\udcff\udcfe.nii.gz",
    ],
)
def test_hostile_names(name: str) -> None:
    assert STEM.fullmatch(entities_of(name).stem)
    assert entities_of("患者.nii") != entities_of("病人.nii")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    real = make(tmp_path / "store", "one.nii.gz")
    source = tmp_path / "in"
    source.mkdir()
    (source / "linked").symlink_to(real)
    (source / "again").symlink_to(source)
    (source / "file.nii.gz").symlink_to(real / "one.nii.gz")
    (source / "gone.nii.gz").symlink_to(tmp_path / "missing")
    found = find_scans(source)
    assert [s.relative for s in found.scans] == ["file.nii.gz", "gone.nii.gz", "linked/one.nii.gz"]


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    make(tmp_path, "a.nii.gz")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    assert len(find_scans(tmp_path).scans) == 1


def test_the_output_and_other_results_are_no_input(tmp_path: Path) -> None:
    make(tmp_path, "a.nii.gz", "out/sub-A/anat/sub-A_T1w.nii.gz", "old/sub-A/anat/sub-A_T1w.nii.gz")
    text = '{"GeneratedBy": [{"Name": "StrokeLesionSeg"}]}'
    (tmp_path / "old" / "dataset_description.json").write_text(text)
    assert list(stems(tmp_path, leave_out=tmp_path / "out")) == ["a.nii.gz"]


def test_lists(tmp_path: Path) -> None:
    make(tmp_path / "data", "x.nii.gz", "y.nii.gz")
    absolute = tmp_path / "data" / "y.nii.gz"
    path = tmp_path / "list.tsv"
    path.write_text(f"path\tsubject\tsession\n# no\n\ndata/x.nii.gz\tP-1\tses-2\n{absolute}\n")
    scans = find_scans(path).scans
    assert scans[0].path == tmp_path / "data" / "x.nii.gz"
    assert scans[0].entities == Entities("P1", "2")
    assert scans[1].path == absolute
    csv = tmp_path / "list.csv"
    csv.write_text("data/x.nii.gz,7\n")
    assert find_scans(csv).scans[0].stem == "sub-7"
    csv.write_text("data/x.nii.gz,,,1.2.3\ndata/y.nii.gz,7\n")
    assert [s.series for s in find_scans(csv).scans] == ["1.2.3", None]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a.nii\na.nii\n", "line 2 names a.nii again"),
        ("a.nii\tb\tc\td\te\n", "line 1 has 5 columns"),
        ("a.nii\0\n", "binary"),
        ("# nothing\n", "names no scan"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=cause):
        find_scans(path)


@pytest.mark.parametrize(
    "names",
    [
        ("張三_01.nii.gz", "李四_01.nii.gz"),
        ("Иванов 1/T1.nii.gz", "Петров 1/T1.nii.gz"),
        ("sub-Ωa1/anat/T1.nii.gz", "sub-Ψa1/anat/T1.nii.gz"),
        ("Łoś.nii.gz", "ośß.nii.gz"),
        (os.fsdecode(b"M\xfcller.nii.gz"), os.fsdecode(b"M\xf6ller.nii.gz")),
    ],
)
def test_people_whose_names_ascii_lacks_are_not_taken_for_one(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    scans = find_scans(tmp_path).scans
    assert len({scan.entities.subject for scan in scans}) == 2
    assert all(re.fullmatch("[0-9A-Za-z]+", scan.entities.subject) for scan in scans)
    # Accents alone are not what tells people apart.
    assert entities_of("Müller_1.nii.gz").subject == "Muller1"
    assert entities_of("sub-01/ses-術前1/anat/sub-01_T1w.nii").session != "1"


def test_folders_that_cannot_be_entered_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their patients were missing in the cohort without a word."""
    source = make(tmp_path / "in", "sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T1w.nii")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "sub-02":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    cohort = find_scans(source)
    assert [scan.stem for scan in cohort.scans] == ["sub-01"]
    assert cohort.notes == ("1 folder of the input cannot be read (sub-02).",)
    assert main(["batch", str(source), str(tmp_path / "out"), "--dry-run"]) == 0
    assert "warning: 1 folder of the input cannot" in capsys.readouterr().err
    (source / "sub-01" / "anat" / "sub-01_T1w.nii").unlink()
    with pytest.raises(InputError, match=r"1 folder of the input cannot be read \(sub-02\)"):
        find_scans(source)


def test_archives_are_listed(tmp_path: Path) -> None:
    """A patient who came as an archive among folders of others was missing without a word."""
    for name in ("P1.zip", "P2.tar.gz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"\(2 archives are not read\)"):
        find_scans(tmp_path)
    for name in ("p3_T1w.nii.gz", "p3_FLAIR.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    left_out = find_scans(tmp_path).left_out
    assert list(left_out) == ["P1.zip", "P2.tar.gz", "p3_FLAIR.nii.gz"]
    assert left_out["P1.zip"] == "an archive, which has to be unpacked"


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_scans(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no T1-weighted scans"):
        find_scans(tmp_path)
    make(tmp_path, "x_FLAIR.nii")
    with pytest.raises(InputError, match="1 image is of another kind"):
        find_scans(tmp_path)
