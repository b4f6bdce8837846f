"""The lesions as a DICOM RT Structure Set: a region of interest for each, on the acquired planes.

Written with pydicom alone. Contours are those of ``dicom_contours``.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...errors import InputError
from .dicom_contours import (
    description_of,
    image_of,
    made_of_headers,
    no_contours,
    number_text,
    plane_contours,
    source_headers,
    synced,
)
from .scan import Scan

if TYPE_CHECKING:
    import pydicom

_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
# Behind the segmentation in a list of series.
_SERIES_NUMBER = 5501
_AMBER = [255, 176, 0]
_NOTHING = "No lesion found"


def write_dicom_rtstruct(
    path: str | os.PathLike[str],
    labels: NDArray[np.integer[Any]],
    scan: Scan,
    names: dict[int, str],
    algorithm: tuple[str, str],
) -> list[str]:
    """Write the lesions as DICOM RTSTRUCT.

    Parameters
    ----------
    labels: (K, J, I) on the grid of ``scan``, n in the lesion with label n.
    scan: as it was read from DICOM; patient, study and frame of reference are taken over.
    names: by label, what each region of interest is called; others are left out. Without any, one
        region without contours says that no lesion was found.
    algorithm: name and version.

    Returns a clause for each value of the headers that could not be taken over.

    Raises ``InputError`` if the series cannot carry contours, or its headers do not suffice;
    ``OSError`` if ``path`` cannot be written.
    """
    trouble = no_contours(scan)
    if trouble:
        raise InputError(scan.path, trouble.rstrip("."), "Leave out --dicom-rtstruct")
    if labels.shape != scan.volume.array.shape:
        raise ValueError(f"labels {labels.shape} are not on the grid {scan.volume.array.shape}")
    with made_of_headers(scan, "DICOM RTSTRUCT", "--dicom-rtstruct"):
        headers, notes = source_headers(scan)
        dataset = _structure_set(labels, scan, headers, names, algorithm)
    synced(path, dataset)
    return notes


def _structure_set(
    labels: NDArray[np.integer[Any]],
    scan: Scan,
    headers: list[pydicom.Dataset],
    names: dict[int, str],
    algorithm: tuple[str, str],
) -> pydicom.Dataset:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    first = headers[0]
    now = datetime.now()
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(_STORAGE)
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    # An explicit value representation has room for some 2000 points of a contour only.
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID
    made.SpecificCharacterSet = first.SpecificCharacterSet
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
        *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        "ReferringPhysicianName",
    ):
        setattr(made, keyword, first.get(keyword, ""))
    made.Modality = "RTSTRUCT"
    made.SeriesInstanceUID = generate_uid()
    made.SeriesNumber = _SERIES_NUMBER
    made.SeriesDescription = description_of(scan, "lesion contours")
    made.InstanceNumber = 1
    made.OperatorsName = ""
    made.Manufacturer = "StrokeLesionSeg developers"
    made.ManufacturerModelName = "StrokeLesionSeg"
    made.SoftwareVersions = __version__
    made.FrameOfReferenceUID = first.FrameOfReferenceUID
    made.PositionReferenceIndicator = first.get("PositionReferenceIndicator", "")
    made.StructureSetLabel = "LESION"
    made.StructureSetName = "Chronic stroke lesions"
    made.StructureSetDescription = f"{algorithm[0]} {algorithm[1]}; for research"[:1024]
    made.StructureSetDate, made.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    made.ReferencedFrameOfReferenceSequence = [_references(scan, headers)]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    made.RTROIObservationsSequence = []
    # The standard wants a region at least: without a lesion it says so, and has no contours.
    regions: list[tuple[int | None, str]] = [*sorted(names.items())] or [(None, _NOTHING)]
    for number, (label, name) in enumerate(regions, start=1):
        region, observation = Dataset(), Dataset()
        region.ROINumber = observation.ReferencedROINumber = number
        region.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        region.ROIName = name[:64]
        region.ROIGenerationAlgorithm = "AUTOMATIC"
        observation.ObservationNumber = number
        observation.RTROIInterpretedType = ""
        observation.ROIInterpreter = ""
        made.StructureSetROISequence.append(region)
        made.RTROIObservationsSequence.append(observation)
        mask = np.zeros(labels.shape, bool) if label is None else labels == label
        made.ROIContourSequence.append(_region(mask, scan, headers, number))
    made.ApprovalStatus = "UNAPPROVED"
    return made


def _image(scan: Scan, headers: list[pydicom.Dataset], k: int) -> pydicom.Dataset:
    """What names the image of slice ``k``: a file, or a frame of the one file."""
    from pydicom.dataset import Dataset

    header, frame = image_of(scan, headers, k)
    image = Dataset()
    image.ReferencedSOPClassUID = header.SOPClassUID
    image.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None:
        image.ReferencedFrameNumber = frame
    return image


def _region(
    mask: NDArray[np.bool_], scan: Scan, headers: list[pydicom.Dataset], number: int
) -> pydicom.Dataset:
    from pydicom.dataset import Dataset

    region = Dataset()
    region.ReferencedROINumber = number
    region.ROIDisplayColor = _AMBER
    contours = []
    for found in plane_contours(mask, scan, headers):
        contour = Dataset()
        contour.ContourImageSequence = [_image(scan, headers, found.slice)]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(found.points)
        contour.ContourData = number_text(found.points)
        contours.append(contour)
    if contours:
        region.ContourSequence = contours
    return region


def _references(scan: Scan, headers: list[pydicom.Dataset]) -> pydicom.Dataset:
    """All images of the source, under their frame of reference, study and series."""
    from pydicom.dataset import Dataset

    series: dict[str, Dataset] = {}
    for k, header in enumerate(headers):
        # Some exports give every image a series of its own.
        uid = str(header.SeriesInstanceUID)
        if uid not in series:
            series[uid] = Dataset()
            series[uid].SeriesInstanceUID = uid
            series[uid].ContourImageSequence = []
        image = _image(scan, headers, k)
        if "ReferencedFrameNumber" in image:
            del image.ReferencedFrameNumber
        series[uid].ContourImageSequence.append(image)
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = list(series.values())
    frame = Dataset()
    frame.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame
