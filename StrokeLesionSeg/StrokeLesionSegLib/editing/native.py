"""The probability on the native grid, brought up to date in blocks or for the box that is asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..images.space.partial import NativeParts
from ..inference.views import VIEW_AXES
from .background import Background
from .types import Box, extents, intersect, is_empty

# Large enough that a block costs more than its call, small enough to fit between two frames.
_BLOCK = 32

#: Values of ``NativeMap.known``.
NOTHING, PROVISIONAL, FINAL = 0, 1, 2


class NativeMap:
    """A native copy of ``Background.mean`` that is computed where it is asked for.

    Attributes
    ----------
    values: (K, J, I) float32. known: (K, J, I) uint8: ``NOTHING``; ``PROVISIONAL``, from a plane of
        its own; or ``FINAL``, from the first pass at least.
    searched: the box of native voxels that may have a probability at all.
    """

    def __init__(self, parts: NativeParts, shape: tuple[int, int, int], source: Background) -> None:
        self.parts, self.source = parts, source
        self.values = np.zeros(shape, np.float32)
        self.known = np.full(shape, FINAL, np.uint8)
        self.searched = parts.native_box(source.box)
        counts = [-(-size // _BLOCK) for size in shape]
        self._shape = shape
        self._boxes: list[Box] = []
        self._needs: list[Box] = []
        for number in np.ndindex(*counts):
            box = tuple(
                slice(n * _BLOCK, min((n + 1) * _BLOCK, size))
                for n, size in zip(number, shape, strict=True)
            )
            needs = intersect(parts.canonical_box(box), source.box)  # type: ignore[arg-type]
            if not is_empty(needs):
                self.known[intersect(box, self.searched)] = NOTHING  # type: ignore[arg-type]
                self._boxes.append(box)  # type: ignore[arg-type]
                self._needs.append(needs)
        # How many passes each block shows.
        self._level = np.zeros(len(self._boxes), int)
        self._centre = np.array(
            [[(part.start + part.stop - 1) / 2 for part in box] for box in self._boxes]
        ).reshape(-1, 3)
        self._available = np.zeros(len(self._boxes), int)
        self._seen: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        return self.source.complete and bool((self._level == len(self.source.passes)).all())

    @property
    def fraction_done(self) -> float:
        """Share of the blocks that show the final answer."""
        return float((self._level == len(self.source.passes)).mean()) if self._level.size else 1.0

    def adopt(self, values: NDArray[np.float32]) -> None:
        """Take a finished native map."""
        self.values[...] = values
        self.known[...] = FINAL
        self._level[...] = len(self.source.passes)

    def _update_available(self) -> None:
        state = tuple(int(done.sum()) for done in self.source.done)
        if state == self._seen:
            return
        self._seen = state
        self._available[:] = 0
        going = np.ones(len(self._boxes), bool)
        for one, done in zip(self.source.passes, self.source.done, strict=True):
            axis = VIEW_AXES[one.view]
            gaps = np.concatenate([[0], np.cumsum(~done)])
            ends = np.array([(n[axis].start, n[axis].stop) for n in self._needs]).reshape(-1, 2)
            going &= gaps[ends[:, 1]] == gaps[ends[:, 0]]
            self._available += going

    def next_block(self, near: tuple[int, int] | None) -> int | None:
        """A block that can show more than it does, nearest to native slice ``near`` first."""
        self._update_available()
        ready = np.flatnonzero(self._available > self._level)
        if not ready.size:
            return None
        if near is None:
            return int(ready[0])
        distance = np.abs(self._centre[ready, near[0]] - near[1])
        return int(ready[np.argmin(distance)])

    def bring(self, block: int) -> Box:
        """Compute a block anew; returns its box."""
        box = self._boxes[block]
        self.values[box] = self.parts(self.source.mean, box)
        self.known[box] = FINAL
        self._level[block] = self._available[block]
        return box

    def refresh(self, box: Box) -> None:
        """Bring ``box`` up to date with the slices that are done, whatever its blocks show."""
        box = intersect(box, self.searched)
        if is_empty(box) or (self.known[box] == FINAL).all():
            return
        valid = self.valid(box) & (self.known[box] != FINAL)
        if not valid.any():
            return
        values = self.parts(self.source.mean, box)
        self.values[box][valid] = values[valid]
        self.known[box][valid] = FINAL

    def refresh_all(self) -> None:
        """Bring everything up to date."""
        while (block := self.next_block(None)) is not None:
            self.bring(block)
        for number in np.flatnonzero(self._level == 0):
            self.refresh(self._boxes[number])

    def recompute(self, box: Box) -> None:
        """Compute ``box`` anew after finished slices were replaced."""
        valid = self.valid(box)
        values = self.parts(self.source.mean, box)
        self.values[box][valid] = values[valid]

    def valid(self, box: Box) -> NDArray[np.bool_]:
        """Voxels of ``box`` whose slices of the first pass are all done."""
        axis = VIEW_AXES[self.source.passes[0].view]
        done = self.source.done[0]
        row = self.parts.matrix[2 - axis]
        grids = np.ogrid[box]
        place = self.parts.offset[2 - axis] + sum(
            row[2 - a] * grids[a].astype(np.float32) for a in range(3)
        )
        reach = float(self.parts.reach()[2 - axis]) - 1e-3
        top = len(done) - 1
        low = np.clip(np.floor(place - max(reach, -1e-3)), 0, top).astype(np.int32)
        high = np.clip(np.ceil(place + reach), 0, top).astype(np.int32)
        low = np.minimum(low, high)
        gaps = np.concatenate([[0], np.cumsum(~done)]).astype(np.int32)
        valid = gaps[high + 1] == gaps[low]
        return np.broadcast_to(valid, extents(box))

    def put_provisional(
        self, where: Box | tuple[NDArray[np.intp], ...], values: NDArray[np.float32]
    ) -> None:
        """Show ``values`` where nothing final is known."""
        known, old = self.known[where], self.values[where]
        free = known != FINAL
        self.values[where] = np.where(free, values, old)
        self.known[where] = np.where(free, np.uint8(PROVISIONAL), known)
