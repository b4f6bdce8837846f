"""``participants.tsv`` of the input: what a study knows of its people, for tables and pages."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..brief import first_of
from ..errors import why_unread
from ..pipeline import sha256_of
from .lists import cells_between_tabs
from .naming import bare_label

PARTICIPANTS = "participants.tsv"
_LARGEST = 64 << 20
_KEY = "participant_id"


@dataclass(frozen=True)
class Participants:
    """What ``participants.tsv`` says.

    Attributes
    ----------
    columns: its columns but ``participant_id``, in their order.
    rows: their values by ``participant_id``, as subjects are called here (with ``sub-``).
    notes: one sentence for each thing that does not fit.
    """

    columns: tuple[str, ...] = ()
    rows: dict[str, dict[str, str]] | None = None
    notes: tuple[str, ...] = ()

    def of(self, participant: str) -> dict[str, str]:
        """The values of one person; empty if nothing is known."""
        return (self.rows or {}).get(participant, {})


def participants_checksum(source: Path) -> str:
    """Tells whether ``participants.tsv`` in ``source`` is that of another time; "" without one."""
    try:
        return sha256_of(_file(source))[:16]
    except OSError:
        return ""


def _file(source: Path) -> Path:
    return (source if source.is_dir() else source.parent) / PARTICIPANTS


def read_participants(source: Path, subjects: Iterable[str]) -> Participants:
    """``participants.tsv`` in the input folder ``source``; empty if there is none.

    ``subjects``: the participants of the cohort, with ``sub-``. A file that cannot be read or does
    not fit is a note, never an error: the scans do not depend on it.
    """
    file = _file(source)
    if not file.is_file():
        return Participants()
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        lines = _cells(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        why = why_unread(error)
        return Participants(notes=(f"{PARTICIPANTS} is not used: it cannot be read ({why}).",))
    head = [name.strip() for name in lines[0]] if lines else []
    if _KEY not in head or len(set(head)) != len(head):
        cause = "its columns are not distinct" if _KEY in head else f"it has no column {_KEY}"
        return Participants(notes=(f"{PARTICIPANTS} is not used: {cause}.",))
    key = head.index(_KEY)
    columns = tuple(name for name in head if name != _KEY and name)
    rows: dict[str, dict[str, str]] = {}
    torn = twice = 0
    for line in lines[1:]:
        if not any(cell.strip() for cell in line):
            continue
        if len(line) != len(head):
            torn += 1
            continue
        cells = dict(zip(head, (cell.strip() for cell in line), strict=True))
        name = line[key].strip()
        name = f"sub-{bare_label(name, 'sub-')}"
        twice += name in rows
        rows.setdefault(name, {column: cells[column] for column in columns})
    wanted = set(subjects)
    missing = wanted - set(rows)
    notes = []
    if torn:
        lines = "1 line is" if torn == 1 else f"{torn} lines are"
        notes.append(f"{PARTICIPANTS}: {lines} left out, with another number of cells.")
    if twice:
        lines = "1 line repeats" if twice == 1 else f"{twice} lines repeat"
        notes.append(f"{PARTICIPANTS}: {lines} a participant; the first counts.")
    if missing:
        notes.append(
            f"{PARTICIPANTS} lacks {len(missing)} of {len(wanted)} participants "
            f"({first_of(missing)})."
        )
    return Participants(columns, rows, tuple(notes))


def _cells(text: str) -> list[list[str]]:
    """The cells of every line, with or without quotes around them."""
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True))
    except csv.Error:
        # BIDS knows no quotes: a comment may begin with one, and would go on for lines.
        return cells_between_tabs(text)
