"""One line about an input volume before it is used: what it is, and what will be done about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..i18n import tr as _
from .volumes import affine_from_node, voxels_from_node

CHOOSE = _("Choose a T1-weighted head scan. None at hand? Load the simulated sample.")

_OTHER_CONTRASTS = re.compile(
    r"(?<![a-z0-9])(t2\w*|flair|dwi|adc|trace|swi|swan|pd|bold|epi|asl|cta?|pet|tof|mra)(?![a-z0-9])",
    re.IGNORECASE,
)
_NOT_SCALAR = {
    "vtkMRMLVectorVolumeNode": _("a colour or vector image"),
    "vtkMRMLDiffusionTensorVolumeNode": _("a diffusion tensor image"),
    "vtkMRMLDiffusionWeightedVolumeNode": _("a diffusion-weighted series"),
    "vtkMRMLMultiVolumeNode": _("a 4D image"),
    "vtkMRMLLabelMapVolumeNode": _("a label map"),
    "vtkMRMLStreamingVolumeNode": _("a video stream"),
}
# The share of voxels at exactly the lowest value. Brain-extracted scans measured .78 to .90, whole
# heads (also with a zeroed background) up to .67.
_STRIPPED_SHARE = 0.72
# Bright side over dark side of the grey values in the middle of the head. T1-weighted scans of 22
# people and templates measured .19 to 1.16 (fluid is dark); the same with inverted brain 1.4 to 3.
_T1_RATIO, _T2_RATIO = 1.3, 1.5


@dataclass(frozen=True)
class InputCheck:
    """``text`` is the line for the panel; ``usable`` is False if a run cannot start.

    ``contrast`` is "T1", "T2", "CT" or "unclear" (a guess from grey values), ``notes`` the parts
    of the line that say what will be done, ``doubts`` those that say why to look twice.
    """

    usable: bool
    text: str
    contrast: str = "unclear"
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


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
    size = spacing * np.array(voxels.shape[::-1])
    contrast, stripped = contrast_of(voxels)
    notes: list[str] = []
    doubts: list[str] = []

    name = _OTHER_CONTRASTS.search(node.GetName() or "")
    if contrast == "T2" or (name and contrast != "T1"):
        doubts.append(_("looks like another contrast, the model was trained on T1 only"))
    elif contrast == "CT":
        doubts.append(_("looks like CT, the model was trained on T1-weighted MRI only"))
    elif name:
        doubts.append(
            _("named '{word}' but looks T1-weighted: please check").format(word=name.group(0))
        )
    elif contrast == "unclear":
        doubts.append(_("contrast unclear: please check that this is a T1-weighted scan"))
    if size.max() > 420 or size.min() < 60:
        text = " x ".join(f"{s:.0f}" for s in size)
        doubts.append(_("{size} mm is not the size of a head: check the spacing").format(size=text))

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


def oblique_degrees(affine: NDArray[np.float64]) -> float:
    """Largest angle between a voxel axis and the nearest anatomical axis, in degrees."""
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0), 0, 1))).max())


def contrast_of(voxels: NDArray[Any]) -> tuple[str, bool]:
    """("T1" | "T2" | "CT" | "unclear", already brain-extracted), from about 64^3 of the voxels.

    In the middle of a head the grey values of a T1-weighted scan tail off to the dark side
    (ventricles); where fluid is bright they tail off to the bright side.
    """
    step = [max(1, n // 64) for n in voxels.shape]
    small = np.asarray(voxels[:: step[0], :: step[1], :: step[2]], dtype=np.float32)
    small = np.nan_to_num(small, posinf=0.0, neginf=0.0)
    low, high = np.percentile(small, [0.5, 99.5])
    if not low < high:
        return "unclear", False
    stripped = bool((small == small.min()).mean() > _STRIPPED_SHARE)
    # Air at -1000 and nothing scaled: Hounsfield units.
    if low < -800 and np.median(small) < 200:
        return "CT", stripped
    scaled = np.clip((small - low) / (high - low), 0, 1)
    foreground = np.argwhere(scaled > 0.6 * _otsu(scaled))
    if len(foreground) < 500:
        return "unclear", stripped
    first, last = np.percentile(foreground, [2, 98], axis=0)
    middle, half = (first + last) / 2, (last - first) / 4
    box = tuple(
        slice(int(max(0, m - h)), int(m + h) + 1) for m, h in zip(middle, half, strict=True)
    )
    dark, median, bright = np.percentile(scaled[box], [2, 50, 98])
    ratio = float((bright - median) / (median - dark + 1e-6))
    if ratio < _T1_RATIO:
        return "T1", stripped
    return ("T2" if ratio > _T2_RATIO else "unclear"), stripped


def _otsu(scaled: NDArray[np.float32]) -> float:
    """Otsu's threshold of values in [0, 1]."""
    counts, edges = np.histogram(scaled, 128, (0.0, 1.0))
    weight = np.cumsum(counts) / counts.sum()
    mean = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2) / counts.sum()
    between = (mean[-1] * weight - mean) ** 2 / np.maximum(weight * (1 - weight), 1e-9)
    return float(edges[int(between.argmax()) + 1])
