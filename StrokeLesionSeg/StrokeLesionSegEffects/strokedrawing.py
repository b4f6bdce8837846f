"""What Stroke Lesion draws: clicks, the stroke under way, and the preview of the threshold."""

import numpy as np
from StrokeLesionSegLib.boxes import is_empty
from StrokeLesionSegLib.slicerbridge.editor import correct

LESION_COLOR, OTHER_COLOR = (1.0, 0.6, 0.1), (0.25, 0.7, 1.0)
PREVIEW, LESION, OTHER = 1, 2, 3  # labels of the overlay


class StrokeDrawing:
    """The labels of one overlay on the grid that is edited."""

    def __init__(self, actors):
        self.actors = actors
        self.grid = None  # EditGrid of the overlay
        self.preview = None  # mask that the threshold would make of the segment
        self.previewOf = None  # which segment that is
        self._pulses = 0
        self._drawn = None  # the clicks that the overlay shows

    def prepare(self, grid):
        """Draw on this grid from now on, or on none; whether it is another one."""
        if grid is self.grid:
            return False
        self.clear()
        self.grid = grid
        if grid is not None:
            overlay = self.actors.newOverlay(grid)
            overlay.set_color(LESION, LESION_COLOR, 0.9)
            overlay.set_color(OTHER, OTHER_COLOR, 0.9)
        return True

    def clear(self):
        """Draw nothing any more."""
        self.actors.clearOverlay()
        self.grid = self.preview = self._drawn = None

    # -- clicks and preview -----------------------------------------------------------------------

    def drawClicks(self, target, clicks):
        """Clicks (voxel, lesion) of a segment and the preview, unless they are drawn already."""
        overlay, state = self.actors.overlay, (target, tuple(clicks), self.preview is not None)
        if overlay is None or state == self._drawn:
            return
        self._drawn = state
        overlay.labels[:] = 0 if self.preview is None else self.preview
        for voxel, lesion in clicks:
            overlay.labels[mark(voxel)] = LESION if lesion else OTHER
        self.actors.layoutChanged()
        self._changed()

    def drawAgain(self):
        """What is drawn is not the clicks alone any more: draw them anew next time."""
        self._drawn = None

    def showPreview(self, mask, target):
        """Let a mask pulse in place of a segment."""
        self.preview, self.previewOf, self._drawn = mask, target, None

    def endPreview(self):
        """Show the segment again."""
        self.preview, self._drawn = None, None
        self.actors.showSegment()

    def pulse(self, target):
        """Several times a second: the preview glows in the colour of the segment."""
        overlay = self.actors.overlay
        if overlay is None:
            return
        self.actors.layoutChanged()
        if self.preview is None or target is None:
            return
        display = target.node.GetDisplayNode()
        if display is not None:
            color = display.GetSegmentColor(target.segment_id)
            self.actors.hideSegment(display, target.segment_id)
            self._pulses = (self._pulses + 1) % 10
            opacity = 0.4 + 0.08 * min(self._pulses, 10 - self._pulses)
            overlay.set_color(PREVIEW, tuple(color[n] for n in range(3)), opacity)
            self.actors.render()

    # -- while a button is down -------------------------------------------------------------------

    def drawBrushed(self, box, mask, lesion):
        """What the brush has touched in a box."""
        if self.actors.overlay is not None and not is_empty(box):
            self.actors.overlay.labels[box] = mask[box] * np.uint8(label(lesion))
        self._changed()

    def drawPath(self, points, lesion):
        """A piece of the way of the mouse; points in local RAS mm."""
        inside = [p for p in points if self.grid.inside(p)]
        if self.actors.overlay is not None and inside:
            for voxel in correct.voxels_along(self.grid, inside):
                self.actors.overlay.labels[mark(voxel)] = label(lesion)
        self._changed()

    def drawChange(self, change, lesion):
        """The outline of what a click would change."""
        if self.actors.overlay is not None and change.voxels:
            self.actors.overlay.labels[change.box][outline(change.changed)] = label(lesion)
            self._changed()

    def _changed(self):
        if self.actors.overlay is not None:
            self.actors.overlay.changed()
            self.actors.render()


def label(lesion):
    """The label of a click on a lesion, or of one on what is none."""
    return LESION if lesion else OTHER


def mark(voxel):
    """The voxels that show a click: its own and the six around it, cut to indices from 0."""
    k, j, i = voxel
    return (slice(max(0, k), k + 1), slice(max(0, j - 1), j + 2), slice(max(0, i - 1), i + 2))


def outline(mask):
    """The voxels of a mask that have a neighbour outside of it."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)
