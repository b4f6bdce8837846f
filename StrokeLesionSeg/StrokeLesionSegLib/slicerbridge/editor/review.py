"""Going through the candidates of a segment: accept, reject, take back, split, run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box, is_empty, join
from . import write
from .store import Entry, SessionStore
from .target import EditTarget

if TYPE_CHECKING:
    from ...editing import Candidate


@dataclass(frozen=True)
class _Change:
    """What a decision changed in the segment, so that it can be taken back exactly."""

    box: Box
    added: NDArray[np.bool_]
    removed: NDArray[np.bool_]


class Reviewer:
    """The candidates of one segment, most doubtful first.

    ``accept`` adds a candidate to the segment, ``reject`` removes it, ``take_back`` undoes either;
    each is one step for undo.
    """

    def __init__(self, effect: Any, store: SessionStore, entry: Entry, target: EditTarget) -> None:
        self.effect, self.store, self.entry, self.target = effect, store, entry, target
        self.candidates: tuple[Candidate, ...] = ()
        self._changes: dict[int, _Change] = {}
        self._settings = (0.5, 0.0)

    def look(self, threshold: float, min_volume_ml: float) -> tuple[Candidate, ...]:
        """Find the candidates of these settings anew."""
        self._settings = (threshold, min_volume_ml)
        self.candidates = self.entry.session.candidates(threshold, min_volume_ml)
        # A decision that Slicer's undo took back is no longer one.
        still = {c.id for c in self.candidates if c.state != "open"}
        self._changes = {n: change for n, change in self._changes.items() if n in still}
        return self.candidates

    def previous(self, current: int | None) -> Candidate | None:
        """The candidate before, whatever was decided; the last one comes before the first."""
        ids = [c.id for c in self.candidates]
        return self.candidates[ids.index(current) - 1 if current in ids else -1] if ids else None

    def next_open(self, current: int | None) -> Candidate | None:
        """The next candidate that is still open, else the next."""
        count = len(self.candidates)
        if not count:
            return None
        ids = [c.id for c in self.candidates]
        start = ids.index(current) if current in ids else -1
        order = [(start + n + 1) % count for n in range(count)]
        return next(
            (self.candidates[n] for n in order if self.candidates[n].state == "open"),
            self.candidates[order[0]],
        )

    def accept(self, candidate_id: int) -> None:
        """The candidate is lesion: the segment holds it from now on. Raises ``CannotEdit``."""
        self._decide(candidate_id, True)

    def reject(self, candidate_id: int) -> None:
        """The candidate is none: it leaves the segment. Raises ``CannotEdit``."""
        self._decide(candidate_id, False)

    def take_back(self, candidate_id: int) -> None:
        """Make the candidate open again, with the voxels that the segment had before."""
        state = self._state(candidate_id)
        if state == "open":
            return
        change = self._changes.pop(candidate_id, None)
        write.begin(self.effect, self.target)
        grid = self.entry.edit_grid
        if change is not None:
            write.remove(self.effect, self.target, grid, change.box, change.added)
            write.add(self.effect, self.target, grid, change.box, change.removed)
        elif state == "rejected":  # decided before the scene was saved
            box, mask = self.entry.session.candidate_mask(candidate_id)
            write.add(self.effect, self.target, grid, box, mask)
        self.entry.session.take_back(candidate_id)
        self._done()

    def split(self, candidate_id: int) -> int:
        """Cut a candidate in parts; returns their number. One step for undo, as voxels are."""
        if any(c.id == candidate_id and c.voxels < 2 for c in self.candidates):
            return 1
        write.begin(self.effect, self.target)
        parts = self.entry.session.split(candidate_id)
        self._done()
        return len(parts)

    def rerun(self, candidate_id: int) -> None:
        """Ask the network again about one candidate; what the segment had of it follows."""
        session, grid = self.entry.session, self.entry.edit_grid
        refusal = self.target.refusal()
        if refusal:
            raise write.CannotEdit(refusal)
        box, mask = session.candidate_mask(candidate_id)
        old = np.asarray(mask) != 0
        held = write.segment_voxels(self.target, grid, box)
        had = bool((held[old] != 0).any())
        changed = session.rerun(candidate_id)
        if had and not is_empty(changed):
            around = join(box, changed)
            assert around is not None
            inside = tuple(
                slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, box, strict=True)
            )
            before = np.zeros([s.stop - s.start for s in around], bool)
            before[inside] = old
            now = session.probability_in(around) >= self._settings[0]
            wanted = write.segment_voxels(self.target, grid, around) != 0
            wanted = (wanted & ~before) | _touching(now, before)
            write.begin(self.effect, self.target)
            write.become(self.effect, self.target, grid, around, wanted)
        self._changes.pop(candidate_id, None)
        self._done()

    def _decide(self, candidate_id: int, lesion: bool) -> None:
        session, grid = self.entry.session, self.entry.edit_grid
        write.begin(self.effect, self.target)
        box, mask = session.candidate_mask(candidate_id)
        before = write.segment_voxels(self.target, grid, box) != 0
        change = write.add if lesion else write.remove
        change(self.effect, self.target, grid, box, mask)
        after = write.segment_voxels(self.target, grid, box) != 0
        added, removed = after & ~before, before & ~after
        earlier = self._changes.get(candidate_id)
        if earlier is not None and earlier.box == box:
            # From rejected to accepted or back: what was before the first decision counts.
            original = (before & ~earlier.added) | earlier.removed
            added, removed = after & ~original, original & ~after
        self._changes[candidate_id] = _Change(box, added, removed)
        (session.accept if lesion else session.reject)(candidate_id)
        self._done()

    def _state(self, candidate_id: int) -> str:
        return next((c.state for c in self.candidates if c.id == candidate_id), "open")

    def _done(self) -> None:
        self.store.keep_state(self.entry, self.target)
        self.look(*self._settings)


def _touching(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected pieces (26 neighbours) of ``mask`` that touch ``seeds``."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3, 3), int))
    if not count:
        return np.zeros(mask.shape, bool)
    near = ndimage.binary_dilation(seeds, np.ones((3, 3, 3), bool))
    return np.asarray(np.isin(labels, np.setdiff1d(labels[near], [0])))
