"""The session behind every correction of one scan's mask: effects, robot and Python call it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import (
    EMPTY,
    Box,
    bounding_box,
    extents,
    intersect,
    is_empty,
    outside,
    whole_box,
    within,
)
from ..brief import brief_repr
from ..errors import InputError
from ..images.volume import Grid, Volume
from ..inference.head_box import HEAD_SHAPE, at_1_mm
from ..operating_point import OperatingPoint
from .change import Change, Click, Voxel
from .head_probability import HeadProbability, Patch, cube_about, reaches_face, stamps
from .merge_rule import merge_around
from .network import Answers, Place, is_whole, whole_head

if TYPE_CHECKING:
    from ..images import Alignment
    from ..inference import SegmentOptions
    from ..inference.progress import Cancel, Progress
    from ..models import LoadedModel
    from .head_map import HeadMap

# What is painted where the model has nothing to say, in mm around the click.
_BALL_MM = 2.0
# Old steps are forgotten beyond so many bytes of probability that they keep.
_HISTORY_BYTES = 200_000_000


@dataclass(frozen=True, eq=False)
class _Step:
    """What undo needs: the change, what the session had there before, clicks and probability."""

    change: Change
    made: NDArray[np.bool_]
    clicks: dict[Voxel, bool]
    patch: Patch | None

    __repr__ = brief_repr


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a scan before its first click.

    Attributes
    ----------
    mask: what is to be corrected, (K, J, I); None for the automatic mask.
    probability: what the model said of this scan, (K, J, I); None asks the model.
    alignment: of the scan; None finds it, as the session's options say.
    warnings: one sentence each.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import Known
    >>> Known(mask=np.zeros((4, 4, 4), bool)).probability is None
    True
    """

    mask: NDArray[Any] | None = None
    probability: NDArray[np.floating[Any]] | None = None
    alignment: Alignment | None = None
    warnings: tuple[str, ...] = ()

    __repr__ = brief_repr


class CorrectionSession:
    """Corrects the lesion mask of one scan by clicks and strokes.

    Arrays are (K, J, I) on the native grid ``grid``; voxels are (k, j, i) on it. A click asks the
    network about the cube of 96 mm around it, with all clicks so far and with what was answered
    before; the rule in ``merge`` decides what of the answer changes the mask. A session is used
    from one thread.

    Callers that keep the mask themselves hand it in with every call: voxels in which it differs
    from what the session made are held as painted or erased by hand. Callers that do not read
    ``mask``.

    Attributes
    ----------
    grid: the native grid. alignment: of the scan; one with ``ok`` false was not used.
    warnings: one sentence each.
    recommended: the operating point that the model recommends.
    point: the same at the threshold of now, which is where answers to clicks are cut, too.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import CorrectionSession
    >>> from StrokeLesionSegLib.models import load_model
    >>> session = CorrectionSession.open(volume, load_model())  # doctest: +SKIP
    >>> session.click((90, 110, 70), lesion=True).sentence  # doctest: +SKIP
    '1.40 mL added.'
    """

    def __init__(
        self,
        grid: Grid,
        head: HeadMap,
        answers: Answers,
        point: OperatingPoint,
        known: Known | None = None,
    ) -> None:
        known = known or Known()
        self.grid, self.recommended, self.point = grid, point, point
        self.alignment, self.warnings = known.alignment, known.warnings
        self._head, self._answers = head, answers
        self._clicks: dict[Voxel, bool] = {}
        self._steps: deque[_Step] = deque()
        self._uncertainty: NDArray[np.float32] | None = None
        if known.probability is None:
            values, self._uncertainty = answers.head((), None)
            self._probability = HeadProbability(head, values)
        else:
            before = _shaped(known.probability, grid.shape, "probability")
            self._probability = HeadProbability.from_native(head, before)
        mask = known.mask
        first = self.automatic_mask() if mask is None else _shaped(mask, grid.shape, "mask") != 0
        self._mask = np.array(first, bool, order="C")
        self._made = self._mask.copy()

    @classmethod
    def open(
        cls,
        volume: Volume,
        model: LoadedModel,
        known: Known | None = None,
        *,
        options: SegmentOptions | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> CorrectionSession:
        """A session on ``volume``, a T1 on any grid, of which some may be ``known``.

        Raises ``InputError`` for a model that does not answer clicks and for a scan that cannot be
        used, ``Cancelled`` if told so, ``ValueError`` for arrays of another shape.
        """
        from ..inference import SegmentOptions, before_network
        from ..inference.whole_head import WholeHeadPredictor
        from .head_map import HeadMap
        from .network import ClickNetwork

        check_model(model)
        known = known or Known()
        for name, array in (("mask", known.mask), ("probability", known.probability)):
            if array is not None:
                _shaped(array, volume.array.shape, name)
        predictor = WholeHeadPredictor(model, options or SegmentOptions())
        ready = before_network(
            volume, predictor, alignment=known.alignment, progress=progress, cancel=cancel
        )
        canonical = ready.placed.canonical
        assert canonical is not None  # the predictor works on the canonical grid
        return cls(
            volume.grid,
            HeadMap(canonical, ready.prepared.start),
            ClickNetwork(predictor, ready.prepared),
            model.manifest.operating_point(),
            replace(known, alignment=ready.found, warnings=(*known.warnings, *ready.warnings)),
        )

    # --- what is known -------------------------------------------------------------------------

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask as the session knows it: bool, read-only."""
        return _read_only(self._mask)

    @property
    def made(self) -> NDArray[np.bool_]:
        """The mask without what hands have painted or erased: bool, read-only."""
        return _read_only(self._made)

    @property
    def clicks(self) -> tuple[Click, ...]:
        """All clicks, in their order; of several on one voxel the last."""
        return tuple(Click(voxel, lesion) for voxel, lesion in self._clicks.items())

    @property
    def steps(self) -> int:
        """How many clicks and strokes ``undo`` can take back."""
        return len(self._steps)

    @property
    def probability(self) -> NDArray[np.float32]:
        """What the model says by now, knowing the clicks: float32, read-only."""
        return _read_only(self._probability.native)

    @property
    def uncertainty(self) -> NDArray[np.float32] | None:
        """Standard deviation over the passes of the last ``renew``; None before the first."""
        if self._uncertainty is None:
            return None
        return _read_only(self._head.all_to_native(self._uncertainty))

    def automatic_mask(self) -> NDArray[np.bool_]:
        """The probability at the operating point: bool, a new array."""
        from ..lesions import find_lesions

        return find_lesions(self.probability, self.grid.affine, self.point).mask != 0

    def voxel_at(self, ras_mm: Sequence[float]) -> Voxel:
        """The voxel nearest to a place in RAS mm; raises ``InputError`` outside of the scan."""
        index = np.linalg.inv(self.grid.affine) @ np.array([*ras_mm, 1.0])
        k, j, i = (int(n) for n in np.rint(index[2::-1]))
        self._check((k, j, i))
        return k, j, i

    # --- corrections ---------------------------------------------------------------------------

    def click(self, voxel: Voxel, lesion: bool, mask: NDArray[Any] | None = None) -> Change:
        """Say that ``voxel`` is lesion or is not; see ``merge`` for what then changes.

        ``mask``: as it is now, if others may have changed it. Raises ``InputError`` for a voxel
        outside of the scan and ``ValueError`` for a mask of another shape; then nothing happens.
        """
        return self.stroke([voxel], lesion, mask)

    def stroke(
        self, voxels: Sequence[Voxel], lesion: bool, mask: NDArray[Any] | None = None
    ) -> Change:
        """Many clicks of one kind as one step, answered by one call of the network."""
        places = [(int(k), int(j), int(i)) for k, j, i in voxels]
        for voxel in places:
            self._check(voxel)
        self._take(mask)
        if not places:
            return Change.none(lesion)
        before = dict(self._clicks)
        wrong = [voxel for voxel in dict.fromkeys(places) if self._mask[voxel] != lesion]
        for voxel in places:
            self._clicks.pop(voxel, None)  # what is said last stands last
            self._clicks[voxel] = lesion
        change, patch = Change.none(lesion), None
        if wrong:
            change, patch = self._answered(wrong, lesion, before)
        made = self._made[change.box][change.changed]
        self._steps.append(_Step(change, made, before, patch))
        self._forget()
        self._set(change, lesion)
        return change

    def settle(self, there: NDArray[Any]) -> Change:
        """Say what the mask holds, in the box of its change, after the last click or stroke, where
        others have the last word; returns what was changed.

        What they kept out is not held as painted or erased by hand.
        """
        step = self._steps[-1]
        change = step.change
        out = change.changed & ((np.asarray(there) != 0) != change.lesion)
        if not out.any():
            return change
        made = np.zeros(out.shape, bool)
        made[change.changed] = step.made
        self._mask[change.box][out] = not change.lesion
        self._made[change.box][out] = made[out]
        taken = change.changed & ~out
        box = bounding_box(taken)
        if box is None:
            return Change.none(change.lesion)
        by_model = min(change.model_voxels, int(np.count_nonzero(taken)))
        found = np.ascontiguousarray(taken[box])
        return self._as_change(
            outside(box, change.box), found, change.lesion, by_model, change.whole_head
        )

    def undo(self, mask: NDArray[Any] | None = None) -> Change | None:
        """Take the last click or stroke back; None if there is none.

        Voxels that were painted or erased since stay so. ``mask`` may be as it was before the
        click already (by an undo of the caller's own): what the session knows follows.
        """
        self._take(mask)
        if not self._steps:
            return None
        step = self._steps.pop()
        change, lesion = step.change, step.change.lesion
        back = change.changed & (self._mask[change.box] == lesion)
        self._mask[change.box][back] = not lesion
        self._made[change.box][change.changed] = step.made
        self._clicks = dict(step.clicks)
        if step.patch is not None:
            self._probability.put_back(step.patch)
        return self._as_change(change.box, back, not lesion, 0, False)

    def renew(self, mask: NDArray[Any] | None = None) -> None:
        """Ask about the whole head anew: probability and uncertainty change, the mask does not."""
        self._take(mask)
        clicks = self._stamps()
        previous = self._agreed(whole_box(HEAD_SHAPE)) if clicks else None
        values, self._uncertainty = self._answers.head(clicks, previous)
        self._probability = HeadProbability(self._head, values)
        # What earlier steps kept belongs to another answer.
        self._steps = deque(_Step(s.change, s.made, s.clicks, None) for s in self._steps)

    def start_from(self, mask: NDArray[Any]) -> None:
        """Correct this mask from now on; none of it counts as painted by hand. Clicks stay."""
        self._mask = np.array(_shaped(mask, self.grid.shape, "mask") != 0, bool, order="C")
        self._made = self._mask.copy()
        self._steps.clear()

    def restore(self, clicks: Sequence[Click], mask: NDArray[Any]) -> None:
        """Go on from these clicks, those of another moment, and from the mask of that moment.

        None of what the mask changes by this counts as painted by hand, and nothing of it can be
        undone here. Clicks outside of the scan are left out.
        """
        before = self._mask
        self._take(mask)
        changed = self._mask != before
        self._made[changed] = self._mask[changed]
        inside = [c for c in clicks if self._inside(c.voxel)]
        self._clicks = {c.voxel: c.lesion for c in inside}
        self._steps.clear()

    def for_mask(
        self, mask: NDArray[Any], probability: NDArray[np.floating[Any]]
    ) -> CorrectionSession:
        """A session for another mask of the same scan, without clicks; costs no network call.

        ``probability``: what the model said of the scan, (K, J, I). That of this session knows its
        clicks.
        """
        return CorrectionSession(
            self.grid,
            self._head,
            self._answers,
            self.recommended,
            Known(mask, probability, self.alignment, self.warnings),
        )

    def change_threshold(self, threshold: float) -> None:
        """Cut at another probability from now on; the mask stays as it is.

        Raises ``ValueError`` for one outside (0, 1].
        """
        own = self.recommended
        self.point = OperatingPoint.at(
            threshold, own.second_threshold, own.min_volume_ml, own.min_mean_probability
        )

    # --- within ---------------------------------------------------------------------------------

    def _inside(self, voxel: Voxel) -> bool:
        return all(0 <= n < size for n, size in zip(voxel, self.grid.shape, strict=True))

    def _check(self, voxel: Voxel) -> None:
        if not self._inside(voxel):
            raise InputError(
                "click", f"voxel {voxel} is outside the scan", "Click inside the image"
            )

    def _take(self, mask: NDArray[Any] | None) -> None:
        if mask is not None:
            self._mask = np.array(_shaped(mask, self.grid.shape, "mask") != 0, bool, order="C")

    def _set(self, change: Change, lesion: bool) -> None:
        for array in (self._mask, self._made):
            array[change.box][change.changed] = lesion

    def _answered(
        self, wrong: list[Voxel], lesion: bool, before: dict[Voxel, bool]
    ) -> tuple[Change, Patch | None]:
        """What clicks on voxels that the mask has otherwise change; and the probability before,
        which the answer has replaced."""
        box = cube_about(self._head, wrong)
        if box is None:  # beyond what the network sees: only what is painted
            found = self._merged(wrong, lesion, before, None, None)
            return self._as_change(*found[:2], lesion, found[2], False), None
        answer = self._ask(box, wrong)
        found = self._merged(wrong, lesion, before, box, answer)
        if not is_whole(box) and reaches_face(self._head, *found[:2], box):
            box = whole_head()
            answer = self._ask(box, wrong)
            found = self._merged(wrong, lesion, before, box, answer)
        patch = self._probability.replace(box, answer)
        return self._as_change(*found[:2], lesion, found[2], is_whole(box)), patch

    def _stamps(self, new: Sequence[Voxel] = ()) -> list[tuple[Place, bool]]:
        """The clicks at 2 mm: the new ones, and those that the mask still bears out."""
        clicks = {v: y for v, y in self._clicks.items() if self._mask[v] == y or v in new}
        return stamps(self._head, clicks)

    def _ask(self, box: Box, new: Sequence[Voxel]) -> NDArray[np.float32]:
        return self._answers.cube(box, self._stamps(new), self._agreed(at_1_mm(box)))

    def _agreed(self, box: Box) -> NDArray[np.float32]:
        """The probability in a box of the head (1 mm), made to agree with the mask."""
        return self._probability.agreed(box, self._mask, self.point.threshold)

    def _merged(
        self,
        voxels: list[Voxel],
        lesion: bool,
        before: dict[Voxel, bool],
        box: Box | None,
        answer: NDArray[np.float32] | None,
    ) -> tuple[Box, NDArray[np.bool_], int]:
        threshold = self.point.threshold

        def held(window: Box) -> NDArray[np.bool_]:
            found = self._mask[window] != self._made[window]
            for voxel in before:
                if all(s.start <= n < s.stop for n, s in zip(voxel, window, strict=True)):
                    found[tuple(n - s.start for n, s in zip(voxel, window, strict=True))] = True
            return found

        def propose(window: Box) -> NDArray[np.bool_]:
            if box is None or answer is None:
                return self._mask[window].copy()
            part = at_1_mm(box)
            found = self._probability.with_answer(window, part, answer, self._mask, threshold)
            return found >= threshold

        def near(window: Box) -> NDArray[np.bool_]:
            found = np.zeros(extents(window), bool)
            for voxel in voxels:
                self._paint_ball(found, window, voxel)
            return found

        limit = EMPTY if box is None else self._head.native_box(at_1_mm(box))
        limit = limit if not is_empty(limit) else EMPTY
        return merge_around(self._mask, held, propose, near, voxels, lesion, limit)

    def _paint_ball(self, found: NDArray[np.bool_], window: Box, voxel: Voxel) -> None:
        columns = self.grid.affine[:3, :3]
        reach = [int(_BALL_MM / s) + 1 for s in self.grid.spacing[::-1]]
        k, j, i = (slice(n - r, n + r + 1) for n, r in zip(voxel, reach, strict=True))
        part = intersect((k, j, i), window)
        if is_empty(part):
            return
        z, y, x = np.ogrid[part]
        off = [
            row[0] * (x - voxel[2]) + row[1] * (y - voxel[1]) + row[2] * (z - voxel[0])
            for row in columns
        ]
        found[within(part, window)] |= off[0] ** 2 + off[1] ** 2 + off[2] ** 2 <= _BALL_MM**2 + 1e-6

    def _as_change(
        self, box: Box, changed: NDArray[np.bool_], lesion: bool, by_model: int, whole: bool
    ) -> Change:
        count = int(np.count_nonzero(changed))
        if not count:
            return Change.none(lesion)
        return Change(
            box, changed, lesion, count, count * self.grid.voxel_volume_ml, by_model, whole
        )

    def _forget(self) -> None:
        kept = 0
        for n, step in enumerate(reversed(self._steps)):
            kept += 0 if step.patch is None else step.patch[1].nbytes
            if kept > _HISTORY_BYTES:
                for _ in range(len(self._steps) - n):
                    self._steps.popleft()
                return


def check_model(model: LoadedModel) -> None:
    """Raises ``InputError`` for a model that does not answer clicks in three dimensions."""
    from ..inference.volumetric import takes_clicks

    if takes_clicks(model.network):
        return
    slices = model.manifest.kind == "slices"
    raise InputError(
        model.manifest.name,
        "works slice by slice and does not answer clicks" if slices else "was made without clicks",
        "Choose a volumetric model with clicks, or paint and erase by hand",
    )


def _shaped(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    array = np.asarray(array)
    if array.shape != shape:
        raise ValueError(f"a {name} of shape {array.shape} for a scan of {shape}")
    return array


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.setflags(write=False)
    return view
