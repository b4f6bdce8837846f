"""The corrected masks of a BIDS derivative, and which scan each of them belongs to.

A mask is ``<stem>_desc-corrected_mask.nii.gz``; the JSON beside it says which scan it was drawn on
and what that scan's contents were.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .dataset import DESCRIPTION
from .ledger import read_ledger

ENDING = "_desc-corrected_mask"
_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Corrected:
    """``mask``: the file. ``stem``: begin of its name. ``scan``: the T1, None if nothing says where
    it is. ``sha256``: what the T1's contents were, None if nobody wrote it down. ``automatic``: the
    mask before it was corrected, if it is there. ``when``: when it was corrected, ISO 8601."""

    mask: Path
    stem: str
    scan: Path | None
    sha256: str | None
    automatic: Path | None
    when: str


def corrected_masks(folder: Path) -> list[Corrected]:
    """All corrected masks in ``folder``, by their paths."""
    files = sorted(p for s in _SUFFIXES for p in folder.rglob(f"*{ENDING}{s}") if p.is_file())
    root = input_of(folder)
    records = read_ledger(folder).scans
    return [_corrected(file, root, records) for file in files]


def _corrected(mask: Path, root: Path | None, records: Mapping[str, Any]) -> Corrected:
    stem = mask.name[: mask.name.index(ENDING)]
    facts = _json(mask.with_name(f"{stem}{ENDING}.json"))
    record = records.get(stem) or {}
    relative = _relative(facts) or record.get("source")
    scan = None
    if relative and root is not None:
        scan = root / relative if root.is_dir() else root
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
    )


def _relative(facts: Mapping[str, Any]) -> str | None:
    """The path of the T1 in the input, as BIDS writes it."""
    sources = facts.get("Sources")
    for uri in sources if isinstance(sources, list) else ():
        if isinstance(uri, str) and uri.startswith("bids:input:"):
            return unquote(uri.removeprefix("bids:input:"))
    return None


def input_of(folder: Path) -> Path | None:
    """Where the input of a derivative lies, by its description; None if that does not say."""
    links = _json(folder / DESCRIPTION).get("DatasetLinks")
    link = links.get("input") if isinstance(links, dict) else None
    if not isinstance(link, str):
        return None
    if link.startswith("file:"):
        path = unquote(urlsplit(link).path)
        # On Windows it is /C:/data.
        return Path(path[1:] if re.match(r"/[A-Za-z]:", path) else path)
    return (folder / unquote(link)).resolve()


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
