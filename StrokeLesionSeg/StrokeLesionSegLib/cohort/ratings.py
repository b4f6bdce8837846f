"""Ratings of the quality control, saved by the group's page, in the tables of the group.

A table ``ratings*.tsv`` in the output folder is taken over. Of several ratings of a scan the
latest counts, as in the browser.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..brief import first_of
from ..errors import InputError
from .lists import table_rows

RATINGS = "ratings*.tsv"
#: What a rating may be.
VALUES = ("accepted", "correct", "rejected")
_NEEDED = ("study", "scan", "rating")
_NOTHING = ("", "n/a")
_OLDER = "Rated before this mask was made."


def with_ratings(
    out: Path,
    records: Iterable[Mapping[str, Any]],
    study: str,
    since: Mapping[str, str],
) -> tuple[list[dict[str, Any]], list[str], str]:
    """The ledger's records with ``rating`` and ``rating_comment``, what is odd, and a checksum.

    A rating that is older than the mask (``since``, by the scans' stems, or when it was corrected)
    stays, and is among the reasons to look at the scan.

    ``study``: its identity; a file that bears another one is named and not used. The checksum
    tells whether the ratings are those of another time.
    """
    told_of = [dict(record) for record in records]
    stems = {record["stem"] for record in told_of}
    ratings: dict[str, tuple[str, str, str]] = {}
    notes = []
    for file in sorted(out.glob(RATINGS)):
        found, note = _read(file, study, stems)
        notes += [f"{file.name} {note}"] * bool(note)
        for scan, told in found.items():
            if scan not in ratings or told[0] >= ratings[scan][0]:
                ratings[scan] = told
    older = []
    for record in told_of:
        if told := ratings.get(record["stem"]):
            record |= {"rating": told[1] or None, "rating_comment": told[2] or None}
            corrected = record.get("correction")
            made = (since.get(record["stem"]), corrected and corrected.when)
            if told[1] and _is_older(told[0], made):
                record["look_at"] = [*(record.get("look_at") or ()), _OLDER]
                older.append(record["stem"])
    if older:
        which = "1 rating is older than its mask"
        if len(older) > 1:
            which = f"{len(older)} ratings are older than their masks"
        notes.append(f"{which} ({first_of(older)}): rate again.")
    text = "\n".join((*(f"{scan} {told}" for scan, told in sorted(ratings.items())), *notes))
    return told_of, notes, hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def _is_older(rated: str, made: Iterable[str | None]) -> bool:
    """Whether one of the times ``made`` is later; False if nothing tells."""
    when, moments = _moment(rated), map(_moment, made)
    return when is not None and any(m is not None and when < m for m in moments)


def _moment(told: object) -> datetime | None:
    """A time in ISO 8601, as the page and the ledger write it."""
    try:
        # Python 3.10 knows no Z.
        moment = datetime.fromisoformat(re.sub(r"Z\Z", "+00:00", str(told)))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _read(file: Path, study: str, stems: set[str]) -> tuple[dict[str, tuple[str, str, str]], str]:
    """(time, rating, comment) by scan, and what is odd about the file, the end of a sentence."""
    try:
        rows = [cells for _, cells in table_rows(file)]
    except InputError:
        return {}, "is not used: it cannot be read as a table."
    head = [cell.lower() for cell in rows[0]] if rows else []
    if not set(_NEEDED) <= set(head):
        return {}, "is not used: it has no columns study, scan and rating."
    lines = [dict(zip(head, (*cells, *[""] * len(head)), strict=False)) for cells in rows[1:]]
    foreign = next((line["study"] for line in lines if line["study"] != study), None)
    if foreign is not None:
        return {}, f"is not used: its ratings are of another study ({foreign}, not {study})."
    known = [line for line in lines if line["scan"] in stems]
    sound = [line for line in known if line["rating"] in (*VALUES, *_NOTHING)]
    odd = []
    if len(known) < len(lines):
        count = len(lines) - len(known)
        odd.append(f"rates {count} scan{'s' * (count != 1)} that this study does not have")
    if len(sound) < len(known):
        count = len(known) - len(sound)
        ratings = "1 rating that is" if count == 1 else f"{count} ratings that are"
        odd.append(f"has {ratings} none of {', '.join(VALUES)}")
    found: dict[str, tuple[str, str, str]] = {}
    for line in sound:
        rating, comment, when = (
            "" if line.get(name, "") in _NOTHING else line[name]
            for name in ("rating", "comment", "rated")
        )
        if line["scan"] not in found or when >= found[line["scan"]][0]:
            found[line["scan"]] = (when, rating, comment)
    return found, f"{' and '.join(odd)}; those are left out." if odd else ""
