"""A session whose answers are known beforehand: lesion is where a probability map says so.

For tests of what the effects do with a session's answers. The rule by which they change the mask is
the real one; only the network and its head are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from StrokeLesionSegLib.boxes import whole_box
from StrokeLesionSegLib.correction import CorrectionSession, Known
from StrokeLesionSegLib.correction.network import whole_head
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.operating_point import OperatingPoint

#: What is painted around a click whatever the map says.
BALL_MM = 2.0


class _Head:
    """All of the scan lies in it."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._box = whole_box(shape)

    def from_native(self, values: Any) -> Any:
        return values

    def native_box(self, _box: Any) -> Any:
        return self._box

    def native_needs(self, window: Any) -> Any:
        return window

    def to_native(self, values: Any, _window: Any) -> Any:
        return values


class MapSession(CorrectionSession):
    """A real session over ``probability`` (a ``Volume``) in place of a network."""

    def __init__(self, probability: Volume, mask: Any = None) -> None:
        self.map = probability
        self.calls = 0
        empty = np.zeros(probability.grid.shape, bool)
        super().__init__(
            probability.grid,
            _Head(probability.grid.shape),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            OperatingPoint(0.5, min_volume_ml=0.0),
            Known(empty if mask is None else mask, probability.array),
        )

    @property
    def probability(self) -> Any:
        return self.map.array

    def for_mask(self, mask: Any, probability: Any) -> MapSession:
        return type(self)(self.map.with_array(probability), mask)

    def _answered(self, wrong: Any, lesion: bool, before: Any) -> Any:
        self.calls += 1
        box, changed, by_model = self._merged(wrong, lesion, before, whole_head(), self.map.array)
        return self._as_change(box, changed, lesion, by_model, False), None
