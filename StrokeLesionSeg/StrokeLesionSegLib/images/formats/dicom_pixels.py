"""The pixels of DICOM images: classic files by GDCM, multi-frame files by pydicom or GDCM."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .itk_formats import itk_reason

#: What helps where pixels or headers cannot be used.
EXPORT = "Export the series again, or convert it to NIfTI (for instance with dcm2niix)"


def classic_pixels(path: Path, files: Sequence[Path]) -> NDArray[np.float32]:
    """(K, J, I) float32 of one file a slice; GDCM applies each file's rescale slope and intercept.

    Raises ``InputError`` for pixels that cannot be decoded.
    """
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    # Named, since ITK would ask each file for the mark that some have lost.
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([os.fspath(f) for f in files])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    with _quiet_itk():
        try:
            return sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise _undecoded(path, itk_reason(error)) from error


def enhanced_pixels(
    path: Path,
    files: Sequence[Path],
    size: tuple[int, int],
    frames: Sequence[tuple[int, float, float]],
) -> NDArray[np.float32]:
    """(K, J, I) float32 from the frames of one file.

    ``size``: rows and columns. ``frames``: index in the file, slope and intercept of each slice.
    Raises ``InputError`` for several files, and for pixels that cannot be decoded.
    """
    if len(files) > 1:
        raise InputError(
            path,
            f"the series is spread over {len(files)} multi-frame files",
            "Give the one file that is the T1-weighted scan",
        )
    stored = _stored_frames(path, files[0], frames).reshape(-1, *size)
    out = np.empty((len(frames), *size), dtype=np.float32)
    for k, (frame, slope, intercept) in enumerate(frames):
        out[k] = stored[frame] * slope + intercept
    return out


def _stored_frames(
    path: Path, file: Path, frames: Sequence[tuple[int, float, float]]
) -> NDArray[Any]:
    """The stored values of all frames, in the order of the file."""
    import pydicom

    try:
        return pydicom.dcmread(file).pixel_array
    except Exception as error:  # pydicom and its decoders raise many types
        # It decodes JPEG with further packages only; GDCM, inside SimpleITK, without.
        found = _frames_by_gdcm(file, frames)
        if found is None:
            cause = str(error).split(" because ")[0]
            raise _undecoded(path, f"{type(error).__name__}: {cause}") from error
        return found


def _frames_by_gdcm(file: Path, frames: Sequence[tuple[int, float, float]]) -> NDArray[Any] | None:
    """Stored values by GDCM, which scales all frames alike; None if it cannot say them."""
    import SimpleITK as sitk

    scales = {(slope, intercept) for _, slope, intercept in frames}
    if len(scales) != 1:
        return None
    ((slope, intercept),) = scales
    with _quiet_itk():
        try:
            image = sitk.ReadImage(os.fspath(file), sitk.sitkFloat64)
        except RuntimeError:
            return None
    values = sitk.GetArrayFromImage(image)
    if values.ndim != 3 or values.shape[0] != len(frames):
        return None
    return (values - intercept) / slope if slope else None


@contextmanager
def _quiet_itk() -> Iterator[None]:
    import SimpleITK as sitk

    loud = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(loud)


def _undecoded(path: Path, cause: str) -> InputError:
    return InputError(path, f"the pixels cannot be decoded ({cause})", EXPORT)
