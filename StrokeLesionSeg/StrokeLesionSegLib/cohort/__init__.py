"""Cohorts: many scans in, a BIDS derivative out, on one machine or on a cluster; resumable.

Names are resolved on first use (PEP 562): importing this package imports neither torch, SimpleITK,
highdicom nor dask.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "BatchOptions": "batch",
    "BatchReport": "batch",
    "run_batch": "batch",
    "FoundScan": "inputs",
    "find_scans": "inputs",
    "Ledger": "ledger",
    "read_ledger": "ledger",
    "FolderLock": "lock",
    "ReportChoice": "scan_job",
}

__all__ = [
    "BatchOptions",
    "BatchReport",
    "FolderLock",
    "FoundScan",
    "Ledger",
    "ReportChoice",
    "find_scans",
    "read_ledger",
    "run_batch",
]

if TYPE_CHECKING:
    from .batch import BatchOptions, BatchReport, run_batch
    from .inputs import FoundScan, find_scans
    from .ledger import Ledger, read_ledger
    from .lock import FolderLock
    from .scan_job import ReportChoice


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
