"""What the scanner and the archive do to a head: bias, noise, thick slices, motion, stripping."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from StrokeLesionSegLib.learning.strokes.fields import (
    chance,
    choose,
    dilate,
    gaussian,
    identity_points,
    noise_field,
    uniform,
)
from torch import Generator, Tensor


def bias_field(g: Generator, shape: tuple[int, ...]) -> Tensor:
    """Multiplicative receive-coil shading, smooth, around 1."""
    return torch.exp(uniform(g, 0.02, 0.22) * noise_field(g, shape, uniform(g, 70, 150)))


def gamma(g: Generator, t1: Tensor) -> Tensor:
    """Another contrast: intensities to a power, keeping the range."""
    top = t1.amax().clamp_min(1e-6)
    return (t1 / top) ** (2 ** uniform(g, -0.45, 0.45)) * top


def thick_slices(g: Generator, t1: Tensor) -> Tensor:
    """Slices of 2 to 5 mm along one axis, interpolated back to 1 mm."""
    axis = choose(g, 3)
    factor = uniform(g, 2.0, 5.0)
    size = list(t1.shape)
    size[axis] = max(8, round(size[axis] / factor))
    coarse = F.interpolate(t1[None, None], size, mode="area")
    return F.interpolate(coarse, t1.shape, mode="trilinear", align_corners=False)[0, 0]


def motion(g: Generator, t1: Tensor) -> Tensor:
    """Ghosts of a head that moved: some phase-encoding lines belong to a shifted head."""
    axis = choose(g, 2) + 1
    spectrum = torch.fft.fft(t1, dim=axis)
    n = t1.shape[axis]
    frequency = torch.fft.fftfreq(n, device=t1.device)
    start = uniform(g, 0.08, 0.4)
    shifted = frequency.abs() > start
    phase = 2 * torch.pi * frequency * uniform(g, -4, 4) * shifted
    view = [1, 1, 1]
    view[axis] = n
    moved = spectrum * torch.exp(-1j * phase).view(view)
    return torch.fft.ifft(moved, dim=axis).real.clamp_min(0).contiguous()


def rician_noise(g: Generator, t1: Tensor, level: float) -> Tensor:
    """Magnitude noise; ``level`` as a share of the 99th percentile."""
    top = torch.quantile(t1.flatten()[::97], 0.99)
    a = torch.randn(t1.shape, generator=g, device=t1.device) * level * top
    b = torch.randn(t1.shape, generator=g, device=t1.device) * level * top
    return ((t1 + a) ** 2 + b**2).sqrt()


def strip_skull(g: Generator, t1: Tensor, brain: Tensor) -> Tensor:
    """Brain extraction as tools do it: a little too generous or too tight, zero outside."""
    mask = dilate(brain.float(), choose(g, 4))
    return t1 * (mask > 0.5)


def deface(g: Generator, t1: Tensor, brain: Tensor) -> Tensor:
    """Zero the face: everything in front of and below a tilted plane that spares the brain."""
    k, j, _ = identity_points(tuple(t1.shape), t1.device)
    plane = (j - uniform(g, 175, 200)) - uniform(g, 0.6, 1.4) * (k - uniform(g, 30, 55))
    return t1 * ~((plane > 0) & ~(dilate(brain.float(), 3) > 0.5))


def crop_field_of_view(g: Generator, t1: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """A field of view that ends early below or above; what is not imaged holds no truth."""
    t1, truth = t1.clone(), truth.clone()
    if chance(g, 0.7):
        cut = choose(g, 35)
        t1[:cut] = 0
        truth[:cut] = False
    else:
        cut = t1.shape[0] - choose(g, 45)
        t1[cut:] = 0
        truth[cut:] = False
    return t1, truth


def acquire(
    g: Generator, t1: Tensor, truth: Tensor, brain: Tensor, *, has_skull: bool
) -> tuple[Tensor, Tensor, dict[str, bool]]:
    """The whole chain with its usual odds; returns T1, truth and what was done."""
    done = {
        "thick": chance(g, 0.25),
        "motion": chance(g, 0.06),
        "stripped": has_skull and chance(g, 0.4),
        "defaced": has_skull and chance(g, 0.4),
        "cropped": chance(g, 0.1),
    }
    t1 = t1 * bias_field(g, tuple(t1.shape))
    if chance(g, 0.6):
        t1 = gamma(g, t1)
    if chance(g, 0.3):
        t1 = gaussian(t1, uniform(g, 0.3, 0.9))
    if done["motion"]:
        t1 = motion(g, t1)
    if done["thick"]:
        t1 = thick_slices(g, t1)
    background = t1 <= 0 if not has_skull else None
    t1 = rician_noise(g, t1, uniform(g, 0.0, 0.035))
    if background is not None:
        t1 = t1 * ~background
    if done["defaced"]:
        t1 = deface(g, t1, brain)
    if done["stripped"]:
        t1 = strip_skull(g, t1, brain)
    if done["cropped"]:
        t1, truth = crop_field_of_view(g, t1, truth)
    return t1, truth, done
