"""One scan from file to files: stages, run by segment, cohort and panel alike.

Names are resolved on first use (PEP 562): ``segment`` needs a third of what is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AlignBeside": "align_beside",
        "ChangePaths": "change_files",
        "write_change": "change_files",
        "CompareOptions": "compare",
        "compare_files": "compare",
        "compare_scans": "compare",
        "known_time_point": "compare",
        "alignment_of": "documents",
        "sha256_of": "contents",
        "software_versions": "documents",
        "write_volumes": "images",
        "REGIONS_ENDING": "result",
        "TRANSFORM_ENDING": "result",
        "OutputPaths": "result",
        "SegmentResult": "result",
        "mni_names": "result",
        "STAGES": "runner",
        "ScanRun": "runner",
        "ScanRunner": "runner",
        "Wanted": "runner",
        "find_in": "runner",
        "mni_matrix": "runner",
        "impossible_outputs": "segment",
        "FileOptions": "segment",
        "segment_file": "segment",
        "check_source": "source",
        "Comparison": "time_points",
        "TimePoint": "time_points",
    },
)

__all__ = [
    "REGIONS_ENDING",
    "STAGES",
    "TRANSFORM_ENDING",
    "AlignBeside",
    "ChangePaths",
    "CompareOptions",
    "Comparison",
    "FileOptions",
    "OutputPaths",
    "ScanRun",
    "ScanRunner",
    "SegmentResult",
    "TimePoint",
    "Wanted",
    "alignment_of",
    "check_source",
    "compare_files",
    "compare_scans",
    "find_in",
    "impossible_outputs",
    "known_time_point",
    "mni_matrix",
    "mni_names",
    "segment_file",
    "sha256_of",
    "software_versions",
    "write_change",
    "write_volumes",
]

if TYPE_CHECKING:
    from .align_beside import AlignBeside
    from .change_files import ChangePaths, write_change
    from .compare import CompareOptions, compare_files, compare_scans, known_time_point
    from .contents import sha256_of
    from .documents import alignment_of, software_versions
    from .images import write_volumes
    from .result import REGIONS_ENDING, TRANSFORM_ENDING, OutputPaths, SegmentResult, mni_names
    from .runner import STAGES, ScanRun, ScanRunner, Wanted, find_in, mni_matrix
    from .segment import FileOptions, impossible_outputs, segment_file
    from .source import check_source
    from .time_points import Comparison, TimePoint
