"""The probability of a scan by now: on the head box, made to agree with the mask, and natively."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, extents, intersect, is_empty, whole_box, within
from ..inference.head_box import HEAD_SHAPE, INNER_SHAPE, at_1_mm
from .change import Voxel
from .head_map import HeadMap
from .network import Place, cube_around, whole_head

# Side of the cube around a click in voxels of 2 mm: 96 mm.
_SIDE = 48
# Where the mask contradicts the probability the network is told of one just beyond the threshold,
# by this share of the way to 1 or 0. It was trained on its own answers: corrected to near 1 and 0
# it holds on to them, and clicks bring less.
_BEYOND = 0.1

#: A box in voxels of 2 mm, and what stood in it before an answer: at 1 mm, float32.
Patch = tuple[Box, NDArray[np.float32]]


class HeadProbability:
    """What the network has answered on the head box of one scan, replaced box by box.

    ``values``: the head array, float32. ``native``: the array on the scan's own grid that it was
    made from, if it was.
    """

    def __init__(
        self,
        head: HeadMap,
        values: NDArray[np.float32],
        native: NDArray[np.float32] | None = None,
    ) -> None:
        self._head, self._values, self._native = head, values, native

    @classmethod
    def from_native(cls, head: HeadMap, probability: NDArray[np.floating[Any]]) -> HeadProbability:
        """What was answered before, on the scan's own grid."""
        native = probability.astype(np.float32)
        return cls(head, np.clip(head.from_native(native), 0, 1), native)

    @property
    def native(self) -> NDArray[np.float32]:
        """On the scan's own grid."""
        if self._native is None:
            self._native = np.clip(self._head.all_to_native(self._values), 0, 1)
        return self._native

    def replace(self, box: Box, answer: NDArray[np.float32]) -> Patch:
        """Let an answer stand in a box (2 mm); returns what stood there."""
        part = at_1_mm(box)
        before = (box, self._values[part].copy())
        self.put_back((box, answer))
        return before

    def put_back(self, patch: Patch) -> None:
        """Let stand again what ``replace`` returned."""
        self._values[at_1_mm(patch[0])] = patch[1]
        self._native = None

    def agreed(self, box: Box, mask: NDArray[np.bool_], threshold: float) -> NDArray[np.float32]:
        """In a box of the head (1 mm), made to agree with a native mask at a threshold."""
        p, marked = self._values[box], self._head.mask_in(mask, box)
        high = np.float32(threshold + _BEYOND * (1 - threshold))
        low = np.float32(threshold * (1 - _BEYOND))
        return np.where(marked, np.maximum(p, high), np.minimum(p, low))

    def with_answer(
        self,
        window: Box,
        box: Box,
        answer: NDArray[np.float32],
        mask: NDArray[np.bool_],
        threshold: float,
    ) -> NDArray[np.float32]:
        """An answer in ``box`` of the head (1 mm) on a native window. Around the box stands the
        probability that agrees with the mask: there nothing is proposed."""
        needs = self._head.native_needs(window)
        shared = intersect(needs, box)
        if shared == needs:
            return self._head.to_native(answer[within(needs, box)], window)
        part = np.zeros(extents(needs), np.float32)
        there = intersect(needs, whole_box(HEAD_SHAPE))
        if not is_empty(there):
            part[within(there, needs)] = self.agreed(there, mask, threshold)
        if not is_empty(shared):
            part[within(shared, needs)] = answer[within(shared, box)]
        return self._head.to_native(part, window)


def cube_about(head: HeadMap, voxels: Sequence[Voxel]) -> Box | None:
    """What of the head to ask about, in voxels of 2 mm; None if all lie outside of it."""
    places = _inner(head, voxels)
    there = places[((places >= 0) & (places < INNER_SHAPE)).all(axis=1)]
    if not len(there):
        return None
    low, high = (tuple(int(n) for n in ends) for ends in (there.min(axis=0), there.max(axis=0)))
    return cube_around(low, high, _SIDE) or whole_head()  # type: ignore[arg-type]


def stamps(head: HeadMap, clicks: dict[Voxel, bool]) -> list[tuple[Place, bool]]:
    """Clicks at 2 mm, without those outside of the head box; of several on one the last."""
    if not clicks:
        return []
    found = {}
    for lesion, place in zip(clicks.values(), _inner(head, list(clicks)).tolist(), strict=True):
        if all(0 <= n < size for n, size in zip(place, INNER_SHAPE, strict=True)):
            found[tuple(place)] = lesion
    return list(found.items())


def reaches_face(head: HeadMap, bounds: Box, changed: NDArray[np.bool_], box: Box) -> bool:
    """Whether a native change, within ``bounds``, reaches a face of a box (2 mm) of the head that
    is not one of the head box itself."""
    if is_empty(bounds):
        return False
    places = head.place_of(np.argwhere(changed) + [part.start for part in bounds])
    margin = np.maximum(1.0, head.step)
    low, high = places.min(axis=0) - margin, places.max(axis=0) + margin
    return any(
        (a < p.start > 0) or (b > p.stop - 1 and p.stop < n)
        for a, b, p, n in zip(low, high, at_1_mm(box), HEAD_SHAPE, strict=True)
    )


def _inner(head: HeadMap, voxels: Sequence[Voxel]) -> NDArray[np.int_]:
    """(n, 3) places of native voxels at 2 mm."""
    return np.floor((head.place_of(np.array(voxels)) + 0.5) / 2).astype(int)
