"""One training step of the volumetric network: inputs, clicks on its own errors, loss.

Loss, per head: soft Dice with a smoothing of 20 voxels (Milletari et al. 2016), cross entropy that
weighs lesion more, the hardest 2 % of the voxels once more (Wu et al. 2016), the ventricles'
Dice and cross entropy, and a penalty for lesion inside a ventricle. An empty truth is charged by
the probability that is given away.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..brief import brief_repr
from ..inference.head_box import INNER_SHAPE
from ..networks.volumetric import unshuffle
from .clicks import channels_of, clicks_on_errors
from .strokes.anatomy import mirrored

_Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class StepOptions:
    """How a step is made.

    ``guided``: share of steps with clicks. ``rounds``: most rounds of clicks in one.
    ``positive``: weight of lesion voxels in the cross entropy. ``hard``: weight of the hardest
    voxels. ``ventricle``, ``never``: weights of the ventricles' loss, and of lesion in them.
    ``false_negative``: weight of missed lesion in the overlap, .5 is Dice (Salehi et al. 2017).
    ``no_mirror``: share of steps without the mirrored channel, for scans that cannot be mirrored.
    ``teaching``: weight of the teacher's answer, where there is a teacher.
    """

    guided: float = 0.3
    rounds: int = 3
    positive: float = 3.0
    hard: float = 0.3
    ventricle: float = 0.5
    never: float = 2.0
    false_negative: float = 0.6
    no_mirror: float = 0.06
    teaching: float = 1.0


@dataclass(frozen=True, eq=False)
class Batch:
    """One head, ready for the network, at 2 mm. ``scan``: (1, 17, K, J, I): scan, mirrored scan,
    template. ``lesions``, ``ventricles``: (1, 8, K, J, I) float, in [0, 1] between where a teacher
    is not certain. ``weight``: (1, 8, K, J, I)."""

    scan: Tensor
    lesions: Tensor
    ventricles: Tensor
    weight: Tensor

    __repr__ = brief_repr

    def cut(self, box: _Box) -> Batch:
        """A part of it."""
        s = (slice(None), slice(None), *box)
        return Batch(self.scan[s], self.lesions[s], self.ventricles[s], self.weight[s])


@dataclass(frozen=True)
class StepResult:
    """``loss``; ``dice`` at .5, None for heads with less than 2 mL; ``guided``: with clicks."""

    loss: float
    dice: float | None
    guided: bool


def make_batch(
    image: Tensor,
    lesions: Tensor,
    ventricles: Tensor,
    template: Tensor,
    weight: Tensor,
    mirror: bool = True,
) -> Batch:
    """From (160, 192, 160) image, lesions and ventricles; ``template`` (1, 1, 80, 96, 80).

    All on one device.
    """
    other = mirrored(image) if mirror else torch.zeros_like(image)
    scan = torch.cat([unshuffle(image[None, None]), unshuffle(other[None, None]), template], dim=1)
    return Batch(
        scan,
        unshuffle(lesions[None, None].float()),
        unshuffle(ventricles[None, None].float()),
        weight,
    )


def voxel_weight(brain: Tensor) -> Tensor:
    """(1, 8, 80, 96, 80) weights of the cross entropy: 1 in the brain, .2 outside."""
    return unshuffle(brain[None, None].float() * 0.8 + 0.2)


def make_step(
    network: nn.Module,
    mean: nn.Module,
    batch: Batch,
    options: StepOptions,
    rng: np.random.Generator,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    teacher: nn.Module | None = None,
) -> tuple[Tensor, StepResult]:
    """The loss of one head, to be propagated, and what it says.

    ``mean`` is the running mean of ``network``: its answer is what clicks correct. ``teacher``: a
    network whose answer to the same input, clicks included, counts where it is right.
    """
    extra = torch.zeros(1, 10, *INNER_SHAPE, device=batch.scan.device)
    there = bool((batch.lesions > 0.5).any())
    guided = rng.random() < options.guided and (there or rng.random() < 0.3)
    if guided:
        batch, extra = _with_clicks(mean, batch, extra, options, rng, autocast)
    shown = _layout(torch.cat([batch.scan, extra], dim=1))
    with autocast():
        logits = network(shown).float()
    loss = _loss(logits[:, :8], logits[:, 8:], batch, options)
    if teacher is not None:
        with torch.no_grad(), autocast():
            taught = torch.sigmoid(teacher(shown).float()[:, :8])
        loss = loss + options.teaching * _apart(logits[:, :8], taught, batch)
    with torch.no_grad():
        size = float(batch.lesions.sum())
        hit = float(((logits[:, :8] > 0) & (batch.lesions > 0.5)).sum())
        marked = float((logits[:, :8] > 0).sum())
    dice = 2 * hit / max(1.0, marked + size) if size > 2000 else None
    return loss, StepResult(float(loss.detach()), dice, guided)


def _layout(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def _with_clicks(
    mean: nn.Module,
    batch: Batch,
    extra: Tensor,
    options: StepOptions,
    rng: np.random.Generator,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[Batch, Tensor]:
    """Clicks in one to several rounds, each on what the network has left wrong; mostly a cube."""

    def answer(part: Batch, more: Tensor) -> Tensor:
        with autocast():
            return torch.sigmoid(mean(_layout(torch.cat([part.scan, more], 1))).float()[:, :8])

    def click(part: Batch, before: Tensor, most: int) -> list:
        return clicks_on_errors(
            before.mean(1)[0].cpu().numpy(),
            part.lesions.mean(1)[0].cpu().numpy(),
            rng,
            1 + int(rng.integers(most)),
        )

    before = answer(batch, extra)
    clicks = click(batch, before, 3)
    if not clicks:
        return batch, extra
    if rng.random() < 0.75:
        size = 48 if rng.random() < 0.7 else 64
        centre = clicks[rng.integers(len(clicks))].place
        start = [
            int(np.clip(c - size // 2 + rng.integers(-6, 7), 0, n - size))
            for c, n in zip(centre, INNER_SHAPE, strict=True)
        ]
        box: _Box = tuple(slice(a, a + size) for a in start)  # type: ignore[assignment]
        batch, before = batch.cut(box), before[(slice(None), slice(None), *box)]
        inside = [[c - a for c, a in zip(click_.place, start, strict=True)] for click_ in clicks]
        clicks = [
            type(c)((p[0], p[1], p[2]), c.lesion)
            for c, p in zip(clicks, inside, strict=True)
            if all(0 <= v < size for v in p)
        ]
    previous = before if rng.random() < 0.85 else torch.zeros_like(before)
    k, j, i = (int(n) for n in batch.scan.shape[2:])

    def channels() -> Tensor:
        marks = channels_of(clicks, (k, j, i)).to(previous.device)
        return torch.cat([marks[None], previous], dim=1)

    for _ in range(int(rng.integers(options.rounds))):
        more = channels()
        previous = answer(batch, more)
        new = click(batch, previous, 2)
        clicks = clicks + new
    return batch, channels()


def _apart(z: Tensor, taught: Tensor, batch: Batch) -> Tensor:
    """How far the answer is from the teacher's, where that is on the side of the truth: what the
    teacher knows is kept, what it gets wrong is not handed on."""
    right = ((taught > 0.5) == (batch.lesions > 0.5)).float() * batch.weight
    each = F.binary_cross_entropy_with_logits(z, taught, reduction="none")
    least = F.binary_cross_entropy(taught, taught, reduction="none")
    return 10 * ((each - least) * right).mean()


def _loss(z: Tensor, v: Tensor, batch: Batch, options: StepOptions) -> Tensor:
    truth, fluid, weight = batch.lesions, batch.ventricles, batch.weight
    p, q = torch.sigmoid(z), torch.sigmoid(v)
    each = F.binary_cross_entropy_with_logits(z, truth, reduction="none")
    entropy = (each * (1 + (options.positive - 1) * truth) * weight).mean()
    some = torch.randint(each.numel(), (min(300_000, each.numel()),), device=each.device)
    hard = each.flatten()[some].topk(len(some) // 50).values.mean()
    if (truth > 0.5).any():
        hit, wrong, missed = (p * truth).sum(), (p * (1 - truth)).sum(), ((1 - p) * truth).sum()
        charge = (1 - options.false_negative) * wrong + options.false_negative * missed
        overlap = 1 - (hit + 20) / (hit + charge + 20)
    else:
        overlap = (p.sum() / 2000).clamp(max=1)
    fluid_entropy = F.binary_cross_entropy_with_logits(v, fluid, reduction="none")
    fluid_entropy = (fluid_entropy * (1 + 2 * fluid) * weight).mean()
    fluid_dice = 1 - 2 * ((q * fluid).sum() + 20) / (q.sum() + fluid.sum() + 40)
    ventricle = 5 * fluid_entropy + 0.5 * fluid_dice
    never = (p * fluid).sum() / (fluid.sum() + 500)
    return (
        overlap
        + 10 * entropy
        + options.hard * hard
        + options.ventricle * ventricle
        + options.never * never
    )
