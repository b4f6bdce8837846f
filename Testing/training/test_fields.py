"""Random fields and warps of the simulator, against scipy and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

pytest.importorskip("lightning")
from StrokeLesionSegLib.learning.strokes import fields


def test_gaussian_agrees_with_scipy() -> None:
    x = torch.zeros(21, 22, 23)
    x[10, 11, 12] = 1.0
    ours = fields.gaussian(x, 1.3).numpy()
    theirs = ndimage.gaussian_filter(x.numpy(), 1.3, mode="constant", radius=int(2.5 * 1.3 + 0.5))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_dilate_and_erode_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((9, 10, 11)).astype(np.float32)
    np.testing.assert_array_equal(
        fields.dilate(torch.from_numpy(x)).numpy(),
        ndimage.grey_dilation(x, size=3, mode="constant", cval=-np.inf),
    )
    np.testing.assert_array_equal(
        fields.erode(torch.from_numpy(x)).numpy(),
        ndimage.grey_erosion(x, size=3, mode="constant", cval=np.inf),
    )


def test_sample_at_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    image = rng.random((7, 9, 11)).astype(np.float32)
    points = rng.random((3, 50)) * np.array([[6.0], [8.0], [10.0]])
    ours = fields.sample_at(
        torch.from_numpy(image), torch.from_numpy(points.astype(np.float32)).view(3, 1, 1, 50)
    )
    theirs = ndimage.map_coordinates(image, points, order=1)
    np.testing.assert_allclose(ours.flatten().numpy(), theirs, atol=1e-4)


def test_same_seed_same_field() -> None:
    draw = [
        fields.noise_field(torch.Generator().manual_seed(5), (12, 13, 14), 4.0) for _ in range(2)
    ]
    assert torch.equal(draw[0], draw[1])
    assert abs(float(draw[0].std()) - 1) < 1e-3
