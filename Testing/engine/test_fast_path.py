"""What makes the network fast must not move the mask: the engine's way against the plain one.

Plain is the model's own module as it is: not folded, default memory layout, float32, one slice at
a time. Compared are masks of the demo's stroke at the threshold that the model recommends.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Alignment,
    Volume,
    apply_window,
    brain_box,
    to_canonical,
    window_range,
)
from StrokeLesionSegLib.inference import choose_device, predict_volume, prepare_network
from StrokeLesionSegLib.inference.precision import probe_crop
from StrokeLesionSegLib.inference.views import Box, grow_box
from StrokeLesionSegLib.models import LoadedModel, load_model
from StrokeLesionSegLib.models.store import shipped_models_directory

pytestmark = pytest.mark.skipif(
    not any((shipped_models_directory() or Path()).glob("*/manifest.json")),
    reason="this checkout ships no model",
)
# Through the middle of the stroke, which is drawn around z = 16 mm.
LEVELS = slice(78, 102)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model()


@pytest.fixture(scope="module")
def scan(model: LoadedModel) -> tuple[NDArray[np.float32], Box]:
    """The demo's stroke, windowed, on the MNI grid; the brain's box at ``LEVELS``."""
    datasets = pytest.importorskip("nilearn.datasets")
    from StrokeLesionSegLib.commands.demo_stroke import simulate_stroke

    def volume(kind: str) -> Volume:
        image = getattr(datasets, f"load_mni152_{kind}")(resolution=1)
        array = np.ascontiguousarray(np.asarray(image.dataobj, np.float32).transpose(2, 1, 0))
        return Volume(array, image.affine.astype(np.float64))

    t1 = simulate_stroke(volume("template"), volume("gm_template"), volume("wm_template")).t1
    canonical = to_canonical(t1, Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0))
    assert canonical.volume.array.shape == MNI_GRID.shape
    preprocessing = model.manifest.preprocessing
    low_of = preprocessing.get("window_low_of", "foreground")
    array = canonical.volume.array
    window = window_range(array, *preprocessing["window_percentiles"], low_of=low_of)
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
    t1 = model.manifest.channels.index("t1")
    found = []
    with torch.inference_mode():
        for level in range(k.start, k.stop):
            plane = torch.from_numpy(array[level, rows, columns].copy())
            x = torch.zeros(1, len(model.manifest.channels), *plane.shape)
            x[0, t1] = plane
            found.append(model.network(x).sigmoid()[0, 0][inner].numpy())
    return np.stack(found)


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
    prepared = prepare_network(
        model.network,
        model.manifest.channels,
        choose_device("cpu"),
        precision,
        probe=probe_crop(array, box),
    )
    fast = predict_volume(array, prepared, box=box).mean[box]
    threshold = model.manifest.inference["threshold"]
    assert (plain >= threshold).sum() > 5000  # there is a stroke to compare
    assert dice(plain >= threshold, fast >= threshold) >= 0.999
    if prepared.precision == "float32":
        assert np.abs(plain - fast).max() < 1e-3
