"""Augmentation of whole batches, on whatever device they are; numbers are drawn where the generator
is, which is best the same one, since every copy makes a GPU wait."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def draw(g: Generator, n: int, low: float, high: float, device: torch.device) -> Tensor:
    """``n`` numbers from [low, high), drawn where the generator is."""
    return (low + (high - low) * torch.rand(n, generator=g, device=g.device)).to(device)


def resampling_blur(g: Generator, image: Tensor, share: float = 0.4) -> Tensor:
    """Blur ``share`` of the images (B, C, H, W) as thick or oblique slices do after resampling.

    A Gaussian of .4 to 1.6 pixels along the rows, along the columns or along both: what a slice
    thickness of about 1 to 4 mm leaves of a 1 mm image.
    """
    n, device = image.shape[0], image.device
    sigma = draw(g, n, 0.4, 1.6, device)
    where = draw(g, n, 0, 1, device)
    chosen = draw(g, n, 0, 1, device) < share
    steps = torch.arange(-4, 5, device=device, dtype=image.dtype)
    bell = torch.exp(-0.5 * (steps / sigma.view(-1, 1)) ** 2)
    bell = bell / bell.sum(dim=1, keepdim=True)
    alone = (steps == 0).to(image.dtype).expand_as(bell)
    rows = torch.where((chosen & (where < 0.67)).view(-1, 1), bell, alone)
    columns = torch.where((chosen & (where > 0.33)).view(-1, 1), bell, alone)
    flat = F.conv2d(image.transpose(0, 1), rows.view(n, 1, -1, 1), padding=(4, 0), groups=n)
    flat = F.conv2d(flat, columns.view(n, 1, 1, -1), padding=(0, 4), groups=n)
    return flat.transpose(0, 1)


def augment(
    g: Generator,
    image: Tensor,
    mask: Tensor,
    *,
    mirror: bool,
    degrees: float = 15.0,
    mirrored: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Rotation, zoom, shift, left-right flip, then contrast, shading, blur and noise.

    ``image`` (B, C, H, W) float in [0, 1], ``mask`` (B, M, H, W) float 0/1. The mask moves with
    nearest neighbour. Only left and right are exchanged: a head upside down is nobody's head.
    All channels of one image move together and share their contrast and shading, but for the
    channel ``mirrored``: it shows another place, whose shading is its own.
    """
    n, device = image.shape[0], image.device
    angle = draw(g, n, -degrees, degrees, device) * torch.pi / 180
    zoom = draw(g, n, 0.85, 1.18, device)
    stretch = draw(g, n, 0.94, 1.06, device)
    h, w = image.shape[-2:]
    c, s = torch.cos(angle), torch.sin(angle)
    flip = torch.ones(n, device=device)
    if mirror:
        flip = torch.where(draw(g, n, 0, 1, device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0] = c * zoom * stretch * flip
    theta[:, 0, 1] = -s * zoom * (h / w)
    theta[:, 1, 0] = s * zoom * (w / h) * flip
    theta[:, 1, 1] = c * zoom / stretch
    theta[:, 0, 2] = draw(g, n, -0.06, 0.06, device)
    theta[:, 1, 2] = draw(g, n, -0.06, 0.06, device)
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=False)
    image = F.grid_sample(image, grid, "bilinear", "zeros", align_corners=False)
    mask = F.grid_sample(mask, grid, "nearest", "zeros", align_corners=False)

    some = (n, 1, 1, 1)
    power = torch.exp(draw(g, n, -0.35, 0.35, device)).view(some)
    image = image.clamp(0, 1) ** power
    fields = 1 if mirrored is None else 2
    field = torch.randn(n, fields, 3, 3, generator=g, device=g.device).to(device)
    shading = F.interpolate(field, (h, w), mode="bilinear", align_corners=True)
    if mirrored is not None:
        shading = shading[:, [int(c == mirrored) for c in range(image.shape[1])]]
    image = image * torch.exp(shading * draw(g, n, 0, 0.15, device).view(some))
    blurred = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    image = torch.lerp(image, blurred, draw(g, n, -0.3, 0.9, device).clamp_min(0).view(some))
    image = resampling_blur(g, image)
    noise = torch.randn(image.shape, generator=g, device=g.device).to(device)
    image = image + noise * draw(g, n, -0.02, 0.05, device).clamp_min(0).view(some)
    gain = draw(g, n, 0.85, 1.12, device).view(some)
    return (image * gain).clamp(0, 1), mask


def paper_augment(g: Generator, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The residual U-Net paper's augmentation (PAPERS.md A5): flips with probability .5 per axis,
    rotation within 15 degrees, zoom .9 to 1.1; nothing else, the window was applied before.

    ``image`` (B, C, H, W) float, ``mask`` (B, M, H, W) float 0/1, moved with nearest neighbour.
    All channels of one image move together, so a stack of slices may stand in for C and M.
    """
    n, device = image.shape[0], image.device
    h, w = image.shape[-2:]
    angle = draw(g, n, -15.0, 15.0, device) * torch.pi / 180
    zoom = 1 / draw(g, n, 0.9, 1.1, device)
    flips = torch.where(torch.rand(2, n, generator=g, device=g.device) < 0.5, -1.0, 1.0).to(device)
    c, s = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0] = c * flips[0]
    theta[:, 0, 1] = -s * (h / w) * flips[1]
    theta[:, 1, 0] = s * (w / h) * flips[0]
    theta[:, 1, 1] = c * flips[1]
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=False)
    image = F.grid_sample(image, grid, "bilinear", "zeros", align_corners=False)
    return image, F.grid_sample(mask, grid, "nearest", "zeros", align_corners=False)
