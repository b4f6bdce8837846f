"""The Segment Editor effects below their widgets: target, session, clicks, strokes, review."""
