"""Clicks that correct a segment: at once in their slice, then piece by piece through the others.

What a click changes in the answer of model and clicks is changed in the segment; what others drew
where the answer stays the same is left alone. A lesion under a "this is lesion" click of which the
segment holds nothing yet is taken whole, and the clicked voxels are as clicked.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box, is_empty, join
from ...errors import InputError
from ..i18n import tr as _
from . import write
from .store import Entry, SessionStore
from .target import EditTarget

# With a 3D surface shown, Slicer makes it anew at every change: the slices that follow the click's
# own are then written together, every so many seconds.
TOGETHER_S = 0.5


class ClickWork:
    """The clicks of one segment and the work that they still cause.

    Every user action (``click``, ``move``, ``remove``) is one step for undo; ``step`` goes on
    within it. All places are local RAS mm.
    """

    def __init__(
        self, effect: Any, store: SessionStore, entry: Entry, target: EditTarget, threshold: float
    ) -> None:
        self.effect, self.store, self.entry, self.target = effect, store, entry, target
        self.threshold = threshold
        self._before: NDArray[np.uint8] | None = None  # answer before the action
        self._positive: tuple[float, float, float] | None = None
        self._take_whole = False
        self._held: NDArray[np.uint8] | None = None  # the segment before, if it takes a lesion
        self._waiting: Box | None = None  # holds all that is still to be written
        self._later: NDArray[np.uint8] | None = None  # 1 remove, 2 add, 0 leave alone
        self._written = 0.0

    @property
    def working(self) -> bool:
        """Whether it is the work that is done for this session now."""
        return self.entry.work is self

    # -- actions ------------------------------------------------------------------------------

    def click(self, local: Any, positive: bool, axis: int) -> int:
        """Add a click in a slice of array axis ``axis``; returns its id.

        Raises ``CannotEdit``, and ``InputError`` if the model takes no clicks.
        """
        session, edit_grid = self.entry.session, self.entry.edit_grid
        refusal = self.target.refusal()
        if refusal:
            raise write.CannotEdit(refusal)
        if not edit_grid.inside(local):
            raise write.CannotEdit(_("The click is outside the image."))
        if not session.takes_clicks:
            raise write.CannotEdit(_("This model takes no clicks. Use the Lesion Brush."))
        index = int(np.rint(edit_grid.local_to_index(local)[axis]))
        session.predict_visible(axis, index)
        self._snapshot()
        write.begin(self.effect, self.target)
        made = session.add_click(local, positive, axis=axis)
        self._positive = made.ras_mm if positive else None
        self._start()
        return int(made.id)

    def move(self, click_id: int, local: Any) -> None:
        """Move a click. Raises ``CannotEdit``; ``KeyError`` if there is none of that id."""
        if not self.entry.edit_grid.inside(local):
            raise write.CannotEdit(_("The click is outside the image."))
        self._snapshot()
        write.begin(self.effect, self.target)
        moved = self.entry.session.move_click(click_id, local)
        self._positive = moved.ras_mm if moved.positive else None
        self._start()

    def remove(self, click_id: int) -> None:
        """Take a click back. Raises ``CannotEdit``; ``KeyError`` if there is none of that id."""
        self._snapshot()
        write.begin(self.effect, self.target)
        self.entry.session.remove_click(click_id)
        self._positive = None
        self._start()

    def clear(self) -> None:
        """Take all clicks back. Raises ``CannotEdit``."""
        self._snapshot()
        write.begin(self.effect, self.target)
        for click in self.entry.session.clicks:
            self.entry.session.remove_click(click.id)
        self._positive = None
        self._start()

    def start_from_segment(self) -> int:
        """Let clicks correct the segment as it is now; returns its voxels. Voxels stay."""
        refusal = self.target.refusal()
        if refusal:
            raise write.CannotEdit(refusal)
        if self.entry.work is not None:
            self.entry.work.stop()
        mask = write.segment_voxels(self.target, self.entry.edit_grid)
        self.entry.session.start_from(mask)
        self.entry.started = True
        self.store.keep_state(self.entry, self.target)
        return int(np.count_nonzero(mask))

    # -- work ---------------------------------------------------------------------------------

    def step(self, milliseconds: float = 30.0) -> bool:
        """Go on for about so long; False when all is done.

        Ends by itself if the segment's clicks are no longer those of the session: somebody
        undid the action meanwhile, or removed the segment.
        """
        if not self.working:
            return False
        if self.target.segment is None or self.store.follow(self.entry, self.target):
            self.entry.work = None
            return False
        piece = self.entry.session.refine_more(milliseconds, self.threshold)
        if piece is None:
            self._finish()
            return False
        slow = self._redraws_3d()
        self._apply(*piece, slow)
        if not slow or time.monotonic() - self._written >= TOGETHER_S:
            self._write_waiting()
        return True

    def finish(self, seconds: float = 20.0) -> None:
        """Do all that is left, at once: another segment or effect is about to take over."""
        end = time.monotonic() + seconds
        # What cannot be changed any more (a segment that was removed) stays as it is.
        with contextlib.suppress(write.CannotEdit, InputError, ValueError, RuntimeError):
            while self.step(1000 * seconds) and time.monotonic() < end:
                pass
        self.stop()

    def stop(self) -> None:
        """Do no more; what is worked out stays."""
        if not self.working:
            return
        self.entry.work = None
        with contextlib.suppress(write.CannotEdit, ValueError, RuntimeError):
            self._write_waiting()

    def _snapshot(self) -> None:
        session, earlier = self.entry.session, self.entry.work
        if earlier is not None and earlier.working:
            if earlier.threshold != self.threshold or session.is_behind(self.threshold):
                earlier.finish()
            else:
                earlier._finish()  # its neighbours come along with those of this one
        # Restored clicks, and those of another threshold, are worked out anew without a change of
        # the segment: it has them already, and what was drawn over them since.
        while session.is_behind(self.threshold):
            session.refine_more(1000.0, self.threshold)
        shape = self.entry.edit_grid.grid.shape
        box, mask = session.guided_mask(self.threshold)
        self._before = np.zeros(shape, np.uint8)
        if not is_empty(box):
            self._before[box] = mask

    def _start(self) -> None:
        self.store.keep_state(self.entry, self.target)
        self._take_whole = False
        box, mask = self.entry.session.refine_visible(self.threshold)
        if self._positive is not None:
            box, mask = self._with_slice(box, mask)
        self._apply(box, mask)
        self.entry.work = self

    def _with_slice(self, box: Box, mask: NDArray[np.uint8]) -> tuple[Box, NDArray[np.uint8]]:
        """The click's whole slice, if the segment holds nothing of the lesion in it yet."""
        session, edit_grid = self.entry.session, self.entry.edit_grid
        axis = next(c.axis for c in session.clicks if c.ras_mm == self._positive)
        index = int(np.rint(edit_grid.local_to_index(self._positive)[axis]))
        parts = [slice(0, n) for n in edit_grid.grid.shape]
        parts[axis] = slice(index, index + 1)
        whole: Box = (parts[0], parts[1], parts[2])
        answer = np.array(session.guided_mask(self.threshold, whole)[1], np.uint8)
        if not is_empty(box):
            # The slice's own correction is newer than what has been worked out so far.
            inner = tuple(
                slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, whole, strict=True)
            )
            answer[inner] = mask
        seed = self._in_box(self._positive, whole)
        self._take_whole = False
        if seed is not None and answer[seed]:
            held = write.segment_voxels(self.target, edit_grid, whole) != 0
            self._take_whole = not bool((held & _piece(answer != 0, seed)).any())
        if self._take_whole:
            self._held = write.segment_voxels(self.target, edit_grid)
        return (whole, answer) if self._take_whole else (box, mask)

    def _apply(self, box: Box, mask: NDArray[np.uint8], later: bool = False) -> None:
        """Correct the segment in a box as the answer there is now; ``later``: together with what
        follows."""
        if is_empty(box) or self._before is None:
            return
        after, before = np.asarray(mask) != 0, self._before[box] != 0
        changed = after != before
        held = self._segment(box)
        wanted = held.copy()
        wanted[changed] = after[changed]
        self._obey(box, after, wanted)
        if later or self._waiting is not None:
            if self._later is None:
                self._later = np.zeros(self._before.shape, np.uint8)
            self._later[box][wanted != held] = 1 + wanted[wanted != held].astype(np.uint8)
            self._waiting = join(self._waiting, box)
        else:
            self._write(box, wanted)
        self._before[box] = after

    def _segment(self, box: Box) -> NDArray[np.bool_]:
        """What the segment holds in a box, with what is still to be written."""
        held = write.segment_voxels(self.target, self.entry.edit_grid, box) != 0
        if self._waiting is not None and self._later is not None:
            later = self._later[box]
            held[later != 0] = later[later != 0] == 2
        return held

    def _write(self, box: Box, wanted: NDArray[np.bool_]) -> None:
        write.become(self.effect, self.target, self.entry.edit_grid, box, wanted)
        self._written = time.monotonic()

    def _write_waiting(self) -> None:
        if self._waiting is None or self._later is None:
            return
        box, wanted = self._waiting, self._segment(self._waiting)
        self._waiting = None
        self._later[box] = 0
        self._write(box, wanted)

    def _redraws_3d(self) -> bool:
        """Whether every change of the segment costs a new surface."""
        import slicer

        name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        return bool(self.target.node.GetSegmentation().ContainsRepresentation(name))

    def _obey(self, box: Box, after: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> None:
        """Take a lesion that was missing, and every clicked ball as clicked."""
        from ...editing.clicks import OBEYED_MM

        if self._positive is not None and self._take_whole:
            seed = self._in_box(self._positive, box)
            if seed is not None and after[seed]:
                wanted |= _piece(after, seed)
        grid = self.entry.edit_grid.grid
        for click in self.entry.session.clicks:
            ball = _ball(grid.affine, click.ras_mm, OBEYED_MM, box)
            wanted[ball] = click.positive
            seed = self._in_box(click.ras_mm, box)
            if seed is not None:
                wanted[seed] = click.positive

    def _finish(self) -> None:
        """A lesion that was missing, through all slices."""
        self.entry.work = None
        self._write_waiting()
        if self._positive is None or not self._take_whole:
            return
        box, mask = self.entry.session.guided_mask(self.threshold)
        seed = None if is_empty(box) else self._in_box(self._positive, box)
        if seed is None or not mask[seed]:
            return
        lesion = _piece(np.asarray(mask) != 0, seed)
        if self._held is None or self._held[box][lesion].any():
            return  # in other slices the segment had some of it: what is missing was left out
        wanted = write.segment_voxels(self.target, self.entry.edit_grid, box) != 0
        wanted |= lesion
        write.become(self.effect, self.target, self.entry.edit_grid, box, wanted)

    def _in_box(self, local: Any, box: Box) -> tuple[int, ...] | None:
        index = np.rint(self.entry.edit_grid.local_to_index(local)).astype(int)
        inside = all(s.start <= n < s.stop for n, s in zip(index, box, strict=True))
        return tuple(int(n - s.start) for n, s in zip(index, box, strict=True)) if inside else None


def _piece(mask: NDArray[np.bool_], seed: tuple[int, ...]) -> NDArray[np.bool_]:
    """The connected piece (26 neighbours) of ``mask`` that holds the voxel ``seed``."""
    from scipy import ndimage

    labels, _count = ndimage.label(mask, np.ones((3, 3, 3), int))
    return np.asarray(labels == labels[seed])


def _ball(affine: NDArray[np.float64], local: Any, radius: float, box: Box) -> NDArray[np.bool_]:
    """Voxels of ``box`` with their centre within ``radius`` mm of a place."""
    k, j, i = np.ogrid[box]
    off = [
        affine[r, 0] * i + affine[r, 1] * j + affine[r, 2] * k + affine[r, 3] - local[r]
        for r in range(3)
    ]
    return np.asarray(off[0] ** 2 + off[1] ** 2 + off[2] ** 2 <= radius**2)
