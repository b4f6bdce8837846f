"""Real lesion masks of the openly licensed data: sides, volumes and scores against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.lesions.scorers import score_case
from StrokeLesionSegLib.operating_point import OperatingPoint

nibabel = pytest.importorskip("nibabel")

pytestmark = pytest.mark.shared


def read(path) -> tuple[np.ndarray, np.ndarray]:
    """Mask (K, J, I) and affine (i, j, k) to RAS mm; nibabel's arrays are (i, j, k)."""
    image = nibabel.load(path)
    return (np.asanyarray(image.dataobj) > 0).T.astype(np.uint8), image.affine


def volume_ml(path) -> float:
    """From the header's zooms, not from the affine."""
    image = nibabel.load(path)
    voxels = np.count_nonzero(np.asanyarray(image.dataobj))
    return float(voxels * np.prod(image.header.get_zooms()[:3], dtype=np.float64) / 1000)


def test_chronic_masks_are_all_left(shared_data):
    paths = sorted((shared_data / "lesions" / "chronic_left").glob("*.nii.gz"))[::10]
    assert len(paths) >= 10
    volumes = []
    for path in paths:
        mask, affine = read(path)
        found = find_lesions(mask, affine, OperatingPoint(0.5), to_mni=np.eye(4))
        volumes.append(found.summary.volume_ml)
        assert found.summary.volume_ml == pytest.approx(volume_ml(path), rel=1e-5)
        largest = found.lesions[0]
        assert largest.side == "left", path
        assert largest.centroid_mni_mm[0] < 0
        assert found.summary.left_ml > 0.95 * found.summary.volume_ml
        # A mirror image in the world is all right.
        mirror = np.diag([-1.0, 1, 1, 1]) @ affine
        turned = find_lesions(mask, mirror, OperatingPoint(0.5), to_mni=np.eye(4))
        assert turned.lesions[0].side == "right"
    assert max(volumes) > 100  # large ones are among them


def test_acute_masks_lie_on_both_sides(shared_data):
    paths = sorted((shared_data / "lesions" / "acute").glob("*.nii.gz"))[::100]
    sides = set()
    for path in paths:
        mask, affine = read(path)
        found = find_lesions(mask, affine, OperatingPoint(0.5), to_mni=np.eye(4))
        if not found.lesions:
            continue
        sides.add(found.lesions[0].side)
        x = affine[0, 0] * np.nonzero(mask)[2] + affine[0, 3]
        share = np.mean(np.where(x < 0, 1.0, np.where(x > 0, 0.0, 0.5)))
        half_voxels = np.mean(np.abs(x) < abs(affine[0, 0]) / 2)
        left = found.summary.left_ml / found.summary.volume_ml
        assert abs(left - share) <= half_voxels + 1e-9
    assert {"left", "right"} <= sides


def test_one_mask_scored_against_another(shared_data):
    paths = sorted((shared_data / "lesions" / "chronic_left").glob("*.nii.gz"))
    first, affine = read(paths[0])
    second, _ = read(paths[1])
    overlap = 2 * np.sum((first > 0) & (second > 0)) / (first.sum() + second.sum(dtype=np.int64))
    for scorer in ("atlas2022", "isles2022", "isles2026"):
        scores = score_case(first, second, affine, scorer, soft=first * 0.8)
        assert scores["dice"] == pytest.approx(overlap)
        assert score_case(second, second, affine, scorer)["lesion_f1"] == 1
    # The orientation trap: mirrored, two overlapping left lesions hardly meet.
    assert score_case(first[:, :, ::-1], second, affine, "isles2026")["dice"] < overlap / 10 + 0.02
