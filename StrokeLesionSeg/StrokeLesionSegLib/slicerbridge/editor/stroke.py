"""A stroke of the lesion brush: touches between button down and up, one change of the segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box, is_empty, join
from . import write
from .store import Entry, SessionStore
from .target import EditTarget
from .views import ViewPlane

# Touches lie this part of the radius apart along a stroke.
_STEP = 0.4


@dataclass(frozen=True)
class Brush:
    """How the brush paints. ``radius_mm``: in the scene. ``threshold``: probability from which a
    voxel is painted (or below which it is erased). ``follow``: take the probability where the
    stroke began as a lower bound."""

    radius_mm: float
    threshold: float
    sphere: bool = False
    erase: bool = False
    follow: bool = False


class Stroke:
    """Collects the voxels of one stroke; the segment changes when it is applied."""

    def __init__(self, entry: Entry, target: EditTarget, brush: Brush) -> None:
        self.entry, self.target, self.brush = entry, target, brush
        self.mask = np.zeros(entry.edit_grid.grid.shape, np.uint8)
        self.box: Box | None = None
        self._last: NDArray[np.float64] | None = None
        self._floor: float | None = None

    def touch(self, world: Sequence[float], plane: ViewPlane) -> Box | None:
        """Paint from the last touch to here (scene RAS mm); returns the box of what was touched."""
        edit_grid, brush = self.entry.edit_grid, self.brush
        here = edit_grid.to_local(world)
        radius = brush.radius_mm * self._scale(world, here)
        if self._last is None:
            points = [here]
            if brush.follow:
                self._floor = self.entry.session.probability_at(here)
        else:
            count = int(np.ceil(np.linalg.norm(here - self._last) / (_STEP * radius)))
            points = [self._last + (here - self._last) * n / count for n in range(1, count + 1)]
        self._last = here
        touched: Box | None = None
        for point in points:
            box, mask = self.entry.session.dab(
                point,
                radius,
                sphere=brush.sphere,
                normal_ras=plane.normal,
                threshold=brush.threshold,
                floor_from=self._floor,
                erase=brush.erase,
            )
            if not is_empty(box):
                self.mask[box] |= mask.astype(np.uint8)
                touched = join(touched, box)
        self.box = join(self.box, touched)
        return touched

    def _scale(self, world: Sequence[float], here: NDArray[np.float64]) -> float:
        """Local mm for a mm of the scene, where a transform scales."""
        if self.entry.edit_grid.node.GetTransformNodeID() is None:
            return 1.0
        steps = [self.entry.edit_grid.to_local(np.array(world) + step) for step in np.eye(3)]
        return float(np.mean([np.linalg.norm(step - here) for step in steps]))

    def apply(self, effect: Any, store: SessionStore) -> int:
        """Change the segment, as one step for undo; returns how many voxels the stroke held.

        Raises ``CannotEdit``.
        """
        if self.box is None or not self.mask[self.box].any():
            return 0
        write.begin(effect, self.target)
        change = write.remove if self.brush.erase else write.add
        change(effect, self.target, self.entry.edit_grid, self.box, self.mask[self.box])
        return int(np.count_nonzero(self.mask[self.box]))
