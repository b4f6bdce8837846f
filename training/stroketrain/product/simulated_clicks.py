"""Clicks simulated from a network's own errors: the guidance channels of interactive training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

RADIUS = 5
DEPTH = 8  # pixels from the rim of an error beyond which its middle is not looked for


def disks(centres: Tensor, shape: tuple[int, ...], radius: int = RADIUS) -> Tensor:
    """One filled disk of ``radius`` pixels each: centres (N, 2) (row, column) to (N, H, W) bool."""
    rows = torch.arange(shape[0], device=centres.device).view(1, -1, 1)
    columns = torch.arange(shape[1], device=centres.device).view(1, 1, -1)
    squared = (rows - centres[:, 0].view(-1, 1, 1)) ** 2
    return squared + (columns - centres[:, 1].view(-1, 1, 1)) ** 2 <= radius**2


def click_once(g: Generator, error: Tensor, marks: Tensor) -> Tensor:
    """Add one click per image where ``error`` (B, 1, H, W) bool is thickest; returns new ``marks``.

    The point is drawn among what is left of the error after up to ``DEPTH`` erosions, fewer in some
    images than in others: a person clicks into the middle of what is wrong rather than on its rim,
    more or less. All images at once, and nothing is read back from the device.
    """
    core = error.float()
    erosions = torch.rand(len(core), 1, 1, 1, generator=g, device=g.device).to(core.device)
    erosions = 1 + erosions.sqrt() * DEPTH
    for n in range(DEPTH):
        thinner = -F.max_pool2d(-core, 3, 1, 1)
        keep = thinner.flatten(1).amax(dim=1).view(-1, 1, 1, 1) > 0
        core = torch.where(keep & (n < erosions), thinner, core)
    # The highest of independent uniform numbers falls on each pixel of the core alike.
    draw = torch.rand(core.shape, generator=g, device=g.device).to(core.device) + 1e-3
    pick = (draw * core).flatten(1).argmax(dim=1)
    width = error.shape[-1]
    clicked = disks(torch.stack([pick // width, pick % width], dim=1), error.shape[-2:])
    clicked = clicked & error.flatten(1).any(dim=1).view(-1, 1, 1)
    return torch.maximum(marks, clicked[:, None].to(marks.dtype))


def simulate_guidance(
    g: Generator,
    probability: Tensor,
    truth: Tensor,
    rounds: int,
    earlier: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Positive and negative click maps after ``rounds`` clicks on the errors of ``probability``.

    All tensors (B, 1, H, W). Each round clicks the larger of missed and false area of each image.
    ``earlier``: maps of clicks that have led to this ``probability``; they are kept.
    """
    positive, negative = earlier or (torch.zeros_like(probability), torch.zeros_like(probability))
    guess = probability > 0.5
    wanted = truth > 0.5
    for _ in range(rounds):
        missed = wanted & ~guess & ~(positive > 0)
        false = guess & ~wanted & ~(negative > 0)
        more = missed.flatten(1).sum(1) >= false.flatten(1).sum(1)
        choice = more.view(-1, 1, 1, 1)
        positive = click_once(g, missed & choice, positive)
        negative = click_once(g, false & ~choice, negative)
    return positive, negative
