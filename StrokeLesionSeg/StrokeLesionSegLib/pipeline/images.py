"""The image files of a run: mask, probability, uncertainty, MNI space, DICOM Segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Cancelled, InputError
from ..outputs import OutputSet, os_input_error
from ..spaces import MNI_SPACE
from .result import OutputPaths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..images import DeformableAlignment, Deformation, Scan
    from ..inference import Prediction
    from ..inference.progress import Cancel
    from ..lesions import LesionMap


def write_volumes(
    outputs: OutputSet,
    paths: OutputPaths,
    scan: Scan,
    prediction: Prediction,
    lesion_map: LesionMap,
) -> None:
    """Stage the image files of a run: mask, probability, uncertainty, those asked for.

    Raises ``InputError`` that names the output that cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.inference import Prediction
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.outputs import OutputSet
    >>> from StrokeLesionSegLib.pipeline import OutputPaths, find_in, write_volumes
    >>> scan = checked_scan("t1", np.random.default_rng(0).random((4, 4, 4)), np.eye(4))
    >>> prediction = Prediction(scan.volume, scan.volume, None, (), {})
    >>> found = find_in(prediction, OperatingPoint(0.5))
    >>> paths = OutputPaths(Path("mask.nii.gz"))
    >>> with OutputSet(paths.volumes) as outputs:
    ...     write_volumes(outputs, paths, scan, prediction, found)
    ...     outputs.commit()
    >>> Path("mask.nii.gz").exists()
    True
    """
    import numpy as np

    from ..images import write_volume

    mask = prediction.probability.with_array(lesion_map.mask)
    for path, volume, dtype in (
        (paths.mask, lambda: mask, np.uint8),
        (paths.probability, lambda: prediction.probability, np.float32),
        (paths.uncertainty, lambda: prediction.uncertainty, np.float32),
    ):
        if path is None:
            continue
        try:
            write_volume(outputs.staged(path), volume(), like=scan, dtype=dtype)
        except InputError as error:
            # The message has to name the file that the user asked for, not the staged one.
            raise InputError(path, error.cause, error.remedy) from error
        except OSError as error:
            raise os_input_error(error, path) from error


def deformed_to_mni(
    scan: Scan,
    to_mni: NDArray[np.float64],
    lesion_map: LesionMap,
    cancel: Cancel | None = None,
) -> DeformableAlignment:
    """The scan deformed to the template after ``to_mni`` (4x4, RAS mm), its lesions left out.

    Raises ``Cancelled``.
    """
    from ..images import deform_to_mni

    def check() -> None:
        if cancel is not None and cancel():
            raise Cancelled

    lesions = scan.volume.with_array(lesion_map.mask)
    return deform_to_mni(scan.volume, to_mni, lesions, check=check)


def write_in_mni(
    outputs: OutputSet,
    paths: OutputPaths,
    prediction: Prediction,
    lesion_map: LesionMap,
    to_mni: NDArray[np.float64] | None,
    deformation: Deformation | None = None,
) -> tuple[OutputPaths, str]:
    """Stage mask, probability and transform in MNI space, those asked for.

    ``to_mni``: 4x4, RAS mm of the scan to MNI RAS mm; None if the scan could not be aligned, and
    then nothing is written. ``deformation``: what comes after it. Returns the paths that are
    written, and a warning or nothing.

    Raises ``InputError`` that names the output that cannot be written.
    """
    import numpy as np

    from ..images import (
        NiftiFields,
        mask_in_mni,
        probability_in_mni,
        write_transform,
        write_volume,
    )

    if not paths.in_mni:
        return paths, ""
    if to_mni is None:
        for path in paths.in_mni:
            outputs.absent(path)
        return paths.without_mni(), f"Nothing is written in {MNI_SPACE}: there is no alignment."
    probability = prediction.probability
    for path, make, dtype in (
        (
            paths.mni_mask,
            lambda: mask_in_mni(probability.with_array(lesion_map.labels), to_mni, deformation),
            np.uint8,
        ),
        (
            paths.mni_probability,
            lambda: probability_in_mni(probability, to_mni, deformation),
            np.float32,
        ),
    ):
        if path is None:
            continue
        try:
            write_volume(outputs.staged(path), make(), dtype=dtype, nifti=NiftiFields(code=4))
        except InputError as error:
            raise InputError(path, error.cause, error.remedy) from error
        except OSError as error:
            raise os_input_error(error, path) from error
    if paths.mni_transform is not None:
        try:
            write_transform(outputs.staged(paths.mni_transform), to_mni, deformation)
        except OSError as error:
            raise os_input_error(error, paths.mni_transform) from error
    return paths, ""
