"""What a press of a mouse button began."""


class Gesture:
    """What happens between button down and up in one view."""

    def __init__(self, viewWidget, xy, lesion, target, mode):
        self.viewWidget, self.start, self.lesion, self.target = viewWidget, xy, lesion, target
        self.mode = mode
        self.path = []  # local RAS mm
        self.moved = False
        self.stroke = None  # of the brush
        self.release = None  # the event that ends it
