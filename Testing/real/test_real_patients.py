"""The shipped model on real patients: places in their ventricles and lesions, set by eye.

``places.json`` holds ten of each for every scan, in RAS mm of the scan's own header. The bounds
are what the shipped model reaches; the aim is none of the first marked and all of the second
found.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.images import Alignment, read_scan
from StrokeLesionSegLib.inference import segment_volume
from StrokeLesionSegLib.models import load_model
from StrokeLesionSegLib.pipeline.runner import find_in

PLACES = json.loads(Path(__file__).with_name("places.json").read_text())
# Of 70 each, over all seven patients.
MOST_IN_VENTRICLES = 0
LEAST_IN_LESIONS = 66
# Of the one patient whose mask by an expert is at hand.
LEAST_DICE = 0.85


@pytest.fixture(scope="module")
def masks(
    shared_data: Path, aligned: Callable[[Path], Alignment]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mask (K, J, I) and affine of every patient, as ``segment`` makes them."""
    if not (shared_data / "real").is_dir():
        pytest.skip("the real patients are not beside the checkout")
    model = load_model(None)
    point = model.manifest.operating_point()
    found = {}
    for name in PLACES:
        file = shared_data / "real" / f"{name}.nii.gz"
        volume = read_scan(file).volume
        mask = find_in(segment_volume(volume, model, alignment=aligned(file)), point).mask
        found[name] = (mask != 0, volume.affine)
    return found


def hits(mask: np.ndarray, affine: np.ndarray, places: list[list[float]]) -> int:
    """How many of the places lie in the mask."""
    ijk = np.linalg.inv(affine) @ np.c_[np.array(places), np.ones(len(places))].T
    i, j, k = np.round(ijk[:3]).astype(int)
    return int(mask[k, j, i].sum())


def test_ventricles_are_left_out_and_lesions_found(
    masks: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    counts = {
        what: {name: hits(*masks[name], places[what]) for name, places in PLACES.items()}
        for what in ("ventricle", "lesion")
    }
    assert all(len(places[what]) == 10 for places in PLACES.values() for what in counts)
    assert sum(counts["ventricle"].values()) <= MOST_IN_VENTRICLES, counts
    assert sum(counts["lesion"].values()) >= LEAST_IN_LESIONS, counts


def test_the_mask_agrees_with_the_experts(
    masks: dict[str, tuple[np.ndarray, np.ndarray]], shared_data: Path
) -> None:
    expert = read_scan(shared_data / "real" / "ARC_M2058_lesion.nii.gz").volume.array > 0
    mask = masks["ARC_M2058_brain_T1w"][0]
    assert 2 * (mask & expert).sum() / (mask.sum() + expert.sum()) >= LEAST_DICE
