"""Reading an atlas that a user brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..brief import counted, first_of
from ..errors import InputError
from ..file_formats import split_name
from ..images import read_scan
from ..images.space.template import template_brain
from .atlas import Atlas, present_values
from .labels import labels_beside, read_labels, without_side
from .template_shift import to_our_template
from .unions import is_lateral_ventricle

MAX_REGIONS = 20_000
# Atlases reach a little beyond the brain, and templates differ by some millimetres.
_MARGIN_MM = 6.0
_IN_BRAIN = 0.9
_SIDES_SWAPPED = 0.5


def read_atlas(image: Path, labels: Path | None = None) -> Atlas:
    """Read an atlas: a label image in MNI152 space, and the names of its labels.

    ``labels`` is a JSON file (an object of values to names, or one with the list ``labels``
    whose positions are the values), a CSV or TSV (value, name, apart by commas,
    semicolons or tabs; a heading is skipped), or a text
    file of lines "value|short name|name|..." or "value name". None takes the one beside the image
    with its name. Lateral ventricles are left out. Any grid will do; the shift of
    MNI152NLin6Asym is corrected, that of other templates told in ``notes``.

    Raises ``InputError`` if a file cannot be read, there is no list of labels, the image holds
    other than whole numbers of 0 and above or more than ``MAX_REGIONS`` regions, none of its
    regions has a name, they do not lie in MNI space, or left and right are swapped.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import mni_brain_mask, write_volume
    >>> from StrokeLesionSegLib.atlases import read_atlas
    >>> write_volume("brain.nii.gz", mni_brain_mask())
    >>> _ = Path("brain.csv").write_text("1,the brain")
    >>> read_atlas(Path("brain.nii.gz")).name(1)
    'the brain'
    """
    image = Path(image)
    volume = read_scan(image, allow_constant=True).volume
    values = _whole_numbers(image, volume.array)
    inside = set(present_values(values))
    if len(inside) > MAX_REGIONS:
        raise InputError(
            image,
            f"has {len(inside)} labels, more than the {MAX_REGIONS} that are read",
            "Give an atlas",
        )
    if not inside:
        raise InputError(image, "is not an atlas: it is empty", "Give a label image")
    labels = labels or labels_beside(image)
    if labels is None:
        raise InputError(
            image,
            "has no list of labels",
            "Name one with --atlas-labels: a value and a name on each line",
        )
    names = read_labels(labels)
    if not inside & set(names):
        raise InputError(
            labels,
            f"names none of {counted(len(inside), 'region')} of {image.name}",
            "Give the label file that belongs to the atlas",
        )
    _check_in_mni(image, values, volume.affine)
    ventricles = [value for value in inside if is_lateral_ventricle(names.get(value, ""))]
    if ventricles:
        values[np.isin(values, ventricles)] = 0
    affine, note = to_our_template(volume, image.name)
    atlas = Atlas(split_name(image)[0], values, affine, names)
    notes = (*([note] if note else []), *_unnamed(labels, inside - set(names)))
    return replace(atlas, notes=(*notes, *_side_notes(image, atlas)))


def _whole_numbers(image: Path, array: NDArray[np.floating]) -> NDArray[np.int32]:
    whole = np.rint(array)
    if not (np.abs(array - whole).max() <= 1e-3 and whole.min() >= 0 and whole.max() < 2**31):
        raise InputError(
            image,
            "is not an atlas: not all its voxels are whole numbers of 0 or more",
            "Give a label image, not a probability map",
        )
    return whole.astype(np.int32)


def _check_in_mni(image: Path, values: NDArray[np.int32], affine: NDArray[np.float64]) -> None:
    """Whether the regions lie where the MNI brain is."""
    from scipy import ndimage

    brain = template_brain()
    spacing = brain.grid.spacing[0]
    wide = ndimage.binary_dilation(brain.array > 0, iterations=round(_MARGIN_MM / spacing))
    k, j, i = np.nonzero(values)
    step = max(1, len(k) // 100_000)
    points = np.stack([i[::step], j[::step], k[::step], np.ones(len(k[::step]))])
    at = np.rint((np.linalg.inv(brain.affine) @ affine @ points)[:3]).astype(np.int64)
    there = ((at >= 0) & (at < np.array(wide.shape[::-1])[:, None])).all(axis=0)
    share = float(wide[at[2, there], at[1, there], at[0, there]].sum()) / points.shape[1]
    if share < _IN_BRAIN:
        raise InputError(
            image,
            f"is not in MNI space: {100 * share:.0f} % of its regions lie in the MNI152 brain",
            "Give an atlas that was drawn in MNI152 space or transformed to it",
        )


def _unnamed(labels: Path, values: set[int]) -> tuple[str, ...]:
    """A sentence about regions that a list of labels does not name."""
    if not values:
        return ()
    shown = first_of(values)
    if len(values) == 1:
        return (f"{labels.name} names all regions but one, which goes by its value ({shown}).",)
    return (f"{labels.name} does not name {len(values)} regions, which go by values ({shown}).",)


def _side_notes(image: Path, atlas: Atlas) -> tuple[str, ...]:
    """What is odd of the sides in the names; ``InputError`` if left and right are swapped."""
    sided, wrong = 0, []
    for value, (_, side) in atlas.regions.items():
        named = without_side(atlas.name(value))[1]
        if named:
            sided += 1
            if named != side:
                wrong.append(atlas.name(value))
    if len(wrong) > max(1, _SIDES_SWAPPED * sided):
        raise InputError(
            image,
            f"has left and right swapped: {len(wrong)} of {sided} regions are not on the side "
            "that their names say",
            "Repair the atlas's header",
        )
    if not wrong:
        return ()
    shown = first_of(wrong)
    if len(wrong) == 1:
        told = f"1 region lies on the other side than its name says ({shown}); where it lies counts"
    else:
        told = (
            f"{len(wrong)} regions lie on the other side than their names say ({shown}); "
            "where they lie counts"
        )
    return (f"{told}.",)
