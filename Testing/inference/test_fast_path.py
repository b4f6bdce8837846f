"""What makes the network fast must not move the mask: the engine's way against the plain one.

Plain is the model's own module as it is: not folded, default memory layout, float32, one slice at
a time. Compared are masks of the demo's stroke at the threshold that the model recommends, the
lesions that its second threshold and smallest volume leave of them, three views with flips, and the
brain's box against whole planes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from simulated import simulated_template
from StrokeLesionSegLib.boxes import Box, grow_box
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Alignment,
    apply_window,
    brain_box,
    to_canonical,
    window_range,
)
from StrokeLesionSegLib.inference import (
    SlicesOptions,
    choose_device,
    predict_volume,
    prepare_network,
)
from StrokeLesionSegLib.inference.precision import probe_crop
from StrokeLesionSegLib.inference.prepare import PreparedNetwork
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.models import LoadedModel, load_model

#: A network that was trained, so that what is compared are masks of lesions.
TRAINED = Path(__file__).resolve().parents[1] / "trained_2d"
# Through the middle of the stroke, which is drawn around z = 16 mm.
LEVELS = slice(78, 102)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(TRAINED)


@pytest.fixture(scope="module")
def scan(model: LoadedModel) -> tuple[NDArray[np.float32], Box]:
    """The demo's stroke, windowed, on the MNI grid; the brain's box at ``LEVELS``."""
    t1 = simulated_template().t1
    canonical = to_canonical(t1, Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0))
    assert canonical.volume.array.shape == MNI_GRID.shape
    preprocessing = model.manifest.preprocessing
    array = canonical.volume.array
    window = window_range(
        array, *preprocessing.window_percentiles, low_of=preprocessing.window_low_of
    )
    _, j, i = brain_box(canonical)
    return apply_window(array, window), (LEVELS, j, i)


@pytest.fixture(scope="module")
def plain(model: LoadedModel, scan: tuple[NDArray[np.float32], Box]) -> NDArray[np.float32]:
    """Probabilities in the box, slice by slice."""
    array, (k, j, i) = scan
    _, rows, columns = grow_box((k, j, i), array.shape, 16)
    inner = (
        slice(j.start - rows.start, j.stop - rows.start),
        slice(i.start - columns.start, i.stop - columns.start),
    )
    planes = array[k, rows, columns]
    return np.stack([alone(model, plane)[inner] for plane in planes])


def alone(model: LoadedModel, plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of one plane (rows, columns), both multiples of 16, by the model's module."""
    x = torch.zeros(1, len(model.manifest.channels), *plane.shape)
    x[0, model.manifest.channels.index("t1")] = torch.from_numpy(plane.copy())
    with torch.inference_mode():
        return model.network(x).sigmoid()[0, 0].numpy()


def prepare(
    model: LoadedModel, scan: tuple[NDArray[np.float32], Box], precision: str
) -> PreparedNetwork:
    """As ``segment`` does."""
    return prepare_network(
        model.network,
        model.manifest.channels,
        choose_device("cpu"),
        precision,
        probe=probe_crop(*scan),
        thresholds=model.manifest.operating_point().thresholds,
    )


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2 * int((a & b).sum()) / (int(a.sum()) + int(b.sum()))


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_the_fast_way_finds_the_same_mask(
    model: LoadedModel,
    scan: tuple[NDArray[np.float32], Box],
    plain: NDArray[np.float32],
    precision: str,
) -> None:
    """Float32 differs by rounding only, bfloat16 by little more: its stem is in float32."""
    array, box = scan
    prepared = prepare(model, scan, precision)
    fast = predict_volume(array, prepared, box=box).mean[box]
    threshold = model.manifest.operating_point().threshold
    assert (plain >= threshold).sum() > 5000  # there is a stroke to compare
    assert dice(plain >= threshold, fast >= threshold) >= 0.999
    if prepared.precision == "float32":
        assert np.abs(plain - fast).max() < 1e-3
    # What is left of it: lesions that reach the second threshold and are large enough.
    point = model.manifest.operating_point()
    assert point.second_threshold is not None
    kept = [find_lesions(p, np.eye(4), point) for p in (plain, fast)]
    assert kept[0].summary.count == kept[1].summary.count >= 1
    assert dice(*(found.mask > 0 for found in kept)) >= 0.999


@pytest.fixture(scope="module")
def plain_views(
    model: LoadedModel, scan: tuple[NDArray[np.float32], Box], plain: NDArray[np.float32]
) -> tuple[Box, NDArray[np.float32]]:
    """A box at the stroke with sides that are multiples of 16, so that planes are the box; in it
    the mean of three views, two of them mirrored too."""
    array, corner = scan
    middle = np.argwhere(plain >= 0.5).mean(axis=0)
    sizes = (16, 112, 112)
    starts = [
        int(part.start + centre) - size // 2
        for part, centre, size in zip(corner, middle, sizes, strict=True)
    ]
    k, j, i = (slice(start, start + n) for start, n in zip(starts, sizes, strict=True))
    mean = np.zeros(sizes, np.float32)
    for axis in range(3):
        planes = list(np.moveaxis(array[k, j, i], axis, 0))
        view = np.stack([alone(model, plane) for plane in planes])
        if axis < 2:  # left and right are the columns of axial and coronal planes
            mirrored = np.stack([alone(model, plane[:, ::-1])[:, ::-1] for plane in planes])
            view = (view + mirrored) / 2
        mean += np.moveaxis(view, 0, axis) / 3
    return (k, j, i), mean


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_three_views_with_flips_find_the_same_mask(
    model: LoadedModel,
    scan: tuple[NDArray[np.float32], Box],
    plain_views: tuple[Box, NDArray[np.float32]],
    precision: str,
) -> None:
    box, expected = plain_views
    prepared = prepare(model, scan, precision)
    how = SlicesOptions(views="triplanar", tta=True)
    result = predict_volume(scan[0], prepared, how, box=box)
    threshold = model.manifest.operating_point().threshold
    assert len(result.passes) == 5
    assert (expected >= threshold).sum() > 5000
    assert dice(expected >= threshold, result.mean[box] >= threshold) >= 0.999
    if prepared.precision == "float32":
        assert np.abs(expected - result.mean[box]).max() < 1e-3


def test_the_box_of_the_brain_finds_nearly_what_whole_planes_find(
    model: LoadedModel, scan: tuple[NDArray[np.float32], Box]
) -> None:
    """Not the same: with the planes' size, what the deep levels see beyond the brain changes.

    The model's figures are of the box, which is what ``segment`` uses. Here the Dice is .94.
    """
    array, (_, j, i) = scan
    middle = (LEVELS.start + LEVELS.stop) // 2
    levels = slice(middle - 4, middle + 4)
    whole = (levels, *(slice(0, n) for n in array.shape[1:]))
    prepared = prepare(model, scan, "float32")
    cropped, full = (
        predict_volume(array, prepared, box=box).mean >= model.manifest.operating_point().threshold
        for box in ((levels, j, i), whole)
    )
    assert full.sum() > 5000
    assert dice(cropped, full) >= 0.92
