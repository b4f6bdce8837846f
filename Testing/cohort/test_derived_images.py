"""What programs leave beside a scan is left out of the cohort, and listed with the reason."""

from __future__ import annotations

from pathlib import Path

import cli_support
import pytest
from cohort_support import batch
from StrokeLesionSegLib.cohort import find_scans
from StrokeLesionSegLib.lesions import read_table

# What each program makes of one person's scan, and which file stands for the person.
LEAVINGS = {
    "fsl_anat": (
        "P1.anat/T1.nii.gz",
        [f"P1.anat/{name}.nii.gz" for name in (
            "T1_biascorr", "T1_biascorr_brain", "T1_biascorr_brain_mask", "T1_fast_bias",
            "T1_fast_pve_0", "T1_fast_pve_1", "T1_fast_pveseg", "T1_fullfov", "T1_initfast2_brain",
            "T1_orig", "T1_subcort_seg", "T1_to_MNI_lin", "T1_to_MNI_nonlin",
            "T1_to_MNI_nonlin_field", "T1_to_MNI_nonlin_jac", "T1_to_MNI_nonlin_coeff",
            "MNI_to_T1_nonlin_field", "T1_biascorr_bet_skull", "lesionmask",
        )],
    ),
    "SPM": (
        "p/mprage.nii",
        [f"p/{name}mprage.nii" for name in (
            "c1", "c2", "c3", "m", "y_", "iy_", "wc1", "mwc1", "smwc1", "wm", "rc1", "u_rc1",
        )],
    ),
    "CAT12": ("p/T1.nii", ["p/mri/p0T1.nii", "p/mri/mwp1T1.nii", "p/mri/wmT1.nii"]),
    "FreeSurfer": (
        "bert/mri/rawavg.mgz",
        [f"bert/mri/{name}.mgz" for name in (
            "T1", "aseg", "brain", "brainmask", "norm", "nu", "orig", "ribbon", "wm", "orig/001",
        )],
    ),
    "ANTs": (
        "p/T1.nii.gz",
        [f"p/{name}.nii.gz" for name in (
            "T1_BrainExtractionMask", "T1_BrainSegmentation", "T1_BrainSegmentationPosteriors1",
            "T1_1Warp", "T1_1InverseWarp", "T1_N4",
        )],
    ),
    "fMRIPrep": (
        "fmriprep/sub-1/anat/sub-1_desc-preproc_T1w.nii.gz",
        [f"fmriprep/sub-1/anat/sub-1_{name}.nii.gz" for name in (
            "space-MNI152NLin2009cAsym_res-2_desc-preproc_T1w",
            "space-MNI152NLin2009cAsym_desc-preproc_T1w", "desc-brain_mask",
        )],
    ),
    "the same in two formats": ("p/T1.nii.gz", ["p/T1.nii", "p/T1.mgz", "p/T1.mnc"]),
    "several echoes": (
        "sub-1/anat/sub-1_echo-1_T1w.nii.gz",
        ["sub-1/anat/sub-1_echo-2_T1w.nii.gz", "sub-1/anat/sub-1_echo-10_T1w.nii.gz"],
    ),
    "echoes and their combination": (
        "sub-1/anat/sub-1_run-1_T1w.nii.gz",
        [f"sub-1/anat/sub-1_echo-{n}_run-1_T1w.nii.gz" for n in (1, 2)],
    ),
    "masks below the scans": ("T1.nii.gz", ["masks/T1.nii.gz"]),
    "what is not read or not there yet": (
        "p/T1.nii.gz", ["p/old.PAR", "p/P2_T1.nii.gz.part", "p/P3.nii.crdownload"]
    ),
    "nnU-Net": ("imagesTr/case_0000.nii.gz", ["labelsTr/case.nii.gz", "labelsTs/x.nii.gz"]),
    "SynthSeg, LST": (
        "p/T1.nii",
        ["p/T1_synthseg.nii", "p/ples_lpa_mT1.nii", "p/T1_samseg.nii", "p/T1.dtseries.nii"],
    ),
    "BIDS": (
        "sub-1/anat/sub-1_part-mag_T1w.nii.gz",
        [f"sub-1/anat/sub-1_{name}.nii.gz" for name in (
            "part-phase_T1w", "part-real_T1w", "part-imag_T1w", "T2w", "desc-brain_mask",
            "label-GM_probseg", "part-mag_desc-preproc_T1w", "part-mag_space-MNI_T1w",
        )],
    ),
}  # fmt: skip


def make(root: Path, *names: str) -> None:
    if "p/old.PAR" in names:
        names += ("p/old.REC", "p/motion.par", "p/notes.tmp")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.mark.parametrize("program", LEAVINGS)
def test_one_scan_stands_for_the_person(tmp_path: Path, program: str) -> None:
    scan, others = LEAVINGS[program]
    make(tmp_path, scan, *others)
    cohort = find_scans(tmp_path)
    assert [found.relative for found in cohort.scans] == [scan]
    assert set(cohort.left_out) == set(others)
    assert all(cohort.left_out.values())


def test_names_that_only_look_derived_are_scans(tmp_path: Path) -> None:
    """Without the scan they would be made of, prefixes and words are somebody's names."""
    names = {"cT1.nii", "wm_07.nii", "m03.nii", "field_study_P1.nii", "T1_brain.nii",
             "gm_kelly_T1w.nii", "sub-2_desc-brain_T1w.nii"}  # fmt: skip
    make(tmp_path, *names)
    assert {found.relative for found in find_scans(tmp_path).scans} == names


@pytest.mark.parametrize("pattern", ["*_acq-bad_*", "sub-2/", "**/sub-2_*", "/sub-2/anat/*"])
def test_bidsignore_is_heeded(tmp_path: Path, pattern: str) -> None:
    bad = "sub-2/anat/sub-2_acq-bad_T1w.nii.gz"
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", bad)
    # The last names nothing.
    (tmp_path / ".bidsignore").write_text(f"# ours\n{pattern}\nsub-[9-1]*\n")
    cohort = find_scans(tmp_path)
    assert [found.stem for found in cohort.scans] == ["sub-1"]
    assert cohort.left_out == {bad: "named in .bidsignore"}


def test_what_is_left_out_is_listed_with_the_reason(
    tmp_path: Path, out: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in" / "P1.anat"
    folder.mkdir(parents=True)
    for number, name in enumerate(("T1", "T1_fast_pve_0", "T1_biascorr", "T1_fast_bias")):
        cli_support.write_head(folder / f"{name}.nii.gz", cli_support.head_array(number))
    assert batch(tmp_path / "in", out) == 0
    told = capsys.readouterr().out
    assert "3 other images were left out" in told
    assert "1 x a map of tissue" in told
    assert "group_left_out.tsv" in told
    rows = {row["image"]: row["reason"] for row in read_table(out / "group_left_out.tsv")}
    assert rows["P1.anat/T1_fast_bias.nii.gz"] == "a bias field"
    assert len(read_table(out / "group_scans.tsv")) == 1
    # Nothing to leave out, nothing to list.
    for file in folder.glob("T1_*"):
        file.unlink()
    assert batch(tmp_path / "in", out) == 0
    assert not (out / "group_left_out.tsv").exists()
