"""The map of where lesions lie, against looking up voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from oblique_grid import AFFINE, TO_MNI
from StrokeLesionSegLib.errors import Cancelled
from StrokeLesionSegLib.images import MNI_GRID, Volume
from StrokeLesionSegLib.report import lesion_frequency


def random_mask() -> Volume:
    rng = np.random.default_rng(5)
    array = (rng.random((22, 30, 40)) > 0.8).astype(np.uint8)
    return Volume(array, AFFINE)


def test_frequency_is_what_looking_up_gives() -> None:
    mask = random_mask()
    found = lesion_frequency([(mask, TO_MNI), (mask, None), (mask, TO_MNI)])
    assert (found.scans, found.left_out) == (2, 1)
    back = np.linalg.inv(TO_MNI @ AFFINE) @ MNI_GRID.affine
    rng = np.random.default_rng(0)
    ones = np.argwhere(found.counts)
    assert len(ones) > 1000
    everywhere = np.column_stack([rng.integers(0, n, 4000) for n in MNI_GRID.shape])
    near = ones[rng.integers(0, len(ones), 4000)] + rng.integers(-2, 3, (4000, 3))
    for k, j, i in np.vstack([everywhere, near]):
        si, sj, sk = (int(v) for v in np.rint((back @ (i, j, k, 1.0))[:3]))
        inside = 0 <= sk < 22 and 0 <= sj < 30 and 0 <= si < 40
        expected = 2 * int(mask.array[sk, sj, si]) if inside else 0
        assert found.counts[k, j, i] == expected
    assert found.background.shape == found.counts.shape
    assert found.background.max() > 100


def test_frequency_of_nothing_and_far_away() -> None:
    empty = random_mask().with_array(np.zeros((22, 30, 40), dtype=np.uint8))
    away = np.eye(4)
    away[0, 3] = 5000.0
    found = lesion_frequency([(empty, TO_MNI), (random_mask(), away)])
    assert found.counts.max() == 0
    assert found.scans == 2
    with pytest.raises(Cancelled):
        lesion_frequency([(empty, TO_MNI)], cancel=lambda: True)
