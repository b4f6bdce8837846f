"""Chronic strokes, their mimics and the scanner's effects, simulated in real T1 heads.

Every array is (K, J, I) on the head box (``inference.head_box``): 1 mm, RAS axes, MNI152 space.
Every random draw comes from the ``torch.Generator`` that is passed in, so that a seed fixes a scan.
"""
