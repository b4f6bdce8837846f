"""Shapes of lesions: real masks moved, mirrored, scaled and bent; and free ones.

Volumes follow the law of ATLAS R3.0 (quantiles .14 / 4.3 / 136 mL at 5, 50 and 95 percent), with a
share of large ones on top: large chronic strokes are what an outline is hardest for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from ...boxes import Box, extents, join, within
from ...brief import brief_repr
from ...inference.head_box import HEAD_SHAPE
from .anatomy import Anatomy
from .fields import (
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

MEDIAN_ML, LOW_ML, HIGH_ML = 4.3, 0.14, 136.0
_Z95 = 1.6449


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape on the head box: soft values in [0, 1] of ``box``, 1 inside."""

    box: Box
    soft: Tensor

    __repr__ = brief_repr

    @property
    def ml(self) -> float:
        """Its volume in mL."""
        return float((self.soft > 0.5).sum()) / 1000


@dataclass(frozen=True, eq=False)
class MaskBank:
    """Real lesion masks on the head box, as packed bits of their bounding boxes.

    ``starts``, ``shapes``: (N, 3) int16. ``offsets``: (N + 1,) int64 into ``bits``, uint8.
    """

    starts: NDArray[np.int16]
    shapes: NDArray[np.int16]
    offsets: NDArray[np.int64]
    bits: NDArray[np.uint8]

    __repr__ = brief_repr

    def __len__(self) -> int:
        return len(self.starts)

    @staticmethod
    def of(masks: list[NDArray[np.bool_]]) -> MaskBank:
        """From masks on the head box; those of fewer than 30 voxels are left out."""
        starts, shapes, bits = [], [], []
        for mask in masks:
            if np.count_nonzero(mask) < 30:
                continue
            where = np.nonzero(mask)
            low = [int(w.min()) for w in where]
            high = [int(w.max()) + 1 for w in where]
            part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            starts.append(low)
            shapes.append(part.shape)
            bits.append(np.packbits(part))
        offsets = np.cumsum([0, *(len(b) for b in bits)])
        return MaskBank(
            np.array(starts, np.int16).reshape(-1, 3),
            np.array(shapes, np.int16).reshape(-1, 3),
            offsets.astype(np.int64),
            np.concatenate(bits) if bits else np.zeros(0, np.uint8),
        )

    def mask(self, n: int) -> tuple[NDArray[np.int16], Tensor]:
        """The first voxel of mask ``n``'s bounding box, and the float mask of that box."""
        shape = tuple(int(v) for v in self.shapes[n])
        packed = self.bits[self.offsets[n] : self.offsets[n + 1]]
        part = np.unpackbits(packed, count=math.prod(shape)).reshape(shape)
        return self.starts[n], torch.from_numpy(part).float()


def draw_volume_ml(g: Generator, low: float = 0.1, high: float = 220.0) -> float:
    """A lesion's volume in mL."""
    if chance(g, 0.3):
        return math.exp(uniform(g, math.log(15), math.log(high)))
    return volume_by_the_law(g, low, high)


def volume_by_the_law(g: Generator, low: float, high: float) -> float:
    """A volume in mL from the law of ATLAS R3.0 alone, kept within [low, high]: a log-normal with
    two halves."""
    while True:
        z = torch.randn((), generator=g, device=g.device).item()
        tail = HIGH_ML / MEDIAN_ML if z > 0 else MEDIAN_ML / LOW_ML
        volume = MEDIAN_ML * math.exp(z / _Z95 * math.log(tail))
        if low <= volume <= high:
            return volume


def draw_shape(g: Generator, anatomy: Anatomy, bank: MaskBank, volume_ml: float) -> Shape | None:
    """A lesion of about ``volume_ml`` that lies in the brain for the most part; None if not."""
    r = uniform(g, 0, 1)
    if len(bank) and (r < 0.62 or volume_ml > 60):
        shape = _of_bank(g, bank, volume_ml)
        if shape is not None and chance(g, 0.12) and volume_ml > 3:
            shape = union(shape, _beside(g, anatomy, shape, volume_ml * uniform(g, 0.1, 0.6)))
    elif r < 0.80 or volume_ml > 40:
        shape = blob(g, _place(g, anatomy), volume_ml, 2.2, uniform(g, 0.1, 0.7))
    elif r < 0.90:
        shape = wedge(g, anatomy, volume_ml)
    elif r < 0.95:
        shape = string_of_beads(g, _place(g, anatomy), volume_ml)
    else:
        shape = blob(g, _deep_place(g, anatomy), min(volume_ml, uniform(g, 0.1, 3)), 1.8, 0.3)
    if shape is None:
        return None
    soft = shape.soft * anatomy.brain[shape.box]
    if (soft > 0.5).sum() < 0.4 * (shape.soft > 0.5).sum():
        return None
    return Shape(shape.box, soft)


def ball_radius(volume_ml: float) -> float:
    """The radius in mm of a ball of that volume."""
    return (3000.0 * volume_ml / (4 * math.pi)) ** (1 / 3)


def drawn_radii(g: Generator, volume_ml: float, elongation: float) -> tuple[float, Tensor]:
    """The radius of a ball of that volume, and the half-axes (3,) of an ellipsoid in its place,
    each up to ``elongation`` times longer or shorter."""
    ratios = torch.tensor([math.exp(uniform(g, -1, 1) * math.log(elongation)) for _ in range(3)])
    ratios = ratios / ratios.prod() ** (1 / 3)
    radius = ball_radius(volume_ml)
    return radius, (ratios * radius).clamp_min(0.8)


def beads(g: Generator, centre: Tensor, volume_ml: float) -> Iterator[tuple[Tensor, float]]:
    """Place (3,) and volume of each of a string of small infarcts, front to back."""
    count, step = 3 + choose(g, 4), uniform(g, 6, 11)
    place = centre.clone().float()
    place[1] -= step * count / 2
    for _ in range(count):
        wobble = torch.tensor([uniform(g, -3, 3), uniform(g, -2, 2), uniform(g, -3, 3)])
        yield place + wobble, volume_ml / count * uniform(g, 0.4, 1.8)
        place[1] += step


def blob(
    g: Generator, centre: Tensor, volume_ml: float, elongation: float, roughness: float
) -> Shape | None:
    """A rough ellipsoid about ``centre`` (3,) in voxels k, j, i; None off the box."""
    radius, radii = drawn_radii(g, volume_ml, elongation)
    box = _box_about(centre, float(radii.max()) * 1.5 + 3)
    if box is None:
        return None
    inner = extents(box)
    matrix, _ = random_affine(g, 180.0, 0.0, 0.0)
    start = torch.tensor([s.start for s in box], dtype=torch.float32)
    away = identity_points(inner, torch.device("cpu")) + (start - centre.float()).view(3, 1, 1, 1)
    local = torch.einsum("ab,bkji->akji", matrix, away)
    distance = (local / radii.view(3, 1, 1, 1)).square().sum(dim=0).sqrt()
    coarse, fine = noise_field(g, inner, max(2.0, radius * 0.9)), noise_field(g, inner, 3.0)
    distance = distance + roughness * (0.5 * coarse + 0.12 * fine)
    return Shape(box, torch.sigmoid((1.0 - distance) * max(radius, 1.5) * 2.0))


def wedge(g: Generator, anatomy: Anatomy, volume_ml: float) -> Shape | None:
    """Broad at the surface, narrowing inwards: a cortical infarct; flat ones follow the cortex."""
    shell = torch.nonzero((anatomy.depth[::2, ::2, ::2] > 1) & (anatomy.depth[::2, ::2, ::2] < 5))
    centre = shell[choose(g, len(shell))].float() * 2
    drawn = blob(g, centre, volume_ml * 2.2, 1.5, 0.5)
    if drawn is None:
        return None
    reach = ball_radius(volume_ml) * uniform(g, 0.6, 1.6)
    inwards = anatomy.depth[drawn.box] * drawn.soft.clamp_min(0.3)
    return Shape(drawn.box, drawn.soft * torch.sigmoid((reach - inwards) * 0.8))


def string_of_beads(g: Generator, centre: Tensor, volume_ml: float) -> Shape | None:
    """Small infarcts front to back, as between two arterial territories."""
    out: Shape | None = None
    for place, size in beads(g, centre, volume_ml):
        out = union(out, blob(g, place, size, 1.8, 0.3))
    return out


def union(a: Shape | None, b: Shape | None) -> Shape | None:
    """Both together; None is nothing."""
    if a is None or b is None:
        return a or b
    box = join(a.box, b.box) or a.box
    soft = torch.zeros(extents(box))
    for shape in (a, b):
        view = soft[within(shape.box, box)]
        torch.maximum(view, shape.soft, out=view)
    return Shape(box, soft)


def _of_bank(g: Generator, bank: MaskBank, volume_ml: float) -> Shape | None:
    """A real mask, in the size that is wanted as far as its outline bears it."""
    # Of a few masks the one that needs the least scaling.
    tried = [choose(g, len(bank)) for _ in range(4)]
    sizes = [float(np.prod(bank.shapes[n].astype(float))) * 0.35 / 1000 for n in tried]
    n = min(zip(sizes, tried, strict=True), key=lambda s: abs(math.log(s[0] / volume_ml)))[1]
    start, mask = bank.mask(n)
    scale = (volume_ml / max(float(mask.sum()) / 1000, 1e-3)) ** (1 / 3)
    scale = min(max(scale, 0.25), 1.35)
    where = torch.nonzero(mask).float()
    middle = where.mean(dim=0)
    centre = middle + torch.from_numpy(start.astype(np.float32))
    flip = chance(g, 0.5)
    if flip:
        centre[2] = 160 - centre[2]
    centre = centre + torch.tensor([uniform(g, -8, 8) for _ in range(3)])
    matrix, _ = random_affine(g, 20.0, 0.18, 0.0)
    matrix = matrix / scale
    if flip:
        matrix = torch.diag(torch.tensor([1.0, 1.0, -1.0])) @ matrix
    extent = (where - middle).abs().amax(dim=0)
    reach = (extent * scale * 1.5 + 5).tolist()
    box = _clip([float(c) - r for c, r in zip(centre, reach, strict=True)],
                [float(c) + r for c, r in zip(centre, reach, strict=True)])  # fmt: skip
    if box is None:
        return None
    inner = extents(box)
    offset = torch.tensor([s.start for s in box], dtype=torch.float32)
    away = identity_points(inner, torch.device("cpu")) + (offset - centre).view(3, 1, 1, 1)
    points = torch.einsum("ab,bkji->akji", matrix, away) + middle.view(3, 1, 1, 1)
    bend = random_displacement(g, inner, uniform(g, 0.3, 2.2) / max(scale, 0.5), 10.0)
    padded = F.pad(mask, [3] * 6)
    soft = sample_at(gaussian(padded, 0.6), points + bend + 3)
    rough = uniform(g, 0, 0.3) * noise_field(g, inner, uniform(g, 3, 10)) * (soft > 0.02)
    return Shape(box, (soft + rough).clamp(0, 1))


def _beside(g: Generator, anatomy: Anatomy, shape: Shape, volume_ml: float) -> Shape | None:
    where = torch.nonzero(shape.soft > 0.5)
    if not len(where):
        return None
    centre = where[choose(g, len(where))].float()
    centre = centre + torch.tensor([s.start for s in shape.box], dtype=torch.float32)
    return blob(g, centre, volume_ml, 2.0, 0.5)


def _place(g: Generator, anatomy: Anatomy) -> Tensor:
    return anatomy.places[choose(g, len(anatomy.places))].float()


def _deep_place(g: Generator, anatomy: Anatomy) -> Tensor:
    """In basal ganglia, thalamus, inner capsule or pons."""
    for _ in range(50):
        x, y, z = uniform(g, 8, 34), uniform(g, -32, 22), uniform(g, -32, 26)
        x *= -1 if chance(g, 0.5) else 1
        place = torch.tensor([z + 70, y + 116, x + 80])
        if anatomy.depth[tuple(int(v) for v in place)] > 12:
            return place
    return _place(g, anatomy)


def _clip(low: list[float], high: list[float]) -> Box | None:
    """The box within the head box; None if less than 4 voxels of an axis are left."""
    a = [max(0, math.floor(v)) for v in low]
    b = [min(n, math.ceil(v) + 1) for v, n in zip(high, HEAD_SHAPE, strict=True)]
    k, j, i = (slice(p, q) for p, q in zip(a, b, strict=True))
    return None if min(q - p for p, q in zip(a, b, strict=True)) < 4 else (k, j, i)


def _box_about(centre: Tensor, reach: float) -> Box | None:
    return _clip([float(c) - reach for c in centre], [float(c) + reach for c in centre])
