"""One scan from file to files: stages, run by segment, cohort and panel alike."""

from .change_files import ChangePaths, write_change
from .compare import compare_files, compare_scans, known_time_point
from .documents import describe, sha256_of, software_versions, write_report
from .images import write_volumes
from .result import REGIONS_ENDING, TRANSFORM_ENDING, OutputPaths, SegmentResult, mni_names
from .runner import STAGES, ScanRun, ScanRunner, Wanted, find_in, mni_matrix
from .segment import impossible_outputs, segment_file
from .source import check_source
from .time_points import Comparison, TimePoint

__all__ = [
    "REGIONS_ENDING",
    "STAGES",
    "TRANSFORM_ENDING",
    "ChangePaths",
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
    "known_time_point",
    "mni_matrix",
    "mni_names",
    "segment_file",
    "sha256_of",
    "software_versions",
    "write_change",
    "write_report",
    "write_volumes",
]
