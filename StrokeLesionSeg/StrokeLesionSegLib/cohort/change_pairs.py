"""Which scans of a study are compared: of each person, each session with the next."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePath
from typing import Any

from ..brief import first_of
from ..errors import InputError
from .ledger import DONE
from .lists import table_rows
from .naming import bare_label

_Record = Mapping[str, Any]
# Participants that a sentence names.
_NAMED = 3


@dataclass(frozen=True)
class SessionPair:
    """Two consecutive sessions of one person.

    Attributes
    ----------
    subject: label without ``sub-``. first, second: the ledger's records of the scans.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort.change_pairs import SessionPair
    >>> SessionPair("01", {"session": "1"}, {"session": "2"}).name
    'sub-01_ses-1_ses-2'
    """

    subject: str
    first: _Record
    second: _Record

    @property
    def name(self) -> str:
        return f"sub-{self.subject}_ses-{self.first['session']}_ses-{self.second['session']}"


def session_pairs(
    records: Iterable[_Record],
    root: Path | None = None,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
) -> tuple[list[SessionPair], list[str]]:
    """The pairs of a study in the order of their names, and what is odd, a sentence each.

    ``records``: of the ledger. ``root``: the BIDS data set that was segmented, whose
    ``sub-*_sessions.tsv`` say when sessions were, if they do. ``participants``, ``sessions``:
    labels of those that are wanted; empty takes all. Sessions are in the order of ``sessions`` if
    that is given, else of their times, else of the numbers in their labels, else of the labels.

    Raises ``InputError`` for a label that is not there, or if nobody has two sessions.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort.change_pairs import session_pairs
    >>> scans = [{"subject": "01", "session": s, "stem": s, "state": "done"} for s in ("10", "2")]
    >>> [pair.name for pair in session_pairs(scans)[0]]
    ['sub-01_ses-2_ses-10']
    """
    records = list(records)
    participants = [bare_label(name, "sub-") for name in participants]
    sessions = list(dict.fromkeys(bare_label(name, "ses-") for name in sessions))
    _check_labels(records, participants, sessions)
    people: dict[str, dict[str, list[_Record]]] = {}
    for record in records:
        subject, session = record["subject"], record.get("session") or ""
        if (participants and subject not in participants) or not session:
            continue
        if not sessions or session in sessions:
            people.setdefault(subject, {}).setdefault(session, []).append(record)
    pairs, notes, guessed, several = [], [], [], []
    for subject, held in sorted(people.items()):
        folder = None if root is None else _folder(subject, held, root)
        order, note = _order(sorted(held), folder, sessions)
        if note:
            guessed.append((subject, note))
        chosen = []
        for session in order:
            best = _best(held[session])
            chosen.append(best)
            if len(held[session]) > 1:
                several.append(str(best["stem"]))
        pairs += [SessionPair(subject, a, b) for a, b in itertools.pairwise(chosen)]
    for note in dict.fromkeys(text for _, text in guessed):
        notes.append(f"{_people([who for who, text in guessed if text == note])}: {note}")
    if several:
        shown = first_of(several, _NAMED)
        notes.append(f"Sessions with several scans take part with one of them: {shown}.")
    if not pairs:
        raise InputError(
            "sessions",
            "no subject has scans of two sessions",
            "Segment them into one folder, as sub-01/ses-1 and sub-01/ses-2 or by a list with "
            "subjects and sessions",
        )
    alone = sorted(who for who, held in people.items() if len(held) == 1)
    if alone:
        verb = "has" if len(alone) == 1 else "have"
        notes.append(f"{_people(alone)} {verb} one session only.")
    return pairs, notes


def _people(subjects: Sequence[str]) -> str:
    shown = ", ".join(f"sub-{label}" for label in subjects[:_NAMED])
    more = len(subjects) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _check_labels(
    records: Sequence[_Record], participants: Sequence[str], sessions: Sequence[str]
) -> None:
    for wanted, prefix, key in (
        (participants, "sub-", "subject"),
        (sessions, "ses-", "session"),
    ):
        there = {record.get(key) or "" for record in records}
        for name in wanted:
            if name not in there:
                raise InputError(f"{prefix}{name}", "is not in the study", "Check the label")
    if len(sessions) == 1:
        raise InputError(f"ses-{sessions[0]}", "is only one session", "Name two or more")


def _best(records: Sequence[_Record]) -> _Record:
    """Of several scans of a session: one that is corrected, else one that is done."""
    return min(records, key=lambda r: (r["state"] != DONE, not r.get("corrected"), str(r["stem"])))


def _folder(subject: str, held: Mapping[str, Sequence[_Record]], root: Path) -> Path:
    """The folder of a person, whose name may hold hyphens and more that a label does not."""
    above = (PurePath(str(r.get("source") or "")).parents for rs in held.values() for r in rs)
    named = (folder for folders in above for folder in folders if folder.name.startswith("sub-"))
    own = (folder for folder in named if bare_label(folder.name, "sub-") == subject)
    return root / next(own, f"sub-{subject}")


def _order(labels: list[str], folder: Path | None, wanted: Sequence[str]) -> tuple[list[str], str]:
    """The sessions in their order, and a sentence if that is a guess or not as labels tell.

    ``folder``: where the person's table of sessions may lie.
    """
    if wanted:
        return sorted(labels, key=list(wanted).index), ""
    if len(labels) < 2:
        return labels, ""
    numbers = {label: re.findall(r"\d+", label) for label in labels}
    told = all(len(found) == 1 for found in numbers.values())
    by_label = sorted(labels, key=lambda x: (int(numbers[x][0]), x)) if told else labels
    times = {} if folder is None else _times(folder)
    known = [times.get(label, "") for label in labels]
    if all(known) and len(set(known)) == len(known):
        by_time = sorted(labels, key=lambda label: times[label])
        if told and by_time != by_label:
            return by_time, (
                f"its sessions are in the order of their times ({', '.join(by_time)}), which is "
                "not that of their labels."
            )
        return by_time, ""
    if told:
        return by_label, ""
    return labels, (
        f"nothing tells the order of the sessions {', '.join(labels)}: taken in this one. "
        "--session-label says another."
    )


def _times(folder: Path) -> dict[str, str]:
    """``acq_time`` of ``sub-*_sessions.tsv`` by session, so that text sorts as time does; empty if
    it does not tell."""
    file = folder / f"{folder.name}_sessions.tsv"
    if not file.is_file():
        return {}
    try:
        rows = [cells for _, cells in table_rows(file)]
    except InputError:
        return {}
    if not rows or not {"session_id", "acq_time"} <= set(rows[0]):
        return {}
    at, when = rows[0].index("session_id"), rows[0].index("acq_time")
    return {
        bare_label(cells[at], "ses-"): _in_utc(cells[when])
        for cells in rows[1:]
        if len(cells) > max(at, when) and re.match(r"\d{4}-\d\d-\d\d", cells[when])
    }


def _in_utc(when: str) -> str:
    """A time in ISO 8601 without its distance from UTC, which text would not sort by."""
    told = re.fullmatch(r"(.{10}[T ]\d\d:\d\d:\d\d)(\.\d+)?([+-])(\d\d):?(\d\d)", when)
    if told is None:  # local time, or UTC with a Z
        return when
    offset = timedelta(hours=int(told[4]), minutes=int(told[5]))
    try:
        moment = datetime.fromisoformat(told[1])
        moment = moment - offset if told[3] == "+" else moment + offset
    except (ValueError, OverflowError):  # a 30th of February
        return when
    return f"{moment.isoformat()}{told[2] or ''}Z"
