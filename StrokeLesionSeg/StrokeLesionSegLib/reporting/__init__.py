"""From finished runs to the plain data of ``lesions.report``: display grid, atlas, frequency map.

Names are resolved on first use (PEP 562), so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ReportOptions": "gather",
        "report_content": "gather",
        "report_path": "gather",
        "Atlas": "atlas",
        "read_atlas": "atlas",
        "region_table": "atlas",
        "lesion_frequency": "frequency",
    },
)

__all__ = [
    "Atlas",
    "ReportOptions",
    "lesion_frequency",
    "read_atlas",
    "region_table",
    "report_content",
    "report_path",
]

if TYPE_CHECKING:
    from .atlas import Atlas, read_atlas, region_table
    from .frequency import lesion_frequency
    from .gather import ReportOptions, report_content, report_path
