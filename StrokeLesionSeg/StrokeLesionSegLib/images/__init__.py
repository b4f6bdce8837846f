"""Images: reading, writing, the canonical grid, MNI alignment and intensity windowing.

Names are resolved on first use (PEP 562), so that importing this package costs nothing; numpy is
the only thing that reading a NIfTI file needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Grid": "volume",
        "Volume": "volume",
        "Scan": "scan",
        "read_scan": "reading",
        "checked_scan": "checks",
        "write_volume": "writing",
        "atomic_output": "writing",
        "check_output": "writing",
        "Canonical": "canonical",
        "to_canonical": "canonical",
        "from_canonical": "canonical",
        "Alignment": "alignment",
        "align_to_mni": "alignment",
        "MNI_GRID": "template",
        "mni_brain_mask": "template",
        "window_range": "window",
        "apply_window": "window",
        "brain_box": "brainbox",
        "brain_mask_for": "brainbox",
    },
)

__all__ = [
    "MNI_GRID",
    "Alignment",
    "Canonical",
    "Grid",
    "Scan",
    "Volume",
    "align_to_mni",
    "apply_window",
    "atomic_output",
    "brain_box",
    "brain_mask_for",
    "check_output",
    "checked_scan",
    "from_canonical",
    "mni_brain_mask",
    "read_scan",
    "to_canonical",
    "window_range",
    "write_volume",
]

if TYPE_CHECKING:
    from .alignment import Alignment, align_to_mni
    from .brainbox import brain_box, brain_mask_for
    from .canonical import Canonical, from_canonical, to_canonical
    from .checks import checked_scan
    from .reading import read_scan
    from .scan import Scan
    from .template import MNI_GRID, mni_brain_mask
    from .volume import Grid, Volume
    from .window import apply_window, window_range
    from .writing import atomic_output, check_output, write_volume
