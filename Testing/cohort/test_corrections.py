"""Corrected masks: never overwritten, preferred by tables and maps, not used if the T1 changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cli_support
import numpy as np
import pytest
from cohort_support import QUICK, batch, records, write_cohort
from scipy import ndimage
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort.corrected import SourceScans, corrected_masks, input_of
from StrokeLesionSegLib.cohort.corrections import save_correction
from StrokeLesionSegLib.cohort.dataset import write_description
from StrokeLesionSegLib.cohort.index_page import mask_file, mask_of
from StrokeLesionSegLib.images import Volume, read_scan, write_volume
from StrokeLesionSegLib.lesions import read_sidecar, read_table

pytestmark = pytest.mark.usefixtures("home")
MASK = np.zeros(cli_support.SHAPE[::-1], np.uint8)
MASK[5:9, 5:9, 5:9] = 1
MASK[20:23, 20:24, 30:34] = 1


def corrected(out: Path) -> Path:
    """``sub-Case0`` gets a correction; the batch is to be done."""
    (record,) = [r for r in records(out) if r["stem"] == "sub-Case0"]
    found = mask_of(out, record)
    assert found is not None
    return save_correction(out, record, found[0].with_array(MASK), "R1")


def rows(out: Path) -> dict[str, dict[str, object]]:
    return {str(row["scan"]): row for row in read_table(out / "group_scans.tsv")}


def test_tables_and_page_prefer_it_and_no_batch_touches_it(tmp_path: Path, out: Path) -> None:
    source = write_cohort(tmp_path / "in", 2)
    assert batch(source, out) == 0
    path = corrected(out)
    before = (path.read_bytes(), path.with_name("sub-Case0_desc-corrected_mask.json").read_bytes())
    for again in ((), ("--no-resume",)):
        assert batch(source, out, *again) == 0
        row = rows(out)["sub-Case0"]
        voxel = abs(np.linalg.det(cli_support.AFFINE[:3, :3])) / 1000
        assert row["corrected"] is True
        assert row["lesions"] == 2
        assert row["volume_ml"] == pytest.approx(MASK.sum() * voxel, rel=1e-4)
        assert rows(out)["sub-Case1"]["corrected"] is False
        lesions = [r for r in read_table(out / "group_lesions.tsv") if r["scan"] == "sub-Case0"]
        assert [r["mean_probability"] for r in lesions] == [None, None]
        shown = f"{MASK.sum() * voxel:.2f}"
        page = (out / "index.html").read_text(encoding="utf-8")
        assert shown in page
        assert page.count("done, corrected") == 1
        assert "on their own pages too" in page
    # The scan fails now: the reader's work stays.
    (source / "case0.nii.gz").write_bytes(b"broken")
    assert batch(source, out) == 3
    assert path.read_bytes() == before[0]
    assert path.with_name("sub-Case0_desc-corrected_mask.json").read_bytes() == before[1]
    # Taken away again, everything is as the model found it.
    path.unlink()
    cli_support.write_head(source / "case0.nii.gz", cli_support.head_array(0))
    assert batch(source, out, "--retry-failed") == 0
    assert rows(out)["sub-Case0"]["corrected"] is False


@pytest.mark.parametrize(
    "cause", ["another T1", "another grid", "soft", "several labels", "broken"]
)
def test_one_that_does_not_fit_is_named_and_not_used(
    tmp_path: Path, out: Path, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_cohort(tmp_path / "in", 2)
    assert batch(source, out) == 0
    before = rows(out)["sub-Case1"]
    path = corrected(out)
    if cause == "another T1":
        cli_support.write_head(source / "case0.nii.gz", cli_support.head_array(7))
    elif cause == "another grid":
        from StrokeLesionSegLib.images import write_volume

        volume = read_scan(path).volume
        write_volume(path, Volume(volume.array[:-1], volume.affine), overwrite=True)
    elif cause == "soft":
        from StrokeLesionSegLib.images import write_volume

        mask = read_scan(path).volume
        soft = mask.with_array(ndimage.gaussian_filter(mask.array.astype(np.float32), 2))
        write_volume(path, soft, overwrite=True, dtype=np.float32)
    elif cause == "several labels":  # lesion and ventricle, as Slicer exports two segments
        from StrokeLesionSegLib.images import write_volume

        mask = read_scan(path).volume
        labels = mask.array.copy()
        labels[:2] = 2
        write_volume(path, mask.with_array(labels), overwrite=True)
    else:
        path.write_bytes(b"broken")
    kept = path.read_bytes()
    assert batch(source, out) == 0
    said = capsys.readouterr().err
    assert "sub-Case0_desc-corrected_mask.nii.gz is not used" in said
    assert ("T1 has changed" in said) is (cause == "another T1")
    assert rows(out)["sub-Case0"]["corrected"] is False
    assert {**rows(out)["sub-Case1"], "seconds": 0} == {**before, "seconds": 0}
    assert path.read_bytes() == kept


def shown(out: Path, name: str = "lesions") -> str:
    page = out / "sub-Case0" / "anat" / f"sub-Case0_desc-{name}_report.html"
    return page.read_text(encoding="utf-8")


def test_its_own_page_shows_it_until_it_is_taken_away(tmp_path: Path, out: Path) -> None:
    source = write_cohort(tmp_path / "in", 2)
    assert batch(source, out, "--reports") == 0
    automatic = shown(out)
    assert "Corrected by" not in automatic
    path = corrected(out)
    for again in ((), (), ("--no-resume",)):
        assert batch(source, out, "--reports", *again) == 0
        page = shown(out)
        assert "Corrected by R1 on 20" in page
        voxel = abs(np.linalg.det(cli_support.AFFINE[:3, :3])) / 1000
        assert f"2 lesions, {MASK.sum() * voxel:.2f} mL in all" in page
        assert "nobody has checked it" not in page
        assert "Mean probability" not in page
        assert 'href="./sub-Case0_desc-automatic_report.html"' in page
        assert "Corrected by" not in shown(out, "automatic")
        other = out / "sub-Case1" / "anat" / "sub-Case1_desc-lesions_report.html"
        assert "Corrected by" not in other.read_text(encoding="utf-8")
    told = records(out)
    # Once after the first run, once more since all was done again; no run repeats it.
    assert [r.get("page_of", "") != "" for r in told if r["stem"] == "sub-Case0"] == [
        *(False, True),
        *(False, True),
    ]
    # Another correction gives another page; the automatic one is kept.
    kept = shown(out, "automatic")
    save_correction(out, told[0], read_scan(path).volume.with_array(0 * MASK), "R2")
    assert batch(source, out, "--reports") == 0
    assert "Corrected by R2 on 20" in shown(out)
    assert "The corrected mask is empty." in shown(out)
    assert shown(out, "automatic") == kept
    # Taken away, the automatic page is in its place again, and no scan is done again.
    path.unlink()
    before = len(records(out))
    assert batch(source, out, "--reports") == 0
    assert shown(out) == kept
    assert not (out / "sub-Case0" / "anat" / "sub-Case0_desc-automatic_report.html").exists()
    assert len(records(out)) == before + 1
    assert batch(source, out, "--reports") == 0
    assert len(records(out)) == before + 1


def test_without_its_t1_a_page_stays_and_that_is_said(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_cohort(tmp_path / "in", 2)
    assert batch(source, out, "--reports") == 0
    corrected(out)
    (source / "case0.nii.gz").unlink()
    assert batch(source, out, "--reports") == 0
    said = [x for x in capsys.readouterr().err.splitlines() if "still shows" in x]
    assert len(said) == 1
    assert "still shows the automatic mask: its T1 is not found" in said[0]
    assert "Corrected by" not in shown(out)


def test_the_automatic_outline_is_drawn_beside_it(tmp_path: Path, out: Path) -> None:
    source = write_cohort(tmp_path / "in", 1)
    assert batch(source, out, "--reports", "--threshold", "0.05") == 0
    (record,) = records(out)
    assert record["lesions"] > 0
    assert 'class="automatic"' not in shown(out)
    corrected(out)
    assert batch(source, out, "--reports", "--threshold", "0.05") == 0
    assert 'class="automatic"' in shown(out)
    assert "The automatic one: " in shown(out)


def test_what_its_json_says(tmp_path: Path, out: Path) -> None:
    assert batch(write_cohort(tmp_path / "in", 1), out) == 0
    facts = read_sidecar(corrected(out).with_name("sub-Case0_desc-corrected_mask.json"))
    (record,) = records(out)
    assert facts["source"]["sha256"] == record["input"]["sha256"]
    assert facts["model"]["sha256"] == record["model_sha256"]
    assert facts["corrected_by"] == "R1"
    assert facts["corrected"].startswith("20")


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_one_in_a_linked_folder_is_found(tmp_path: Path) -> None:
    """Subjects may lie on another disk; ``batch`` enters such folders too."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "sub-1_desc-corrected_mask.nii.gz").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub-1").symlink_to(tmp_path / "disk")
    assert [mask.stem for mask in corrected_masks(tmp_path / "out")] == ["sub-1"]


def test_scans_of_an_earlier_input_are_found_too(tmp_path: Path, out: Path) -> None:
    """The description names the last one; a DICOM folder goes by a checksum."""
    first, second = write_cohort(tmp_path / "first", 1), write_cohort(tmp_path / "second", 2)
    cli_support.write_dicom_series(first / "DOE_JANE", uid="1.2.3")
    (second / "case0.nii.gz").unlink()
    for source in (first, second):
        assert batch(source, out) == 0
    sources = SourceScans(out)
    found = {sources.find(record["source"]) for record in records(out)}
    assert found == {first / "case0.nii.gz", first / "DOE_JANE", second / "case1.nii.gz"}
    # Those of an input that is named lie there.
    path = SourceScans(out, second).find("case0.nii.gz")
    assert path is not None
    assert not path.exists()


def test_traces_beside_it_are_no_lesions(tmp_path: Path, out: Path) -> None:
    """Resampling leaves them, and they fill the volume."""
    source = write_cohort(tmp_path / "in", 1)
    assert batch(source, out) == 0
    path = corrected(out)
    volume = read_scan(path).volume
    traces = np.where(volume.array > 0, np.float32(0.9999), np.float32(1e-6))
    write_volume(path, volume.with_array(traces), dtype=np.float32, overwrite=True)
    assert batch(source, out) == 0
    row = rows(out)["sub-Case0"]
    assert (row["corrected"], row["lesions"]) == (True, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_an_input_whose_name_is_of_an_old_code_page_is_found(tmp_path: Path) -> None:
    source, out = tmp_path / os.fsdecode(b"M\xfcller"), tmp_path / "out"
    source.mkdir()
    out.mkdir()
    write_description(out, source, {})
    assert input_of(out) == source
    assert str(tmp_path) not in (out / "dataset_description.json").read_text(encoding="utf-8")


def test_an_automatic_mask_that_somebody_has_numbered_ends_no_group(
    tmp_path: Path, out: Path
) -> None:
    source = write_cohort(tmp_path / "in", 1)
    assert batch(source, out) == 0
    (record,) = records(out)
    found = mask_of(out, record)
    assert found is not None
    further = np.arange(MASK.shape[0])[:, None, None] > 15
    numbered = found[0].with_array(MASK * np.where(further, 2, 1).astype(np.uint8))
    write_volume(mask_file(out, record), numbered, overwrite=True)
    assert mask_of(out, record) is None
    assert main(["batch", str(source), str(out), "group", *QUICK]) == 0
