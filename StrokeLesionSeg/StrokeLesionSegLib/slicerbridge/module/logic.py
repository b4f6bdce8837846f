"""The module's logic, callable from a script: segment, threshold, measure, report. No GUI.

from StrokeLesionSeg import StrokeLesionSegLogic
logic = StrokeLesionSegLogic()
segmentation = logic.segment(slicer.util.getNode("T1"))
logic.threshold(segmentation, 0.4)
for row in logic.measure(segmentation):
    print(row.number, row.volume_ml, row.side)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..engine.run import RunError, RunParameters, RunResults, SegmentationRun
from ..i18n import tr as _
from ..scene.probability_map import Found, ProbabilityMap, Seed
from ..scene.provenance import Provenance
from ..scene.results import bring_along, edited, maps_of, read_segment, resampled_since
from ..scene.scan_views import color_result, results_of, show_result
from ..scene.volumes import image_of, node_by_id, volume_from_node
from .in_mni import SegmentInMni
from .measure import LesionRow, add_table, lesions_of_patch, measure_segment, rows_of
from .report import Report
from .threshold import ThresholdEditor

SEGMENT_ATTRIBUTE = "StrokeLesionSeg.segment"


class BridgeLogic:
    """What the module can do, on nodes of the scene. Keeps no reference to nodes that are gone."""

    def __init__(self) -> None:
        self._thresholders: dict[str, ThresholdEditor] = {}

    # -- run ------------------------------------------------------------------------------------

    def start(self, volume_node: Any, parameters: RunParameters | None = None) -> SegmentationRun:
        """Start a run that the caller polls; raises ``InputError`` if the node is unusable."""
        run = SegmentationRun(volume_node, parameters)
        run.start()
        return run

    def accept(self, run: SegmentationRun) -> RunResults:
        """Take over the results of a finished run: table and sliders. Raises ``RunError``."""
        results = run.results
        if results is None:
            from ..engine.process import Failure

            raise RunError(run.failure or Failure(_("The run was cancelled."), "", ()))
        segmentation = results.segmentation_node
        color_result(segmentation, results.segment_id)
        self.choose(segmentation, results.segment_id)
        volume_node = self.volume_of(segmentation)
        self._let_go()
        # An earlier result's undo history ends here: it belongs to another segment.
        self._thresholders[segmentation.GetID()] = ThresholdEditor(
            segmentation, results.segment_id, volume_node, results.probability
        )
        self.tabulate(segmentation, rows_of(results.found))
        return results

    def segment(
        self,
        volume_node: Any,
        parameters: RunParameters | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Segment a volume and return its segmentation node; waits, with the GUI kept alive.

        Raises ``InputError`` for an unusable node, ``RunError`` with cause, remedy and last lines
        if the engine fails, and ``TimeoutError``.
        """
        import slicer

        run = self.start(volume_node, parameters)
        end = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while run.poll():
                if end is not None and time.monotonic() > end:
                    raise TimeoutError(f"no result within {timeout_s:g} s")
                slicer.app.processEvents()
                time.sleep(0.02)
        finally:
            run.cancel()
        return self.accept(run).segmentation_node

    def choose(self, segmentation_node: Any, segment_id: str) -> None:
        """Let the sliders change this result from now on, and hide the others of the image.

        Raises ``ValueError`` if there is no such segment.
        """
        if segmentation_node.GetSegmentation().GetSegment(segment_id) is None:
            raise ValueError(_("there is no segment {name}").format(name=segment_id))
        segmentation_node.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
        show_result(segmentation_node, segment_id)

    # -- results --------------------------------------------------------------------------------

    def segment_id(self, segmentation_node: Any) -> str:
        """The segment that the sliders belong to: the newest result. Raises ``ValueError``."""
        segment_id = newest_segment(segmentation_node)
        if not segment_id:
            said = _("{name} holds no result of a run any more")
            raise ValueError(said.format(name=segmentation_node.GetName()))
        return segment_id

    def volume_of(self, segmentation_node: Any) -> Any:
        """The image that a segmentation was made from. Raises ``ValueError`` if it is gone."""
        node = image_of(segmentation_node)
        if node is None:
            said = _("the image of {name} is not in the scene")
            raise ValueError(said.format(name=segmentation_node.GetName()))
        return node

    def settings(self, segmentation_node: Any) -> Provenance:
        """What made the segment of the sliders, with places on the image as it is now. Raises
        ``ValueError``."""
        self._bring_along(segmentation_node)
        segment_id = self.segment_id(segmentation_node)
        return Provenance.from_segment(segmentation_node.GetSegmentation().GetSegment(segment_id))

    def thresholder(self, segmentation_node: Any) -> ThresholdEditor:
        """The sliders of a segmentation, from the scene if need be. Raises ``ValueError``."""
        self._bring_along(segmentation_node)
        key = segmentation_node.GetID()
        segment_id = self.segment_id(segmentation_node)
        if not self._maps_fit(segmentation_node, segment_id):
            raise ValueError(
                _(
                    "the image was warped, resampled or filtered since: segment it again to use "
                    "the sliders"
                )
            )
        kept = self._thresholders.get(key)
        if (
            kept is not None
            and kept.segmentation_node is segmentation_node
            and kept.segment_id == segment_id
        ):
            return kept
        probability_node = maps_of(segmentation_node, segment_id)[0]
        if probability_node is None:
            raise ValueError(
                _("this segment has no probability map: segment the image to use the sliders")
            )
        self._let_go()
        made = ThresholdEditor.from_nodes(
            segmentation_node, segment_id, self.volume_of(segmentation_node), probability_node
        )
        self._thresholders[key] = made
        return made

    def threshold(
        self,
        segmentation_node: Any,
        threshold: float,
        min_volume_ml: float | None = None,
        dropped: Iterable[Seed] = (),
        *,
        step: bool = True,
        measure: bool = True,
        found: Found | None = None,
    ) -> list[LesionRow]:
        """Set threshold, smallest lesion (mL) and dropped lesions of a result; no new run.

        ``step``: make it a step of its own for undo. ``measure``: fill the table, too (left out
        while a slider moves). ``found``: what ``search`` found with these settings. A segment
        that was finished or edited by hand is kept and a new one takes its place. Returns the
        rows. Raises ``ValueError`` if the result is gone.
        """
        sliders = self.thresholder(segmentation_node)
        if step:
            self.begin(segmentation_node)
        if min_volume_ml is None:
            min_volume_ml = Provenance.from_segment(sliders.segment).min_volume_ml
        found = sliders.apply(threshold, min_volume_ml, dropped, found)
        rows = rows_of(found)
        if measure:
            self.tabulate(segmentation_node, rows)
        return rows

    def begin(self, segmentation_node: Any) -> bool:
        """Start a step for undo; True if manual work was set apart and a new segment begun."""
        sliders = self.thresholder(segmentation_node)
        sliders.begin()
        segmentation_node.SetAttribute(SEGMENT_ATTRIBUTE, sliders.segment_id)
        if sliders.kept_apart:
            color_result(segmentation_node, sliders.segment_id)
            show_result(segmentation_node, sliders.segment_id)
        return sliders.kept_apart

    def undo(self, segmentation_node: Any, redo: bool = False) -> Provenance | None:
        """Take the last step of the sliders back, or make it again; its settings, or None.

        Nothing but the segment of the sliders changes. Raises ``ValueError`` if that was corrected
        by hand or finished since, or is gone.
        """
        sliders = self.thresholder(segmentation_node)
        before = sliders.segment_id
        if not (sliders.redo() if redo else sliders.undo()):
            return None
        segmentation_node.SetAttribute(SEGMENT_ATTRIBUTE, sliders.segment_id)
        if sliders.segment_id != before:
            show_result(segmentation_node, sliders.segment_id)
        return Provenance.from_segment(sliders.segment)

    def steps(self, segmentation_node: Any) -> tuple[bool, bool]:
        """Whether ``undo`` has a step to take back, and one to make again; cheap."""
        kept = self._thresholders.get(segmentation_node.GetID())
        if kept is None or kept.segmentation_node is not segmentation_node:
            return False, False
        return kept.can_undo, kept.can_redo

    def measure(self, segmentation_node: Any, segment_id: str | None = None) -> list[LesionRow]:
        """Measure a segment as it is now, edited or not, and fill the scene's table with it."""
        segment_id = segment_id or self.segment_id(segmentation_node)
        volume_node = self.volume_of(segmentation_node)
        self._bring_along(segmentation_node)
        probability = self._probability(segmentation_node, segment_id)
        rows = measure_segment(segmentation_node, segment_id, volume_node, probability)
        add_table(rows, volume_node, segmentation_node)
        return rows

    def _probability(self, segmentation_node: Any, segment_id: str) -> ProbabilityMap | None:
        """That of the run that made the segment, which need not be the newest; None if there is
        none that fits."""
        if not self._maps_fit(segmentation_node, segment_id):
            return None
        kept = self._thresholders.get(segmentation_node.GetID())
        if kept is not None and kept.segment_id == segment_id:
            return kept.probability
        node = maps_of(segmentation_node, segment_id)[0]
        return None if node is None else ProbabilityMap(volume_from_node(node))

    def report(
        self,
        segmentation_node: Any,
        folder: str | Path,
        segment_id: str | None = None,
        *,
        wait: bool = True,
    ) -> Report:
        """Write a report (one HTML page) of a segment as it is now into ``folder``.

        ``wait``: return when it is written, and raise what went wrong (``InputError`` if it
        cannot be written); otherwise the returned ``Report`` is polled. Nothing is written over:
        the page gets a name of its own.
        """
        segment_id = segment_id or self.segment_id(segmentation_node)
        self._bring_along(segmentation_node)
        fit = self._maps_fit(segmentation_node, segment_id)
        made = Report(
            segmentation_node,
            segment_id,
            self.volume_of(segmentation_node),
            self._probability(segmentation_node, segment_id),
            maps_of(segmentation_node, segment_id)[1] if fit else None,
            Path(folder),
        )
        if wait:
            made.wait()
        return made

    def in_mni(self, segmentation_node: Any, segment_id: str = "") -> SegmentInMni:
        """A result, or another segment, in MNI space: ``regions()``, ``write(folder)``.

        Raises ``ValueError`` if the image was not aligned.
        """
        segment_id = segment_id or self.segment_id(segmentation_node)
        self._bring_along(segmentation_node)
        return SegmentInMni(
            segmentation_node,
            segment_id,
            self.volume_of(segmentation_node),
            self._probability(segmentation_node, segment_id),
        )

    def search(
        self,
        segmentation_node: Any,
        threshold: float,
        min_volume_ml: float,
        dropped: Iterable[Seed] = (),
    ) -> Callable[[], Found]:
        """The work of ``threshold`` that touches arrays only, for a thread."""
        return self.thresholder(segmentation_node).search(threshold, min_volume_ml, dropped)

    def rows(self, segmentation_node: Any) -> list[LesionRow]:
        """The lesions of a result for a list: dropped ones, too, unless it was edited by hand."""
        return rows_of(self.found_later(segmentation_node)())

    def found_later(self, segmentation_node: Any) -> Callable[[], Found]:
        """What ``rows`` lists: the work that touches arrays only, for a thread; nodes are read
        here."""
        segment_id = self.segment_id(segmentation_node)
        volume_node = self.volume_of(segmentation_node)
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        try:
            sliders = self.thresholder(segmentation_node)
        except ValueError:  # without its map there are no sliders, but a segment to measure
            sliders = None
        if sliders is not None and not edited(segmentation_node, segment_id, volume_node):
            return sliders.search()
        patch = read_segment(segmentation_node, segment_id, volume_node)
        probability = None if sliders is None else sliders.probability
        to_mni = Provenance.from_segment(segment).to_mni
        return lambda: lesions_of_patch(patch, to_mni, probability)

    def corrected(self, segmentation_node: Any) -> bool:
        """Whether the segment of the sliders was edited by hand since they, or a run, wrote it."""
        try:
            segment_id = self.segment_id(segmentation_node)
            return edited(segmentation_node, segment_id, self.volume_of(segmentation_node))
        except ValueError:
            return False

    def fits(self, segmentation_node: Any) -> bool:
        """Whether the image still has the voxels that the result of the sliders was found in, as
        far as that is known."""
        return self._maps_fit(segmentation_node, self.segment_id(segmentation_node))

    def tabulate(self, segmentation_node: Any, rows: list[LesionRow]) -> Any:
        """Put rows into the scene's table of a segmentation; returns the table node."""
        return add_table(rows, self.volume_of(segmentation_node), segmentation_node)

    def _bring_along(self, segmentation_node: Any) -> None:
        """What belongs to image and segmentation follows them, see ``bring_along``; undo does not
        go back to another grid."""
        with contextlib.suppress(ValueError):  # without its image there is nothing to follow
            if bring_along(segmentation_node, self.volume_of(segmentation_node)):
                self._thresholders.pop(segmentation_node.GetID(), None)

    def _maps_fit(self, segmentation_node: Any, segment_id: str) -> bool:
        """Whether the maps of a result are still those of its image, as far as that is there."""
        try:
            volume_node = self.volume_of(segmentation_node)
        except ValueError:
            return True
        return not resampled_since(segmentation_node, segment_id, volume_node)

    def _let_go(self) -> None:
        """Of segmentations that were removed from the scene, with their maps."""
        for key, kept in list(self._thresholders.items()):
            if node_by_id(key) is not kept.segmentation_node:
                del self._thresholders[key]

    def forget(self) -> None:
        """Let go of everything, when the scene closes."""
        self._thresholders.clear()


def newest_segment(segmentation_node: Any) -> str:
    """The id of the segment that the sliders belong to, or an empty string.

    Where somebody has removed it, that is the newest of the results that are left.
    """
    node = node_by_id(segmentation_node.GetID()) if segmentation_node is not None else None
    segment_id = "" if node is None else node.GetAttribute(SEGMENT_ATTRIBUTE) or ""
    if node is None or not segment_id:
        return ""
    if node.GetSegmentation().GetSegment(segment_id) is not None:
        return str(segment_id)
    left = results_of(node)
    return left[-1][0] if left else ""
