"""Simulated heads at 3 mm: persons, movements, balls for lesions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.images.space.rigid import on_grid

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
AFFINE[:3, 3] = (-90, -108, -90)
SHAPE = (60, 72, 60)


def move(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    matrix[:3, 3] = rng.uniform(-8, 8, 3)
    return matrix


def head(person: int) -> Volume:
    """A skull of one thickness, and in it what differs from person to person."""
    k, j, i = np.indices(SHAPE)
    x, y, z = (3.0 * i - 90) / 72, (3.0 * j - 108) / 92, (3.0 * k - 90) / 76
    radius = np.sqrt(x**2 + y**2 + z**2)
    rng = np.random.default_rng(person)
    inner = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.5)
    values = 400 + 200 * inner / np.abs(inner).std()
    values = np.where(radius < 0.85, values, np.where(radius < 0.92, 100, 700))
    return Volume(np.where(radius < 1, values.clip(60), 0).astype(np.float32), AFFINE)


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    k, j, i = np.indices(SHAPE)
    points = np.stack([3.0 * i - 90, 3.0 * j - 108, 3.0 * k - 90])
    return np.linalg.norm(points - np.array(centre_mm)[:, None, None, None], axis=0) <= radius_mm


def moved(array: np.ndarray, matrix: np.ndarray, *, labels: bool = False) -> np.ndarray:
    out = on_grid(Volume(array.astype(np.float32), AFFINE), matrix, Volume(array, AFFINE).grid)
    return (out > 0.5).astype(np.uint8) if labels else out
