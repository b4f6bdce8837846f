"""Chronic stroke lesions in T1-weighted MRI, in one line:

    import stroke_lesion_seg
    stroke_lesion_seg.segment("t1.nii.gz").volume_ml

The engine behind it is the package ``StrokeLesionSegLib``, which lies beside this one, also in the
3D Slicer extension. Importing costs nothing: torch and SimpleITK are imported by the first call.
For research; not a medical device.
"""

from StrokeLesionSegLib import __version__
from StrokeLesionSegLib.api import Options, Segmentation, segment
from StrokeLesionSegLib.errors import InputError

__all__ = ["InputError", "Options", "Segmentation", "__version__", "segment"]
