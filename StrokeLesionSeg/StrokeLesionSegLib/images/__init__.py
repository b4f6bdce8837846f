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
        "Scan": "formats.scan",
        "read_scan": "formats.reading",
        "checked_scan": "formats.checks",
        "write_volume": "formats.writing",
        "NiftiFields": "formats.writing",
        "atomic_output": "formats.writing",
        "check_grid": "formats.writing",
        "check_output": "formats.writing",
        "Canonical": "space.canonical",
        "to_canonical": "space.canonical",
        "from_canonical": "space.canonical",
        "Alignment": "space.alignment",
        "align_to_mni": "space.registration",
        "Deformation": "space.deformation",
        "DeformableAlignment": "space.registration_deform",
        "deform_to_mni": "space.registration_deform",
        "nearest_labels": "space.nearest",
        "RigidAlignment": "space.rigid",
        "align_rigid": "space.rigid",
        "mask_in_mni": "space.standard",
        "probability_in_mni": "space.standard",
        "read_deformation": "space.standard",
        "read_transform": "space.standard",
        "write_transform": "space.standard",
        "MNI_GRID": "space.template",
        "mni_brain_mask": "space.template",
        "window_range": "window",
        "apply_window": "window",
        "brain_box": "space.brainbox",
        "brain_mask_for": "space.brainbox",
        "lies_on_mni_grid": "space.brainbox",
    },
)

__all__ = [
    "MNI_GRID",
    "Alignment",
    "Canonical",
    "DeformableAlignment",
    "Deformation",
    "Grid",
    "NiftiFields",
    "RigidAlignment",
    "Scan",
    "Volume",
    "align_rigid",
    "align_to_mni",
    "apply_window",
    "atomic_output",
    "brain_box",
    "brain_mask_for",
    "check_grid",
    "check_output",
    "checked_scan",
    "deform_to_mni",
    "from_canonical",
    "lies_on_mni_grid",
    "mask_in_mni",
    "mni_brain_mask",
    "nearest_labels",
    "probability_in_mni",
    "read_deformation",
    "read_scan",
    "read_transform",
    "to_canonical",
    "window_range",
    "write_transform",
    "write_volume",
]

if TYPE_CHECKING:
    from .formats.checks import checked_scan
    from .formats.reading import read_scan
    from .formats.scan import Scan
    from .formats.writing import (
        NiftiFields,
        atomic_output,
        check_grid,
        check_output,
        write_volume,
    )
    from .space.alignment import Alignment
    from .space.brainbox import brain_box, brain_mask_for, lies_on_mni_grid
    from .space.canonical import Canonical, from_canonical, to_canonical
    from .space.deformation import Deformation
    from .space.nearest import nearest_labels
    from .space.registration import align_to_mni
    from .space.registration_deform import DeformableAlignment, deform_to_mni
    from .space.rigid import RigidAlignment, align_rigid
    from .space.standard import (
        mask_in_mni,
        probability_in_mni,
        read_deformation,
        read_transform,
        write_transform,
    )
    from .space.template import MNI_GRID, mni_brain_mask
    from .volume import Grid, Volume
    from .window import apply_window, window_range
