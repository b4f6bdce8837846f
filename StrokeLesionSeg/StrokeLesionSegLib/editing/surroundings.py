"""What clicks say of the voxels around them: clues gathered, and judged, box by box."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..inference.views import VIEW_AXES
from .clues import REACH_MM, Connected, clues, reach_of
from .judge import Judge
from .regions import slabs
from .scan import EditedScan
from .spread import Evidence, Spread
from .types import EMPTY, Box, Click, intersect, is_empty, join, within

#: Log odds in a canonical box: of the model or the starting mask.
Model = Callable[[Box], NDArray[np.float32]]
#: Log odds that the network answered to clicks with in a canonical box, and where it did.
Answers = Callable[[Box], tuple[NDArray[np.float32], NDArray[np.bool_]]]

# Boxes are worked through in slabs of about so many voxels, of which each needs 200 bytes.
_SLAB_VOXELS = 200_000
_LEAST = 0.02  # changes of the log odds below this are none
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
            Evidence(tuple(self.scan.place_of(c)), c.positive, self._odds_before(c)) for c in clicks
        )

    def _spread_of(self, evidence: tuple[Evidence, ...]) -> Spread:
        if self._spread is None or self._spread[0] != evidence:
            self._spread = evidence, Spread(self.scan.background.t1, evidence)
        return self._spread[1]

    def _connected_of(self, one: Evidence, clicks: int) -> Connected:
        """Found anew only if the model's answer near the click changes."""
        background = self.scan.background
        near = self._reach(one.place)
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

    def _reach(self, place: ArrayLike) -> Box:
        return reach_of(place, self.scan.background.t1.shape)

    def reach(self, clicks: Sequence[Click]) -> Box:
        """The canonical box in which any of the clicks says something; may be empty."""
        box = EMPTY
        for click in clicks:
            box = join(box, self._reach(self.scan.place_of(click)))
        return box

    def clues(
        self, clicks: Sequence[Click], box: Box
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What speaks for and against lesion in a canonical box, see ``clues.clues``."""
        return self._clues(self._evidence(clicks), box, self._model(box), *self._answers(box))

    def _clues(
        self,
        evidence: tuple[Evidence, ...],
        box: Box,
        model: NDArray[np.float32],
        answer: NDArray[np.float32],
        answered: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        joined = [self._connected_of(one, len(evidence)) for one in evidence]
        spread = self._spread_of(evidence)
        return clues(self.scan.tissue, evidence, joined, spread, box, model, answer, answered)

    def odds(
        self, clicks: Sequence[Click], box: Box
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Log odds of lesion in a canonical box, and where clicks have made them what they are."""
        evidence = self._evidence(clicks)
        model = self._model(box)
        answer, answered = self._answers(box)
        odds = np.where(answered, answer, model)
        keep = self.scan.background.keep
        for slab in slabs(box, _SLAB_VOXELS):
            part = EMPTY
            for one in evidence:
                part = join(part, intersect(self._reach(one.place), slab))
            if is_empty(part):
                continue
            here = within(part, box)
            said = self._clues(evidence, part, model[here], answer[here], answered[here])
            odds[here] = Judge.shipped().odds(*said, None if keep is None else keep[part])
        return odds, answered | (np.abs(odds - model) > _LEAST)

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
