"""Which scans of a cohort a batch has left to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..brief import first_of
from ..errors import InputError
from .dicom_study import is_told
from .fingerprint import unchanged
from .inputs import FoundScan
from .ledger import DONE, FAILED, Ledger, LedgerContent, record_outputs
from .naming import bare_label
from .options import BatchOptions
from .settings import Settings

# Participants and sessions in a message.
_NAMED = 12


def selected(
    scans: tuple[FoundScan, ...], options: BatchOptions, source: Path
) -> tuple[FoundScan, ...]:
    """The scans of the wanted participants and sessions; ``InputError`` if one is not there."""
    for wanted, prefix, whose in (
        (options.participants, "sub-", lambda scan: scan.entities.subject),
        (options.sessions, "ses-", lambda scan: scan.entities.session),
    ):
        if not wanted:
            continue
        labels = [bare_label(name, prefix) for name in wanted]
        there = {whose(scan) for scan in scans} - {""}
        for name in labels:
            if name not in there:
                known = first_of(there, _NAMED) or "none"
                raise InputError(source, f"has no {prefix}{name}", f"There are: {known}")
        scans = tuple(scan for scan in scans if whose(scan) in labels)
    if not scans:
        raise InputError(
            source,
            "has no scan of these participants and sessions",
            "Check --participant-label and --session-label",
        )
    return scans


class WorkPlan:
    """What of a cohort is left ``to_do``, how much is ``skipped``, what has ``failed`` before."""

    def __init__(
        self,
        scans: tuple[FoundScan, ...],
        settings: Settings,
        ledger: Ledger | LedgerContent,
        source: Path,
        options: BatchOptions,
    ) -> None:
        self.to_do: list[FoundScan] = []
        self.failed: list[dict[str, Any]] = []
        self.incomplete: list[dict[str, Any]] = []
        self.skipped = 0
        here = {(found.relative, str(source)) for found in scans}
        for found in scans:
            record = ledger.scans.get(found.stem)
            if record is None:
                self.to_do.append(found)
                continue
            if options.group_only:  # what is there, whatever made it
                self._count(record, settings.out)
                continue
            same = unchanged(found.path, record.get("input") or {})
            if not same and options.resume and not _came_from(record, ledger.runs, here):
                _refuse_foreign(found, record, ledger.runs, source, settings.out)
            same = same and record.get("series") == found.series
            # What named a folder is not to do so any more, or the other way round.
            same = same and is_told(str(record["source"])) == is_told(found.relative)
            again = not options.resume or not same or record["settings"] != settings.digest
            if record["state"] == FAILED:
                again = again or options.retry_failed or options.force
            if again or not self._count(record, settings.out):
                self.to_do.append(found)
        if options.group_only:
            self.to_do = []

    def _count(self, record: dict[str, Any], out: Path) -> bool:
        """Count a scan that failed or is done; False if its results are not there any more."""
        if record["state"] == FAILED:
            self.failed.append(record)
            return True
        if not record_outputs(record, out):
            return False
        self.skipped += 1
        if record.get("not_written"):
            self.incomplete.append(record)
        return True


def _came_from(
    record: Mapping[str, Any], runs: Mapping[str, Any], here: set[tuple[str, str]]
) -> bool:
    """Whether a record is of a scan of this cohort, which may go by another name now."""
    return (record["source"], str(runs.get(record["run"], {}).get("input"))) in here


def _refuse_foreign(
    found: FoundScan, record: dict[str, Any], runs: Mapping[str, Any], source: Path, out: Path
) -> None:
    """Raise ``InputError`` if the results of another scan would be overwritten.

    ``record`` is of a scan of the same name with other contents. It is the same scan, changed, if
    it lay at the same place; or lay in the same input, and is there no longer.
    """
    before = Path(runs.get(record["run"], {}).get("input", source))
    root = before if before.is_dir() else before.parent
    old = root / record["source"]
    if record["source"] == before.name and not os.path.lexists(old):
        old = before  # the input was the scan itself
    if old == found.path or (before == source and not os.path.lexists(old)):
        return
    if record["state"] == DONE and record_outputs(record, out):
        raise InputError(
            out,
            f"already holds {found.stem} from another input ({before})",
            "Give another output folder, or name the subjects in a list; if it is the same data, "
            "use --no-resume",
        )
