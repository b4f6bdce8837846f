"""Surface distances, sensitivity, precision, correlation: against brute force and SimpleITK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.distance import cdist
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.images import Volume, write_volume
from StrokeLesionSegLib.lesions import score_case
from StrokeLesionSegLib.lesions.scorers.agreement import agreement, volume_correlation

OBLIQUE = np.array([[0.9, -0.3, 0, 4], [0.4, 0.8, -0.2, -7], [0, 0.3, 2.9, 1], [0, 0, 0, 1.0]])


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    k, j, i = np.indices((14, 20, 22))
    masks = []
    for _ in range(2):
        c = rng.uniform(6, 12, 3) * (0.6, 1, 1)
        masks.append((k - c[0]) ** 2 + (j - c[1]) ** 2 + (i - c[2]) ** 2 < rng.uniform(9, 30))
    masks[0][0, 3:5, 3:5] = True  # at the edge of the scan
    return masks[0], masks[1]


def surface_by_hand(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    points = []
    for k, j, i in np.argwhere(mask):
        for axis, step in ((a, s) for a in range(3) for s in (-1, 1)):
            at = [k, j, i]
            at[axis] += step
            inside = all(0 <= n < m for n, m in zip(at, mask.shape, strict=True))
            if not inside or not mask[tuple(at)]:
                points.append(affine[:3, :3] @ (i, j, k) + affine[:3, 3])
                break
    return np.array(points)


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([1, 1.2, 4, 1]), OBLIQUE])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_by_brute_force(affine, seed):
    pred, truth = blobs(seed)
    between = cdist(surface_by_hand(pred, affine), surface_by_hand(truth, affine))
    ways = between.min(axis=1), between.min(axis=0)
    found = agreement(pred, truth, affine)
    assert found["hd95_mm"] == pytest.approx(max(np.percentile(w, 95) for w in ways))
    assert found["assd_mm"] == pytest.approx(np.concatenate(ways).mean())
    assert agreement(truth, pred, affine)["hd95_mm"] == pytest.approx(found["hd95_mm"])


def test_sensitivity_and_precision_as_simpleitk_has_them():
    pred, truth = blobs(2)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (pred, truth)]
    measure.Execute(*images)
    found = agreement(pred, truth, np.eye(4))
    assert found["sensitivity"] == pytest.approx(1 - measure.GetFalseNegativeError())
    assert found["precision"] == pytest.approx(1 - measure.GetFalseDiscoveryRate())


def test_empty_masks():
    pred, _ = blobs(3)
    none = np.zeros_like(pred)
    assert set(agreement(none, none, np.eye(4)).values()) == {0.0, 1.0}
    alone = agreement(pred, none, np.eye(4))
    assert alone["precision"] == 0
    assert math.isnan(alone["sensitivity"])
    assert math.isnan(alone["hd95_mm"])
    assert math.isnan(agreement(none, pred, np.eye(4))["assd_mm"])


def test_official_scores_are_as_without():
    pred, truth = blobs(4)
    plain = score_case(pred, truth, np.eye(4), "isles2022")
    more = score_case(pred, truth, np.eye(4), "isles2022", distances=True)
    assert {k: more[k] for k in plain} == plain
    assert set(more) - set(plain) == {"sensitivity", "precision", "hd95_mm", "assd_mm"}


def test_correlation_needs_three_volumes_that_differ():
    assert volume_correlation([1, 2], [1, 2]) is None
    assert volume_correlation([1, 1, 1], [1, 2, 3]) is None
    assert volume_correlation([3, 2, 1], [1, 2, 3]) == -1


def test_the_command_over_folders(tmp_path, capsys):
    for n in range(3):
        pred, truth = blobs(n)
        for name, mask in (("pred", pred), ("truth", truth)):
            (tmp_path / name).mkdir(exist_ok=True)
            volume = Volume(mask.astype(np.uint8), OBLIQUE)
            write_volume(tmp_path / name / f"sub-0{n}_mask.nii.gz", volume)
    folders = [tmp_path / "pred", tmp_path / "truth"]
    command = ["score", *map(str, folders), "--distances", "-o", str(tmp_path / "out")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "hd95_mm" in printed
    assert "correlation of volumes" in printed
    table = (tmp_path / "out" / "scores_atlas2022_summary.tsv").read_text()
    assert "assd_mm" in table
    assert "volume_correlation" in table
