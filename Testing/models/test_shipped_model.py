"""The model that ships, on the demo's stroke and on real scans, in every orientation.

nibabel turns the scans and puts the masks back, so that our own geometry has a witness.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from simulated import simulated_template
from StrokeLesionSegLib.images import Alignment, Volume, read_scan
from StrokeLesionSegLib.inference import (
    GridPrediction,
    PlacedScan,
    Predictor,
    SegmentOptions,
    after_network,
    before_network,
    make_predictor,
    run_network,
    segment_volume,
)
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.models import LoadedModel, load_model
from StrokeLesionSegLib.models.store import shipped_models_directory
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet

pytestmark = pytest.mark.skipif(
    not any((shipped_models_directory() or Path()).glob("*/manifest.json")),
    reason="this checkout ships no model",
)
AS_IT_LIES = SegmentOptions(align="none")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model()


@pytest.fixture(scope="module")
def stroke() -> tuple[nib.Nifti1Image, np.ndarray]:
    """The demo's simulated stroke in the MNI152 template, (I, J, K) as nibabel has it."""
    drawn = simulated_template()
    image = nib.Nifti1Image(drawn.t1.array.transpose(2, 1, 0), drawn.t1.affine)
    return image, drawn.truth.array.transpose(2, 1, 0) > 0


class AskedOnce:
    """A predictor whose network runs for the first scan: all others have to be the same one, voxel
    for voxel, on the predictor's grid. That the network repeats itself is another test's."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.grid, self.options = predictor.grid, predictor.options
        self._first: np.ndarray | None = None
        self._answer: GridPrediction | None = None

    def prepare(self, scan: PlacedScan) -> Any:
        if self._first is None:
            self._first = scan.volume.array.copy()
        assert np.array_equal(scan.volume.array, self._first)
        return self._predictor.prepare(scan) if self._answer is None else None

    def predict(self, prepared: Any, **hooks: Any) -> GridPrediction:
        if self._answer is None:
            self._answer = self._predictor.predict(prepared, **hooks)
        return self._answer


def run(
    image: nib.Nifti1Image,
    model: LoadedModel,
    options: SegmentOptions,
    predictor: Predictor | None = None,
) -> nib.Nifti1Image:
    """The mask of ``image`` on its own grid, by ``model`` or its ``predictor``."""
    array = np.ascontiguousarray(np.asarray(image.dataobj, np.float32).transpose(2, 1, 0))
    volume = Volume(array, np.asarray(image.affine, np.float64))
    if predictor is None:
        result = segment_volume(volume, model, options)
    else:
        ready = before_network(volume, predictor)
        run_network(ready, predictor)
        result = after_network(ready)
    point = model.manifest.operating_point(options.views)
    found = find_lesions(result.probability.array, volume.affine, point)
    return nib.Nifti1Image(found.mask.transpose(2, 1, 0), image.affine)


@pytest.fixture(scope="module")
def found(
    stroke: tuple[nib.Nifti1Image, np.ndarray], model: LoadedModel
) -> Callable[[str], np.ndarray]:
    """The demo's stroke as the model finds it, (I, J, K), by ``align``; asked for once."""

    @functools.cache
    def mask(align: str) -> np.ndarray:
        return np.asarray(run(stroke[0], model, SegmentOptions(align=align)).dataobj) > 0

    return mask


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def back_on(image: nib.Nifti1Image, mask: nib.Nifti1Image) -> np.ndarray:
    """``mask`` in world coordinates, resampled linearly by nilearn onto the grid of ``image``."""
    from nilearn.image import resample_to_img

    with warnings.catch_warnings():
        # Half a voxel of mask is what the threshold below is for.
        warnings.filterwarnings("ignore", "Resampling binary images")
        moved = resample_to_img(
            nib.Nifti1Image(np.asarray(mask.dataobj, np.float32), mask.affine),
            image,
            interpolation="linear",
            force_resample=True,
            copy_header=True,
        )
    return moved.get_fdata() >= 0.5


def test_finds_the_stroke_of_the_demo(stroke, found: Callable[[str], np.ndarray]) -> None:
    # .82 in bfloat16; other number formats differ a little.
    assert dice(found(SegmentOptions().align), stroke[1]) > 0.75


def test_any_of_48_orientations_gives_the_same_lesion(stroke, model: LoadedModel) -> None:
    # The whole head, since the model knows nothing of a piece; at 2 mm, as the model sees it.
    image = stroke[0].slicer[::2, ::2, ::2]
    once = AskedOnce(make_predictor(model, AS_IT_LIES))
    expected = np.asarray(run(image, model, AS_IT_LIES).dataobj) > 0
    assert expected.sum() > 500
    for axes in permutations(range(3)):
        for flips in product((1, -1), repeat=3):
            turned = image.as_reoriented(np.column_stack([axes, flips]).astype(float))
            mask = run(turned, model, AS_IT_LIES, once)
            assert mask.shape == turned.shape
            there = nib.as_closest_canonical(mask)
            home = nib.as_closest_canonical(image)
            np.testing.assert_allclose(there.affine, home.affine, atol=1e-4)
            assert dice(np.asarray(there.dataobj) > 0, expected) >= 0.99, (axes, flips)


def test_thick_slices_keep_the_lesion(
    stroke, model: LoadedModel, found: Callable[[str], np.ndarray]
) -> None:
    image, _ = stroke
    whole = found("none")
    thick = np.asarray(image.dataobj, np.float32)
    depth = thick.shape[2] // 3 * 3
    averaged = thick[:, :, :depth].reshape(*thick.shape[:2], depth // 3, 3).mean(axis=3)
    affine = image.affine.copy()
    affine[:3, 2] *= 3
    affine[:3, 3] += image.affine[:3, 2]
    mask = run(nib.Nifti1Image(averaged, affine), model, AS_IT_LIES)
    assert dice(back_on(image, mask), whole) >= 0.85


@pytest.fixture(scope="module")
def oblique(stroke: tuple[nib.Nifti1Image, np.ndarray]) -> nib.Nifti1Image:
    """The demo's stroke on a grid that is turned about all axes, by nilearn."""
    from nilearn.image import resample_img

    image, _ = stroke
    angles = np.deg2rad([12.0, -9.0, 15.0])
    turn = np.eye(4)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        r = np.eye(4)
        r[a, a] = r[b, b] = np.cos(angle)
        r[a, b], r[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ r
    grid = turn @ np.diag([1.1, 0.9, 1.2, 1.0])
    centre = image.affine @ np.array([*(np.array(image.shape) - 1) / 2, 1.0])
    shape = (215, 280, 210)
    grid[:3, 3] = centre[:3] - grid[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resample_img(
        nib.Nifti1Image(np.asarray(image.dataobj, np.float32), image.affine),
        target_affine=grid,
        target_shape=shape,
        force_resample=True,
        copy_header=True,
    )


@pytest.mark.parametrize("align", ["none", "auto"])
def test_an_oblique_copy_keeps_the_lesion(
    stroke,
    oblique: nib.Nifti1Image,
    model: LoadedModel,
    found: Callable[[str], np.ndarray],
    align: str,
) -> None:
    mask = run(oblique, model, SegmentOptions(align=align))
    np.testing.assert_array_equal(mask.affine, oblique.affine)
    assert dice(back_on(stroke[0], mask), found(align)) >= 0.85


class Bright(VolumetricUNet):
    """Marks what is bright, at the cost of nothing."""

    def __init__(self) -> None:
        super().__init__(filters=(4, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = (x[:, :8].float() - 0.3) * 40
        return torch.cat([logits, -logits], dim=1)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("others", [False, pytest.param(True, marks=pytest.mark.long)])
def test_every_real_t1_gets_a_mask_on_its_own_grid(
    shared_data: Path,
    model: LoadedModel,
    tmp_path: Path,
    aligned: Callable[[Path], Alignment],
    others: bool,
) -> None:
    """All that is around the network, which sees one grid whatever the scan: what it marks has to
    arrive where it was seen. Patients are asked in ``Testing/real``."""
    from StrokeLesionSegLib.pipeline import FileOptions, OutputPaths, segment_file

    files = sorted((shared_data / "t1").rglob("*.nii.gz"))
    assert len(files) >= 20
    stand_in = replace(model, network=Bright())
    for file in (f for n, f in enumerate(files) if (n % 5 > 0) == others):
        mask = tmp_path / file.name
        found = functools.partial(aligned, file)
        segment_file(file, OutputPaths(mask), FileOptions(stand_in, alignment=found))
        source, written = nib.load(file), nib.load(mask)
        assert written.shape == source.shape, file.name
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-4, err_msg=file.name)
        values = np.asarray(written.dataobj)
        assert np.flatnonzero(np.bincount(values.ravel())).tolist() == [0, 1], file.name
        scan = np.asarray(source.dataobj, np.float32)
        marked = values == 1
        bright = scan[marked].mean()
        for axis in range(3):
            assert bright > scan[np.flip(marked, axis)].mean(), (file.name, axis)


def test_the_same_scan_gives_the_same_mask_twice(stroke, model: LoadedModel) -> None:
    options = SegmentOptions(align="none", threads=2)
    masks = [np.asarray(run(stroke[0], model, options).dataobj) for _ in range(2)]
    np.testing.assert_array_equal(masks[0], masks[1])


def test_reading_from_a_file_changes_nothing(stroke, model: LoadedModel, tmp_path: Path) -> None:
    image, _ = stroke
    file = tmp_path / "t1.nii.gz"
    nib.save(image, file)
    np.testing.assert_allclose(
        read_scan(file).volume.array, np.asarray(image.dataobj).transpose(2, 1, 0), rtol=1e-6
    )


def test_clicks_draw_a_lesion_that_was_missed(stroke, model: LoadedModel) -> None:
    """From an empty mask, as if the model had found nothing: one click on the lesion, then three
    on the largest error; native voxels of an oblique orientation of the axes (k down, i back)."""
    from StrokeLesionSegLib.correction import CorrectionSession, Known
    from StrokeLesionSegLib.correction.robot import robot_corrections

    image, truth = stroke
    turned = nib.orientations.axcodes2ornt(("P", "L", "I"))
    from_here = nib.orientations.ornt_transform(nib.io_orientation(image.affine), turned)
    moved = image.as_reoriented(from_here)
    wanted = nib.orientations.apply_orientation(truth.astype(np.uint8), from_here) > 0
    wanted = np.ascontiguousarray(wanted.transpose(2, 1, 0))
    array = np.ascontiguousarray(np.asarray(moved.dataobj, np.float32).transpose(2, 1, 0))
    volume = Volume(array, np.asarray(moved.affine, np.float64))
    session = CorrectionSession.open(
        volume,
        model,
        Known(mask=np.zeros(wanted.shape, bool)),
        options=SegmentOptions(device="cpu"),
    )
    assert session.point == model.manifest.operating_point()
    reached = robot_corrections(session, wanted, 4, rng=np.random.default_rng(0))
    assert reached[0] == 0
    assert reached[1] > 0.4, reached
    assert reached[-1] > 0.6, reached
