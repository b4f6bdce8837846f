"""What scanners and preparation make of one head: contrast, bias, noise, motion, thick slices,
blur and sharpening, cut fields of view, stripped and defaced heads.

All functions take and return a (160, 192, 160) float32 image in about [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .anatomy import Anatomy, coordinates
from .fields import (
    chance,
    choose,
    noise_field,
    size_of,
    uniform,
)


def scanned(g: Generator, image: Tensor, anatomy: Anatomy, coarse: bool) -> Tensor:
    """One scan of the head. ``coarse``: it was of 2 mm, and is sharpened at times."""
    x = image
    if coarse and chance(g, 0.45):
        x = (x + uniform(g, 0.2, 1.5) * (x - _box_blur(x))).clamp(0, 1.15)
    r = uniform(g, 0, 1)
    if r < 0.45:
        x = x.clamp_min(0) ** math.exp(uniform(g, -0.4, 0.4))
    elif r < 0.75:
        x = _contrast_curve(g, x)
    if chance(g, 0.5):
        x = x * (1 + uniform(g, 0.05, 0.3) * noise_field(g, size_of(x), 60.0)).clamp(0.3, 1.9)
    if chance(g, 0.34):
        x = x * _brain_only(g, anatomy)
    elif chance(g, 0.35):
        x = x * _defaced(g)
    r = uniform(g, 0, 1)
    if r < (0.06 if coarse else 0.14):
        x = torch.lerp(x, _box_blur(x), uniform(g, 0.3, 1.0))
    elif r < 0.26:
        x = _thick_slices(g, x)
    elif r < 0.31:
        x = _moved(g, x)
    there = (x > 0.01).float()
    if chance(g, 0.5):
        # Bright fat or vessels leave the brain dim within the window.
        dim = uniform(g, 0.5, 0.85) if chance(g, 0.25) else uniform(g, 0.85, 1.15)
        x = x * dim + uniform(g, -0.04, 0.04) * there
    if chance(g, 0.6):
        strength = math.exp(uniform(g, math.log(0.005), math.log(0.06)))
        where = there if chance(g, 0.8) else torch.ones_like(x)
        x = x + torch.randn(x.shape, generator=g) * strength * where
    if chance(g, 0.05):
        x = x * _cut(g, x)
    return x.clamp(0, 1.2 if chance(g, 0.5) else 1.0)


def _contrast_curve(g: Generator, x: Tensor) -> Tensor:
    """A rising curve through four random values: other relations of fluid, grey and white."""
    knots = torch.sort(torch.rand(4, generator=g)).values
    y = torch.cat([torch.zeros(1), 0.5 * knots + 0.5 * torch.linspace(0.2, 0.8, 4), torch.ones(2)])
    place = x.clamp(0, 1) * 5
    low = place.long().clamp(0, 4)
    return torch.lerp(y[low], y[low + 1], place - low) + (x - 1).clamp_min(0)


def _brain_only(g: Generator, anatomy: Anatomy) -> Tensor:
    """The mask of a brain extraction: tight, generous, ragged, at times with a piece missing."""
    edge = anatomy.depth - anatomy.outside
    margin = uniform(g, -4.0, 1.5)
    if chance(g, 0.7):
        margin = margin + uniform(g, 0.3, 2.5) * noise_field(g, size_of(edge), uniform(g, 12, 40))
    keep = edge > margin
    if chance(g, 0.12):  # a failed extraction: a piece of brain lost, or of the skull kept
        place = anatomy.places[choose(g, len(anatomy.places))].float()
        k, j, i = (
            (torch.arange(n, dtype=torch.float32) - float(c)).view(*shape)
            for n, c, shape in zip(
                edge.shape, place, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True
            )
        )
        near = (k.square() + j.square() + i.square()) < uniform(g, 8, 26) ** 2
        shallow = anatomy.depth < 14
        keep = keep & ~(near & shallow) if chance(g, 0.5) else keep | (near & shallow)
    return keep.float()


def _defaced(g: Generator) -> Tensor:
    """0 in front of and below a plane before the brain, 1 elsewhere."""
    z, y, _ = coordinates()
    level = uniform(g, 58, 74)
    tilt = uniform(g, 0.3, 1.2)
    return (y < level + tilt * (z + 20).clamp_min(0)).float().expand(len(z), y.shape[1], 160)


def _cut(g: Generator, x: Tensor) -> Tensor:
    """A field of view that ends within the head: 0 beyond a plane."""
    keep = torch.ones_like(x)
    axis = choose(g, 3)
    n = x.shape[axis]
    gone = int(uniform(g, 0.04, 0.2) * n)
    keep.narrow(axis, 0 if chance(g, 0.6) else n - gone, gone).zero_()
    return keep


def _thick_slices(g: Generator, x: Tensor) -> Tensor:
    kernel = [1, 1, 1]
    kernel[choose(g, 3)] = 2 + choose(g, 4)
    small = F.avg_pool3d(x[None, None], kernel, kernel, ceil_mode=True, count_include_pad=False)
    how = "trilinear" if chance(g, 0.7) else "nearest"
    corners = {"align_corners": False} if how == "trilinear" else {}
    return F.interpolate(small, x.shape, mode=how, **corners)[0, 0]


def _moved(g: Generator, x: Tensor) -> Tensor:
    """Ghosts of a head that moved along the phase direction."""
    axis, out = 1 + choose(g, 2), x
    for _ in range(1 + choose(g, 3)):
        step = int(uniform(g, 3, 30)) * (1 if chance(g, 0.5) else -1)
        out = out + uniform(g, 0.03, 0.14) * torch.roll(x, step, axis)
    return out / (1 + 0.1)


def _box_blur(x: Tensor) -> Tensor:
    """Mean of 3 x 3 x 3, separable: much faster on a CPU than a 3D pooling."""
    for axis in range(3):
        n = x.shape[axis]
        y = x.clone()
        y.narrow(axis, 1, n - 1).add_(x.narrow(axis, 0, n - 1))
        y.narrow(axis, 0, n - 1).add_(x.narrow(axis, 1, n - 1))
        x = y.mul_(1 / 3)
    return x
