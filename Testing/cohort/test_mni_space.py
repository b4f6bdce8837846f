"""``--space``: files in MNI space beside the others, overlap maps and the table of the group."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cli_support
import cohort_support as support
import nibabel
import numpy as np
import pytest
from scipy import ndimage
from StrokeLesionSegLib import images
from StrokeLesionSegLib.atlases import AtlasChoice, region_table
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort.corrected import corrected_masks
from StrokeLesionSegLib.cohort.corrections import save_correction, with_corrections
from StrokeLesionSegLib.cohort.dataset import write_group_tables
from StrokeLesionSegLib.cohort.index_page import mask_of
from StrokeLesionSegLib.cohort.naming import Entities
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Alignment,
    DeformableAlignment,
    Deformation,
    read_deformation,
    read_transform,
)
from StrokeLesionSegLib.inference import stages
from StrokeLesionSegLib.lesions import RegionTable, RegionVolume, read_table, write_regions

pytestmark = pytest.mark.usefixtures("home")
SPACE = "MNI152NLin2009aSym"
# What the tests take for heads is none, which the input check sees.
QUICK = ["--force", "--model", "tiny", "--precision", "float32", "--threshold", "0.3"]
MATRIX = np.array([[1.0, 0, 0, 30.0], [0, 1, 0, -4], [0, 0, 1, 8], [0, 0, 0, 1]])


def aligned(monkeypatch: pytest.MonkeyPatch, *known: Alignment) -> None:
    """The heads of these tests are no heads: what alignment says of them is said here."""
    answers = list(known)

    def answer(*arguments: object) -> Alignment:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(stages, "_align", answer)


GOOD = Alignment(MATRIX, True, "", 0.9, 0.9, 0.1)
MIRRORED = Alignment(np.diag([-1.0, 1, 1, 1]) @ MATRIX, True, "", 0.9, 0.9, 0.1)
FAILED = Alignment(np.eye(4), False, "It does not resemble a brain.", 0.1, 0.1, 0.1)


def run(source: Path, out: Path, *more: str) -> int:
    return main(["batch", str(source), str(out), *QUICK, "--progress", "none", *more])


def test_a_group_in_mni_space(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    source = support.write_cohort(tmp_path / "in", 3)
    for n in range(3):
        (source / f"case{n}.nii.gz").rename(source / f"sub-0{n}_T1w.nii.gz")
    (source / "participants.tsv").write_text(
        "participant_id\tage\tside\tnihss\nsub-00\t61\tR\t4\nsub-01\tn/a\tL\t11\n"
    )
    aligned(monkeypatch, GOOD, MIRRORED, FAILED)
    assert run(source, out, "--space", f"native,{SPACE}") == 0
    said = capsys.readouterr().err
    assert "participants.tsv lacks 1 of 3 participants (sub-02)" in said
    # What the table says itself is not taken from there, and that is said.
    assert "group_lesion_symptom.csv has columns of its own for side." in said

    states = {r["stem"]: r for r in support.records(out)}
    with (out / "group_lesion_symptom.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["side"] for row in rows} == {"left", "right"}
    assert len(rows) == 2
    total = np.zeros((197, 233, 189))
    for row in rows:
        mask = nibabel.load(out / row["mask"])
        assert mask.shape == total.shape
        assert mask.affine == pytest.approx(MNI_GRID.affine)
        voxels = np.asarray(mask.dataobj)
        assert row["mask"].endswith(
            f"{row['participant_id']}_space-{SPACE}_label-lesion_mask.nii.gz"
        )
        assert voxels.sum() / 1000 == pytest.approx(float(row["mni_volume_ml"]))
        assert float(row["volume_ml"]) == pytest.approx(states[row["scan"]]["volume_ml"], rel=1e-4)
        total += voxels
        start = str(out / row["mask"]).removesuffix("_label-lesion_mask.nii.gz")
        probability = np.asarray(nibabel.load(f"{start}_label-lesion_probseg.nii.gz").dataobj)
        assert probability[voxels > 0].mean() > 0.25
        assert json.loads(Path(f"{start}_label-lesion_mask.json").read_text())["Type"] == "Lesion"
        stem = out / states[row["scan"]]["folder"] / row["scan"]
        matrix = read_transform(f"{stem}_from-T1w_to-{SPACE}_mode-image_xfm.h5")
        assert matrix[1:] == pytest.approx(MATRIX[1:])
        assert abs(matrix[0]) == pytest.approx(MATRIX[0])
        if row["participant_id"] == "sub-01":
            assert (row["age"], row["nihss"]) == ("", "11")
    count = nibabel.load(out / "group_overlap_count.nii.gz")
    share = np.asarray(nibabel.load(out / "group_overlap_share.nii.gz").dataobj)
    assert np.array_equal(np.asarray(count.dataobj), total)
    np.testing.assert_allclose(share, total / 2)
    sides = [
        np.asarray(nibabel.load(out / f"group_overlap_{side}_count.nii.gz").dataobj)
        for side in ("left", "right")
    ]
    assert np.array_equal(sides[0] + sides[1], total)
    assert not sides[0][99:].any()
    assert not sides[1][:98].any()
    told = json.loads((out / "group_overlap_count.json").read_text())
    assert (told["NumberOfScans"], told["NotAligned"]) == (2, 1)
    # The scan that could not be aligned has its own results, and a warning.
    (failed,) = [r for r in states.values() if r["aligned"] is False]
    assert failed["state"] == "done"
    assert any("Nothing is written in MNI152NLin2009aSym" in w for w in failed["warnings"])
    assert not list(out.rglob(f"{failed['stem']}_space-*"))
    # Volumes by region, of every aligned scan and of the group.
    regions = read_table(out / "group_regions.tsv")
    for row in rows:
        mine = [r for r in regions if r["scan"] == row["scan"]]
        total_ml = sum(r["volume_ml"] for r in mine if r["kind"] == "region")
        assert total_ml == pytest.approx(float(row["volume_ml"]), rel=1e-4)
        assert sum(r["share_of_lesion"] for r in mine) == pytest.approx(1, abs=1e-3)
        sides = {r["side"]: 0.0 for r in mine}
        for r in mine:
            sides[r["side"]] += r["volume_ml"]
        assert max(sides, key=lambda side: sides[side]) in (row["side"], None)
        assert max(r["share_of_region"] or 0 for r in mine) > 0
        table = out / states[row["scan"]]["folder"] / f"{row['scan']}_desc-lesions_regions.tsv"
        own = ("region", "side", "volume_ml")
        assert [[r[n] for n in own] for r in read_table(table)] == [
            [r[n] for n in own] for r in mine
        ]
    assert {r["scan"] for r in regions} == {row["scan"] for row in rows}
    summary = read_table(out / "group_regions_summary.tsv")
    first = summary[0]
    hit = [
        r["volume_ml"]
        for r in regions
        if (r["region"], r["side"]) == (first["region"], first["side"])
    ]
    assert first["scans"] == len(hit)
    assert first["mean_ml"] == pytest.approx(sum(hit) / 2, rel=1e-3)
    assert not list(out.rglob(f"{failed['stem']}_desc-lesions_regions.tsv"))
    # Done again without the space: nothing of it stays that would pass for today's.
    assert run(source, out) == 0
    assert not list(out.rglob("sub-*_space-*"))
    assert not list(out.rglob("*_xfm.h5"))


def test_regions_are_those_of_the_corrected_mask(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    aligned(monkeypatch, GOOD)
    assert run(source, out) == 0
    before = read_table(out / "group_regions.tsv")
    (record,) = [r for r in support.records(out) if r["stem"] == "sub-Case0"]
    found = mask_of(out, record)
    assert found is not None
    drawn = np.zeros(found[0].array.shape, np.uint8)
    drawn[10:18, 10:30, 10:30] = 1
    save_correction(out, record, found[0].with_array(drawn), "R1")
    assert run(source, out) == 0
    after = read_table(out / "group_regions.tsv")
    volume = drawn.sum() * found[0].grid.voxel_volume_ml
    mine = [r for r in after if r["scan"] == "sub-Case0" and r["kind"] == "region"]
    assert sum(r["volume_ml"] for r in mine) == pytest.approx(volume, rel=1e-4)
    others = [r for r in before if r["scan"] == "sub-Case1"]
    assert [r for r in after if r["scan"] == "sub-Case1"] == others
    largest = max(r["volume_ml"] for r in mine)
    summary = read_table(out / "group_regions_summary.tsv")
    assert {r["region"] for r in mine} <= {r["region"] for r in summary}
    assert any(r["largest_ml"] >= largest for r in summary)
    # A scan that was measured by another atlas keeps its rows, which is said.
    sidecar = out / record["folder"] / "sub-Case0_label-lesion_mask.json"
    told = json.loads(sidecar.read_text(encoding="utf-8"))
    told["atlas"] = "another"
    records, notes, _ = with_corrections(out, [record], AtlasChoice())
    assert records[0]["corrected_regions"]
    assert not notes
    sidecar.write_text(json.dumps(told), encoding="utf-8")
    records, notes, _ = with_corrections(out, [record], AtlasChoice())
    assert records[0]["corrected_regions"] is None
    assert "was measured by another atlas" in notes[0]


def test_a_corrected_mask_is_written_in_mni_space_too(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    aligned(monkeypatch, GOOD)
    space = ("--space", f"native,{SPACE}")
    assert run(source, out, *space) == 0
    (record,) = [r for r in support.records(out) if r["stem"] == "sub-Case0"]
    found = mask_of(out, record)
    assert found is not None
    drawn = np.zeros(found[0].array.shape, np.uint8)
    drawn[10:18, 10:30, 10:30] = 1
    path = save_correction(out, record, found[0].with_array(drawn), "R1")

    def masks() -> dict[str, str]:
        with (out / "group_lesion_symptom.csv").open(newline="") as stream:
            return {row["scan"]: row["mask"] for row in csv.DictReader(stream)}

    automatic = masks()
    assert run(source, out, *space) == 0
    named = masks()
    assert named["sub-Case1"] == automatic["sub-Case1"]
    assert named["sub-Case0"].endswith(
        f"sub-Case0_space-{SPACE}_label-lesion_desc-corrected_mask.nii.gz"
    )
    there = nibabel.load(out / named["sub-Case0"])
    expected = images.mask_in_mni(found[0].with_array(drawn.astype(np.int32)), MATRIX)
    assert np.array_equal(np.asarray(there.dataobj).T, expected.array)
    count = np.asarray(nibabel.load(out / "group_overlap_count.nii.gz").dataobj)
    other = np.asarray(nibabel.load(out / named["sub-Case1"]).dataobj)
    assert np.array_equal(count.T, expected.array + other.T)
    # It is no correction itself, and goes with the one that it is made of.
    assert [mask.mask for mask in corrected_masks(out)] == [path]
    path.unlink()
    assert run(source, out, *space) == 0
    assert masks() == automatic
    assert not list(out.rglob("*_desc-corrected_mask*.nii.gz"))


def test_the_groups_page_shows_the_left_where_it_is_asked_for(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without pages of the scans, and where all is done."""
    source = support.write_cohort(tmp_path / "in", 1)
    aligned(monkeypatch, GOOD)
    for convention in ("Neurological", "Radiological", "Neurological"):
        more = ("--report-convention", convention.lower())
        assert main(["batch", str(source), str(out), *more, *QUICK]) == 0
        assert f"{convention} convention" in (out / "index.html").read_text(encoding="utf-8")
    assert len(support.records(out)) == 1


def test_maps_of_the_group_go_with_what_they_tell_of(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = support.write_cohort(tmp_path / "in", 2)
    aligned(monkeypatch, GOOD)
    assert run(source, out, "--space", f"native,{SPACE}") == 0
    table = out / "group_lesion_symptom.csv"
    before = table.read_text()
    (record,) = [r for r in support.records(out) if r["stem"] == "sub-Case0"]
    found = mask_of(out, record)
    assert found is not None
    path = save_correction(out, record, found[0].with_array(found[0].array * 0), "R1")
    # A correction gets into them where the spaces are not named again, too.
    assert main(["batch", str(source), str(out), "group", *QUICK]) == 0
    assert table.read_text() != before
    path.unlink()
    # Other lesions, and none of them in MNI space.
    assert run(source, out, "--threshold", "0.4") == 0
    assert not [file.name for file in out.glob("group_overlap*")]
    assert not table.exists()
    assert "group_overlap" not in (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subject\tage\nsub-00\t61\n", "it has no column participant_id"),
        ("participant_id\tage\nsub-09\t61\n", "lacks 1 of 1 participants (sub-Case0)"),
        ("participant_id\tage\nsub-Case0\n", "1 line is left out, with another number of cells"),
        ("participant_id\tage\tage\n", "its columns are not distinct"),
        ("", "it has no column participant_id"),
    ],
)
def test_participants_that_do_not_fit(
    tmp_path: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    text: str,
    told: str,
) -> None:
    source = support.write_cohort(tmp_path / "in", 1)
    (source / "participants.tsv").write_text(text)
    aligned(monkeypatch, GOOD)
    assert run(source, out, "--space", SPACE) == 0
    assert told in capsys.readouterr().err
    assert (out / "group_lesion_symptom.csv").read_text().count("\n") == 2


def test_segment_names_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scan = cli_support.write_head(tmp_path / "sub-7_T1w.nii.gz")
    aligned(monkeypatch, GOOD)
    assert main(["segment", str(scan), *QUICK, "--space", SPACE]) == 0
    names = {p.name for p in tmp_path.iterdir()}
    expected = {
        f"sub-7_space-{SPACE}_label-lesion_mask.nii.gz",
        f"sub-7_space-{SPACE}_label-lesion_probseg.nii.gz",
        f"sub-7_from-T1w_to-{SPACE}_mode-image_xfm.h5",
        "sub-7_T1w_lesion.nii.gz",
    }
    assert expected <= names
    shown = capsys.readouterr().out
    assert all(name in shown for name in expected)
    sidecar = json.loads((tmp_path / "sub-7_T1w_lesion.json").read_text())
    assert set(sidecar["outputs"].values()) >= expected

    # The alignment fails the next time: the old files must not pass for new ones.
    aligned(monkeypatch, FAILED)
    assert main(["segment", str(scan), *QUICK, "--space", SPACE, "--overwrite"]) == 0
    assert "Nothing is written in MNI152NLin2009aSym" in capsys.readouterr().err
    assert not [p for p in tmp_path.iterdir() if "MNI152" in p.name]
    assert main(["segment", str(scan), *QUICK, "--space", SPACE, "--align", "none"]) == 2
    assert "needs alignment to MNI152" in capsys.readouterr().err
    assert main(["segment", str(scan), *QUICK, "--space", "talairach"]) == 2
    assert "there is no such space" in capsys.readouterr().err


def test_a_source_that_names_a_space() -> None:
    plain = Entities("01", "", (("run", "2"),))
    assert plain.in_space(SPACE).stem == f"sub-01_run-2_space-{SPACE}"
    named = Entities("01", "", (("run", "2"), ("space", "orig")))
    assert named.in_space(SPACE).stem == f"sub-01_rec-orig_run-2_space-{SPACE}"


def test_a_deformed_group(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Masks, maps, regions and corrections follow the deformation; without one they are affine."""
    shifts = np.zeros((3, 60, 70, 60), np.float32)
    shifts[0] = 7.0
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-88, -104, -90)
    good = DeformableAlignment(Deformation(shifts, affine), "", 0.5, 0.7, (0.9, 1.1), 7.0)
    bad = DeformableAlignment(None, "The deformation gains nothing (so).", 0.5, 0.5)
    answers = [good, bad]
    monkeypatch.setattr(images, "deform_to_mni", lambda *a, **k: answers.pop(0))
    source = support.write_cohort(tmp_path / "in", 2)
    aligned(monkeypatch, GOOD)
    assert run(source, out, "--deformable") == 2
    assert "--deformable: needs results in MNI space" in capsys.readouterr().err
    assert run(source, out, "--space", f"native,{SPACE}", "--deformable") == 0

    told = {}
    for record in support.records(out):
        stem = out / record["folder"] / record["stem"]
        sidecar = json.loads(Path(f"{stem}_label-lesion_mask.json").read_text())
        told[record["stem"]] = sidecar["deformation"]
        field = read_deformation(f"{stem}_from-T1w_to-{SPACE}_mode-image_xfm.h5")
        used = sidecar["deformation"]["used"]
        assert (field is not None) is used
        assert any("are affine. The deformation" in w for w in record["warnings"]) is not used
        native = mask_of(out, record)
        assert native is not None
        labels = ndimage.label(native[0].array, np.ones((3, 3, 3)))[0]
        expected = images.mask_in_mni(
            native[0].with_array(labels), MATRIX, good.deformation if used else None
        )
        mni = nibabel.load(out / record["folder"] / record["mni_mask"])
        assert np.array_equal(np.asarray(mni.dataobj).T, expected.array)
        rows = read_table(Path(f"{stem}_desc-lesions_regions.tsv"))
        there = region_table(native[0], MATRIX, None, good.deformation if used else None)
        assert [r["region"] for r in rows] == [r["region"] for r in there.table_rows()]
    assert sorted(x["used"] for x in told.values()) == [False, True]
    maps = [
        np.asarray(nibabel.load(f).dataobj)
        for f in sorted(out.rglob(f"*_space-{SPACE}_label-lesion_mask.nii.gz"))
    ]
    count = np.asarray(nibabel.load(out / "group_overlap_count.nii.gz").dataobj)
    assert np.array_equal(count, maps[0] + maps[1])
    # A corrected mask goes the same way.
    (record,) = [r for r in support.records(out) if told[r["stem"]]["used"]]
    native = mask_of(out, record)
    assert native is not None
    half = native[0].array.copy()
    half[: half.shape[0] // 2] = 0
    save_correction(out, record, native[0].with_array(half), "R1")
    (changed,), _, _ = with_corrections(out, [record], AtlasChoice())
    wanted = region_table(native[0].with_array(half), MATRIX, None, good.deformation)
    assert changed["corrected_regions"] == wanted.table_rows()


def test_regions_that_are_called_by_numbers(tmp_path: Path) -> None:
    """Brodmann's areas 1 and 3a, one hit as often as the other; 3.10 is a name, too."""
    rows = tuple(RegionVolume(name, "left", 1.0, 0.1, 0.25) for name in ("1", "3a", "3.10"))
    write_regions(tmp_path / "sub-1_desc-lesions_regions.tsv", RegionTable("an atlas", rows, 1.0))
    drawn = [RegionVolume("1", "left", 2.0, 0.2, 1.0).row()]
    record = {"state": "done", "subject": "1", "stem": "sub-1", "folder": "."}
    other = {**record, "subject": "2", "stem": "sub-2", "corrected_regions": drawn}
    shutil.copy(
        tmp_path / "sub-1_desc-lesions_regions.tsv", tmp_path / "sub-2_desc-lesions_regions.tsv"
    )
    write_group_tables(tmp_path, [record, other])
    lines = (tmp_path / "group_regions_summary.tsv").read_text().splitlines()[1:]
    told = [tuple(line.split("\t")[n] for n in (0, 3)) for line in lines]
    assert told == [("1", "2"), ("3.10", "1"), ("3a", "1"), ("in no region", "1")]
