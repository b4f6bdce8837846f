"""Lists of scans as R, pandas, Excel and people write them."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..lesions.tables import unquoted
from .naming import Entities, bare_label, dicom_entities_of, entities_of

#: How the names of lists end.
LIST_ENDINGS = (".txt", ".tsv", ".csv", ".lst")
#: Of tables that are not read, but that somebody may take for a list.
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".rds", ".sav", ".parquet", ".feather")

# Names of columns, in lower case and without what is neither letter nor digit.
_COLUMNS = {
    **dict.fromkeys(("path", "file", "filename", "filepath", "scan", "image", "t1", "t1w"), "path"),
    **dict.fromkeys(("subject", "subjectid", "participant", "participantid", "sub"), "subject"),
    **dict.fromkeys(("session", "sessionid", "ses", "visit", "timepoint"), "session"),
    **dict.fromkeys(
        ("series", "seriesuid", "seriesinstanceuid", "dicomseries", "seriesid"), "series"
    ),
}
_OF_MASKS = ("mask", "maskpath", "maskfile", "lesion", "lesionmask", "corrected", "segmentation")
# Here nothing is called by it; in results of ``batch`` it may be a patient's name.
_OF_PEOPLE = ("patient", "patientid", "person", "subj", "subjid")
# Other characters that end lines are text, as in comments that were pasted.
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class _Kind:
    """What a list may hold.

    ``columns``: what headings are called. ``order``: of the columns where there is no heading.
    ``first``: what people call the first column. ``remedy``: how such a list is written.
    """

    columns: Mapping[str, str]
    order: tuple[str, ...]
    first: str
    remedy: str


_SCANS = _Kind(
    _COLUMNS,
    ("path", "subject", "session", "series"),
    "path",
    "Give one path per line, optionally followed by subject, session and DICOM series, with tabs",
)
_PAIRS = _Kind(
    {**_COLUMNS, **dict.fromkeys(_OF_MASKS, "mask"), **dict.fromkeys(_OF_PEOPLE, "subject")},
    ("path", "mask", "subject", "series"),
    "scan",
    "Give scan, mask and (if wanted) subject and DICOM series on each line, separated by tabs",
)
# What R, pandas and BIDS write for a value that is not there.
_NOTHING = {"", "NA", "N/A", "n/a", "nan", "NaN", "NULL", "None", "<NA>"}


@dataclass(frozen=True)
class ListedScan:
    """A line of a list: ``path`` (absolute), as it was ``given``, and what else the line says."""

    path: Path
    given: str
    entities: Entities | None = None
    series: str | None = None


@dataclass(frozen=True)
class ListedPair:
    """A line of a list of scans with masks; paths are absolute."""

    scan: Path
    mask: Path
    subject: str | None = None
    series: str | None = None


def read_list(path: Path) -> list[ListedScan]:
    """The scans named in a text file.

    One path a line, relative ones from the list's own folder; empty lines and lines that begin
    with ``#`` are skipped. Subject, session and SeriesInstanceUID may follow after tabs, or in any
    order under a heading that names them; other columns under a heading are passed over. In
    ``.csv`` files commas, semicolons or tabs separate. Quotes, row names of R, the index of pandas,
    byte order marks, UTF-16 and Excel's ``sep=`` are understood.

    Raises ``InputError`` if the list cannot be read, names a scan twice, or has more columns.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort.lists import read_list
    >>> _ = Path("list.csv").write_text('"path";"subject"\\n"a b.nii";"P1"\\n')
    >>> [(line.given, line.entities.subject) for line in read_list(Path("list.csv"))]
    [('a b.nii', 'P1')]
    """
    found: list[ListedScan] = []
    seen: dict[Path, set[str | None]] = {}
    for where, told in _told(path, _SCANS):
        scan = located(path.parent, told["path"])
        series = _value(told, "series") or None
        earlier = seen.setdefault(scan, set())
        if earlier and (series is None or {series, None} & earlier):
            raise InputError(
                path, f"line {where} names {told['path']} again", "Name each scan once"
            )
        earlier.add(series)
        text = told["path"] if "\\" in scan.name else told["path"].replace("\\", "/")
        given = Path(text).as_posix()
        found.append(ListedScan(scan, given, _entities(told, given, scan), series))
    if not found:
        raise InputError(path, "names no scan", _SCANS.remedy)
    return found


def read_pairs(path: Path) -> list[ListedPair]:
    """The scans and masks named in a text file, written in any way that ``read_list`` knows.

    The columns are scan, mask, subject and SeriesInstanceUID, in this order or under a heading.

    Raises ``InputError`` if the list cannot be read, a line names no mask, or one that is not
    there.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort.lists import read_pairs
    >>> _ = Path("mask.nii").write_bytes(b"")
    >>> _ = Path("pairs.csv").write_text('"mask";"scan"\\n"mask.nii";"t1.nii"\\n')
    >>> [(pair.scan.name, pair.mask.name) for pair in read_pairs(Path("pairs.csv"))]
    [('t1.nii', 'mask.nii')]
    """
    found = []
    for where, told in _told(path, _PAIRS):
        if not told.get("mask"):
            raise InputError(path, f"line {where} names no mask", _PAIRS.remedy)
        mask = located(path.parent, told["mask"])
        if not mask.is_file():
            raise InputError(path, f"line {where}: there is no mask {told['mask']}", _PAIRS.remedy)
        # Some name the session with the subject, as names of files do.
        subject = _value(told, "subject").partition("_ses-")[0]
        found.append(
            ListedPair(
                located(path.parent, told["path"]),
                mask,
                bare_label(subject, "sub-") if subject else None,
                _value(told, "series") or None,
            )
        )
    return found


def _told(path: Path, kind: _Kind) -> Iterator[tuple[int, dict[str, str]]]:
    """Numbers of the lines that name a scan, and their cells by the names of columns."""
    columns: list[str] | None = None
    text = _text(path, kind)
    for number, (where, cells) in enumerate(_rows(path, text, _separator(path, text, kind))):
        if number == 0 and (columns := _heading(path, cells, kind)) is not None:
            continue
        if columns is not None:
            told = _under(path, where, cells, columns, kind)
        elif len(cells) > len(kind.order):
            raise InputError(path, f"line {where} has {len(cells)} columns", kind.remedy)
        else:
            told = dict(zip(kind.order, cells, strict=False))
        if told.get("path"):
            yield where, told


def table_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbers and cells of the lines of a table that say something, whatever separates them.

    Raises ``InputError`` if it cannot be read.
    """
    text = _text(path, _SCANS)
    lines = _LINE_END.split(text)
    if all("\t" in line for line in lines if line.strip()):
        return _that_say_something(enumerate(cells_between_tabs(text), start=1))
    separators = (s for s in (";", ",") if all(s in line for line in lines if line.strip()))
    return _rows(path, text, next(separators, ","))


def cells_between_tabs(text: str) -> list[list[str]]:
    """The cells of every line. Only whole cells are quoted: a comment may begin with a quote."""
    lines = _LINE_END.split(text)
    return [[unquoted(cell.strip()) for cell in line.split("\t")] for line in lines]


def _text(path: Path, kind: _Kind) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror or error})", kind.remedy
        ) from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # Excel's "Unicode text"
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError(path, "is damaged UTF-16", "Save it as UTF-8") from error
    # Names that are not UTF-8 come through as the file system itself treats them.
    text = data.decode("utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise InputError(path, "is not a list of paths but a binary file", kind.remedy)
    return text


def _separator(path: Path, text: str, kind: _Kind) -> str:
    first = next((line for line in _LINE_END.split(text) if line.strip()), "")
    if match := re.fullmatch(r'"?sep=(.)"?', first.strip()):
        return match[1]
    if first.endswith("sep=\t"):
        return "\t"
    if not path.name.lower().endswith(".csv"):
        # pandas writes commas whatever the file is called; only a heading can say so.
        candidates = ("\t", ",", ";")
        return next((s for s in candidates if _heading_in(first, s, kind)), "\t")
    lines = [line for line in _LINE_END.split(text)[:50] if line.strip()]
    for separator in (",", ";", "\t"):
        if _heading_in(first, separator, kind) or (
            separator != "," and _all_there(path, lines, separator)
        ):
            return separator
    return ","


def _heading_in(line: str, separator: str, kind: _Kind) -> bool:
    cells = [plain_name(cell) for cell in next(csv.reader([line], delimiter=separator), [])]
    return len(cells) > 1 and "path" in {kind.columns.get(cell) for cell in cells}


def _all_there(path: Path, lines: list[str], separator: str) -> bool:
    """Whether every line has the separator, and files are there if lines are cut at it."""
    firsts = [next(csv.reader([line], delimiter=separator), []) for line in lines]
    return all(
        len(cells) > 1 and os.path.lexists(path.parent / os.path.expanduser(cells[0].strip()))
        for cells in firsts
    )


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers and cells of the lines that say something."""
    lines = _LINE_END.split(text)
    if '"' not in text:
        # Nothing is quoted, and a line is a row.
        rows: Iterator[tuple[int, list[str]]] = (
            (number, line.split(separator)) for number, line in enumerate(lines, start=1)
        )
    else:
        rows = _quoted(path, lines, separator)
    yield from _that_say_something(rows)


def _that_say_something(rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    for number, cells in rows:
        told = [cell.strip() for cell in cells]
        while len(told) > 1 and not told[-1]:  # Excel fills short rows up
            told.pop()
        if not told or not any(told) or told[0].startswith("#"):
            continue
        if len(told) == 1 and re.fullmatch(r"sep=.?", told[0]):
            continue
        yield number, told


def _quoted(path: Path, lines: list[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    while True:
        try:
            yield reader.line_num + 1, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                path,
                f"line {reader.line_num}: the quotes do not match ({error})",
                "Quote whole cells, and double a quote inside one",
            ) from error


def plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.strip().lower())


def _heading(path: Path, cells: list[str], kind: _Kind) -> list[str] | None:
    """What each column is, "" for what is passed over; None if the line is no heading."""
    known = [kind.columns.get(plain_name(cell), "") for cell in cells]
    there = bool(cells[0]) and os.path.lexists(path.parent / cells[0])
    if there and cells[0] != "path" and (len(cells) == 1 or "path" not in known):
        return None
    if "path" not in known:
        if any(known) and not any(re.search(r"[/\\]|\.\w", cell) for cell in cells):
            raise InputError(path, f"its heading has no column {kind.first}", kind.remedy)
        return None
    for name in {**dict.fromkeys(kind.order), "session": None}:
        # "scan" or "image" may be numbers beside the paths.
        named = [n for n, kind in enumerate(known) if kind == name]
        called = kind.first if name == "path" else name
        exact = [n for n in named if plain_name(cells[n]) == called]
        if len(named) > 1 and len(exact) == 1:
            known = [k if k != name or n in exact else "" for n, k in enumerate(known)]
        elif len(named) > 1:
            titles = ", ".join(cells[n] for n in named)
            raise InputError(path, f"several columns could be the {called}: {titles}", kind.remedy)
    return known


def _under(
    path: Path, line: int, cells: list[str], columns: list[str], kind: _Kind
) -> dict[str, str]:
    """The cells by the names that the heading gives."""
    if len(cells) == len(columns) + 1:
        cells = cells[1:]  # row names of R's write.table have no heading
    elif len(cells) > len(columns):
        raise InputError(
            path,
            f"line {line} has {len(cells)} columns, but the heading has {len(columns)}",
            kind.remedy,
        )
    told = {name: cell for name, cell in zip(columns, cells, strict=False) if name}
    if not told.get("path"):
        raise InputError(path, f"line {line} has no {kind.first}", kind.remedy)
    return told


def _value(told: dict[str, str], name: str) -> str:
    text = told.get(name, "")
    if text in _NOTHING:
        return ""
    # pandas makes numbers with a gap in them floats: 7 becomes 7.0.
    return re.sub(r"\A(\d+)\.0\Z", r"\1", text) if name != "series" else text


def located(folder: Path, text: str) -> Path:
    """Where a listed scan lies; a name of another code page or system, if it is only there so."""
    candidates = [text]
    if "\\" in text:
        candidates.append(text.replace("\\", "/"))
    if any("\udc80" <= c <= "\udcff" for c in text):
        raw = text.encode("utf-8", "surrogateescape")
        candidates.append(raw.decode("cp1252", "replace"))
    # macOS may part letters and their accents.
    candidates += [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    # A name that begins with ~ and is nobody's home stays as it is.
    paths = [Path(os.path.abspath(folder / os.path.expanduser(name))) for name in candidates]
    return next((p for p in paths if os.path.lexists(p)), paths[0])


def _entities(told: dict[str, str], given: str, scan: Path) -> Entities | None:
    subject, session = _value(told, "subject"), _value(told, "session")
    named = bare_label(session, "ses-") if session else ""
    if subject:
        return Entities(bare_label(subject, "sub-"), named)
    if not named:
        return None
    of = dicom_entities_of if scan.is_dir() else entities_of
    return replace(of(given), session=named)
