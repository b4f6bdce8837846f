"""Clicks: the slice that was clicked at once, then its neighbours, outwards until nothing changes.

A slice's answer depends only on the scan, the disks in it and the slice's previous probability.
Clicks are worked out in the order in which they were made; moving or removing one starts over, and
answers that are still valid are not computed twice.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..inference.views import VIEW_AXES
from .background import Background
from .brush import footprint
from .guidance import (
    DISK_RADIUS,
    Disk,
    Tissue,
    carried_on,
    channels,
    correction,
    level,
    onward,
    within_reach,
)
from .planes import Plane
from .regions import along, slabs, true_box, whole_box
from .scan import EditedScan, to_canonical_grid
from .spread import log_odds
from .surroundings import Surroundings
from .types import EMPTY, Box, Click, extents, intersect, is_empty, join, outside, within
from .visible import on_slice, predict_slice, slice_box

#: Around a click everything is as clicked, whatever the network says.
OBEYED_MM = 2.0
# Answers kept for when a click is moved or removed (60 KB each).
_KEPT_ANSWERS = 400
# A correction goes no further than this, and no further to either side than its own width allows:
# half of it for what is added (lesions are about as deep as wide, and a network that was trained to
# obey would go on beyond their end), all of it for what is taken away.
_FURTHEST_MM = 40.0
_WIDTHS = {True: 0.5, False: 1.0}
_GRACE_MM = 1.0
# Pieces of results are of about so many voxels at most, if they are not of one answer.
_PIECE_VOXELS = 200_000
# A starting mask is handed on as sure, but not beyond doubt.
_SURE, _BLUR_MM = 0.9, 1.0


class Guided:
    """The clicks of a session and what has been worked out of them.

    Attributes
    ----------
    clicks: in order. start: (K, J, I) bool, native, the mask that clicks correct; None for the
        model's own answer. threshold: where the model's own answer is cut.
    """

    def __init__(self, scan: EditedScan) -> None:
        self.scan = scan
        self.clicks: list[Click] = []
        self.start: NDArray[np.bool_] | None = None
        self.threshold = scan.point.threshold
        self._start_soft: NDArray[np.float32] | None = None
        self._influence: NDArray[np.uint8] | None = None
        self._value: NDArray[np.float16] | None = None
        self._reached: Box = EMPTY  # canonical: where there is influence
        self._answers: OrderedDict[tuple, NDArray[np.float16]] = OrderedDict()
        self._starts = 0
        self._around = Surroundings(
            scan,
            self._model_odds,
            self._answered_odds,
            self._odds_at,
            lambda: (self._starts, self.threshold),
        )
        self._last: tuple[Click, bool] | None = None  # what was changed last; false if removed
        self._outdated: Box = EMPTY  # native: of results that were given up
        self.behind = False  # clicks that had been worked out have to be worked out anew
        self._reset()

    # --- clicks

    def add(self, click: Click) -> None:
        self.clicks.append(click)
        self._queue.append(click)
        self._last = click, True

    def move(self, old: Click, new: Click) -> None:
        self._give_up()
        self.clicks[self.clicks.index(old)] = new
        self._reset()
        self._last = new, True

    def remove(self, click: Click) -> None:
        self._give_up()
        self.clicks.remove(click)
        self._reset()
        self._last = click, False

    def start_from(self, mask: NDArray[np.bool_] | None) -> None:
        self._give_up()
        self._outdated = whole_box(self.scan.grid.shape)
        self._starts += 1
        self.start, self._start_soft = None, None
        if mask is not None:
            from scipy.ndimage import gaussian_filter

            self.start = np.array(mask, dtype=bool)
            soft = to_canonical_grid(self.scan, mask.astype(np.float32))
            soft = gaussian_filter(soft, _BLUR_MM)
            soft *= np.float32(2 * _SURE - 1)
            soft += np.float32(1 - _SURE)
            self._start_soft = soft
        self._reset()

    def use_threshold(self, threshold: float | None) -> None:
        threshold = self.threshold if threshold is None else float(threshold)
        if not 0 < threshold <= 1:
            raise ValueError(f"a threshold must be above 0 and at most 1, not {threshold}")
        if threshold != self.threshold:
            self.threshold = threshold
            if self.start is None and self.clicks:
                self._give_up()
                self._outdated = whole_box(self.scan.grid.shape)
                self._reset()

    def redo(self) -> None:
        """Work everything out anew, for when the model's own answer has changed."""
        if self.clicks:
            self._give_up()
            self._reset()

    def _give_up(self) -> None:
        self._outdated = join(self._outdated, self._touched())

    def _touched(self) -> Box:
        """The native box of all that clicks have changed."""
        box = self._native_box(join(self._reached, self.heard()))
        for click in self.clicks:
            box = join(box, self._ball(click)[0])
        return box

    def _native_box(self, box: Box) -> Box:
        """The native box of a canonical one, which may be empty."""
        return EMPTY if is_empty(box) else self.scan.native.parts.native_box(box)

    def _reset(self) -> None:
        self._known: list[Click] = []  # those that had been made when the one at work was made
        self._disks: dict[tuple[str, int], list[Disk]] = {}
        self._own: dict[tuple[str, int], NDArray[np.bool_]] = {}
        self._queue = deque(self.clicks)
        self.behind = bool(self.clicks)
        self._steps: Iterator[Box] | None = None
        if self._influence is not None and not is_empty(self._reached):
            self._influence[self._reached] = 0
        self._reached = EMPTY
        self._told: dict[int, tuple[float, ...]] = {}  # what each click has said, by its id

    def _ball(self, click: Click) -> tuple[Box, NDArray[np.bool_]]:
        """The native voxels that obey a click in any case: around it, and the nearest."""
        grid = self.scan.grid
        ras = np.array(click.ras_mm)
        box, inside = footprint(grid, ras, OBEYED_MM, None)
        nearest = self._nearest(click)
        if not all(0 <= n < size for n, size in zip(nearest, grid.shape, strict=True)):
            return box, inside
        own = tuple(slice(int(n), int(n) + 1) for n in nearest)
        both = join(box, own)  # type: ignore[arg-type]
        result = np.zeros(extents(both), bool)
        result[within(box, both)] = inside
        result[within(own, both)] = True  # type: ignore[arg-type]
        return both, result

    def _nearest(self, click: Click) -> NDArray[np.int_]:
        """Native (k, j, i) of the voxel that a click lies nearest to, on the grid or beyond it."""
        return np.rint(self.scan.index_of(np.array(click.ras_mm))).astype(int)[::-1]

    # --- results on the native grid

    def mask(self, box: Box) -> NDArray[np.uint8]:
        """What clicks and model, or starting mask, say in ``box``: uint8 of its shape."""
        result = self._before(box) >= 0.5
        self._obey(box, result)
        return result.view(np.uint8)

    def whole(self) -> tuple[Box, NDArray[np.uint8]]:
        """All that is marked, in the smallest box that holds it."""
        native = self.scan.native
        if self.start is not None:
            box = true_box(self.start)
        else:
            box = native.searched
            inner = true_box(native.values[box] >= self.threshold)
            box = EMPTY if is_empty(inner) else outside(inner, box)
        box = join(box, self._touched())
        if is_empty(box):
            return EMPTY, np.zeros((0, 0, 0), np.uint8)
        mask = self.mask(box)
        inner = true_box(mask != 0)
        return outside(inner, box) if not is_empty(inner) else EMPTY, mask[inner]

    def _obey(self, box: Box, result: NDArray[np.bool_]) -> None:
        for click in self.clicks:
            ball, inside = self._ball(click)
            shared = intersect(ball, box)
            if not is_empty(shared):
                part = result[within(shared, box)]
                part[inside[within(shared, ball)]] = click.positive

    def _before(self, box: Box) -> NDArray[np.float32]:
        """Native field of ``box``, cut at one half: corrections over the first answer."""
        native = self.scan.native
        if self.start is not None:
            result = np.where(self.start[box], np.float32(_SURE), np.float32(1 - _SURE))
        else:
            if np.prod(extents(box)) < 1_000_000:
                native.refresh(box)
            result = level(native.values[box], self.threshold)
        result = np.array(result)
        shared = intersect(self._native_box(join(self._reached, self.heard())), box)
        if is_empty(shared):
            return result
        needs = native.parts.canonical_box(shared)
        odds, touched = self._around.odds(self.clicks, needs)
        field = 1 / (1 + np.exp(-odds))
        there = native.parts.from_part(touched.astype(np.float32), shared) > 1e-3
        part = result[within(shared, box)]
        part[there] = native.parts.from_part(field, shared)[there]
        return result

    def heard(self) -> Box:
        """The canonical box in which clicks say anything of their surroundings; may be empty."""
        return self._around.reach(self.clicks)

    def clues(self) -> tuple[Box, NDArray[np.float32], NDArray[np.float32]]:
        """See ``EditingSession.clues``."""
        box = self.heard()
        return box, *self._around.clues(self.clicks, box)

    def _model_odds(self, box: Box) -> NDArray[np.float32]:
        return log_odds(self._source()[box], self._cut())

    def _answered_odds(self, box: Box) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if self._influence is None or self._value is None:
            return np.zeros(extents(box), np.float32), np.zeros(extents(box), bool)
        answered = self._influence[box] != 0
        return log_odds(self._value[box].astype(np.float32), 0.5), answered

    def _odds_at(self, click: Click) -> float:
        """The model's own log odds, or those of the starting mask, where a click lies."""
        at = np.clip(self._nearest(click), 0, np.array(self.scan.grid.shape) - 1)
        voxel = tuple(slice(int(n), int(n) + 1) for n in at)
        if self.start is not None:
            value = np.array([_SURE if self.start[voxel].any() else 1 - _SURE], np.float32)
        else:
            self.scan.native.refresh(voxel)  # type: ignore[arg-type]
            value = self.scan.native.values[voxel].reshape(-1)
        return float(log_odds(value, self._cut())[0])

    def _source(self) -> NDArray[np.float32]:
        return self.scan.background.mean if self._start_soft is None else self._start_soft

    def _cut(self) -> float:
        return self.threshold if self._start_soft is None else 0.5

    # --- at once

    def visible(self) -> tuple[Box, NDArray[np.uint8]]:
        """See ``EditingSession.refine_visible``."""
        nothing = EMPTY, np.zeros((0, 0, 0), np.uint8)
        if self._last is None:
            return nothing
        scan, (last, there) = self.scan, self._last
        axis = last.axis
        index = round(float(scan.index_of(np.array(last.ras_mm))[2 - axis]))
        if not 0 <= index < scan.grid.shape[axis]:
            return nothing
        box = slice_box(scan, axis, index)
        if self.start is None:
            predict_slice(scan, axis, index)
        here = [
            click
            for click in self.clicks
            if round(float(scan.index_of(np.array(click.ras_mm))[2 - axis])) == index
        ]
        field = self._before(box)
        changed = self._ball(last)[0] if there else self._outdated
        if here:
            corrected = self._in_plane(axis, index, box, here, field)
            changed = join(changed, outside(true_box(corrected), box))
        for click in here:
            changed = join(changed, self._ball(click)[0])
        changed = intersect(join(changed, self._native_box(self.heard())), box)
        if is_empty(changed):
            return nothing
        result = (field >= 0.5)[within(changed, box)]
        self._obey(changed, result)
        return changed, np.ascontiguousarray(result).view(np.uint8)

    def _in_plane(
        self, axis: int, index: int, box: Box, here: list[Click], field: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Correct ``field`` (of the native slice ``box``) in place; what of it was corrected."""
        scan = self.scan
        plane = scan.slice_plane(axis, index)
        none = np.zeros(field.shape, bool)
        if plane is None:
            return none
        disks = []
        for click in here:
            place = plane.place(self.scan.place_of(click))
            disks.append(Disk(*(round(float(p)) for p in place[:2]), click.positive, True))
        disks = _on(disks, plane)
        if not disks:
            return none
        previous = self._previous_on(plane, box)
        answer = scan.background.ask([plane], channels(plane.shape, disks, previous))[0]
        values = on_slice(scan, plane, answer, axis, index)
        values = np.where(values < 0, field, values)
        marks = {sign: np.zeros(field.shape, bool) for sign in (True, False)}
        squares = [self._squared_distance(click, box) for click in self.clicks]
        for click, square in zip(self.clicks, squares, strict=True):
            if click in here:
                near = square <= max(DISK_RADIUS**2, float(square.min()) + 1e-6)
                marks[click.positive] |= near
        signs = [click.positive for click in self.clicks]
        values = within_reach(values, field, zip(squares, signs, strict=True))
        flat = [np.squeeze(a, axis) for a in (values, field, marks[True], marks[False])]
        corrected = np.expand_dims(correction(*flat), axis)
        field[corrected] = values[corrected]
        return corrected

    def _squared_distance(self, click: Click, box: Box) -> NDArray[np.float64]:
        """Squared mm from a click to each native voxel of ``box``."""
        affine, ras = self.scan.grid.affine, click.ras_mm
        return sum(along(affine[n, :3], affine[n, 3] - ras[n], box) ** 2 for n in range(3))  # type: ignore[return-value]

    def _previous_on(self, plane: Plane, box: Box) -> NDArray[np.float32]:
        """The previous probability on a plane: starting mask, or the model without clicks."""
        background = self.scan.background
        if self._start_soft is not None:
            return plane.sample(self._start_soft)
        if plane.index is None and self.scan.native.valid(box).all():
            return plane.sample(background.mean)
        return background.predict(plane)

    # --- and then through the volume

    def more(self, milliseconds: float) -> tuple[Box, NDArray[np.uint8]] | None:
        """See ``EditingSession.refine_more``."""
        started, calls = time.perf_counter(), self.scan.network.calls
        changed, worked = EMPTY, False
        while True:
            step = self._step()
            if step is None:
                break
            worked = True
            changed = join(changed, step)
            if np.prod(extents(changed)) >= _PIECE_VOXELS:
                break
            called = self.scan.network.calls - calls
            expected = self.scan.network.seconds if called else 0.0
            if (time.perf_counter() - started + expected) * 1000 > milliseconds:
                break
        if not worked:
            if is_empty(self._outdated):
                self.behind = False
                return None
            # What clicks had changed before they were moved or taken back.
            changed, *rest = slabs(self._outdated, _PIECE_VOXELS)
            self._outdated = (
                EMPTY if not rest else (slice(rest[0][0].start, rest[-1][0].stop), *changed[1:])
            )
        return changed, self.mask(changed)

    def _step(self) -> Box | None:
        """One step further; the native box that may have changed, None at the end."""
        while True:
            if self._steps is None:
                if not self._queue:
                    return None
                self._steps = self._work_out(self._queue.popleft())
            step = next(self._steps, None)
            if step is not None:
                return step
            self._steps = None

    def _work_out(self, click: Click) -> Iterator[Box]:
        """Work out one click; yields the native boxes that have changed."""
        yield self._ball(click)[0]
        yield from self._answered(click)
        yield from slabs(self._newly_spread(), _PIECE_VOXELS)

    def _newly_spread(self) -> Box:
        """The native box in which clicks say something else of their surroundings than before."""
        told, self._told = self._told, self._around.says(self.clicks)
        box = EMPTY
        for click in self.clicks:
            old = told.get(click.id)
            if old is None or not np.allclose(old, self._told[click.id], atol=1e-3):
                box = join(box, self._around.reach([click]))
        return self._native_box(box)

    def _answered(self, click: Click) -> Iterator[Box]:
        """Ask the network about the clicked slice, and carry its answer on."""
        scan = self.scan
        view = scan.slice_view(click.axis)
        axis = VIEW_AXES[view]
        yield from self._wait_for(view)
        self._known = self.clicks[: self.clicks.index(click) + 1]
        place = self.scan.place_of(click)
        first = round(float(place[2 - axis]))
        if not 0 <= first < scan.background.t1.shape[axis]:
            return
        plane = scan.background.plane(view, first)
        row, column, _ = plane.place(place)
        disk = Disk(round(float(row)), round(float(column)), click.positive, True)
        if not _on([disk], plane):
            return
        before = self._field(view, first)
        # What another click has carried here gives way to what a person says.
        key = (view, first)
        self._disks[key] = [
            old
            for old in self._disks.get(key, [])
            if old.real
            or old.positive == disk.positive
            or np.hypot(old.row - disk.row, old.column - disk.column) > 2 * DISK_RADIUS
        ]
        self._disks[key].append(disk)
        answer, accepted = self._asked(view, first, before)
        yield self._paste(view, first, accepted, answer)
        corrected = accepted & _turned(answer, before, click.positive)
        area = int(corrected.sum())
        if not area:
            return
        tissue = Tissue.of(plane.sample(scan.background.t1), corrected)
        width = 2 * np.sqrt(area / np.pi)
        furthest = min(_FURTHEST_MM, _GRACE_MM + _WIDTHS[click.positive] * width)
        for direction in (1, -1):
            yield from self._carry(view, first, direction, corrected, tissue, click, furthest)

    def _carry(
        self,
        view: str,
        first: int,
        direction: int,
        corrected: NDArray[np.bool_],
        tissue: Tissue,
        click: Click,
        furthest: float,
    ) -> Iterator[Box]:
        """Carry a correction on from slice to slice."""
        background = self.scan.background
        size = background.t1.shape[VIEW_AXES[view]]
        for distance in range(1, int(furthest) + 1):
            index = first + direction * distance
            if not 0 <= index < size:
                return
            before = self._field(view, index)
            t1 = background.plane(view, index).sample(background.t1)
            disk = onward(corrected, before, t1, tissue, click.positive)
            if disk is None or any(
                old.real
                and old.positive != disk.positive
                and np.hypot(old.row - disk.row, old.column - disk.column) <= 2 * DISK_RADIUS
                for old in self._disks.get((view, index), [])
            ):
                return
            disks = self._disks.setdefault((view, index), [])
            disks.append(disk)
            answer, accepted = self._asked(view, index, before)
            turned = accepted & _turned(answer, before, click.positive)
            if not carried_on(turned, corrected, disk) or not tissue.stands_out(t1, turned):
                disks.remove(disk)
                return
            yield self._paste(view, index, accepted, answer)
            corrected = turned

    def _wait_for(self, view: str) -> Iterator[Box]:
        """Predict what clicks in this view build on, unless single slices of it will do."""
        background = self.scan.background
        if self._start_soft is not None or background.is_own(view):
            return
        while (todo := background.next_slices(None, 1)) is not None:
            background.run(*todo)
            yield EMPTY

    def _field(self, view: str, index: int) -> NDArray[np.float32]:
        """A canonical slice of the field, cut at one half, as its plane shows it."""
        background: Background = self.scan.background
        plane = background.plane(view, index)
        if self._start_soft is None and background.is_own(view):
            background.own_slice(view, index)
        field = level(plane.sample(self._source()), self._cut())
        if self._influence is not None and self._value is not None:
            axis = VIEW_AXES[view]
            influence = np.moveaxis(self._influence, axis, 0)[index]
            here, there = plane.window(influence.shape)
            value = np.moveaxis(self._value, axis, 0)[(index, *there)]
            field = np.array(field)
            field[here] = np.where(influence[there] != 0, value.astype(np.float32), field[here])
        return field

    def _asked(
        self, view: str, index: int, before: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The network's answer to the disks of a canonical slice, and where it counts."""
        plane = self.scan.background.plane(view, index)
        squares = [
            (plane.squared_distance(self.scan.place_of(click)), click.positive)
            for click in self._known
            for click in self._known
        ]
        answer = within_reach(self._answer(view, index, plane), before, squares)
        marks = {sign: np.zeros(plane.shape, bool) for sign in (True, False)}
        for disk in self._disks[(view, index)]:
            marks[disk.positive] |= disk.mask(plane.shape)
        corrected = correction(answer, before, marks[True], marks[False])
        searched = np.zeros(plane.shape, bool)
        searched[plane.wanted] = True
        return answer, corrected & searched

    def _answer(self, view: str, index: int, plane: Plane) -> NDArray[np.float32]:
        background = self.scan.background
        disks = self._disks[(view, index)]
        key = (
            *(view, index, self._starts, background.version),
            tuple((d.row, d.column, d.positive) for d in disks),
        )
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key].astype(np.float32)
        if self._start_soft is not None:
            previous = plane.sample(self._start_soft)
        else:
            previous = background.own_slice(view, index)[1]
        answer = background.ask([plane], channels(plane.shape, disks, previous))[0]
        answer = answer.astype(np.float16)
        self._answers[key] = answer
        while len(self._answers) > _KEPT_ANSWERS:
            self._answers.popitem(last=False)
        return answer.astype(np.float32)

    def _paste(
        self, view: str, index: int, corrected: NDArray[np.bool_], answer: NDArray[np.float32]
    ) -> Box:
        """Take up an answer where it counts; the native box that has changed."""
        plane = self.scan.background.plane(view, index)
        # What this slice's disks have corrected before has the newest answer now.
        corrected = corrected | self._own.get((view, index), False)
        self._own[(view, index)] = corrected
        rows, columns = corrected.any(axis=1).nonzero()[0], corrected.any(axis=0).nonzero()[0]
        if not rows.size:
            return EMPTY
        if self._influence is None or self._value is None:
            self._influence = np.zeros(self.scan.background.t1.shape, np.uint8)
            self._value = np.zeros(self.scan.background.t1.shape, np.float16)
        axis = VIEW_AXES[view]
        influence = np.moveaxis(self._influence, axis, 0)[index]
        value = np.moveaxis(self._value, axis, 0)[index]
        here, there = plane.window(influence.shape)
        influence[there] |= corrected[here]
        value[there] = np.where(corrected[here], answer[here], value[there])
        inplane = [a for a in range(3) if a != axis]
        parts = [slice(index, index + 1)] * 3
        for a, places, start in zip(inplane, (rows, columns), plane.corner, strict=True):
            parts[a] = slice(int(places[0]) + start, int(places[-1]) + 1 + start)
        box = intersect(parts, whole_box(self._influence.shape))
        self._reached = join(self._reached, box)
        return self.scan.native.parts.native_box(box)


def _turned(
    answer: NDArray[np.float32], before: NDArray[np.float32], positive: bool
) -> NDArray[np.bool_]:
    """Where an answer turns no into yes, or, for negative clicks, yes into no."""
    if positive:
        return (answer >= 0.5) & (before < 0.5)
    return (answer < 0.5) & (before >= 0.5)


def _on(disks: list[Disk], plane: Plane) -> list[Disk]:
    """The disks whose middle lies on a plane."""
    rows, columns = plane.shape
    return [d for d in disks if 0 <= d.row < rows and 0 <= d.column < columns]
