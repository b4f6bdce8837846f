"""One scan in three steps: prepare, network, finish. ``segment``, batch and panel all run these.

The steps may run in three threads, each for another scan; that is how a batch overlaps them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..atlases import AtlasChoice
from ..errors import Cancelled, InputError
from ..inference.progress import STAGES as _PREDICTION
from ..inference.progress import Cancel, Progress
from ..operating_point import OperatingPoint
from ..outputs import OutputSet, beside_mask, os_input_error
from ..spaces import MNI_SPACE
from .dicom_objects import dicom_writers
from .documents import describe, write_report
from .images import deformed_to_mni, write_in_mni, write_volumes
from .result import OutputPaths, SegmentResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..images import Alignment, Deformation, Grid, Scan
    from ..inference import Prediction, ReadyScan, SegmentOptions
    from ..input_check import Finding
    from ..lesions import LesionMap, RegionTable
    from ..models import LoadedModel
    from ..report import ReportOptions

_Any = TypeVar("_Any")

#: The stages of a run in their order, as progress tells them and timings name them.
STAGES = ("read", *_PREDICTION, "clean", "write")
# Parts of the time that no stage of progress is.
_ALSO = ("check", "deform")


@dataclass
class ScanRun:
    """One scan on its way: what was read, and what has become of it.

    Attributes
    ----------
    source: the file or folder. scan: what was read of it. ready: after ``ScanRunner.prepare``.
    timings: seconds of what came before, by stage.
    findings: of the input check, told as warnings. forced: whether it was to go on all the same.
    impossible: by optional outputs that are known to be impossible, why.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> from StrokeLesionSegLib.models import load_model
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.pipeline import ScanRunner
    >>> scan = checked_scan("t1", np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> options, point = SegmentOptions(align="none"), OperatingPoint(0.5)
    >>> runner = ScanRunner(load_model(), options, point, force=True)  # noise is no scan
    >>> run = runner.prepare(Path("t1"), scan, {"read": 0.1})
    >>> run.scan is scan, list(run.timings)
    (True, ['read', 'check'])
    """

    source: Path
    scan: Scan
    ready: ReadyScan
    timings: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    forced: bool = False
    impossible: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What is to be written of a scan.

    Attributes
    ----------
    paths: where. report: what goes into ``paths.report``; None is the usual.
    atlas: which atlas volumes are told by; the shipped one by default.
    sidecar: entries that come first in ``paths.sidecar``.
    more: further JSON files and their contents.
    label: what the sidecar calls the scan; empty for its file's own name.
    deformable: deform the scan to MNI space, for all that is written there and for ``regions``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.pipeline import OutputPaths, Wanted
    >>> paths = OutputPaths(Path("mask.nii.gz"), table=Path("lesions.tsv"))
    >>> [path.name for path, _ in Wanted(paths, more=((Path("run.json"), {}),)).documents]
    ['lesions.tsv', 'run.json']
    """

    paths: OutputPaths
    report: ReportOptions | None = None
    atlas: AtlasChoice = field(default_factory=AtlasChoice)
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    more: tuple[tuple[Path, Mapping[str, Any]], ...] = ()
    label: str = ""
    deformable: bool = False

    @property
    def documents(self) -> list[tuple[Path, str]]:
        """Paths and suffixes of all files that are no images, for ``OutputSet``."""
        return [*self.paths.documents, *((path, ".json") for path, _ in self.more)]


class ScanRunner:
    """Runs scans through one model at one operating point.

    Parameters
    ----------
    model: loaded. options: how the network runs; what they leave open is as the model recommends.
    point: what counts as a lesion.
    force: go on with scans that the input check refuses.

    Raises ``InputError`` if the model cannot run here.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> from StrokeLesionSegLib.models import load_model
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.outputs import OutputSet
    >>> from StrokeLesionSegLib.pipeline import OutputPaths, ScanRunner, Wanted
    >>> scan = checked_scan("t1", np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> options, point = SegmentOptions(align="none"), OperatingPoint(0.5)
    >>> runner = ScanRunner(load_model(), options, point, force=True)  # noise is no scan
    >>> open("t1", "w").close()
    >>> wanted = Wanted(OutputPaths(Path("mask.nii.gz")))
    >>> with OutputSet(wanted.paths.volumes, wanted.documents) as outputs:
    ...     run = runner.prepare(Path("t1"), scan, {})
    ...     runner.network(run)
    ...     result = runner.finish(run, wanted, outputs)
    ...     outputs.commit()
    >>> Path("mask.nii.gz").exists()
    True
    """

    def __init__(
        self,
        model: LoadedModel,
        options: SegmentOptions | None,
        point: OperatingPoint,
        *,
        force: bool = False,
    ) -> None:
        from ..inference import make_predictor

        self.model, self.point, self.force = model, point, force
        self.predictor = make_predictor(model, options)

    def prepare(
        self,
        source: Path,
        scan: Scan,
        timings: dict[str, float],
        *,
        alignment: Callable[[], Alignment | None] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> ScanRun:
        """Put values right, check, align, place on the predictor's grid and scale intensities.

        Needs no network. ``alignment`` gives the one that was found before, when it is needed;
        without it, or if it gives None, the scan is aligned here.

        Raises ``InputError`` for a scan that cannot be used or that the input check refuses,
        ``Cancelled``.
        """
        from ..inference import before_network
        from ..input_check import check_aligned, check_scan, refuse_or_warn, repair

        step = time.perf_counter()
        scan = repair(scan)
        findings = check_scan(scan)
        refuse_or_warn(source, findings, force=self.force)
        timings["check"] = time.perf_counter() - step
        ready = before_network(
            scan.volume, self.predictor, alignment=alignment, progress=progress, cancel=cancel
        )
        step = time.perf_counter()
        findings += check_aligned(scan.volume, ready.found)
        refuse_or_warn(source, findings, force=self.force)
        timings["check"] += time.perf_counter() - step
        return ScanRun(source, scan, ready, timings, tuple(findings), self.force)

    def network(
        self, run: ScanRun, *, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> None:
        """Run the network; raises as ``segment_volume`` does."""
        from ..inference import run_network

        run_network(run.ready, self.predictor, progress=progress, cancel=cancel)

    def predicted(
        self, run: ScanRun, *, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> Prediction:
        """What the network said, on the scan's own grid; after ``network``."""
        from ..inference import after_network

        return after_network(run.ready, progress=progress, cancel=cancel)

    @staticmethod
    def warnings_of(run: ScanRun, prediction: Prediction) -> tuple[str, ...]:
        """What is odd of a scan and its prediction, one sentence each, every one once."""
        from ..input_check import sentence

        # The prediction tells of a failed alignment itself.
        told = [sentence(f) for f in run.findings if f.code != "alignment"]
        return tuple(dict.fromkeys((*told, *run.scan.warnings, *prediction.warnings)))

    def finish(
        self,
        run: ScanRun,
        wanted: Wanted,
        outputs: OutputSet,
        *,
        began: float | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> SegmentResult:
        """Back to the scan's grid, find the lesions, stage all files in ``outputs``.

        The caller commits. An optional output (DICOM, report) that proves impossible is left
        out and told in ``not_written``. ``began``: ``time.perf_counter()`` at the start of the run,
        for the total time; None adds up the stages, without the time that a scan waited for its
        turn.

        Raises ``InputError`` that names the output that cannot be written, ``Cancelled``.
        """
        from ..input_check import for_sidecar

        tell = progress or (lambda stage, done, total: None)
        prediction = self.predicted(run, progress=progress, cancel=cancel)
        timings = {**run.timings, **prediction.timings}

        tell("clean", 0, 1)
        step = time.perf_counter()
        lesion_map = find_in(prediction, self.point)
        timings["clean"] = time.perf_counter() - step
        tell("clean", 1, 1)

        to_mni, deformed, deformation = mni_matrix(prediction), None, None
        if wanted.deformable and to_mni is not None:
            step = time.perf_counter()
            deformed = deformed_to_mni(run.scan, to_mni, lesion_map, cancel)
            deformation = deformed.deformation
            timings["deform"] = time.perf_counter() - step

        tell("write", 0, 1)
        step = time.perf_counter()
        warnings = self.warnings_of(run, prediction)
        if deformed is not None and deformed.reason:
            warnings = (*warnings, f"Results in {MNI_SPACE} are affine. {deformed.reason}")
        write_volumes(outputs, wanted.paths, run.scan, prediction, lesion_map)
        paths, missing = write_in_mni(
            outputs, wanted.paths, prediction, lesion_map, to_mni, deformation
        )
        if missing:
            warnings = (*warnings, missing)
            # What describes an image goes with it.
            gone = {beside_mask(path, ".json") for path in wanted.paths.in_mni}
            for path in gone & {name for name, _ in wanted.more}:
                outputs.absent(path)
            kept = tuple(pair for pair in wanted.more if pair[0] not in gone)
            wanted = replace(wanted, paths=paths, more=kept)
        optional = _Optional(outputs, dict(run.impossible))
        for path, write in dicom_writers(paths, run.scan, lesion_map, self.model):
            warnings = (*warnings, *(optional.write(path, write) or ()))
        regions, missing = self._regions(run, wanted, to_mni, lesion_map, deformation)
        if regions is None and paths.regions is not None:
            outputs.absent(paths.regions)
            paths = replace(paths, regions=None)
            wanted = replace(wanted, paths=paths)
        warnings = (*warnings, *missing)
        timings["write"] = time.perf_counter() - step
        if began is None:
            timings["total"] = sum(timings.get(name, 0.0) for name in (*STAGES, *_ALSO))
        else:
            timings["total"] = time.perf_counter() - began
        result = SegmentResult(
            run.source,
            paths,
            lesion_map,
            prediction,
            warnings,
            timings,
            for_sidecar(run.findings, force=run.forced),
            label=wanted.label,
            regions=regions,
            expected_dice=self._expected_dice(prediction, lesion_map),
            deformed=deformed,
        )
        return self._write_documents(outputs, result, run.scan, wanted, optional)

    def _expected_dice(self, prediction: Prediction, lesion_map: LesionMap) -> float | None:
        """Of a model whose probabilities are calibrated; others would promise what they do not
        hold."""
        from ..lesions import expected_dice

        calibration = self.model.manifest.inference.calibration
        if calibration is None:
            return None
        p = prediction.probability.array
        return expected_dice(p, lesion_map.mask, calibration=calibration).value

    @staticmethod
    def _regions(
        run: ScanRun,
        wanted: Wanted,
        to_mni: NDArray[np.float64] | None,
        lesion_map: LesionMap,
        deformation: Deformation | None,
    ) -> tuple[RegionTable | None, tuple[str, ...]]:
        """Volumes by region, if somebody wants them and there is an alignment; a warning."""
        if wanted.paths.regions is None and wanted.paths.report is None:
            return None, ()
        if to_mni is None:
            asked = wanted.atlas.image is not None
            return None, (
                "Volumes by region need an alignment to MNI152, and there is none.",
            ) * asked
        from ..atlases import region_table

        mask = run.scan.volume.with_array(lesion_map.mask)
        return region_table(mask, to_mni, wanted.atlas.read(), deformation), ()

    def _write_documents(
        self,
        outputs: OutputSet,
        result: SegmentResult,
        scan: Scan,
        wanted: Wanted,
        optional: _Optional,
    ) -> SegmentResult:
        """Stage what is no image. The page comes before the sidecar, which tells if it failed."""
        from ..lesions import write_regions, write_sidecar, write_table

        model, options, paths = self.model, self.predictor.options, wanted.paths

        if paths.report is not None:
            page = functools.partial(
                write_report,
                result=optional.of(result),
                scan=scan,
                model=model,
                options=options,
                report=wanted.report,
            )
            optional.write(paths.report, page)
        result = optional.of(result)

        def sidecar(path: Path) -> None:
            write_sidecar(path, {**wanted.sidecar, **describe(result, scan, model, options)})

        _write(outputs, paths.table, lambda path: write_table(path, result.lesion_map))
        if (regions := result.regions) is not None:
            _write(outputs, paths.regions, lambda path: write_regions(path, regions))
        _write(outputs, paths.sidecar, sidecar)
        for more, content in wanted.more:
            _write(outputs, more, functools.partial(write_sidecar, content=content))
        return result


def not_written(path: Path, cause: str) -> str:
    """What is said of an optional output that proved impossible."""
    return f"{path.name} could not be written: {' '.join(cause.split()).rstrip('. ')}."


class _Optional:
    """Outputs without which the others are written all the same."""

    def __init__(self, outputs: OutputSet, impossible: dict[Path, str]) -> None:
        self._outputs, self._impossible = outputs, impossible
        for path in impossible:
            outputs.absent(path)

    def write(self, path: Path, write: Callable[[Path], _Any]) -> _Any | None:
        """Stage one; None if that proves impossible. A full disk is an error, as for the others."""
        if path in self._impossible:
            return None
        staged = self._outputs.staged(path)
        try:
            return write(staged)
        except Cancelled:
            raise
        except InputError as error:
            cause = error.cause
            if isinstance(error.__cause__, OSError):
                raise InputError(path, error.cause, error.remedy) from error
        except OSError as error:
            raise os_input_error(error, path) from error
        except Exception as error:
            cause = f"a defect of StrokeLesionSeg ({type(error).__name__}: {error})"
        staged.unlink(missing_ok=True)
        self._outputs.absent(path)
        self._impossible[path] = cause
        return None

    def of(self, result: SegmentResult) -> SegmentResult:
        """The result with what could not be written told, and its paths left out."""
        if not self._impossible:
            return result
        told = tuple(not_written(path, cause) for path, cause in self._impossible.items())
        paths = result.paths
        gone: dict[str, Any] = {
            name: None
            for name in ("dicom_seg", "dicom_sr", "dicom_rtstruct", "report")
            if getattr(paths, name) in self._impossible
        }
        warnings = tuple(dict.fromkeys((*result.warnings, *told)))
        return replace(result, paths=replace(paths, **gone), warnings=warnings, not_written=told)


def _write(outputs: OutputSet, path: Path | None, write: Callable[[Path], None]) -> None:
    """Stage one document, if it is wanted; ``InputError`` that names it."""
    if path is None:
        return
    try:
        write(outputs.staged(path))
    except InputError as error:
        # The message has to name the file that was asked for, not the staged one.
        raise InputError(path, error.cause, error.remedy) from error
    except OSError as error:
        raise os_input_error(error, path) from error


def find_in(prediction: Prediction, point: OperatingPoint) -> LesionMap:
    """The lesions in a prediction, on its grid.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import Prediction
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.pipeline import find_in
    >>> probability = Volume(np.full((4, 4, 4), 0.7, np.float32), np.eye(4))
    >>> prediction = Prediction(probability, probability, None, (), {})
    >>> find_in(prediction, OperatingPoint(0.5)).summary.count
    1
    """
    from ..lesions import find_lesions

    probability = prediction.probability
    to_mni = mni_matrix(prediction)
    return find_lesions(probability.array, probability.affine, point, to_mni=to_mni)


def mni_matrix(prediction: Prediction) -> NDArray[np.float64] | None:
    """4x4, RAS mm of the scan to MNI RAS mm; None if that is not known.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import Prediction
    >>> from StrokeLesionSegLib.pipeline import mni_matrix
    >>> probability = Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
    >>> mni_matrix(Prediction(probability, probability, None, (), {})) is None
    True
    """
    return matrix_to_mni(prediction.alignment, prediction.probability.grid)


def matrix_to_mni(alignment: Alignment | None, grid: Grid) -> NDArray[np.float64] | None:
    """4x4, RAS mm of a scan on ``grid`` to MNI RAS mm; None if that is not known."""
    import numpy as np

    from ..images import lies_on_mni_grid

    if alignment is not None:
        return alignment.matrix if alignment.ok else None
    # Where nothing was to be aligned the scan may lie there already.
    return np.eye(4) if lies_on_mni_grid(grid) else None
