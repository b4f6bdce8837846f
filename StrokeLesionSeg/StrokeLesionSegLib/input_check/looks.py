"""From grey values to findings: a label map, noise, another contrast, a wrong size."""

from __future__ import annotations

from ..images.volume import Volume
from .findings import Finding
from .grey_values import GreyValues, measure

# Bounds, with what was measured on 190 T1-weighted scans of 188 people (2 mm to .9 mm, some of
# them extracted, thick, averaged) and on other images. Testing/input_check/test_real_scans.py
# measures it again.
#: Bright side over dark side in the middle: T1 .19 to 1.16, inverted and T2 1.4 to 3.
T1_TAIL, T2_TAIL = 1.3, 1.5
# Equal neighbours: T1 .01 to .18 (.8 with each voxel four times along each axis), label maps .86.
_LABELS_FLAT = 0.83
_MASK_VALUES = 3
# Within a tenth of the brightest: T1 up to .17 (a template), tissue maps from .35.
_MAP_TOP = 0.3
# Correlation of neighbours: T1 .78 to .98, noise 0.
_NOISE_LIKENESS = 0.3
# Corners: in T1 dark (0 to .04) and even (0 to .07); in phase images bright and as wide as all.
_AIR_BRIGHT, _AIR_WIDE = 0.25, 0.4
# Size of what is not air. Heads with neck reach 270 mm and 5 L.
_LARGEST_MM, _LONG_MM, _LARGEST_ML = 450.0, 330.0, 20_000.0
_SMALLEST_MM, _SMALLEST_ML = 85.0, 400.0

_UNITS = "Correct the voxel spacing in the header (mm)"


def contrast_of(measures: GreyValues | None) -> str:
    """A guess from grey values alone: "T1", "T2", "CT" or "unclear".

    Examples
    --------
    >>> from StrokeLesionSegLib.input_check import contrast_of
    >>> contrast_of(None)
    'unclear'
    """
    if measures is None:
        return "unclear"
    if looks_like_ct(measures):
        return "CT"
    if _no_scan(measures) is not None:
        return "unclear"
    if measures.tail < T1_TAIL:
        return "T1"
    return "T2" if measures.tail > T2_TAIL else "unclear"


def looks_like_ct(measures: GreyValues) -> bool:
    """Air at about -1000, not all of one value: Hounsfield units."""
    return measures.low < -800 and measures.air > 0.05 and measures.median < 200


def check_looks(volume: Volume, measures: GreyValues | None = None) -> list[Finding]:
    """What the grey values of a scan say against a T1-weighted head.

    ``measures`` are those of ``volume`` (K, J, I), if they are known.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.input_check import check_looks
    >>> noise = Volume(np.random.default_rng(0).random((32, 32, 32)), np.eye(4))
    >>> check_looks(noise)[0].code
    'noise'
    """
    m = measure(volume) if measures is None else measures
    if m is None:
        return [Finding("refuse", "empty", "is nearly empty: hardly a voxel differs from the rest")]
    found = _size(m)
    if not looks_like_ct(m) and (kind := _no_scan(m)):
        return [kind, *found]
    contrast = contrast_of(m)
    if contrast == "CT":
        text = f"looks like CT (air at {m.low:.0f}), and the model knows T1-weighted MRI only"
        found.append(Finding("refuse", "ct", text))
    elif contrast == "T2":
        text = "does not look T1-weighted: fluid seems to be bright"
        found.append(Finding("warn", "contrast", text))
    elif contrast == "unclear":
        text = "is of unclear contrast; is it T1-weighted?"
        found.append(Finding("warn", "contrast-unclear", text))
    return found


def _no_scan(m: GreyValues) -> Finding | None:
    """What is no picture of a head at all."""
    if m.values <= _MASK_VALUES and m.likeness > _NOISE_LIKENESS:
        count = m.values + 1
        return Finding("refuse", "mask", f"is a mask (its middle has {count} values)")
    if m.flat > _LABELS_FLAT:
        text = f"is a label map ({m.flat:.0%} of neighbouring voxels are equal)"
        return Finding("refuse", "label-map", text)
    if m.top > _MAP_TOP:
        text = f"is a map of probabilities or tissue ({m.top:.0%} of it is near the greatest value)"
        return Finding("refuse", "map", text)
    if m.likeness < _NOISE_LIKENESS:
        text = f"is noise: neighbouring voxels are unlike (correlation {m.likeness:.2f})"
        return Finding("refuse", "noise", text)
    if m.corner > _AIR_BRIGHT and m.corner_spread > _AIR_WIDE:
        text = (
            "is no magnitude image: beyond the head there is no dark air, as in phase images and "
            "in the UNI images of MP2RAGE as they come from the scanner"
        )
        return Finding("refuse", "phase", text)
    return None


def _size(m: GreyValues) -> list[Finding]:
    size = " x ".join(f"{mm:.0f}" for mm in m.extent_mm)
    longest = max(m.extent_mm)
    if longest > _LARGEST_MM or m.volume_ml > _LARGEST_ML:
        return [Finding("refuse", "size", f"shows something of {size} mm, no head", _UNITS)]
    if longest > _LONG_MM:
        return [Finding("warn", "size", f"shows something of {size} mm, more than a head")]
    if longest < _SMALLEST_MM or m.volume_ml < _SMALLEST_ML:
        return [Finding("warn", "size", f"shows something of {size} mm, less than a head", _UNITS)]
    return []
