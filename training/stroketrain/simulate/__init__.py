"""Simulated chronic strokes over real people and real lesion shapes, in torch on CPU or GPU."""
