"""The corrected masks of a BIDS derivative, and which scan each of them belongs to.

A mask is ``<stem>_desc-corrected_mask.nii.gz``; the JSON beside it says which scan it was drawn on
and what that scan's contents were.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from ..errors import InputError
from ..outputs import read_json_object
from ..walk import files_below
from .dataset import DESCRIPTION
from .dicom_study import told_as
from .inputs import find_scans
from .ledger import read_ledger
from .lists import located

ENDING = "_desc-corrected_mask"
_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Corrected:
    """``mask``: the file. ``stem``: begin of its name. ``scan``: the T1, None if nothing says where
    it is. ``sha256``: what the T1's contents were, None if nobody wrote it down. ``automatic``: the
    mask before it was corrected, if it is there. ``when``: when it was corrected, ISO 8601.
    ``who``: the reader's pseudonym; both are empty if nobody wrote them down.
    ``series``: the SeriesInstanceUID to take where ``scan`` is a DICOM folder."""

    mask: Path
    stem: str
    scan: Path | None
    sha256: str | None
    automatic: Path | None
    when: str
    series: str | None = None
    who: str = ""


class SourceScans:
    """Where the scans of a derivative lie, which its tables may call by checksums.

    ``root``: the folder that they lie in; None takes what the derivative says. That names the input
    of its last batch; those of earlier ones are in its ledger, and asked after it.
    """

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self._folder, self.root = folder, input_of(folder) if root is None else root
        self._roots = [] if self.root is None else [self.root]
        if root is None and self.root is not None:
            self._roots += _earlier_inputs(folder, self.root)
        self._known: dict[str, Path] | None = None

    def find(self, relative: str) -> Path | None:
        """The file or DICOM folder that ledger and sidecars call ``relative``.

        The input is searched, once, only if nothing is there under that name. None if the
        derivative does not say where its input lies; a path where nothing is if it is not found.
        """
        if self.root is None:
            return None
        # A list may have named it in the way of another system, or from somebody's home.
        paths = [located(r, relative) if r.is_dir() else r for r in self._roots]
        if there := next((path for path in paths if path.exists()), None):
            return there
        if self._known is None:
            self._known = {}
            for root in reversed(self._roots):
                self._known.update(self._search(root))
        return self._known.get(relative, paths[0])

    def _search(self, root: Path) -> dict[str, Path]:
        try:
            scans = find_scans(root, leave_out=self._folder).scans
        except InputError:
            return {}
        known = {scan.relative: scan.path for scan in scans}
        for scan in scans:
            # As a list, with or without the whole path, and a table of pseudonyms call them.
            for place in (scan.place, scan.path.as_posix()):
                known.setdefault(told_as(place), scan.path)
        return known


def corrected_masks(folder: Path) -> list[Corrected]:
    """All corrected masks in ``folder``, by their paths."""
    endings = tuple(f"{ENDING}{suffix}" for suffix in _SUFFIXES)
    found = [p for p in files_below(folder) if p.name.endswith(endings)]
    # What a batch has made of one in MNI space is none: its name has a label.
    files = sorted(p for p in found if "_label-" not in p.name)
    sources = SourceScans(folder)
    records = read_ledger(folder).scans
    return [_corrected(file, sources, records) for file in files]


def _corrected(mask: Path, sources: SourceScans, records: Mapping[str, Any]) -> Corrected:
    stem = mask.name[: mask.name.index(ENDING)]
    facts = read_json_object(mask.with_name(f"{stem}{ENDING}.json"))
    record = records.get(stem) or {}
    relative = _relative(facts) or record.get("source")
    scan = sources.find(relative) if relative else None
    if scan is None or not scan.exists():
        beside = [mask.with_name(f"{stem}_T1w{s}") for s in _SUFFIXES]
        scan = next((p for p in beside if p.is_file()), scan)
    source = facts.get("source")
    known = source.get("sha256") if isinstance(source, dict) else None
    known = known or (record.get("input") or {}).get("sha256")
    automatic = [mask.with_name(f"{stem}_label-lesion_mask{s}") for s in _SUFFIXES]
    return Corrected(
        mask,
        stem,
        scan,
        known if isinstance(known, str) else None,
        next((p for p in automatic if p.is_file()), None),
        str(facts.get("corrected") or ""),
        record.get("series"),
        str(facts.get("corrected_by") or ""),
    )


def _relative(facts: Mapping[str, Any]) -> str | None:
    """The path of the T1 in the input, as BIDS writes it."""
    sources = facts.get("Sources")
    for uri in sources if isinstance(sources, list) else ():
        if isinstance(uri, str) and uri.startswith("bids:input:"):
            return _unquoted(uri.removeprefix("bids:input:"))
    return None


def input_of(folder: Path) -> Path | None:
    """Where the input of a derivative lies, by its description; None if that does not say."""
    links = read_json_object(folder / DESCRIPTION).get("DatasetLinks")
    link = links.get("input") if isinstance(links, dict) else None
    if not isinstance(link, str):
        return None
    if link.startswith("file:"):
        path = _unquoted(urlsplit(link).path)
        # On Windows it is /C:/data.
        return Path(path[1:] if re.match(r"/[A-Za-z]:", path) else path)
    return (folder / _unquoted(link)).resolve()


def _unquoted(text: str) -> str:
    """A path out of a URI; names that are not UTF-8 come through as the file system treats them."""
    return os.fsdecode(unquote_to_bytes(text))


def _earlier_inputs(folder: Path, last: Path) -> list[Path]:
    """Where other batches into a derivative than its last found their scans, the latest first."""
    try:
        runs = read_ledger(folder).runs.values()
    except InputError:
        return []
    told = [Path(str(run["input"])) for run in runs if run.get("input")]
    # The input may have been a scan itself, or a list.
    roots = dict.fromkeys(path.parent if path.is_file() else path for path in reversed(told))
    known = os.path.realpath(last)
    return [root for root in roots if root.is_dir() and os.path.realpath(root) != known]
