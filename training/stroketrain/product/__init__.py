"""Training the 2D network that ships: slices in three views, clicks, painted and drawn strokes."""
