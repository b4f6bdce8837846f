"""Which of the networks between parent and child, and which operating point; the training part
decides, together with simulated scans of another seed than those that judge.

Half-way between the parent's weights and the child's much of the new is there and more of the old
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
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

from ...errors import Cancelled
from ...operating_point import OperatingPoint
from ..heads import load_head
from .measure import answer, find, points_about, regression_score
from .mixing import RegressionScan

if TYPE_CHECKING:
    from torch import nn

#: Shares of the child in what is tried.
SHARES = (1.0, 0.5)
# Of two choices the one nearer to the parent is taken unless the other is better by this.
_WORTH = 0.003
# The simulated scans may be worse by this much, in mean Dice.
_ALLOWED = 0.005


@dataclass(frozen=True, eq=False)
class Chosen:
    """``network``; ``share`` of the child in it; ``point``; ``dice`` on the training part."""

    network: nn.Module
    share: float
    point: OperatingPoint
    dice: float


@dataclass(frozen=True)
class _Tried:
    own: float
    simulated: float
    empty: int


def choose(
    parent: nn.Module,
    child: nn.Module,
    heads: Sequence[Path],
    simulated: Sequence[RegressionScan],
    point: OperatingPoint,
    searched: NDArray[np.bool_],
    *,
    bfloat16: bool,
    tell: Callable[[int], None],
    cancel: Callable[[], bool],
) -> Chosen:
    """The best network and point on ``heads`` among those that keep the simulated scans.

    ``point``: the parent's. Raises ``Cancelled`` if told so.
    """
    done = 0

    def tried(network: nn.Module, points: Sequence[OperatingPoint]) -> list[_Tried]:
        nonlocal done
        from ...lesions.scorers.common import dice

        own: list[list[float]] = [[] for _ in points]
        others: list[list[float]] = [[] for _ in points]
        empty = [0] * len(points)
        for file in heads:
            head = load_head(file)
            assert head.lesions is not None
            p = _asked(network, head.image)
            for n, one in enumerate(points):
                own[n].append(dice(find(p, one), head.lesions))
        for scan in simulated:
            p = _asked(network, scan.image)
            for n, one in enumerate(points):
                score = regression_score(scan, find(p, one))
                if scan.kind == "healthy":
                    empty[n] += score.found_ml == 0
                else:
                    others[n].append(score.dice)
        return [
            _Tried(float(np.mean(a)), float(np.mean(b or [1.0])), e)
            for a, b, e in zip(own, others, empty, strict=True)
        ]

    def _asked(network: nn.Module, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal done
        if cancel():
            raise Cancelled("cancelled while the operating point was chosen")
        p = answer(network, image, searched, mirrored=False, bfloat16=bfloat16)[0]
        done += 1
        tell(done)
        return p

    (before,) = tried(parent, [point])
    points = points_about(point)
    best: Chosen | None = None
    last: Chosen | None = None
    for share in SHARES:
        network = between(parent, child, share)
        for one, found in zip(points, tried(network, points), strict=True):
            candidate = Chosen(network, share, one, found.own)
            kept = found.simulated >= before.simulated - _ALLOWED and found.empty >= before.empty
            if kept and (best is None or found.own > best.dice + _WORTH):
                best = candidate
            last = candidate if one is point else last
    # None that forgets nothing: the judges will say so of the one nearest to the parent.
    return best or last  # type: ignore[return-value]


def between(parent: nn.Module, child: nn.Module, share: float) -> nn.Module:
    """The network whose weights are ``share`` of the way from the parent's to the child's."""
    network = copy.deepcopy(parent)
    with torch.no_grad():
        for own, other in zip(network.parameters(), child.parameters(), strict=True):
            own.lerp_(other, share)
    return network.eval().requires_grad_(False)
