"""Cohorts: many scans in, a BIDS derivative out, on one machine or on a cluster; resumable.

Names are resolved on first use (PEP 562): importing this package imports neither torch, SimpleITK,
highdicom nor dask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BatchOptions": "options",
        "BatchReport": "options",
        "run_batch": "batch",
        "ChangeOptions": "changes",
        "ChangeReport": "changes",
        "compare_study": "changes",
        "is_study": "changes",
        "FoundScan": "inputs",
        "find_scans": "inputs",
        "Ledger": "ledger",
        "read_ledger": "ledger",
        "FolderLock": "lock",
        "ReportChoice": "settings",
    },
)

__all__ = [
    "BatchOptions",
    "BatchReport",
    "ChangeOptions",
    "ChangeReport",
    "FolderLock",
    "FoundScan",
    "Ledger",
    "ReportChoice",
    "compare_study",
    "find_scans",
    "is_study",
    "read_ledger",
    "run_batch",
]

if TYPE_CHECKING:
    from .batch import run_batch
    from .changes import ChangeOptions, ChangeReport, compare_study, is_study
    from .inputs import FoundScan, find_scans
    from .ledger import Ledger, read_ledger
    from .lock import FolderLock
    from .options import BatchOptions, BatchReport
    from .settings import ReportChoice
