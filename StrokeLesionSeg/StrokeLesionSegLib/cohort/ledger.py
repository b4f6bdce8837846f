"""The book of a batch: what was done with every scan, and how. Appended to, never rewritten.

``logs/scans.jsonl`` in the output folder, one JSON object a line. A line counts once it is
complete, and every line reaches the disk before the next scan begins, so that a batch killed at
any moment leaves at most one torn line at the end, which the next one cuts off. Lines of an
earlier batch stay: the file is also the audit trail. Text is the format because it can be read
with any tool and is safe on network file systems, where SQLite is not.

Four kinds of line: ``{"record": "run", ...}`` (settings, model, versions, host) when a batch
begins, ``{"record": "scan", ...}`` when a scan ends, ``{"record": "end", ...}`` when a batch does,
``{"record": "page", ...}`` when ``index.html`` tells all that is above.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError
from ..lesions.tables import to_json
from ..outputs import os_input_error, sync_folder

LEDGER_NAME = Path("logs", "scans.jsonl")
DONE, FAILED = "done", "failed"


@dataclass
class LedgerContent:
    """What the lines say.

    Attributes
    ----------
    scans: the last record of every scan, by the stem of its outputs. since: when the lesions were
        first found that it tells of.
    runs: all records of batches, by their ``run``.
    complete_bytes: length of the file up to the end of the last complete line.
    unreadable: number of complete lines that are no records.
    page_is_stale: whether a scan was recorded after ``index.html`` was last written.
    page_corrections: checksum of the corrected masks, ratings and participants that it tells of.
    page_title, page_convention: what was asked for as its title, and as its left.
    """

    scans: dict[str, dict[str, Any]] = field(default_factory=dict)
    since: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    complete_bytes: int = 0
    unreadable: int = 0
    page_is_stale: bool = False
    page_corrections: str = ""
    page_title: str = ""
    page_convention: str = ""


def read_ledger(out: Path) -> LedgerContent:
    """The ledger of the output folder ``out``; empty if there is none.

    Raises ``InputError`` if there is one that cannot be opened.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import read_ledger
    >>> read_ledger(Path("no such folder")).scans
    {}
    """
    content = LedgerContent()
    path = out / LEDGER_NAME
    try:
        with path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # torn by a kill
                content.complete_bytes += len(line)
                _take(line, content)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror or error})", "Check its permissions"
        ) from error
    return content


def _take(line: bytes, content: LedgerContent) -> None:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        record = json.loads(line)
        if record["record"] == "run":
            content.runs[str(record["run"])] = record
            return
        if record["record"] == "scan" and record["state"] in (DONE, FAILED):
            _keep(content.scans, content.since, record)
            content.page_is_stale = True
            return
        if record["record"] == "page":
            content.page_is_stale = False
            content.page_corrections = str(record.get("corrections") or "")
            content.page_title = str(record.get("title") or "")
            content.page_convention = str(record.get("convention") or "")
            return
        if record["record"] == "end":
            return
    content.unreadable += 1


def _keep(scans: dict[str, dict[str, Any]], since: dict[str, str], record: dict[str, Any]) -> None:
    """Make ``record`` the last one of its scan."""
    stem = str(record["stem"])
    if _found(record) != _found(scans.get(stem, {})):
        since[stem] = str(record.get("time"))
    scans[stem] = record


def _found(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells whether two records are of one mask."""
    names = ("state", "model_sha256", "lesions", "volume_ml", "largest_ml")
    return ((record.get("input") or {}).get("sha256"), *(record.get(name) for name in names))


class Ledger:
    """The ledger of an output folder, open for writing. Call only with the folder's lock held.

    ``scans``, ``since``, ``runs`` and ``page_is_stale`` are as in ``LedgerContent`` and follow what
    is appended.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import Ledger, read_ledger
    >>> with Ledger(Path("out")) as ledger:
    ...     ledger.append({"record": "scan", "stem": "sub-01", "state": "done"})
    >>> read_ledger(Path("out")).scans["sub-01"]["state"]
    'done'
    """

    def __init__(self, out: Path) -> None:
        """Raises ``InputError`` if the ledger cannot be written."""
        self.path = out / LEDGER_NAME
        content = read_ledger(out)
        self.scans, self.since, self.runs = content.scans, content.since, content.runs
        self.unreadable = content.unreadable
        self.page_is_stale = content.page_is_stale
        self.page_corrections, self.page_title = content.page_corrections, content.page_title
        self.page_convention = content.page_convention
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: BinaryIO = self.path.open("ab")
            if self._stream.tell() != content.complete_bytes:
                self._stream.truncate(content.complete_bytes)
            sync_folder(self.path.parent)
        except OSError as error:
            raise os_input_error(error, self.path) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record and wait until it is on the disk. Raises ``InputError`` if it cannot."""
        line = json.dumps(to_json(record), ensure_ascii=True, allow_nan=False).encode() + b"\n"
        try:
            self._stream.write(line)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise os_input_error(error, self.path) from error
        if record["record"] == "run":
            self.runs[record["run"]] = dict(record)
        elif record["record"] == "scan":
            _keep(self.scans, self.since, dict(record))
            self.page_is_stale = True
        elif record["record"] == "page":
            self.page_is_stale = False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def record_outputs(record: Mapping[str, Any], out: Path) -> bool:
    """Whether all files that a record names are there with the sizes it gives."""
    try:
        return all((out / name).stat().st_size == size for name, size in record["outputs"].items())
    except (OSError, KeyError, AttributeError, TypeError):
        return False
