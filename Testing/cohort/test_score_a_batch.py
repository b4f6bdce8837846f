"""``score OUT TRUTH`` finds the truth of every scan, whatever its name became in ``batch``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cli_support
import cohort_support as support
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.lesions import read_table

# Scan in the input, and its reference below the folder of references; "#" numbers the lesions.
PLACES = {
    "case0.nii.gz": "case0_mask.nii.gz",
    "site1/p-07_T1w.nii": "site1/p-07_lesion.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz":
        "derivatives/sub-01/ses-1/anat/sub-01_ses-1_label-L_desc-T1lesion_mask.nii.gz",
    "Site3/031768/t01/031768_t1w_deface_stx.nii.gz":
        "Site3/031768/t01/031768_LesionSmooth#_stx.nii.gz",
    "c0008/c0008s0011t01/c0008s0011t01_t1w_stx.nii.gz":
        "c0008/c0008s0011t01/c0008s0011t01_LesionSmooth#_stx.nii.gz",
    "DOE_JANE": "DOE_JANE/mask.nii.gz",
}  # fmt: skip


@pytest.mark.usefixtures("home")
def test_the_truth_of_every_scan_is_found(tmp_path: Path) -> None:
    source, out, truth = tmp_path / "in", tmp_path / "out", tmp_path / "truth"
    for number, name in enumerate(PLACES):
        if name.startswith("DOE"):
            cli_support.write_dicom_series(source / name, uid="1.2.826.0.1.3680043.10.511.3.9")
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        cli_support.write_head(source / name, cli_support.head_array(number))
    assert support.batch(source, out) == 0
    assert "DOE" not in (out / "index.html").read_text(encoding="utf-8")
    folders = {r["source"]: out / r["folder"] / r["stem"] for r in support.records(out)}
    # Tables call the patient's folder by a checksum.
    (folders["DOE_JANE"],) = (f for name, f in folders.items() if name.startswith("dicom-"))
    for name, place in PLACES.items():
        mask = Path(f"{folders[name]}_label-lesion_mask.nii.gz")
        (truth / place).parent.mkdir(parents=True, exist_ok=True)
        if "#" not in place:
            shutil.copy(mask, truth / place)
            continue
        # One part of the lesions in each file, and the scan itself beside them.
        image = nibabel.load(mask)
        array = np.asarray(image.dataobj)
        assert array.any()
        for part, words in enumerate(("", "_1", "_2")):
            piece = np.where(np.arange(len(array))[:, None, None] % 3 == part, array, 0)
            nibabel.save(
                nibabel.Nifti1Image(piece, image.affine), truth / place.replace("#", words)
            )
        shutil.copy(source / name, truth / name)

    assert main(["score", str(out), str(truth), "-o", str(tmp_path / "s"), "--json"]) == 0
    scored = json.loads((tmp_path / "s" / "scores_atlas2022.json").read_text())
    assert scored["problems"] == []
    assert len(scored["cases"]) == len(PLACES)
    assert all(case["dice"] == 1 for case in scored["cases"])
    rows = read_table(tmp_path / "s" / "scores_atlas2022_cases.tsv")
    assert sorted(len(row["truth"].split()) for row in rows) == [1, 1, 1, 1, 3, 3]
    summary = {
        row["measure"]: row for row in read_table(tmp_path / "s" / "scores_atlas2022_summary.tsv")
    }
    free = [case for case in scored["cases"] if case["n_truth"] == 0]
    assert summary["lesion_free_exactly_empty"]["n"] == len(free)
