"""From a volume on its own grid to a probability of lesion on that grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, whole_box
from ..errors import Cancelled, InputError
from ..images.volume import Volume
from .device import available_threads, choose_device, peak_memory_bytes, torch_threads
from .options import SegmentOptions

if TYPE_CHECKING:
    from ..images import Alignment, Canonical
    from ..models import LoadedModel
    from .predict import CanonicalPrediction
    from .prepare import PreparedNetwork

Progress = Callable[[str, int, int], None]
Cancel = Callable[[], bool]


@dataclass(frozen=True)
class Prediction:
    """What the model says about one scan, on the scan's own grid.

    Attributes
    ----------
    probability: float32 in [0, 1], mean over views and flips.
    spread: float32 in [0, 0.5], see ``CanonicalPrediction.spread``.
    alignment: native RAS mm to MNI RAS mm; None if none was asked for. One that failed
        (``ok`` false) was not used.
    warnings: one sentence each.
    timings: seconds by stage: align, canonical, window, network, back. "network" includes
        preparing and checking the network ("prepare" of it).
    details: device and why, precision and its check, threads, batch sizes, passes, box, peak
        memory; JSON-ready.
    """

    probability: Volume
    spread: Volume
    alignment: Alignment | None
    warnings: tuple[str, ...]
    timings: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


def segment_volume(
    volume: Volume,
    model: LoadedModel,
    options: SegmentOptions | None = None,
    *,
    alignment: Alignment | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Prediction:
    """Find stroke lesions in ``volume``, a T1 on any grid; the result lies on the same grid.

    ``alignment`` is one that was found before (of the same volume): it is used instead of a new
    registration, unless ``options.align`` is "none". ``progress`` is called with stage, done and
    total; ``cancel`` is asked between stages, in the registration and before every batch.

    A scan that lies on the MNI grid already is not registered again when ``align`` is "auto".
    A registration that fails by its own bounds is a warning, and the scan is used as it lies.
    Only the brain is searched if the scan is aligned and the model's manifest gives a
    ``brain_mask_margin_mm``.

    Raises ``InputError`` for an image or options that cannot be used, ``Cancelled`` if told so.
    """
    options = (options or SegmentOptions()).for_model(model.manifest)
    ready = before_network(
        volume, model, options, alignment=alignment, progress=progress, cancel=cancel
    )
    run_network(ready, model, options, progress=progress, cancel=cancel)
    return after_network(ready, model, options, progress=progress, cancel=cancel)


@dataclass
class ReadyScan:
    """A scan on its way through ``before_network``, ``run_network`` and ``after_network``.

    The three may run in three threads, for scans one after the other; a ``ReadyScan`` is worked on
    by one of them at a time.

    Attributes
    ----------
    canonical: where the scan lies on the canonical grid. array: (K, J, I) float32 in [0, 1]
        there. box: the part of it to search. window: intensities that became 0 and 1.
    found: the alignment, None if none was wanted.
    """

    canonical: Canonical
    array: NDArray[np.float32]
    box: Box
    window: tuple[float, float]
    found: Alignment | None
    timings: dict[str, float]
    warnings: list[str]
    result: CanonicalPrediction | None = None
    prepared: PreparedNetwork | None = None
    threads: int = 0


def before_network(
    volume: Volume,
    model: LoadedModel,
    options: SegmentOptions,
    *,
    alignment: Alignment | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ReadyScan:
    """The stages align, canonical and window of ``segment_volume``; needs no torch but a GPU's.

    Raises as ``segment_volume`` does.
    """
    from ..images import apply_window, brain_box, to_canonical, window_range

    choose_device(options.device)  # one that is not there is said before the work starts
    run = _Run(progress, cancel)

    with run.stage("align"):
        found = _align(volume, options.align, alignment, cancel, run)
    used = found if found is not None and found.ok else None

    with run.stage("canonical"):
        canonical = to_canonical(volume, used)

    with run.stage("window"):
        array = canonical.volume.array
        preprocessing = model.manifest.preprocessing
        try:
            window = window_range(
                array, *preprocessing.window_percentiles, low_of=preprocessing.window_low_of
            )
        except ValueError as error:
            raise InputError("image", str(error), "Check that it is a T1 scan of a head") from error
        # The canonical array is ours alone: windowing in place saves a copy of the volume.
        array = apply_window(array, window, out=array if array.flags.writeable else None)
        box = brain_box(canonical) if options.crop else whole_box(array.shape)
    return ReadyScan(canonical, array, box, window, found, run.timings, run.warnings)


def run_network(
    ready: ReadyScan,
    model: LoadedModel,
    options: SegmentOptions,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> None:
    """The stage network of ``segment_volume``; its result stays on the canonical grid."""
    from .precision import probe_crop
    from .prepare import prepare_network

    run = _Run(progress, cancel, ready.timings)
    ready.threads = available_threads(options.threads)
    with torch_threads(ready.threads), run.stage("network", report=False):
        started = time.perf_counter()
        prepared = prepare_network(
            model.network,
            model.manifest.channels,
            choose_device(options.device),
            options.precision,
            probe=probe_crop(ready.array, ready.box),
            thresholds=model.manifest.operating_point(options.views).thresholds,
        )
        run.timings["prepare"] = time.perf_counter() - started
        result = _predict(ready, prepared, options, model, progress, cancel)
        ready.warnings += [*prepared.warnings, *result.warnings]
    ready.prepared, ready.result = prepared, result


def after_network(
    ready: ReadyScan,
    model: LoadedModel,
    options: SegmentOptions,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Prediction:
    """The stage back of ``segment_volume``, which needs no torch: to the scan's own grid."""
    from ..images import from_canonical
    from ..images.space.brainbox import on_mni_grid

    result, prepared, canonical = ready.result, ready.prepared, ready.canonical
    if result is None or prepared is None:
        raise ValueError("the network has not run yet")
    run = _Run(progress, cancel, ready.timings)
    with run.stage("back"):
        margin = model.manifest.preprocessing.brain_mask_margin_mm
        masked = margin is not None and on_mni_grid(canonical)
        if margin is not None and masked:
            _keep_brain((result.mean, result.spread), canonical, margin)
        probability = from_canonical(result.mean, canonical)
        spread = from_canonical(result.spread, canonical)

    details = _details(result, prepared, ready.box, ready.threads)
    details.update(
        options=asdict(options),
        intensity_window=[float(v) for v in ready.window],
        brain_mask_margin_mm=margin if masked else None,
        aligned=ready.found is not None and ready.found.ok,
        exact_grid=bool(canonical.exact),
    )
    return Prediction(
        probability, spread, ready.found, tuple(ready.warnings), ready.timings, details
    )


class _Run:
    """Progress, cancelling, warnings and seconds of the stages."""

    def __init__(
        self,
        progress: Progress | None,
        cancel: Cancel | None,
        timings: dict[str, float] | None = None,
    ) -> None:
        self.timings: dict[str, float] = {} if timings is None else timings
        self.warnings: list[str] = []
        self._progress = progress
        self._cancel = cancel

    @contextmanager
    def stage(self, name: str, report: bool = True) -> Iterator[None]:
        """Time a stage; ``report`` says its begin and end (the network says its own)."""
        if self._cancel is not None and self._cancel():
            raise Cancelled(f"cancelled before {name}")
        if report and self._progress is not None:
            self._progress(name, 0, 1)
        started = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - started
        if report and self._progress is not None:
            self._progress(name, 1, 1)


def _align(
    volume: Volume,
    choice: str,
    known: Alignment | None,
    cancel: Cancel | None,
    run: _Run,
) -> Alignment | None:
    """The alignment that is wanted, with a warning if it failed; None if none is needed."""
    from ..images import MNI_GRID, align_to_mni

    if choice == "none":
        return None
    if known is None:
        if choice == "auto" and volume.grid.same_as(MNI_GRID):
            return None
        known = align_to_mni(volume, cancel=cancel)
    if not known.ok:
        run.warnings.append(
            f"The scan could not be aligned to MNI152 ({known.reason.rstrip('.')}); "
            "it is segmented as it lies, which the model bears less well."
        )
    return known


def _predict(
    ready: ReadyScan,
    prepared: PreparedNetwork,
    options: SegmentOptions,
    model: LoadedModel,
    progress: Progress | None,
    cancel: Cancel | None,
) -> CanonicalPrediction:
    from ..images.space.brainbox import on_mni_grid
    from .predict import predict_volume

    inference = model.manifest.inference
    return predict_volume(
        ready.array,
        prepared,
        box=ready.box,
        mirror=on_mni_grid(ready.canonical),
        views=options.views or inference.views,
        tta=options.tta,
        flip_axes=inference.flip_axes,
        multiple=model.manifest.preprocessing.pad_multiple,
        batch_size=options.batch_size,
        progress=progress,
        cancel=cancel,
    )


def _keep_brain(
    arrays: tuple[NDArray[np.float32], ...], canonical: Canonical, margin_mm: float
) -> None:
    """Set what is further than ``margin_mm`` from the MNI brain to 0, in place."""
    from ..images import brain_mask_for

    mask = brain_mask_for(canonical, margin_mm)
    for array in arrays:
        array *= np.asarray(mask) != 0


def _details(
    result: CanonicalPrediction, prepared: PreparedNetwork, box: Box, threads: int
) -> dict[str, Any]:
    """What happened, JSON-ready."""
    import torch

    ended = result.prepared
    peak = peak_memory_bytes()
    check = None if prepared.check is None else asdict(prepared.check)
    if check is not None and not np.isfinite(check["max_difference"]):
        check["max_difference"] = None  # JSON knows no infinity
    return {
        "device": ended.device.name,
        "device_reason": ended.device.reason,
        "precision": ended.precision,
        "precision_reason": ended.reason,
        "precision_check": check,
        "threads": threads,
        "batch_sizes": dict(result.batch_sizes),
        "passes": list(result.passes),
        "slices": result.slices,
        "slices_skipped": result.skipped,
        "box_kji": [[int(part.start), int(part.stop)] for part in box],
        "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
        "torch": str(torch.__version__),
        "openmp_wait_policy": _wait_policy(),
    }


def _wait_policy() -> str:
    import os

    return os.environ.get("OMP_WAIT_POLICY", "default").lower()
