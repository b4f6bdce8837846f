"""What the sections of the panel share. The form's widgets are used as PythonQt offers them.

That is: properties are attributes, signals are named by their signature, calls take no keywords.
``qt`` is handed in, so that the offscreen tests can drive the same code.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...engine.process import Failure, failure_of
from ...engine.run import RunParameters
from ..logic import newest_segment
from .texts import PanelView

_POLL_MS = 50
# While a thread of ours works, which gets its turns by polling (see ``process``).
_BUSY_POLL_MS = 5
# Within this time after a start, the same button does not mean the reverse: a double-click.
_DOUBLE_S = 0.5
# A column of a table may always be this wide (pixels).
_NARROW = 90


@dataclass
class Notes:
    """What is told of the last action until the next one."""

    problem: str = ""
    warnings: tuple[str, ...] = ()
    #: The segment was corrected by hand: the sliders go on with a new one.
    kept_apart: bool = False
    cancelled: bool = False


class Panel:
    """The form ``ui`` (its widgets by name), the logic, Qt, and the parameters of the scene.

    ``refresh`` brings the texts and the state of all widgets up to date; ``poll`` is called again
    and again from ``keep_polling`` until ``stop_polling``.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        qt: Any,
        *,
        refresh: Callable[[], None],
        poll: Callable[[], None],
    ) -> None:
        self.ui, self.logic, self.qt = ui, logic, qt
        self.refresh = refresh
        self.parameters: Any = None
        self.notes = Notes()
        #: Parameters are being set by the panel itself, which does not act on each of them.
        self.syncing = False
        self._polls_often = False
        self._poll = self.timer(_POLL_MS, poll, single=False)

    # -- slots and timers -----------------------------------------------------------------------

    def guarded(self, action: Callable[..., None]) -> Callable[..., None]:
        """``action`` as a slot whose defects are told: Qt would print and swallow them."""

        def slot(*arguments: Any) -> None:
            try:
                action(*arguments)
            except Exception as error:
                logging.exception("StrokeLesionSeg: %s failed", action)
                self.notes.problem = f"{type(error).__name__}: {error}"
                self.refresh()

        return slot

    def connect(self, widget: Any, signal: str, action: Callable[..., None]) -> None:
        """Call ``action`` with the values of ``signal``."""
        widget.connect(signal, self.guarded(action))

    def on_click(self, button: Any, action: Callable[[], None]) -> None:
        """Call ``action`` when the button is pressed."""
        slot = self.guarded(action)
        button.connect("clicked(bool)", lambda *_: slot())

    def timer(self, milliseconds: int, call: Callable[[], None], single: bool = True) -> Any:
        """A ``QTimer`` that is not started yet."""
        timer = self.qt.QTimer()
        timer.setInterval(milliseconds)
        timer.setSingleShot(single)
        timer.connect("timeout()", self.guarded(call))
        return timer

    def keep_polling(self) -> None:
        """Something was started that has to be looked after."""
        self._poll.start()

    def stop_polling(self) -> None:
        """Nothing has to be looked after any more."""
        self._poll.stop()

    def poll_often(self, often: bool) -> None:
        """Whether a thread works that gets its turns by being polled."""
        if often != self._polls_often:  # setting it starts the timer's interval again
            self._polls_often = often
            self._poll.setInterval(_BUSY_POLL_MS if often else _POLL_MS)

    # -- widgets --------------------------------------------------------------------------------

    def show_text(self, label: Any, html: str) -> None:
        """Show a text of any length in a label; what is below it makes room, and stays there.

        A ctkCollapsibleButton does not ask how high its labels become at their width.
        """
        label.text = html
        label.setMinimumHeight(max(label.minimumHeight, label.heightForWidth(label.width)))

    def fill_table(
        self,
        table: Any,
        headers: Sequence[str],
        rows: Iterable[Sequence[str]],
        tips: Iterable[str] = (),
        widest: Sequence[float] = (),
    ) -> None:
        """Fill a table with texts, ``tips`` one for each row; without rows it is not shown.

        ``widest``: the part of the table's width that each column may take, of the first ones.
        """
        rows, tips = list(rows), list(tips)
        table.setColumnCount(len(headers))
        table.setHorizontalHeaderLabels(list(headers))
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            self._fill_row(table, number, row, tips[number] if tips else "")
        self._fit_columns(table, widest)
        table.visible = bool(rows)

    def change_row(
        self, table: Any, number: int, row: Sequence[str], tip: str, widest: Sequence[float]
    ) -> None:
        """Fill one row anew; a column grows if that is needed, and none but the last, which takes
        what is left, becomes narrower."""
        before = [table.columnWidth(column) for column in range(len(row) - 1)]
        self._fill_row(table, number, row, tip)
        self._fit_columns(table, widest)
        for column, width in enumerate(before):
            if table.columnWidth(column) < width:
                table.setColumnWidth(column, width)

    def _fill_row(self, table: Any, number: int, row: Sequence[str], tip: str) -> None:
        for column, text in enumerate(row):
            item = self.qt.QTableWidgetItem(text)
            item.setToolTip(tip)
            table.setItem(number, column, item)

    def _fit_columns(self, table: Any, widest: Sequence[float]) -> None:
        table.resizeColumnsToContents()
        # One that has not been shown has no width of its own yet.
        room = table.width if table.isVisible() else table.parentWidget().width
        for column, share in enumerate(widest):
            most = max(_NARROW, int(share * room))
            table.setColumnWidth(column, min(table.columnWidth(column), most))

    # -- parameters -----------------------------------------------------------------------------

    def set(self, **values: Any) -> None:
        """Set parameters in one go, without acting on each."""
        with self.quiet():
            for name, value in values.items():
                setattr(self.parameters, name, value)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Changes of parameters and choices made here are not those of the user."""
        self.syncing = True
        try:
            yield
        finally:
            self.syncing = False

    def segmentation(self) -> Any | None:
        """The segmentation that holds the result shown now."""
        node = self.parameters.segmentation if self.parameters is not None else None
        return node if node is not None and newest_segment(node) else None

    def result(self) -> tuple[Any, str] | None:
        """What the sliders change now: segmentation and id of the segment."""
        node = self.segmentation()
        return None if node is None else (node, newest_segment(node))

    def run_parameters(
        self, threshold: float | None = None, min_volume_ml: float | None = None
    ) -> RunParameters:
        """The choices for a run; threshold and smallest lesion (mL) are the model's by default."""
        p = self.parameters
        return RunParameters(
            p.views, p.align, p.device, p.precision, p.model, threshold, min_volume_ml
        )


def sentence_of(error: Exception) -> str:
    """What went wrong, for the user: of an error of the system its cause and what to do."""
    return failure_of(error).sentence if isinstance(error, OSError) else str(error)


def show_crash(failure: Failure) -> None:
    """The last lines of a crash in a dialog; what has no lines is told by the panel alone."""
    import slicer

    if failure.lines and not slicer.app.testingEnabled():
        slicer.util.errorDisplay(
            f"{failure.cause}\n\n{failure.remedy}", detailedText="\n".join(failure.lines)
        )


class ForResult:
    """A widget that works on a result. Without one, its tip says why it cannot be used."""

    def __init__(self, widget: Any) -> None:
        self._widget, self._tip = widget, widget.toolTip

    def show(self, view: PanelView, usable: bool = True, tip: str = "") -> None:
        """``usable``: what it needs besides; ``tip``: instead of its own."""
        self._widget.enabled = view.result_enabled and usable
        self._widget.toolTip = (tip or self._tip) if view.result_enabled else view.result_tooltip


class Started:
    """When something was started; tells the second press of a double-click from a Cancel."""

    def __init__(self) -> None:
        self._at: float | None = None

    def now(self) -> None:
        """It starts."""
        self._at = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long ago that was; infinite if it never was."""
        return float("inf") if self._at is None else time.monotonic() - self._at

    @property
    def just_now(self) -> bool:
        """Whether a press now belongs to the same double-click."""
        return self.seconds < _DOUBLE_S
