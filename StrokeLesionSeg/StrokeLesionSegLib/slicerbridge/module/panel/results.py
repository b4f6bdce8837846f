"""What a batch wrote: its results in a table, one of them shown, its correction saved."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....errors import InputError
from ...engine import batch
from ...engine.polled_thread import PolledThread
from ...engine.process import Progress
from ...engine.run import provenance_of
from ...engine_words import state_name
from ...i18n import tr as _
from ...scene import derivative
from . import texts
from .context import Panel, sentence_of

# Names of scans and reasons may be long; the other columns stay in sight.
_WIDEST, _HALF = (0.4, 0.25), 0.45
RESULT_HEADERS = (_("Scan"), _("State"), _("Lesions"), _("mL"), _("Corrected"))


class BatchResults:
    """The folder for results; ``listed(any)`` is told whether it holds any. ``settle()`` lets the
    segment follow the sliders, before it is saved."""

    def __init__(
        self, panel: Panel, listed: Callable[[bool], None], settle: Callable[[], None]
    ) -> None:
        self._panel, self._listed, self._settle, ui = panel, listed, settle, panel.ui
        self._rows: list[dict[str, Any]] = []
        #: Whether the table shows what a batch would do.
        self._planned = False
        #: The folder of the batch that runs, and by stem the rows that it has told of.
        self._running_in, self._told = "", dict[str, dict[str, Any]]()
        self._opening: PolledThread[Any] | None = None
        #: The segmentation and the other image of which it was asked whether to save at all.
        self._asked: tuple[Any, str] | None = None
        ui.batchTable.visible = False
        panel.connect(ui.batchTable, "cellDoubleClicked(int,int)", self._on_row)
        changed = "currentPathChanged(QString)"
        panel.connect(ui.batchOutputPathLineEdit, changed, lambda *_: self.list_folder())
        panel.on_click(ui.saveCorrectionButton, self._on_save_correction)

    @property
    def folder(self) -> str:
        """The folder that the form names; empty if it names none."""
        typed = str(self._panel.ui.batchOutputPathLineEdit.currentPath)
        return str(batch.folder_of(typed)) if typed.strip() else ""

    def tell(self, text: str, strong: bool = False) -> None:
        """Say something of the batch or its results; nothing in it is taken as markup."""
        self._panel.show_text(self._panel.ui.batchLabel, texts.as_html(text, strong=strong))

    def list_folder(self) -> None:
        """Show what the folder for results holds by now, and what a batch does there."""
        rows = derivative.results_in(Path(self.folder)) if self.folder else []
        self._listed(bool(rows))
        if self._told and self.folder == self._running_in:
            by_stem = {str(row["scan"]): row for row in rows}
            for stem, row in self._told.items():
                by_stem[stem] = {**row, "corrected": by_stem.get(stem, row)["corrected"]}
            rows = [by_stem[stem] for stem in sorted(by_stem)]
        self.list_rows(rows)

    def list_plan(self, rows: list[dict[str, Any]]) -> None:
        """Show what a batch would do: there are no numbers yet, and room for the reasons."""
        self._rows, self._planned = rows, True
        self._panel.fill_table(
            self._panel.ui.batchTable,
            RESULT_HEADERS[:2],
            (_cells(row)[:2] for row in rows),
            map(_tip, rows),
            widest=(_HALF, _HALF),
        )

    def list_rows(self, rows: list[dict[str, Any]]) -> None:
        """Show these results."""
        self._rows, self._planned = rows, False
        self._panel.fill_table(
            self._panel.ui.batchTable,
            RESULT_HEADERS,
            map(_cells, rows),
            map(_tip, rows),
            widest=_WIDEST,
        )

    # -- while a batch runs -----------------------------------------------------------------------

    def begin(self) -> None:
        """A batch into the folder is being started."""
        self._running_in, self._told = self.folder, {}
        if self._planned:  # its rows have no room for results
            self.list_folder()

    def follow(self, event: Progress) -> None:
        """A batch tells of scans: each in its row, the others stay as they are."""
        told = batch.rows_told(event)
        self._told.update(told)
        if not told or self.folder != self._running_in:
            return
        places = {row["scan"]: number for number, row in enumerate(self._rows)}
        if len(told) > 1 or not told.keys() <= places.keys():
            self.list_folder()
            return
        for stem, row in told.items():
            number = places[stem]
            row = self._rows[number] = {**row, "corrected": self._rows[number]["corrected"]}
            table = self._panel.ui.batchTable
            self._panel.change_row(table, number, _cells(row), _tip(row), _WIDEST)
            self._listed(row["state"] == "done" or any(r["state"] == "done" for r in self._rows))

    def end(self) -> None:
        """The batch has ended: what counts now is what lies in the folder."""
        self._running_in, self._told = "", {}
        self.list_folder()

    # -- one of them ------------------------------------------------------------------------------

    def poll(self) -> bool:
        """Look after a result that is being read; True while it is."""
        if self._opening is not None and not self._opening.poll():
            self._finish_opening()
        return self.busy

    @property
    def busy(self) -> bool:
        """Whether a result is being read."""
        return self._opening is not None

    @property
    def can_save(self) -> bool:
        """Whether the segment that is shown is of a derivative."""
        node = self._panel.segmentation()
        return node is not None and derivative.belongs_to(node)

    def show(self, _view: texts.PanelView) -> None:
        """Whether there is a correction to be saved."""
        self._panel.ui.saveCorrectionButton.enabled = self.can_save

    def forget(self) -> None:
        """The scene closes: a result that is being read was for that one."""
        self._asked = None
        if self._opening is not None:
            self._opening = None
            self.tell("")

    def _on_row(self, row: int, _column: int) -> None:
        """A double-click: scan and mask are read in a thread, and shown."""
        if self._opening is not None or not 0 <= row < len(self._rows):
            return
        stem, state = self._rows[row]["scan"], self._rows[row]["state"]
        if state != "done":  # there is no mask: why not is what counts
            why = self._rows[row].get("error") or state_name(state)
            self.tell(f"{stem}: {why}", strong=True)
            return
        self.tell(_("Reading {scan}...").format(scan=stem))
        read = functools.partial(derivative.read_result, Path(self.folder), stem)
        self._opening = PolledThread(read)
        self._panel.keep_polling()

    def _finish_opening(self) -> None:
        opening, self._opening = self._opening, None
        assert opening is not None
        try:
            read = opening.result()
        except (InputError, OSError, ValueError) as error:
            self.tell(sentence_of(error), strong=True)
            return
        volume, segmentation, segment_id = derivative.add_result(read, provenance_of(read.sidecar))
        self._panel.logic.choose(segmentation, segment_id)
        if self._panel.parameters is not None:
            self._panel.parameters.inputVolume = volume
        self._panel.ui.resultCollapsibleButton.collapsed = False  # the button Edit is in there
        said = _("{scan} is shown above. Press Edit to correct it, then Save correction.")
        self.tell(said.format(scan=read.stem))
        self._panel.refresh()

    def _on_save_correction(self) -> None:
        """The segment as it is now goes into the derivative, beside the automatic mask."""
        node, panel = self._panel.segmentation(), self._panel
        if node is None or not derivative.belongs_to(node):
            return
        self._settle()
        image = derivative.changed_image(node)
        if image and (node, image) != self._asked:
            self._asked = (node, image)
            said = _(
                "Nothing was saved yet: the image was filtered or warped since it was opened. If "
                "it was warped, this mask does not lie on the scan: open that again and correct "
                "it. If it was only filtered, press Save correction again."
            )
            self.tell(said, strong=True)
            return
        try:
            who, segment_id = panel.ui.whoLineEdit.text.strip(), panel.logic.segment_id(node)
            path = derivative.save_correction(node, segment_id, who)
        except (InputError, OSError, ValueError) as error:
            self.tell(sentence_of(error), strong=True)
            return
        shown = texts.links_html(_("Saved:"), path)
        others = derivative.left_out(node, segment_id)
        if others:
            said = _(
                "This is the segment '{name}' alone, without {others}. What belongs to the lesions "
                "of this scan has to be added to it, with 'Logical operators' of the Segment "
                "Editor, and saved again."
            ).format(
                name=node.GetSegmentation().GetSegment(segment_id).GetName(),
                others=", ".join(f"'{other}'" for other in others),
            )
            shown += f"<br><b>{html.escape(said)}</b>"
        panel.show_text(panel.ui.batchLabel, shown)
        self.list_folder()


def _tip(row: dict[str, Any]) -> str:
    """What is odd of a scan, in full."""
    return str(row.get("error") or row.get("warnings") or "")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    state, why = state_name(row["state"]), row.get("error")
    return (
        row["scan"],
        f"{state}: {why}" if why else state,
        "" if row["lesions"] is None else str(row["lesions"]),
        "" if row["volume_ml"] is None else f"{row['volume_ml']:.1f}",
        _("yes") if row["corrected"] else "",
    )
