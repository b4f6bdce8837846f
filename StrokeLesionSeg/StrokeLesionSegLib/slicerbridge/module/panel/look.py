"""How the result looks: overlay, surface and colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...i18n import tr as _
from ...scene.look import made_by, show_in_3d, shown_in_3d, term_of
from ...scene.results import maps_of, show_overlay
from ..logic import newest_segment
from .context import ForResult, Panel
from .texts import PanelView

_NO_OVERLAY = ("none", 0.0, False)


class LookSection:
    """The overlay of a map over the image, the segment in 3D and its colour.

    ``other_image``: whether the image has other voxels by now than those that its maps are of.
    """

    def __init__(self, panel: Panel, other_image: Callable[[], bool]) -> None:
        self._panel, self._other_image, ui = panel, other_image, panel.ui
        self._overlay_shown: tuple[str, float, bool] = _NO_OVERLAY
        self._for_result = [
            ForResult(widget)
            for widget in (ui.overlayComboBox, ui.overlayOpacitySlider, ui.surfaceButton)
        ]
        panel.on_click(ui.surfaceButton, self._on_surface)
        panel.on_click(ui.colorButton, self._on_color)

    def forget(self) -> None:
        """Other parameters come: none of their overlay is shown yet."""
        self._overlay_shown = _NO_OVERLAY

    def show_overlay(self) -> None:
        """Show the map that is asked for, as strongly as is asked for."""
        shown, self._overlay_shown = self._panel.segmentation(), self._wanted()
        overlay, opacity, other = self._overlay_shown
        probability, uncertainty = maps_of(shown, newest_segment(shown))
        node = {"probability": probability, "uncertainty": uncertainty}.get(overlay)
        show_overlay(None if other else node, opacity)

    def follow(self) -> None:
        """Parameters or image changed, maybe those of the overlay."""
        if self._panel.parameters is not None and self._wanted() != self._overlay_shown:
            self.show_overlay()

    def _wanted(self) -> tuple[str, float, bool]:
        parameters = self._panel.parameters
        return parameters.overlay, parameters.overlayOpacity, self._other_image()

    def show(self, view: PanelView) -> None:
        """The widgets show what is; cheap."""
        self.follow()
        ui, result = self._panel.ui, self._panel.result()
        for widget in self._for_result:
            widget.show(view)
        ui.colorButton.enabled = view.result_enabled
        ui.surfaceButton.checked = shown_in_3d(None if result is None else result[0])
        ui.colorButton.toolTip = _("Segment an image first.")
        if result is not None:
            segment = _segment(result)
            texts = [term_of(segment), made_by(segment)]
            ui.colorButton.toolTip = _("Colour of the segment: {term}.").format(
                term=", ".join(filter(None, texts))
            )

    def _on_surface(self) -> None:
        node = self._panel.segmentation()
        if node is not None:
            show_in_3d(node, not shown_in_3d(node))
            self._panel.refresh()

    def _on_color(self) -> None:
        result = self._panel.result()
        if result is None:
            return
        segment, qt = _segment(result), self._panel.qt
        chosen = qt.QColorDialog.getColor(qt.QColor.fromRgbF(*segment.GetColor()))
        if chosen.isValid():
            segment.SetColor(chosen.redF(), chosen.greenF(), chosen.blueF())


def _segment(result: tuple[Any, str]) -> Any:
    return result[0].GetSegmentation().GetSegment(result[1])
