"""What the input channels of a network are called, and the T1 planes that some of them hold.

A network sees a slice ("t1"), and may see further planes of the same scan beside it: neighbouring
slices, and the slice's mirror image. A lesion lies on one side of the brain far more often than on
both, and a sulcus goes on through the slices where a lesion ends.
"""

from __future__ import annotations

import re

T1 = "t1"
#: The same slice of the scan mirrored at the midsagittal plane of the MNI grid (x to -x, in mm);
#: zeros for a scan that does not lie on that grid.
MIRROR = "t1_mirror"
#: The template's T1, for networks that see the whole head in MNI space.
TEMPLATE = "template"
GUIDANCE = ("click_positive", "click_negative", "previous_probability")
#: What a network of so many inputs takes, unless it is said otherwise.
BY_NUMBER = {1: (T1,), 4: (T1, *GUIDANCE)}
_OFFSET = re.compile(r"t1_(minus|plus)_([1-9][0-9]?)mm")


def offset_mm(channel: str) -> int | None:
    """How far beside the slice a channel's plane lies, in mm; None if it is no such channel.

    ``t1_plus_3mm`` lies 3 mm towards superior (axial), anterior (coronal) or right (sagittal),
    ``t1_minus_3mm`` 3 mm to the other side; zeros beyond the end of the volume.
    """
    found = _OFFSET.fullmatch(channel)
    if not found:
        return None
    return int(found[2]) * (1 if found[1] == "plus" else -1)


def known(channel: str) -> bool:
    """Whether this version can fill the channel."""
    return channel in (T1, MIRROR, TEMPLATE, *GUIDANCE) or offset_mm(channel) is not None
