"""The lesions' volumes as a DICOM Structured Report (TID 1500, Measurement Report).

Needs highdicom. Each lesion is a volumetric region of interest (TID 1411) with its contours on the
images, its volume, and codes of SNOMED CT: what it is, where, and on which side. One
group before them (TID 1501) has the volume of all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from .dicom_contours import (
    PlaneContour,
    description_of,
    image_of,
    made_of_headers,
    of_first_image,
    plane_contours,
    source_headers,
    synced,
)
from .dicom_seg import BRAIN, lesion_codes, require_highdicom
from .scan import Scan

if TYPE_CHECKING:
    import pydicom

# Behind the segmentation and the contours in a list of series.
_SERIES_NUMBER = 5502
_PROCEDURE = ("24590-2", "LN", "Brain MRI")
_SIDES = {
    "left": ("7771000", "SCT", "Left"),
    "right": ("24028007", "SCT", "Right"),
    "both": ("51440002", "SCT", "Bilateral"),
}


def write_dicom_sr(
    path: str | os.PathLike[str],
    labels: NDArray[np.integer[Any]],
    scan: Scan,
    lesions: Sequence[tuple[int, float, str]],
    algorithm: tuple[str, str],
) -> list[str]:
    """Write the lesions as DICOM SR.

    Parameters
    ----------
    labels: (K, J, I) on the grid of ``scan``, n in the lesion with label n.
    scan: as it was read from DICOM; patient and study are taken over.
    lesions: label, mL and side ("left", "right", "both", "" if unknown) of each that counts.
    algorithm: name and version.

    Returns a clause for each value of the headers that could not be taken over.

    Raises ``InputError`` if highdicom is missing, ``scan`` is not DICOM, or its headers do not
    suffice; ``OSError`` if ``path`` cannot be written.
    """
    require_highdicom("--dicom-sr")
    with made_of_headers(scan, "a DICOM report", "--dicom-sr"):
        headers, notes = source_headers(scan)
        dataset = _report(labels, scan, headers, lesions, algorithm)
    synced(path, dataset)
    return notes


def check_dicom_sr(scan: Scan) -> None:
    """Raise ``InputError`` if no DICOM SR can refer to ``scan``: before the network runs.

    Of a series of single images the first stands for all.
    """
    require_highdicom("--dicom-sr")
    first = of_first_image(scan)
    labels = np.zeros(first.volume.array.shape, np.uint8)
    labels[:1, :1, :1] = 1
    with made_of_headers(scan, "a DICOM report", "--dicom-sr"):
        headers, _ = source_headers(first)
        _report(labels, first, headers, [(1, 0.0, "left")], ("StrokeLesionSeg", "0"))


def _report(
    labels: NDArray[np.integer[Any]],
    scan: Scan,
    headers: list[pydicom.Dataset],
    lesions: Sequence[tuple[int, float, str]],
    algorithm: tuple[str, str],
) -> pydicom.Dataset:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name="StrokeLesionSeg", model_name=algorithm[0][:64]
        ),
    )
    _, finding = lesion_codes()
    identification = hd.sr.AlgorithmIdentification(name=algorithm[0], version=algorithm[1])
    groups: list[Any] = [_total(headers, lesions, finding, identification)]
    for label, volume, side in lesions:
        regions = [
            _region(found, image_of(scan, headers, found.slice))
            for found in plane_contours(labels == label, scan, headers)
        ]
        groups.append(
            hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=hd.sr.TrackingIdentifier(
                    uid=hd.UID(), identifier=f"Lesion {label}"
                ),
                referenced_regions=regions,
                finding_type=finding,
                algorithm_id=identification,
                finding_sites=[_site(side)],
                measurements=[_volume(volume)],
            )
        )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=hd.sr.CodedConcept(*_PROCEDURE),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = hd.sr.ComprehensiveSR(
        evidence=headers,
        content=report,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="StrokeLesionSeg developers",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    made.ManufacturerModelName = "StrokeLesionSeg"
    made.SoftwareVersions = __version__
    made.SeriesDescription = description_of(scan, "lesion volumes")
    return made


def _total(
    headers: list[pydicom.Dataset],
    lesions: Sequence[tuple[int, float, str]],
    finding: Any,
    identification: Any,
) -> Any:
    """The volume of all lesions together; 0 if there is none."""
    import highdicom as hd

    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier="All lesions"),
        source_images=[
            hd.sr.SourceImageForMeasurementGroup.from_source_image(header) for header in headers
        ],
        finding_type=finding,
        algorithm_id=identification,
        finding_sites=[hd.sr.FindingSite(hd.sr.CodedConcept(*BRAIN))],
        measurements=[_volume(sum(volume for _, volume, _ in lesions))],
    )


def _region(found: PlaneContour, image: tuple[pydicom.Dataset, int | None]) -> Any:
    """A contour on its image, where the corner of the first pixel is 0, 0."""
    import highdicom as hd

    header, frame = image
    return hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.concatenate([found.pixels, found.pixels[:1]]) + 0.5,
        source_image=hd.sr.SourceImageForRegion(
            referenced_sop_class_uid=header.SOPClassUID,
            referenced_sop_instance_uid=header.SOPInstanceUID,
            referenced_frame_numbers=None if frame is None else [frame],
        ),
    )


def _site(side: str) -> Any:
    import highdicom as hd

    laterality = hd.sr.CodedConcept(*_SIDES[side]) if side else None
    return hd.sr.FindingSite(hd.sr.CodedConcept(*BRAIN), laterality=laterality)


def _volume(volume_ml: float) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.sr.Measurement(
        name=codes.SCT.Volume,
        value=round(float(volume_ml), 4),
        unit=hd.sr.CodedConcept("mL", "UCUM", "milliliter"),
    )
