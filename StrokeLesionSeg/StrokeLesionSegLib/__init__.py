"""StrokeLesionSeg engine: from a T1-weighted MRI to a chronic stroke lesion mask.

Importing this package is cheap: torch and SimpleITK are imported where they are used.
"""

__version__ = "0.3.0"
