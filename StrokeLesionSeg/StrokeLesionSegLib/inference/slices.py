"""The predictor of 2D models: slice by slice, along one view or three."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, whole_box
from ..brief import brief_repr
from .device import OnDevice, available_threads, or_on_cpu, peak_memory_bytes, torch_threads
from .placing import CANONICAL, PlacedScan, TargetGrid
from .predictor import GridPrediction
from .progress import Cancel, Progress
from .scan_steps import intensity_window, searched_brain

if TYPE_CHECKING:
    from .predict import SlicesPrediction
    from .prepare import PreparedNetwork


@dataclass(frozen=True, eq=False)
class WindowedScan:
    """A scan as the slices' network sees it.

    Attributes
    ----------
    placed: the scan on the canonical grid; its array may have been windowed in place.
    array: (K, J, I) float32 in [0, 1] there.
    box: the part of it to search.
    window: intensities that became 0 and 1.
    """

    placed: PlacedScan
    array: NDArray[np.float32]
    box: Box
    window: tuple[float, float]

    __repr__ = brief_repr


class SlicesPredictor(OnDevice):
    """Runs a 2D model over the slices of the canonical grid; see ``Predictor``.

    Raises ``InputError`` for a device that is not there.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import SlicesPredictor
    >>> SlicesPredictor.grid.name
    'canonical'
    """

    grid: TargetGrid = CANONICAL

    def prepare(self, scan: PlacedScan) -> WindowedScan:
        """Window the intensities and find the box that holds the brain."""
        from ..images import apply_window, brain_box

        array = scan.volume.array
        window = intensity_window(scan, self.model.manifest.preprocessing)
        # The array is ours alone: windowing in place saves a copy of the volume.
        windowed = apply_window(array, window, out=array if array.flags.writeable else None)
        if self.options.crop and scan.canonical is not None:
            box = brain_box(scan.canonical)
        else:
            box = whole_box(windowed.shape)
        return WindowedScan(scan, windowed, box, window)

    def network_for(self, windowed: WindowedScan) -> PreparedNetwork:
        """The network on its device, in a number format that was checked on this scan."""
        from .precision import probe_crop
        from .prepare import prepare_network

        manifest = self.model.manifest
        return prepare_network(
            self.model.network,
            manifest.channels,
            self.device,
            self._precision,
            probe=probe_crop(windowed.array, windowed.box),
            thresholds=manifest.operating_point(self.options.views).thresholds,
        )

    def searched(self, windowed: WindowedScan) -> NDArray[np.bool_] | None:
        """Where a lesion may lie: near the MNI brain, if the model says so and the scan is
        aligned; else None."""
        return searched_brain(windowed.placed, self.model.manifest.preprocessing)

    def predict(
        self,
        prepared: WindowedScan,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> GridPrediction:
        """Mean and standard deviation over views and flips, see ``Predictor.predict``."""
        from .predict import SlicesOptions, predict_volume

        manifest, options = self.model.manifest, self.options
        threads = available_threads(options.threads)
        with torch_threads(threads):
            started = time.perf_counter()
            network, warned = or_on_cpu(self, lambda: self.network_for(prepared))
            seconds = time.perf_counter() - started
            how = SlicesOptions(
                views=options.views or manifest.inference.views,
                tta=options.tta,
                flip_axes=manifest.inference.flip_axes,
                multiple=manifest.preprocessing.pad_multiple,
                batch_size=options.batch_size,
                mirror=prepared.placed.in_mni,
            )
            result = predict_volume(
                prepared.array, network, how, box=prepared.box, progress=progress, cancel=cancel
            )
        keep = self.searched(prepared)
        if keep is not None:
            for array in (result.mean, result.uncertainty):
                array *= keep
        volume = prepared.placed.volume
        details = _details(result, network, prepared, threads)
        margin = manifest.preprocessing.brain_mask_margin_mm
        details["brain_mask_margin_mm"] = margin if keep is not None else None
        return GridPrediction(
            volume.with_array(result.mean),
            volume.with_array(result.uncertainty),
            (*warned, *network.warnings, *result.warnings),
            {"prepare": seconds},
            details,
        )


def _details(
    result: SlicesPrediction, prepared: PreparedNetwork, scan: WindowedScan, threads: int
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
        "box_kji": [[int(part.start), int(part.stop)] for part in scan.box],
        "intensity_window": [float(v) for v in scan.window],
        "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
        "torch": str(torch.__version__),
        "openmp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default").lower(),
    }
