"""Readers of every ATLAS layout, on tiny trees with the releases' names, and their metadata."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Volume

pytest.importorskip("lightning")
from stroketrain.data.atlas import AtlasScan, find_scans
from stroketrain.data.metadata import attach_metadata, read_table
from stroketrain.data.reading import unite_masks

R2 = "space-MNI152NLin2009aSym"


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def r2_names(top: str, subject: str, session: str = "ses-1", mask: bool = True) -> list[str]:
    folder = f"{top}/{subject}/{session}/anat/{subject}_{session}_{R2}"
    names = [f"{folder}_T1w.nii.gz"]
    return [*names, f"{folder}_label-L_desc-T1lesion_mask.nii.gz"] if mask else names


def test_r2_indi_tree(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *r2_names("ATLAS_2/Training/R001", "sub-r001s001"),
        *r2_names("ATLAS_2/Training/R001", "sub-r001s001", "ses-2"),
        *r2_names("ATLAS_2/Training/R010", "sub-r010s002", mask=False),
        *r2_names("ATLAS_2/Testing/R021", "sub-r021s001", mask=False),
        "ATLAS_2/Training/R001/sub-r001s009/ses-1/anat/"
        f"sub-r001s009_ses-1_{R2}_label-L_desc-T1lesion_mask.nii.gz",
        "ATLAS_2/Training/R001/dataset_description.json",
    )
    survey = find_scans(tmp_path)
    assert survey.layout == "r2.0"
    assert [s.name for s in survey.scans] == [
        "sub-r001s001_ses-1",
        "sub-r001s001_ses-2",
        "sub-r010s002_ses-1",
        "sub-r021s001_ses-1",
    ]
    assert [s.site for s in survey.scans] == ["R001", "R001", "R010", "R021"]
    assert [s.cohort for s in survey.scans] == ["training"] * 3 + ["testing"]
    assert [len(s.masks) for s in survey.scans] == [1, 1, 0, 0]
    reasons = {path.name[:12]: reason for path, reason in survey.skipped}
    assert reasons == {
        "sub-r010s002": "no lesion mask beside it, kept for prediction only",
        "sub-r001s009": "a mask without its T1",
    }
    assert "4 scans of 3 subjects from 3 sites, 2 with masks" in survey.lines()[0]
    assert len(survey.lines()) == 3


def test_folders_above_the_tree_say_nothing(tmp_path: Path) -> None:
    root = tmp_path / "test" / "ATLAS_2"
    touch(root, *r2_names("Training/R001", "sub-r001s001"))
    touch(root, *r2_names("Testing/R001", "sub-r001s002", mask=False))
    assert [s.cohort for s in find_scans(root).scans] == ["training", "testing"]
    assert [s.cohort for s in find_scans(root / "Testing").scans] == ["testing"]


def test_r2_tidy_derivative_and_twins(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *r2_names("train/derivatives/ATLAS", "sub-r003s005"),
        *r2_names("copy/derivatives/ATLAS", "sub-r003s005"),
    )
    survey = find_scans(tmp_path)
    assert [(s.name, s.site, len(s.masks)) for s in survey.scans] == [
        ("sub-r003s005_ses-1", "R003", 1)
    ]
    assert "the same scan as" in survey.skipped[0][1]


def test_native_tree(tmp_path: Path) -> None:
    stem = "R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-orig"
    touch(
        tmp_path,
        f"{stem}_desc-brain_T1w.nii.gz",
        f"{stem}_label-lesion_desc-T1lesion_mask.nii.gz",
        f"{stem}_label-lesion_desc-T1lesion2_mask.nii.gz",
    )
    (scan,) = find_scans(tmp_path).scans
    assert (scan.layout, scan.site, scan.native, len(scan.masks)) == ("r3.0", "R001", True, 2)


def test_r1_trees(tmp_path: Path) -> None:
    touch(
        tmp_path / "a",
        "ATLAS_R1.1/Site3/031768/t01/031768_t1w_deface_stx.nii.gz",
        "ATLAS_R1.1/Site3/031768/t01/031768_LesionSmooth_stx.nii.gz",
        "ATLAS_R1.1/Site3/031768/t01/031768_LesionSmooth_1_stx.nii.gz",
        "ATLAS_R1.1/Site3/031768/t02/031768_t1w_deface_stx.nii.gz",
        "ATLAS_R1.1/Site3/031768/t02/031768_LesionSmooth_stx.nii.gz",
    )
    touch(
        tmp_path / "b",
        "standard_MNI/c0008/c0008s0011t01/c0008s0011t01_t1w_stx.nii.gz",
        "standard_MNI/c0008/c0008s0011t01/c0008s0011t01_LesionSmooth_stx.nii.gz",
    )
    first, second = find_scans(tmp_path / "a").scans
    assert (first.name, first.site, len(first.masks)) == ("sub-031768_t01", "Site3", 2)
    assert (second.name, len(second.masks)) == ("sub-031768_t02", 1)
    (third,) = find_scans(tmp_path / "b").scans
    assert (third.name, third.site, third.layout) == ("sub-c0008s0011_t01", "c0008", "r1.2")
    with pytest.raises(InputError, match=r"several layouts: r1\.1, r1\.2"):
        find_scans(tmp_path)
    assert len(find_scans(tmp_path, "r1.1").scans) == 2


def test_folders_that_hold_no_atlas(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_scans(tmp_path / "none")
    with pytest.raises(InputError, match="no scan named as in ATLAS"):
        find_scans(tmp_path)
    touch(tmp_path, "ATLAS_R2.0_encrypted.tar.gz")
    with pytest.raises(InputError, match="encrypted") as caught:
        find_scans(tmp_path)
    assert "key from your data agreement" in str(caught.value)


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def t1() -> Volume:
    array = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    return Volume(array, np.array([[1, 0, 0, 4], [0, 1, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1.0]]))


def test_masks_are_united_turned_and_read_above_zero(tmp_path: Path, t1: Volume) -> None:
    a, b = np.zeros((7, 6, 5)), np.zeros((7, 6, 5))
    a[1, 2, 3] = 255
    b[5, 4, 0] = 0.9999
    one = save(tmp_path / "a.nii.gz", a.astype(np.uint8), t1.affine)
    mirrored = t1.affine @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    two = save(tmp_path / "b.nii.gz", b[::-1], mirrored)  # stored from right to left
    three = save(tmp_path / "c.nii.gz", np.zeros((7, 6, 5), np.uint8), t1.affine)
    scan = AtlasScan("sub-1", "ses-1", "R001", tmp_path / "t1.nii.gz", (one, two, three))
    union = unite_masks(scan, t1).array
    assert sorted(zip(*np.nonzero(union), strict=True)) == [(0, 4, 5), (3, 2, 1)]


def test_masks_that_do_not_fit(tmp_path: Path, t1: Volume) -> None:
    def unite(mask: Path) -> None:
        unite_masks(AtlasScan("sub-1", "ses-1", "", tmp_path / "t1.nii.gz", (mask,)), t1)

    with pytest.raises(InputError, match="not that of its T1"):
        unite(save(tmp_path / "other.nii.gz", np.zeros((7, 6, 4), np.uint8), t1.affine))
    shifted = t1.affine.copy()
    shifted[0, 3] += 1
    with pytest.raises(InputError, match="not that of its T1"):
        unite(save(tmp_path / "shifted.nii.gz", np.zeros((7, 6, 5), np.uint8), shifted))
    whole = save(tmp_path / "whole.nii.gz", np.ones((7, 6, 5), np.uint8), t1.affine).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.nii\.gz"):
        unite(tmp_path / "cut.nii.gz")


def xlsx(path: Path, rows: list[list[str]]) -> None:
    """The least that is an XLSX: shared strings for texts, plain values for numbers."""
    texts = sorted({c for row in rows for c in row if not c.isdigit()})
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    items = "".join(f"<si><t>{t}</t></si>" for t in texts)
    body = ""
    for n, row in enumerate(rows, 1):
        cells = ""
        for letter, cell in zip("ABCDEF", row, strict=False):
            if cell.isdigit():
                cells += f'<c r="{letter}{n}"><v>{cell}</v></c>'
            elif cell:
                cells += f'<c r="{letter}{n}" t="s"><v>{texts.index(cell)}</v></c>'
        body += f'<row r="{n}">{cells}</row>'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{items}</sst>")
        sheet = f"<worksheet {space}><sheetData>{body}</sheetData></worksheet>"
        book.writestr("xl/worksheets/sheet1.xml", sheet)


def test_metadata_of_r2_is_found_by_subject_and_session(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *r2_names("Training/R001", "sub-r001s001"),
        *r2_names("Training/R001", "sub-r001s001", "ses-2"),
    )
    xlsx(
        tmp_path / "20220425_ATLAS_2.0_MetaData.xlsx",
        [
            ["Subject ID", "Session", "Age", "Stroke"],
            ["r001s001", "ses-1", "60", "left"],
            ["r001s001", "ses-2", "61", ""],
            ["r099s001", "ses-1", "5", "left"],
        ],
    )
    rows, failed = attach_metadata(tmp_path, find_scans(tmp_path).scans)
    assert failed == []
    assert rows["sub-r001s001_ses-1"]["Age"] == "60"
    assert rows["sub-r001s001_ses-1"]["Stroke"] == "left"
    assert rows["sub-r001s001_ses-2"]["Age"] == "61"
    assert set(rows) == {"sub-r001s001_ses-1", "sub-r001s001_ses-2"}


def test_metadata_of_r1_and_r3(tmp_path: Path) -> None:
    touch(
        tmp_path / "r1",
        "Site3/031768/t01/031768_t1w_deface_stx.nii.gz",
        "Site3/031768/t01/031768_LesionSmooth_stx.nii.gz",
    )
    table = tmp_path / "r1" / "ATLAS_Meta-Data_Release_1.1_standard_mni.csv"
    table.write_text("INDI Site ID,INDI Subject ID,Session,Volume\n3,31768,t01,900\n")
    rows, _ = attach_metadata(tmp_path / "r1", find_scans(tmp_path / "r1").scans)
    assert rows["sub-031768_t01"]["Volume"] == "900"
    stem = "R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1"
    touch(tmp_path / "r3", f"{stem}_space-orig_desc-brain_T1w.nii.gz")
    (tmp_path / "r3" / f"{stem}_metadata.csv").write_text("SITE,CHRONICITY\nR001,chronic\n")
    rows, _ = attach_metadata(tmp_path / "r3", find_scans(tmp_path / "r3").scans)
    assert rows["sub-r001s001_ses-1"]["CHRONICITY"] == "chronic"


def test_a_broken_table_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    touch(tmp_path, *r2_names("Training/R001", "sub-r001s001"))
    broken = tmp_path / "x_MetaData.xlsx"
    broken.write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match="the table cannot be read"):
        read_table(broken)
    rows, failed = attach_metadata(tmp_path, find_scans(tmp_path).scans)
    assert rows == {}
    assert failed[0][0] == broken
    with zipfile.ZipFile(broken, "w") as book:  # a cell that names a text which is not there
        space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        cell = f'<worksheet xmlns="{space}"><row><c r="A1" t="s"><v>7</v></c></row></worksheet>'
        book.writestr("xl/worksheets/sheet1.xml", cell)
    with pytest.raises(InputError, match="the table cannot be read"):
        read_table(broken)
    long = tmp_path / "y_MetaData.csv"
    long.write_text("a\n" + "x" * 200_000)  # beyond what csv takes for one field
    with pytest.raises(InputError, match="the table cannot be read"):
        read_table(long)
