"""Simulated sites that look unlike the training, for trying out adaptation (``adapt``).

A site is a scanner and the strokes that it sees: the same contrast curve, resolution and noise in
all its scans, and lesions of one look, drawn by the independent simulator. Site "thick" has slices
of 3 mm, little contrast, much noise, and cavities of any size. Site "deep" has sharp scans of
1 mm with another contrast curve, and one to three small lesions deep in the brain. Site "low-field"
is a small magnet, such as one of 64 mT: slices of 5 mm, fluid that is not black, little contrast,
noise, and cavities of any size.

Simulated, and called so wherever its figures are shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from StrokeLesionSegLib.images import MNI_GRID, Grid, Volume

from .independent_simulator import (
    Array,
    Mask,
    draw_fluid_near,
    implant,
    outline,
    small_outline,
    tissue_of,
    volume_ml,
)
from .scanner import around_head, regrid, warp_head

# The scanner's world is not the template's: shifts within this, tilts within that.
_SHIFT_MM, _TILT_DEGREES = 12.0, 8.0


@dataclass(frozen=True)
class Site:
    """A scanner and what it sees.

    Attributes
    ----------
    name: of the site.
    spacing: (i, j, k) mm of its grid, axes RAS but for a tilt.
    curve: values that 0, .25, .6 and 1 of the signal become.
    blur: FWHM in mm that the signal is blurred by; a negative one sharpens.
    noise: standard deviation of Rician noise, share of the brightest tissue.
    kind: "mixed" or "cavity", as ``independent_simulator`` has them.
    deep: small lesions deep in the brain instead of those of any size.
    """

    name: str
    spacing: tuple[float, float, float]
    curve: tuple[float, float, float, float]
    blur: float
    noise: float
    kind: str
    deep: bool


SITES = {
    site.name: site
    for site in (
        Site("thick", (0.9, 0.9, 3.0), (0.12, 0.40, 0.72, 1.0), 1.6, 0.035, "cavity", False),
        Site("deep", (1.0, 1.0, 1.0), (0.0, 0.18, 0.66, 1.0), -1.0, 0.015, "mixed", True),
        Site("low-field", (1.6, 1.6, 5.0), (0.22, 0.48, 0.75, 1.0), 3.0, 0.05, "cavity", False),
    )
}


def draw_at(
    site: Site, rng: np.random.Generator, head: Array, brain: Mask, masks: Sequence[Path]
) -> tuple[Volume, NDArray[np.uint8]]:
    """A scan of ``site`` and its lesion mask on the same grid.

    Parameters
    ----------
    head: (189, 233, 197) float32 in [0, 1], (K, J, I) on the MNI152 grid; brain: bool, as large.
    masks: files of real lesion masks in MNI space.
    """
    t1, brain = warp_head(rng, head, brain)
    tissue = tissue_of(t1, brain)
    truth = np.zeros(brain.shape, bool)
    usable = brain & ~ndimage.binary_dilation(tissue.ventricles)
    for _ in range(20):
        if site.deep:
            inner = usable & (tissue.depth > 14) & (tissue.classes > 1)
            shapes = []
            for _ in range(int(rng.integers(1, 4))):
                centre = rng.choice(np.argwhere(inner)).astype(float)
                ml = float(np.exp(rng.uniform(np.log(0.3), np.log(4.0))))
                shapes.append(small_outline(rng, centre, ml) & usable)
        else:
            ml = max(1.0, volume_ml(rng))
            shapes = [outline(rng, masks, tissue, brain, ml)[0]]
        shapes = [shape for shape in shapes if shape.sum() >= 200]
        if shapes:
            break
    for shape in shapes:
        t1 = implant(rng, t1, brain, shape, tissue, site.kind)
        if shape.sum() > 12_000:
            t1 = np.where(truth | shape, t1, draw_fluid_near(rng, t1, brain, shape, tissue))
        truth |= shape
    grid = _grid(site, rng)
    shift = rng.uniform(-_SHIFT_MM, _SHIFT_MM, 3)
    scan = regrid(_expose(site, t1), grid, shift)
    mask = regrid(truth.astype(np.float32), grid, shift).array >= 0.5
    top = float(np.quantile(scan.array[scan.array > 0.02], 0.995))
    signal = np.asarray(scan.array, np.float32) / max(top, 1e-6)
    real, imaginary = (rng.standard_normal(signal.shape, np.float32) * site.noise for _ in "ab")
    noisy = np.hypot(signal + real, imaginary)
    stored = np.round(np.clip(noisy, 0, 4) * 1000).astype(np.int16)
    return Volume(stored, scan.affine), mask.astype(np.uint8)


def _expose(site: Site, t1: Array) -> Array:
    """The site's contrast curve and resolution."""
    top = max(float(np.quantile(t1[::3, ::3, ::3], 0.998)), 1e-6)
    knots, values = [0, 0.25, 0.6, 1.0, 4.0], [*site.curve, 4.0]
    inside = t1 > 0.004
    out = np.where(inside, np.interp(t1 / top, knots, values), 0).astype(np.float32)
    sigma = abs(site.blur) / 2.355
    smooth = ndimage.gaussian_filter(out, sigma)
    return smooth if site.blur > 0 else np.maximum(out + 0.6 * (out - smooth), 0)


def _grid(site: Site, rng: np.random.Generator) -> Grid:
    """The site's grid around the MNI head."""
    from scipy.spatial.transform import Rotation

    shape = [math.ceil(n / mm) for n, mm in zip(MNI_GRID.shape[::-1], site.spacing, strict=True)]
    # The second angle turns the other way round than scipy has it.
    angles = rng.uniform(-_TILT_DEGREES, _TILT_DEGREES, 3) * (1, -1, 1)
    turn = Rotation.from_euler("XYZ", angles, degrees=True).as_matrix()
    return around_head(turn @ np.diag(site.spacing), shape)
