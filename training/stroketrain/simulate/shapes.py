"""Lesion shapes: real masks (mirrored, warped, resized to a volume law) and procedural ones.

Volumes follow the law of ATLAS R3.0; it, the radii of blobs and strings of beads are drawn as in
``StrokeLesionSegLib.learning.strokes.shapes``.
"""

from __future__ import annotations

import torch
from StrokeLesionSegLib.boxes import Box
from StrokeLesionSegLib.learning.strokes.fields import (
    chance,
    choose,
    gaussian,
    identity_points,
    noise_field,
    random_affine,
    random_displacement,
    sample_at,
    uniform,
)
from StrokeLesionSegLib.learning.strokes.shapes import (
    ball_radius,
    beads,
    drawn_radii,
    volume_by_the_law,
)
from torch import Generator, Tensor


def draw_volume_ml(g: Generator, low: float = 0.1, high: float = 200.0) -> float:
    """A lesion volume in mL from the ATLAS law, kept within [low, high]."""
    return volume_by_the_law(g, low, high)


def warp_real_mask(g: Generator, mask: Tensor, volume_ml: float) -> Tensor:
    """A real mask on the MNI grid, mirrored half of the time, warped, resized about its centroid.

    ``mask`` (K, J, I) bool; returns a soft (K, J, I) float mask in [0, 1] of about ``volume_ml``.
    Masks are only resized down to a quarter of their length scale and up to 1.3 of it: below and
    above that the outline no longer looks like a lesion.
    """
    if chance(g, 0.5):
        mask = mask.flip(2)
    soft = mask.float()
    current = soft.sum().item() / 1000.0
    scale = (volume_ml / max(current, 1e-3)) ** (1 / 3)
    scale = min(max(scale, 0.25), 1.3)
    where = torch.nonzero(mask)
    centre = where.float().mean(dim=0)
    matrix, _ = random_affine(g, 20.0, 0.15, 0.0)
    matrix = matrix / scale
    shape = tuple(mask.shape)
    # Only the part of the grid that can hold the result is computed.
    reach = (where.float() - centre).abs().amax(dim=0) * scale * 1.45 + 6
    low = (centre - reach).floor().clamp_min(0).int().tolist()
    high = [min(n, int(c + r) + 1) for n, c, r in zip(shape, centre, reach, strict=True)]
    inner = tuple(h - a for a, h in zip(low, high, strict=True))
    start = torch.tensor(low, dtype=torch.float32, device=mask.device)
    away = identity_points(inner, mask.device) + (start - centre).view(3, 1, 1, 1)
    moved = torch.einsum("ab,bkji->akji", matrix, away)
    moved = moved + centre.view(3, 1, 1, 1)
    wobble = random_displacement(g, inner, uniform(g, 0.3, 1.6) / max(scale, 0.5), 9.0)
    box = crop_box(soft, 6)
    origin = torch.tensor([b.start for b in box], dtype=torch.float32, device=mask.device)
    points = moved + wobble - origin.view(3, 1, 1, 1)
    part = sample_at(gaussian(soft[box], 0.6), points)
    out = torch.zeros(shape, device=mask.device)
    out[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = part
    return out


def blob(
    g: Generator,
    shape: tuple[int, ...],
    centre: Tensor,
    volume_ml: float,
    elongation: float = 2.0,
    roughness: float = 0.35,
) -> tuple[Box, Tensor] | None:
    """A rough ellipsoid, soft-edged: lacunes, wedges, beads of border-zone strings, spots.

    ``centre`` (3,) in voxels (k, j, i). Returns the box it fills and its values in [0, 1] there, or
    None if it lies off the grid.
    """
    radius, radii = drawn_radii(g, volume_ml, elongation)
    radii = radii.to(g.device)
    reach = int(radii.max().item() * 1.4) + 3
    low = [max(0, int(c) - reach) for c in centre]
    high = [min(n, int(c) + reach + 1) for n, c in zip(shape, centre, strict=True)]
    if any(h - a < 3 for a, h in zip(low, high, strict=True)):
        return None
    inner = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
    matrix, _ = random_affine(g, 180.0, 0.0, 0.0)
    start = torch.tensor(low, dtype=torch.float32, device=g.device)
    points = identity_points(inner, g.device) + start.view(3, 1, 1, 1)
    local = torch.einsum("ab,bkji->akji", matrix, points - centre.to(g.device).view(3, 1, 1, 1))
    distance = ((local / radii.view(3, 1, 1, 1)) ** 2).sum(dim=0).sqrt()
    distance = distance + roughness * noise_field(g, inner, max(2.0, radius * 0.8)) * 0.5
    part = torch.sigmoid((1.0 - distance) * max(radius, 1.5) * 1.6)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return box, part * (part > 0.02)


def ellipsoid(
    g: Generator,
    shape: tuple[int, ...],
    centre: Tensor,
    volume_ml: float,
    elongation: float = 2.0,
    roughness: float = 0.35,
) -> Tensor:
    """A ``blob`` on the whole grid, (K, J, I) in [0, 1]."""
    out = torch.zeros(shape, device=g.device)
    drawn = blob(g, shape, centre, volume_ml, elongation, roughness)
    if drawn is not None:
        box, part = drawn
        out[box] = part
    return out


def border_zone(g: Generator, shape: tuple[int, ...], centre: Tensor, volume_ml: float) -> Tensor:
    """A string of small infarcts front to back, as between two arterial territories."""
    out = torch.zeros(shape, device=g.device)
    for place, size in beads(g, centre, volume_ml):
        bead = blob(g, shape, place, size)
        if bead is not None:
            box, part = bead
            out[box] = torch.maximum(out[box], part)
    return out


def wedge(g: Generator, brain: Tensor, depth: Tensor, volume_ml: float) -> Tensor:
    """A cortical wedge: broad at the surface, narrowing inwards.

    ``brain`` (K, J, I) bool; ``depth`` (K, J, I) a rough distance to the surface in voxels.
    """
    shell = torch.nonzero((depth > 1) & (depth < 5))
    reach = ball_radius(volume_ml) * 1.25
    centre = shell[choose(g, len(shell))].float()
    out = torch.zeros(brain.shape, device=g.device)
    drawn = blob(g, (*brain.shape,), centre, volume_ml * 1.9, 1.5, 0.5)
    if drawn is not None:
        box, part = drawn
        inwards = depth[box] * part.clamp_min(0.3)
        out[box] = part * torch.sigmoid((reach * uniform(g, 0.7, 1.3) - inwards) * 0.8)
    return out


def crop_box(mask: Tensor, margin: int = 12) -> Box:
    """Box of the voxels above one half, with a margin, clipped to the grid."""
    box = []
    for axis in range(3):
        other = [n for n in range(3) if n != axis]
        hit = torch.nonzero(mask.amax(dim=other) > 0.5).flatten()
        low, high = int(hit.min()), int(hit.max())
        box.append(slice(max(0, low - margin), min(mask.shape[axis], high + margin + 1)))
    return box[0], box[1], box[2]
