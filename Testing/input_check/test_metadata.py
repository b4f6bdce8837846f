"""What names, BIDS sidecars and DICOM elements say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import input_support as pictures
import pytest
from StrokeLesionSegLib.images.formats.scan import Scan
from StrokeLesionSegLib.images.formats.sequence import facts_from, other_kind
from StrokeLesionSegLib.input_check import check_metadata, check_name

# name: level, or nothing
NAMES = {
    "sub-01_T1w.nii.gz": "",
    "sub-01_acq-FLAIR_T1w.nii.gz": "",
    "sub-01_part-mag_T1w.nii.gz": "",
    "sub-01_inv-2_MP2RAGE.nii.gz": "refuse",
    "sub-01_UNIT1.nii.gz": "",
    "scan.nii.gz": "",
    "pd_03_t1.nii": "",
    "Ax_T1_FLAIR.nrrd": "",
    "T2_study_patient7_MPRAGE.mha": "",
    "sT1W_3D_TFE.nii": "",
    "sub-01_FLAIR.nii.gz": "refuse",
    "sub-01_T2w.nii.gz": "refuse",
    "sub-01_ses-2_run-1_PDw.nii": "refuse",
    "sub-01_part-phase_T1w.nii.gz": "refuse",
    "sub-01_part-real_T1w.nii.gz": "refuse",
    "sub-01_part-imag_T1w.nii.gz": "refuse",
    "sub-01_space-T1w_dseg.nii.gz": "refuse",
    "sub-01_FLAIR.nii.xz": "refuse",
    "patient_flair.nii": "refuse",
    "sT2W_TSE.nii.gz": "refuse",
    "brain-DWI-b1000.nrrd": "refuse",
    "case7_t2.nii.gz": "warn",
    "pd_03.nii.gz": "warn",
    "sub-01_ce-gadolinium_T1w.nii.gz": "warn",
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    assert [finding.level for finding in check_name(name)] == [NAMES[name]] * bool(NAMES[name])


MPRAGE: dict[str, Any] = {
    "Modality": "MR",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "ScanningSequence": ["GR", "IR"],
    "EchoTime": 2.98,
    "RepetitionTime": 2300,
    "InversionTime": 900,
}
# What scanners of several makers write: elements that differ from MPRAGE, level.
SEQUENCES: dict[str, tuple[dict[str, Any], str]] = {
    "MPRAGE": ({}, ""),
    "MPRAGE without a description": ({"SeriesDescription": ""}, ""),
    "spin echo": (
        {"ScanningSequence": ["SE"], "EchoTime": 12, "RepetitionTime": 500, "InversionTime": None,
         "SeriesDescription": "AX T1 SE"}, ""),
    "T1 FLAIR of a GE scanner": (
        {"ScanningSequence": ["SE", "IR"], "EchoTime": 24, "RepetitionTime": 2500,
         "SeriesDescription": "Ax T1 FLAIR"}, ""),
    "reformatted": ({"ImageType": ["DERIVED", "SECONDARY", "MPR", "CSA MPR"]}, ""),
    "MP2RAGE UNI": ({"ImageType": ["DERIVED", "PRIMARY", "M", "UNI"]}, ""),
    "fast field echo of a Philips scanner": (
        {"SeriesDescription": "sT1W_3D_TFE",
         "ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]}, ""),
    "nothing known": ({key: None for key in MPRAGE}, ""),
    "T2 FLAIR": (
        {"ScanningSequence": ["SE", "IR"], "EchoTime": 120, "RepetitionTime": 9000,
         "InversionTime": 2500, "SeriesDescription": "AX T2 FLAIR"}, "refuse"),
    "FLAIR by its times": (
        {"ScanningSequence": ["SE", "IR"], "EchoTime": 390, "RepetitionTime": 5000,
         "InversionTime": 1800, "SeriesDescription": "spc_ir_sag"}, "refuse"),
    "T2 by its time": (
        {"ScanningSequence": ["SE"], "EchoTime": 100, "RepetitionTime": 5000,
         "InversionTime": None}, "refuse"),
    "T2 by its description": (
        {"EchoTime": None, "RepetitionTime": None, "SeriesDescription": "t2_tse_tra"}, "refuse"),
    "called T2, with the times of a T1": ({"SeriesDescription": "t2"}, "warn"),
    "proton density": (
        {"ScanningSequence": ["SE"], "EchoTime": 14, "RepetitionTime": 3000,
         "InversionTime": None}, "warn"),
    "SWI": (
        {"ScanningSequence": ["GR"], "EchoTime": 20, "RepetitionTime": 28, "InversionTime": None,
         "SeriesDescription": "SWI_Images"}, "refuse"),
    "T2*": (
        {"ScanningSequence": ["GR"], "EchoTime": 40, "RepetitionTime": 60, "InversionTime": None,
         "SeriesDescription": "ax gre"}, "warn"),
    "diffusion": (
        {"ScanningSequence": ["EP"], "EchoTime": 50, "SeriesDescription": "ep_b1000"}, "refuse"),
    "ADC": ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "refuse"),
    "phase": ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "refuse"),
    "phase of a Philips scanner": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}, "refuse"),
    "phase, enhanced": ({"ComplexImageComponent": "PHASE"}, "refuse"),
    "imaginary": ({"ImageType": ["ORIGINAL", "PRIMARY", "I", "FFE"]}, "refuse"),
    "acquisition contrast T2": ({"AcquisitionContrast": "T2"}, "refuse"),
    "projection": ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "refuse"),
    "CT": ({"Modality": "CT"}, "refuse"),
    "contrast agent": ({"ContrastBolusAgent": "Gadovist 7.5 ml"}, "warn"),
    "contrast agent by the description": ({"SeriesDescription": "T1 mprage post GD"}, "warn"),
    "no contrast agent": ({"ContrastBolusAgent": "NONE"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", SEQUENCES)
@pytest.mark.parametrize("source", ["dicom", "bids"])
def test_sequences(tmp_path: Path, case: str, source: str) -> None:
    changes, level = SEQUENCES[case]
    given = {k: v for k, v in {**MPRAGE, **changes}.items() if v is not None}
    if source == "dicom":
        header: dict[str, Any] = {"series": {"sequence": given}}
        scan = Scan(pictures.head(), tmp_path / "series", "dicom", (), header)
    else:
        for key in ("EchoTime", "RepetitionTime", "InversionTime"):
            if key in given:
                given[key] /= 1000
        given["ScanningSequence"] = "_".join(given.get("ScanningSequence", []))
        (tmp_path / "x.json").write_text(json.dumps(given))
        scan = Scan(pictures.head(), tmp_path / "x.nii.gz", "nifti", (), {})
    assert [finding.level for finding in check_metadata(scan)] == [level] * bool(level)


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "{", '{"EchoTime": "x", "ImageType": 7}', '{"EchoTime": [[]]}', "\xff"]
)
def test_a_broken_sidecar_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    scan = Scan(pictures.head(), tmp_path / "x.nii.gz", "nifti", (), {})
    assert check_metadata(scan) == []


def test_times_with_a_decimal_comma_or_in_milliseconds() -> None:
    assert facts_from({"EchoTime": "2,98"}, seconds=False).echo_ms == pytest.approx(2.98)
    assert facts_from({"EchoTime": 0.12}, seconds=True).echo_ms == pytest.approx(120)
    assert facts_from({"EchoTime": 120}, seconds=True).echo_ms == pytest.approx(120)
    other = other_kind(facts_from({"EchoTime": "120,0"}, seconds=False))
    assert other is not None
    assert "120 ms" in other.reason


def test_a_description_of_several_lines_is_quoted_in_one() -> None:
    facts = facts_from({"SeriesDescription": "T2\nTSE\u2028x\t", "EchoTime": 0.1}, seconds=True)
    found = other_kind(facts)
    assert found is not None
    assert found.reason.isprintable()
    assert "T2 TSE x" in found.reason


@pytest.mark.parametrize(
    ("suffix", "level"),
    [("T1w", None), ("UNIT1", None), ("inplaneT1", None), ("MP2RAGE", "refuse"), ("VFA", "refuse"),
     ("IRT1", "refuse"), ("T1rho", "refuse"), ("T1map", "refuse"), ("MTsat", "refuse"),
     ("inplaneT2", "refuse"), ("TB1map", "refuse")],
)  # fmt: skip
def test_suffixes_of_quantitative_mri(suffix: str, level: str | None) -> None:
    """Their names hold T1 or come from T1 sequences, and are no T1-weighted scans."""
    levels = [finding.level for finding in check_name(f"sub-01_inv-1_{suffix}.nii.gz")]
    assert levels == ([level] if level else [])
