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
    """What metadata and grey values say against a scan; those that refuse come first.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.input_check import check_scan
    >>> noise = np.random.default_rng(0).random((32, 32, 32))
    >>> [f.code for f in check_scan(checked_scan("t1", noise, np.eye(4))) if f.level == "refuse"]
    ['noise']
    """
    return judged([*check_metadata(scan), *check_looks(scan.volume)])


def judged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings weighed together: two that doubt the contrast for different reasons refuse it.

    Examples
    --------
    >>> from StrokeLesionSegLib.input_check import Finding, judged
    >>> doubts = [Finding("warn", "contrast", "may be T2"), Finding("warn", "contrast", "looks so")]
    >>> [f.level for f in judged(doubts)]
    ['refuse', 'warn']
    """
    found = list(findings)
    doubts = [f for f in found if f.code == "contrast"]
    if len(doubts) > 1 and all(f.level == "warn" for f in doubts):
        found[found.index(doubts[0])] = replace(doubts[0], level="refuse")
    return sorted(found, key=lambda f: f.level != "refuse")
