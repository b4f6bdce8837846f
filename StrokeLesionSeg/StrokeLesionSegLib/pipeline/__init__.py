"""One scan from file to files: stages, run by segment, cohort and panel alike."""

from .documents import describe, sha256_of, software_versions, write_report
from .images import write_volumes
from .result import OutputPaths, SegmentResult
from .runner import STAGES, ScanRun, ScanRunner, Wanted, find_in
from .segment import segment_file
from .source import check_source

__all__ = [
    "STAGES",
    "OutputPaths",
    "ScanRun",
    "ScanRunner",
    "SegmentResult",
    "Wanted",
    "check_source",
    "describe",
    "find_in",
    "segment_file",
    "sha256_of",
    "software_versions",
    "write_report",
    "write_volumes",
]
