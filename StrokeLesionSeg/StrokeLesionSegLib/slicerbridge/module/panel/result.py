"""The result that is shown: its sliders, undo and redo, the lesions left out, and editing."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from ...engine.polled_thread import PolledThread
from ...scene.probability_map import Found, seeds_from_text, seeds_to_text
from ...scene.provenance import Provenance
from ..logic import newest_segment
from ..measure import LesionRow, rows_of
from .context import ForResult, Panel
from .table import LesionTable
from .texts import PanelView

_APPLY_MS = 20
# A pause this long ends a step: until then, all changes of the sliders are one step for undo.
_SETTLE_MS = 700


class ResultSection:
    """The segment follows the sliders and the ticks of the table, searched for in a thread.

    ``refilled()``: the table shows another segment, or the same after a change.
    """

    def __init__(self, panel: Panel, refilled: Callable[[], None]) -> None:
        self._panel, ui = panel, panel.ui
        self.table = LesionTable(panel, self._on_tick, refilled)
        #: The result that the sliders are those of.
        self.shown: tuple[Any, str] | None = None
        #: Changes belong to the step that is open, until the hand rests.
        self.step_open = False
        #: The segment was corrected by hand since a run or the sliders wrote it.
        self.corrected = False
        #: The image has other voxels by now than those that the result was found in.
        self.other_image = False
        self._applied: tuple[float, float, str] | None = None
        self._apply_due = self._searching = False
        self._work: PolledThread[Any] | None = None
        self._then: Callable[[Any], None] | None = None
        self._apply = panel.timer(_APPLY_MS, self._apply_sliders)
        self._settle = panel.timer(_SETTLE_MS, self.close_step)
        self._for_result = [
            ForResult(widget)
            for widget in (ui.thresholdSlider, ui.minimumVolumeSpinBox, ui.editButton)
        ]
        self._undo, self._redo = ForResult(ui.undoButton), ForResult(ui.redoButton)
        panel.on_click(ui.undoButton, lambda: self._on_undo(redo=False))
        panel.on_click(ui.redoButton, lambda: self._on_undo(redo=True))
        panel.on_click(ui.editButton, self._on_edit)

    # -- which result -----------------------------------------------------------------------------

    def forget(self) -> None:
        """Other parameters come, with another result or none."""
        self.stop()
        self._settle.stop()
        self.step_open = False
        self._applied = self.shown = None
        self.table.forget()

    def take_over(self) -> None:
        """The sliders are those of the result of a scene that was loaded."""
        self.shown = self._panel.result()
        if self.shown is not None:  # loading may have turned the voxels that are meant
            self._panel.set(dropped=self._panel.logic.settings(self.shown[0]).dropped)
        self._applied = self._settings()
        self.other_image = self._has_other_image()

    def let_go(self) -> None:
        """The sliders are no result's."""
        self.shown = None

    def show_settings(self, made: Provenance) -> None:
        """Put the settings that made a segment into the sliders, without applying them again."""
        self._panel.set(
            threshold=min(max(made.threshold, 0.05), 0.95),
            minimumVolumeMl=min(max(made.min_volume_ml, 0.0), 100.0),
            dropped=made.dropped,
        )
        self.take_over()

    def show_settings_again(self) -> None:
        """The segment may be another one by now: Slicer's undo takes its settings along."""
        result = self._panel.result()
        if result is not None and result == self.shown and self.follows:
            segment = result[0].GetSegmentation().GetSegment(result[1])
            self.show_settings(Provenance.from_segment(segment))

    def show(self, view: PanelView) -> None:
        """What can be used now."""
        node = self._panel.segmentation()
        back, forward = (False, False) if node is None else self._panel.logic.steps(node)
        for widget in self._for_result:
            widget.show(view)
        self._undo.show(view, usable=back or self.step_open)
        self._redo.show(view, usable=forward)
        self.table.show(view)

    # -- work in a thread -------------------------------------------------------------------------

    def read_rows(self) -> None:
        """Fill the table with what is in the segment now, once that is measured in a thread."""
        node = self._panel.segmentation()
        self._searching = False
        self.corrected = node is not None and self._panel.logic.corrected(node)
        self.other_image = self._has_other_image()
        try:
            work = self._panel.logic.found_later(node) if node is not None else None
        except ValueError as error:
            self._panel.notes.problem, work = str(error), None
        if work is None:
            self._work, self._then = None, None
            self.table.fill([])
        else:
            self._in_thread(work, functools.partial(self._show_rows, node))

    def follow_image(self) -> None:
        """The image was moved or changed: its lesions lie elsewhere, or are to be measured anew."""
        if self._has_other_image() != self.other_image:
            self.read_rows()
        else:
            self.table.fill_again()

    def _has_other_image(self) -> bool:
        node = self._panel.segmentation()
        return node is not None and not self._panel.logic.fits(node)

    def _show_rows(self, node: Any, found: Found) -> None:
        if node is self._panel.segmentation():
            rows = rows_of(found)
            self.table.fill(rows, found.expected_dice)
            self._panel.logic.tabulate(node, rows)

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """``then(work())``, with ``work`` in a thread; what was under way before is left."""
        self._work, self._then = PolledThread(work), then
        self._panel.keep_polling()

    def poll(self, wait: bool = False) -> bool:
        """Go on with what has come from the thread; True while it works."""
        work, then = self._work, self._then
        if work is None or then is None:
            return False
        if not wait and work.poll():
            return True
        self._work, self._then, self._searching = None, None, False
        try:
            then(work.result())
        except ValueError as error:
            self._panel.notes.problem = str(error)
        self._panel.refresh()
        return self.busy

    @property
    def busy(self) -> bool:
        """Whether a thread measures or searches."""
        return self._work is not None

    @property
    def moving(self) -> bool:
        """Whether the sliders move, so that the segment is not taken for one that came."""
        return self.step_open or self._searching

    @property
    def lesions(self) -> int | None:
        """How many lesions are kept; None until they are measured."""
        return None if self.busy else sum(row.keep for row in self.table.rows)

    # -- sliders and ticks ------------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether the segment is that of the sliders and ticks by now."""
        return not self._apply_due and self._applied == self._settings()

    def follow(self) -> None:
        """The parameters changed, maybe those of the sliders."""
        if self._applied != self._settings() and self._panel.segmentation() is not None:
            self._apply_soon()

    def stop(self) -> None:
        """Leave what is under way: it was for another result."""
        self._apply_due = self._searching = self.corrected = False
        self._work, self._then = None, None
        self._apply.stop()

    def shut_down(self) -> None:
        """The panel goes."""
        self._apply.stop()
        self._settle.stop()

    def _settings(self) -> tuple[float, float, str]:
        p = self._panel.parameters
        return (p.threshold, p.minimumVolumeMl, p.dropped)

    def _apply_soon(self) -> None:
        # A timer that is started again at every event of a drag would never run out.
        if not self._apply_due:
            self._apply_due = True
            self._apply.start()

    def _apply_sliders(self) -> None:
        self._apply_due = False
        panel = self._panel
        node = panel.segmentation()
        if node is None or self._applied == self._settings():
            return
        if self._searching:  # its end looks at the sliders again
            return
        settings = self._settings()
        try:
            if not self.step_open:
                panel.notes.kept_apart = panel.logic.begin(node) or panel.notes.kept_apart
                panel.notes.problem = ""
                self.shown = panel.result()
                self.step_open = True
                self._apply_soon()  # the GUI gets a turn between saving and changing
                return
            threshold, smallest, dropped = settings
            values = (threshold, smallest, seeds_from_text(dropped))
            work = panel.logic.search(node, *values)
        except ValueError as error:
            panel.notes.problem = str(error)
            self._settle.start()
            panel.refresh()
            return
        self._searching = True
        self._in_thread(work, functools.partial(self._write_found, node, settings, values))

    def _write_found(self, node: Any, settings: Any, values: Any, found: Found) -> None:
        """The segment follows; if the sliders moved on meanwhile, so does the next search."""
        if node is not self._panel.segmentation():
            return
        rows = self._panel.logic.threshold(node, *values, step=False, measure=False, found=found)
        self._applied, self.corrected = settings, False
        self.table.fill(rows, found.expected_dice)
        self._settle.start()
        if settings != self._settings():
            self._apply_soon()

    def close_step(self) -> None:
        """The hand rests: the segment is what the sliders ask for, the next change is a step of its
        own, and the scene's table follows."""
        while self._apply_due or self._searching:
            if self._searching:
                self.poll(wait=True)
            else:
                self._apply.stop()
                self._apply_sliders()
        self._settle.stop()
        if self.step_open:
            self.step_open = False
            node = self._panel.segmentation()
            if node is not None:
                with contextlib.suppress(ValueError):  # its image was removed meanwhile
                    self._panel.logic.tabulate(node, self.table.rows)

    def _on_tick(self, row: LesionRow, keep: bool) -> None:
        """A lesion is left out of the segment, or taken back."""
        seeds = seeds_from_text(self._panel.parameters.dropped)
        self.close_step()
        if keep:
            # Whichever voxel it was dropped by: all that lie in this lesion are forgotten.
            sliders = self._panel.logic.thresholder(self._panel.segmentation())
            seeds = sliders.seeds_outside(row.seed, seeds)
        else:
            seeds = [*seeds, row.seed]
        self._panel.parameters.dropped = seeds_to_text(seeds)

    # -- undo and editing -------------------------------------------------------------------------

    def _on_undo(self, redo: bool) -> None:
        panel = self._panel
        node = panel.segmentation()
        if node is None:
            return
        self.close_step()
        self.stop()
        try:
            made = panel.logic.undo(node, redo)
        except ValueError as error:
            panel.notes.problem = str(error)
            panel.refresh()
            return
        panel.notes.problem = ""
        if made is None:
            return
        panel.notes.kept_apart = False
        self.show_settings(made)
        self.read_rows()
        panel.refresh()

    def _on_edit(self) -> None:
        """Open the Segment Editor on this segment and image."""
        import slicer

        node = self._panel.segmentation()
        if node is None:
            return
        self.close_step()
        segment_id = newest_segment(node)
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(self._panel.parameters.inputVolume)
        editor.setCurrentSegmentID(segment_id)
        # Its first line says what to do next; Slicer's other tools are beside it.
        editor.setActiveEffectByName("StrokeLesion")
