"""Geometry: the canonical grid and back, the MNI152 template, alignment, interpolation."""
