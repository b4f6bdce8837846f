"""The shipped MNI152 template against the full one that nilearn bundles."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.images import MNI_GRID, mni_brain_mask
from StrokeLesionSegLib.images.space.template import (
    template_brain,
    template_head,
    template_t1,
    upsample_linear,
)
from StrokeLesionSegLib.resources import resource_path

nibabel = pytest.importorskip("nibabel")
datasets = pytest.importorskip("nilearn.datasets")


@pytest.fixture(scope="module")
def full() -> tuple[np.ndarray, np.ndarray]:
    """nilearn's T1 at 1 mm in k, j, i, and its affine."""
    folder = Path(datasets.__file__).parent / "data"
    image = nibabel.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    return np.asarray(image.dataobj).T, image.affine


def test_the_grid_is_that_of_the_2009a_template(full: tuple[np.ndarray, np.ndarray]) -> None:
    t1, affine = full
    assert MNI_GRID.shape == t1.shape == (189, 233, 197)
    np.testing.assert_array_equal(MNI_GRID.affine, affine)
    with pytest.raises(ValueError, match="read-only"):
        MNI_GRID.affine[0, 0] = 2


def test_the_brain_mask_is_the_brain_of_the_full_template(
    full: tuple[np.ndarray, np.ndarray],
) -> None:
    mask = mni_brain_mask()
    assert mask.array.dtype == np.uint8
    assert mask.grid.same_as(MNI_GRID)
    assert set(np.unique(mask.array)) == {0, 1}
    brain = full[0] > 0
    dice = 2 * np.sum(brain & (mask.array > 0)) / (brain.sum() + mask.array.sum())
    assert dice > 0.99


def test_the_reduced_t1_is_the_full_one_on_every_second_voxel(
    full: tuple[np.ndarray, np.ndarray],
) -> None:
    small = template_t1()
    assert small.array.shape == (95, 117, 99)
    assert small.spacing == (2.0, 2.0, 2.0)
    fine = upsample_linear(small.array)
    assert fine.shape == full[0].shape
    assert np.corrcoef(fine.ravel(), full[0].ravel())[0, 1] > 0.98


def test_the_head_is_the_brain_with_skull_around_it() -> None:
    head, t1, brain = template_head().array, template_t1().array, template_brain().array >= 128
    assert np.corrcoef(head[brain], t1[brain])[0, 1] > 0.99
    # Scalp: bright tissue 8 to 20 mm above the top of the brain, where the brain's T1 has none.
    top = np.flatnonzero(brain.any(axis=(1, 2)))[-1]
    above = (slice(top + 4, top + 10), slice(40, 70), slice(40, 60))
    assert head[above].max() > 60
    assert t1[above].max() == 0


def test_upsampling_keeps_the_voxels_and_averages_between() -> None:
    array = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    fine = upsample_linear(array)
    assert fine.shape == (3, 5, 7)
    np.testing.assert_allclose(fine[::2, ::2, ::2], array)
    np.testing.assert_allclose(fine[1, 1, 1], array[:2, :2, :2].mean())


def test_shared_arrays_cannot_be_written_to() -> None:
    for volume in (mni_brain_mask(), template_t1(), template_brain()):
        with pytest.raises(ValueError, match="read-only"):
            volume.array[0, 0, 0] = 1


def test_the_file_is_small_plain_and_carries_its_notice() -> None:
    path = resource_path("Template", "mni152_2009a_2mm.npz")
    assert path.stat().st_size < 800_000
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["affine.npy", "brain.npy", "skull.npy", "t1.npy"]
    notice = resource_path("Template", "NOTICE.txt").read_text()
    assert "Montreal Neurological" in notice
    assert "above copyright" in notice


@pytest.mark.shared
def test_the_script_makes_the_shipped_file_again(repository: Path, shared_data: Path) -> None:
    script = runpy.run_path(str(repository / "training" / "tools" / "make_template.py"))
    source = Path(datasets.__file__).parent / "data" / script["SOURCE"]
    head = shared_data / "t1" / "templates" / "MNI152_2009_SSW_T1.nii.gz"
    made = script["reduce_template"](source, head)
    with np.load(resource_path("Template", "mni152_2009a_2mm.npz"), allow_pickle=False) as shipped:
        assert sorted(made) == sorted(shipped)
        for name, array in made.items():
            # Another scipy may round another way.
            assert np.abs(array.astype(float) - shipped[name]).max() <= 1, name
