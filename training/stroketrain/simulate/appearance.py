"""What a stroke does to a T1, and what only looks as if: cavities, gliosis, and their mimics.

All functions take and return a T1 (K, J, I) float32 on the MNI grid, in arbitrary units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.learning.strokes.fields import (
    broad_gaussian,
    chance,
    choose,
    dilate,
    erode,
    gaussian,
    noise_field,
    uniform,
)
from torch import Generator, Tensor

from .shapes import blob, crop_box

KINDS = ("cavity", "mixed", "faint")


@dataclass(frozen=True, eq=False)
class TissueLevels:
    """Local intensity scale of a T1.

    ``local``: (K, J, I) mean brain intensity around each voxel, bias field included;
    ``fluid``: cerebrospinal fluid as a share of ``local``;
    ``white``: white matter as a share of ``local``;
    ``depth``: (K, J, I) rough distance to the brain's surface in mm, 0 outside.
    """

    local: Tensor
    fluid: float
    white: float
    depth: Tensor

    __repr__ = brief_repr

    @staticmethod
    def of(t1: Tensor, brain: Tensor) -> TissueLevels:
        inside = brain.float()
        local = broad_gaussian(t1 * inside, 18.0) / broad_gaussian(inside, 18.0).clamp_min(1e-3)
        local = local.clamp_min(1e-3)
        shell = F.avg_pool3d(inside[None, None], 2, ceil_mode=True)[0, 0]
        depth = torch.zeros_like(shell)
        for _ in range(7):
            depth += 2 * shell
            shell = erode(shell)
        depth = F.interpolate(
            depth[None, None], scale_factor=2, mode="trilinear", align_corners=False
        )[0, 0]
        depth = depth[: inside.shape[0], : inside.shape[1], : inside.shape[2]] * inside
        ratio = (t1 / local)[depth > 3]
        ratio = ratio[torch.randperm(len(ratio), generator=Generator().manual_seed(0))[:200_000]]
        fluid = float(torch.quantile(ratio, 0.012).clamp(0.08, 0.5))
        white = float(torch.quantile(ratio, 0.85).clamp(1.05, 1.7))
        return TissueLevels(local, fluid, white, depth)


def ventricles(t1: Tensor, brain: Tensor, levels: TissueLevels) -> Tensor:
    """Soft mask (K, J, I) of wide fluid spaces deep in the brain: no lesion is drawn there."""
    ratio = t1 / levels.local
    dark = (ratio < (levels.fluid + 1.0) / 2 * 0.85).float() * brain * (levels.depth > 6)
    return dilate(erode(dark))


def implant(
    g: Generator, t1: Tensor, soft: Tensor, allowed: Tensor, levels: TissueLevels, kind: str
) -> tuple[Tensor, Tensor]:
    """Draw one lesion.

    ``soft`` (K, J, I) in [0, 1] is its shape, ``allowed`` (K, J, I) float where it may lie.
    Returns the T1 with it, and its truth (K, J, I) bool: cavity and gliotic rim together, as a
    rater would outline it.
    """
    if not bool((soft > 0.5).any()):
        return t1, torch.zeros_like(soft, dtype=torch.bool)
    box = crop_box(soft, 10)
    t = t1[box]
    shape = tuple(t.shape)
    local = levels.local[box]
    ragged = noise_field(g, shape, uniform(g, 2.5, 7.0)) * uniform(g, 0.05, 0.25)
    base = (soft[box] + ragged * (soft[box] > 0.02)).clamp(0, 1) * allowed[box]
    truth = base > 0.5
    if not bool(truth.any()):
        return t1, torch.zeros_like(soft, dtype=torch.bool)
    body = truth.float()
    texture = noise_field(g, shape, uniform(g, 2.0, 6.0))
    flat = gaussian(t, 2.0)
    if kind == "faint":
        strength = uniform(g, 0.12, 0.38)
        edge = gaussian(body, uniform(g, 1.0, 2.6))
        amount = edge * (1 + 0.25 * texture).clamp(0.3, 1.6)
        mixed = t + (flat - t) * uniform(g, 0.2, 0.7)
        out = t + edge * (mixed - t) - amount * strength * t
    else:
        inner = gaussian(body, uniform(g, 0.8, 1.8))
        rim_level = uniform(g, 0.5, 0.85)
        if kind == "mixed":
            # Cavity only where a slow random field says so; the rest is gliosis and lost neurons.
            slow = noise_field(g, shape, uniform(g, 7.0, 16.0))
            core = torch.sigmoid((inner - 0.62 + 0.25 * slow) * 14)
            rim_level = uniform(g, 0.58, 0.88)
        else:
            core = torch.sigmoid((inner - uniform(g, 0.45, 0.75)) * uniform(g, 8, 20))
            core = core if bool((core > 0.5).any()) else inner
        rim = gaussian(body, uniform(g, 0.5, 1.1))
        glial = (0.45 * t + 0.55 * flat) * (rim_level + 0.06 * texture).clamp(0.3, 1.0)
        glial = torch.minimum(glial, t * 1.05)
        fluid = levels.fluid * local * uniform(g, 0.8, 1.35)
        if chance(g, 0.3):
            # Septa and debris: a cavity is not always clean water.
            fluid = fluid + local * 0.12 * noise_field(g, shape, 3.0).clamp_min(0)
        fluid = fluid * (1 + 0.06 * texture)
        out = t + rim * (glial - t)
        core = gaussian(core, uniform(g, 0.3, 0.7)) * rim.clamp(0, 1).sqrt()
        out = out + core * (torch.minimum(fluid, out * 1.1) - out)
    result = t1.clone()
    result[box] = out.clamp_min(0)
    full = torch.zeros_like(soft, dtype=torch.bool)
    full[box] = truth
    return result, full


def widen_fluid(g: Generator, t1: Tensor, brain: Tensor) -> Tensor:
    """Atrophy: every dark space (sulci, ventricles) grows, unevenly over the brain."""
    amount = uniform(g, 0.2, 1.0) * torch.sigmoid(
        noise_field(g, tuple(t1.shape), 45.0) + uniform(g, -1, 2)
    )
    inside = gaussian(brain.float(), 1.0)
    return t1 + amount * inside * (erode(t1) - t1)


def white_matter_spots(
    g: Generator, t1: Tensor, brain: Tensor, levels: TissueLevels, fluid_space: Tensor
) -> Tensor:
    """Age-related hypointensities and plaques: small, mild, in white matter, often both sides."""
    ratio = t1 / levels.local
    white = (ratio > 1 + (levels.white - 1) * 0.3).float() * brain * (levels.depth > 5)
    shape = tuple(t1.shape)
    out = t1.clone()
    if chance(g, 0.6) and bool(fluid_space.any()):
        near = broad_gaussian(fluid_space, 4.0, 2)
        near = near / near.max().clamp_min(1e-6)
        caps = torch.sigmoid((near * 3 + 0.6 * noise_field(g, shape, 7.0) - 1.6) * 3)
        out = out * (1 - caps * white * uniform(g, 0.06, 0.22))
    spots = choose(g, 14)
    places = torch.nonzero(white)
    for _ in range(spots if len(places) else 0):
        centre = places[choose(g, len(places))].float()
        drawn = blob(g, shape, centre, uniform(g, 0.01, 0.12), 2.2, 0.3)
        if drawn is not None:
            box, spot = drawn
            out[box] *= 1 - spot * white[box] * uniform(g, 0.08, 0.35)
    return out


def perivascular_spaces(g: Generator, t1: Tensor, brain: Tensor, levels: TissueLevels) -> Tensor:
    """Thin fluid-filled tubes in the basal ganglia and the centrum semiovale."""
    shape = tuple(t1.shape)
    places = torch.nonzero((levels.depth > 9) & brain)
    out = t1.clone()
    for _ in range(choose(g, 25) if len(places) else 0):
        centre = places[choose(g, len(places))].float()
        drawn = blob(g, shape, centre, uniform(g, 0.003, 0.012), 3.5, 0.1)
        if drawn is not None:
            box, tube = drawn
            drop = (levels.fluid * levels.local[box] - out[box]).clamp_max(0)
            out[box] += tube * uniform(g, 0.3, 0.8) * drop
    return out
