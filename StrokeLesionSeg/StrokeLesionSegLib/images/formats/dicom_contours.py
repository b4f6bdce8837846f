"""Contours of a mask on the planes that were acquired: for RT Structure Sets and reports.

A contour runs along the edges of the pixels, so that filling it by pixel centres gives back the
mask, voxel for voxel. A hole is cut out by a keyhole (PS3.3 C.8.8.6.3): the contour goes in along a
line and out along the same line, which every reader fills alike.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...brief import brief_repr
from ...errors import InputError
from ..edges import edge_loops
from ..volume import Volume
from .dicom_headers import make_unit_cosines, put_points
from .dicom_text import mend_header
from .itk_formats import LPS_TO_RAS
from .scan import Scan

if TYPE_CHECKING:
    import pydicom

# Characters of a series description.
_LONGEST = 64


@dataclass(frozen=True, eq=False)
class PlaneContour:
    """A closed contour on one image.

    Attributes
    ----------
    points: (N, 3), LPS mm; the last joins the first.
    pixels: (N, 2), the same as i and j of the image, pixel centres being whole numbers.
    slice: k of the image.
    """

    points: NDArray[np.float64]
    pixels: NDArray[np.float64]
    slice: int

    __repr__ = brief_repr


def source_headers(scan: Scan) -> tuple[list[pydicom.Dataset], list[str]]:
    """The headers of the files that ``scan`` was read from, in the order of k, mended.

    What research exports drop, and the standard calls type 2, is empty. With them comes a clause
    for each value that could not be taken over.

    Raises ``InputError`` if ``scan`` does not come from DICOM or a file has gone.
    """
    import pydicom

    series = scan.header.get("series")
    if scan.format != "dicom" or not series:
        raise InputError(
            scan.path, "is not DICOM, to which DICOM objects have to refer", "Leave out --dicom-*"
        )
    notes: dict[str, None] = {}
    headers: list[pydicom.Dataset] = []
    for file in series["files"]:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        except OSError as error:
            raise InputError(
                scan.path, f"cannot be read again ({error.strerror or error})", "Check the disk"
            ) from error
        # As they were read.
        put_points(header)
        make_unit_cosines(header)
        notes.update(dict.fromkeys(mend_header(header)))
        for keyword in (
            "PatientID",
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "ReferringPhysicianName",
        ):
            if keyword not in header:
                setattr(header, keyword, "")
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
            # An empty one is none: an object that took it over would be invalid.
            if not str(header.get(keyword) or "").strip() and keyword in header:
                delattr(header, keyword)
        headers.append(header)
    return headers, list(notes)


def description_of(scan: Scan, what: str) -> str:
    """The series description of an object that is made of ``scan``: the source's, and ``what``.

    Of a long one the end goes, not ``what``: it would bear the name of its source.
    """
    source = str(scan.header["series"].get("SeriesDescription") or "T1")
    return f"{source[: _LONGEST - len(what) - 1].rstrip()} {what}"


def of_first_image(scan: Scan) -> Scan:
    """``scan`` with the first of its images alone, which stands for all; of one file, the whole."""
    series = scan.header.get("series") or {}
    if not series or series.get("frames"):
        return scan
    few = {
        **series,
        "files": series["files"][:1],
        "SOPInstanceUIDs": series["SOPInstanceUIDs"][:1],
    }
    volume = Volume(scan.volume.array[:1], scan.volume.affine)
    return replace(scan, volume=volume, header={**scan.header, "series": few})


@contextmanager
def made_of_headers(scan: Scan, what: str, option: str) -> Iterator[None]:
    """Around the making of a DICOM object from the headers of ``scan``: the libraries are quiet,
    and what they stumble over is an ``InputError`` that names ``what`` and ``option``."""
    with warnings.catch_warnings():
        # highdicom and pydicom comment on every oddity of the source's header.
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError:
            raise
        # Whatever a header makes the libraries stumble over, it is the header's fault.
        except Exception as error:
            raise InputError(
                scan.path,
                f"its headers lack what {what} needs ({error})",
                f"Leave out {option}, or export the series again with complete headers",
            ) from error


def no_contours(scan: Scan) -> str:
    """Why contours cannot be put on the images of ``scan``; empty if they can."""
    series = scan.header.get("series")
    if scan.format != "dicom" or not series:
        return "The input is not DICOM, to which contours have to refer."
    if not str(series.get("FrameOfReferenceUID") or "").strip():
        return "The series has no frame of reference, without which contours have no place."
    if not str(series.get("StudyInstanceUID") or "").strip():
        return "The series names no study that contours could belong to."
    return ""


def plane_contours(
    mask: NDArray[np.bool_], scan: Scan, headers: list[pydicom.Dataset]
) -> list[PlaneContour]:
    """The contours of ``mask`` (K, J, I) on the images of ``scan``, in the order of k.

    Each lies on its image's own plane, wherever that was put: axial, sagittal or oblique.
    """
    own = not scan.header["series"].get("frames")
    found = []
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        origin, along_i, along_j = _plane(headers[k]) if own else _plane_of_affine(scan, int(k))
        for loop in pixel_contours(mask[k]):
            points = origin + loop[:, :1] * along_i + loop[:, 1:] * along_j
            found.append(PlaneContour(points, loop, int(k)))
    return found


def image_of(
    scan: Scan, headers: list[pydicom.Dataset], k: int
) -> tuple[pydicom.Dataset, int | None]:
    """The header of the file with slice ``k``, and its frame (from 1) if there are several."""
    frames = scan.header["series"].get("frames")
    return (headers[0], int(frames[k])) if frames else (headers[k], None)


def _plane(header: pydicom.Dataset) -> tuple[NDArray[np.float64], ...]:
    """LPS mm of an image's first pixel, and the steps to the next column and row."""
    cosines = np.array(header.ImageOrientationPatient, dtype=np.float64)
    between_rows, between_columns = (float(v) for v in header.PixelSpacing)
    position = np.array(header.ImagePositionPatient, dtype=np.float64)
    return position, cosines[:3] * between_columns, cosines[3:] * between_rows


def _plane_of_affine(scan: Scan, k: int) -> tuple[NDArray[np.float64], ...]:
    lps = LPS_TO_RAS @ scan.volume.affine
    return lps[:3, 3] + k * lps[:3, 2], lps[:3, 0], lps[:3, 1]


def pixel_contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The closed contours of a (J, I) mask: (N, 2) of i and j, pixel centres being whole numbers.

    There is one for each piece whose pixels share edges, its holes cut out by keyholes.

    Examples
    --------
    >>> from StrokeLesionSegLib.images.formats.dicom_contours import pixel_contours
    >>> (square,) = pixel_contours(np.array([[False, True]]))
    >>> square.tolist()
    [[0.5, -0.5], [1.5, -0.5], [1.5, 0.5], [0.5, 0.5]]
    """
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    boxes = ndimage.find_objects(pieces)
    contours = []
    for number in range(1, count + 1):
        rows, columns = boxes[number - 1]
        ways = edge_loops(pieces[rows, columns] == number)
        loops = [_corners(np.array(way, dtype=np.float64)) for way in ways]
        # The loop around the piece is the longest way round: it holds all the others.
        loops.sort(key=lambda loop: -float(np.ptp(loop[:, 0])))
        whole = loops[0]
        for hole in loops[1:]:
            whole = _with_hole(whole, hole)
        contours.append(whole + np.array([columns.start - 0.5, rows.start - 0.5]))
    return contours


def _corners(loop: NDArray[np.float64]) -> NDArray[np.float64]:
    """A loop without the vertices on straight lines."""
    into, out = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    return loop[(into != out).any(axis=1)]


def _with_hole(outer: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    """``outer`` with a keyhole to ``hole``, between the vertices that are closest.

    The way goes along pixels' edges: on a diagonal it would run through their centres.
    """
    distances = ((outer[:, None] - hole[None]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    around = np.roll(hole, -int(there), axis=0)
    bend = np.array([[around[0, 0], outer[here, 1]]])
    return np.concatenate([outer[: here + 1], bend, around, around[:1], bend, outer[here:]])


def number_text(values: NDArray[np.floating[Any]]) -> list[str]:
    """Millimetres as DICOM's decimal strings, to a ten-thousandth."""
    return [f"{value:.4f}" for value in values.reshape(-1)]


def synced(path: str | os.PathLike[str], dataset: pydicom.Dataset) -> None:
    """Write ``dataset`` and wait until it is on the disk; ``OSError`` if it cannot be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(os.fspath(path), enforce_file_format=True)
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())
