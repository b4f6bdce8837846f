"""A simulated chronic stroke in the MNI152 template, with its exact truth, for the demo.

A cavity in the territory of the left middle cerebral artery with the intensity of cerebrospinal
fluid, soft edges and a darker (gliotic) rim, and a lacune in the right corona radiata; then a
bias field and noise, so that the result looks like a scan. It is not the training simulator, and
the network has never seen it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..images import Volume

# In MNI RAS mm: insula and operculum on the left, corona radiata on the right.
_CAVITY = ((-43.0, -8.0, 16.0), (17.0, 26.0, 20.0))
_LACUNE = ((25.0, -6.0, 24.0), (5.0, 6.5, 5.0))
_RIM_MM = 5.0


@dataclass(frozen=True)
class SimulatedStroke:
    """A T1 with a stroke whose extent is known.

    Attributes
    ----------
    t1: int16 volume, 0 to about 1000. truth: uint8 volume on the same grid, 1 in cavity and
    lacune. centre_ras_mm: centre of mass of the cavity.
    """

    t1: Volume
    truth: Volume
    centre_ras_mm: tuple[float, float, float]


def simulate_stroke(t1: Volume, grey: Volume, white: Volume, seed: int = 0) -> SimulatedStroke:
    """Put a stroke into a T1 template.

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
        _ellipsoid(t1, *_CAVITY) + 0.55 * _smooth_noise(image.shape, 5.0, random),
        _ellipsoid(t1, *_LACUNE) + 0.30 * _smooth_noise(image.shape, 2.0, random),
    ]
    lost = np.zeros(image.shape, dtype=bool)
    for field in fields:
        lost |= _largest_part(ndimage.binary_opening(tissue & (field > 0)))
    # Sulci within the cavity are part of it.
    lost = ndimage.binary_fill_holes(ndimage.binary_closing(lost, iterations=3))
    # Partial volume: about 1 mm wide.
    loss = ndimage.gaussian_filter(lost.astype(np.float32), 0.8)
    truth = loss >= 0.5

    # The rim scars: white matter loses up to a quarter of its brightness towards the cavity.
    distance = ndimage.distance_transform_edt(~truth)
    rim = np.clip(1 - distance / _RIM_MM, 0, 1) * np.clip(white.array, 0, 1)
    image = image * (1 - 0.25 * rim.astype(np.float32))
    texture = 1 + 0.15 * _smooth_noise(image.shape, 2.0, random)
    image = (1 - loss) * image + loss * fluid * texture

    brain = t1.array > 0
    bias = np.exp(0.08 * _smooth_noise(image.shape, 40.0, random))
    noise = random.standard_normal(image.shape).astype(np.float32)
    image = np.where(brain, np.clip(image * bias + 0.012 * noise, 0, None), 0)
    scan = np.rint(1000 * image).astype(np.int16)

    k, j, i = (float(v) for v in ndimage.center_of_mass(_largest_part(truth)))
    centre = (t1.affine @ np.array([i, j, k, 1.0]))[:3]
    return SimulatedStroke(
        t1.with_array(scan),
        t1.with_array(truth.astype(np.uint8)),
        (float(centre[0]), float(centre[1]), float(centre[2])),
    )


def _fluid_intensity(image: NDArray[np.float32], tissue: NDArray[np.bool_]) -> float:
    """Median intensity of the voxels well inside the brain that are no tissue: ventricles."""
    from scipy import ndimage

    deep = ndimage.binary_erosion(ndimage.binary_fill_holes(image > 0), iterations=10)
    return float(np.median(image[deep & ~ndimage.binary_dilation(tissue)]))


def _ellipsoid(
    volume: Volume, centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]
) -> NDArray[np.float32]:
    """1 in the centre, 0 on the surface, negative outside; (K, J, I)."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in volume.array.shape), indexing="ij", sparse=True)
    rotation, shift = volume.affine[:3, :3], volume.affine[:3, 3]
    total: NDArray[np.float64] | float = 0.0
    for axis in range(3):
        world = rotation[axis, 0] * i + rotation[axis, 1] * j + rotation[axis, 2] * k + shift[axis]
        total = total + ((world - centre_mm[axis]) / radii_mm[axis]) ** 2
    return (1 - np.sqrt(total)).astype(np.float32)


def _smooth_noise(
    shape: tuple[int, ...], sigma: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """Gaussian noise of unit standard deviation, smooth over ``sigma`` voxels."""
    from scipy import ndimage

    # On a coarser grid first: a wide filter on the full one would take seconds.
    step = max(1, int(sigma // 2))
    coarse = [-(-n // step) + 2 for n in shape]
    noise = ndimage.gaussian_filter(random.standard_normal(coarse), sigma / step, mode="wrap")
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
