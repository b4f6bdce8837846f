"""The independent simulator's heads and scanner, and the grids on which the bench's scans lie.

Shares no code with ``stroketrain.simulate``. Arrays are (K, J, I); ``native_grid`` and ``regrid``
serve scans of both procedures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from StrokeLesionSegLib.images import MNI_GRID, Grid, Volume

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Axis orders of scanners and archives: which way the voxel axes (i, j, k) point.
ORDERS = ("LAS", "RAS", "LPS", "RPS", "PSR", "PSL", "PIR", "ASL", "RSA", "LIA")


def warp_head(rng: np.random.Generator, head: Array, brain: Mask) -> tuple[Array, Mask]:
    """Another person from the same scan: a cubic B-spline deformation (2 mm, nodes every 45 mm),
    a size of 94 to 106 percent by axis, and the mirror image half of the time."""
    if rng.uniform() < 0.5:
        head, brain = head[:, :, ::-1], brain[:, :, ::-1]
    shape = head.shape
    centre = (np.array(shape) - 1) / 2
    size = rng.uniform(0.94, 1.06, 3)
    where = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", copy=False)
    points = []
    for axis in range(3):
        nodes = [math.ceil(n / 45) + 1 for n in shape]
        coarse = rng.normal(0, 2.0, nodes).astype(np.float32)
        at = [np.linspace(0, m - 1, math.ceil(n / 6)) for m, n in zip(nodes, shape, strict=True)]
        middle = ndimage.map_coordinates(
            coarse, np.meshgrid(*at, indexing="ij"), order=3, mode="nearest"
        )
        zoom = [n / m for n, m in zip(shape, middle.shape, strict=True)]
        bend = ndimage.zoom(middle, zoom, order=1)
        points.append((where[axis] - centre[axis]) / size[axis] + centre[axis] + bend)
    moved = ndimage.map_coordinates(head, points, order=1, mode="constant")
    inside = ndimage.map_coordinates(brain.view(np.uint8), points, order=0) > 0
    return moved.astype(np.float32), inside


def expose(
    rng: np.random.Generator, t1: Array, brain: Mask, *, strip: bool
) -> tuple[Array, dict[str, bool]]:
    """Shading by a polynomial of third degree, another contrast curve, a spectrum cut in-plane
    (Gibbs ringing), Rician noise, and the skull taken off if ``strip``. Returns what was done."""
    done = {"ringing": bool(rng.uniform() < 0.35), "stripped": strip}
    empty = ndimage.binary_erosion(t1 <= 0.004, iterations=2)  # a background that was zeroed
    small = [math.ceil(n / 8) for n in t1.shape]  # a polynomial this smooth bears it
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in small]
    shading = np.zeros(small, np.float32)
    for k in range(4):
        for j in range(4 - k):
            for i in range(4 - k - j):
                if 0 < k + j + i <= 3:
                    legendre = [np.polynomial.legendre.Legendre.basis(n) for n in (k, j, i)]
                    parts = [np.asarray(f(x), float) for f, x in zip(legendre, axes, strict=True)]
                    shading += rng.normal(0, 0.07 / (k + j + i)) * np.einsum("k,j,i->kji", *parts)
    zoom = [n / m for n, m in zip(t1.shape, small, strict=True)]
    t1 = t1 * np.exp(ndimage.zoom(shading, zoom, order=1))
    top = max(float(np.quantile(t1[::3, ::3, ::3], 0.998)), 1e-6)
    # A monotone curve through three knots in place of a power law.
    knots = np.array([0, 0.25, 0.6, 1.0, 4.0])
    curve = knots + np.array([0, rng.uniform(-0.05, 0.05), rng.uniform(-0.06, 0.06), 0, 0])
    t1 = np.interp(t1 / top, knots, curve).astype(np.float32)
    if done["ringing"]:
        axis = int(rng.integers(3))
        spectrum = np.fft.rfft(t1, axis=axis)
        cut = int(spectrum.shape[axis] * rng.uniform(0.72, 0.92))
        kept = [slice(None)] * 3
        kept[axis] = slice(cut, None)
        spectrum[tuple(kept)] = 0
        t1 = np.maximum(np.fft.irfft(spectrum, t1.shape[axis], axis=axis), 0).astype(np.float32)
    level = rng.uniform(0.004, 0.03)
    real, imaginary = (rng.standard_normal(t1.shape, np.float32) * level for _ in range(2))
    t1 = np.hypot(t1 + real, imaginary)
    if empty.mean() > 0.2:
        t1[empty] = 0
    if strip:
        ball = ndimage.generate_binary_structure(3, 1)
        generous = ndimage.binary_dilation(brain, ball, iterations=int(rng.integers(1, 4)))
        t1 = t1 * generous
    return t1.astype(np.float32), done


def native_grid(rng: np.random.Generator, *, thick: bool) -> Grid:
    """A scanner's grid around the MNI head: an order of ``ORDERS``, tilted by up to 12 degrees and
    shifted by up to 15 mm. Thin slices are .8 to 1.5 mm; thick ones 3 to 5 mm along one axis,
    .6 to 1 mm in the others."""
    order = ORDERS[int(rng.integers(len(ORDERS)))]
    plane = rng.uniform(0.6, 1.0) if thick else rng.uniform(0.8, 1.2)
    slice_mm = rng.uniform(3.0, 5.0) if thick else rng.uniform(0.9, 1.5)
    across = int(rng.integers(3)) if not thick else _slice_axis(rng, order)
    spacing = np.full(3, plane)
    spacing[across] = slice_mm
    k, j, i = MNI_GRID.shape
    extent = np.array([i, j, k], float)
    axes = np.zeros((3, 3))
    shape = []
    for voxel, letter in enumerate(order):
        world = "RLAPSI".index(letter) // 2
        axes[world, voxel] = spacing[voxel] * (1 if letter in "RAS" else -1)
        shape.append(math.ceil(extent[world] / spacing[voxel]))
    tilt = _rotation(rng.uniform(-12, 12, 3))
    return around_head(tilt @ axes, shape, rng.uniform(-3, 3, 3))


def around_head(
    axes: NDArray[np.float64], shape: Sequence[int], shift: NDArray[np.float64] | None = None
) -> Grid:
    """The grid of ``shape`` (I, J, K) with the columns of ``axes`` as steps in mm, its middle in
    that of the MNI grid, or ``shift`` mm from there."""
    i, j, k = (int(n) for n in shape)
    extent = np.array(MNI_GRID.shape[::-1], float)
    affine = np.eye(4)
    affine[:3, :3] = axes
    centre = MNI_GRID.affine[:3, 3] + (extent - 1) / 2
    affine[:3, 3] = centre - axes @ ((np.array([i, j, k]) - 1) / 2)
    if shift is not None:
        affine[:3, 3] += shift
    return Grid((k, j, i), affine)


def _slice_axis(rng: np.random.Generator, order: str) -> int:
    """Thick slices are mostly axial, sometimes sagittal or coronal."""
    wanted = str(rng.choice(["SI", "RL", "AP"], p=[0.7, 0.2, 0.1]))
    return next(n for n, letter in enumerate(order) if letter in wanted)


def _rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def regrid(array: Array, grid: Grid, world_shift: NDArray[np.float64] | None = None) -> Volume:
    """``array`` on the MNI grid, sampled on ``grid`` as a scanner does: each voxel is the mean over
    its own extent, so that thick slices mix what they hold.

    ``world_shift`` (3,) mm moves the result in world coordinates afterwards: where the scanner
    thinks that the head is.
    """
    k, j, i = grid.shape
    total = np.zeros((k, j, i), np.float32)
    counts = [max(1, round(s)) for s in grid.spacing]
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    to_mni = np.linalg.inv(MNI_GRID.affine) @ grid.affine
    flip = np.eye(4)[[2, 1, 0, 3]]
    for a in offsets[0]:
        for b in offsets[1]:
            for c in offsets[2]:
                nudge = np.eye(4)
                nudge[:3, 3] = a, b, c
                kji = flip @ (to_mni @ nudge) @ flip
                total += ndimage.affine_transform(
                    array, kji[:3, :3], kji[:3, 3], output_shape=(k, j, i), order=1
                )
    affine = grid.affine.copy()
    if world_shift is not None:
        affine[:3, 3] += world_shift
    return Volume(total / np.float32(np.prod(counts)), affine)
