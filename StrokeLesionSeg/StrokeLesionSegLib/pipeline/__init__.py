"""One scan from file to files: stages, run by segment, cohort and panel alike."""

from .compare import Comparison, TimePoint, compare_files, compare_scans
from .documents import describe, sha256_of, software_versions, write_report
from .images import write_volumes
from .result import REGIONS_ENDING, TRANSFORM_ENDING, OutputPaths, SegmentResult, mni_names
from .runner import STAGES, ScanRun, ScanRunner, Wanted, find_in, mni_matrix
from .segment import impossible_outputs, segment_file
from .source import check_source

__all__ = [
    "REGIONS_ENDING",
    "STAGES",
    "TRANSFORM_ENDING",
    "Comparison",
    "OutputPaths",
    "ScanRun",
    "ScanRunner",
    "SegmentResult",
    "TimePoint",
    "Wanted",
    "check_source",
    "compare_files",
    "compare_scans",
    "describe",
    "find_in",
    "impossible_outputs",
    "mni_matrix",
    "mni_names",
    "segment_file",
    "sha256_of",
    "software_versions",
    "write_report",
    "write_volumes",
]
