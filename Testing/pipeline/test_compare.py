"""``compare``: heads that were moved, lesions that changed, fields that do not cover all."""

from __future__ import annotations

import json
from pathlib import Path

import cli_support
import numpy as np
import pytest
from heads import AFFINE, SHAPE, ball, head, move, moved
from scipy import ndimage
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.images import Volume, align_rigid, read_scan, write_volume
from StrokeLesionSegLib.images.space.rigid import half_of
from StrokeLesionSegLib.lesions import read_table
from StrokeLesionSegLib.models.store import HOME_VARIABLE
from StrokeLesionSegLib.pipeline import CompareOptions, compare_files, known_time_point

pytestmark = pytest.mark.usefixtures("aligned_once")


def test_half_of_a_movement_done_twice_is_the_movement() -> None:
    for seed in range(5):
        matrix = move(seed)
        half = half_of(matrix)
        np.testing.assert_allclose(half @ half, matrix, atol=1e-12)
        np.testing.assert_allclose(half[:3, :3] @ half[:3, :3].T, np.eye(3), atol=1e-12)


def test_a_movement_is_found_and_a_stranger_is_seen() -> None:
    volume, matrix = head(1), move(3)
    rng = np.random.default_rng(0)
    repeat = moved(volume.array, matrix) ** 0.9 + rng.normal(0, 8, SHAPE)
    found = align_rigid(volume, Volume(repeat.astype(np.float32), AFFINE))
    inside = np.array([[40, 0, 0, 1], [-40, 20, 10, 1], [0, -60, 30, 1], [0, 50, -40, 1.0]]).T
    assert np.abs((found.matrix - matrix) @ inside).max() < 0.7
    assert found.same_person
    np.testing.assert_allclose(
        np.linalg.inv(found.to_half_b) @ found.to_half_a, found.matrix, atol=1e-9
    )
    again = align_rigid(volume, Volume(repeat.astype(np.float32), AFFINE))
    np.testing.assert_allclose(again.matrix, found.matrix, atol=1e-4)
    assert not align_rigid(volume, head(2)).same_person


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions of one person with known masks, and a stranger."""
    folder = tmp_path_factory.mktemp("study")
    person, matrix = head(1), move(4)
    before = ball((40, 0, 20), 12) | ball((-40, -20, 0), 10) | ball((-20, 40, 30), 8)
    # The first has grown, the second is as it was, the third is gone and a fourth is new.
    after = ball((40, 0, 20), 16) | ball((-40, -20, 0), 10) | ball((10, -60, -10), 9)
    write = {
        "sub-01_ses-1_T1w": person.array,
        "mask-1": before.astype(np.uint8),
        "sub-01_ses-2_T1w": moved(person.array, matrix),
        "mask-2": moved(after, matrix, labels=True),
        "sub-02_ses-2_T1w": head(2).array,
        "scan": head(2).array,
    }
    for name, array in write.items():
        write_volume(folder / f"{name}.nii.gz", Volume(array, AFFINE))
    # The same head, cut off above: what lies there cannot be compared.
    write_volume(folder / "cut.nii.gz", Volume(write["sub-01_ses-2_T1w"][:33], AFFINE))
    write_volume(folder / "cut-mask.nii.gz", Volume(write["mask-2"][:33], AFFINE))
    return folder


def compare(study: Path, second: str, out: Path, *more: str, mask: str = "mask-2") -> int:
    names = [str(study / f"{name}.nii.gz") for name in ("sub-01_ses-1_T1w", second)]
    masks = ["--mask-a", str(study / "mask-1.nii.gz"), "--mask-b", str(study / f"{mask}.nii.gz")]
    return main(["compare", *names, *masks, "-o", str(out), "--progress", "none", *more])


def test_files(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert compare(study, "sub-01_ses-2_T1w", out) == 0
    rows = read_table(out / "change.tsv")
    kinds = {row["class"]: row for row in rows}
    assert sorted(row["class"] for row in rows) == ["gone", "grown", "new", "unchanged"]
    voxel = 0.027
    before, after = (ball((40, 0, 20), r).sum() * voxel for r in (12, 16))
    assert kinds["grown"]["volume_a_ml"] == pytest.approx(before, rel=1e-3)
    assert kinds["grown"]["volume_b_ml"] == pytest.approx(after, rel=0.08)
    assert kinds["gone"]["volume_b_ml"] == 0
    assert kinds["new"]["volume_a_ml"] == 0
    # Where they are, in the first scan, also of one that only the second has.
    for kind, place in (("gone", (-20, 40, 30)), ("new", (10, -60, -10)), ("grown", (40, 0, 20))):
        centre = [kinds[kind][f"centre_{axis}_mm"] for axis in "ras"]
        assert np.abs(np.subtract(centre, place)).max() < 1.5
    content = json.loads((out / "change.json").read_text(encoding="utf-8"))
    assert content["groups"] == {"new": 1, "grown": 1, "unchanged": 1, "gone": 1}
    matrix = np.array(content["alignment"]["matrix_ras_mm_first_to_second"])
    assert np.abs(matrix[:3, 3] - move(4)[:3, 3]).max() < 1
    page = (out / "change.html").read_text(encoding="utf-8")
    assert "4 groups of lesions" in page
    assert page.count('class="sheet"') == 4
    assert str(study) not in page
    assert "grown" in capsys.readouterr().out
    # Nothing is replaced that is there.
    assert compare(study, "sub-01_ses-2_T1w", out) == 2
    assert "exists already" in capsys.readouterr().err


def test_json_progress_tells_path_counts_and_seconds(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert compare(study, "sub-01_ses-2_T1w", Path("out"), "--progress", "json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["output"] == str(tmp_path / "out")
    assert told["seconds"] > 0


def test_values_are_put_right_as_for_segment(study: Path, tmp_path: Path) -> None:
    """The second scan with its sign turned, as some converters leave it."""
    second = read_scan(study / "sub-01_ses-2_T1w.nii.gz").volume
    turned = second.with_array(-np.abs(second.array))
    write_volume(study / "turned.nii.gz", turned)
    assert compare(study, "turned", tmp_path / "out") == 0
    assert len(read_table(tmp_path / "out" / "change.tsv")) == 4


def test_what_is_not_covered_is_said(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert compare(study, "cut", out, mask="cut-mask") == 0
    rows = {row["class"]: row for row in read_table(out / "change.tsv")}
    # The one that is gone lay above the cut.
    assert "gone" not in rows
    assert rows["not covered"]["change_ml"] is None
    assert rows["not covered"]["not_covered_ml"] > 1
    told = [x.split() for x in capsys.readouterr().out.splitlines() if "not covered" in x]
    assert told
    assert all(line[-2:] == ["-", "-"] for line in told)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("sub-02_ses-2_T1w", "is of sub-02, but the first scan is of sub-01"),
        ("scan", "does not look like a scan of the same person"),
        ("sub-01_ses-1_T1w", "is the first scan again"),
        ("missing", "there is no such file"),
    ],
)
def test_two_people(
    study: Path, tmp_path: Path, second: str, says: str, capsys: pytest.CaptureFixture
) -> None:
    assert compare(study, second, tmp_path / "new" / "out") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_sessions_in_the_wrong_order(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scans = [str(study / f"sub-01_ses-{n}_T1w.nii.gz") for n in (2, 1)]
    assert main(["compare", *scans, "-o", str(tmp_path / "out")]) == 2
    assert "comes after sub-01_ses-1_T1w.nii.gz by its session" in capsys.readouterr().err


def test_sessions_of_a_bids_subject(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for n in (1, 2):
        anat = tmp_path / "sub-01" / f"ses-{n}" / "anat"
        anat.mkdir(parents=True)
        name = f"sub-01_ses-{n}_T1w.nii.gz"
        (anat / name).write_bytes((study / name).read_bytes())
        (anat / f"._{name}").write_bytes(b"of macOS")
    sessions = [str(tmp_path / "sub-01" / f"ses-{n}") for n in (1, 2)]
    masks = ["--mask-a", str(study / "mask-1.nii.gz"), "--mask-b", str(study / "mask-2.nii.gz")]
    assert main(["compare", *sessions, *masks, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "change.tsv").is_file()
    (tmp_path / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii.gz").unlink()
    assert main(["compare", *sessions, *masks, "-o", str(tmp_path / "out2")]) == 2
    assert "has no T1-weighted scan" in capsys.readouterr().err


def test_lesions_of_the_first_scan_do_not_stay_if_the_second_cannot_be_used(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    cli_support.write_tiny_model(tmp_path / "home")
    scans = [str(study / "scan.nii.gz"), str(tmp_path / "bad.nii.gz")]
    Path(scans[1]).write_bytes(b"no image")
    quick = ("--model", "tiny", "--align", "none", "--force", "--progress", "none")
    for _ in range(2):
        assert main(["compare", *scans, "-o", str(tmp_path / "out"), *quick]) == 2
        error = capsys.readouterr().err
        assert "bad.nii.gz" in error
        assert "exists already" not in error
        assert not (tmp_path / "out").exists()


def test_results_do_not_replace_a_scan(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The second scan is called as the mask of the first would be."""
    scans = [tmp_path / "a.nii.gz", tmp_path / "a_lesion.nii.gz"]
    for scan in scans:
        scan.write_bytes((study / "scan.nii.gz").read_bytes())
    there = scans[1].read_bytes()
    quick = ("--views", "axial", "--align", "none", "--force", "--overwrite")
    assert main(["compare", *map(str, scans), "-o", str(tmp_path), *quick]) == 2
    assert "the output is the input" in capsys.readouterr().err
    assert scans[1].read_bytes() == there


def test_a_mask_of_another_scan(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert compare(study, "cut", tmp_path / "out", mask="mask-2") == 2
    assert "is not on the grid of cut.nii.gz" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--threshold", "0.3"], ["--tta"], ["--model", "other"], ["--device", "cpu"]]
)
def test_with_both_masks_what_finds_lesions_is_refused(
    study: Path, tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert compare(study, "sub-01_ses-2_T1w", tmp_path / "out", *option) == 2
    error = capsys.readouterr().err
    assert f"{option[0]}: is for lesions that are to be found" in error
    assert error.count("\n") == 1


def test_the_folder_may_be_given_as_text(study: Path, tmp_path: Path) -> None:
    scans = tuple(str(study / f"sub-01_ses-{n}_T1w.nii.gz") for n in (1, 2))
    masks = (study / "mask-1.nii.gz", study / "mask-2.nii.gz")
    compare_files(scans, str(tmp_path / "out"), CompareOptions(masks))
    assert (tmp_path / "out" / "change.tsv").is_file()


def test_a_soft_map_is_no_mask(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mask = read_scan(study / "mask-2.nii.gz").volume
    soft = ndimage.gaussian_filter(mask.array.astype(np.float32), 2)
    write_volume(study / "soft.nii.gz", mask.with_array(soft), dtype=np.float32)
    assert compare(study, "sub-01_ses-2_T1w", tmp_path / "out", mask="soft") == 2
    assert "is a soft or probability map" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_map_of_lesion_and_ventricle_is_no_mask(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mask = read_scan(study / "mask-2.nii.gz").volume
    labels = mask.array.astype(np.uint8)
    labels[:2] = 2
    write_volume(study / "labels.nii.gz", mask.with_array(labels))
    assert compare(study, "sub-01_ses-2_T1w", tmp_path / "out", mask="labels") == 2
    assert "holds several labels (1, 2)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_traces_beside_a_mask_are_no_lesions(study: Path) -> None:
    """Resampling leaves them, and they fill the volume."""
    scan, mask = (study / f"{name}.nii.gz" for name in ("sub-01_ses-1_T1w", "mask-1"))
    volume = read_scan(mask).volume
    traces = np.where(volume.array > 0, np.float32(0.9999), np.float32(1e-6))
    write_volume(study / "traces.nii.gz", volume.with_array(traces), dtype=np.float32)
    whole, traced = (known_time_point(scan, m, "1") for m in (mask, study / "traces.nii.gz"))
    assert traced.lesion_map.summary == whole.lesion_map.summary


def test_a_dicom_folder_named_as_a_patient_gets_into_no_output(tmp_path: Path) -> None:
    points = []
    for n, name in enumerate(("DOE_JANE_1", "DOE_JANE_2")):
        folder = cli_support.write_dicom_series(tmp_path / name, uid=f"1.2.3.{n}", slices=24)
        scan = read_scan(folder).volume
        mask = np.zeros(scan.array.shape, np.uint8)
        mask[8:12, 8:12, 8:12] = 1
        write_volume(tmp_path / f"mask-{n}.nii.gz", scan.with_array(mask))
        points.append(str(folder))
    masks = [
        "--mask-a",
        str(tmp_path / "mask-0.nii.gz"),
        "--mask-b",
        str(tmp_path / "mask-1.nii.gz"),
    ]
    out = tmp_path / "out"
    assert main(["compare", *points, *masks, "-o", str(out), "--force"]) == 0
    for file in out.iterdir():
        assert "DOE" not in file.name
        assert b"DOE" not in file.read_bytes()
