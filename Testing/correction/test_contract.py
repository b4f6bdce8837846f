"""The contract of a click, in random sessions: with answers at random, and with the network.

100 sessions at random and 2 with the network that ships; as many as STROKE_LESION_SEG_SESSIONS and
STROKE_LESION_SEG_NETWORK_SESSIONS say, if they are set (2,000 and 40 before a release).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from correction_support import AS_IT_LIES, START, RandomField, head_map, rotation, session_on
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scipy import ndimage
from StrokeLesionSegLib.boxes import Box
from StrokeLesionSegLib.correction import Change
from StrokeLesionSegLib.correction.network import ClickNetwork
from StrokeLesionSegLib.images import MNI_GRID, Grid, Volume
from StrokeLesionSegLib.images.space.template import template_head, upsample_linear
from StrokeLesionSegLib.inference import SegmentOptions, before_network
from StrokeLesionSegLib.inference.whole_head import WholeHeadPredictor
from StrokeLesionSegLib.models import load_model

SESSIONS = int(os.environ.get("STROKE_LESION_SEG_SESSIONS", "100"))
NETWORK_SESSIONS = int(os.environ.get("STROKE_LESION_SEG_NETWORK_SESSIONS", "2"))
SHAPE = (14, 20, 18)


def _grid(columns: np.ndarray, middle: tuple[float, float, float]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = middle - columns @ ((np.array(SHAPE[::-1]) - 1) / 2)
    return Grid(SHAPE, affine)


# Whole voxels; oblique thick slices; and one that lies half outside of the head box.
GRIDS = [
    _grid(np.diag([2.0, 2.0, 2.0]), (10.0, -20.0, 5.0)),
    _grid(rotation((12, -20, 8)) @ np.diag([-1.5, 1.5, 4.0]), (-20.0, 10.0, 20.0)),
    _grid(np.diag([2.0, -2.0, 3.0]), (75.0, 70.0, 80.0)),
]
MAPS = [head_map(grid) for grid in GRIDS]

voxels = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))
near_middle = st.tuples(*(st.integers(n // 2 - 3, n // 2 + 3) for n in SHAPE))
places = st.one_of(voxels, near_middle)


class Sessions(RuleBasedStateMachine):
    """A user, and a second bookkeeping beside the session's: ``made`` is the mask as clicks alone
    have made it, ``history`` what the last actions did."""

    @initialize(
        number=st.integers(0, len(GRIDS) - 1),
        seed=st.integers(0, 2**31),
        share=st.sampled_from([0.1, 0.5, 0.9]),
        marked=st.sampled_from([0.0, 0.2, 0.6]),
    )
    def open(self, number: int, seed: int, share: float, marked: float) -> None:
        rng = np.random.default_rng(seed)
        noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2)
        self.mask = noise > np.quantile(noise, 1 - marked) if marked else np.zeros(SHAPE, bool)
        self.answers = self.answers_for(seed, share)
        self.session = session_on(GRIDS[number], self.answers, self.mask, MAPS[number])
        self.made = self.mask.copy()
        self.clicked: dict[tuple[int, int, int], bool] = {}
        self.history: list[tuple[np.ndarray, bool, np.ndarray, dict]] = []

    def answers_for(self, seed: int, share: float) -> RandomField | NetworkAnswers:
        return RandomField(seed, share)

    def said(self, changes: list[tuple[int, int, int]], lesion: bool, handed: bool) -> np.ndarray:
        """Does it, checks all that holds for clicks and strokes, and returns what changed."""
        before = self.mask.copy()
        held = (self.mask != self.made) | self.voxels_of(self.clicked)
        made, clicked = self.made.copy(), dict(self.clicked)
        mask = (
            self.mask.astype(np.uint8) if handed or (self.mask != self.session.mask).any() else None
        )
        change = self.session.stroke(changes, lesion, mask)
        after = np.array(self.session.mask)
        changed = after != before
        seeds = self.voxels_of(changes) & (before != lesion)

        assert (after[changed] == lesion).all(), "only in the click's direction"
        assert changed[seeds].all(), "what was clicked is as clicked"
        assert not (changed & held & ~seeds).any(), "what is held changes only where clicked"
        labels, count = ndimage.label(changed, np.ones((3, 3, 3)))
        assert set(range(1, count + 1)) == set(labels[seeds].tolist()), "nothing without a click"
        self.agrees(change, changed, lesion)

        self.mask, self.made[changed] = after, lesion
        for voxel in changes:
            self.clicked.pop(voxel, None)
            self.clicked[voxel] = lesion
            # As it was already, by hand say, or not: from now on that is what a click has said.
            self.made[voxel] = lesion
        if changes:
            self.history.append((changed, lesion, made, clicked))
        return changed

    def agrees(self, change: Change, changed: np.ndarray, lesion: bool) -> None:
        assert change.lesion == lesion
        assert change.voxels == changed.sum()
        found = np.zeros(SHAPE, bool)
        found[change.box] = change.changed
        np.testing.assert_array_equal(found, changed)

    @staticmethod
    def voxels_of(places) -> np.ndarray:
        found = np.zeros(SHAPE, bool)
        for place in places:
            found[place] = True
        return found

    @rule(voxel=places, lesion=st.booleans(), handed=st.booleans())
    def click(self, voxel, lesion: bool, handed: bool) -> None:
        there = self.mask[voxel] == lesion
        changed = self.said([voxel], lesion, handed)
        assert ndimage.label(changed, np.ones((3, 3, 3)))[1] == (0 if there else 1)

    @rule(voxel=places, lesion=st.booleans())
    def click_twice(self, voxel, lesion: bool) -> None:
        self.said([voxel], lesion, False)
        calls = len(self.answers.calls)
        assert not self.said([voxel], lesion, False).any()
        assert len(self.answers.calls) == calls

    @rule(voxel=places, lesion=st.booleans())
    def click_and_undo(self, voxel, lesion: bool) -> None:
        # Answered at random the probability shows whether undo brings back the one before.
        before, p, clicks = (
            self.mask.copy(),
            np.array(self.session.probability),
            self.session.clicks,
        )
        self.said([voxel], lesion, True)
        self.undo(False)
        np.testing.assert_array_equal(self.mask, before)
        np.testing.assert_array_equal(self.session.probability, p)
        assert self.session.clicks == clicks

    @rule(start=places, end=places, lesion=st.booleans(), handed=st.booleans())
    def stroke(self, start, end, lesion: bool, handed: bool) -> None:
        line = np.rint(np.linspace(start, end, 12)).astype(int).tolist()
        self.said([tuple(place) for place in line], lesion, handed)

    @rule(start=places, size=st.integers(1, 5), value=st.booleans())
    def paint_by_hand(self, start, size: int, value: bool) -> None:
        part = tuple(slice(n, n + size) for n in start)
        self.mask[part] = value

    @precondition(lambda self: self.history)
    @rule(by_caller=st.booleans())
    def undo(self, by_caller: bool) -> None:
        changed, lesion, self.made, self.clicked = self.history.pop()
        wanted = self.mask.copy()
        wanted[changed & (self.mask == lesion)] = not lesion
        # The caller may have undone it in its own mask already.
        handed = wanted if by_caller else self.mask
        change = self.session.undo(handed)
        assert change is not None
        np.testing.assert_array_equal(self.session.mask, wanted)
        self.agrees(change, wanted != handed, not lesion)
        self.mask = wanted

    @rule()
    def renew(self) -> None:
        self.session.renew(self.mask)

    @rule(threshold=st.sampled_from([0.2, 0.5, 0.9]))
    def change_threshold(self, threshold: float) -> None:
        self.session.change_threshold(threshold)

    @invariant()
    def clicks_are_known(self) -> None:
        if hasattr(self, "session"):
            known = {click.voxel: click.lesion for click in self.session.clicks}
            assert known == self.clicked
            for voxel, lesion in known.items():
                if self.mask[voxel] == self.made[voxel]:
                    assert self.mask[voxel] == lesion, "at one voxel the later click wins"


def run_sessions(machine: type[Sessions], number: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=number,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_contract_of_a_click_holds_in_random_sessions() -> None:
    run_sessions(Sessions, SESSIONS)


class NetworkAnswers:
    """The network's own answers on the template's head, in which a dark ball lies; counted."""

    def __init__(self) -> None:
        head = upsample_linear(template_head().array)
        k, j, i = np.ogrid[tuple(slice(0, n) for n in MNI_GRID.shape)]
        ball = (k - 78) ** 2 + (j - 112) ** 2 + (i - 112) ** 2 < 15**2
        volume = Volume(np.where(ball, 0.25 * head, head).astype(np.float32), MNI_GRID.affine)
        options = SegmentOptions(device="cpu", precision="float32")
        predictor = WholeHeadPredictor(load_model(), options)
        ready = before_network(volume, predictor, alignment=AS_IT_LIES)
        assert tuple(ready.prepared.start) == START
        self.network = ClickNetwork(predictor, ready.prepared)
        self.first = self.network.head((), None)
        self.calls: list[tuple[Box, list]] = []

    def cube(self, box: Box, clicks: Sequence, previous: np.ndarray) -> np.ndarray:
        self.calls.append((box, list(clicks)))
        return self.network.cube(box, clicks, previous)

    def head(self, clicks: Sequence, previous: np.ndarray | None):
        if not clicks and previous is None:
            return tuple(part.copy() for part in self.first)
        return self.network.head(clicks, previous)


def test_the_contract_of_a_click_holds_with_the_network() -> None:
    answers = NetworkAnswers()

    class OnTheNetwork(Sessions):
        def answers_for(self, seed: int, share: float) -> NetworkAnswers:
            return answers

    for _ in range(5):  # so few sessions may do without a click that asks the network
        run_sessions(OnTheNetwork, NETWORK_SESSIONS)
        if answers.calls:
            return
    raise AssertionError("no click of these sessions asked the network")
