"""The scan flipped across its mid-sagittal plane."""

from __future__ import annotations

import numpy as np
import pytest
from correction_support import rotation
from numpy.typing import NDArray
from odd_grids import GRIDS, places
from StrokeLesionSegLib.correction import mirrored_scan
from StrokeLesionSegLib.correction.mirror import (
    find_mirror_plane,
    mirror,
    mni_reflection,
    reflection,
)
from StrokeLesionSegLib.errors import Cancelled
from StrokeLesionSegLib.images import Alignment, Volume

HERE = np.eye(3), np.zeros(3)


def lopsided(
    name: str, turn: NDArray[np.float64] = HERE[0], shift: NDArray[np.float64] = HERE[1]
) -> Volume:
    """A head that is symmetric but for a ball, turned and moved in the world."""
    grid = GRIDS[name]
    ras = (places(grid) - shift) @ turn
    x, y, z = (ras[..., n] for n in range(3))
    values = 700 + 150 * np.cos(x / 3) * np.sin(y / 4 + 0.5) * np.cos(z / 5)
    values = np.where(np.linalg.norm(ras - [7, 3, 1], axis=-1) < 4, 150, values)
    inside = (x / 17) ** 2 + (y / 21) ** 2 + (z / 15) ** 2 < 1
    return Volume(np.where(inside, values, 0).astype(np.float32), grid.affine)


@pytest.mark.parametrize("name", ["ras", "sagittal, pir", "oblique", "sheared"])
def test_the_mirror_plane_is_found(name: str) -> None:
    turn, shift = rotation([0, -8, 11]), np.array([2.5, 1.0, -1.0])
    volume = lopsided(name, turn, shift)
    normal, offset = find_mirror_plane(volume)
    true = turn @ [1.0, 0, 0]
    assert np.degrees(np.arccos(min(1, abs(normal @ true)))) < 1.5
    assert abs(offset - normal @ shift) < 0.5
    image = mirrored_scan(volume, None)
    assert image.shape == volume.array.shape
    assert image.dtype == np.float32
    other_side = turn @ np.array([-7, 3, 1]) + shift
    index = np.rint(np.linalg.inv(volume.affine)[:3] @ [*other_side, 1]).astype(int)
    assert abs(image[tuple(index[::-1])] - 150) < 60
    assert volume.array[tuple(index[::-1])] > 400


@pytest.mark.parametrize("name", ["ras", "sagittal, pir", "thick"])
def test_mirrored_twice_is_the_scan(name: str) -> None:
    volume = lopsided(name)
    across = reflection(np.array([1.0, 0, 0]), 0.0)
    once = mirror(volume, across)
    np.testing.assert_allclose(mirror(volume.with_array(once), across), volume.array, atol=1e-2)
    if name != "sagittal, pir":
        np.testing.assert_allclose(once, volume.array[:, :, ::-1], atol=1e-2)
    assert np.abs(once - volume.array).max() > 100


def test_the_alignment_gives_the_plane_where_there_is_one() -> None:
    volume = lopsided("oblique")
    matrix = np.eye(4)
    matrix[:3, :3] = 1.1 * rotation([0, 4, 6])
    matrix[:3, 3] = 4, -18, 8
    found = mirrored_scan(volume, Alignment(matrix, True, "", 1.0, 1.0, 0.0))
    np.testing.assert_array_equal(found, mirror(volume, mni_reflection(matrix)))
    # A place and its image lie on opposite sides in MNI space.
    image = mni_reflection(matrix) @ [5.0, 6, 7, 1]
    there, here = matrix @ image, matrix @ [5.0, 6, 7, 1]
    np.testing.assert_allclose(there, here * [-1, 1, 1, 1], atol=1e-9)
    # One that does not hold is not used.
    failed = Alignment(matrix, False, "no head", 0.0, 0.0, 0.0)
    assert not np.array_equal(mirrored_scan(volume, failed), found)


def test_looking_for_the_plane_can_be_cancelled_and_needs_no_contrast() -> None:
    with pytest.raises(Cancelled):
        mirrored_scan(lopsided("ras"), None, cancel=lambda: True)
    empty = lopsided("ras").with_array(np.zeros(GRIDS["ras"].shape, np.float32))
    normal, offset = find_mirror_plane(empty)
    np.testing.assert_array_equal(normal, [1, 0, 0])
    assert offset == pytest.approx(0.0)
