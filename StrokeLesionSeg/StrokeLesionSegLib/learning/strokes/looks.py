"""What a chronic stroke looks like on a T1, drawn into a head.

Cavities of fluid that open into sulci, ventricles and the subarachnoid space; shrunken gyri and
strands between them; gliosis with soft rims; faint darkening; loss of the cortical layer; lacunes.
The truth is what a rater outlines: everything that the stroke has changed, down to the middle of
its fading rim, without the ventricle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...inference.head_box import HEAD_SHAPE
from .anatomy import Anatomy, Box
from .fields import (
    chance,
    erode,
    gaussian,
    noise_field,
    size_of,
    uniform,
)
from .shapes import Shape

KINDS = ("cavity", "mixed", "faint", "laminar", "lacune")


@dataclass(frozen=True)
class Levels:
    """Grey values in the head, in [0, 1]: ``fluid`` of the darkest fluid, ``white`` of white
    matter, ``cavity`` of fluid in a wide space, as in the ventricles."""

    fluid: float
    white: float
    cavity: float

    @staticmethod
    def of(image: Tensor, ventricles: Tensor, anatomy: Anatomy) -> Levels:
        """Of a (160, 192, 160) image and its ventricles."""
        fluid, white = anatomy.levels(image)
        inside = image[ventricles]
        # The middle of the darker half: the other half is wall and plexus.
        wide = float(torch.quantile(inside[::3], 0.25)) if len(inside) > 900 else 1.2 * fluid
        return Levels(fluid, white, min(max(wide, fluid), fluid + 0.3 * (white - fluid)))


def draw_kind(g: Generator, volume_ml: float) -> str:
    """How a lesion of this size looks."""
    r = uniform(g, 0, 1)
    if volume_ml < 1.5 and r < 0.4:
        return "lacune"
    # A large one that is old is fluid for the most part.
    if r < (0.5 if volume_ml > 20 else 0.36):
        return "cavity"
    if r < (0.85 if volume_ml > 20 else 0.70):
        return "mixed"
    return "faint" if r < 0.94 else "laminar"


@dataclass(frozen=True, eq=False)
class PlannedLesion:
    """Where a lesion will be, and how it will look, of ``KINDS``."""

    shape: Shape
    kind: str


def draw_lesion(
    g: Generator,
    image: Tensor,
    truth: Tensor,
    ventricles: Tensor,
    lesion: PlannedLesion,
    anatomy: Anatomy,
    levels: Levels,
) -> float:
    """Draw one lesion into ``image`` and ``truth``, (160, 192, 160) float and bool, in place.

    ``ventricles`` keep their look and are no lesion. Returns the lesion's volume in mL, 0 if
    nothing of it lies in the brain's tissue, and nothing was drawn.
    """
    shape, kind = lesion.shape, lesion.kind
    box = _grow(shape.box, 9)
    t, brain, ventricle = image[box].clone(), anatomy.brain[box], ventricles[box]
    body = torch.zeros(t.shape)
    body[_within(shape.box, box)] = shape.soft
    body = (body * brain > 0.5).float()
    if kind == "laminar":
        body = body * _cortex(t, anatomy.depth[box], levels)
    if (body * ~ventricle).sum() < 12:
        return 0.0
    if kind == "faint":
        changed, profile = _faint(g, t, body, levels)
    elif kind == "laminar":
        changed, profile = _laminar(g, t, body, levels)
    elif kind == "lacune":
        changed, profile = _lacune(g, t, body, levels)
    else:
        changed, profile = _destroyed(g, t, body, levels, kind)
    mine = (profile > uniform(g, 0.35, 0.52)) & brain & ~ventricle
    if mine.sum() < 12:
        return 0.0
    changed = _outside(g, changed, body, brain, levels)
    image[box] = torch.where(ventricle, t, changed.clamp_min(0))
    truth[box] |= mine
    return float(mine.sum()) / 1000


def _faint(g: Generator, t: Tensor, body: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """Tissue that stays, thinner and darker."""
    size = size_of(t)
    profile = gaussian(body, uniform(g, 0.8, 2.6))
    thin = _shrunken(g, t, uniform(g, 0, 1.6))
    thin = thin + (gaussian(thin, 1.5) - thin) * uniform(g, 0, 0.7)
    # Less contrast than this nobody could outline.
    keep = uniform(g, 0.4, 0.82) * (1 + 0.15 * noise_field(g, size, uniform(g, 3, 9)))
    dark = levels.fluid + (thin - levels.fluid).clamp_min(0) * keep.clamp(0.2, 1)
    return t + profile * (torch.minimum(dark, t) - t), profile


def _laminar(g: Generator, t: Tensor, body: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """A cortical ribbon that is dark or gone; the white matter below stays."""
    profile = gaussian(body, uniform(g, 0.5, 1.0))
    profile = profile / profile.max().clamp_min(1e-3)
    dark = levels.fluid + (t - levels.fluid).clamp_min(0) * uniform(g, 0.05, 0.5)
    return t + profile * (dark - t), profile


def _lacune(g: Generator, t: Tensor, body: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """A small cavity, sharp, with a rim that is a little darker or brighter than its tissue."""
    profile = gaussian(body, uniform(g, 0.4, 0.9))
    fluid = levels.cavity * uniform(g, 0.8, 1.7)
    rim = gaussian(body, 2.0) * (1 - profile) * uniform(g, -0.05, 0.25)
    out = t - rim * (t - levels.fluid).clamp_min(0)
    depth = uniform(g, 0.6, 1.0)
    return out + depth * profile * (torch.clamp_max(out, fluid) - out), profile


def _destroyed(
    g: Generator, t: Tensor, body: Tensor, levels: Levels, kind: str
) -> tuple[Tensor, Tensor]:
    """Shrunken gyri, gliosis, and cavities that join sulci and ventricles."""
    size, span = size_of(t), levels.white - levels.fluid
    profile = gaussian(body, uniform(g, 0.4, 2.2) if chance(g, 0.7) else uniform(g, 0.2, 0.6))
    inner = gaussian(body, uniform(g, 2.0, 4.0))
    thin = _shrunken(g, t, uniform(g, 0.2, 3.4))
    if chance(g, 0.6):
        thin = thin + (gaussian(thin, 0.8) - thin) * uniform(g, 0, 0.9)
    glial = levels.fluid + (thin - levels.fluid).clamp_min(0) * uniform(g, 0.3, 0.85)
    flat = levels.fluid + span * uniform(g, 0.15, 0.6)
    flat = flat * (1 + 0.12 * noise_field(g, size, uniform(g, 2, 6)))
    # Gliosis evens out; how much changes from place to place.
    even = torch.sigmoid(noise_field(g, size, uniform(g, 8, 20)) * 1.5 + uniform(g, -2.5, 1.5))
    glial = glial + even * (torch.minimum(flat, t + 0.1 * levels.white) - glial)
    lean = uniform(g, 0.3, 4.0) if kind == "cavity" else uniform(g, -2.2, 1.0)
    wanted = noise_field(g, size, uniform(g, 3, 16)) * uniform(g, 0.7, 1.6) + lean
    wanted = wanted + (inner - 0.7) * uniform(g, 0, 6)
    cavity = torch.sigmoid(wanted * uniform(g, 2, 12))
    # From the darkest fluid of the head to a little brighter than that of the ventricles.
    fluid = levels.fluid + (levels.cavity - levels.fluid) * uniform(g, 0, 1)
    fluid = fluid * uniform(g, 0.6, 1.4)
    fluid = fluid + 0.03 * levels.white * noise_field(g, size, uniform(g, 2, 6)) * uniform(g, 0, 1)
    if chance(g, 0.5):
        fluid = fluid + _strands(g, size) * span * uniform(g, 0.15, 0.8)
    out = glial + cavity * (fluid - glial)
    if chance(g, 0.35):
        # Whitened folds of what is left of the gyri stand out in the fluid.
        folds = torch.sigmoid((_shrunken(g, t, 1.6) - levels.fluid - 0.55 * span) * 14 / span)
        folds = folds * (inner < uniform(g, 0.8, 1.01)) * uniform(g, 0.2, 0.9)
        out = out + folds * (t * uniform(g, 0.75, 1.0) - out).clamp_min(0)
    out = torch.minimum(out, torch.clamp_min(t, levels.cavity * 1.4))
    return t + profile * (out - t), profile


def _outside(g: Generator, t: Tensor, body: Tensor, brain: Tensor, levels: Levels) -> Tensor:
    """Around it, and not part of the truth: a trace of gliosis, wide sulci."""
    if chance(g, 0.35):
        halo = gaussian(body, uniform(g, 2.0, 4.5)) * (1 - body) * brain
        t = t - halo * uniform(g, 0.03, 0.22) * (t - levels.fluid).clamp_min(0)
    if chance(g, 0.4):
        ring = (gaussian(body, 5.0) > 0.03).float() * (1 - body) * brain
        t = t + ring * uniform(g, 0.3, 1.0) * (erode(t) - t)
    return t


def _shrunken(g: Generator, t: Tensor, amount: float) -> Tensor:
    """Bright structures thinner by ``amount`` voxels on each side, unevenly."""
    steps = [t]
    for _ in range(1 + int(amount + 0.8)):
        steps.append(erode(steps[-1]))
    field = amount * (1 + 0.35 * noise_field(g, size_of(t), 12.0)).clamp(0, len(steps) - 1.001)
    field = field.clamp(0, len(steps) - 1.001)
    low = field.long()
    stack = torch.stack(steps)
    below = stack.gather(0, low[None])[0]
    above = stack.gather(0, (low + 1)[None])[0]
    return torch.lerp(below, above, field - low)


def _strands(g: Generator, size: tuple[int, int, int]) -> Tensor:
    """Thin sheets, in [0, 1], that cross a cavity."""
    wave = noise_field(g, size, uniform(g, 5, 12)) + 0.2 * noise_field(g, size, 3.0)
    sheets = torch.exp(-((wave / uniform(g, 0.08, 0.22)) ** 2))
    return sheets * torch.sigmoid(noise_field(g, size, 10.0) * 3 + uniform(g, -2, 2))


def _cortex(t: Tensor, depth: Tensor, levels: Levels) -> Tensor:
    """Roughly the cortex: grey, near a fluid space, not deep."""
    span = levels.white - levels.fluid
    grey = (t > levels.fluid + 0.3 * span) & (t < levels.fluid + 0.85 * span)
    fluid = (t < levels.fluid + 0.4 * span) | (depth < 1)
    near = gaussian(fluid.float(), 1.5) > 0.12
    return (grey & near & (depth < 30)).float()


def _grow(box: Box, margin: int) -> Box:
    k, j, i = (
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(box, HEAD_SHAPE, strict=True)
    )
    return k, j, i


def _within(inner: Box, outer: Box) -> Box:
    k, j, i = (
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True)
    )
    return k, j, i
