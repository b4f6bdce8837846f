"""One scan, from its file to the files of its result, in one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..atlases import AtlasChoice
from ..errors import Cancelled
from ..file_formats import split_name
from ..inference.ahead import make_ahead
from ..inference.progress import Cancel, Progress
from ..operating_point import OperatingPoint, OperatingPointChoice
from ..outputs import OutputSet, default_label
from ..spaces import MNI_SPACE, check_deformable, check_spaces
from .dicom_objects import check_dicom, impossible_dicom
from .result import OutputPaths, SegmentResult
from .runner import ScanRunner, Wanted, not_written
from .source import check_series, check_source

if TYPE_CHECKING:
    from ..images import Alignment, Scan
    from ..inference import SegmentOptions
    from ..models import LoadedModel, Manifest
    from ..report import ReportOptions


@dataclass(frozen=True)
class FileOptions:
    """How one file is segmented, and what its results tell.

    Attributes
    ----------
    model: a loaded model (for many scans) or the name of one; None takes the default.
    options, point: how the network runs and what counts as a lesion; what they leave open is as the
        model recommends.
    series: picks one of a DICOM folder.
    report: what goes into ``OutputPaths.report``; None is the usual.
    label: what sidecar and page call the scan (default: its file's name; of DICOM, which is often
        called as the patient is, a checksum).
    atlas: what volumes are told by in ``OutputPaths.regions`` and in the report; None is the one
        that ships.
    deformable: deform the scan to MNI space, its lesions left out; the paths need files there.
    alignment: gives one that is found elsewhere meanwhile (:class:`AlignBeside`).
    force: go on with a scan that the input check refuses; the sidecar says so.

    Examples
    --------
    >>> from StrokeLesionSegLib.pipeline import FileOptions
    >>> FileOptions(series="1.2.3").force
    False
    """

    model: LoadedModel | str | None = None
    options: SegmentOptions | None = None
    point: OperatingPointChoice | None = None
    series: str | None = None
    report: ReportOptions | None = None
    label: str = ""
    atlas: AtlasChoice | None = None
    deformable: bool = False
    alignment: Callable[[], Alignment | None] | None = None
    force: bool = False


def segment_file(
    source: Path,
    paths: OutputPaths,
    options: FileOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    notice: Callable[[str], None] | None = None,
) -> SegmentResult:
    """Read ``source``, find its lesions and write ``paths``, all of them or none.

    ``progress`` is told the stages of ``STAGES``; ``cancel`` is asked between steps.

    An optional output (DICOM, report) that proves impossible is left out: ``not_written`` of
    the result and a warning say so, and ``notice`` is told before the network runs, where that can
    be known.

    Raises ``InputError`` if input, outputs or model cannot be used, ``Cancelled`` if told so.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import Volume, write_volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> from StrokeLesionSegLib.pipeline import FileOptions, OutputPaths, segment_file
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> write_volume("t1.nii.gz", volume)
    >>> source = Path("t1.nii.gz")
    >>> options = FileOptions(options=SegmentOptions(align="none"), force=True)
    >>> _ = segment_file(source, OutputPaths.beside(source), options)
    >>> sorted(path.name for path in Path().glob("t1*"))
    ['t1.nii.gz', 't1_lesion.json', 't1_lesion.nii.gz', 't1_lesion.tsv']
    """
    source = Path(source)
    check_source(source)
    _check_options(paths, options or FileOptions())
    with OutputSet(paths.volumes, paths.documents, source=source, overwrite=overwrite) as outputs:
        before = paths.of_before(source)
        result = segment_into(
            outputs, source, paths, options, progress=progress, cancel=cancel, notice=notice
        )
        outputs.commit()
        if progress is not None:
            progress("write", 1, 1)
        if before and notice is not None:
            notice(
                f"beside the mask lies what was not written now and may tell of the lesions of an "
                f"earlier run: {', '.join(path.name for path in before)}"
            )
    return result


def _check_options(paths: OutputPaths, wanted: FileOptions) -> None:
    """``InputError`` for options that do not go together, before a file is looked at."""
    for path, option in ((paths.dicom_seg, "--dicom-seg"), (paths.dicom_sr, "--dicom-sr")):
        if path is not None:
            from ..images.formats.dicom_seg import require_highdicom

            require_highdicom(option)
    if paths.in_mni:
        check_spaces((MNI_SPACE,), "auto" if wanted.options is None else wanted.options.align)
    check_deformable(wanted.deformable, (MNI_SPACE,) if paths.in_mni else ())
    if wanted.atlas is not None and wanted.atlas.image is not None:
        wanted.atlas.read()


def segment_into(
    outputs: OutputSet,
    source: Path,
    paths: OutputPaths,
    options: FileOptions | None = None,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    notice: Callable[[str], None] | None = None,
) -> SegmentResult:
    """As ``segment_file``, but ``paths`` are staged in ``outputs``, which the caller commits."""
    began, wanted = time.perf_counter(), options or FileOptions()
    atlas, label, report = wanted.atlas or AtlasChoice(), wanted.label, wanted.report
    timings: dict[str, float] = {}
    if not label and default_label(source) != split_name(source)[0]:
        label = default_label(source)
    if label and report is None and paths.report is not None:
        from ..report import ReportOptions

        report = ReportOptions()
    if label and report is not None and report.name is None:
        report = replace(report, name=label)
    # Cheap checks come first: an unknown model or a senseless operating point is said before
    # a large file is read.
    manifest, chosen, used = _resolved(wanted.model, wanted.options, wanted.point)
    make_ahead(manifest)
    scan = _read(source, wanted.series, paths, timings, progress)
    impossible = impossible_outputs(paths, scan)
    for path, why in impossible.items():
        if notice is not None:
            notice(not_written(path, why))
    _stop_if(cancel)
    runner = ScanRunner(_loaded(wanted.model, timings), chosen, used, force=wanted.force)
    run = runner.prepare(
        source, scan, timings, alignment=wanted.alignment, progress=progress, cancel=cancel
    )
    run.impossible.update(impossible)
    runner.network(run, progress=progress, cancel=cancel)
    result = runner.finish(
        run,
        Wanted(paths, report, atlas, label=label, deformable=wanted.deformable),
        outputs,
        began=began,
        progress=progress,
        cancel=cancel,
    )
    _stop_if(cancel)
    return result


def impossible_outputs(paths: OutputPaths, scan: Scan) -> dict[Path, str]:
    """Why optional outputs cannot be made of ``scan``, as far as can be known before the network.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.pipeline import OutputPaths
    >>> from StrokeLesionSegLib.pipeline.segment import impossible_outputs
    >>> import numpy as np
    >>> scan = checked_scan("t1", np.arange(64.0).reshape(4, 4, 4), np.eye(4))
    >>> impossible_outputs(OutputPaths(Path("mask.nii.gz")), scan)
    {}
    """
    return impossible_dicom(paths, scan) if paths.in_dicom else {}


def _resolved(
    model: LoadedModel | str | None,
    options: SegmentOptions | None,
    point: OperatingPointChoice | None,
) -> tuple[Manifest, SegmentOptions, OperatingPoint]:
    """Manifest, options and operating point, completed by what the model recommends."""
    from ..inference import SegmentOptions
    from ..models import Manifest, find_model

    if model is None or isinstance(model, str):
        manifest = Manifest.from_file(find_model(model))
    else:
        manifest = model.manifest
    options = (options or SegmentOptions()).for_model(manifest)
    recommended = manifest.operating_point(options.views)
    return manifest, options, (point or OperatingPointChoice()).resolve(recommended)


def _read(
    source: Path,
    series: str | None,
    paths: OutputPaths,
    timings: dict[str, float],
    progress: Progress | None,
) -> Scan:
    from ..inference.device import prepare_environment

    prepare_environment()
    from ..images import check_grid, read_scan

    tell = progress or (lambda stage, done, total: None)
    tell("read", 0, 1)
    step = time.perf_counter()
    scan = read_scan(source, series=series)
    check_series(series, scan)
    timings["read"] = time.perf_counter() - step
    check_dicom(paths, scan)
    for path in (paths.mask, paths.probability, paths.uncertainty):
        if path is not None:
            check_grid(path, scan.volume.affine)
    tell("read", 1, 1)
    return scan


def _loaded(model: LoadedModel | str | None, timings: dict[str, float]) -> LoadedModel:
    if model is not None and not isinstance(model, str):
        return model
    from ..models import load_model

    step = time.perf_counter()
    loaded = load_model(model)
    timings["model"] = time.perf_counter() - step
    return loaded


def _stop_if(cancel: Cancel | None) -> None:
    if cancel is not None and cancel():
        raise Cancelled
