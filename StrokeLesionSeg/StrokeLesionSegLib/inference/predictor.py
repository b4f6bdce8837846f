"""What the engine asks of a model: a probability of lesion on a grid that the model chooses.

``make_predictor`` is the one place that knows every kind of model. A new kind is a class with the
members of ``Predictor`` and one line in ``_KINDS``; the manifest's ``kind`` names it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InputError
from ..images.volume import Volume
from .ahead import make_ahead
from .options import SegmentOptions
from .placing import PlacedScan, TargetGrid
from .progress import Cancel, Progress

if TYPE_CHECKING:
    from ..models import LoadedModel

# Kind of model (``Manifest.kind``): module of this package, and class.
_KINDS = {
    "slices": ("slices", "SlicesPredictor"),
    "volumetric": ("whole_head", "WholeHeadPredictor"),
    "windows": ("sliding_window", "SlidingWindowPredictor"),
}


@dataclass(frozen=True)
class GridPrediction:
    """What a predictor says about a scan, on the predictor's grid.

    Attributes
    ----------
    probability: float32 in [0, 1], the mean over all passes.
    uncertainty: float32 in [0, 0.5]: standard deviation of the probability over the passes
        (mirrored, shifted, other views); of a single pass ``sqrt(p (1 - p))``, that of a yes-or-no
        answer of that probability.
    warnings: one sentence each.
    timings: seconds of parts of the prediction, by name.
    details: device, precision, passes and so on; JSON-ready.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import GridPrediction
    >>> nothing = Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
    >>> GridPrediction(nothing, nothing, details={"device": "cpu"}).warnings
    ()
    """

    probability: Volume
    uncertainty: Volume
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class Predictor(Protocol):
    """A model that is ready for scans, one after the other.

    The two steps may run in two threads, for different scans at the same time; each step is run
    by one thread at a time.

    Attributes
    ----------
    grid: where the model works.
    options: what was asked for, with everything that the model recommends filled in.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.inference import NATIVE, GridPrediction, SegmentOptions
    >>> from StrokeLesionSegLib.inference import after_network, before_network, run_network
    >>> class Bright:  # whatever is brighter than 100
    ...     grid, options = NATIVE, SegmentOptions(views="axial", align="none")
    ...     def prepare(self, scan):
    ...         return scan.volume
    ...     def predict(self, prepared, *, progress=None, cancel=None):
    ...         found = prepared.with_array((prepared.array > 100).astype(np.float32))
    ...         return GridPrediction(found, found.with_array(found.array * 0))
    >>> ready = before_network(Volume(np.full((4, 4, 4), 200.0), np.eye(4)), Bright())
    >>> run_network(ready, Bright())
    >>> float(after_network(ready).probability.array.mean())
    1.0
    """

    @property
    def grid(self) -> TargetGrid: ...

    @property
    def options(self) -> SegmentOptions: ...

    def prepare(self, scan: PlacedScan) -> Any:
        """The intensity step and whatever else needs no network; the result is for ``predict``.

        ``scan`` lies on ``grid``, its intensities are the scan's own, and its array may be
        overwritten. Runs beside the network of another scan.

        Raises ``InputError`` for an image that cannot be used.
        """
        ...

    def predict(
        self, prepared: Any, *, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> GridPrediction:
        """Run the network. The probability lies on the grid of the scan that was prepared.

        ``progress`` is called with ("network", done, total), never decreasing; ``cancel`` is
        asked between batches.

        Raises ``Cancelled``, and ``InputError`` if memory does not suffice.
        """
        ...


def make_predictor(model: LoadedModel, options: SegmentOptions | None = None) -> Predictor:
    """The predictor for ``model``, by the kind that its manifest names.

    ``options`` that are not given are as the model recommends.

    Raises ``InputError`` if this version cannot run that kind, and for a device or precision that
    does not exist here.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import SegmentOptions, make_predictor
    >>> from StrokeLesionSegLib.models import load_model
    >>> make_predictor(load_model(), SegmentOptions(device="cpu")).options.views is None
    False
    """
    manifest = model.manifest
    if manifest.kind not in _KINDS:
        raise InputError(
            manifest.name,
            f"this version cannot run a model of kind {manifest.kind}",
            "Update StrokeLesionSeg or choose another model",
        )
    make_ahead(manifest)
    module, name = _KINDS[manifest.kind]
    kind = getattr(importlib.import_module(f".{module}", __package__), name)
    return kind(model, (options or SegmentOptions()).for_model(manifest))
