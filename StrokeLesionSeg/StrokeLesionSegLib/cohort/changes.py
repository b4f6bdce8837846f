"""What became of the lesions in a study: ``compare`` for every pair of consecutive sessions.

Works on what ``batch`` has written. A pair is compared again only if a scan, a mask (corrected ones
are preferred) or the program is another one.
"""

from __future__ import annotations

import os
import secrets
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import Cancelled, InputError
from ..lesions import CHANGE_COLUMNS, read_sidecar, read_table, write_rows, write_sidecar
from ..lesions.tables import write_text
from ..outputs import OutputSet, os_input_error, remove_file
from ..pipeline import (
    ChangePaths,
    TimePoint,
    compare_scans,
    known_time_point,
    sha256_of,
    write_change,
)
from ..report import RADIOLOGICAL, ChangePair, write_change_group
from ..report.page import with_files
from .change_pairs import SessionPair, session_pairs
from .corrected import SourceScans
from .corrections import with_corrections
from .dataset import described, with_units
from .fingerprint import unchanged
from .index_page import INDEX_NAME, group_files, mask_file, mask_of
from .ledger import DONE, FAILED, read_ledger
from .leftovers import clear_staging_in
from .lock import FolderLock
from .scan_job import is_output_trouble

#: The folder with the pages of all pairs, and the begin of the group's files.
CHANGES = "group_change"
PAGE_NAME = f"{CHANGES}.html"
_TABLES = {
    f"{CHANGES}.tsv": "A row for each group of lesions that touch, of every pair of sessions",
    f"{CHANGES}_pairs.tsv": "A row for each pair of sessions",
}
_LEADING = {
    "participant_id": "Subject",
    "session_a": "The earlier session",
    "session_b": "The later session",
}
#: The columns of group_change_pairs.tsv.
PAIR_COLUMNS = {
    **_LEADING,
    "scan_a": "The earlier scan, as group_scans.tsv calls it",
    "scan_b": "The later scan",
    "state": "done, or failed",
    "volume_a_ml": "Volume of all lesions in the earlier scan",
    "volume_b_ml": "Volume of all lesions in the later scan",
    "change_ml": "Later minus earlier, of what both scans cover",
    "groups": "Number of groups of lesions that touch",
    "beyond_noise": "Number of them whose change is beyond repeat noise",
    "classes": "Number of groups by class",
    "corrected": "Sessions whose mask a reader has corrected",
    "similarity": "Rank correlation of the two scans after alignment, -1 to 1",
    "warnings": "What was odd, but dealt with",
    "error": "Why it failed, and what to do",
}

#: Called after every pair with how many are through, and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ChangeOptions:
    """How a study is compared.

    Attributes
    ----------
    source: where the scans lie; None takes what the study says. participants, sessions: labels of
    those to compare, sessions in their order; empty takes all.
    convention: "radiological" or "neurological".
    overwrite: compare again what is done. force: go on where two scans look like two people.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort import ChangeOptions
    >>> ChangeOptions(sessions=("pre", "post")).convention
    'radiological'
    """

    source: Path | None = None
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    convention: str = RADIOLOGICAL
    overwrite: bool = False
    force: bool = False


@dataclass
class ChangeReport:
    """How the comparison of a study ended.

    Attributes
    ----------
    total: pairs. done: compared now. skipped: compared before. failed: rows of those that could
    not be. notes: what was odd, a sentence each. seconds: from start to end.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort import ChangeReport
    >>> ChangeReport(total=3, done=2, skipped=1).failed
    []
    """

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def is_study(folder: Path) -> bool:
    """Whether ``batch`` has written into ``folder``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import is_study
    >>> is_study(Path("no such folder"))
    False
    """
    return folder.is_dir() and bool(read_ledger(folder).scans)


def compare_study(
    study: Path,
    out: Path | None = None,
    options: ChangeOptions | None = None,
    *,
    progress: Progress | None = None,
) -> ChangeReport:
    """Compare each session of each person in ``study`` with the next, and write tables and pages.

    ``study``: a folder that ``batch`` has written. ``out``: None writes there, where the page of
    the group then leads to that of the changes. Written are ``group_change.tsv`` (a row for each
    group of lesions), ``group_change_pairs.tsv``, ``group_change.html`` and for each pair table,
    sidecar and page in ``group_change/``.

    Raises ``InputError`` if ``study`` holds no results, its scans are not there, nobody has two
    sessions, or ``out`` cannot be written. A pair that cannot be compared is no error: it is in
    ``failed``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import compare_study
    >>> compare_study(Path("empty"))
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: ...has no results of batch...
    """
    options = options or ChangeOptions()
    started = time.perf_counter()
    study = Path(os.path.abspath(study))
    out = study if out is None else Path(os.path.abspath(out))
    content = read_ledger(study)
    if not content.scans:
        raise InputError(study, "has no results of batch", "Run batch first, or name two scans")
    sources, root = _sources(study, options)
    kept = [record for record in content.scans.values()]
    records, notes, _ = with_corrections(study, sorted(kept, key=lambda r: r["stem"]))
    pairs, odd = session_pairs(records, root, options.participants, options.sessions)
    report = ChangeReport(len(pairs), notes=(*notes, *odd))
    everybody, chosen = pairs, {pair.name for pair in pairs}
    if options.participants:
        everybody, _ = session_pairs(records, root, (), options.sessions)
    _make_folder(out)
    found: dict[str, _Pair] = {}
    with FolderLock(out, secrets.token_hex(8)) as lock:
        _make_folder(out / CHANGES)
        clear_staging_in(out / CHANGES, out)
        for number, pair in enumerate(pairs):
            if progress is not None:
                progress(number, len(pairs))
            one = _compared(pair, study, out, sources, options)
            lock.check()
            found[pair.name] = one
            if one.row["state"] == FAILED:
                report.failed.append(one.row)
            elif one.fresh:
                report.done += 1
            else:
                report.skipped += 1
        if progress is not None:
            progress(len(pairs), len(pairs))
        # The tables hold all that is known, as those of a batch do.
        for pair in everybody:
            if pair.name not in chosen and (known := _known(pair, study, out, options)) is not None:
                found[pair.name] = known
        shown = [found[pair.name] for pair in everybody if pair.name in found]
        _write_tables(out, shown)
        _write_pages(study, out, root, [one.shown for one in shown], report.notes)
    report.seconds = time.perf_counter() - started
    return report


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(folder, "is not a folder", "Move it away, or use -o") from None
    except OSError as error:
        raise os_input_error(error, folder) from error


def _sources(study: Path, options: ChangeOptions) -> tuple[SourceScans, Path]:
    """Where the scans lie, as asked or as the study says."""
    given = options.source
    if given is not None:
        given = Path(os.path.abspath(given))
        given = given.parent if given.is_file() else given
    sources = SourceScans(study, given)
    if sources.root is None or not sources.root.is_dir():
        where = study if sources.root is None else sources.root
        raise InputError(
            where,
            "does not exist, and the scans of the study were there",
            "Name their folder with --input",
        )
    return sources, sources.root


def _labels(pair: SessionPair) -> tuple[str, str, str]:
    first, second = pair.first["session"], pair.second["session"]
    return f"sub-{pair.subject}", f"ses-{first}", f"ses-{second}"


def _leading(pair: SessionPair) -> dict[str, str]:
    return dict(zip(_LEADING, _labels(pair), strict=True))


@dataclass(frozen=True)
class _Pair:
    """A pair as the page shows it, the rows of its groups of lesions, and whether it was compared
    just now."""

    pair: SessionPair
    shown: ChangePair
    groups: list[dict[str, Any]]
    fresh: bool
    similarity: float | None = None

    @property
    def row(self) -> dict[str, Any]:
        """As in group_change_pairs.tsv."""
        shown = self.shown
        row = {
            **_leading(self.pair),
            "scan_a": self.pair.first["stem"],
            "scan_b": self.pair.second["stem"],
            "state": shown.state,
        }
        if shown.state != DONE:
            return row | {"error": shown.reason}
        return row | {
            "volume_a_ml": shown.first_ml,
            "volume_b_ml": shown.second_ml,
            "change_ml": shown.change_ml,
            "groups": len(self.groups),
            "beyond_noise": shown.beyond_noise,
            "classes": ", ".join(f"{n} {kind}" for kind, n in shown.groups.items()) or None,
            "corrected": " ".join(shown.corrected) or None,
            "similarity": self.similarity,
            "warnings": shown.note or None,
        }


def _paths(pair: SessionPair, out: Path) -> ChangePaths:
    return ChangePaths.of(out / CHANGES / f"{pair.name}_change")


def _compared(
    pair: SessionPair, study: Path, out: Path, sources: SourceScans, options: ChangeOptions
) -> _Pair:
    """A pair as it was compared before, if that still holds, else now; or why it cannot be."""
    known = None if options.overwrite else _known(pair, study, out, options)
    if known is not None:
        return known
    try:
        _compare(pair, study, out, sources, options)
        return _read(pair, out, fresh=True)
    except (InputError, MemoryError) as error:
        if is_output_trouble(error):
            raise
        told = _told(error, pair, sources)
    except (Cancelled, OSError):
        raise
    except Exception as error:
        # One of ours: the other pairs are not to blame.
        traceback.print_exception(error)
        told = f"a defect of StrokeLesionSeg ({type(error).__name__}: {error}). Please report it."
    if _known(pair, study, out, options) is None:
        # What an earlier comparison wrote would pass for one of today.
        for path, _ in _paths(pair, out).documents:
            remove_file(path)
    failed = ChangePair(pair.name, *_labels(pair), FAILED, " ".join(told.split()))
    return _Pair(pair, failed, [], True)


def _read(pair: SessionPair, out: Path, *, fresh: bool) -> _Pair:
    """A pair by its files."""
    paths = _paths(pair, out)
    facts, groups = read_sidecar(paths.sidecar), read_table(paths.table)
    alignment = facts["alignment"]
    shown = ChangePair(
        pair.name,
        *_labels(pair),
        DONE,
        page=f"{CHANGES}/{paths.page.name}",
        first_ml=facts["first"]["volume_ml"],
        second_ml=facts["second"]["volume_ml"],
        change_ml=facts["change_ml"],
        groups=dict(facts["groups"]),
        beyond_noise=sum(group["beyond_noise"] is True for group in groups),
        corrected=tuple(
            f"ses-{x['session']}" for x in (pair.first, pair.second) if x.get("corrected")
        ),
        note="" if alignment["same_person"] else "They do not look like scans of one person.",
    )
    return _Pair(pair, shown, groups, fresh, alignment["similarity"])


def _told(error: BaseException, pair: SessionPair, sources: SourceScans) -> str:
    """An error in a sentence, without the paths of this machine and hidden names."""
    if not isinstance(error, InputError):
        return "there is not enough memory for these scans."
    # Without folders, which are others on every machine and may be called as patients are.
    where = Path(str(error.where)).name
    named = {}
    for record in (pair.first, pair.second):
        path = sources.find(str(record["source"]))
        if path is not None:
            named[path.name] = str(record["stem"])
    text = f"{named.get(where, where)}: {error.cause}. {error.remedy}."
    for name, stem in named.items():
        text = text.replace(name, stem)
    return " ".join(text.split())


def _known(pair: SessionPair, study: Path, out: Path, options: ChangeOptions) -> _Pair | None:
    """What was found before, if scans, masks and program are still the same."""
    paths = _paths(pair, out)
    if not all(path.is_file() for path, _ in paths.documents):
        return None
    try:
        facts = read_sidecar(paths.sidecar)
        same = facts["software"]["version"] == __version__
        same = same and facts["report_convention"] == options.convention
        for side, record in (("first", pair.first), ("second", pair.second)):
            same = same and record["state"] == DONE and facts[side]["name"] == record["stem"]
            same = same and facts[side]["sha256"] == record["input"]["sha256"]
            same = same and facts[side]["mask_sha256"] == sha256_of(mask_file(study, record))
        known = _read(pair, out, fresh=False) if same else None
        complete = known is not None and len(known.groups) == sum(facts["groups"].values())
        return known if complete else None
    except (InputError, KeyError, TypeError, OSError):
        return None


def _compare(
    pair: SessionPair,
    study: Path,
    out: Path,
    sources: SourceScans,
    options: ChangeOptions,
) -> None:
    """Compare a pair and write its files; ``InputError`` if that cannot be done."""
    points = [_time_point(record, study, sources) for record in (pair.first, pair.second)]
    comparison = compare_scans(points[0], points[1], force=options.force)
    links = [("All changes", f"../{PAGE_NAME}")]
    if out == study:
        for record in (pair.first, pair.second):
            if record.get("report"):
                page = f"../{record['folder']}/{record['report']}"
                links.append((f"ses-{record['session']}", page))
    paths = _paths(pair, out)
    with OutputSet([], paths.documents, overwrite=True) as outputs:
        write_change(comparison, paths, outputs, convention=options.convention, links=links)
        outputs.commit()


def _time_point(record: Mapping[str, Any], study: Path, sources: SourceScans) -> TimePoint:
    stem = str(record["stem"])
    if record["state"] != DONE:
        raise InputError(
            stem, "has no mask, because its segmentation failed", "See group_scans.tsv"
        )
    path = sources.find(str(record["source"]))
    if path is None or not path.exists():
        raise InputError(
            stem, "its scan is no longer in the input", "Name the input folder with --input"
        )
    if not unchanged(path, record.get("input") or {}):
        raise InputError(stem, "its scan has changed since it was segmented", 'Run "batch" again')
    mask = mask_of(study, record)
    if mask is None:
        raise InputError(stem, "its mask is missing or damaged", 'Run "batch" again')
    return known_time_point(
        path,
        mask_file(study, record),
        stem,
        to_mni=mask[1],
        series=record.get("series"),
        sha256=record["input"]["sha256"],
    )


def _write_tables(out: Path, found: list[_Pair]) -> None:
    columns = {**_LEADING, **CHANGE_COLUMNS}
    groups = [{**_leading(one.pair), **group} for one in found for group in one.groups]
    write_rows(out / f"{CHANGES}.tsv", tuple(columns), groups)
    write_rows(out / f"{CHANGES}_pairs.tsv", tuple(PAIR_COLUMNS), [one.row for one in found])
    for name, told in ((CHANGES, columns), (f"{CHANGES}_pairs", PAIR_COLUMNS)):
        write_sidecar(out / f"{name}.json", with_units(told))


def _write_pages(
    study: Path, out: Path, root: Path, pairs: list[ChangePair], notes: tuple[str, ...]
) -> None:
    """The page of all pairs, and a link to it on the group's page."""
    home = INDEX_NAME if out == study and (out / INDEX_NAME).is_file() else None
    write_change_group(
        out / PAGE_NAME,
        pairs,
        title=described(root, "Name") or "Stroke lesions",
        notes=notes,
        files=_TABLES,
        home=home,
    )
    if home is not None:
        index = out / INDEX_NAME
        try:
            page = index.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return
        write_text(index, with_files(page, group_files(out)))
