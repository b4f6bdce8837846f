"""One line about an input volume before it is used: what it is, and what will be done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...images.volume import Volume
from ...input_check import Finding, check_looks, check_name, contrast_of, measure
from ..engine_words import said
from ..i18n import tr as _
from .volumes import affine_from_node, voxels_from_node

CHOOSE = _("Choose a T1-weighted head scan. None at hand? Load the simulated sample.")

_NOT_SCALAR = {
    "vtkMRMLVectorVolumeNode": _("a colour or vector image"),
    "vtkMRMLDiffusionTensorVolumeNode": _("a diffusion tensor image"),
    "vtkMRMLDiffusionWeightedVolumeNode": _("a diffusion-weighted series"),
    "vtkMRMLMultiVolumeNode": _("a 4D image"),
    "vtkMRMLLabelMapVolumeNode": _("a label map"),
    "vtkMRMLStreamingVolumeNode": _("a video stream"),
}


@dataclass(frozen=True)
class InputCheck:
    """``text`` is the line for the panel; ``usable`` is False if a run cannot start.

    ``contrast`` is "T1", "T2", "CT" or "unclear" (a guess from grey values), ``notes`` the parts
    of the line that say what will be done, ``doubts`` those that say why to look twice. ``refused``
    is True if the engine would refuse it: who segments it all the same has read why not.
    """

    usable: bool
    text: str
    contrast: str = "unclear"
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    refused: bool = False


def check_input(node: Any | None) -> InputCheck:
    """Judge a volume node; takes a few milliseconds whatever its size. Never raises."""
    if node is None:
        return InputCheck(False, CHOOSE)
    reason = _unusable(node)
    if reason:
        return InputCheck(False, reason)
    voxels = voxels_from_node(node)
    affine = affine_from_node(node)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        return InputCheck(False, _("The voxel spacing is zero: correct it in the Volumes module."))
    measures = measure(Volume(voxels, affine))
    contrast = contrast_of(measures)
    stripped = measures is not None and measures.stripped
    findings = check_name(node.GetName() or "") + check_looks(Volume(voxels, affine), measures)
    doubts = list(dict.fromkeys(_said(finding) for finding in findings))
    notes: list[str] = []

    if stripped:
        notes.append(_("already brain-extracted (fine)"))
    if spacing.max() > 2.5:
        notes.append(
            _("thick slices ({mm} mm): resampled, outlines will be coarser").format(
                mm=f"{spacing.max():.3g}"
            )
        )
    angle = oblique_degrees(affine)
    if angle > 3.0:
        notes.append(
            _("oblique ({degrees} degrees): resampled, the mask comes back on its grid").format(
                degrees=f"{angle:.0f}"
            )
        )
    transform = node.GetParentTransformNode()
    if transform is not None:
        under = (
            _("under the transform '{name}': the mask will follow it")
            if transform.IsTransformToWorldLinear()
            else _("under the non-linear transform '{name}': the mask will follow it")
        )
        notes.append(under.format(name=transform.GetName()))
    if sequence_proxy(node):
        notes.append(_("one frame of a sequence: only the frame shown is used"))

    grid = " x ".join(f"{s:.3g}" for s in spacing)
    head = {
        "T1": _("Looks T1-weighted"),
        "T2": _("Looks T2-weighted"),
        "CT": _("Looks like CT"),
    }.get(contrast, _("Contrast unclear"))
    parts = [f"{head}, {grid} mm", *doubts, *notes]
    return InputCheck(
        True,
        "; ".join(parts) + ".",
        contrast,
        tuple(notes),
        tuple(doubts),
        {"spacing": tuple(map(float, spacing)), "stripped": stripped, "oblique_degrees": angle},
        any(finding.level == "refuse" for finding in findings),
    )


def _unusable(node: Any) -> str:
    """Why no run can start with this node, or nothing."""
    for class_name, what in _NOT_SCALAR.items():
        if node.IsA(class_name):
            return _("This is {what}. Choose a T1-weighted volume with one value a voxel.").format(
                what=what
            )
    if node.GetAttribute("StrokeLesionSeg"):
        return _("This is a result of StrokeLesionSeg. Choose the T1-weighted scan it came from.")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return _("This volume is empty. Load the image again.")
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        return _("Each voxel has {count} values. Choose a volume with one value a voxel.").format(
            count=components
        )
    dimensions = image.GetDimensions()
    if min(dimensions) < 2:
        return _("This is a single slice. Choose the whole T1-weighted volume.")
    low, high = image.GetScalarRange()
    if not low < high:
        return _("Every voxel has the same value. Choose the T1-weighted scan.")
    return ""


def sequence_proxy(node: Any) -> bool:
    """True if the node shows one frame of a sequence (a 4D image)."""
    import slicer

    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.IsProxyNodeID(node.GetID()):
            return True
    return False


def _said(finding: Finding) -> str:
    """A finding of the engine's check in the panel's words."""
    return {
        "contrast": _("looks like another contrast, the model was trained on T1 only"),
        "contrast-unclear": _("contrast unclear: please check that this is a T1-weighted scan"),
        "ct": _("looks like CT, the model was trained on T1-weighted MRI only"),
    }.get(finding.code) or said(finding.text)


def oblique_degrees(affine: NDArray[np.float64]) -> float:
    """Largest angle between a voxel axis and the nearest anatomical axis, in degrees."""
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0), 0, 1))).max())
