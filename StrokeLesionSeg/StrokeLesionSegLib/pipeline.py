"""One scan, from its file to the files of its result. The command line and the batch run this."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import Cancelled, InputError
from .operating_point import OperatingPoint, OperatingPointChoice
from .outputs import OutputSet, beside_mask, default_mask_path, os_input_error

if TYPE_CHECKING:
    from .images import Scan
    from .inference import Prediction, SegmentOptions
    from .lesions import LesionMap
    from .models import LoadedModel
    from .report import ReportOptions

#: Called with the stage, what is done of it, and how much there is to do.
Progress = Callable[[str, int, int], None]
#: The stages of a run in their order.
STAGES = ("read", "align", "canonical", "window", "network", "back", "clean", "write")


@dataclass(frozen=True)
class OutputPaths:
    """Where the results go; None for what is not wanted.

    Attributes
    ----------
    mask: uint8 image, 1 in lesions, on the input's grid.
    probability, spread: float32 images on the input's grid: mean over views and flips, and its
        standard deviation.
    table: tab-separated, one row per lesion.
    sidecar: JSON with all parameters, versions, checksums and timings.
    dicom_seg: the mask as DICOM Segmentation; the input has to be DICOM.
    report: one HTML page for people.
    """

    mask: Path
    probability: Path | None = None
    spread: Path | None = None
    table: Path | None = None
    sidecar: Path | None = None
    dicom_seg: Path | None = None
    report: Path | None = None

    @classmethod
    def beside(cls, source: Path, mask: Path | None = None) -> OutputPaths:
        """Mask, table and sidecar with default names, beside ``source`` or with ``mask``."""
        mask = default_mask_path(source) if mask is None else Path(mask)
        return cls(mask, table=beside_mask(mask, ".tsv"), sidecar=beside_mask(mask, ".json"))

    @property
    def volumes(self) -> list[Path]:
        return [p for p in (self.mask, self.probability, self.spread) if p is not None]

    @property
    def documents(self) -> list[tuple[Path, str]]:
        pairs = (
            (self.table, ".tsv"),
            (self.sidecar, ".json"),
            (self.dicom_seg, ".dcm"),
            (self.report, ".html"),
        )
        return [(p, suffix) for p, suffix in pairs if p is not None]


@dataclass(frozen=True)
class SegmentResult:
    """What one run found and wrote.

    Attributes
    ----------
    source: the input. paths: what was written. lesion_map: mask, labels and measurements on the
    input's grid. prediction: probability and spread there, and how they were made. warnings: one
    sentence each. timings: seconds by stage, and ``total``.
    """

    source: Path
    paths: OutputPaths
    lesion_map: LesionMap
    prediction: Prediction
    warnings: tuple[str, ...]
    timings: dict[str, float]

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions together in mL."""
        return self.lesion_map.summary.volume_ml

    def as_dict(self) -> dict[str, Any]:
        """For ``--progress json``: paths as strings, counts, seconds."""
        paths = {k: None if v is None else str(v) for k, v in asdict(self.paths).items()}
        return {
            "source": str(self.source),
            **paths,
            "lesions": self.lesion_map.summary.count,
            "volume_ml": round(self.volume_ml, 4),
            "warnings": list(self.warnings),
            "timings": {k: round(v, 3) for k, v in self.timings.items()},
        }


def segment_file(
    source: Path,
    paths: OutputPaths,
    *,
    model: LoadedModel | str | None = None,
    options: SegmentOptions | None = None,
    point: OperatingPointChoice | None = None,
    series: str | None = None,
    report: ReportOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> SegmentResult:
    """Read ``source``, find its lesions and write ``paths``, all of them or none.

    ``model`` is a loaded model (for many scans) or the name of one; None takes the default.
    ``options`` and ``point`` say how the network runs and what counts as a lesion; what they leave
    open is as the model recommends.
    ``series`` picks one of a DICOM folder. ``report`` says what goes into ``paths.report``; None
    is the usual. ``progress`` is told the stages of ``STAGES``;
    ``cancel`` is asked between steps.

    Raises ``InputError`` if input, outputs or model cannot be used, ``Cancelled`` if told so.
    """
    source = Path(source)
    started = time.perf_counter()
    timings: dict[str, float] = {}
    tell = progress or (lambda stage, done, total: None)
    check_source(source)
    if paths.dicom_seg is not None:
        from .images.formats.dicom_seg import require_highdicom

        require_highdicom()
    with OutputSet(paths.volumes, paths.documents, source=source, overwrite=overwrite) as outputs:
        # Cheap checks come first: an unknown model is said before a large file is read.
        loaded = None
        if model is None or isinstance(model, str):
            from .models import find_model

            find_model(model)
        else:
            loaded = model

        from .inference.device import prepare_environment

        prepare_environment()
        from .images import read_scan

        tell("read", 0, 1)
        step = time.perf_counter()
        scan = read_scan(source, series=series)
        timings["read"] = time.perf_counter() - step
        if paths.dicom_seg is not None and scan.format != "dicom":
            raise InputError(
                source, "is not DICOM, which DICOM SEG has to refer to", "Leave out --dicom-seg"
            )
        tell("read", 1, 1)
        _stop_if(cancel)

        if loaded is None:
            from .models import load_model

            step = time.perf_counter()
            loaded = load_model(model)  # type: ignore[arg-type]
            timings["model"] = time.perf_counter() - step
        from .inference import SegmentOptions, segment_volume

        options = (options or SegmentOptions()).for_model(loaded.manifest)
        used = (point or OperatingPointChoice()).resolve(
            loaded.manifest.operating_point(options.views)
        )
        prediction = segment_volume(scan.volume, loaded, options, progress=progress, cancel=cancel)
        timings.update(prediction.timings)
        _stop_if(cancel)

        tell("clean", 0, 1)
        step = time.perf_counter()
        lesion_map = find_in(prediction, used)
        timings["clean"] = time.perf_counter() - step
        tell("clean", 1, 1)

        tell("write", 0, 1)
        step = time.perf_counter()
        warnings = tuple(dict.fromkeys((*scan.warnings, *prediction.warnings)))
        write_volumes(outputs, paths, scan, prediction, lesion_map, loaded)
        timings["write"] = time.perf_counter() - step
        timings["total"] = time.perf_counter() - started
        result = SegmentResult(source, paths, lesion_map, prediction, warnings, timings)
        _write_documents(outputs, result, scan, loaded, options, report)
        _stop_if(cancel)
        outputs.commit()
        tell("write", 1, 1)
    return result


def check_source(source: Path) -> None:
    """Raise ``InputError`` unless ``source`` is there and can be opened."""
    try:
        if source.is_dir():
            os.listdir(source)
        elif source.exists() and not source.is_file():
            # Opening a pipe would wait for ever.
            raise InputError(source, "is neither a file nor a folder", "Give a scan")
        else:
            with open(source, "rb"):
                pass
    except FileNotFoundError:
        raise InputError(source, "there is no such file or folder", "Check the path") from None
    except PermissionError:
        raise InputError(source, "may not be read", "Ask its owner for permission") from None
    except OSError as error:
        raise InputError(
            source, f"cannot be read ({error.strerror or error})", "Check the path and the disk"
        ) from error


def software_versions() -> dict[str, str]:
    """Versions of what a result depends on; packages that are absent are left out."""
    versions = {"StrokeLesionSeg": __version__, "Python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "SimpleITK", "pydicom", "nibabel", "safetensors"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def find_in(prediction: Prediction, point: OperatingPoint) -> LesionMap:
    """The lesions in a prediction, on its grid."""
    import numpy as np

    from .images import MNI_GRID
    from .lesions import find_lesions

    probability, alignment = prediction.probability, prediction.alignment
    to_mni = alignment.matrix if alignment is not None and alignment.ok else None
    if alignment is None and probability.grid.same_as(MNI_GRID):
        to_mni = np.eye(4)  # nothing was to be aligned: the scan lies there
    return find_lesions(probability.array, probability.affine, point, to_mni=to_mni)


def write_volumes(
    outputs: OutputSet,
    paths: OutputPaths,
    scan: Scan,
    prediction: Prediction,
    lesion_map: LesionMap,
    model: LoadedModel,
) -> None:
    """Stage the image files of a run: mask, probability, spread, DICOM SEG, those asked for.

    Raises ``InputError`` that names the output that cannot be written.
    """
    import numpy as np

    from .images import write_volume

    mask = prediction.probability.with_array(lesion_map.mask)
    for path, volume, dtype in (
        (paths.mask, mask, np.uint8),
        (paths.probability, prediction.probability, np.float32),
        (paths.spread, prediction.spread, np.float32),
    ):
        if path is None:
            continue
        try:
            write_volume(outputs.staged(path), volume, like=scan, dtype=dtype)
        except InputError as error:
            # The message has to name the file that the user asked for, not the staged one.
            raise InputError(path, error.cause, error.remedy) from error
        except OSError as error:
            raise os_input_error(error, path) from error
    if paths.dicom_seg is not None:
        from .images.formats.dicom_seg import write_dicom_seg

        manifest = model.manifest
        algorithm = (f"StrokeLesionSeg {__version__}, {manifest.name}", manifest.version)
        try:
            write_dicom_seg(outputs.staged(paths.dicom_seg), lesion_map.mask, scan, algorithm)
        except OSError as error:
            raise os_input_error(error, paths.dicom_seg) from error


def _write_documents(
    outputs: OutputSet,
    result: SegmentResult,
    scan: Scan,
    model: LoadedModel,
    options: SegmentOptions,
    report: ReportOptions | None,
) -> None:
    from .lesions import write_sidecar, write_table

    paths = result.paths
    writers: list[tuple[Path | None, Callable[[Path], None]]] = [
        (paths.report, lambda path: write_report(path, result, scan, model, options, report)),
        (paths.table, lambda path: write_table(path, result.lesion_map)),
        (
            paths.sidecar,
            lambda path: write_sidecar(path, describe(result, scan, model, options)),
        ),
    ]
    for path, write in writers:
        if path is None:
            continue
        try:
            write(outputs.staged(path))
        except InputError as error:
            raise InputError(path, error.cause, error.remedy) from error
        except OSError as error:
            raise os_input_error(error, path) from error


def write_report(
    path: Path,
    result: SegmentResult,
    scan: Scan,
    model: LoadedModel,
    options: SegmentOptions,
    report: ReportOptions | None = None,
) -> None:
    """Write the HTML page of a finished run to ``path``; adds its seconds to ``result.timings``.

    Raises ``InputError`` if it cannot be written.
    """
    from .report import report_content, write_scan_report

    step = time.perf_counter()
    content = report_content(
        scan,
        result.lesion_map,
        spread=result.prediction.spread,
        alignment=result.prediction.alignment,
        manifest=model.manifest,
        settings=asdict(options),
        details=result.prediction.details,
        versions=software_versions(),
        warnings=result.warnings,
        seconds=result.timings.get("total"),
        sha256=None if result.source.is_dir() else sha256_of(result.source),
        options=report,
    )
    write_scan_report(path, content)
    result.timings["report"] = time.perf_counter() - step
    result.timings["total"] = result.timings.get("total", 0.0) + result.timings["report"]


def describe(
    result: SegmentResult,
    scan: Scan,
    model: LoadedModel,
    options: SegmentOptions,
) -> dict[str, Any]:
    """Everything about a run that its sidecar states; nothing that names a patient."""
    from .lesions import summary_dict

    manifest = model.manifest
    alignment = result.prediction.alignment
    k, j, i = scan.volume.array.shape
    return {
        "software": {"name": "StrokeLesionSeg", "version": __version__},
        "versions": software_versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "notice": "For research. Not a medical device.",
        "source": {
            "name": Path(os.path.abspath(result.source)).name,
            "sha256": None if result.source.is_dir() else sha256_of(result.source),
            "format": scan.format,
            "series": scan.header.get("series", {}).get("SeriesInstanceUID"),
            "shape_ijk": [i, j, k],
            "spacing_mm": [round(s, 6) for s in scan.volume.spacing],
            "affine_ijk_to_ras_mm": scan.volume.affine.tolist(),
        },
        "outputs": {k: v.name for k, v in asdict(result.paths).items() if v is not None},
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": manifest.weights["sha256"],
            "license": manifest.license,
        },
        "options": asdict(options),
        "inference": {k: v for k, v in result.prediction.details.items() if k != "options"},
        "alignment": None
        if alignment is None
        else {
            "ok": alignment.ok,
            "reason": alignment.reason,
            "overlap": alignment.overlap,
            "similarity": alignment.similarity,
            "matrix_ras_mm_to_mni_mm": alignment.matrix.tolist(),
        },
        **summary_dict(result.lesion_map),
        "warnings": list(result.warnings),
        "timings_s": {k: round(v, 3) for k, v in result.timings.items()},
    }


def sha256_of(path: Path) -> str:
    """Checksum of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _stop_if(cancel: Callable[[], bool] | None) -> None:
    if cancel is not None and cancel():
        raise Cancelled
