"""Lesions of random look painted into 2D slices while training, on whatever device they are.

A cache holds a few hundred scans, each with its lesions in their places and of the simulator's
looks, and a network that sees a slice hundreds of times learns those by heart. Painting puts other
shapes elsewhere, from hardly darker than the tissue around to black, with edges from sharp to
vanishing, with and without a rim, and widens sulci and ventricles where nothing is to be marked. It
is the idea of CarveMix (Zhang et al., MICCAI 2021) without its second scan: shapes are carried from
slice to slice, looks are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from StrokeLesionSegLib.images import mni_brain_mask
from torch import Generator, Tensor

from ..data.augment import draw
from ..data.resident import cut_patches

# Tissue is compared with the mean of 36 x 36 pixels around it, on an image shrunk by 4.
_SHRINK, _LOCAL = 4, 9
_SOFTEST = 8  # 3 x 3 means that an edge is blurred with at most


@lru_cache(maxsize=4)
def _template_brain(device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(mni_brain_mask().array != 0)).to(device)


def brain_patches(
    axis: int, places: Tensor, size: tuple[int, ...], offsets: Sequence[int] = ()
) -> Tensor:
    """The template's brain in patches of slices along ``axis``, (B, 1 + n, *size) float 0/1.

    ``places`` (B, 4): scan, slice, first row, first column, as ``SliceStream`` gives them. The n
    further planes lie at ``offsets`` beside the slices.
    """
    brain = _template_brain(str(places.device))[None]
    first = torch.tensor([0, 1, 1, 1], device=places.device)  # of one scan alone
    planes = [cut_patches(brain, axis, places * first, size, n) for n in (0, *offsets)]
    return torch.cat(planes, dim=1).float()


def _numbers(g: Generator, like: Tensor, low: float, high: float) -> Tensor:
    """One number for each image, (B, 1, 1, 1)."""
    return draw(g, len(like), low, high, like.device).view(-1, 1, 1, 1)


def _chosen(g: Generator, like: Tensor, share: float) -> Tensor:
    return _numbers(g, like, 0.0, 1.0) < share


def _field(g: Generator, like: Tensor, cells: int) -> Tensor:
    """Smooth noise of zero mean and about unit variance, ``cells`` knots along each side."""
    knots = torch.randn(len(like), 1, cells, cells, generator=g, device=g.device).to(like.device)
    return F.interpolate(knots, like.shape[-2:], mode="bicubic", align_corners=True)


def _blurred(x: Tensor, times: Tensor, most: int) -> Tensor:
    """3 x 3 means, ``times`` (B, 1, 1, 1) of them, up to ``most``; eight are a Gaussian of 2.3
    pixels. (The largest of ``times`` is not asked for on a GPU, which would be waited for.)"""
    if x.device.type == "cpu":
        most = min(most, int(times.max()))
    for n in range(most):
        x = torch.where(times > n, F.avg_pool2d(x, 3, 1, 1), x)
    return x


def _local_mean(x: Tensor) -> Tensor:
    small = F.avg_pool2d(F.avg_pool2d(x, _SHRINK, ceil_mode=True), _LOCAL, 1, _LOCAL // 2)
    return F.interpolate(small, x.shape[-2:], mode="bilinear", align_corners=False)


def _procedural(g: Generator, brain: Tensor, offsets: Sequence[int]) -> Tensor:
    """Ragged ellipsoids about a random place in the brain, (B, 1 + n, H, W) of 0 and 1: their
    sections in the slice and ``offsets`` mm beside it."""
    planes, brain = brain, brain[:, :1]
    h, w = brain.shape[-2:]
    draw = torch.rand(brain.shape, generator=g, device=g.device).to(brain.device)
    at = (draw * brain).flatten(1).argmax(dim=1)
    rows = torch.arange(h, device=brain.device).view(1, 1, -1, 1) - (at // w).view(-1, 1, 1, 1)
    columns = torch.arange(w, device=brain.device).view(1, 1, 1, -1) - (at % w).view(-1, 1, 1, 1)
    radius = torch.exp(_numbers(g, brain, np.log(2.5), np.log(50.0)))
    stretch = torch.exp(_numbers(g, brain, -0.7, 0.7))
    angle = _numbers(g, brain, 0.0, np.pi)
    c, s = torch.cos(angle), torch.sin(angle)
    a = (c * rows + s * columns) / (radius * stretch)
    b = (c * columns - s * rows) / (radius / stretch)
    ragged = _field(g, brain, 12) * _numbers(g, brain, 0.05, 0.4)
    ragged = ragged + _field(g, brain, 40) * _numbers(g, brain, 0.0, 0.25)
    distance = torch.sqrt(a**2 + b**2) + ragged
    if not offsets:
        return (distance < 1).float()
    # The slice cuts the ellipsoid somewhere; its sections grow to one side and shrink to the other.
    depth = radius * torch.exp(_numbers(g, brain, -0.5, 0.7))
    height = depth * _numbers(g, brain, -0.9, 0.9)
    widths = [
        ((1 - ((height + n) / depth) ** 2) / (1 - (height / depth) ** 2)).clamp_min(0).sqrt()
        for n in (0, *offsets)
    ]
    sections = torch.cat([distance < width for width in widths], dim=1)
    return sections.to(planes.dtype)


def _carried(g: Generator, mask: Tensor) -> Tensor:
    """Masks (B, M, H, W) turned, scaled and shifted, all planes of one alike."""
    n = len(mask)
    angle = _numbers(g, mask, -0.8, 0.8).flatten()
    zoom = torch.exp(_numbers(g, mask, -0.5, 0.5)).flatten()
    flip = torch.where(_chosen(g, mask, 0.5).flatten(), -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=mask.device)
    theta[:, 0, 0], theta[:, 0, 1] = torch.cos(angle) * zoom * flip, -torch.sin(angle) * zoom
    theta[:, 1, 0], theta[:, 1, 1] = torch.sin(angle) * zoom * flip, torch.cos(angle) * zoom
    for row in (0, 1):
        theta[:, row, 2] = _numbers(g, mask, -0.35, 0.35).flatten()
    grid = F.affine_grid(theta, [n, 1, *mask.shape[-2:]], align_corners=False)
    return F.grid_sample(mask, grid, "nearest", "zeros", align_corners=False)


def widen_fluid(g: Generator, image: Tensor, brain: Tensor, share: float) -> Tensor:
    """Grow what is dark inside the brain, unevenly, in ``share`` of the images: atrophy."""
    darker = -F.max_pool2d(-image, 3, 1, 1)
    amount = _numbers(g, image, 0.1, 0.9) * _chosen(g, image, share) * brain
    return image + amount * torch.sigmoid(1.5 * _field(g, image, 4) + 1) * (darker - image)


def paint_lesions(
    g: Generator,
    image: Tensor,
    mask: Tensor,
    brain: Tensor,
    share: float,
    offsets: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Paint a lesion into ``share`` of the images; a third of all get wider fluid spaces first.

    ``image`` (B, 1 + n, H, W) float in [0, 1], ``mask`` and ``brain`` the same shape float 0/1: the
    slice, and those n at ``offsets`` mm beside it, into which the same lesion goes on. Lesions
    lie inside of the brain, outside of lesions that are there, and of fluid in the images' own
    ventricles and sulci but for its rim. Returns image and mask with what was painted.
    """
    image = image + (widen_fluid(g, image, brain, 0.33) - image) * (1 - mask)
    # Of a fixed number, so that nothing is computed for the others (and no GPU waited for).
    order = torch.randperm(len(image), generator=g, device=g.device).to(image.device)
    chosen = order[: round(share * len(image))]
    if not len(chosen):
        return image, mask
    others = mask.roll(1, 0)[chosen]
    painted, truth = _painted(g, image[chosen], mask[chosen], others, brain[chosen], offsets)
    image, mask = image.clone(), mask.clone()
    image[chosen], mask[chosen] = painted, truth
    return image, mask


def _painted(
    g: Generator,
    image: Tensor,
    mask: Tensor,
    others: Tensor,
    brain: Tensor,
    offsets: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Images and masks with one more lesion each; ``others``: masks whose shapes may be taken."""
    local = _local_mean(image * brain) / _local_mean(brain).clamp_min(1e-3)
    tissue = (F.avg_pool2d(image, 3, 1, 1) > 0.45 * local).float()
    allowed = brain * (1 - mask) * F.max_pool2d(tissue, 3, 1, 1)

    carried, drawn = _carried(g, others), _procedural(g, brain, offsets)
    some = carried[:, :1].flatten(1).any(1).view(-1, 1, 1, 1)
    shape = torch.where(_chosen(g, image, 0.4) & some, carried, drawn) * allowed

    edge = _numbers(g, image, 0.0, _SOFTEST + 1.0).floor()
    soft = _blurred(shape, edge, _SOFTEST)
    # The middle of a lesion is as far gone as it is; a slow field makes some of it come and go.
    patchy = torch.sigmoid(3 * _field(g, image, 6) + _numbers(g, image, 0.0, 4.0))
    soft = soft * torch.where(_chosen(g, image, 0.4), patchy, torch.ones_like(patchy)) * brain

    cavity = _chosen(g, image, 0.5)
    level = torch.where(
        cavity, _numbers(g, image, 0.08, 0.5), _numbers(g, image, 0.55, 0.9)
    )  # of the brightness around
    kept = torch.where(cavity, _numbers(g, image, 0.0, 0.5), _numbers(g, image, 0.3, 1.0))
    texture = 1 + _field(g, image, 50) * _numbers(g, image, 0.0, 0.25)
    texture = texture + _field(g, image, 12) * _numbers(g, image, 0.0, 0.25)
    target = level * texture.clamp_min(0) * (local + kept * (image - local))
    # Fluid does not get brighter by a stroke.
    target = torch.minimum(target, image)
    rim = _blurred(shape, edge + 3, _SOFTEST + 3) * cavity * brain * _chosen(g, image, 0.6)
    image = image * (1 - rim * (1 - _numbers(g, image, 0.6, 0.9)))
    painted = image + soft * (target - image)
    truth = (shape > 0.5) & (soft > 0.3)
    return painted.clamp(0, 1), torch.maximum(mask, truth.to(mask.dtype))
