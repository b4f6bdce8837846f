"""What looks like a stroke and is none: wide ventricles, atrophy, cysts, wide sulci, spots.

They occur with and without strokes. All functions change ``image``, (160, 192, 160) float in
[0, 1], in place; ``ventricles``, bool, is what belongs to them and stays free of lesion.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .anatomy import Anatomy, voxel
from .fields import (
    broad_gaussian,
    chance,
    choose,
    erode,
    gaussian,
    noise_field,
    size_of,
    uniform,
)
from .looks import Levels
from .secondary import Displacement
from .shapes import Shape, blob

# Middles of the lateral ventricles' bodies, and of the temporal horns and trigones.
_BODIES = {-1: (20.0, -12.0, -17.0), 1: (20.0, -12.0, 17.0)}
_TRIGONES = {-1: (8.0, -44.0, -26.0), 1: (8.0, -44.0, 26.0)}


def wide_ventricles(g: Generator, to: Displacement, both: bool) -> None:
    """Both ventricles wide, or one of them."""
    amount = uniform(g, 0.1, 0.7)
    sides = (-1, 1) if both else (-1 if chance(g, 0.5) else 1,)
    for side in sides:
        swell = amount * uniform(g, 0.6, 1.0)
        to.swell(voxel(*_BODIES[side]), swell, torch.tensor([13.0, 30.0, 17.0]))
        if chance(g, 0.4):
            widths = torch.tensor([16.0, 16.0, 14.0])
            to.swell(voxel(*_TRIGONES[side]), swell * uniform(g, 0.4, 1.2), widths)


def atrophy(g: Generator, image: Tensor, anatomy: Anatomy) -> None:
    """Every fluid space a little wider, unevenly over the brain."""
    amount = uniform(g, 0.2, 1.0) * torch.sigmoid(
        noise_field(g, size_of(image), 45.0) + uniform(g, -1, 2)
    )
    image += amount * anatomy.brain * (erode(image) - image)


def wide_sulci(g: Generator, image: Tensor, anatomy: Anatomy, levels: Levels) -> None:
    """One part of the cortex with wide sulci, tissue between them unchanged."""
    shape = _at_surface(g, anatomy, uniform(g, 10, 50))
    if shape is None:
        return
    t = image[shape.box]
    wide = t
    for _ in range(1 + choose(g, 2)):
        wide = erode(wide)
    wide = t + (wide - t) * uniform(g, 0.4, 1.0)
    # Only where fluid is near: white matter below stays as it is.
    fluid = levels.fluid + 0.25 * (levels.white - levels.fluid)
    image[shape.box] += (
        shape.soft * anatomy.brain[shape.box] * (wide - t) * (wide < fluid * 2 + 0.1)
    )


def cleft(g: Generator, image: Tensor, anatomy: Anatomy, levels: Levels) -> None:
    """A curved sheet of fluid from the surface inwards: a wide fissure."""
    shape = _at_surface(g, anatomy, uniform(g, 8, 40))
    if shape is None:
        return
    size = size_of(shape.soft)
    wave = noise_field(g, size, uniform(g, 14, 26))
    # In voxels: a sheet of 2 to 5 mm needs the field's slope.
    slope = torch.stack(torch.gradient(wave)).square().sum(0).sqrt().clamp_min(1e-3)
    sheet = torch.sigmoid((uniform(g, 1.0, 2.4) - (wave / slope).abs()) * 3)
    inwards = torch.sigmoid((uniform(g, 10, 24) - anatomy.depth[shape.box]) * 0.6)
    fill = levels.fluid * uniform(g, 0.8, 1.2)
    weight = sheet * inwards * shape.soft * anatomy.brain[shape.box]
    part = image[shape.box]
    image[shape.box] = part + weight * (part.clamp_max(fill) - part)


def cyst(g: Generator, image: Tensor, anatomy: Anatomy, levels: Levels) -> None:
    """An arachnoid cyst: smooth, clear, sharp, outside of the tissue; or a mega cisterna magna."""
    r, side = uniform(g, 0, 1), -1.0 if chance(g, 0.5) else 1.0
    if r < 0.55:  # behind and below the cerebellum
        centre = voxel(uniform(g, -62, -38), uniform(g, -96, -76), uniform(g, -10, 10))
        ml, reach = math.exp(uniform(g, math.log(1.5), math.log(25))), 14.0
    elif r < 0.75:  # in front of the temporal pole
        centre = voxel(uniform(g, -34, -16), uniform(g, 8, 24), side * uniform(g, 28, 44))
        ml, reach = math.exp(uniform(g, math.log(1), math.log(12))), 14.0
    elif r < 0.88:  # beside the brain stem
        centre = voxel(uniform(g, -50, -36), uniform(g, -42, -28), side * uniform(g, 16, 26))
        ml, reach = uniform(g, 0.5, 5), 12.0
    else:  # over the convexity
        place = anatomy.places[choose(g, len(anatomy.places))].float()
        if anatomy.depth[tuple(int(v) for v in place)] > 8:
            return
        centre, ml, reach = place, uniform(g, 0.5, 5), 8.0
    shape = blob(g, centre, ml, 1.5, 0.1)
    if shape is None:
        return
    depth = anatomy.depth[shape.box]
    inside = (shape.soft * 6 - 3).sigmoid() * torch.sigmoid((reach - depth) * 1.5)
    inside = inside * anatomy.brain[shape.box]
    fill = levels.cavity * uniform(g, 0.75, 1.15)
    part = image[shape.box]
    image[shape.box] = part + inside * (fill - part)


def plexus(g: Generator, image: Tensor, ventricles: Tensor, levels: Levels) -> None:
    """Choroid plexus and its cysts in the trigones."""
    for side in (-1, 1):
        z, y, x = _TRIGONES[side]
        centre = voxel(z + uniform(g, -6, 8), y + uniform(g, -6, 10), x + uniform(g, -4, 4))
        shape = blob(g, centre, uniform(g, 0.2, 2.0), 2.0, 0.5)
        if shape is None:
            continue
        grey = levels.fluid + uniform(g, 0.05, 0.6) * (levels.white - levels.fluid)
        weight = shape.soft * ventricles[shape.box]
        image[shape.box] += weight * (grey - image[shape.box])


def leukoaraiosis(
    g: Generator, image: Tensor, ventricles: Tensor, anatomy: Anatomy, levels: Levels
) -> None:
    """White matter darker around the ventricles of both sides, with blurred borders."""
    fluid = ventricles.float()
    near = broad_gaussian(fluid, uniform(g, 4, 9), 4)
    near = (near / near.max().clamp_min(1e-6) * 2.5).clamp_max(1) * (1 - fluid)
    patchy = torch.sigmoid(noise_field(g, size_of(image), 12.0) * 2 + uniform(g, -1, 1.5))
    weight = near * patchy * (anatomy.depth > 12) * uniform(g, 0.08, 0.42)
    image -= weight * (image - levels.fluid).clamp_min(0)


def spots(
    g: Generator, image: Tensor, ventricles: Tensor, anatomy: Anatomy, levels: Levels
) -> None:
    """White-matter spots and plaques of multiple sclerosis: several, small, on both sides."""
    near = broad_gaussian(ventricles.float(), 7.0, 4)
    span = levels.white - levels.fluid
    white = (image[::2, ::2, ::2] > levels.fluid + 0.7 * span) & (anatomy.depth[::2, ::2, ::2] > 7)
    weight = white * (0.05 + near[::2, ::2, ::2])
    places = torch.nonzero(white)
    if len(places) < 100:
        return
    p = weight[white].double()
    # multinomial takes at most 2^24 places; there are some 100,000.
    for n in torch.multinomial(p / p.sum(), 4 + choose(g, 22), replacement=True, generator=g):
        ml = math.exp(uniform(g, math.log(0.01), math.log(0.35)))
        shape = blob(g, places[int(n)].float() * 2, ml, 1.8, 0.25)
        if shape is None:
            continue
        part = image[shape.box]
        dark = uniform(g, 0.1, 0.6) * shape.soft * ~ventricles[shape.box]
        image[shape.box] = part - dark * (part - levels.fluid).clamp_min(0)


def perivascular_spaces(g: Generator, image: Tensor, anatomy: Anatomy, levels: Levels) -> None:
    """Thin tubes of fluid in basal ganglia and centrum semiovale."""
    for _ in range(4 + choose(g, 30)):
        if chance(g, 0.6):
            side = -1.0 if chance(g, 0.5) else 1.0
            place = voxel(uniform(g, -10, 4), uniform(g, -8, 16), side * uniform(g, 16, 30))
        else:
            place = anatomy.places[choose(g, len(anatomy.places))].float()
            if anatomy.depth[tuple(int(v) for v in place)] < 14:
                continue
        shape = blob(g, place, uniform(g, 0.003, 0.025), 3.5, 0.1)
        if shape is not None:
            part = image[shape.box]
            drop = (part - levels.fluid).clamp_min(0)
            image[shape.box] = part - uniform(g, 0.3, 0.9) * shape.soft * drop


def _at_surface(g: Generator, anatomy: Anatomy, ml: float) -> Shape | None:
    place = anatomy.places[choose(g, len(anatomy.places))].float()
    if anatomy.depth[tuple(int(v) for v in place)] > 18:
        return None
    drawn = blob(g, place, ml, 1.8, 0.3)
    return None if drawn is None else Shape(drawn.box, gaussian(drawn.soft, 2.0))
