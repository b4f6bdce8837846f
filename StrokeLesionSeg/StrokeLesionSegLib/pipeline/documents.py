"""What is written beside the images of a run: the report, and everything the sidecar states."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .contents import scan_sha256
from .result import SegmentResult

if TYPE_CHECKING:
    from ..images import Alignment, DeformableAlignment, Scan
    from ..inference import SegmentOptions
    from ..models import LoadedModel
    from ..report import ReportOptions


def software_versions() -> dict[str, str]:
    """Versions of what a result depends on; packages that are absent are left out.

    Examples
    --------
    >>> from StrokeLesionSegLib.pipeline import software_versions
    >>> {"StrokeLesionSeg", "Python", "numpy"} <= set(software_versions())
    True
    """
    versions = {"StrokeLesionSeg": __version__, "Python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "SimpleITK", "pydicom", "nibabel", "safetensors"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


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
    from ..report import RunFacts, report_content, write_scan_report

    step = time.perf_counter()
    content = report_content(
        scan,
        result.lesion_map,
        uncertainty=result.prediction.uncertainty,
        alignment=result.prediction.alignment,
        run=RunFacts(
            model.manifest,
            settings=asdict(options),
            details=result.prediction.details,
            versions=software_versions(),
            warnings=result.warnings,
            seconds=result.timings.get("total"),
            sha256=None if result.source.is_dir() else scan_sha256(result.source),
            expected_dice=result.expected_dice,
        ),
        regions=result.regions,
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
    from ..lesions import summary_dict

    manifest = model.manifest
    alignment = result.prediction.alignment
    k, j, i = scan.volume.array.shape
    return {
        "software": {"name": "StrokeLesionSeg", "version": __version__},
        "versions": software_versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "notice": "For research. Not a medical device.",
        "source": {
            "name": result.label or Path(os.path.abspath(result.source)).name,
            "sha256": None if result.source.is_dir() else scan_sha256(result.source),
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
            "sha256": manifest.sha256,
            "license": manifest.license,
        },
        "options": asdict(options),
        "inference": {k: v for k, v in result.prediction.details.items() if k != "options"},
        "alignment": None if alignment is None else alignment_facts(alignment),
        "deformation": None if result.deformed is None else _deformation(result.deformed),
        **summary_dict(result.lesion_map),
        "mean_probability": result.mean_probability,
        "expected_dice": result.expected_dice,
        "reasons_to_look": result.reasons_to_look,
        "atlas": None if result.regions is None else result.regions.title,
        "input_check": result.input_check,
        "warnings": list(result.warnings),
        "timings_s": {k: round(v, 3) for k, v in result.timings.items()},
    }


def alignment_of(sidecar: Mapping[str, Any]) -> Alignment | None:
    """The alignment that a run's sidecar states, None for a scan that was not aligned.

    Raises ``ValueError`` if it states none that could be.

    Examples
    --------
    >>> from StrokeLesionSegLib.pipeline import alignment_of
    >>> alignment_of({"alignment": None}) is None
    True
    """
    import numpy as np

    from ..images import Alignment

    known = sidecar.get("alignment")
    if known is None:
        return None
    try:
        found = Alignment(
            np.array(known["matrix_ras_mm_to_mni_mm"], dtype=np.float64),
            bool(known["ok"]),
            str(known["reason"]),
            float(known["overlap"]),
            float(known["similarity"]),
            0.0,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the sidecar's alignment is incomplete: {error}") from error
    matrix = found.matrix
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
        raise ValueError("the sidecar's alignment has no usable matrix")
    return found


def alignment_facts(alignment: Alignment) -> dict[str, Any]:
    """As ``alignment_of`` reads it."""
    return {
        "ok": alignment.ok,
        "reason": alignment.reason,
        "overlap": alignment.overlap,
        "similarity": alignment.similarity,
        "matrix_ras_mm_to_mni_mm": alignment.matrix.tolist(),
    }


def _deformation(deformed: DeformableAlignment) -> dict[str, Any]:
    """What is said of a deformable alignment; the field itself is in the transform's file."""
    least, most = deformed.growth
    return {
        "used": deformed.deformation is not None,
        "reason": deformed.reason,
        "similarity_before": round(deformed.before, 4),
        "similarity_after": round(deformed.after, 4),
        "least_volume_factor": round(least, 3),
        "most_volume_factor": round(most, 3),
        "largest_displacement_mm": round(deformed.largest_mm, 2),
    }
