"""All that can be said of a scan before it is aligned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from .findings import Finding
from .looks import check_looks
from .metadata import check_metadata

if TYPE_CHECKING:
    from ..images import Scan


def check_scan(scan: Scan) -> list[Finding]:
    """What metadata and grey values say against a scan; those that refuse come first."""
    return judged([*check_metadata(scan), *check_looks(scan.volume)])


def judged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings weighed together: two that doubt the contrast for different reasons refuse it."""
    found = list(findings)
    doubts = [f for f in found if f.code == "contrast"]
    if len(doubts) > 1 and all(f.level == "warn" for f in doubts):
        found[found.index(doubts[0])] = replace(doubts[0], level="refuse")
    return sorted(found, key=lambda f: f.level != "refuse")
