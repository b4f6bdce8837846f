"""How an image and a segmentation look: grey-value window, colour legend, surface, colour."""

from __future__ import annotations

from typing import Any

from ..i18n import tr as _
from .provenance import TAG, get_tag
from .volumes import voxels_from_node

# Percentiles of the foreground; Slicer's own window where there are none.
_WINDOWS: dict[str, tuple[float, float] | None] = {
    "automatic": None,
    "tissue": (20.0, 99.0),
    "fluid": (0.5, 60.0),
    "whole": (0.0, 100.0),
}
WINDOWS = (
    (_("Automatic"), "automatic"),
    (_("Grey and white matter"), "tissue"),
    (_("Fluid and cavities"), "fluid"),
    (_("Whole range"), "whole"),
)
_WINDOW = TAG + "window"


def set_window(volume_node: Any, name: str) -> None:
    """Show the image in a grey-value window of ``WINDOWS``; remembered with the scene."""
    from ...images.window import window_range

    volume_node.CreateDefaultDisplayNodes()
    display, share = volume_node.GetDisplayNode(), _WINDOWS[name]
    if share is None:
        display.SetAutoWindowLevel(True)
    else:
        low, high = window_range(voxels_from_node(volume_node)[::2, ::2, ::2], *share)
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(low, high)
    display.SetAttribute(_WINDOW, name)


def window_of(volume_node: Any | None) -> str:
    """The window that was set last."""
    display = volume_node.GetDisplayNode() if volume_node is not None else None
    name = display.GetAttribute(_WINDOW) if display is not None else None
    return name if name in _WINDOWS else "automatic"


def show_legend(node: Any, visible: bool) -> None:
    """A colour bar with its title beside the views that show a probability or uncertainty."""
    import slicer

    module = getattr(slicer.modules, "colors", None)
    logic = module.logic() if module is not None else None
    legend = logic.GetColorLegendDisplayNode(node) if logic is not None else None
    # Without a display node, as in a scan that nobody has shown, Slicer only warns.
    if legend is None and visible and logic is not None and node.GetDisplayNode() is not None:
        legend = logic.AddDefaultColorLegendDisplayNode(node)
        if legend is not None:
            kind = node.GetAttribute("StrokeLesionSeg")
            titles = {"probability": _("Probability"), "uncertainty": _("Uncertainty")}
            legend.SetAndObserveColorNodeID(node.GetDisplayNode().GetColorNodeID())
            legend.SetTitleText(titles.get(kind, ""))
            legend.SetLabelFormat("%.2f")
            legend.SetNumberOfLabels(3)
            legend.SetSize(0.15, 0.5)
            legend.SetPosition(0.95, 0.5)
    if legend is not None:
        legend.SetVisibility(visible)
        legend.Modified()


def shown_in_3d(segmentation_node: Any | None) -> bool:
    """Whether its surface is shown in the 3D views."""
    display = segmentation_node.GetDisplayNode() if segmentation_node is not None else None
    if display is None:
        return False
    there = segmentation_node.GetSegmentation().ContainsRepresentation(_surface())
    return bool(there and display.GetVisibility() and display.GetVisibility3D())


def show_in_3d(segmentation_node: Any, visible: bool) -> None:
    """Show its surface, in a layout that has a 3D view; or show it no longer."""
    import slicer

    if not visible:
        segmentation_node.RemoveClosedSurfaceRepresentation()
        return
    segmentation_node.CreateClosedSurfaceRepresentation()
    segmentation_node.GetDisplayNode().SetVisibility3D(True)
    layout = slicer.app.layoutManager()
    if layout is None or not hasattr(layout, "threeDWidget"):  # no main window
        return
    widget = layout.threeDWidget(0)
    if widget is None or not widget.visible:
        layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        widget = layout.threeDWidget(0)
    widget.threeDView().resetFocalPoint()


def _surface() -> str:
    import slicer

    return str(slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName())


def term_of(segment: Any) -> str:
    """The name and code of a segment's term: "Infarct (SCT 55641003)"; empty if it has none."""
    import vtk

    name = segment.GetTerminologyEntryTagName()
    text = vtk.reference("")
    if not segment.HasTag(name) or not segment.GetTag(name, text):
        return ""
    parts = str(text.get()).split("~")
    scheme, code, meaning = (*(parts[2].split("^") if len(parts) > 2 else ()), "", "", "")[:3]
    return f"{meaning} ({scheme} {code})" if meaning else ""


def made_by(segment: Any) -> str:
    """Model and version that made a segment; empty if none did."""
    return f"{get_tag(segment, 'Model')} {get_tag(segment, 'ModelVersion')}".strip()
