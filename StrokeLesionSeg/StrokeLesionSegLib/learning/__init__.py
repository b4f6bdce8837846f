"""Training: strokes simulated in real heads, and the step of the volumetric network's trainer.

Needs torch, numpy and scipy alone, so that it runs inside Slicer's own Python too.
"""
