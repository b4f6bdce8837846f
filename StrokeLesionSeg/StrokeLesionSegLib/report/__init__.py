"""Reports for people: one self-contained HTML page for each scan, one for a group of scans.

The pages are made from plain data; ``report_content`` gathers it from a finished run:

``write_scan_report(path, content)``
    ``content`` is a ``ReportContent``: display arrays on one RAS grid, lesions, model, parameters.

``write_group_report(path, rows, scans, GroupPage(title, frequency=..., facts=...))``
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
        ``lesion_frequency(...)`` makes one from masks and their alignments.
    ``facts``
        mapping of short titles to text, printed at the end: parameters, versions, model.

Pages hold no path of the host and no name but those they are given: hand over BIDS names, not
patients' names. They are UTF-8, need no network (a Content-Security-Policy forbids it), and print
on A4.

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
        "RunFacts": "gather",
        "CorrectionFacts": "gather",
        "report_path": "gather",
        "lesion_frequency": "frequency",
        "CONVENTIONS": "content",
        "NEUROLOGICAL": "content",
        "RADIOLOGICAL": "content",
        "SHARED_FOLDER": "content",
        "AlignmentFacts": "content",
        "Correction": "content",
        "ChangeContent": "change_page",
        "ChangeSide": "change_page",
        "write_change_report": "change_page",
        "ChangePair": "change_group",
        "write_change_group": "change_group",
        "ScorePageFacts": "score_page",
        "write_score_report": "score_page",
        "Fact": "content",
        "FrequencyMap": "content",
        "GroupScan": "content",
        "ReportContent": "content",
        "TriedAlignment": "content",
        "GroupTraits": "content",
        "StudyPlace": "content",
        "ViewerImages": "content",
        "STUDY_LIST": "review",
        "study_list": "review",
        "LICENSES": "viewer",
        "NIIVUE": "viewer",
        "group_report": "group_page",
        "GroupPage": "group_page",
        "write_group_report": "group_page",
        "without_paths": "page",
        "scan_report": "scan_page",
        "write_scan_report": "scan_page",
    },
)

__all__ = [
    "CONVENTIONS",
    "LICENSES",
    "NEUROLOGICAL",
    "NIIVUE",
    "RADIOLOGICAL",
    "SHARED_FOLDER",
    "STUDY_LIST",
    "AlignmentFacts",
    "ChangeContent",
    "ChangePair",
    "ChangeSide",
    "Correction",
    "CorrectionFacts",
    "Fact",
    "FrequencyMap",
    "GroupPage",
    "GroupScan",
    "GroupTraits",
    "ReportContent",
    "ReportOptions",
    "RunFacts",
    "ScorePageFacts",
    "StudyPlace",
    "TriedAlignment",
    "ViewerImages",
    "group_report",
    "lesion_frequency",
    "report_content",
    "report_path",
    "scan_report",
    "study_list",
    "without_paths",
    "write_change_group",
    "write_change_report",
    "write_group_report",
    "write_scan_report",
    "write_score_report",
]

if TYPE_CHECKING:
    from .change_group import ChangePair, write_change_group
    from .change_page import ChangeContent, ChangeSide, write_change_report
    from .content import (
        CONVENTIONS,
        NEUROLOGICAL,
        RADIOLOGICAL,
        SHARED_FOLDER,
        AlignmentFacts,
        Correction,
        Fact,
        FrequencyMap,
        GroupScan,
        GroupTraits,
        ReportContent,
        StudyPlace,
        TriedAlignment,
        ViewerImages,
    )
    from .frequency import lesion_frequency
    from .gather import CorrectionFacts, ReportOptions, RunFacts, report_content, report_path
    from .group_page import GroupPage, group_report, write_group_report
    from .page import without_paths
    from .review import STUDY_LIST, study_list
    from .scan_page import scan_report, write_scan_report
    from .score_page import ScorePageFacts, write_score_report
    from .viewer import LICENSES, NIIVUE
