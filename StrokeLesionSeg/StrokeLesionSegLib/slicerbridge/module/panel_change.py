"""The part of the panel for two scans of one person: what became of the lesions, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ...errors import InputError
from ..engine.compare import ComparisonRun, ScanChange, ScanToCompare, patch_of
from ..engine.process import failure_of
from ..engine.run import RunParameters, provenance_of
from ..i18n import tr as _
from ..scene import results, side_by_side
from ..scene.volumes import if_present
from . import panel_texts
from .logic import newest_segment

CHANGE_HEADERS = (_("Group"), _("Class"), _("Side"), _("Before, mL"), _("After, mL"), _("Change"))


class PanelChange:
    """The part of ``PanelController`` for two scans of one person.

    Its attributes are those of the controller. The later scan is the panel's own.
    """

    ui: Any
    logic: Any
    qt: Any
    parameters: Any
    _poll: Any
    _started: dict[str, float]
    _comparison: ComparisonRun | None = None
    _changes: list[dict[str, Any]]
    _earlier: Any = None

    # What the other parts do.
    refresh: Callable[[], None]
    _double: Callable[[str], bool]

    def _on_compare(self, *_args: Any) -> None:
        if self._comparison is not None:
            if not self._double("compare"):
                self._comparison.cancel()
                self._end_comparison(_("Cancelled; the scene is as it was."))
            return
        p, ui = self.parameters, self.ui
        earlier, later = ui.earlierSelector.currentNode(), p.inputVolume
        if earlier is None or later is None:
            said = _("Choose the later scan at the top and the earlier one here.")
            ui.changeLabel.text = panel_texts.as_html(said, strong=True)
            return
        settings = RunParameters(p.views, p.align, p.device, p.precision, p.model)
        run = ComparisonRun(_to_compare(earlier), _to_compare(later), settings)
        try:
            run.start()
        except (InputError, OSError) as error:
            said = str(error) if isinstance(error, InputError) else failure_of(error).cause
            ui.changeLabel.text = panel_texts.as_html(said, strong=True)
            return
        self._comparison = run
        self._started["compare"] = time.monotonic()
        ui.compareButton.text = _("Cancel")
        ui.changeLabel.text = panel_texts.as_html(run.stage_text + "...")
        self._poll.start()

    def _poll_comparison(self) -> bool:
        """Look after a comparison; True while it runs."""
        run = self._comparison
        if run is None:
            return False
        if run.poll():
            self.ui.changeLabel.text = panel_texts.as_html(run.stage_text + "...")
            return True
        if run.change is not None:
            self._end_comparison(_change_text(run.change))
            self._take_change(run, run.change)
        elif run.failure is not None:
            told = f"{run.failure.cause} {run.failure.remedy}".strip()
            self._end_comparison(told, strong=True)
        else:
            self._end_comparison("")
        return False

    def _comparing_in_thread(self) -> bool:
        return self._comparison is not None and self._comparison.working

    def _end_comparison(self, text: str, strong: bool = False) -> None:
        self._comparison = None
        self.ui.compareButton.text = _("Compare")
        self.ui.changeLabel.text = panel_texts.as_html(text, strong=strong)

    def _take_change(self, run: ComparisonRun, change: ScanChange) -> None:
        earlier, later = (scan.volume_node for scan in run.scans)
        for number, found in change.found.items():
            node = run.scans[number].volume_node
            segmentation = results.find_segmentation(node) or results.add_segmentation(node)
            made = provenance_of(found.sidecar)
            segment = results.add_segment(segmentation, patch_of(found.mask, node), made)
            self.logic.choose(segmentation, segment)
        own = [node for node in (results.find_segmentation(later),) if node is not None]
        side_by_side.align_later(earlier, later, change.matrix, own)
        for node in (earlier, later):
            segmentation = results.find_segmentation(node)
            display = segmentation.GetDisplayNode() if segmentation is not None else None
            if display is not None:
                display.SetVisibility(True)
        side_by_side.show_side_by_side(earlier, later)
        self._earlier = earlier
        self._show_changes(change.rows)
        self.ui.turnBackButton.enabled = True
        if change.rows:
            self._on_change_row(0)
        self.refresh()

    def _show_changes(self, rows: list[dict[str, Any]]) -> None:
        table, qt = self.ui.changeTable, self.qt
        self._changes = rows
        table.setColumnCount(len(CHANGE_HEADERS))
        table.setHorizontalHeaderLabels(list(CHANGE_HEADERS))
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(_cells(row)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(_tip(row))
                table.setItem(number, column, item)
        table.resizeColumnsToContents()
        table.visible = bool(rows)

    def _on_change_row(self, row: int, *_args: Any) -> None:
        """All views go to the group of lesions, in both scans."""
        if not 0 <= row < len(self._changes) or if_present(self._earlier) is None:
            return
        centre = tuple(self._changes[row].get(f"centre_{axis}_mm") for axis in "ras")
        if None not in centre:
            results.jump_to(centre, self._earlier)  # type: ignore[arg-type]

    def _on_turn_back(self, *_args: Any) -> None:
        """The later scan goes back to where it was."""
        if self.parameters is not None:
            side_by_side.turn_back(self.parameters.inputVolume)
        self.ui.turnBackButton.enabled = False


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
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts["groups"].items())
    if not kinds:
        return text + " " + _("No lesion in either scan.")
    return text + " " + _("Groups of lesions: {kinds}.").format(kinds=kinds)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    change = row["change_ml"]
    return (
        str(row["group"]),
        str(row["class"]),
        str(row["side"] or ""),
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
