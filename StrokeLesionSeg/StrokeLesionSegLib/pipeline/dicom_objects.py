"""The DICOM objects of a run: Segmentation, report of the volumes, contours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import InputError
from .result import OutputPaths

if TYPE_CHECKING:
    from ..images import Scan
    from ..lesions import LesionMap
    from ..models import LoadedModel


def check_dicom(paths: OutputPaths, scan: Scan) -> None:
    """Raise ``InputError`` if DICOM is wanted of a scan that is none; for the first that is."""
    for path, kind in (
        (paths.dicom_seg, "seg"),
        (paths.dicom_sr, "sr"),
        (paths.dicom_rtstruct, "rtstruct"),
    ):
        if path is not None and scan.format != "dicom":
            raise InputError(
                scan.path,
                f"is not DICOM, to which DICOM {kind.upper()} has to refer",
                f"Leave out --dicom-{kind}",
            )


def impossible_dicom(paths: OutputPaths, scan: Scan) -> dict[Path, str]:
    """What of the DICOM objects cannot be made of a scan, and why: before the network runs."""
    from ..images.formats.dicom_contours import no_contours
    from ..images.formats.dicom_seg import check_dicom_seg
    from ..images.formats.dicom_sr import check_dicom_sr

    found: dict[Path, str] = {}
    for path, check in ((paths.dicom_seg, check_dicom_seg), (paths.dicom_sr, check_dicom_sr)):
        if path is not None:
            try:
                check(scan)
            except InputError as error:
                found[path] = error.cause
    if paths.dicom_rtstruct is not None and (trouble := no_contours(scan)):
        found[paths.dicom_rtstruct] = trouble
    return found


def dicom_writers(
    paths: OutputPaths, scan: Scan, lesion_map: LesionMap, model: LoadedModel
) -> list[tuple[Path, Callable[[Path], tuple[str, ...]]]]:
    """What writes each of the DICOM objects that are wanted; each returns warnings of headers."""
    manifest = model.manifest
    algorithm = (f"StrokeLesionSeg {__version__}, {manifest.name}", manifest.version)
    kept = [lesion for lesion in lesion_map.lesions if lesion.keep]

    def segmentation(path: Path) -> tuple[str, ...]:
        from ..images.formats.dicom_seg import write_dicom_seg

        notes = write_dicom_seg(path, lesion_map.mask, scan, algorithm)
        return tuple(f"DICOM SEG: {note}" for note in notes)

    def report(path: Path) -> tuple[str, ...]:
        from ..images.formats.dicom_sr import write_dicom_sr

        # A code can say "left", but not that the middle of the scan was taken for that of the head.
        sided = not lesion_map.summary.side_note
        measured = [(x.label, x.volume_ml, x.side if sided else "") for x in kept]
        notes = write_dicom_sr(path, lesion_map.labels, scan, measured, algorithm)
        return tuple(f"DICOM SR: {note}" for note in notes)

    def contours(path: Path) -> tuple[str, ...]:
        from ..images.formats.dicom_rtstruct import write_dicom_rtstruct

        names = {lesion.label: f"Stroke lesion {lesion.label}" for lesion in kept}
        notes = write_dicom_rtstruct(path, lesion_map.labels, scan, names, algorithm)
        return tuple(f"DICOM RTSTRUCT: {note}" for note in notes)

    pairs = (
        (paths.dicom_seg, segmentation),
        (paths.dicom_sr, report),
        (paths.dicom_rtstruct, contours),
    )
    return [(path, write) for path, write in pairs if path is not None]
