"""From a volume on its own grid to a probability of lesion on that grid.

Three steps: ``before_network`` (align, place on the predictor's grid, scale intensities),
``run_network`` and ``after_network`` (back to the scan's grid). ``segment_volume`` does all three.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled
from ..images.volume import Volume
from .device import release_gaps
from .options import SegmentOptions
from .placing import PlacedScan, place
from .predictor import GridPrediction, Predictor, make_predictor
from .progress import Cancel, Progress

if TYPE_CHECKING:
    from ..images import Alignment
    from ..models import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """What the model says about one scan, on the scan's own grid.

    Attributes
    ----------
    probability: float32 in [0, 1], mean over all passes of the network.
    uncertainty_source: the uncertainty, or what brings it back: most runs need the probability
        alone.
    alignment: native RAS mm to MNI RAS mm; None if none was asked for. One that failed
        (``ok`` false) was not used.
    warnings: one sentence each.
    timings: seconds by stage, see ``progress.STAGES``. "network" includes preparing and checking
        the network ("prepare" of it).
    details: device and why, precision and its check, threads, passes, peak memory; JSON-ready.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
    >>> from StrokeLesionSegLib.models import load_model
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> prediction = segment_volume(volume, load_model(), SegmentOptions(align="none"))
    >>> prediction.alignment is None, sorted(prediction.timings)[:2]
    (True, ['align', 'back'])
    """

    probability: Volume
    uncertainty_source: Volume | Callable[[], Volume]
    alignment: Alignment | None
    warnings: tuple[str, ...]
    timings: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def uncertainty(self) -> Volume:
        """float32 in [0, 0.5], see ``GridPrediction.uncertainty``."""
        source = self.uncertainty_source
        return source if isinstance(source, Volume) else source()


@dataclass
class ReadyScan:
    """A scan on its way through ``before_network``, ``run_network`` and ``after_network``.

    The three may run in three threads, for scans one after the other; a ``ReadyScan`` is worked on
    by one of them at a time.

    Attributes
    ----------
    placed: where the scan lies on the predictor's grid, without its intensities. prepared: what the
        predictor made of it; None once the result has been brought back.
    found: the alignment, None if none was wanted. result: set by ``run_network``, taken by
        ``after_network``.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions, before_network, make_predictor
    >>> from StrokeLesionSegLib.models import load_model
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> predictor = make_predictor(load_model(), SegmentOptions(align="none"))
    >>> before_network(volume, predictor).result is None
    True
    """

    placed: PlacedScan
    prepared: Any
    found: Alignment | None
    options: SegmentOptions
    timings: dict[str, float]
    warnings: list[str]
    result: GridPrediction | None = None


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

    What ``options`` leave open is as the model recommends. ``alignment`` is one that was found
    before (of the same volume): it is used instead of a new registration, unless ``options.align``
    is "none". ``progress`` is called with stage, done and total; ``cancel`` is asked between
    stages, in the registration and before every batch.

    A scan that lies on the MNI grid already is not registered again when ``align`` is "auto".
    A registration that fails by its own bounds is a warning, and the scan is used as it lies.
    Only the brain is searched if the scan is aligned and the model's manifest gives a
    ``brain_mask_margin_mm``.

    Raises ``InputError`` for an image or options that cannot be used, ``Cancelled`` if told so.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
    >>> from StrokeLesionSegLib.models import load_model
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> prediction = segment_volume(volume, load_model(), SegmentOptions(align="none"))
    >>> prediction.probability.grid.same_as(volume.grid)
    True
    """
    predictor = make_predictor(model, options)
    ready = before_network(volume, predictor, alignment=alignment, progress=progress, cancel=cancel)
    run_network(ready, predictor, progress=progress, cancel=cancel)
    return after_network(ready, progress=progress, cancel=cancel)


def before_network(
    volume: Volume,
    predictor: Predictor,
    *,
    alignment: Alignment | Callable[[], Alignment | None] | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ReadyScan:
    """The stages align, canonical (the predictor's grid) and window (its intensity step).

    ``alignment`` is one that was found before, or gives it when it is needed.

    Raises as ``segment_volume`` does.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions, before_network, make_predictor
    >>> from StrokeLesionSegLib.models import load_model
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> predictor = make_predictor(load_model(), SegmentOptions(align="none"))
    >>> list(before_network(volume, predictor).timings)
    ['align', 'canonical', 'window']
    """
    run = _StageLog(progress, cancel)
    with run.stage("align"):
        found = _align(volume, predictor.options.align, alignment, cancel, run)
    used = found if found is not None and found.ok else None
    release_gaps()
    with run.stage("canonical"):
        placed = place(volume, used, predictor.grid)
    with run.stage("window"):
        prepared = predictor.prepare(placed)
    # What the network sees is in ``prepared``.
    placed = placed.without_values()
    return ReadyScan(placed, prepared, found, predictor.options, run.timings, run.warnings)


def run_network(
    ready: ReadyScan,
    predictor: Predictor,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> None:
    """The stage network; its result stays on the predictor's grid.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions, before_network
    >>> from StrokeLesionSegLib.inference import make_predictor, run_network
    >>> from StrokeLesionSegLib.models import load_model
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> predictor = make_predictor(load_model(), SegmentOptions(align="none"))
    >>> ready = before_network(volume, predictor)
    >>> run_network(ready, predictor)
    >>> bool(ready.result.probability.array.max() <= 1)
    True
    """
    run = _StageLog(progress, cancel, ready.timings)
    with run.stage("network", report=False):
        result = predictor.predict(ready.prepared, progress=progress, cancel=cancel)
    ready.timings.update(result.timings)
    ready.warnings += result.warnings
    ready.result, ready.options = result, predictor.options


def after_network(
    ready: ReadyScan, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> Prediction:
    """The stage back, which needs no torch: to the scan's own grid. Empties ``ready``.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import SegmentOptions, after_network, before_network
    >>> from StrokeLesionSegLib.inference import make_predictor, run_network
    >>> from StrokeLesionSegLib.models import load_model
    >>> volume = Volume(np.random.default_rng(0).random((16, 32, 32)), np.eye(4))
    >>> predictor = make_predictor(load_model(), SegmentOptions(align="none"))
    >>> ready = before_network(volume, predictor)
    >>> run_network(ready, predictor)
    >>> after_network(ready).probability.array.shape
    (16, 32, 32)
    """
    if ready.result is None:
        raise ValueError("the network has not run yet")
    run = _StageLog(progress, cancel, ready.timings)
    # The map of probability goes as soon as it has been brought back.
    maps, uncertainty = [ready.result.probability], ready.result.uncertainty.array
    known, placed = ready.result.details, ready.placed
    ready.result = ready.prepared = None
    with run.stage("back"):
        probability = placed.to_native(maps.pop().array)
        release_gaps()
    details = {
        **known,
        "options": asdict(ready.options),
        "aligned": ready.found is not None and ready.found.ok,
        "exact_grid": bool(ready.placed.exact),
    }
    return Prediction(
        probability,
        lambda: placed.to_native(uncertainty),
        ready.found,
        tuple(ready.warnings),
        ready.timings,
        details,
    )


class _StageLog:
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
    known: Alignment | Callable[[], Alignment | None] | None,
    cancel: Cancel | None,
    run: _StageLog,
) -> Alignment | None:
    """The alignment that is wanted, with a warning if it failed; None if none is needed."""
    from ..images import align_to_mni, lies_on_mni_grid

    if choice == "none":
        return None
    if known is None or callable(known):
        if choice == "auto" and lies_on_mni_grid(volume.grid):
            return None
        known = known() if known is not None else None
        known = known or align_to_mni(volume, cancel=cancel)
    if not known.ok:
        run.warnings.append(
            f"The scan could not be aligned to MNI152 ({known.reason.rstrip('.')}). "
            "Segmented without alignment; accuracy may be lower."
        )
    return known
