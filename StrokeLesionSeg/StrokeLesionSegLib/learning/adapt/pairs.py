"""Scans with the masks that somebody corrected: found, told apart by subject, checked by contents.

Whatever cannot be used is named with the reason, and the rest goes on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ...cohort.corrected import corrected_masks
from ...cohort.fingerprint import fingerprint
from ...cohort.lists import LIST_ENDINGS, ListedPair, read_pairs
from ...cohort.naming import entities_of
from ...errors import InputError, not_there
from .split import person_of


@dataclass(frozen=True)
class Pair:
    """``subject``: whose. ``scan``, ``mask``: files. ``scan_sha256``, ``mask_sha256``: of their
    contents. ``automatic``: the mask before the correction, if it is known. ``series``: the
    SeriesInstanceUID to take from a DICOM folder that holds several."""

    subject: str
    scan: Path
    mask: Path
    scan_sha256: str
    mask_sha256: str
    automatic: Path | None = None
    series: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A mask or scan that is not used, and why, in one line."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return " ".join(f"{self.path}: {self.reason}".split())


@dataclass(frozen=True)
class FoundPairs:
    """``pairs`` in the order of their subjects, and what was ``left_out``."""

    pairs: tuple[Pair, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Each subject once, sorted."""
        return tuple(sorted({pair.subject for pair in self.pairs}))


@dataclass(frozen=True)
class _Candidate:
    subject: str
    scan: Path | None
    mask: Path
    sha256: str | None
    automatic: Path | None
    when: str
    series: str | None = None


def find_pairs(source: Path) -> FoundPairs:
    """Scans and corrected masks in ``source``.

    A mask whose T1 has changed since, or is not there, is left out; of two masks of one scan, the
    one corrected last is used.

    Parameters
    ----------
    source: a BIDS derivative with ``*_desc-corrected_mask.nii.gz``, or a list (.tsv, .csv, .txt)
        with the columns scan, mask and, if it likes, subject and DICOM series; see ``read_pairs``.
        Subjects that it does not name are those of BIDS names and folders.

    Raises
    ------
    InputError
        If there is nothing, or the list cannot be read or leaves open whose a scan is.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.learning.adapt import find_pairs
    >>> _ = Path("masks.tsv").write_text("scan\\tmask\\n")
    >>> find_pairs(Path("masks.tsv"))
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: ...masks.tsv: contains no corrected masks...
    """
    source = Path(os.path.abspath(source))
    if source.is_dir():
        candidates = [
            _Candidate(entities_of(f"{c.stem}_T1w.nii.gz").subject, c.scan, c.mask, c.sha256,
                       c.automatic, c.when, c.series)
            for c in corrected_masks(source)
        ]  # fmt: skip
    elif source.name.lower().endswith(LIST_ENDINGS):
        candidates = _listed(source)
    elif not os.path.lexists(source):
        raise InputError(source, *not_there(source))
    else:
        raise InputError(
            source,
            "is neither a folder nor a list",
            "Give a folder that batch has written, or a list of pairs",
        )
    if not candidates:
        raise InputError(
            source,
            "contains no corrected masks",
            "Save corrections as *_desc-corrected_mask.nii.gz beside the automatic masks",
        )
    # One spelling for a person.
    spelled: dict[str, str] = {}
    candidates = [
        replace(c, subject=spelled.setdefault(person_of(c.subject), c.subject)) for c in candidates
    ]
    pairs: dict[tuple[str, str | None], tuple[Pair, str]] = {}
    left_out = []
    for candidate in candidates:
        pair = _checked(candidate)
        if isinstance(pair, LeftOut):
            left_out.append(pair)
            continue
        when = candidate.when or str(pair.mask.stat().st_mtime_ns)
        # A DICOM folder may hold several scans.
        key = pair.scan_sha256, pair.series
        other = pairs.get(key)
        if other is not None:
            older = pair if (when, str(pair.mask)) < (other[1], str(other[0].mask)) else other[0]
            newer = other[0] if older is pair else pair
            left_out.append(
                LeftOut(older.mask, f"the same scan has a mask corrected later, {newer.mask.name}")
            )
            if older is pair:
                continue
        pairs[key] = pair, when
    used = sorted((p for p, _ in pairs.values()), key=lambda p: (p.subject, str(p.mask)))
    return FoundPairs(tuple(used), tuple(left_out))


def _checked(candidate: _Candidate) -> Pair | LeftOut:
    """The pair with its checksums, or why not."""
    if candidate.scan is None or not candidate.scan.exists():
        where = "" if candidate.scan is None else f" ({candidate.scan})"
        return LeftOut(candidate.mask, f"its T1 is not there{where}; not used")
    try:
        scan = str(fingerprint(candidate.scan)["sha256"])
        mask = str(fingerprint(candidate.mask)["sha256"])
    except OSError as error:
        return LeftOut(candidate.mask, f"cannot be read ({error.strerror or error}); not used")
    if candidate.sha256 is not None and candidate.sha256 != scan:
        return LeftOut(
            candidate.mask,
            f"its T1 has changed since it was corrected ({candidate.scan.name}); not used",
        )
    return Pair(
        candidate.subject,
        candidate.scan,
        candidate.mask,
        scan,
        mask,
        candidate.automatic,
        candidate.series,
    )


def _subject_of(line: ListedPair, listed: Path) -> str:
    """Whose scan it is: as its line says, or its name or a BIDS folder.

    Raises ``InputError`` where nothing does: other names and folders may be one person's sessions,
    who must not be taken for two.
    """
    if line.subject:
        return line.subject
    if not any(part.startswith("sub-") for part in line.scan.parts):
        raise InputError(
            listed,
            f"does not say whose scan {line.scan.name} is",
            "Add its subject in a column: who is learnt from must not judge",
        )
    return entities_of(str(line.scan)).subject


def _listed(path: Path) -> list[_Candidate]:
    return [
        _Candidate(
            _subject_of(line, path),
            line.scan,
            line.mask,
            None,
            None,
            "",
            line.series,
        )
        for line in read_pairs(path)
    ]
