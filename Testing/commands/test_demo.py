"""The demo: its simulated stroke, and the whole command with a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import cli_support
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.images import MNI_GRID, Volume
from StrokeLesionSegLib.sample_scan import SimulatedStroke, stroke_in_template

pytest.importorskip("nilearn")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def phantom() -> tuple[Volume, Volume, Volume]:
    """T1, grey and white matter of a ball of white matter in a shell of grey, with a ventricle."""
    affine = np.eye(4)
    affine[:3, 3] = -80, -90, -60
    k, j, i = np.meshgrid(*(np.arange(n) for n in (140, 150, 160)), indexing="ij")
    x, y, z = i - 80, j - 90 + 15, k - 60 - 15
    radius = np.sqrt(x**2 + y**2 + z**2)
    ventricle = np.sqrt(x**2 + y**2 + z**2) < 14
    white = ((radius < 55) & ~ventricle).astype(np.float32)
    grey = ((radius >= 55) & (radius < 65)).astype(np.float32)
    t1 = (0.9 * white + 0.6 * grey + 0.25 * ventricle).astype(np.float32)
    return Volume(t1, affine), Volume(grey, affine), Volume(white, affine)


@pytest.fixture(scope="module")
def stroke(phantom: tuple[Volume, Volume, Volume]) -> SimulatedStroke:
    return stroke_in_template(*phantom, seed=3)


def test_the_simulated_stroke_is_what_it_says(
    phantom: tuple[Volume, Volume, Volume], stroke: SimulatedStroke
) -> None:
    t1, grey, white = phantom
    assert stroke.t1.array.dtype == np.int16
    truth = stroke.truth.array > 0
    assert 10_000 < truth.sum() < 120_000  # 1 mm voxels: 10 to 120 mL
    # Nearly all of it is where tissue was, and all of it is in the brain.
    assert ((grey.array + white.array)[truth] > 0.5).mean() > 0.95
    x = np.broadcast_to(np.arange(truth.shape[2]) - 80, truth.shape)
    assert (x[truth] < 0).mean() > 0.9  # RAS: the cavity is on the left
    assert (x[truth] > 0).any()  # and the lacune on the right
    assert stroke.centre_ras_mm[0] < -25

    values = stroke.t1.array / 1000 / (0.9 / t1.array.max()) * 0.9
    ventricle = t1.array == np.float32(0.25)
    assert np.median(values[truth]) == pytest.approx(np.median(values[ventricle]), rel=0.2)
    # The rim is darker than white matter far away, and brighter than the cavity.
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(~truth)
    deep_white = ndimage.binary_erosion(white.array > 0, iterations=3)
    rim = values[deep_white & (distance > 1.5) & (distance <= 3)]
    far = values[deep_white & (distance > 12)]
    assert np.median(values[truth]) < 0.8 * np.median(rim)
    assert np.median(rim) < 0.95 * np.median(far)
    # Outside the brain there is nothing.
    assert not stroke.t1.array[t1.array == 0].any()


def test_seeds_decide(phantom: tuple[Volume, Volume, Volume], stroke: SimulatedStroke) -> None:
    again, other = (stroke_in_template(*phantom, seed=n).t1.array for n in (3, 2))
    np.testing.assert_array_equal(stroke.t1.array, again)
    assert (stroke.t1.array != other).any()


@pytest.mark.slow
def test_the_whole_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_support.write_tiny_model(tmp_path / "home")
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    out = tmp_path / "out"
    arguments = ["demo", "--out", str(out), "--model", "tiny", "--progress", "json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["stage"] == "result"
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("t1.nii.gz", "truth.nii.gz", "lesion.nii.gz", "probability.nii.gz", "uncertainty.nii.gz"),
        *("lesion.tsv", "lesion.json", "demo.png"),
    }
    truth, mask = (
        np.asarray(nibabel.load(out / name).dataobj) > 0
        for name in ("truth.nii.gz", "lesion.nii.gz")
    )
    assert truth.shape == mask.shape == MNI_GRID.shape[::-1]
    dice = 2 * (truth & mask).sum() / (truth.sum() + mask.sum())
    assert result["dice"] == pytest.approx(dice, abs=1e-4)
    assert result["truth_ml"] == pytest.approx(truth.sum() / 1000)
    from PIL import Image

    with Image.open(out / "demo.png") as picture:
        assert picture.width > 600
        assert np.asarray(picture.convert("L")).std() > 10

    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
