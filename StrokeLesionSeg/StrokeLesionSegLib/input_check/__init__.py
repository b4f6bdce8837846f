"""Is this a T1-weighted scan of a head? One check for ``segment``, ``batch``, Python and the panel.

Findings have a level: "refuse" (not segmented unless forced) or "warn".
"""

from .aligned import check_aligned
from .check import check_scan, judged
from .findings import Finding, for_sidecar, refuse_or_warn, sentence
from .grey_values import GreyValues, measure
from .looks import check_looks, contrast_of
from .metadata import check_metadata, check_name, sequence_of
from .repair import repair

__all__ = [
    "Finding",
    "GreyValues",
    "check_aligned",
    "check_looks",
    "check_metadata",
    "check_name",
    "check_scan",
    "contrast_of",
    "for_sidecar",
    "judged",
    "measure",
    "refuse_or_warn",
    "repair",
    "sentence",
    "sequence_of",
]
