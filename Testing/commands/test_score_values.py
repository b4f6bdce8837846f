"""``score`` on label maps, soft maps and segmentations; a part that is scored is exit code 3."""

from __future__ import annotations

import json
from pathlib import Path

import cli_support
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from StrokeLesionSegLib.cli import main

SHAPE = cli_support.SHAPE


def box(start: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[10:20, 10:20, start : start + 10] = 1
    return array


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.nii.gz"
    cli_support.write_head(path, box(10))
    return path


def dice(capsys: pytest.CaptureFixture[str], *arguments: object) -> float:
    capsys.readouterr()
    assert main(["score", *map(str, arguments), "--json"]) == 0
    return float(json.loads(capsys.readouterr().out)["dice"])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main(["score", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_map_of_labels(tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.full(SHAPE, 2, np.uint8)
    labels[box(12) > 0] = 99
    cli_support.write_head(tmp_path / "labels.nii.gz", labels)
    assert "several labels (2, 99)" in refusal(capsys, tmp_path / "labels.nii.gz", truth)
    for label in ("99", "pred=99"):
        assert dice(capsys, tmp_path / "labels.nii.gz", truth, "--label", label) == pytest.approx(
            0.8
        )
    both = ("--label", "pred=99", "--label", "truth=1")
    assert dice(capsys, tmp_path / "labels.nii.gz", truth, *both) == pytest.approx(0.8)
    # The other way round, too: a reference of core and penumbra.
    assert "several labels" in refusal(capsys, truth, tmp_path / "labels.nii.gz")
    assert main(["score", str(truth), str(truth), "--label", "pred="]) == 2


def test_soft_maps(tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smooth = ndimage.gaussian_filter(box(10).astype(np.float32), 1)
    for name, values in (("soft", smooth), ("percent", np.rint(100 * smooth).astype(np.uint8))):
        file = tmp_path / f"{name}.nii.gz"
        cli_support.write_head(file, values)
        for pair in ((file, truth), (truth, file)):
            assert "--threshold" in refusal(capsys, *pair)
            assert dice(capsys, *pair, "--threshold", 0.5) > 0.9


@pytest.mark.parametrize("layers", [1, 2])
def test_segmentations_of_slicer(
    tmp_path: Path, truth: Path, layers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    brain, lesion = np.ones(SHAPE[::-1], np.uint8), box(12).T
    image = sitk.ReadImage(str(truth))
    if layers == 1:
        stored = sitk.GetImageFromArray(np.where(lesion > 0, 2, brain).astype(np.uint8))
    else:
        stored = sitk.GetImageFromArray(np.stack([brain, lesion], axis=-1), isVector=True)
    stored.CopyInformation(image)
    for number, name in enumerate(("Brain", "Lesion")):
        value = number + 1 if layers == 1 else 1
        stored.SetMetaData(f"Segment{number}_Name", name)
        stored.SetMetaData(f"Segment{number}_LabelValue", str(value))
        stored.SetMetaData(f"Segment{number}_Layer", str(number if layers == 2 else 0))
    file = tmp_path / "two.seg.nrrd"
    sitk.WriteImage(stored, str(file), True)
    assert dice(capsys, file, truth) == pytest.approx(0.8)
    assert dice(capsys, file, truth, "--label", "pred=Lesion") == pytest.approx(0.8)
    assert dice(capsys, file, truth, "--label", "pred=brain") < 0.2
    assert "Brain (1), Lesion (2)" in refusal(capsys, file, truth, "--label", "Tumour")


def test_a_mask_that_is_nan_elsewhere(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_support.write_head(tmp_path / "n.nii.gz", np.where(box(12) > 0, 1.0, np.nan))
    assert dice(capsys, tmp_path / "n.nii.gz", truth) == pytest.approx(0.8)
    cli_support.write_head(tmp_path / "all.nii.gz", np.full(SHAPE, np.nan, np.float32))
    assert dice(capsys, tmp_path / "all.nii.gz", truth) == 0


def test_what_can_be_scored_is_and_exit_3_says_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("pred", "truth"):
        (tmp_path / side).mkdir()
        for case in ("a", "b"):
            cli_support.write_head(tmp_path / side / f"{case}_mask.nii.gz", box(10))
    folders = (str(tmp_path / "pred"), str(tmp_path / "truth"))
    assert main(["score", *folders]) == 0
    cli_support.write_head(tmp_path / "pred" / "b_mask.nii.gz", box(10) + box(12))
    assert main(["score", *folders]) == 3
    assert "several labels (1, 2)" in capsys.readouterr().err
    (tmp_path / "pred" / "a_mask.nii.gz").unlink()
    assert main(["score", *folders]) == 2


def test_values_below_0_are_no_mask(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask of -1, and the logits of a network, which are no percent."""
    minus, logits = tmp_path / "minus.nii.gz", tmp_path / "logits.nii.gz"
    cli_support.write_head(minus, -box(10).astype(np.int16))
    smooth = ndimage.gaussian_filter(box(10).astype(np.float32), 1)
    cli_support.write_head(logits, 16 * smooth - 8)
    for file in (minus, logits):
        for pair in ((file, truth), (truth, file)):
            said = refusal(capsys, *pair, "--threshold", 0.5)
            assert "below 0" in said or "between -8 and" in said


def test_a_folder_and_a_file_are_no_pair(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    for pair in ((tmp_path / "folder", truth), (truth, tmp_path / "folder")):
        assert "folder: is a folder, but" in refusal(capsys, *pair)


@pytest.mark.parametrize("names", [("Lesion", "Lesion"), ("lesion", "LESION")])
def test_segments_of_one_name_are_scored_together(
    tmp_path: Path, truth: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Slicer lets two segments bear one name: here the halves of a lesion."""
    halves = box(10).T.astype(np.uint8)
    halves[15:] *= 2
    stored = sitk.GetImageFromArray(halves)
    stored.CopyInformation(sitk.ReadImage(str(truth)))
    for number, name in enumerate(names):
        stored.SetMetaData(f"Segment{number}_Name", name)
        stored.SetMetaData(f"Segment{number}_LabelValue", str(number + 1))
        stored.SetMetaData(f"Segment{number}_Layer", "0")
    file = tmp_path / "halves.seg.nrrd"
    sitk.WriteImage(stored, str(file))
    assert dice(capsys, file, truth, "--label", "Lesion") == 1
    if names[0] == names[1]:
        assert dice(capsys, file, truth) == 1
