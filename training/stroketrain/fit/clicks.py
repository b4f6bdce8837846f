"""Clicks simulated from a network's own errors: the guidance channels of interactive training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

RADIUS = 5


def disk(centres: Tensor, shape: tuple[int, int], radius: int = RADIUS) -> Tensor:
    """Filled disks of ``radius`` pixels: centres (N, 2) (row, column) to one (H, W) float map."""
    rows = torch.arange(shape[0], device=centres.device).view(1, -1, 1)
    columns = torch.arange(shape[1], device=centres.device).view(1, 1, -1)
    squared = (rows - centres[:, 0].view(-1, 1, 1)) ** 2
    squared = squared + (columns - centres[:, 1].view(-1, 1, 1)) ** 2
    return (squared <= radius**2).any(dim=0).float()


def click_once(g: Generator, error: Tensor, marks: Tensor) -> Tensor:
    """Add one click per image where ``error`` (B, 1, H, W) bool is thickest; returns new ``marks``.

    The point is drawn among the inner half of the error (after erosions), as a person clicks into
    the middle of what is wrong rather than on its rim.
    """
    out = marks.clone()
    inside = error.float()
    core = inside
    for _ in range(3):
        thinner = -F.max_pool2d(-core, 3, 1, 1)
        keep = thinner.flatten(1).amax(dim=1).view(-1, 1, 1, 1) > 0
        core = torch.where(keep, thinner, core)
    for n in range(len(error)):
        where = torch.nonzero(core[n, 0] > 0)
        if len(where):
            pick = int(torch.randint(len(where), (), generator=g))
            out[n, 0] = torch.maximum(out[n, 0], disk(where[pick : pick + 1], error.shape[-2:]))
    return out


def simulate_guidance(
    g: Generator, probability: Tensor, truth: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    """Positive and negative click maps after ``rounds`` clicks on the errors of ``probability``.

    All tensors (B, 1, H, W). Each round clicks the larger of missed and false area of each image.
    """
    positive, negative = torch.zeros_like(probability), torch.zeros_like(probability)
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
