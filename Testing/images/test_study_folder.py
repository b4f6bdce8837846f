"""A whole study folder: the T1 is found by what the headers say, and the choice is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan
from test_read_dicom import PIXELS, _series

T1 = "1.2.826.1"


def series(folder: Path, number: int, description: str, **elements: Any) -> str:
    """One more series of the study, with elements of its own; returns its UID."""

    def edit(data: Dataset, n: int) -> None:
        for keyword, value in elements.items():
            setattr(data, keyword, value)

    uid = f"1.2.826.{number}"
    _series(folder / f"s{number}", uid=uid, description=description, edit=edit)
    return uid


OTHERS = {
    "T2 TSE": {"EchoTime": "95"},
    "FLAIR": {"EchoTime": "120", "InversionTime": "2500"},
    "ep2d_diff": {"ScanningSequence": "EP"},
    "ADC": {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]},
    "SWI": {"EchoTime": "20"},
    "TOF 3D": {},
    "T1 phase": {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
    "localizer": {},
}


def test_the_t1_is_found_among_all_usual_series(tmp_path: Path) -> None:
    _series(tmp_path / "t1")
    for number, (description, elements) in enumerate(OTHERS.items(), start=2):
        series(tmp_path, number, description, **elements)
    scan = read_scan(tmp_path)
    assert scan.header["series"]["SeriesInstanceUID"] == T1
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    (note,) = [text for text in scan.warnings if "is taken of" in text]
    assert f'"T1 MPRAGE" (12 images, UID {T1}) is taken of 9 series' in note
    assert '"FLAIR"' in note
    # Who names the series is told nothing.
    assert not [t for t in read_scan(tmp_path, series=T1).warnings if "taken" in t]


@pytest.mark.parametrize(
    ("description", "elements", "reason"),
    [
        ("T1 MPRAGE post Gd", {}, "contrast agent"),
        ("T1 MPRAGE", {"ContrastBolusAgent": "Dotarem"}, "contrast agent"),
        ("T1 MPRAGE MPR cor", {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "made from another"),
        ("t1_se_tra", {"PixelSpacing": [2.5, 2.5]}, "coarser"),
        ("SPGR fieldtest", {"EchoTime": "95"}, "T2-weighted"),
        ("3D BRAIN", {}, "another one is called T1-weighted"),
    ],
)
def test_of_two_t1s_the_better_one_is_taken(
    tmp_path: Path, description: str, elements: dict[str, Any], reason: str
) -> None:
    _series(tmp_path / "t1")
    series(tmp_path, 2, description, **elements)
    scan = read_scan(tmp_path)
    assert scan.header["series"]["SeriesInstanceUID"] == T1
    assert any(reason in note for note in scan.warnings)


def test_what_is_doubtful_is_listed(tmp_path: Path) -> None:
    """Twice the same sequence: nothing tells which one is meant."""
    _series(tmp_path / "t1")
    series(tmp_path, 2, "T1 MPRAGE")
    series(tmp_path, 3, "FLAIR", EchoTime="120")
    with pytest.raises(InputError) as caught:
        read_scan(tmp_path)
    line = str(caught.value)
    assert "contains 2 series that may be the T1-weighted scan" in line
    assert "--series" in line
    assert "FLAIR" not in line


def test_a_study_without_t1_says_what_there_is(tmp_path: Path) -> None:
    series(tmp_path, 2, "T2 TSE", EchoTime="95")
    uid = series(tmp_path, 3, "FLAIR", EchoTime="120")
    with pytest.raises(InputError) as caught:
        read_scan(tmp_path)
    assert "contains no T1-weighted series" in str(caught.value)
    assert "echo time 120 ms" in str(caught.value)
    assert read_scan(tmp_path, series=uid).volume.array.shape == PIXELS.shape


def test_two_patients_in_one_folder_are_never_mixed_up(tmp_path: Path) -> None:
    _series(tmp_path / "a", edit=lambda data, n: setattr(data, "PatientID", "A"))
    series(tmp_path, 2, "FLAIR", EchoTime="120", PatientID="B")
    with pytest.raises(InputError, match="series of 2 patients"):
        read_scan(tmp_path)


def test_two_patients_without_an_identifier_are_told_apart_by_their_names(tmp_path: Path) -> None:
    """The finer of two T1s was taken, whoever it was of."""
    series(tmp_path, 1, "T1 MPRAGE", PatientID="", PatientName="Doe^Jane")
    series(tmp_path, 2, "T1 MPRAGE Gd", PatientID="", PatientName="DOE^JANE^^")
    assert read_scan(tmp_path).header["series"]["SeriesInstanceUID"] == T1
    series(tmp_path, 3, "T1 MPRAGE Gd", PatientID="", PatientName="Doe^John")
    with pytest.raises(InputError, match="series of 2 patients"):
        read_scan(tmp_path)


@pytest.mark.parametrize("kind", ["damaged", "link"])
def test_what_is_wrong_with_other_series_does_not_keep_a_named_one(
    tmp_path: Path, kind: str
) -> None:
    """A disc with a broken file; a study under DataLad of which one series was fetched."""
    uid = series(tmp_path, 2, "T1 MPRAGE")
    series(tmp_path, 3, "FLAIR", EchoTime="120")

    def spoil(file: Path) -> None:
        file.unlink()
        if kind == "link":
            file.symlink_to(tmp_path / "nowhere")
        else:
            file.write_bytes(bytes(128) + b"DICM" + b"\x02\0\0\0UL" * 30)

    spoil(next((tmp_path / "s3").iterdir()))
    assert read_scan(tmp_path, series=uid).volume.array.shape == PIXELS.shape
    # Without a name it might be one of the T1's.
    with pytest.raises(InputError, match="s3"):
        read_scan(tmp_path)
    # So may what lies beside its images.
    spoil(next((tmp_path / "s2").iterdir()))
    with pytest.raises(InputError, match="s2"):
        read_scan(tmp_path, series=uid)
