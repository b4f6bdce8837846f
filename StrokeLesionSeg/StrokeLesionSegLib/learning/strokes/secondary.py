"""What a stroke does to the brain around it: the ventricle drawn towards it, the midline pulled
over, the tract below it darkened. None of it is part of the truth.

Displacements are found on a coarse grid and carried out once for the whole head, together with the
mimics that move tissue (wide ventricles) and the residual misalignment of the affine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...brief import brief_repr
from ...inference.head_box import HEAD_SHAPE
from .anatomy import Anatomy, voxel
from .fields import (
    chance,
    gaussian,
    identity_points,
    noise_field,
    random_affine,
    sample_at,
    uniform,
)
from .looks import Levels
from .shapes import Shape

# The displacement is smooth: one value every 4 mm.
_STEP = 4


@dataclass(eq=False)
class Displacement:
    """Where tissue goes, in voxels, on every fourth voxel: (3, 41, 49, 41), added up."""

    moved: Tensor = field(default_factory=lambda: torch.zeros(3, *_coarse_shape()))
    matrix: Tensor | None = None
    offset: Tensor | None = None

    __repr__ = brief_repr

    def push(self, centre: Tensor, by: Tensor, widths: Tensor) -> None:
        """Move what lies about ``centre`` (3,) ``by`` (3,) voxels, fading over ``widths`` (3,)."""
        away = (_coarse_points() - centre.view(3, 1, 1, 1)) / widths.view(3, 1, 1, 1)
        weight = torch.exp(-0.5 * away.square().sum(dim=0))
        self.moved += by.view(3, 1, 1, 1) * weight

    def swell(self, centre: Tensor, amount: float, widths: Tensor) -> None:
        """Blow up what lies about ``centre`` by the factor 1 + ``amount``."""
        away = _coarse_points() - centre.view(3, 1, 1, 1)
        weight = torch.exp(-0.5 * (away / widths.view(3, 1, 1, 1)).square().sum(dim=0))
        self.moved += amount * weight * away

    def misalign(self, g: Generator, degrees: float, zoom: float, shift: float) -> None:
        """A small affine on top, as an alignment leaves it."""
        self.matrix, self.offset = random_affine(g, degrees, zoom, shift)

    @property
    def nothing(self) -> bool:
        return self.matrix is None and not bool(self.moved.any())

    def carry(self, *arrays: Tensor) -> list[Tensor]:
        """The (160, 192, 160) arrays after the displacement, float32, linear."""
        moved = F.interpolate(
            self.moved[None],
            [(n - 1) * _STEP + 1 for n in self.moved.shape[1:]],
            mode="trilinear",
            align_corners=True,
        )[0]
        k, j, i = HEAD_SHAPE
        points = identity_points(HEAD_SHAPE, moved.device)
        if self.matrix is not None and self.offset is not None:
            centre = torch.tensor([80.0, 96.0, 80.0])
            shift = (centre - self.matrix @ centre + self.offset).view(3, 1, 1, 1)
            points = torch.einsum("ab,bkji->akji", self.matrix, points).add_(shift)
        points -= moved[:, :k, :j, :i]
        return list(sample_at(torch.stack([a.float() for a in arrays]), points))


def after_stroke(
    g: Generator, to: Displacement, shape: Shape, ventricles: Tensor, anatomy: Anatomy
) -> None:
    """The ventricle next to a lesion is drawn out towards it, and the midline pulled over."""
    where = torch.nonzero(shape.soft > 0.5)
    if len(where) < 500:
        return
    body = where.float() + torch.tensor([s.start for s in shape.box], dtype=torch.float32)
    centre = body.mean(dim=0)
    ml = shape.ml
    places = torch.nonzero(ventricles[::3, ::3, ::3]).float() * 3
    left = centre[2] < 80
    places = places[(places[:, 2] < 80) if left else (places[:, 2] >= 80)]
    if len(places) and chance(g, 0.75):
        # The wall of the ventricle that is nearest to some voxel of the lesion.
        sample = body[torch.randint(len(body), (64,), generator=g)]
        gaps = torch.cdist(sample, places)
        nearest = int(gaps.min(dim=1).values.argmin())
        wall = places[int(gaps[nearest].argmin())]
        target = sample[nearest] if chance(g, 0.5) else centre
        way = target - wall
        length = float(way.norm().clamp_min(1))
        if length < 55:
            reach = min(uniform(g, 1.5, 5.0) + 0.09 * ml * uniform(g, 0, 1), 0.45 * length + 6, 15)
            width = uniform(g, 9, 22)
            to.push(
                wall,
                way / length * reach,
                torch.tensor([width, width * uniform(g, 0.8, 1.6), width]),
            )
            if chance(g, 0.6):
                to.swell(wall, uniform(g, 0.05, 0.45), torch.tensor([14.0, 24.0, 11.0]))
    if ml > 40 and chance(g, 0.5):
        side = -1.0 if left else 1.0
        over = torch.tensor([0.0, 0.0, side * uniform(g, 1, 5)])
        middle = torch.tensor([float(centre[0]), float(centre[1]), 80.0])
        to.push(middle, over, torch.tensor([35.0, 40.0, 22.0]))


def open_into(
    g: Generator, image: Tensor, ventricles: Tensor, shape: Shape, anatomy: Anatomy, levels: Levels
) -> None:
    """Let the ventricle take what lies between it and the lesion, in place: it grew wide.

    What it takes is fluid, and no lesion.
    """
    k, j, i = (
        slice(max(0, s.start - 6), min(n, s.stop + 6))
        for s, n in zip(shape.box, HEAD_SHAPE, strict=True)
    )
    box = (k, j, i)
    ventricle = ventricles[box]
    if ventricle.sum() < 300:
        return
    size = (k.stop - k.start, j.stop - j.start, i.stop - i.start)
    width = uniform(g, 1.0, 5.0)
    near = gaussian(ventricle.float(), width)
    ragged = 0.15 * noise_field(g, size, uniform(g, 6, 14))
    body = torch.zeros(size)
    inner = tuple(
        slice(s.start - b.start, s.stop - b.start) for s, b in zip(shape.box, box, strict=True)
    )
    body[inner] = shape.soft
    towards = gaussian(body, 3.0) > 0.05
    new = (near + ragged * (near > 0.02) > uniform(g, 0.12, 0.45)) & towards & ~ventricle
    new &= anatomy.lateral[box]
    soft = gaussian(new.float(), 0.6).maximum(new.float() * 0.8)
    fill = levels.cavity * uniform(g, 0.75, 1.15)
    image[box] += soft * (image[box].clamp_max(fill) - image[box])
    ventricles[box] |= new


def darken_tract(g: Generator, image: Tensor, left: bool, levels: Levels) -> None:
    """Wallerian degeneration: the corticospinal tract of a side a little darker, in place."""
    side = -1.0 if left else 1.0
    points = torch.stack([
        voxel(24, -22, side * 26), voxel(8, -12, side * 23), voxel(-8, -16, side * 15),
        voxel(-18, -20, side * 11), voxel(-34, -24, side * 6), voxel(-48, -32, side * 4),
    ])  # fmt: skip
    amount, width = uniform(g, 0.05, 0.3), uniform(g, 2.0, 4.0)
    low, high = (points.amin(0) - 12).int().tolist(), (points.amax(0) + 12).int().tolist()
    k, j, i = (slice(max(0, a), b) for a, b in zip(low, high, strict=True))
    grid = torch.stack(
        torch.meshgrid(
            *(torch.arange(s.start, s.stop, dtype=torch.float32) for s in (k, j, i)), indexing="ij"
        )
    )
    weight = torch.zeros(grid.shape[1:])
    for a, b in pairwise(points):
        along = (b - a).view(3, 1, 1, 1)
        away = grid - a.view(3, 1, 1, 1)
        t = ((away * along).sum(0) / along.square().sum()).clamp(0, 1)
        gap = (away - t * along).square().sum(0)
        weight = torch.maximum(weight, torch.exp(-0.5 * gap / width**2))
    part = image[k, j, i]
    image[k, j, i] = part - amount * weight * (part - levels.fluid).clamp_min(0)


def _coarse_shape() -> tuple[int, int, int]:
    k, j, i = (n // _STEP + 1 for n in HEAD_SHAPE)
    return k, j, i


def _coarse_points() -> Tensor:
    axes = [torch.arange(n, dtype=torch.float32) * _STEP for n in _coarse_shape()]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
