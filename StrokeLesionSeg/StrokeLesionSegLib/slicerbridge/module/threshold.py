"""The segment follows the sliders, from the probability that is kept; no run of the network.

A segment that was finished or edited by hand is never overwritten: the sliders then make a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...images.volume import Grid
from ..i18n import tr as _
from ..scene.patch import Patch
from ..scene.probability_map import (
    Found,
    ProbabilityMap,
    Seed,
    label_at,
    seeds_from_text,
    seeds_to_text,
)
from ..scene.provenance import Provenance
from ..scene.results import (
    add_segment,
    changed,
    finished,
    maps_of,
    read_own,
    set_maps,
    write_segment,
)
from ..scene.volumes import volume_from_node

UNDO_STEPS = 20


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


class ThresholdEditor:
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
    ) -> ThresholdEditor:
        """From what a scene holds, also one that was saved and loaded again."""
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        kept = Provenance.from_segment(segment)
        volume = volume_from_node(probability_node)
        manifest = kept.manifest()
        calibration = None if manifest is None else manifest.inference.calibration
        probability = ProbabilityMap(volume, kept.to_mni, calibration=calibration)
        return cls(segmentation_node, segment_id, volume_node, probability)

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
        key = (made.operating_point, made.dropped)

        def work() -> Found:
            if self._last is None or self._last[0] != key:
                seeds = seeds_from_text(made.dropped)
                self._last = (key, self.probability.lesions(made.operating_point, seeds))
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

        As on the command line, a recommended second threshold holds while it is above the first.
        ``found``: what ``search`` found with the same settings.
        """
        dropped = tuple(dropped)
        made = self._with(threshold, min_volume_ml, dropped)
        found = found or self.search(threshold, min_volume_ml, dropped)()
        write_segment(self.segmentation_node, self.segment_id, found.patch, made)
        return found

    def _with(self, threshold: float, min_volume_ml: float, dropped: Iterable[Seed]) -> Provenance:
        if self.segment is None:
            raise ValueError(_("the segment was removed from the segmentation"))
        return replace(
            Provenance.from_segment(self.segment),
            # As the tags keep them, so that the segment finds the same by its tags.
            threshold=float(f"{threshold:.6g}"),
            min_volume_ml=float(f"{min_volume_ml:.6g}"),
            dropped=seeds_to_text(dropped),
            date="",
        )

    @property
    def can_undo(self) -> bool:
        """Whether there is a step back."""
        return bool(self._past) and self.segment is not None

    @property
    def can_redo(self) -> bool:
        """Whether there is a step forward."""
        return bool(self._future) and self.segment is not None

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
                    "The segment was corrected by hand or finished since. "
                    "Not undone: manual edits would be lost."
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
