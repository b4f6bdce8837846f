"""What an old stroke does to the brain around it, and the plaques of multiple sclerosis.

These are drawn from a generator of their own (``apart``), so that a seed draws everything else as
it did before they existed. T1s are (K, J, I) float32 on the MNI grid.
"""

from __future__ import annotations

import torch
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

from .appearance import TissueLevels
from .shapes import blob, crop_box


def apart(g: Generator) -> Generator:
    """A generator that depends on the state of ``g`` and leaves it as it is."""
    twin = Generator(device=g.device)
    twin.set_state(g.get_state())
    seed = int(torch.randint(2**62, (), generator=twin, device=g.device).item())
    return Generator(device=g.device).manual_seed(seed)


def gliotic_halo(
    g: Generator, t1: Tensor, truth: Tensor, brain: Tensor, levels: TissueLevels
) -> Tensor:
    """White matter around a cavity darkens and comes back over 3 to 8 mm, unevenly.

    A rater leaves this fringe out, so it is no part of the truth (K, J, I) bool.
    """
    box = crop_box(truth.float(), 12)
    body = truth[box].float()
    near = (2 * gaussian(body, uniform(g, 1.5, 3.5))).clamp(0, 1) * (1 - body)
    uneven = torch.sigmoid(1.5 * noise_field(g, tuple(body.shape), 12.0))
    white = (t1[box] / levels.local[box] > 1.0).float() * brain[box]
    drop = uniform(g, 0.06, 0.22) * near * uneven * gaussian(white, 0.7)
    result = t1.clone()
    result[box] = t1[box] * (1 - drop)
    return result


def widen_sulci(
    g: Generator, t1: Tensor, truth: Tensor, brain: Tensor, levels: TissueLevels
) -> Tensor:
    """Sulci beside an old lesion are wider: fluid near it grows by a voxel, less with distance."""
    near = broad_gaussian(truth.float(), uniform(g, 9.0, 14.0))
    near = near / near.max().clamp_min(1e-6)
    middle = (levels.fluid + 1.0) / 2
    fluid = dilate(((t1 / levels.local < middle) & brain).float())
    shallow = (levels.depth < 16).float() * brain * ~truth
    amount = uniform(g, 0.5, 1.0) * near.sqrt() * fluid * shallow
    return t1 + amount * (erode(t1) - t1)


def plaques(
    g: Generator, t1: Tensor, brain: Tensor, levels: TissueLevels, fluid_space: Tensor
) -> Tensor:
    """Plaques of multiple sclerosis: ovoids of 3 to 12 mm beside the ventricles and in the deep
    white matter, on both sides, darker than white matter and hardly ever as dark as fluid."""
    ratio = t1 / levels.local
    white = (ratio > 1 + (levels.white - 1) * 0.3).float() * brain * (levels.depth > 5)
    near = broad_gaussian(fluid_space, 5.0, 2)
    near = near / near.max().clamp_min(1e-6)
    periventricular = torch.nonzero(white * (near > 0.15))
    anywhere = torch.nonzero(white)
    out = t1.clone()
    if not len(anywhere):
        return out
    for _ in range(3 + choose(g, 16)):
        close = len(periventricular) > 0 and chance(g, 0.7)
        places = periventricular if close else anywhere
        centre = places[choose(g, len(places))].float()
        volume = 0.02 * 35 ** uniform(g, 0.0, 1.0)
        drawn = blob(g, (*t1.shape,), centre, volume, 1.9, 0.2)
        if drawn is not None:
            box, spot = drawn
            out[box] *= 1 - spot * gaussian(white[box], 0.5) * uniform(g, 0.1, 0.38)
    return out
