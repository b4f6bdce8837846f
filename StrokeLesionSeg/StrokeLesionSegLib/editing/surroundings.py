"""What clicks say of the voxels around them: clues gathered, and judged, box by box."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..inference.views import VIEW_AXES
from .clues import REACH_MM, Connected, clues, reach_of
from .judge import Judge
from .scan import EditedScan
from .spread import Evidence, Spread
from .types import EMPTY, Box, Click, extents, intersect, is_empty, join, within

#: Log odds in a canonical box: of the model or the starting mask.
Model = Callable[[Box], NDArray[np.float32]]
#: Log odds that the network answered to clicks with in a canonical box, and where it did.
Answers = Callable[[Box], tuple[NDArray[np.float32], NDArray[np.bool_]]]

# Boxes are worked through in slabs of about so many voxels, of which each needs 200 bytes.
_SLAB_VOXELS = 200_000
_KEPT = 32  # clicks' connections, of three masks of 230 KB


class Surroundings:
    """The clicks of a session, and the log odds of lesion within their reach.

    Parameters
    ----------
    model, answers: see above. before: the model's log odds where a click lies. state: changes
        whenever the model's answer is another one for another reason than the background's.
    """

    def __init__(
        self,
        scan: EditedScan,
        model: Model,
        answers: Answers,
        before: Callable[[Click], float],
        state: Callable[[], tuple[float, ...]],
    ) -> None:
        self.scan = scan
        self._model, self._answers, self._odds_before, self._state = model, answers, before, state
        self._connected: OrderedDict[tuple, Connected] = OrderedDict()
        self._spread: tuple[tuple[Evidence, ...], Spread] | None = None

    def _evidence(self, clicks: Sequence[Click]) -> tuple[Evidence, ...]:
        return tuple(
            Evidence(tuple(self._place(c)), c.positive, self._odds_before(c)) for c in clicks
        )

    def _place(self, click: Click) -> NDArray[np.float64]:
        return self.scan.canonical_of(self.scan.index_of(np.array(click.ras_mm)))

    def _spread_of(self, evidence: tuple[Evidence, ...]) -> Spread:
        if self._spread is None or self._spread[0] != evidence:
            self._spread = evidence, Spread(self.scan.background.t1, evidence)
        return self._spread[1]

    def _connected_of(self, one: Evidence, clicks: int) -> Connected:
        """Found anew only if the model's answer near the click changes."""
        background = self.scan.background
        near = self._reach(np.array(one.place))
        done = [
            int(slices[near[VIEW_AXES[one_pass.view]]].sum())
            for one_pass, slices in zip(background.passes, background.done, strict=True)
        ]
        key = (one.place, background.version, *self._state(), *done)
        if key not in self._connected:
            self._connected[key] = Connected(self.scan.tissue, one.place, self._model)
            while len(self._connected) > max(_KEPT, clicks):
                self._connected.popitem(last=False)
        return self._connected[key]

    def _reach(self, place: NDArray[np.float64]) -> Box:
        return reach_of(place, self.scan.background.t1.shape)

    def reach(self, clicks: Sequence[Click]) -> Box:
        """The canonical box in which any of the clicks says something; may be empty."""
        box = EMPTY
        for click in clicks:
            box = join(box, self._reach(self._place(click)))
        return box

    def clues(
        self, clicks: Sequence[Click], box: Box
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What speaks for and against lesion in a canonical box, see ``clues.clues``."""
        evidence = self._evidence(clicks)
        joined = [self._connected_of(one, len(evidence)) for one in evidence]
        return clues(
            self.scan.tissue,
            evidence,
            joined,
            self._spread_of(evidence),
            box,
            self._model(box),
            *self._answers(box),
        )

    def odds(
        self, clicks: Sequence[Click], box: Box
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log odds of lesion in a canonical box: by clicks and all, and by the model alone."""
        model = self._model(box)
        answer, answered = self._answers(box)
        odds = np.where(answered, answer, model)
        reach = [self._reach(self._place(click)) for click in clicks]
        deep, *flat = extents(box)
        thick = max(1, _SLAB_VOXELS // max(1, int(np.prod(flat))))
        for first in range(box[0].start, box[0].start + deep, thick):
            slab = slice(first, min(first + thick, box[0].stop)), box[1], box[2]
            part = EMPTY
            for one in reach:
                part = join(part, intersect(one, slab))
            if not is_empty(part):
                keep = self.scan.background.keep
                where = None if keep is None else keep[part]
                odds[within(part, box)] = Judge.shipped().odds(*self.clues(clicks, part), where)
        return odds, model

    def says(self, clicks: Sequence[Click]) -> dict[int, tuple[float, ...]]:
        """By click, what decides about its surroundings: the weight of its spread, and how far the
        nearest other clicks of either kind are."""
        evidence = self._evidence(clicks)
        places = np.array([one.place for one in evidence]).reshape(-1, 3)
        signs = np.array([one.positive for one in evidence], bool)
        result = {}
        weights = self._spread_of(evidence).weights
        for number, (click, weight) in enumerate(zip(clicks, weights, strict=True)):
            away = np.sqrt(((places - places[number]) ** 2).sum(axis=1))
            away[number] = np.inf
            nearest = [away[signs == sign].min(initial=REACH_MM) for sign in (True, False)]
            result[click.id] = (float(weight), *map(float, nearest))
        return result
