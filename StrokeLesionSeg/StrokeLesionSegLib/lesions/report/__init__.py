"""Reports for people: one self-contained HTML page for each scan, one for a group of scans.

Everything here is made from plain data; who reads files and aligns scans hands them over:

``write_scan_report(path, content)``
    ``content`` is a ``ReportContent``: display arrays on one RAS grid, lesions, model, parameters.
    ``StrokeLesionSegLib.reporting`` gathers it from a finished run.

``write_group_report(path, rows, scans, *, title, frequency, facts, overwrite)``
    ``path``
        the page, for example ``OUT/index.html``; complete or not there at all.
    ``rows``
        the rows of ``group_lesions.tsv``: mappings, one for each LESION, with the columns of
        ``lesions.COLUMNS`` (of which ``volume_ml``, ``left_share``, ``mean_probability`` and
        ``keep`` are used) and the column ``scan``, equal to ``GroupScan.name``.
    ``scans``
        one ``GroupScan(name, state, ...)`` for each scan of the group, those that failed too, in
        the order of the table. ``state`` is ``"done"``, ``"failed"`` or ``"waiting"``.
    ``frequency``
        ``FrequencyMap(counts, scans, affine, background)`` or None:
        ``reporting.lesion_frequency(...)`` makes one from masks and their alignments.
    ``facts``
        mapping of short titles to text, printed at the end: parameters, versions, model.

Pages hold no path of the host and no name but those they are given: hand over BIDS names, not
patients' names. They are UTF-8, need no network (a Content-Security-Policy forbids it), and print
on A4.
"""

from .concerns import concerns
from .content import (
    CONVENTIONS,
    NEUROLOGICAL,
    RADIOLOGICAL,
    AlignmentFacts,
    Fact,
    FrequencyMap,
    GroupScan,
    RegionTable,
    RegionVolume,
    ReportContent,
    TriedAlignment,
)
from .group_page import group_report, write_group_report
from .page import without_paths
from .scan_page import scan_report, write_scan_report

__all__ = [
    "CONVENTIONS",
    "NEUROLOGICAL",
    "RADIOLOGICAL",
    "AlignmentFacts",
    "Fact",
    "FrequencyMap",
    "GroupScan",
    "RegionTable",
    "RegionVolume",
    "ReportContent",
    "TriedAlignment",
    "concerns",
    "group_report",
    "scan_report",
    "without_paths",
    "write_group_report",
    "write_scan_report",
]
