"""Which of the networks from parent to child, and which operating point; the training part
decides, together with simulated scans of another seed than those that judge.

Between the parent's weights and the child's most of the new is there and most of the old, too
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). All the way is not offered: what
it gains more, it loses on lesions that the parent finds, and on clicks.
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
from .measure import Watch
from .mixing import RegressionScan
from .tuning import points_about, scores_at

if TYPE_CHECKING:
    from torch import nn

#: How a network is asked for the probability of an image on the head box.
Ask = Callable[["nn.Module", NDArray[np.uint8]], NDArray[np.float32]]
#: Shares of the child in what is tried; at 0 the parent takes another operating point, no more.
SHARES = (0.0, 0.35, 0.65)
# Of choices that differ by less the one nearest to the parent is taken.
_WORTH = 0.003
# The simulated scans may be worse by this much, in mean Dice, and healthy ones fuller, in mL.
_ALLOWED, _ALLOWED_ML = 0.005, 0.1
# No scan of the training part may fall by more in Dice. Where its lesion is missed, no more may be
# marked elsewhere: the first click would go there.
_FALL, _MISSED = 0.03, 0.05


@dataclass(frozen=True, eq=False)
class Chosen:
    """``network``; ``share`` of the child in it; ``point``; ``dice`` on the training part."""

    network: nn.Module
    share: float
    point: OperatingPoint
    dice: float


@dataclass(frozen=True)
class _Tried:
    """``own``: Dice and mL of each of the user's scans. ``simulated``: mean Dice. ``empty``:
    healthy scans; ``fullest``: of them, in mL."""

    own: tuple[tuple[float, float], ...]
    simulated: float
    empty: int
    fullest: float

    @property
    def worth(self) -> float:
        """What was learnt from is found by heart; strokes that were never shown count as much."""
        return (self.dice + self.simulated) / 2

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
    watch: Watch,
) -> Chosen:
    """The best network and point on ``heads`` and ``simulated`` among those that forget nothing.

    ``point``: the parent's. ``ask``: the probability that a network gives an image. Raises
    ``Cancelled`` if told so.
    """
    done = 0
    points = points_about(point)

    def asked(network: nn.Module, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal done
        watch.check("the operating point was chosen")
        p = ask(network, image)
        done += 1
        watch.tell(done)
        return p

    def tried(network: nn.Module) -> list[_Tried]:
        # By scan, then by point.
        own: list[list[tuple[float, float]]] = []
        drawn: list[list[tuple[float, float]]] = []
        healthy: list[list[tuple[float, float]]] = []
        for file in heads:
            head = load_head(file)
            assert head.lesions is not None
            own.append(scores_at(points, asked(network, head.image), head.lesions))
        for scan in simulated:
            scores = scores_at(points, asked(network, scan.image), scan.lesions, scan.counts)
            (healthy if scan.kind == "healthy" else drawn).append(scores)
        return [
            _Tried(
                tuple(scan[n] for scan in own),
                float(np.mean([scan[n][0] for scan in drawn] or [1.0])),
                sum(scan[n][1] == 0 for scan in healthy),
                max((scan[n][1] for scan in healthy), default=0.0),
            )
            for n in range(len(points))
        ]

    candidates: list[tuple[float, int, _Tried]] = []
    for share in SHARES:
        found = tried(between(parent, child, share))
        candidates += [(share, n, one) for n, one in enumerate(found)]
    before = candidates[0][2]  # the parent as it is, which keeps all of itself
    kept = [one for one in candidates if one[2].keeps(before)]
    best = max(one[2].worth for one in kept)
    share, n, one = next(c for c in kept if c[2].worth >= best - _WORTH)
    return Chosen(between(parent, child, share), share, points[n], one.dice)


def between(parent: nn.Module, child: nn.Module, share: float) -> nn.Module:
    """The network whose weights are ``share`` of the way from the parent's to the child's."""
    network = copy.deepcopy(parent)
    with torch.no_grad():
        for own, other in zip(network.parameters(), child.parameters(), strict=True):
            own.lerp_(other, share)
    return network.eval().requires_grad_(False)
