"""Lists of scans as R, pandas, Excel and people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from StrokeLesionSegLib.cohort.corrected import SourceScans
from StrokeLesionSegLib.cohort.inputs import find_scans
from StrokeLesionSegLib.cohort.lists import read_list, read_pairs
from StrokeLesionSegLib.cohort.pseudonyms import Pseudonyms
from StrokeLesionSegLib.errors import InputError


@pytest.fixture(autouse=True)
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two scans; one has a space, a comma and a semicolon in its name."""
    for name in ("a.nii.gz", "b, c; d.nii.gz", "e.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


AB = [("a.nii.gz", "P1", "2"), ("b, c; d.nii.gz", "P2", "")]
# As the programs write them, byte for byte.
WRITTEN = {
    "write.csv of R": ("r.csv", b'"","path","subject","session"\n"1","a.nii.gz","P1",2\n'
                                b'"2","b, c; d.nii.gz","P2",NA\n'),
    "write.csv, row.names=FALSE": ("r.csv", b'"path","subject","session"\n"a.nii.gz","P1",2\n'
                                            b'"b, c; d.nii.gz","P2",NA\n'),
    "write.csv2 of R": ("r2.csv", b'"";"path";"subject";"session"\n"1";"a.nii.gz";"P1";2\n'
                                  b'"2";"b, c; d.nii.gz";"P2";NA\n'),
    "write.table of R": ("r.tsv", b'"path"\t"subject"\t"session"\n"1"\t"a.nii.gz"\t"P1"\t2\n'
                                  b'"2"\t"b, c; d.nii.gz"\t"P2"\tNA\n'),
    "to_csv of pandas, floats for a gap": (
        "p.csv", b',path,subject,session\n0,a.nii.gz,P1,2.0\n1,"b, c; d.nii.gz",P2,\n'),
    "to_csv(sep='\\t') under .csv": (
        "p.csv", b"path\tsubject\tsession\na.nii.gz\tP1\t2\nb, c; d.nii.gz\tP2\t\n"),
    "to_csv under .txt": (
        "p.txt", b'path,subject,session\na.nii.gz,P1,2\n"b, c; d.nii.gz",P2,\n'),
    "Excel, CSV UTF-8": ("x.csv", b"\xef\xbb\xbfpath,subject,session\r\na.nii.gz,P1,2\r\n"
                                  b'"b, c; d.nii.gz",P2,\r\n'),
    "Excel, German": ("x.csv", b"\xef\xbb\xbfpath;subject;session\r\na.nii.gz;P1;2\r\n"
                               b'"b, c; d.nii.gz";P2;\r\n'),
    "Excel with sep=": ("x.csv", b"sep=;\r\npath;subject;session\r\na.nii.gz;P1;2\r\n"
                                 b'"b, c; d.nii.gz";P2;\r\n'),
    "Excel, Unicode text": ("x.txt", "path\tsubject\tsession\r\na.nii.gz\tP1\t2\r\n"
                                     '"b, c; d.nii.gz"\tP2\t\r\n'.encode("utf-16")),
    "columns in another order, one of them unknown": (
        "o.csv", b'age,Session,File name,participant_id\n70,ses-2,a.nii.gz,sub-P1\n'
                 b'60,n/a,"b, c; d.nii.gz",sub-P2\n'),
    "no heading, quoted": ("q.csv", b'"a.nii.gz","P1","2"\n"b, c; d.nii.gz","P2"\n'),
    "tabs without heading": ("t.tsv", b"a.nii.gz\tP1\t2\nb, c; d.nii.gz\tP2\n"),
    "empty lines and fillers of Excel": (
        "f.csv", b'path,subject,session,,\n,,,,\na.nii.gz,P1,2,,\n"b, c; d.nii.gz",P2,,,\n,,,,\n'),
}  # fmt: skip


@pytest.mark.parametrize("who", WRITTEN)
def test_what_programs_write_is_read(tmp_path: Path, who: str) -> None:
    name, data = WRITTEN[who]
    (tmp_path / name).write_bytes(data)
    found = [
        (line.given, line.entities.subject, line.entities.session)
        for line in read_list(tmp_path / name)
        if line.entities is not None
    ]
    assert found == AB
    assert [scan.path.name for scan in find_scans(tmp_path / name).scans] == [p for p, *_ in AB]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("q.csv", b'path,subject\n"a.nii.gz,P1\n', "quotes do not match"),
        ("h.csv", b"subject,session\nP1,2\n", "has no column path"),
        ("d.csv", b"file,image\na.nii.gz,e.nii.gz\n", "several columns could be the path"),
        ("t.csv", b"path,subject\na.nii.gz,P1\na.nii.gz,P2\n", "again"),
        ("n.csv", b"path,subject\n,P1\n", "has no path"),
        ("u.txt", b"\xff\xfea\x00b", "damaged UTF-16"),
        ("b.txt", b"PK\x03\x04\x00\x00", "binary"),
        ("w.xlsx", b"PK\x03\x04", "Save it as CSV"),
        ("e.csv", b"path,subject\n", "names no scan"),
        ("c.txt", b"# nothing yet\n\n", "names no scan"),
    ],
)
def test_what_is_no_list_is_said_in_one_line(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as error:
        find_scans(tmp_path / name)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\u2028"])
def test_only_line_ends_end_a_line(tmp_path: Path, end: str) -> None:
    listed = tmp_path / "list.tsv"
    text = f"path\tsubject\tnote\na.nii.gz\tP1\tsaid{end}twice\ne.nii.gz\tP2\tfine\n"
    listed.write_text(text, "utf-8")
    assert [line.given for line in read_list(listed)] == ["a.nii.gz", "e.nii.gz"]


def test_names_of_an_old_code_page_are_found(tmp_path: Path) -> None:
    (tmp_path / "Müller.nii.gz").write_bytes(b"x")
    (tmp_path / "l.csv").write_bytes("path,subject\nMüller.nii.gz,P1\n".encode("cp1252"))
    assert read_list(tmp_path / "l.csv")[0].path.name == "Müller.nii.gz"


def test_accents_may_be_characters_of_their_own(tmp_path: Path) -> None:
    """macOS may part letters and their accents, in names of files or in what is copied from it."""
    whole, parted = "M\u00fcller", "Mu\u0308ller"
    for name, other in ((whole, parted), (parted, whole)):
        folder = tmp_path / f"of {len(name)}"
        folder.mkdir()
        (folder / f"{name}.nii.gz").write_bytes(b"x")
        (folder / "list.txt").write_text(f"{other}.nii.gz\n", encoding="utf-8")
        (line,) = read_list(folder / "list.txt")
        assert line.path.is_file()
        (folder / "key.csv").write_text(f"patient,subject\n{name},S1\n", encoding="utf-8")
        assert Pseudonyms(folder / "key.csv").of(other) == "S1"


def test_a_name_that_begins_with_a_tilde_is_nobodys_home(tmp_path: Path) -> None:
    (tmp_path / "~scan.nii.gz").write_bytes(b"")
    (tmp_path / "l.txt").write_text("~scan.nii.gz\n~no.such.user/t1.nii.gz\n")
    first, second = read_list(tmp_path / "l.txt")
    assert first.path == tmp_path / "~scan.nii.gz"
    assert second.path == tmp_path / "~no.such.user" / "t1.nii.gz"


def test_what_a_list_of_another_system_names_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``compare`` looks for it: by what the ledger says, which is the text of the list."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for file in (tmp_path / "in" / "a.nii.gz", tmp_path / "home" / "b.nii.gz"):
        file.parent.mkdir()
        file.write_bytes(b"")
    (tmp_path / "l.txt").write_text("in\\a.nii.gz\n~/b.nii.gz\n")
    for scan in find_scans(tmp_path / "l.txt").scans:
        assert SourceScans(tmp_path / "out", tmp_path).find(scan.relative) == scan.path


def test_one_folder_may_be_listed_with_several_series(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    text = "path,subject,series\ndicom,P1,1.2.10\ndicom,P2,1.2.3\n"
    (tmp_path / "l.csv").write_text(text)
    assert [line.series for line in read_list(tmp_path / "l.csv")] == ["1.2.10", "1.2.3"]


def test_names_with_backslashes_are_those_of_a_table_of_windows(tmp_path: Path) -> None:
    scan = tmp_path / "raw" / "sub-01_ses-2_T1w.nii"
    scan.parent.mkdir()
    scan.write_bytes(b"a scan")
    (tmp_path / "list.txt").write_text("raw\\sub-01_ses-2_T1w.nii\n")
    (found,) = find_scans(tmp_path / "list.txt").scans
    assert (found.path, found.stem) == (scan, "sub-01_ses-2")


@pytest.mark.parametrize("who", WRITTEN)
def test_pairs_of_scan_and_mask_are_read_likewise(tmp_path: Path, who: str) -> None:
    """The same lists with a mask in the place of the subject."""
    name, data = WRITTEN[who]
    for old, new in ((b"participant_id", b"lesion mask"), (b"subject", b"mask"),
                     (b"Session", b"Subject"), (b"session", b"subject")):  # fmt: skip
        for encoding in ("utf-8", "utf-16-le"):
            data = data.replace(old.decode().encode(encoding), new.decode().encode(encoding))
    for old, new in (("sub-P1", "P1"), ("sub-P2", "P2"), ("P1", "e.nii.gz"), ("P2", "e.nii.gz")):
        for encoding in ("utf-8", "utf-16-le"):
            data = data.replace(old.encode(encoding), new.encode(encoding))
    (tmp_path / name).write_bytes(data)
    found = read_pairs(tmp_path / name)
    assert [pair.scan.name for pair in found] == [p for p, *_ in AB]
    assert [pair.mask for pair in found] == [tmp_path / "e.nii.gz"] * 2
    subjects = [pair.subject for pair in found]
    assert subjects in ([session or None for *_, session in AB], [f"ses{n}" for n in "2"] + [None],
                        ["ses2", None])  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a.nii.gz\n", "line 1 names no mask"),
        ("scan\tmask\na.nii.gz\tnone.nii\n", "line 2: there is no mask none.nii"),
        ("mask\tsubject\ne.nii.gz\t1\n", "names no mask|no column scan"),
        ("a.nii.gz\te.nii.gz\t1\t1.2\tmore\n", "line 1 has 5 columns"),
    ],
)
def test_what_is_no_pair_is_said(tmp_path: Path, data: str, says: str) -> None:
    (tmp_path / "pairs.tsv").write_text(data)
    with pytest.raises(InputError, match=says):
        read_pairs(tmp_path / "pairs.tsv")
