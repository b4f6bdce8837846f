"""The lesion mask as a DICOM Segmentation object that refers to the series it was made from.

Needs highdicom (extra ``dicom``). One binary segment, coded as in Slicer's terminology file of
this extension: SNOMED CT 55641003 (Infarct), anatomic region 12738006 (Brain).
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...errors import InputError
from ...resources import resource_path
from .dicom_contours import (
    description_of,
    made_of_headers,
    of_first_image,
    source_headers,
    synced,
)
from .scan import Scan

if TYPE_CHECKING:
    import pydicom

_INFARCT = "55641003"
BRAIN = ("12738006", "SCT", "Brain")
# Above what scanners count to, so that the object sorts behind its source in a list of series.
_SERIES_NUMBER = 5500


def require_highdicom(option: str = "--dicom-seg") -> None:
    """Raise ``InputError`` if highdicom is not installed; ``option`` is what needs it."""
    if importlib.util.find_spec("highdicom") is None:
        raise InputError(
            option,
            "the Python package highdicom is not installed",
            "Install it with: python -m pip install highdicom",
        )


def write_dicom_seg(
    path: str | os.PathLike[str],
    mask: NDArray[np.integer[Any]],
    scan: Scan,
    algorithm: tuple[str, str],
) -> list[str]:
    """Write ``mask`` (K, J, I on the grid of ``scan``; not zero is lesion) as DICOM SEG.

    ``scan`` was read from DICOM: patient, study and frame of reference are taken over from its
    files, and every frame names the source image it lies on. ``algorithm`` is name and version.
    A mask without lesion is stored with all its frames empty, since the standard knows no object
    without frames. Returns a clause for each value of the headers that could not be taken over.

    Raises ``InputError`` if ``scan`` does not come from DICOM, if highdicom is missing, or if the
    source's headers lack what a Segmentation needs; ``OSError`` if ``path`` cannot be written.
    """
    require_highdicom()
    if mask.shape != scan.volume.array.shape:
        raise ValueError(f"mask {mask.shape} is not on the scan's grid {scan.volume.array.shape}")
    dataset, notes = _made(mask, scan, algorithm)
    synced(path, dataset)
    return notes


def check_dicom_seg(scan: Scan) -> None:
    """Raise ``InputError`` if no DICOM SEG can refer to ``scan``: before the network runs.

    Of a series of single images the first stands for all, but for where they belong.
    """
    require_highdicom()
    first = of_first_image(scan)
    _made(np.zeros(first.volume.array.shape, np.uint8), first, ("StrokeLesionSeg", "0"))
    if len({_belonging(file) for file in scan.header["series"]["files"]}) > 1:
        raise InputError(
            scan.path,
            "its images name more than one study, series or frame of reference, and a DICOM SEG "
            "can refer to one only",
            "Leave out --dicom-seg, or export the series again with complete headers",
        )


def _belonging(file: str) -> tuple[str, ...]:
    """Study, series and frame of reference of an image, as its header has them."""
    import pydicom

    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    header = pydicom.dcmread(file, specific_tags=[*names], stop_before_pixels=True, force=True)
    return tuple(str(header.get(name) or "").strip() for name in names)


def _made(
    mask: NDArray[np.integer[Any]], scan: Scan, algorithm: tuple[str, str]
) -> tuple[pydicom.Dataset, list[str]]:
    series = scan.header.get("series")
    if scan.format != "dicom" or not series:
        raise InputError(
            scan.path, "is not DICOM, to which DICOM SEG has to refer", "Leave out --dicom-seg"
        )
    with made_of_headers(scan, "DICOM SEG", "--dicom-seg"):
        sources, notes = source_headers(scan)
        _with_thickness(sources, scan)
        binary = np.ascontiguousarray(mask != 0, dtype=np.uint8)
        if numbers := series.get("frames"):
            # In the order of the file, which may hold others at the same places, such as phase.
            order = np.argsort(numbers)
            kept = [int(numbers[n]) for n in order]
            groups = sources[0].PerFrameFunctionalGroupsSequence
            sources[0].PerFrameFunctionalGroupsSequence = [groups[n - 1] for n in kept]
            sources[0].NumberOfFrames = len(kept)
            dataset = _segmentation(binary[order], sources, algorithm)
            _number_frames(dataset, kept)
        else:
            dataset = _segmentation(binary, sources, algorithm)
        dataset.SeriesDescription = description_of(scan, "lesions")
    return dataset, notes


def _with_thickness(sources: list[pydicom.Dataset], scan: Scan) -> None:
    """Give images without a slice thickness, which may be empty in them, the distance to the next:
    a Segmentation has to name one."""
    i, j, _ = scan.volume.spacing
    distance = 1000.0 * scan.volume.grid.voxel_volume_ml / (i * j)
    frames = scan.header["series"].get("frames")
    for source in sources:
        for measures in _measures(source) if frames else (source,):
            if not measures.get("SliceThickness"):
                measures.SliceThickness = f"{distance:.6g}"


def _measures(source: pydicom.Dataset) -> list[pydicom.Dataset]:
    """Where a multi-frame file says how large its pixels are and how thick its slices."""
    shared = source.get("SharedFunctionalGroupsSequence") or ()
    own = source.get("PerFrameFunctionalGroupsSequence") or ()
    return [item for group in (*shared, *own) for item in group.get("PixelMeasuresSequence") or ()]


def _number_frames(dataset: pydicom.Dataset, kept: list[int]) -> None:
    """Call the frames that ``dataset`` refers to by their numbers in the file, of which only
    those in ``kept`` were given."""
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for image in derivation.SourceImageSequence:
                image.ReferencedFrameNumber = kept[int(image.ReferencedFrameNumber) - 1]


def _segmentation(
    frames: NDArray[np.uint8],
    sources: list[pydicom.Dataset],
    algorithm: tuple[str, str],
) -> pydicom.Dataset:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    category, kind = lesion_codes()
    name, version = algorithm
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Stroke lesion",
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=name, version=version, family=codes.DCM.ArtificialIntelligence
        ),
        anatomic_regions=[hd.sr.CodedConcept(*BRAIN)],
    )
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="StrokeLesionSeg developers",
        manufacturer_model_name="StrokeLesionSeg",
        software_versions=__version__,
        device_serial_number="0",
        content_label="LESION",
        content_description="Chronic stroke lesions; for research",
        omit_empty_frames=bool(frames.any()),
    )
    return segmentation


def lesion_codes() -> tuple[Any, ...]:
    """Category and type of the segment, from the terminology that Slicer is given too."""
    from highdicom.sr import CodedConcept

    path = resource_path("Terminologies", "StrokeLesionSeg.term.json")
    terms = json.loads(path.read_text(encoding="utf-8"))
    for category in terms["SegmentationCodes"]["Category"]:
        for kind in category["Type"]:
            if kind["CodeValue"] == _INFARCT:
                return tuple(
                    CodedConcept(c["CodeValue"], c["CodingSchemeDesignator"], c["CodeMeaning"])
                    for c in (category, kind)
                )
    raise LookupError(f"{path} lacks the code {_INFARCT}")
