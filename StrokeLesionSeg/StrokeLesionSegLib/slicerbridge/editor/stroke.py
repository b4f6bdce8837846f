"""A stroke of the brush: touches between button down and up, one change of the segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box, is_empty, join
from . import write
from .target import EditGrid, EditTarget
from .views import ViewPlane

# Touches lie this part of the radius apart along a stroke.
_STEP = 0.4


@dataclass(frozen=True)
class Brush:
    """How the brush paints. ``radius_mm``: in the scene. ``threshold``: probability from which a
    voxel is painted (or below which it is erased). ``follow``: take what is nearly as likely (or
    unlikely) as the place where the stroke began, too."""

    radius_mm: float
    threshold: float
    sphere: bool = True
    erase: bool = False
    follow: bool = True


class Stroke:
    """Collects the voxels of one stroke; the segment changes when it is applied.

    Where the model has nothing to say about all that was touched, all of it counts, as with
    Slicer's own brush; ``by_hand`` says so.
    """

    def __init__(
        self,
        edit_grid: EditGrid,
        probability: NDArray[np.floating],
        target: EditTarget,
        brush: Brush,
    ) -> None:
        self.edit_grid, self.target, self.brush = edit_grid, target, brush
        self._probability = probability
        self._touched = np.zeros(edit_grid.grid.shape, bool)
        self._chosen = np.zeros(edit_grid.grid.shape, bool)
        self.box: Box | None = None
        self._last: NDArray[np.float64] | None = None
        self._began: float | None = None

    @property
    def by_hand(self) -> bool:
        """Whether the model has nothing to say about what was touched."""
        return self.box is not None and not self._chosen[self.box].any()

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The voxels that the stroke is about, (K, J, I)."""
        return self._touched if self.by_hand else self._chosen

    def touch(self, world: Sequence[float], plane: ViewPlane) -> Box | None:
        """Paint from the last touch to here (scene RAS mm); returns the box of what was touched."""
        from ...correction import footprint, taken

        edit_grid, brush = self.edit_grid, self.brush
        here = edit_grid.to_local(world)
        radius = brush.radius_mm * self._scale(world, here)
        if self._last is None:
            points = [here]
            if brush.follow and edit_grid.inside(here):
                k, j, i = np.rint(edit_grid.local_to_index(here)).astype(int)
                self._began = float(self._probability[k, j, i])
        else:
            count = int(np.ceil(np.linalg.norm(here - self._last) / (_STEP * radius)))
            points = [self._last + (here - self._last) * n / count for n in range(1, count + 1)]
        self._last = here
        touched: Box | None = None
        for point in points:
            box, ball = footprint(
                edit_grid.grid,
                point,
                radius,
                None if brush.sphere else np.asarray(plane.normal, np.float64),
            )
            if is_empty(box):
                continue
            self._touched[box] |= ball
            self._chosen[box] |= ball & taken(
                self._probability[box], brush.threshold, self._began, erase=brush.erase
            )
            touched = join(touched, box)
        self.box = join(self.box, touched)
        return touched

    def _scale(self, world: Sequence[float], here: NDArray[np.float64]) -> float:
        """Local mm for a mm of the scene, where a transform scales."""
        node = self.edit_grid.node
        if node is None or node.GetTransformNodeID() is None:
            return 1.0
        steps = [self.edit_grid.to_local(np.array(world) + step) for step in np.eye(3)]
        return float(np.mean([np.linalg.norm(step - here) for step in steps]))

    def apply(self, effect: Any) -> int:
        """Change the segment, as one step for undo; returns how many voxels changed, none where
        masking kept all out. Nothing is no step. Raises ``CannotEdit``."""
        if self.box is None:
            return 0
        mask, box = self.mask, self.box
        held = write.segment_voxels(self.target, self.edit_grid, box) != 0
        changed = mask[box] & (held if self.brush.erase else ~held)
        if not changed.any():
            return 0
        write.begin(effect, self.target)
        put = write.remove if self.brush.erase else write.add
        # All of it, not only what changed: other segments give way where the stroke went.
        put(effect, self.target, self.edit_grid, box, mask[box])
        now = write.segment_voxels(self.target, self.edit_grid, box) != 0
        return int(np.count_nonzero(now != held))
