"""Scans with the masks that somebody corrected: found, told apart by subject, checked by contents.

Whatever cannot be used is named with the reason, and the rest goes on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...cohort.corrected import corrected_masks
from ...cohort.fingerprint import fingerprint
from ...cohort.lists import LIST_ENDINGS
from ...cohort.naming import entities_of, label
from ...errors import InputError


@dataclass(frozen=True)
class Pair:
    """``subject``: whose. ``scan``, ``mask``: files. ``scan_sha256``, ``mask_sha256``: of their
    contents. ``automatic``: the mask before the correction, if it is known."""

    subject: str
    scan: Path
    mask: Path
    scan_sha256: str
    mask_sha256: str
    automatic: Path | None = None


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


def find_pairs(source: Path) -> FoundPairs:
    """Scans and corrected masks in ``source``.

    A mask whose T1 has changed since, or is not there, is left out; of two masks of one scan, the
    one corrected last is used.

    Parameters
    ----------
    source: a BIDS derivative with ``*_desc-corrected_mask.nii.gz``, or a list (.tsv, .csv, .txt)
        with the columns scan, mask and, if it likes, subject.

    Raises
    ------
    InputError
        If there is nothing, or the list cannot be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.learning.adapt import find_pairs
    >>> _ = Path("masks.tsv").write_text("scan\\tmask\\n")
    >>> find_pairs(Path("masks.tsv"))
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: ...masks.tsv: holds no corrected masks...
    """
    source = Path(os.path.abspath(source))
    if source.is_dir():
        candidates = [
            _Candidate(entities_of(f"{c.stem}_T1w.nii.gz").subject, c.scan, c.mask, c.sha256,
                       c.automatic, c.when)
            for c in corrected_masks(source)
        ]  # fmt: skip
    elif source.name.lower().endswith(LIST_ENDINGS):
        candidates = _listed(source)
    elif not os.path.lexists(source):
        raise InputError(source, "there is no such file or folder", "Check the path")
    else:
        raise InputError(
            source, "is neither a folder nor a list", "Give a derivative, or a .tsv of pairs"
        )
    if not candidates:
        raise InputError(
            source,
            "holds no corrected masks",
            "Save corrections as *_desc-corrected_mask.nii.gz beside the automatic masks",
        )
    pairs: dict[str, tuple[Pair, str]] = {}
    left_out = []
    for candidate in candidates:
        pair = _checked(candidate)
        if isinstance(pair, LeftOut):
            left_out.append(pair)
            continue
        when = candidate.when or str(pair.mask.stat().st_mtime_ns)
        other = pairs.get(pair.scan_sha256)
        if other is not None:
            older = pair if (when, str(pair.mask)) < (other[1], str(other[0].mask)) else other[0]
            newer = other[0] if older is pair else pair
            left_out.append(
                LeftOut(older.mask, f"the same scan has a mask corrected later, {newer.mask.name}")
            )
            if older is pair:
                continue
        pairs[pair.scan_sha256] = pair, when
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
    return Pair(candidate.subject, candidate.scan, candidate.mask, scan, mask, candidate.automatic)


def _listed(path: Path) -> list[_Candidate]:
    remedy = "Give scan, mask and (if wanted) subject on each line, with tabs between"
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})", remedy) from error
    separator = "," if path.name.lower().endswith(".csv") else "\t"
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(separator)]
        if not cells[0] or cells[0].startswith("#") or (number == 1 and cells[0] == "scan"):
            continue
        if not 2 <= len(cells) <= 3 or not cells[1]:
            raise InputError(path, f"line {number} has {len(cells)} columns, not 2 or 3", remedy)
        scan, mask = (
            Path(os.path.abspath(path.parent / Path(cell).expanduser())) for cell in cells[:2]
        )
        if not mask.is_file():
            raise InputError(path, f"line {number}: there is no mask {cells[1]}", remedy)
        given = cells[2].removeprefix("sub-") if len(cells) == 3 else ""
        subject = label(given) if given else entities_of(Path(cells[0]).name).subject
        found.append(_Candidate(subject, scan, mask, None, None, ""))
    return found
