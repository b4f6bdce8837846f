"""The segment follows the sliders, from the probability that is kept; no run of the network.

Only the box where the probability could ever count is worked on, which keeps a whole-head volume
within the time of a hand's movement. A segment that was finished or edited by hand is never
overwritten: the sliders then make a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.volume import Grid, Volume
from .i18n import tr as _
from .results import (
    SHOWN_FROM,
    Patch,
    Provenance,
    add_segment,
    changed,
    finished,
    maps_of,
    read_own,
    set_maps,
    write_segment,
)
from .volumes import volume_from_node

Seed = tuple[int, int, int]
UNDO_STEPS = 20


@dataclass(frozen=True)
class Found:
    """What a threshold finds.

    ``lesion_map``: of the box that was worked on. ``patch``: the mask, without dropped lesions.
    ``seeds``: for each lesion its voxel (k, j, i) of the highest probability on the whole grid.
    ``dropped``: the labels of the dropped lesions; they stay in the map and can be taken back.
    """

    lesion_map: Any
    patch: Patch
    seeds: tuple[Seed, ...]
    dropped: frozenset[int]

    def labels_with_start(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The label map of the box, and where the box starts (k, j, i) in the whole grid."""
        return self.lesion_map.labels, np.array(self.patch.start)


class ProbabilityMap:
    """A lesion probability, ready for quick thresholds.

    ``volume``: float (K, J, I) on the scan's own grid. ``to_mni``: 4x4 from native RAS mm to MNI
    RAS mm, or None. Values below ``floor`` are never looked at unless a threshold is below it.
    """

    def __init__(
        self,
        volume: Volume,
        to_mni: NDArray[np.float64] | None = None,
        floor: float = SHOWN_FROM,
    ) -> None:
        from ..lesions.find import bounding_box

        self.volume = volume
        self.to_mni = to_mni
        self.floor = floor
        # One voxel where there is nothing.
        self._box = bounding_box(volume.array >= floor) or (slice(0, 1),) * 3
        self._cropped = np.ascontiguousarray(volume.array[self._box])

    def lesions(
        self,
        threshold: float,
        min_volume_ml: float = 0.0,
        hysteresis: float | None = None,
        dropped: Iterable[Seed] = (),
    ) -> Found:
        """Threshold it; a component that holds a voxel of ``dropped`` is left out of the mask.

        ``threshold``, ``min_volume_ml`` and ``hysteresis`` are those of ``find_lesions``;
        ``dropped`` are voxels (k, j, i) of the whole grid, such as the seeds found before.
        """
        from ..lesions import find_lesions

        lowest = threshold if hysteresis is None else min(threshold, hysteresis)
        box, cropped = self._box, self._cropped
        if lowest < self.floor:
            box = tuple(slice(0, n) for n in self.volume.array.shape)  # type: ignore[assignment]
            cropped = self.volume.array
        start = np.array([s.start for s in box])
        affine = self.volume.affine.copy()
        affine[:3, 3] = (affine @ np.array([*start[::-1], 1.0]))[:3]
        # What is left and right is decided by the whole scan, not by the box.
        middle = (np.array(self.volume.array.shape[::-1]) - 1) / 2
        midline_x = self.volume.affine[0, :3] @ middle + self.volume.affine[0, 3]
        found = find_lesions(
            cropped,
            affine,
            threshold=threshold,
            hysteresis=hysteresis,
            min_volume_ml=min_volume_ml,
            to_mni=self.to_mni,
            midline_x_mm=float(midline_x),
        )
        mask = np.array(found.mask, dtype=np.uint8)
        out = {label_at(found.labels, np.array(seed) - start) for seed in dropped} - {0}
        if out:
            mask[np.isin(found.labels, list(out))] = 0
        seeds = tuple(
            (int(peak[0] + start[0]), int(peak[1] + start[1]), int(peak[2] + start[2]))
            for peak in peaks(cropped, found.labels, [lesion.label for lesion in found.lesions])
        )
        first = (int(start[0]), int(start[1]), int(start[2]))
        return Found(found, Patch(mask, first, self.volume.grid), seeds, frozenset(out))


def seeds_to_text(seeds: Iterable[Seed]) -> str:
    """Voxels (k, j, i) as a parameter of the scene: "k j i; k j i"."""
    return "; ".join(" ".join(map(str, seed)) for seed in seeds)


def seeds_from_text(text: str) -> tuple[Seed, ...]:
    """The reverse; what cannot be read is left out."""
    seeds = []
    for part in text.split(";"):
        numbers = part.split()
        if len(numbers) == 3 and all(n.isdigit() for n in numbers):
            seeds.append((int(numbers[0]), int(numbers[1]), int(numbers[2])))
    return tuple(seeds)


def label_at(labels: NDArray[np.int32], index: NDArray[np.int64]) -> int:
    """The label at a voxel (k, j, i); 0 outside the array."""
    if (index < 0).any() or (index >= labels.shape).any():
        return 0
    return int(labels[tuple(index)])


def peaks(
    probability: NDArray[np.generic], labels: NDArray[np.int32], wanted: list[int]
) -> list[tuple[int, ...]]:
    """The voxel of the highest probability of each wanted label, the first where there are ties.

    ``labels`` has to hold every label from 1 on. Sorts only the labelled voxels, for speed.
    """
    if not wanted:
        return []
    inside = np.flatnonzero(labels)
    owner = labels.reshape(-1)[inside]
    # Stable on small integers is a radix sort; within a label memory order stays.
    order = np.argsort(owner.astype(np.uint16 if owner.max() < 2**16 else np.int64), kind="stable")
    values = probability.reshape(-1)[inside[order]]
    starts = np.searchsorted(owner[order], np.arange(1, owner.max() + 1))
    highest = np.maximum.reduceat(values, starts)
    found = []
    for label in wanted:
        first = starts[label - 1]
        last = starts[label] if label < len(starts) else len(values)
        peak = first + int(np.argmax(values[first:last] == highest[label - 1]))
        found.append(tuple(int(v) for v in np.unravel_index(inside[order[peak]], labels.shape)))
    return found


@dataclass(frozen=True)
class _State:
    """One segment as it was: ``bits`` are the packed voxels of ``shape`` at ``start``."""

    segment_id: str
    name: str
    bits: NDArray[np.uint8]
    shape: tuple[int, ...]
    start: tuple[int, int, int]
    grid: Grid
    made: Provenance

    @property
    def patch(self) -> Patch:
        count = int(np.prod(self.shape))
        return Patch(
            np.unpackbits(self.bits, count=count).reshape(self.shape), self.start, self.grid
        )


class Thresholder:
    """Keeps one segment in step with threshold, smallest lesion and dropped lesions.

    Undo and redo change nothing but this segment, one step per ``begin()``. (Slicer's own
    ``vtkSegmentationHistory`` would take back what was done to all other segments, too.)
    """

    def __init__(
        self,
        segmentation_node: Any,
        segment_id: str,
        volume_node: Any,
        probability: ProbabilityMap,
    ) -> None:
        self.segmentation_node = segmentation_node
        self.segment_id = segment_id
        self.volume_node = volume_node
        self.probability = probability
        self.kept_apart = False
        self._past: deque[_State] = deque(maxlen=UNDO_STEPS)
        self._future: list[_State] = []
        self._last: tuple[Any, Found] | None = None

    @classmethod
    def from_nodes(
        cls, segmentation_node: Any, segment_id: str, volume_node: Any, probability_node: Any
    ) -> Thresholder:
        """From what a scene holds, also one that was saved and loaded again."""
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        kept = Provenance.from_segment(segment)
        volume = volume_from_node(probability_node)
        return cls(segmentation_node, segment_id, volume_node, ProbabilityMap(volume, kept.to_mni))

    @property
    def segment(self) -> Any | None:
        return self.segmentation_node.GetSegmentation().GetSegment(self.segment_id)

    def seeds_outside(self, seed: Seed, seeds: Iterable[Seed]) -> tuple[Seed, ...]:
        """Those of ``seeds`` that do not lie in the lesion that holds ``seed`` now."""
        labels, start = self.found().labels_with_start()
        label = label_at(labels, np.array(seed) - start)
        return tuple(
            s for s in seeds if s != seed and label_at(labels, np.array(s) - start) != label
        )

    def begin(self) -> None:
        """Call before a user action (a drag of the slider is one): saves the state for undo.

        If the segment was finished or edited by hand, a new segment takes its place here and
        ``kept_apart`` says so; the old one stays as it is.
        """
        segment = self.segment
        self.kept_apart = False
        if segment is None:
            return
        patch = read_own(self.segmentation_node, self.segment_id, self.volume_node)
        self.kept_apart = finished(segment) or changed(segment, patch)
        self._past.append(self._state(patch))
        self._future.clear()
        if self.kept_apart:
            maps = maps_of(self.segmentation_node, self.segment_id)
            self.segment_id = add_segment(
                self.segmentation_node, patch, Provenance.from_segment(segment)
            )
            set_maps(self.segmentation_node, self.segment_id, maps)

    def found(self) -> Found:
        """What the settings of the segment find now; writes nothing."""
        return self.search()()

    def search(self, *settings: Any) -> Callable[[], Found]:
        """The search for ``settings`` (threshold, smallest lesion in mL, dropped seeds), by
        default those of the segment: a call that touches arrays only, for a thread."""
        made = self._with(*settings) if settings else Provenance.from_segment(self.segment)
        key = (made.threshold, made.min_volume_ml, made.must_reach, made.dropped)

        def work() -> Found:
            if self._last is None or self._last[0] != key:
                seeds = seeds_from_text(made.dropped)
                self._last = (key, self.probability.lesions(*key[:3], seeds))
            return self._last[1]

        return work

    def apply(
        self,
        threshold: float,
        min_volume_ml: float,
        dropped: Iterable[Seed] = (),
        found: Found | None = None,
    ) -> Found:
        """Write the mask of these settings into the segment, and return what was found.

        As on the command line, the second threshold that a model may recommend has to be reached
        somewhere in a lesion as long as it is above the first, which bounds the lesions.
        ``found``: what ``search`` found with the same settings.
        """
        dropped = tuple(dropped)
        made = self._with(threshold, min_volume_ml, dropped)
        found = found or self.search(threshold, min_volume_ml, dropped)()
        write_segment(self.segmentation_node, self.segment_id, found.patch, made)
        return found

    def _with(self, threshold: float, min_volume_ml: float, dropped: Iterable[Seed]) -> Provenance:
        if self.segment is None:
            raise ValueError("the segment was removed from the segmentation")
        return replace(
            Provenance.from_segment(self.segment),
            # As the tags keep them, so that the segment finds the same by its tags.
            threshold=float(f"{threshold:.6g}"),
            min_volume_ml=float(f"{min_volume_ml:.6g}"),
            dropped=seeds_to_text(dropped),
            date="",
        )

    def undo(self) -> bool:
        """Back one step; False if there is none.

        Raises ``ValueError`` if the segment was finished or edited by hand since: that would be
        lost.
        """
        return self._go(self._past, self._future)

    def redo(self) -> bool:
        """Forward one step; False if there is none. Raises ``ValueError`` as ``undo``."""
        return self._go(self._future, self._past)

    def _go(self, source: Any, target: Any) -> bool:
        segmentation = self.segmentation_node.GetSegmentation()
        segment = self.segment
        if not source or segment is None:
            return False
        patch = read_own(self.segmentation_node, self.segment_id, self.volume_node)
        state, forward = source[-1], source is self._future
        beside = forward and state.segment_id != self.segment_id  # the present one stays
        if not beside and (finished(segment) or changed(segment, patch)):
            raise ValueError(
                _(
                    "The segment was corrected by hand or finished since: undo and redo of the "
                    "sliders would lose that, and were not done."
                )
            )
        there = segmentation.GetSegment(state.segment_id)
        if there is None and not forward:
            source.clear()  # somebody deleted the segment that was kept: there is no way back
            return False
        target.append(self._state(patch))
        source.pop()
        if state.segment_id == self.segment_id:
            write_segment(self.segmentation_node, self.segment_id, state.patch, state.made)
            return True
        maps = maps_of(self.segmentation_node, self.segment_id)
        if not forward:  # the step had begun a segment of its own beside manual work
            segmentation.RemoveSegment(self.segment_id)
            self.segment_id = state.segment_id
        else:
            self.segment_id = add_segment(
                self.segmentation_node, state.patch, state.made, state.name, state.segment_id
            )
            set_maps(self.segmentation_node, self.segment_id, maps)
        return True

    def _state(self, patch: Patch) -> _State:
        segment, cut = self.segment, patch.trimmed()
        assert segment is not None
        return _State(
            self.segment_id,
            segment.GetName(),
            np.packbits(cut.mask != 0),
            cut.mask.shape,
            cut.start,
            cut.grid,
            Provenance.from_segment(segment),
        )
