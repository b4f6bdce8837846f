"""What every predictor on the canonical grid does to a scan, as the model's manifest says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .placing import PlacedScan

if TYPE_CHECKING:
    from ..models.settings import Preprocessing


def intensity_window(scan: PlacedScan, given: Preprocessing) -> tuple[float, float]:
    """The intensities that become 0 and 1. Raises ``InputError`` for an image without any."""
    from ..images import window_range

    try:
        return window_range(
            scan.volume.array, *given.window_percentiles, low_of=given.window_low_of
        )
    except ValueError as error:
        raise InputError(
            "image", str(error), "Check that it is a T1-weighted scan of a head"
        ) from error


def searched_brain(scan: PlacedScan, given: Preprocessing) -> NDArray[np.bool_] | None:
    """Where a lesion may lie, on the grid of ``scan``: near the MNI brain, if the model says so and
    the scan is aligned; else None."""
    from ..images import brain_mask_for

    margin = given.brain_mask_margin_mm
    if margin is None or not scan.in_mni or scan.canonical is None:
        return None
    return np.asarray(brain_mask_for(scan.canonical, margin)) != 0
