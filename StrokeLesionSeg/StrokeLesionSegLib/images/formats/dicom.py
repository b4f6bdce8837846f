"""A T1-weighted series out of a folder of DICOM files, classic or enhanced multi-frame.

The headers are read with pydicom and the geometry is computed here (PS3.3 C.7.6.2); GDCM, inside
SimpleITK, decodes the pixels of classic files, whatever their transfer syntax.

Which series of a study is taken is the business of ``dicom_choice``.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...brief import counted
from ...errors import NOWHERE, InputError
from ...file_formats import image_endings
from .checks import MAX_VOXELS, checked_scan
from .dicom_choice import choose, images_left_out
from .dicom_headers import (
    begins_as_dicom,
    has_pixels,
    make_unit_cosines,
    positive_number,
    put_points,
    refuse_bomb,
    storage_name,
)
from .dicom_pixels import EXPORT as _EXPORT
from .dicom_pixels import classic_pixels, enhanced_pixels
from .dicom_series import (
    COMPONENT_OF,
    GE_COMPONENT,
    PATIENT_KEYWORDS,
    SEQUENCE_KEYWORDS,
    Series,
    SeriesImage,
    cut_short,
    frame_component,
    ge_component,
    missing_slices,
    other_component,
    several_names,
    timing_of,
)
from .itk_formats import LPS_TO_RAS
from .scan import Scan

if TYPE_CHECKING:
    import pydicom

# Shorter files hold no DICOM header.
_SHORTEST = 132
_COMMAS = "decimal commas"
_COSINES = "direction cosines"
# How far their lengths may be from 1 without a word.
_COSINES_WARNING = 1e-3
# Along the normal, in parts of the slice spacing: from the first on a warning, from the second on
# the stack is no regular grid, and half a spacing more than usual means a slice is missing.
_UNEVEN_WARNING, _UNEVEN_ERROR, _GAP = 0.02, 0.1, 1.5
# Across it, in parts of a pixel.
_SIDEWAYS = 0.5

_MR = "1.2.840.10008.5.1.4.1.1.4"
_ENHANCED = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
_TAGS: list[Any] = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "SeriesDescription", "SeriesNumber", "Modality", "Rows", "Columns",
    "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "RescaleSlope", "RescaleIntercept", "BitsStored",
    "PixelRepresentation", "InstanceNumber", "BitsAllocated", "PixelData",
    "SliceThickness", "SpacingBetweenSlices", "ImagesInAcquisition", *SEQUENCE_KEYWORDS,
    *PATIENT_KEYWORDS, *GE_COMPONENT,
]  # fmt: skip


class NoMrImages(InputError):
    """There are DICOM images, but none of MR."""


def read_dicom(path: Path, *, series: str | None = None) -> Scan:
    """Reads one MR series from a folder (searched recursively) or an enhanced multi-frame file.

    Returns a ``Scan`` as ``read_scan`` does; k runs along the normal of the slices (row direction
    x column direction), rescale slope and intercept are applied. ``header["series"]`` holds what
    a DICOM SEG needs to refer to the source: study, series and frame-of-reference UIDs, the files
    and SOP instance UIDs in the order of k, and for enhanced files the frame numbers (from 1).

    Raises ``InputError`` if no series or several are usable, if ``series`` is not there, for
    missing slices, uneven spacing, mixed orientations or sizes, several images at one position,
    colour, and pixels that cannot be decoded.
    """
    found = collect(path, series=series)
    chosen, told = choose(path, found, series)
    left_out = [*told, *images_left_out(chosen, found)]
    slices, affine, notes = _stack(path, chosen, left_out)
    files = list(dict.fromkeys(s.file for s in slices))
    if chosen.enhanced:
        scaled = [(s.frame, s.slope, s.intercept) for s in slices]
        array = enhanced_pixels(path, files, (slices[0].rows, slices[0].columns), scaled)
    else:
        array = classic_pixels(path, files)
    facts = dict(chosen.facts)
    if chosen.enhanced:
        facts["files"] = (os.fspath(slices[0].file),)
        facts["frames"] = tuple(s.frame + 1 for s in slices)
        facts["SOPInstanceUIDs"] = (slices[0].uid,)
    else:
        facts["files"] = tuple(os.fspath(s.file) for s in slices)
        facts["SOPInstanceUIDs"] = tuple(s.uid for s in slices)
    return checked_scan(
        path,
        array,
        affine,
        format="dicom",
        warnings=(*chosen.notes, *several_names(chosen), *left_out, *notes),
        header={"dtype": facts.pop("stored"), "series": facts},
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        files += [Path(folder, n) for n in sorted(names) if not n.startswith(".")]
    return files


def collect(
    path: Path, files: Sequence[Path] | None = None, *, series: str | None = None
) -> dict[str, Series]:
    """The MR series under ``path`` (of ``files`` only, if given) by UID.

    Raises ``InputError`` if there is no MR image, or if a header is damaged; where ``series`` is
    there, only for files in the folders that it lies in.
    """
    with warnings.catch_warnings():
        # pydicom comments on every value that bends the standard; most scanners bend some.
        warnings.simplefilter("ignore")
        return _collect_series(path, _files(path) if files is None else files, series)


def _collect_series(path: Path, files: Sequence[Path], series: str | None) -> dict[str, Series]:
    import pydicom
    from pydicom.errors import InvalidDicomError

    found: dict[str, Series] = {}
    seen: set[str] = set()
    others: dict[str, int] = defaultdict(int)
    unread: list[tuple[Path, InputError]] = []
    short: list[Path] = []
    for file in files:
        try:
            with file.open("rb") as stream:
                start = stream.read(_SHORTEST)
            if len(start) < _SHORTEST:
                short.append(file)
                continue
            marked = start[128:] == b"DICM"
            if not marked and not begins_as_dicom(start):
                continue
            if marked:
                refuse_bomb(file)
            # Deferred: the pixels stay on the disk, only their length becomes known.
            header = pydicom.dcmread(file, defer_size=512, specific_tags=_TAGS, force=not marked)
        except InvalidDicomError:
            continue
        except FileNotFoundError:
            gone = NOWHERE if file.is_symlink() else ("it has disappeared", "Copy the series again")
            unread.append((file, InputError(file, *gone)))
            continue
        except PermissionError:
            why = "no permission to read it", "Ask for read access or copy it elsewhere"
            unread.append((file, InputError(file, *why)))
            continue
        except InputError as error:
            unread.append((file, error))
            continue
        except Exception as error:  # pydicom raises many types on damaged headers
            unread.append((file, _damaged(file, error)))
            continue
        try:
            _sort_in(file, header, found, seen, others)
        except Exception as error:  # values are only converted, and found damaged, when asked for
            unread.append((file, _damaged(file, error)))
    # Beside a series that somebody has named they may be its slices; in other folders they are not.
    folders = {
        s.file.parent for entry in found.values() if entry.uid == series for s in entry.slices
    }
    for file, trouble in unread:
        if not folders or file.parent in folders:
            raise trouble
    if not found:
        if path.is_file() and path.name.upper() == "DICOMDIR":
            raise InputError(
                path, "is a table of contents (DICOMDIR), not an image", "Give its folder"
            )
        if short and len(short) == len(files):
            which = "the file is" if path.is_file() else "its only file is"
            if len(short) > 1:
                which = f"all its {len(short)} files are"
            raise InputError(path, f"{which} empty or cut short", "Copy the series again")
        if others:
            kinds = ", ".join(f"{n} x {k}" for k, n in sorted(others.items()))
            raise NoMrImages(
                path, f"holds no images of the storage classes MR Image and Enhanced MR Image "
                f"({kinds})", "Give the T1-weighted series as the scanner stored it",
            )  # fmt: skip
        if images := [f.name for f in files if f.name.lower().endswith(image_endings())]:
            more = f" and {len(images) - 1} more" if len(images) > 1 else ""
            raise InputError(
                path,
                f"contains no DICOM images, but the image {images[0]}{more}",
                "Give the image itself, or use the command batch for a folder of scans",
            )
        raise InputError(
            path,
            "contains no DICOM images",
            "Give a folder with the DICOM files of one T1-weighted series, or an image file",
        )
    for entry in found.values():
        entry.notes += cut_short(entry, short)
    return found


def _damaged(file: Path, error: Exception) -> InputError:
    return InputError(file, f"the DICOM header is damaged ({type(error).__name__})", _EXPORT)


def _sort_in(
    file: Path,
    header: pydicom.Dataset,
    found: dict[str, Series],
    seen: set[str],
    others: dict[str, int],
) -> None:
    """Put one file's images into its series in ``found``, or count it among the ``others``."""
    commas = put_points(header)
    storage = str(header.get("SOPClassUID", ""))
    if storage not in (_MR, *_ENHANCED):
        if "Rows" in header:
            modality = str(header.get("Modality") or "unknown")
            others[f"{modality}, {storage_name(header)}"] += 1
        return
    cosines_off = make_unit_cosines(header)
    uid = str(header.get("SeriesInstanceUID", ""))
    kind = ""
    if storage not in _ENHANCED:
        kind = other_component(header.get("ImageType") or ()) or ge_component(header)
    instance = str(header.get("SOPInstanceUID", file))
    # The same image, exported twice; but UIDs that were cut short are those of several images.
    image = f"{instance} {kind} {header.get('ImagePositionPatient')} {header.get('InstanceNumber')}"
    if image in seen:
        return
    patient = tuple(str(header.get(name) or "").strip() for name in PATIENT_KEYWORDS)

    def entry_of(kind: str, group: Any = None) -> Series:
        key = f"{uid} {kind}".strip()
        if key not in found:
            found[key] = Series(uid, _facts(header, kind, group), kind=kind, patient=patient)
        return found[key]

    if storage in _ENHANCED:
        entries = _add_frames(file, instance, header, entry_of)
    else:
        entries = [entry_of(kind)]
        _add(entries[0], file, instance, header)
    for entry in entries:
        entry.people.add(patient[:2])
        if instance in seen and not entry.notes:
            entry.notes.append(
                "different images share one SOPInstanceUID, as after a de-identification that cut "
                "it"
            )
        if commas and not any(_COMMAS in note for note in entry.notes):
            entry.notes.append(f"{_COMMAS} ({', '.join(commas)}) were read as such")
        if cosines_off > _COSINES_WARNING and not any(_COSINES in note for note in entry.notes):
            entry.notes.append(f"{_COSINES} that are not of length 1 were made so")
        if {"RescaleSlope", "RescaleIntercept"} & set(commas):
            # GDCM cuts it there
            entry.refused = "its rescale slope is written with a decimal comma"
        entry.promised = max(entry.promised, int(header.get("ImagesInAcquisition") or 0))
    seen |= {instance, image}


def _facts(header: pydicom.Dataset, kind: str = "", group: Any = None) -> dict[str, Any]:
    """What a series is, by its first image; ``group``: the functional groups of that frame."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription",
             "Modality")  # fmt: skip
    facts: dict[str, Any] = {n: _text(header.get(n)) for n in names}
    bits = 8 if int(header.get("BitsStored") or 16) <= 8 else 16
    facts["stored"] = f"{'int' if header.get('PixelRepresentation') else 'uint'}{bits}"
    facts["sequence"] = {
        name: [str(v) for v in value] if _is_list(value) else str(value)
        for name in SEQUENCE_KEYWORDS
        if (value := header.get(name)) not in (None, "")
    }
    if kind:
        facts["sequence"]["ComplexImageComponent"] = COMPONENT_OF[kind]
    if group is not None:
        # Enhanced files have the times in the groups of their frames.
        for name, value in timing_of(group).items():
            facts["sequence"].setdefault(name, str(value))
    return facts


def _text(value: Any) -> str:
    # A backslash in a description makes several values of it.
    return " ".join(map(str, value)) if _is_list(value) else str(value or "")


def _is_list(value: Any) -> bool:
    return not isinstance(value, str) and hasattr(value, "__iter__")


def _add(entry: Series, file: Path, instance: str, header: pydicom.Dataset) -> None:
    if int(header.get("SamplesPerPixel") or 1) != 1:
        entry.refused = "its images are in colour"
    elif str(header.get("PhotometricInterpretation", "MONOCHROME2")) != "MONOCHROME2":
        entry.refused = f"its images are {header.PhotometricInterpretation}, not MONOCHROME2"
    elif "MOSAIC" in [str(value).upper() for value in header.get("ImageType") or ()]:
        entry.refused = "its images are mosaics, many slices in one"
    if entry.enhanced:
        return
    entry.slices.append(_slice(file, 0, instance, header, [header]))
    if not entry.refused and not has_pixels(file, header):
        entry.refused = f"the pixels of {file.name} are not complete"


def _add_frames(
    file: Path, instance: str, header: pydicom.Dataset, entry_of: Callable[[str, Any], Series]
) -> list[Series]:
    """Put the frames of an enhanced file into its series, apart by magnitude, phase and so on."""
    shared = _first(header, "SharedFunctionalGroupsSequence")
    per_frame = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    if len(per_frame) != int(header.get("NumberOfFrames") or 1):
        raise ValueError("frames without functional groups")
    entries: dict[str, Series] = {}
    for frame, own in enumerate(per_frame):
        groups = [g for g in (own, shared) if g is not None]
        kind = frame_component(groups)
        if kind not in entries:
            entries[kind] = entry = entry_of(kind, groups)
            entry.enhanced = True
            _add(entry, file, instance, header)
        entries[kind].slices.append(_slice(file, frame, instance, header, groups))
    return list(entries.values())


def _first(item: Any, keyword: str) -> Any:
    sequence = item.get(keyword)
    return sequence[0] if sequence else None


_MACROS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


def _slice(
    file: Path, frame: int, instance: str, header: pydicom.Dataset, groups: list[Any]
) -> SeriesImage:
    def value(keyword: str) -> Any:
        for group in groups:
            item = group if group is header else _first(group, _MACROS[keyword])
            if item is not None and item.get(keyword) is not None:
                return item.get(keyword)
        return None

    def numbers(keyword: str, count: int) -> NDArray[np.float64] | None:
        given = value(keyword)
        if given is None:
            return None
        array = np.array([float(x) for x in given])
        return array if array.shape == (count,) and np.isfinite(array).all() else None

    slope, intercept = value("RescaleSlope"), value("RescaleIntercept")
    spacing = numbers("PixelSpacing", 2)
    return SeriesImage(
        file,
        frame,
        instance,
        int(header.get("Rows") or 0),
        int(header.get("Columns") or 0),
        numbers("ImagePositionPatient", 3),
        numbers("ImageOrientationPatient", 6),
        None if spacing is None else (float(spacing[0]), float(spacing[1])),
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        positive_number(header, "InstanceNumber", int) if frame == 0 else None,
        positive_number(header, "SpacingBetweenSlices", float)
        or positive_number(header, "SliceThickness", float),
        positive_number(header, "EchoTime", float)
        if groups[0] is header
        else timing_of(groups).get("EchoTime"),
    )


def _why_several(slices: Sequence[SeriesImage]) -> str:
    """What may be different between images at one place."""
    echoes = sorted({s.echo_ms for s in slices if s.echo_ms is not None})
    if len(echoes) > 1:
        return f"with echo times of {', '.join(f'{echo:g}' for echo in echoes[:6])} ms"
    return "several time points or reconstructions"


def _stack(
    path: Path, chosen: Series, left_out: list[str]
) -> tuple[list[SeriesImage], NDArray[np.float64], list[str]]:
    """(slices in the order of k, affine ijk -> RAS mm, warnings).

    ``left_out``: what of the series is not among its slices, for the message on missing ones.
    """
    first = chosen.slices[0]
    assert first.orientation is not None
    assert first.spacing is not None
    row, column = first.orientation[:3], first.orientation[3:]
    normal = np.cross(row, column)
    length = float(np.linalg.norm(normal))
    name = chosen.describe()
    if not 0.9 < length < 1.1:
        raise InputError(path, f"series {name}: its orientation is not a rotation", _EXPORT)
    normal /= length
    positions = np.array([s.position for s in chosen.slices])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    slices = [chosen.slices[n] for n in order]
    positions, along = positions[order], along[order]
    if len(slices) < 2:
        raise InputError(
            path,
            "is one slice, but a 3D volume is needed",
            "Give the folder of the whole T1-weighted series",
        )
    steps = np.diff(along)
    if (steps < 1e-3).any():
        distinct = 1 + int((steps >= 1e-3).sum())
        raise InputError(
            path,
            f"series {name}: {len(slices)} images share {counted(distinct, 'position')} "
            f"({_why_several(slices)})",
            "Export one of them as a series of its own",
        )
    usual = float(np.median(steps))
    gaps = np.flatnonzero(steps > _GAP * usual)
    if gaps.size:
        missing = int(sum(max(1, round(steps[g] / usual) - 1) for g in gaps))
        where = ", ".join(f"between {slices[g].file.name} and {slices[g + 1].file.name}"
                          for g in gaps[:3])  # fmt: skip
        also = f" ({'; '.join(left_out)})" if left_out else ""
        what = "1 slice is" if missing == 1 else f"{missing} slices are"
        raise InputError(
            path,
            f"series {name}: {what} missing {where}{also}",
            "Export all its slices",
        )
    notes = missing_slices([s.number for s in slices], [s.pitch for s in slices], usual)
    even = along[0] + np.arange(len(slices)) * (along[-1] - along[0]) / (len(slices) - 1)
    uneven = float(np.abs(along - even).max() / usual)
    if uneven > _UNEVEN_ERROR:
        raise InputError(
            path,
            f"series {name}: the slices are unevenly spaced "
            f"({steps.min():.2f} to {steps.max():.2f} mm)",
            _EXPORT,
        )
    if uneven > _UNEVEN_WARNING:
        notes.append(
            f"the slice spacing varies ({steps.min():.3f} to {steps.max():.3f} mm); "
            f"{even[1] - even[0]:.3f} mm is used"
        )
    # A tilted gantry shifts every slice alike; parts of two scans in one series do not.
    line = positions[0] + np.outer(np.linspace(0, 1, len(slices)), positions[-1] - positions[0])
    beside = (positions - line) @ np.stack([row, column], axis=1)
    shifted = float(np.abs(beside).max())
    if shifted > _SIDEWAYS * min(first.spacing):
        raise InputError(
            path,
            f"series {name}: the slices are shifted sideways, by up to {shifted:.1f} mm",
            _EXPORT,
        )
    if first.rows * first.columns * len(slices) > MAX_VOXELS:
        raise InputError(
            path, "its header claims more voxels than any T1-weighted scan has", _EXPORT
        )
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = column * first.spacing[0]
    # Not the normal: with a tilted gantry the positions step sideways, and that shear is real.
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
    affine[:3, 3] = positions[0]
    return slices, LPS_TO_RAS @ affine, notes
