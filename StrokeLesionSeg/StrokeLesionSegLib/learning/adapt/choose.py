"""Which of the networks from parent to child, and which operating point; the training part
decides, together with simulated scans of another seed than those that judge.

A network that is refused by those who judge may have gone too far: the next one is of another
share, so each share has its choice.

Between the parent's weights and the child's most of the new is there and most of the old, too
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). All the way is offered only where
scans decide that the training was not shown: it looks best on those that it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ...operating_point import OperatingPoint
from ..heads import load_head
from .mixing import RegressionScan
from .tuning import bolder, points_about, scores_at

if TYPE_CHECKING:
    from torch import nn

#: How a network is asked for the probability of an image on the head box.
Ask = Callable[["nn.Module", NDArray[np.uint8]], NDArray[np.float32]]
#: Shares of the child in what is tried; at 0 the parent takes another operating point, no more.
SHARES = (0.0, 0.4, 0.7, 1.0)
# Of choices that differ by less the one nearest to the parent is taken.
_WORTH = 0.003
# The simulated scans may be worse by this much, in mean Dice, and healthy ones fuller, in mL.
_ALLOWED, _ALLOWED_ML = 0.005, 0.1
# No scan of the training part may fall by more in Dice. Where its lesion is missed, no more may be
# marked elsewhere: the first click would go there.
_FALL, _MISSED = 0.03, 0.05


@dataclass(frozen=True, eq=False)
class Chosen:
    """``network``; ``share`` of the child in it; ``point``; ``worth``: change in Dice, of what was
    corrected and of what was drawn; ``dice`` on the training part."""

    network: nn.Module
    share: float
    point: OperatingPoint
    worth: float
    dice: float


@dataclass(frozen=True)
class _Tried:
    """``own``: Dice and mL of each of the user's scans. ``simulated``: mean Dice. ``empty``:
    healthy scans; ``fullest``: of them, in mL; both at a slightly bolder point where weights are
    new, so that what is chosen keeps its distance."""

    own: tuple[tuple[float, float], ...]
    simulated: float
    empty: int
    fullest: float

    def worth(self, before: _Tried) -> float:
        """What was learnt from is found by heart; strokes that were never shown count as much.

        What falls counts twice: one who falls by much has the new model refused."""
        pairs = zip(self.own, before.own, strict=True)
        changes = np.array([dice - dice_before for (dice, _), (dice_before, _) in pairs])
        change = float(np.where(changes < 0, 2 * changes, changes).mean())
        return (change + self.simulated - before.simulated) / 2

    @property
    def dice(self) -> float:
        """Mean Dice of the user's scans."""
        return float(np.mean([dice for dice, _ in self.own]))

    def keeps(self, before: _Tried) -> bool:
        """Whether nothing is forgotten."""
        return (
            self.simulated >= before.simulated - _ALLOWED
            and self.empty >= before.empty
            and self.fullest <= before.fullest + _ALLOWED_ML
            and all(
                dice >= dice_before - _FALL and (dice >= _MISSED or ml <= ml_before + _ALLOWED_ML)
                for (dice, ml), (dice_before, ml_before) in zip(self.own, before.own, strict=True)
            )
        )


def choose(
    parent: nn.Module,
    child: nn.Module,
    heads: Sequence[Path],
    simulated: Sequence[RegressionScan],
    point: OperatingPoint,
    ask: Ask,
    shares: Sequence[float] = SHARES,
) -> list[Chosen]:
    """Of each share the best operating point on ``heads`` and ``simulated`` among those that forget
    nothing, the best share first. Shares that bring nothing are left out; where all are, the parent
    is chosen as it is.

    ``point``: the parent's. ``ask``: the probability that a network gives an image. ``shares``: of
    the child in what is tried, the first 0.
    """
    points = points_about(point)
    bold = [bolder(p) for p in points]

    def tried(share: float) -> list[_Tried]:
        # By scan, then by point. Of the parent's own weights it is known what they do.
        network = between(parent, child, share)
        nearly = bold if share else points
        own: list[list[tuple[float, float]]] = []
        drawn: list[list[tuple[float, float]]] = []
        healthy: list[list[tuple[float, float]]] = []
        for file in heads:
            head = load_head(file)
            assert head.lesions is not None
            own.append(scores_at(points, ask(network, head.image), head.lesions))
        for scan in simulated:
            well = scan.kind == "healthy"
            p = ask(network, scan.image)
            scores = scores_at(nearly if well else points, p, scan.lesions, scan.counts)
            (healthy if well else drawn).append(scores)
        return [
            _Tried(
                tuple(scan[n] for scan in own),
                float(np.mean([scan[n][0] for scan in drawn] or [1.0])),
                sum(scan[n][1] == 0 for scan in healthy),
                max((scan[n][1] for scan in healthy), default=0.0),
            )
            for n in range(len(points))
        ]

    before: _Tried | None = None
    chosen: list[Chosen] = []
    for share in shares:
        found = tried(share)
        before = before or found[0]  # the parent as it is, which keeps all of itself
        kept = [(one.worth(before), n) for n, one in enumerate(found) if one.keeps(before)]
        if not kept:
            continue
        best = max(worth for worth, _ in kept)
        worth, n = next(c for c in kept if c[0] >= best - _WORTH)
        if worth > 0:
            network = between(parent, child, share)
            chosen.append(Chosen(network, share, points[n], worth, found[n].dice))
    if not chosen:
        assert before is not None
        return [Chosen(between(parent, child, 0.0), 0.0, points[0], 0.0, before.dice)]
    # Of shares that differ by less than ``_WORTH`` the one nearest to the parent comes first.
    return sorted(chosen, key=lambda c: -round(c.worth / _WORTH))


def between(parent: nn.Module, child: nn.Module, share: float) -> nn.Module:
    """The network whose weights are ``share`` of the way from the parent's to the child's, in
    float16, as they are installed: what is chosen and judged is what its users get."""
    network = copy.deepcopy(parent)
    with torch.no_grad():
        for own, other in zip(network.parameters(), child.parameters(), strict=True):
            own.lerp_(other, share)
            own.copy_(own.half())
    return network.eval().requires_grad_(False)
