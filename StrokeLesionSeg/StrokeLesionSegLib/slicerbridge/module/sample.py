"""A simulated stroke T1, made on this computer in a second or two, without network.

The shipped 2 mm MNI152 template is brought to 1 mm, gets a cavity in the territory of the left
middle cerebral artery and a lacune on the right, both with the grey value of fluid, a scarred
rim, a skull and a scalp around it, a bias field and noise. It is for trying out and for tests: no
patient, and nothing to judge accuracy by.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...images.volume import Volume

SAMPLE_NAME = "StrokeT1Simulated"
NODE_NAME = "Simulated stroke T1"

# Centre and radii in MNI RAS mm.
_CAVITY = ((-44.0, -8.0, 16.0), (16.0, 24.0, 18.0))
_LACUNE = ((25.0, -6.0, 24.0), (5.0, 6.0, 5.0))
# Where a scanner might put the head: the sample does not lie in MNI space by chance.
_SHIFT_MM = (3.0, -11.0, 27.0)
_GAP_MM, _SKULL_MM, _SCALP_MM = 2.0, 8.0, 14.0


@dataclass(frozen=True)
class SimulatedStroke:
    """``t1``: int16, (189, 233, 197) in k, j, i, 1 mm. ``truth``: uint8, 1 in the lesions."""

    t1: Volume
    truth: Volume


def simulate(seed: int = 0) -> SimulatedStroke:
    """The simulated scan and where its lesions are; the same for the same ``seed``."""
    from scipy import ndimage

    from ...images.space.template import MNI_GRID, template_brain, template_t1, upsample_linear

    random = np.random.default_rng(seed)
    coarse_brain = template_brain().array.astype(np.float32) / 255
    brain = upsample_linear(coarse_brain)
    image = upsample_linear(template_t1().array) / np.float32(template_t1().array.max())
    inside = brain > 0.5
    fluid = float(np.percentile(image[inside], 3))
    # Grey and white matter are well above the fluid in the template.
    tissue = inside & (image > fluid + 0.45 * (np.median(image[inside]) - fluid))

    lesion = np.zeros(image.shape, dtype=bool)
    uneven = 0.3 * _noise(image.shape, 4.0, random)
    for centre, radii in (_CAVITY, _LACUNE):
        field = _ellipsoid(image.shape, MNI_GRID.affine, centre, radii) + uneven
        parts, count = ndimage.label(tissue & (field > 0))
        if count:
            largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
            lesion |= parts == largest
    loss = ndimage.gaussian_filter(lesion.astype(np.float32), 0.8)
    near = ndimage.gaussian_filter(lesion.astype(np.float32), 3.0)
    image *= 1 - 0.2 * np.clip(near - loss, 0, 1)
    image = (1 - loss) * image + loss * fluid * (1 + 0.1 * _noise(image.shape, 2.0, random))

    # At 2 mm, where a distance costs little; the head is as far from the brain everywhere.
    distance = upsample_linear(ndimage.distance_transform_edt(coarse_brain < 0.5) * 2.0)
    shell = np.select(
        [distance <= _GAP_MM, distance <= _SKULL_MM, distance <= _SCALP_MM],
        [fluid, 0.06, 0.85],
        0.0,
    ).astype(np.float32)
    image = brain * image + (1 - brain) * shell
    image *= np.exp(0.08 * _noise(image.shape, 40.0, random))
    noise = random.standard_normal(image.shape, dtype=np.float32)
    image = np.abs(image + np.float32(0.015) * noise)

    affine = MNI_GRID.affine.copy()
    affine[:3, 3] += _SHIFT_MM
    return SimulatedStroke(
        Volume(np.rint(800 * image).astype(np.int16), affine),
        Volume(lesion.astype(np.uint8), affine),
    )


def add_sample(seed: int = 0) -> Any:
    """Add the simulated T1 to the scene and show it; returns the volume node."""
    from ..scene.results import show_background
    from ..scene.volumes import add_volume_node

    node = add_volume_node(simulate(seed).t1, NODE_NAME)
    node.CreateDefaultDisplayNodes()
    display = node.GetScalarVolumeDisplayNode()
    if display is not None:
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0, 900)
    show_background(node, fit=True)
    return node


def register_sample(category: str, thumbnail: str = "") -> bool:
    """Offer the sample in Slicer's Sample Data module; False where that module is not there."""
    try:
        import SampleData
    except ImportError:
        return False
    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12 and newer
        # With another signature the next call makes the category, too.
        with contextlib.suppress(TypeError):
            logic.registerCustomSampleDataCategory(category, category)
    logic.registerCustomSampleDataSource(
        category=category,
        sampleName=SAMPLE_NAME,
        # Nothing is fetched: the custom downloader makes the volume here.
        uris="file:///made-on-this-computer",
        fileNames="StrokeT1Simulated.nrrd",
        nodeNames=NODE_NAME,
        thumbnailFileName=thumbnail,
        customDownloader=_make_sample,
    )
    return True


def _make_sample(source: Any = None) -> list[Any]:
    """For Sample Data: always the same function, by which it knows a source that it has."""
    return [add_sample()]


def _ellipsoid(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
) -> NDArray[np.float32]:
    """1 in the centre, 0 on the surface; the affine has no rotation."""
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    square = sum(
        ((affine[axis, axis] * index + affine[axis, 3] - centre[axis]) / radii[axis]) ** 2
        for axis, index in enumerate((i, j, k))
    )
    return (1 - np.sqrt(square)).astype(np.float32)


def _noise(
    shape: tuple[int, ...], sigma: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """Noise of unit standard deviation, smooth over ``sigma`` voxels."""
    from scipy import ndimage

    step = max(1, int(sigma // 2))  # wide filters on a coarser grid, for speed
    coarse = [-(-n // step) + 2 for n in shape]
    noise = ndimage.gaussian_filter(
        random.standard_normal(coarse, dtype=np.float32), sigma / step, mode="wrap"
    )
    noise = ndimage.zoom(noise, step, order=1)[tuple(slice(n) for n in shape)]
    return (noise / noise.std()).astype(np.float32)
