"""In which of the MNI templates an atlas was drawn, and how far that lies from ours.

"MNI152" names a family of templates that differ by some millimetres; ours is MNI152NLin2009aSym.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ..images import MNI_GRID, Grid, Volume
from ..spaces import MNI_SPACE

NLIN6 = "MNI152NLin6Asym"
#: 4x4, RAS mm of MNI152NLin6Asym (FSL, SPM) to RAS mm of MNI152NLin2009aSym, as our own affine
#: alignment puts FSL's T1 on our template: 1.5 mm within the brain on average, at most 2.7 mm.
#: ``Testing/atlases`` measures it again.
NLIN6_TO_OURS: NDArray[np.float64] = np.array(
    [
        [1.0201, 0.0025, -0.0033, -0.5502],
        [-0.0207, 1.0127, 0.0150, -0.0866],
        [0.0021, -0.0151, 1.0052, -0.8615],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
#: How far the others of 2009 lie from ours on average, mm: measured as above.
SHIFT_OF_2009_MM = 0.9
# Shape (I, J, K) and the corner of smallest RAS mm of grids that one template alone is given on.
_GRIDS = (
    ((182, 218, 182), (-91.0, -126.0, -72.0), NLIN6),
    ((91, 109, 91), (-90.0, -126.0, -72.0), NLIN6),
    ((193, 229, 193), (-96.0, -132.0, -78.0), "MNI152NLin2009cAsym"),
    ((97, 115, 97), (-96.0, -132.0, -78.0), "MNI152NLin2009cAsym"),
)
_NAMED = re.compile(r"MNI152(NLin\w*?(?:Asym|Sym)|NLin6)", re.IGNORECASE)


def template_of(name: str, grid: Grid) -> str:
    """The template of an atlas, by a BIDS name in its file's name or by its grid; "" if unknown.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import MNI_GRID
    >>> template_of("tpl-MNI152NLin6Asym_atlas-X_dseg.nii.gz", MNI_GRID)
    'MNI152NLin6Asym'
    >>> template_of("mine.nii.gz", MNI_GRID)
    'MNI152NLin2009aSym'
    """
    if found := _NAMED.search(name):
        told = found[0]
        return NLIN6 if "nlin6" in told.lower() else told
    if grid.same_as(MNI_GRID):
        return MNI_SPACE
    low = _lowest_corner(grid)
    for shape, corner, template in _GRIDS:
        # One voxel of freedom: left and right ends of a grid are counted in two ways.
        close = np.abs(low - corner).max() <= max(grid.spacing) * 1.01
        if grid.shape[::-1] == shape and close:
            return template
    return ""


def to_our_template(atlas: Volume, name: str) -> tuple[NDArray[np.float64], str]:
    """The affine of an atlas in our template's space, and a sentence about the difference.

    ``name``: of its file. The shift is corrected where it was measured, else told.
    """
    template = template_of(name, atlas.grid)
    if template == MNI_SPACE:
        return atlas.affine, ""
    if template == NLIN6:
        return NLIN6_TO_OURS @ atlas.affine, (
            f"The atlas lies in {NLIN6}; the shift to {MNI_SPACE} (1.5 mm on average) is corrected."
        )
    if template.lower().startswith("mni152nlin2009"):
        return atlas.affine, (
            f"The atlas lies in {template}, about {SHIFT_OF_2009_MM:g} mm from {MNI_SPACE}; "
            "that is not corrected."
        )
    return atlas.affine, (
        f"Which MNI template the atlas lies in cannot be told; templates differ by up to 3 mm from "
        f"{MNI_SPACE}, and that is not corrected."
    )


def _lowest_corner(grid: Grid) -> NDArray[np.float64]:
    k, j, i = grid.shape
    corners = np.array([[a, b, c, 1.0] for a in (0, i - 1) for b in (0, j - 1) for c in (0, k - 1)])
    return np.asarray((corners @ grid.affine.T)[:, :3].min(axis=0))
