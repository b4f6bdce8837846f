"""Two scans of one person: what became of the lesions, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....errors import InputError
from ...engine.compare import ComparisonRun, ScanChange, ScanToCompare, patch_of
from ...engine.process import failure_of
from ...engine_words import class_name, side_name
from ...i18n import tr as _
from ...scene import results, side_by_side
from ...scene.volumes import if_present
from ..logic import newest_segment
from . import texts
from .context import Panel, Started

CHANGE_HEADERS = (_("Group"), _("Class"), _("Side"), _("Before,\nmL"), _("After,\nmL"), _("Change"))


class ChangeSection:
    """Compares the scan of the panel, which is the later one, with an earlier one. ``settle()``
    lets the segment follow the sliders, before it is compared."""

    def __init__(self, panel: Panel, settle: Callable[[], None]) -> None:
        self._panel, self._settle, ui = panel, settle, panel.ui
        self._run: ComparisonRun | None = None
        self._started = Started()
        self._change: ScanChange | None = None
        self._earlier: Any = None
        ui.changeTable.visible = False
        panel.on_click(ui.compareButton, self._on_compare)
        panel.on_click(ui.turnBackButton, self._on_turn_back)
        panel.connect(ui.changeTable, "cellClicked(int,int)", lambda row, *_: self._go_to(row))

    @property
    def running(self) -> bool:
        """Whether scans are compared."""
        return self._run is not None

    @property
    def busy(self) -> bool:
        """Whether a thread of the comparison works."""
        return self._run is not None and self._run.working

    @property
    def earlier(self) -> Any | None:
        """The earlier scan of the comparison that is shown, if it is still there."""
        return if_present(self._earlier)

    def cancel(self) -> None:
        """End a comparison and let go of its scans; the scene stays as it is."""
        if self._run is not None:
            self._run.cancel()
            self._end("")
        self._earlier = None

    def show(self, _view: texts.PanelView) -> None:
        """Whether the chosen scan is aligned; nothing of a comparison whose scans are gone."""
        ui, parameters = self._panel.ui, self._panel.parameters
        later = None if parameters is None else parameters.inputVolume
        ui.turnBackButton.enabled = side_by_side.alignment_of(later) is not None
        if self._change is not None and self.earlier is None:
            self._change, ui.changeTable.visible = None, False
            self._panel.show_text(ui.changeLabel, "")

    def poll(self) -> bool:
        """Look after a comparison; True while it runs."""
        run = self._run
        if run is None:
            return False
        if run.poll():
            self._panel.show_text(self._panel.ui.changeLabel, texts.as_html(run.stage_text + "..."))
            return True
        if run.change is not None:
            self._end(_change_text(run.change))
            self._take(run, run.change)
        elif run.failure is not None:
            self._end(run.failure.sentence, strong=True)
        else:
            self._end("")
        return False

    def _on_compare(self) -> None:
        if self._run is not None:
            if not self._started.just_now:
                self._run.cancel()
                self._end(_("Cancelled; the scene is as it was."))
            return
        ui = self._panel.ui
        earlier, later = ui.earlierSelector.currentNode(), self._panel.parameters.inputVolume
        if earlier is None or later is None:
            said = _("Choose the later scan at the top and the earlier one here.")
            self._panel.show_text(ui.changeLabel, texts.as_html(said, strong=True))
            return
        self._settle()
        settings = self._panel.run_parameters()
        run = ComparisonRun(_to_compare(earlier), _to_compare(later), settings)
        try:
            run.start()
        except (InputError, OSError) as error:
            said = str(error) if isinstance(error, InputError) else failure_of(error).cause
            self._panel.show_text(ui.changeLabel, texts.as_html(said, strong=True))
            return
        self._run = run
        self._started.now()
        ui.compareButton.text = _("Cancel")
        self._panel.show_text(ui.changeLabel, texts.as_html(run.stage_text + "..."))
        self._panel.keep_polling()

    def _end(self, text: str, strong: bool = False) -> None:
        self._run, ui = None, self._panel.ui
        ui.compareButton.text = _("Compare")
        self._panel.show_text(ui.changeLabel, texts.as_html(text, strong=strong))

    def _take(self, run: ComparisonRun, change: ScanChange) -> None:
        earlier, later = (scan.volume_node for scan in run.scans)
        for number, found in change.found.items():
            node = run.scans[number].volume_node
            segmentation = results.find_segmentation(node) or results.add_segmentation(node)
            segment = results.add_segment(segmentation, patch_of(found.mask, node), found.made)
            self._panel.logic.choose(segmentation, segment)
        # Those that a reader has drawn on it, too.
        own = [n for n in results.segmentations_of(later) if results.same_parent(n, later)]
        side_by_side.align_later(earlier, later, change.matrix, own)
        for node in own:
            results.bring_along(node, later)
        for node in (earlier, later):
            segmentation = results.find_segmentation(node)
            display = segmentation.GetDisplayNode() if segmentation is not None else None
            if display is not None:
                display.SetVisibility(True)
        side_by_side.show_side_by_side(earlier, later)
        self._earlier, self._change = earlier, change
        self._panel.fill_table(
            self._panel.ui.changeTable,
            CHANGE_HEADERS,
            [_cells(row) for row in change.rows],
            [_tip(row) for row in change.rows],
        )
        self._go_to(0)
        self._panel.refresh()

    def _go_to(self, row: int) -> None:
        """All views go to a group of lesions, in both scans."""
        change = self._change
        if change is None or not 0 <= row < len(change.rows) or self.earlier is None:
            return
        centre = change.centre(row, self.earlier)
        if centre is not None:
            results.jump_to(centre, self.earlier)

    def _on_turn_back(self) -> None:
        """The later scan goes back to where it was."""
        if self._panel.parameters is not None:
            side_by_side.turn_back(self._panel.parameters.inputVolume)
        self._panel.refresh()


def _to_compare(volume_node: Any) -> ScanToCompare:
    """A scan with the segment that the panel's sliders belong to, if it has one."""
    segmentation = results.find_segmentation(volume_node)
    return ScanToCompare(volume_node, segmentation, newest_segment(segmentation))


def _change_text(change: ScanChange) -> str:
    """One line: volumes, change, classes."""
    facts = change.facts
    text = _("{before:.1f} mL before, {after:.1f} mL after.").format(
        before=facts["first"]["volume_ml"], after=facts["second"]["volume_ml"]
    )
    kinds = ", ".join(f"{count} {class_name(kind)}" for kind, count in facts["groups"].items())
    if not kinds:
        return text + " " + _("No lesion in either scan.")
    return text + " " + _("Groups of lesions: {kinds}.").format(kinds=kinds)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    change = row["change_ml"]
    return (
        str(row["group"]),
        class_name(str(row["class"])),
        side_name(str(row["side"] or "")),
        f"{row['volume_a_ml']:.2f}",
        f"{row['volume_b_ml']:.2f}",
        "" if change is None else f"{change:+.2f}",
    )


def _tip(row: dict[str, Any]) -> str:
    """What a row says of its change."""
    if row["change_ml"] is None:
        return _("The other scan does not cover it.")
    noise = f"{row['repeat_noise_ml']:.2f}"
    if row["beyond_noise"]:
        return _("More than two scans of one day can differ by ({noise} mL).").format(noise=noise)
    return _("Within what two scans of one day can differ by ({noise} mL).").format(noise=noise)
