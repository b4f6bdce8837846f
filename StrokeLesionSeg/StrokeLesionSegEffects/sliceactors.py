"""The effects' drawings in the slice views: the overlay of what is found, and the brush."""

import slicer
from StrokeLesionSegLib.slicerbridge.editor.views import CircleActor, Overlay, OverlayActor


class SliceActors:
    """Adds actors to the visible slice views and takes them out again, whatever happened."""

    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect
        self.overlay = None
        self._overlays = {}  # slice widget: OverlayActor
        self._circles = {}  # slice widget: CircleActor
        self._hidden = {}  # slice widget: (displayable manager, tag)
        self._hiddenOf = None  # (id of the display node, id of the segment)

    def visibleWidgets(self):
        """The slice views that are visible and show this segmentation."""
        layoutManager = slicer.app.layoutManager()
        if not layoutManager:
            return []
        found = []
        for name in layoutManager.sliceViewNames():
            widget = layoutManager.sliceWidget(name)
            if not widget or not widget.isVisible():
                continue
            node = widget.sliceLogic().GetSliceNode()
            if self.scriptedEffect.segmentationDisplayableInView(node):
                found.append(widget)
        return found

    # -- overlay ------------------------------------------------------------------------------

    def newOverlay(self, editGrid):
        """An empty overlay on the edited grid, shown in all views; the former one goes."""
        self.clearOverlay()
        self.overlay = Overlay(editGrid)
        self.layoutChanged()
        return self.overlay

    def clearOverlay(self):
        self.showSegment()
        for widget, drawn in self._overlays.items():
            self._remove(widget, drawn.actor)
        self._overlays = {}
        self.overlay = None

    def follow(self, widget):
        """A view moved: cut the overlay anew."""
        drawn = self._overlays.get(widget)
        if drawn is not None:
            drawn.follow(widget.sliceLogic().GetSliceNode())
            self.scriptedEffect.scheduleRender(widget)

    def followAll(self):
        """All views may have moved."""
        for widget in self._overlays:
            self.follow(widget)

    def layoutChanged(self):
        """Views came or went."""
        wanted = self.visibleWidgets() if self.overlay is not None else []
        for widget in [w for w in self._overlays if w not in wanted]:
            self._remove(widget, self._overlays.pop(widget).actor)
        for widget in wanted:
            if widget not in self._overlays:
                self._overlays[widget] = OverlayActor(self.overlay)
                self._overlays[widget].follow(widget.sliceLogic().GetSliceNode())
                self.scriptedEffect.addActor2D(widget, self._overlays[widget].actor)

    def render(self):
        for widget in self._overlays:
            self.scriptedEffect.scheduleRender(widget)

    # -- the segment under the preview ----------------------------------------------------------

    def hideSegment(self, displayNode, segmentId):
        """Don't draw a segment in the slice views while a preview stands for it; its visibility
        stays. To be called again when views may have come. Not in all versions of Slicer."""
        if self._hiddenOf != (displayNode.GetID(), segmentId):
            self.showSegment()
            self._hiddenOf = (displayNode.GetID(), segmentId)
        for widget in self._overlays:
            if widget in self._hidden:
                continue
            manager = widget.sliceView().displayableManagerByClassName(
                "vtkMRMLSegmentationsDisplayableManager2D"
            )
            if manager is None or not hasattr(manager, "AddCustomSegmentRenderer"):
                continue
            if manager.GetCustomSegmentRendererTag(displayNode.GetID(), segmentId):
                continue  # another Segment Editor previews it
            tag = manager.AddCustomSegmentRenderer(displayNode.GetID(), segmentId)
            self._hidden[widget] = (manager, tag)

    def showSegment(self):
        """Draw the segment again that was hidden, if one was."""
        for manager, tag in self._hidden.values():
            manager.RemoveCustomSegmentRenderer(tag)
        self._hidden = {}
        self._hiddenOf = None

    # -- brush ----------------------------------------------------------------------------------

    def circle(self, widget, circle, color):
        """Draw the brush's outline (x, y, radius in pixels) in a view, or none."""
        drawn = self._circles.get(widget)
        if drawn is None:
            if circle is None:
                return
            drawn = self._circles[widget] = CircleActor()
            self.scriptedEffect.addActor2D(widget, drawn.actor)
        drawn.show(circle, color)
        self.scriptedEffect.scheduleRender(widget)

    def clearCircles(self):
        for widget, drawn in self._circles.items():
            self._remove(widget, drawn.actor)
        self._circles = {}

    def clear(self):
        """Take everything out of the views."""
        self.clearOverlay()
        self.clearCircles()

    def _remove(self, widget, actor):
        # On leaving Slicer the views may be gone before the effect is.
        if slicer.app.layoutManager():
            self.scriptedEffect.removeActor2D(widget, actor)


def sliceNode(viewWidget):
    """The slice node of a slice view; None for a 3D view."""
    if viewWidget is None or viewWidget.className() != "qMRMLSliceWidget":
        return None
    return viewWidget.sliceLogic().GetSliceNode()
