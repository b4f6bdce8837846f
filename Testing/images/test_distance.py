"""Short distances are those of the transform of all distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from StrokeLesionSegLib.images.space.distance import squared_distance


@pytest.mark.parametrize("steps", [(1.0, 1.0, 1.0), (4.5, 0.8, 1.25)])
@pytest.mark.parametrize("shape", [(20, 30, 25), (1, 40, 3)])
def test_short_distances(shape: tuple[int, int, int], steps: tuple[float, float, float]) -> None:
    mask = np.random.default_rng(0).random(shape) > 0.995
    assert mask.any()
    before = mask.copy()
    found = squared_distance(mask, 5.0, steps)
    wanted = distance_transform_edt(~mask, sampling=steps)
    near = wanted <= 5
    assert near.any()
    assert not near.all()
    assert (found[~near] > 25).all()
    np.testing.assert_allclose(np.sqrt(found[near]), wanted[near], rtol=1e-6)
    np.testing.assert_array_equal(mask, before)


def test_nothing_is_near_to_nothing() -> None:
    assert np.isinf(squared_distance(np.zeros((4, 5, 6), bool), 3.0)).all()
