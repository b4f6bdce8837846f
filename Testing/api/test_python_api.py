"""``import stroke_lesion_seg``: every form of a scan gives the same lesions, in its own form."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import stroke_lesion_seg
from cli_support import AFFINE, head_array, write_dicom_series, write_head
from StrokeLesionSegLib import cli
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.models import load_model

# An oblique grid too: an order of axes or a sign that is wrong shows there.
TURNED = np.eye(4)
TURNED[:3, :3] = [[0.1, -1.19, 0.0], [1.19, 0.1, 0.0], [0.0, 0.0, 1.5]]
TURNED[:3, 3] = [30.0, -20.0, -24.0]
FORCED: dict[str, Any] = {
    "model": "tiny",
    "options": stroke_lesion_seg.Options(align="none", force=True, threshold=0.3),
}
# The same at the model's own operating point.
USUAL = stroke_lesion_seg.Options(align="none", force=True)


pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("affine", [AFFINE, TURNED], ids=["straight", "turned"])
def test_all_forms_give_the_same(affine: np.ndarray, tmp_path: Path) -> None:
    values = head_array()
    path = write_head(tmp_path / "t1.nii.gz", values, affine)
    image = sitk.ReadImage(str(path))
    of_array = stroke_lesion_seg.segment(values, affine, **FORCED)
    of_file = stroke_lesion_seg.segment(path, **FORCED)
    of_nibabel = stroke_lesion_seg.segment(nibabel.load(path), **FORCED)
    of_sitk = stroke_lesion_seg.segment(image, **FORCED)
    assert "_scan" not in repr(of_file)  # with all bytes of its header

    mask = of_array.mask
    assert mask.shape == values.shape
    assert mask.dtype == np.uint8
    assert 0 < mask.sum() < mask.size
    for result in (of_file, of_nibabel):
        assert isinstance(result.mask, nibabel.Nifti1Image)
        assert np.array_equal(np.asarray(result.mask.dataobj), mask)
        assert np.allclose(result.mask.affine, affine, atol=1e-5)
    assert isinstance(of_sitk.mask, sitk.Image)
    assert np.array_equal(sitk.GetArrayFromImage(of_sitk.mask), mask.T)
    # On the scan's grid, by SimpleITK's own judgement.
    assert np.allclose(of_sitk.mask.GetDirection(), image.GetDirection(), atol=1e-6)
    assert np.allclose(of_sitk.mask.GetOrigin(), image.GetOrigin(), atol=1e-4)
    assert np.allclose(of_sitk.mask.GetSpacing(), image.GetSpacing(), atol=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(of_array.as_sitk()), mask.T)
    assert of_array.as_array("labels").max() == len(of_array.lesions)
    assert of_array.volume_ml == pytest.approx(mask.sum() * 1.2 * 1.2 * 1.5 / 1000, rel=0.02)


def test_it_is_what_the_command_finds(tmp_path: Path) -> None:
    """At the model's own operating point, which nobody has to name."""
    path = write_head(tmp_path / "t1.nii.gz")
    options = ["--model", "tiny", "--align", "none", "--force"]
    assert cli.main(["segment", str(path), *options]) == 0
    result = stroke_lesion_seg.segment(path, model="tiny", options=USUAL)
    result.save(
        tmp_path / "mask.nii.gz",
        probability=tmp_path / "probability.nrrd",
        table=tmp_path / "lesions.tsv",
    )
    same = (("t1_lesion.nii.gz", "mask.nii.gz"), ("t1_lesion.tsv", "lesions.tsv"))
    for ours, written in same:
        assert (tmp_path / ours).read_bytes() == (tmp_path / written).read_bytes()
    model = load_model("tiny")
    assert result.lesion_map.operating_point == model.manifest.operating_point()
    assert result.model == "tiny 0.0.1"
    # A model's folder, as a path too.
    again = stroke_lesion_seg.segment(path, model=model.directory, options=USUAL)
    assert np.array_equal(again.as_array(), result.as_array())
    with pytest.raises(InputError, match=r"mask\.nii\.gz: exists already"):
        result.save(tmp_path / "mask.nii.gz")


def test_a_dicom_folder_by_its_series(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    for number in (1, 2):
        write_dicom_series(folder, uid=f"1.2.826.0.1.3680043.10.511.9.{number}", shift=number)
    with pytest.raises(InputError, match="series"):
        stroke_lesion_seg.segment(folder, **FORCED)
    uid = "1.2.826.0.1.3680043.10.511.9.2"
    chosen = replace(FORCED["options"], series=uid)
    result = stroke_lesion_seg.segment(folder, model="tiny", options=chosen)
    assert result.mask.shape == (40, 46, 12)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((np.zeros((8, 8, 8)),), TypeError, "needs its affine"),
        ((3,), TypeError, "not int"),
        (("nowhere.nii.gz", np.eye(4)), TypeError, "for arrays only"),
        (("nowhere.nii.gz",), InputError, "no such file"),
        ((np.zeros((8, 8, 8)), np.eye(4)), InputError, "constant"),
        ((np.ones((8, 8)), np.eye(4)), InputError, "2D"),
        ((np.random.default_rng(0).random((8, 8, 8)), np.eye(3)), InputError, "not (4, 4)"),
        ((head_array(), AFFINE.T), InputError, "its last row is 24 -27 -24 1, not 0 0 0 1"),
        (([["a"]], np.eye(4)), InputError, "not scalar"),
        ((sitk.Image([8, 8], sitk.sitkUInt8),), InputError, "2 axes"),
    ],
)
def test_what_cannot_be_used_is_told(arguments: tuple, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        stroke_lesion_seg.segment(*arguments, **FORCED)
    assert says in str(caught.value)


def test_options_in_no_known_form_are_told() -> None:
    with pytest.raises(TypeError, match=r"options are stroke_lesion_seg\.Options, not dict"):
        stroke_lesion_seg.segment(head_array(), AFFINE, options={"threshold": 0.4})


def test_a_model_in_no_known_form_is_told() -> None:
    with pytest.raises(TypeError, match="a model is a name, a folder or a loaded one, not int"):
        stroke_lesion_seg.segment(head_array(), AFFINE, model=3)


def test_noise_is_refused_without_force() -> None:
    noise = np.random.default_rng(0).random((64, 64, 64))
    with pytest.raises(InputError):
        stroke_lesion_seg.segment(noise, np.diag([3.0, 3, 3, 1]), model="tiny")


def test_importing_is_cheap(repository: Path) -> None:
    code = "import sys, stroke_lesion_seg; print(*(m for m in sys.modules if '.' not in m))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository / "StrokeLesionSeg",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert not set(output.split()) & {"torch", "SimpleITK", "scipy", "nibabel", "pydicom"}
