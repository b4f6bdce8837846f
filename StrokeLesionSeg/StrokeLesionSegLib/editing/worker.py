"""The background's work in pieces short enough to fit between two frames of a viewer."""

from __future__ import annotations

import time

import numpy as np

from .scan import EditedScan
from .types import EMPTY, Box, join


class Worker:
    """Predicts slices and brings native blocks up to date, nearest to what is on view first."""

    def __init__(self, scan: EditedScan) -> None:
        self._scan = scan
        self._block_seconds = 0.0

    def work(self, milliseconds: float, near: tuple[int, int] | None) -> Box | None:
        """See ``EditingSession.work``."""
        background, native = self._scan.background, self._scan.native
        started = time.perf_counter()
        changed, worked = EMPTY, False
        while True:
            left = milliseconds / 1000 - (time.perf_counter() - started)
            block = native.next_block(near)
            if block is not None:
                # A block takes a tenth of a slice: what is predicted is shown before more is.
                if worked and left < self._block_seconds:
                    break
                before = time.perf_counter()
                changed = join(changed, native.bring(block))
                self._block_seconds = time.perf_counter() - before
                worked = True
                continue
            each = self._scan.network.seconds
            if worked and left < each:
                break
            todo = background.next_slices(self._slice_near(near), self._count(left, each))
            if todo is None:
                break
            background.run(*todo)
            worked = True
        return changed if worked else None

    def _count(self, seconds: float, each: float) -> int:
        """Slices for one call: as many as fit into the time, and no more than are good for it."""
        network = self._scan.network
        view = self._scan.background.passes[0].view
        most = network.prepared.batch_size(*self._scan.background.plane(view, 0).shape)
        return int(min(most, max(1, seconds // each if each > 0 else 1)))

    def _slice_near(self, near: tuple[int, int] | None) -> tuple[str, int] | None:
        """The canonical (view, index) at the middle of a native slice."""
        if near is None:
            return None
        axis, index = near
        centre = (np.asarray(self._scan.grid.shape[::-1], np.float64) - 1) / 2
        centre[2 - axis] = index
        normal = self._scan.slice_normal(axis)
        level = self._scan.canonical_of(centre)[int(np.argmax(np.abs(normal)))]
        return self._scan.slice_view(axis), round(float(level))
