"""ATLAS metadata tables, CSV or XLSX, matched to scans."""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from StrokeLesionSegLib.errors import InputError

from .atlas import AtlasScan

_NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_NAMES = re.compile(r"(?i).*meta[-_]?data.*\.(csv|xlsx)")


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV or of the first sheet of an XLSX, as texts by column.

    Raises ``InputError`` for a file that is neither.
    """
    try:
        if path.suffix.lower() == ".xlsx":
            rows = _xlsx(path)
        else:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
            rows = list(csv.reader(text.splitlines()))
    except (
        OSError,
        LookupError,
        ValueError,
        csv.Error,
        zipfile.BadZipFile,
        ElementTree.ParseError,
    ) as error:
        raise InputError(
            path, f"the table cannot be read ({error})", "Open it and save it again"
        ) from error
    if not rows:
        return []
    header = [name.strip() for name in rows[0]]
    return [dict(zip(header, row, strict=False)) for row in rows[1:] if any(row)]


def _xlsx(path: Path) -> list[list[str]]:
    """The first sheet: an XLSX is a zip of XML, and texts lie in a list of their own."""
    with zipfile.ZipFile(path) as book:
        texts: list[str] = []
        if "xl/sharedStrings.xml" in book.namelist():
            root = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
            for item in root.iter(f"{_NAMESPACE}si"):
                texts.append("".join(t.text or "" for t in item.iter(f"{_NAMESPACE}t")))
        sheets = sorted(n for n in book.namelist() if re.fullmatch(r"xl/worksheets/.*\.xml", n))
        sheet = ElementTree.fromstring(book.read(sheets[0] if sheets else "xl/worksheets"))
    rows = []
    for row in sheet.iter(f"{_NAMESPACE}row"):
        cells: dict[int, str] = {}
        for number, cell in enumerate(row.iter(f"{_NAMESPACE}c")):
            letters = re.match(r"[A-Z]+", cell.get("r", ""))
            column = _column(letters.group(0)) if letters else number
            value = cell.find(f"{_NAMESPACE}v")
            if cell.get("t") == "inlineStr":
                cells[column] = "".join(t.text or "" for t in cell.iter(f"{_NAMESPACE}t"))
            elif value is not None and value.text is not None:
                shared = cell.get("t") == "s"
                cells[column] = texts[int(value.text)] if shared else value.text
        rows.append([cells.get(n, "") for n in range(max(cells, default=-1) + 1)])
    return rows


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _plain(text: str) -> str:
    """One spelling for what tables and folders spell in two ways: ``sub-r001s001`` and
    ``r001s001``, ``031768`` and ``31768``, ``ses-1``, ``t01`` and ``1``."""
    short = re.sub(r"^(sub-|ses-|t(?=\d))", "", text.strip().lower())
    short = re.sub(r"\.0$", "", short)
    return short.lstrip("0") or short


def _pick(row: dict[str, str], words: tuple[str, ...]) -> str | None:
    for column, value in row.items():
        name = re.sub(r"[^a-z]", "", (column or "").lower())
        if any(word in name for word in words) and value:
            return _plain(value)
    return None


def attach_metadata(
    root: Path, scans: list[AtlasScan]
) -> tuple[dict[str, dict[str, str]], list[tuple[Path, str]]]:
    """Rows of every metadata table below ``root`` by the scan's name, and tables that failed.

    A table beside a scan (R3.0) belongs to it; in the others the column whose name holds
    "subject" (or "participant") finds the scan, and one with "session" picks among several.
    """
    by_name: dict[str, dict[str, str]] = {}
    failed: list[tuple[Path, str]] = []
    by_subject: dict[str, list[AtlasScan]] = {}
    for scan in scans:
        by_subject.setdefault(_plain(scan.subject), []).append(scan)
    by_folder = {scan.t1.parent: scan for scan in scans}
    for path in sorted(p for p in root.rglob("*") if _NAMES.fullmatch(p.name)):
        try:
            rows = read_table(path)
        except InputError as error:
            failed.append((path, str(error)))
            continue
        beside = by_folder.get(path.parent)
        if beside and rows:
            by_name.setdefault(beside.name, {}).update(rows[0])
            continue
        for row in rows:
            subject = _pick(row, ("subject", "participant"))
            session = _pick(row, ("session", "timepoint"))
            for scan in by_subject.get(subject or "", []):
                if session is None or session == _plain(scan.session):
                    by_name.setdefault(scan.name, {}).update(row)
    return by_name, failed
