"""The files of one scan's results: their names and sidecars, and taking away those of before."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import InputError
from ..outputs import beside_mask, os_input_error, sync_folder
from ..pipeline import REGIONS_ENDING, TRANSFORM_ENDING, OutputPaths, Wanted
from ..report import StudyPlace
from ..spaces import MNI_SPACE
from .corrected import ENDING as CORRECTED
from .inputs import FoundScan
from .settings import ReportChoice, Settings

if TYPE_CHECKING:
    from ..report import ReportOptions

#: How the name of a scan's own page ends where ``_desc-lesions_report`` tells of a corrected mask.
AUTOMATIC_PAGE = "_desc-automatic_report.html"


def wanted_of(found: FoundScan, settings: Settings, *, dicom: bool) -> Wanted:
    """The files of a scan's results, and what BIDS says in their sidecars."""
    paths = output_paths(found, settings, dicom=dicom)
    uri = f"bids:input:{quote(os.fsencode(found.relative))}"
    sources = {"Sources": [uri], "SpatialReference": uri}
    report = None
    if settings.report is not None:
        report = page_options(
            settings.report, settings.study, found.stem, found.entities.folder.as_posix()
        )
    of_probability = {
        "Description": "Probability of chronic stroke lesion, 0 to 1; mean over views and "
        "flips, before threshold and clean-up",
        **sources,
    }
    folder = settings.out.joinpath(found.entities.folder)
    return Wanted(
        paths,
        report,
        settings.atlas,
        sidecar={
            "Description": "Chronic stroke lesions: 1 in lesions, 0 elsewhere",
            "Type": "Lesion",
            **sources,
        },
        more=(
            *(
                [(folder / f"{found.stem}_label-lesion_probseg.json", of_probability)]
                if settings.probability
                else []
            ),
            *_mni_sidecars(paths, uri),
        ),
        # The file or folder may be called as the patient is.
        label=found.stem if found.relative != found.place else "",
        deformable=settings.deformable,
    )


def page_options(choice: ReportChoice, study: str, stem: str, folder: str) -> ReportOptions:
    """What goes into the page of a scan in ``folder``, relative to the study's own."""
    from ..report import ReportOptions

    root = "../" * (folder.count("/") + 1)
    return ReportOptions(
        choice.convention,
        choice.show_paths,
        stem,
        viewer=choice.viewer,
        study=StudyPlace(study, stem, root),
    )


def output_paths(found: FoundScan, settings: Settings, *, dicom: bool) -> OutputPaths:
    """The names of a scan's results."""
    start = settings.out.joinpath(found.entities.folder, found.stem)

    def in_dicom(kind: str) -> Path | None:
        return Path(f"{start}_label-lesion_{kind}.dcm") if dicom else None

    paths = OutputPaths(
        mask=Path(f"{start}_label-lesion_mask.nii.gz"),
        probability=Path(f"{start}_label-lesion_probseg.nii.gz") if settings.probability else None,
        table=Path(f"{start}_desc-lesions_stats.tsv"),
        sidecar=Path(f"{start}_label-lesion_mask.json"),
        dicom_seg=in_dicom("seg") if settings.dicom_seg else None,
        dicom_sr=in_dicom("sr") if settings.dicom_sr else None,
        dicom_rtstruct=in_dicom("rtstruct") if settings.dicom_rtstruct else None,
        report=None if settings.report is None else Path(f"{start}_desc-lesions_report.html"),
        regions=Path(f"{start}_desc-lesions{REGIONS_ENDING}"),
    )
    if MNI_SPACE not in settings.spaces:
        return paths
    paths = paths.with_mni(mni_paths(found, settings.out))
    return paths if settings.probability else replace(paths, mni_probability=None)


def mni_paths(found: FoundScan, out: Path) -> dict[str, Path]:
    """The names of a scan's results in MNI space."""
    folder = out.joinpath(found.entities.folder)
    stem = found.entities.in_space(MNI_SPACE).stem
    return {
        "mni_mask": folder / f"{stem}_label-lesion_mask.nii.gz",
        "mni_probability": folder / f"{stem}_label-lesion_probseg.nii.gz",
        "mni_transform": folder / f"{found.stem}_{TRANSFORM_ENDING}",
    }


def _mni_sidecars(paths: OutputPaths, uri: str) -> list[tuple[Path, dict[str, Any]]]:
    """What BIDS says of the images in MNI space."""
    told = {
        "SpatialReference": f"StrokeLesionSeg template, {MNI_SPACE}, 1 mm",
        "Sources": [uri],
        "Resolution": "1 mm",
    }
    return [
        (beside_mask(path, ".json"), {"Description": text, **kind, **told})
        for path, text, kind in (
            (
                paths.mni_mask,
                "Chronic stroke lesions, resampled: 1 where at least half of a voxel is lesion",
                {"Type": "Lesion"},
            ),
            (paths.mni_probability, "Probability of chronic stroke lesion, resampled", {}),
        )
        if path is not None
    ]


def output_folder(found: FoundScan, out: Path) -> Path:
    """The folder for a scan's results, made if need be.

    Raises ``InputError`` if it cannot be made, or if a symbolic link leads out of ``out``.
    """
    folder = out.joinpath(found.entities.folder)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            for name in found.entities.folder.parents:
                sync_folder(out / name)
    except OSError as error:
        raise os_input_error(error, folder) from error
    return inside(folder, out)


def inside(folder: Path, out: Path) -> Path:
    """``folder``; ``InputError`` if a symbolic link leads out of ``out``."""
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(out)):
        raise InputError(
            folder, "a symbolic link leads out of the output folder", "Remove the link"
        )
    return folder


def _mni_files(found: FoundScan, out: Path) -> list[Path]:
    """All files of a scan that can lie in MNI space, with their sidecars."""
    mask, probability, transform = mni_paths(found, out).values()
    start = mask.name.removesuffix("_mask.nii.gz")
    images = [mask, probability, mask.with_name(f"{start}{CORRECTED}.nii.gz")]
    return [transform, *images, *(beside_mask(path, ".json") for path in images)]


def _extras(found: FoundScan, out: Path) -> list[Path]:
    """All files of a scan that are written only if they are asked for: DICOM and pages."""
    folder = out.joinpath(found.entities.folder)
    return [
        *(folder / f"{found.stem}_label-lesion_{kind}.dcm" for kind in ("seg", "sr", "rtstruct")),
        folder / f"{found.stem}_desc-lesions_report.html",
        folder / f"{found.stem}{AUTOMATIC_PAGE}",
    ]


def remove_stale(found: FoundScan, settings: Settings, written: OutputPaths) -> None:
    """Remove what an earlier run wrote and this one did not: in MNI space, probabilities, pages and
    DICOM, which would tell of other lesions than the mask."""
    files = _mni_files(found, settings.out) if written.mni_mask is None else []
    # The page of a corrected mask is made anew, and this one kept beside it again.
    kept = {*written.in_dicom, written.report}
    files += [path for path in _extras(found, settings.out) if path not in kept]
    if written.probability is None:
        native = output_paths(found, replace(settings, probability=True), dicom=False).probability
        others = (native, mni_paths(found, settings.out)["mni_probability"])
        files += [f for path in others if path for f in (path, beside_mask(path, ".json"))]
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def remove_outputs(found: FoundScan, settings: Settings) -> None:
    """Remove the results of an earlier state of the scan, which would pass for those of today."""
    folder = settings.out.joinpath(found.entities.folder)
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(settings.out)):
        return
    whole = replace(settings, probability=True)
    paths = output_paths(found, whole, dicom=True).without_mni()
    files = [*paths.volumes, *(path for path, _ in paths.documents)]
    files += [
        folder / f"{found.stem}_label-lesion_probseg.json",
        *_extras(found, settings.out),
        *_mni_files(found, settings.out),
    ]
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
