"""Models that others published: nnU-Net v2's folders and zips, SynthStroke's folders.

They are read once, when they are installed: networks and settings become a manifest, weights become
safetensors. ``checkpoint_child`` is the one place of the engine that reads a pickle; see there.
"""
