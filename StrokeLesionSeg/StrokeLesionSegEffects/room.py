"""Room for an effect on a small screen: Slicer's list of segments gives way while it is active."""

import qt
import slicer

NO_LIMIT = 16777215  # QWIDGETSIZE_MAX
# Header and two segments; Slicer's own table goes no lower.
LOWEST = 80
# Below the widget: Data Probe takes a line more for a long name.
MARGIN = 18


class Room:
    """Lowers the list of segments by as much as a widget of the options lacks, and puts it back.

    Only what is below the list moves, so that no button leaves from under the mouse.
    """

    def __init__(self):
        self._frame = None

    def make(self, widget):
        """See that ``widget`` is in sight, as far as the list can give way; once an activation."""
        if self._frame is not None or widget is None:
            return
        editor = _above(widget, "qMRMLSegmentEditorWidget")
        area = _above(editor, "QScrollArea")
        if area is None:
            return
        frames = slicer.util.findChildren(editor, name="SegmentsTableResizableFrame")
        if not frames or not widget.visible:
            return
        viewport = area.viewport()
        bottom = widget.mapTo(viewport, qt.QPoint(0, widget.height)).y()
        missing = bottom + MARGIN - viewport.height
        if missing > 0:
            self._frame = frames[0]
            self._frame.setMaximumHeight(max(LOWEST, self._frame.height - missing))

    def giveBack(self):
        if self._frame is not None:
            self._frame.setMaximumHeight(NO_LIMIT)
        self._frame = None


def _above(widget, className):
    """The widget of that class that holds ``widget``, or None."""
    above = None if widget is None else widget.parent()
    while above is not None and above.className() != className:
        above = above.parent()
    return above
