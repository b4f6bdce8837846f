"""One scan from file to files: stages, run by segment, cohort and panel alike."""

from .documents import describe, sha256_of, software_versions, write_report
from .images import write_volumes
from .result import REGIONS_ENDING, TRANSFORM_ENDING, OutputPaths, SegmentResult, mni_names
from .runner import STAGES, ScanRun, ScanRunner, Wanted, find_in, mni_matrix
from .segment import segment_file
from .source import check_source

__all__ = [
    "REGIONS_ENDING",
    "STAGES",
    "TRANSFORM_ENDING",
    "OutputPaths",
    "ScanRun",
    "ScanRunner",
    "SegmentResult",
    "Wanted",
    "check_source",
    "describe",
    "find_in",
    "mni_matrix",
    "mni_names",
    "segment_file",
    "sha256_of",
    "software_versions",
    "write_report",
    "write_volumes",
]
