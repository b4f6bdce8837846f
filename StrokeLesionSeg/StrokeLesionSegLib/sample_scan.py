"""Simulated chronic strokes with their exact truth: the scan of the demo and Slicer's sample.

A cavity in the territory of the left middle cerebral artery with the intensity of cerebrospinal
fluid, soft edges and a darker (gliotic) rim, and a lacune in the right corona radiata; then a
bias field and noise, so that the result looks like a scan. They are for trying out and for tests:
no patient, nothing to judge accuracy by, not the training simulator, and no network was trained
on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .boxes import EMPTY, Box, bounding_box, whole_box, widen
from .images.volume import Grid, Volume

Ellipsoid = tuple[tuple[float, float, float], tuple[float, float, float]]

# Centre and radii in MNI RAS mm: insula and operculum on the left, corona radiata on the right.
_CAVITY: Ellipsoid = ((-43.0, -8.0, 16.0), (17.0, 26.0, 20.0))
_LACUNE: Ellipsoid = ((25.0, -6.0, 24.0), (5.0, 6.5, 5.0))
_RIM_MM = 5.0
# The same for the whole head.
_HEAD_CAVITY: Ellipsoid = ((-44.0, -8.0, 16.0), (16.0, 24.0, 18.0))
_HEAD_LACUNE: Ellipsoid = ((25.0, -6.0, 24.0), (5.0, 6.0, 5.0))
# Where a scanner might put the head: it does not lie in MNI space by chance.
HEAD_SHIFT_MM = (3.0, -11.0, 27.0)
_GAP_MM, _SKULL_MM, _SCALP_MM = 2.0, 8.0, 14.0


@dataclass(frozen=True, eq=False)
class SimulatedStroke:
    """A T1 with a stroke whose extent is known.

    Attributes
    ----------
    t1: int16 volume, 0 to about 1000.
    truth: uint8 volume on the same grid, 1 in cavity and lacune.
    """

    t1: Volume
    truth: Volume

    @property
    def centre_ras_mm(self) -> tuple[float, float, float]:
        """Centre of mass of the cavity."""
        from scipy import ndimage

        k, j, i = map(float, ndimage.center_of_mass(_largest_part(self.truth.array != 0)))
        x, y, z = (self.truth.affine @ np.array([i, j, k, 1.0]))[:3]
        return float(x), float(y), float(z)


def stroke_in_template(t1: Volume, grey: Volume, white: Volume, seed: int = 0) -> SimulatedStroke:
    """Put a stroke into a T1 template, as the demo does.

    ``t1`` (any positive scale, 0 outside the brain), ``grey`` and ``white`` (tissue
    probabilities, 0 to 1) share one 1 mm grid in MNI space, (K, J, I). The same ``seed`` gives
    the same scan.
    """
    from scipy import ndimage

    random = np.random.default_rng(seed)
    image = t1.array.astype(np.float32) / np.float32(t1.array.max())
    tissue = (grey.array + white.array) > 0.5
    fluid = _fluid_intensity(image, tissue)

    # Tissue is lost where the field is positive; smoothed noise makes its border irregular.
    fields = [
        _ellipsoid(t1.grid, _CAVITY) + 0.55 * _smooth_noise(image.shape, 5.0, random),
        _ellipsoid(t1.grid, _LACUNE) + 0.30 * _smooth_noise(image.shape, 2.0, random),
    ]
    lost = np.zeros(image.shape, dtype=bool)
    for field in fields:
        part = tissue & (field > 0)
        box = _box_around(part)
        lost[box] |= _largest_part(ndimage.binary_opening(part[box]))
    # Sulci within the cavity are part of it.
    box = _box_around(lost)
    lost[box] = ndimage.binary_fill_holes(ndimage.binary_closing(lost[box], iterations=3))
    # Partial volume: about 1 mm wide.
    loss = ndimage.gaussian_filter(lost.astype(np.float32), 0.8)
    truth = loss >= 0.5

    # The rim scars: white matter loses up to a quarter of its brightness towards the cavity.
    box = _box_around(truth)
    distance = ndimage.distance_transform_edt(~truth[box])
    rim = np.clip(1 - distance / _RIM_MM, 0, 1) * np.clip(white.array[box], 0, 1)
    image[box] *= 1 - 0.25 * rim.astype(np.float32)
    texture = 1 + 0.15 * _smooth_noise(image.shape, 2.0, random)
    image = (1 - loss) * image + loss * fluid * texture

    brain = t1.array > 0
    bias = np.exp(0.08 * _smooth_noise(image.shape, 40.0, random))
    noise = random.standard_normal(image.shape).astype(np.float32)
    image = np.where(brain, np.clip(image * bias + 0.012 * noise, 0, None), 0)
    scan = np.rint(1000 * image).astype(np.int16)

    return SimulatedStroke(t1.with_array(scan), t1.with_array(truth.astype(np.uint8)))


def stroke_in_head(seed: int = 0) -> SimulatedStroke:
    """A stroke in a whole head: brain, skull and scalp, made from the shipped 2 mm template.

    int16, (189, 233, 197) in k, j, i, 1 mm, in a second or two. The same ``seed`` gives the same
    scan.
    """
    from scipy import ndimage

    from .images.space.template import MNI_GRID, template_brain, template_t1, upsample_linear

    random = np.random.default_rng(seed)
    coarse_brain = template_brain().array.astype(np.float32) / 255
    brain = upsample_linear(coarse_brain)
    image = upsample_linear(template_t1().array) / np.float32(template_t1().array.max())
    inside = brain > 0.5
    fluid = float(np.percentile(image[inside], 3))
    # Grey and white matter are well above the fluid in the template.
    tissue = inside & (image > fluid + 0.45 * (np.median(image[inside]) - fluid))

    lesion = np.zeros(image.shape, dtype=bool)
    uneven = 0.3 * _smooth_noise(image.shape, 4.0, random, np.float32)
    for lost in (_HEAD_CAVITY, _HEAD_LACUNE):
        lesion |= _largest_part(tissue & (_ellipsoid(MNI_GRID, lost) + uneven > 0))
    loss = ndimage.gaussian_filter(lesion.astype(np.float32), 0.8)
    near = ndimage.gaussian_filter(lesion.astype(np.float32), 3.0)
    image *= 1 - 0.2 * np.clip(near - loss, 0, 1)
    texture = 1 + 0.1 * _smooth_noise(image.shape, 2.0, random, np.float32)
    image = (1 - loss) * image + loss * fluid * texture

    # At 2 mm, where a distance costs little; the head is as far from the brain everywhere.
    distance = upsample_linear(ndimage.distance_transform_edt(coarse_brain < 0.5) * 2.0)
    shell = np.select(
        [distance <= _GAP_MM, distance <= _SKULL_MM, distance <= _SCALP_MM],
        [fluid, 0.06, 0.85],
        0.0,
    ).astype(np.float32)
    image = brain * image + (1 - brain) * shell
    image *= np.exp(0.08 * _smooth_noise(image.shape, 40.0, random, np.float32))
    noise = random.standard_normal(image.shape, dtype=np.float32)
    image = np.abs(image + np.float32(0.015) * noise)

    affine = MNI_GRID.affine.copy()
    affine[:3, 3] += HEAD_SHIFT_MM
    return SimulatedStroke(
        Volume(np.rint(800 * image).astype(np.int16), affine),
        Volume(lesion.astype(np.uint8), affine),
    )


def _fluid_intensity(image: NDArray[np.float32], tissue: NDArray[np.bool_]) -> float:
    """Median intensity of the voxels well inside the brain that are no tissue: ventricles."""
    from scipy import ndimage

    box = bounding_box(image > 0) or whole_box(image.shape)
    image, tissue = image[box], tissue[box]
    deep = ndimage.binary_erosion(ndimage.binary_fill_holes(image > 0), iterations=10)
    return float(np.median(image[deep & ~ndimage.binary_dilation(tissue)]))


def _box_around(mask: NDArray[np.bool_]) -> Box:
    """All of ``mask`` and its surroundings, as far as anything is done to them."""
    return widen(bounding_box(mask) or EMPTY, math.ceil(_RIM_MM) + 1, mask.shape)


def _ellipsoid(grid: Grid, ellipsoid: Ellipsoid) -> NDArray[np.float32]:
    """1 in the centre, 0 on the surface, negative outside; (K, J, I)."""
    centre_mm, radii_mm = ellipsoid
    k, j, i = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    rotation, shift = grid.affine[:3, :3], grid.affine[:3, 3]
    total: NDArray[np.float64] | float = 0.0
    for axis in range(3):
        # Where axes are parallel, each is a line of numbers until they are added up.
        along = [r * n for r, n in zip(rotation[axis], (i, j, k), strict=True) if r]
        total = total + ((sum(along) + shift[axis] - centre_mm[axis]) / radii_mm[axis]) ** 2
    return (1 - np.sqrt(total)).astype(np.float32)


def _smooth_noise(
    shape: tuple[int, ...],
    sigma: float,
    random: np.random.Generator,
    dtype: Any = np.float64,
) -> NDArray[np.float32]:
    """Gaussian noise of unit standard deviation, smooth over ``sigma`` voxels."""
    from scipy import ndimage

    # On a coarser grid first: a wide filter on the full one would take seconds.
    step = max(1, int(sigma // 2))
    coarse = [-(-n // step) + 2 for n in shape]
    noise = ndimage.gaussian_filter(
        random.standard_normal(coarse, dtype=dtype), sigma / step, mode="wrap"
    )
    noise = ndimage.zoom(noise, step, order=1)[tuple(slice(n) for n in shape)]
    return (noise / noise.std()).astype(np.float32)


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected component."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == np.argmax(sizes)
