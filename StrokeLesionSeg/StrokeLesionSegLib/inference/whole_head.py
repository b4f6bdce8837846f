"""The predictor of the volumetric network: the whole head at once, on the head box."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from ..errors import Cancelled, InputError
from .device import (
    Device,
    OnDevice,
    available_threads,
    or_on_cpu,
    peak_memory_bytes,
    release_gaps,
    torch_threads,
)
from .head_box import HEAD_BOX, HEAD_SHAPE, INNER_SHAPE
from .options import SegmentOptions
from .placing import CANONICAL, PlacedScan, TargetGrid
from .precision import PrecisionCheck, choose_precision, compare, torch_dtype
from .predictor import GridPrediction
from .progress import Cancel, Progress
from .scan_steps import intensity_window, searched_brain
from .volumetric import head_channels

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..models import LoadedModel

# Where the middle of the brain lies in the head box, for scans that could not be aligned.
_MIDDLE = (80, 98, 80)
# A number format is tried on the middle of the head, on so many voxels of 2 mm along k, j, i.
_PROBE = (32, 48, 48)
# A difference of probability this small moves a border by less than rounding the scan does, however
# few voxels there are to compare.
_HARMLESS = 0.02
# Shifts in voxels of 1 mm: an odd one puts other voxels together into one of 2 mm.
_SHIFTS = ((0, 0, 0), (1, 1, 1))


@dataclass(frozen=True, eq=False)
class HeadScan:
    """A scan as the volumetric network sees it.

    Attributes
    ----------
    placed: the scan on the canonical grid.
    image: (160, 192, 160) float32 in [0, 1] on the head box, 0 beyond the scan.
    start: voxel k, j, i of the canonical grid that became voxel 0 of the box; may be negative.
    window: intensities that became 0 and 1.
    """

    placed: PlacedScan
    image: NDArray[np.float32]
    start: tuple[int, int, int]
    window: tuple[float, float]

    __repr__ = brief_repr


@dataclass(frozen=True)
class _Format:
    """A number format that the network runs in, why, and its check on the scan."""

    name: str
    reason: str
    check: PrecisionCheck | None = None
    warning: str | None = None


class WholeHeadPredictor(OnDevice):
    """Runs the volumetric network; see ``Predictor``.

    The answer is the mean over the head and the mirrored head (``tta``: of both shifted by a voxel
    too), or over the head and the shifted head where the scan is not aligned, since only an aligned
    one can be mirrored.

    Raises ``InputError`` for a device that is not there, and for a network of another kind.
    """

    grid: TargetGrid = CANONICAL

    def __init__(self, model: LoadedModel, options: SegmentOptions) -> None:
        from ..networks.volumetric import VolumetricUNet

        if not isinstance(model.network, VolumetricUNet):
            raise InputError(
                model.manifest.name,
                "is declared volumetric, but its network is not",
                "Export the model again",
            )
        super().__init__(model, options)

    def prepare(self, scan: PlacedScan) -> HeadScan:
        """Window the intensities and cut out the head box."""
        from ..images import apply_window

        array = scan.volume.array
        window = intensity_window(scan, self.model.manifest.preprocessing)
        start = _start_of(scan)
        image = apply_window(_cut(array, start), window)
        # Beyond the scan there is nothing, whatever intensity nothing has here.
        outside = np.ones(HEAD_SHAPE, bool)
        _fitting(outside, array.shape, start)[0][...] = False
        image[outside] = 0
        return HeadScan(scan.without_values(), image, start, window)

    def searched(self, scan: HeadScan) -> NDArray[np.bool_] | None:
        """Where a lesion may lie, on the head box: near the MNI brain, if the model says so and
        the scan is aligned; else None."""
        mask = searched_brain(scan.placed, self.model.manifest.preprocessing)
        return None if mask is None else _cut(mask, scan.start)

    def predict(
        self,
        prepared: HeadScan,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> GridPrediction:
        """Mean and standard deviation over the passes, see ``Predictor.predict``."""
        furthest = 0

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal furthest
            furthest = max(furthest, done)  # the CPU begins anew
            if progress is not None:
                progress(stage, furthest, total)

        result, warned = or_on_cpu(self, lambda: self._predict(prepared, tell, cancel))
        return replace(result, warnings=(*warned, *result.warnings))

    def _predict(self, prepared: HeadScan, tell: Progress, cancel: Cancel | None) -> GridPrediction:
        threads = available_threads(self.options.threads)
        passes = self._passes(prepared.placed.in_mni)
        keep = self.searched(prepared)
        total = len(passes)
        tell("network", 0, total)
        with torch_threads(threads), self._network(prepared) as (run, format_):
            # Made when they are needed: the first pass takes the most memory.
            mean, ventricle = np.zeros((2, 1), np.float32)
            squares = np.zeros(1, np.float32)
            dtype = torch_dtype(format_.name)
            for n, (flipped, shift) in enumerate(passes):
                if cancel is not None and cancel():
                    raise Cancelled("cancelled in the network")
                lesion, fluid = self._pass(run, prepared, flipped, shift, dtype)
                fluid /= np.float32(total)
                if n == 0:
                    mean, ventricle = lesion, fluid
                else:
                    # Welford's running mean and sum of squares: no pass need be kept.
                    away = lesion - mean
                    mean += away / np.float32(n + 1)
                    np.subtract(lesion, mean, out=lesion)
                    squares = squares + np.multiply(lesion, away, out=away)
                    ventricle += fluid
                    del away
                del lesion, fluid
                release_gaps()
                tell("network", n + 1, total)
        if total > 1:
            uncertainty = squares
            np.maximum(squares, 0, out=uncertainty)
            uncertainty /= np.float32(total)
            np.sqrt(uncertainty, out=uncertainty)
        else:
            uncertainty = np.sqrt(mean * (1 - mean))
        if keep is not None:
            mean *= keep
            uncertainty *= keep
        volume = prepared.placed.volume
        details = self._details(prepared, passes, format_, threads, ventricle)
        details["brain_mask_margin_mm"] = (
            self.model.manifest.preprocessing.brain_mask_margin_mm if keep is not None else None
        )
        return GridPrediction(
            volume.with_array(_paste(mean, volume.array.shape, prepared.start)),
            volume.with_array(_paste(uncertainty, volume.array.shape, prepared.start)),
            self._warnings(format_),
            {},
            details,
        )

    def _warnings(self, format_: _Format) -> tuple[str, ...]:
        out = [] if format_.warning is None else [format_.warning]
        if self.options.views == "triplanar":
            out.append("This model sees the whole head at once: three views change nothing.")
        return tuple(out)

    def _passes(self, in_mni: bool) -> list[tuple[bool, tuple[int, int, int]]]:
        shifts = _SHIFTS if self.options.tta or not in_mni else _SHIFTS[:1]
        return [
            (flip, shift) for shift in shifts for flip in ((False, True) if in_mni else (False,))
        ]

    def _pass(
        self,
        run: Callable[[Tensor], Tensor],
        scan: HeadScan,
        flipped: bool,
        shift: tuple[int, int, int],
        dtype: torch.dtype,
    ) -> NDArray[np.float32]:
        """(2, 160, 192, 160): lesion and ventricle of one pass, where the scan is."""
        import torch

        image = torch.from_numpy(scan.image)
        if any(shift):
            image = torch.roll(image, shift, (0, 1, 2))
        mirror = scan.placed.in_mni
        p = run(head_channels(image, mirror, flipped, empty=10, dtype=dtype))
        if flipped:
            p = torch.roll(p.flip(-1), 1, -1)
        if any(shift):
            p = torch.roll(p, [-v for v in shift], (1, 2, 3))
        return p.numpy()

    def runner(self, scan: HeadScan) -> tuple[Callable[[Tensor], Tensor], str]:
        """The network as a function, for callers that ask about one head again and again.

        The function takes (1, 27, K, J, I) at 2 mm and gives lesion and ventricle, (2, 2 K, 2 J,
        2 I) probabilities on the CPU. The second value is the number format, checked on this scan.
        """
        from .prepare import running

        threads = available_threads(self.options.threads)

        def made() -> tuple[Callable[[Tensor], Tensor], _Format, Device]:
            with torch_threads(threads), self._network(scan) as (run, format_):
                return run, format_, self.device

        kept, _ = or_on_cpu(self, made)

        def ask(full: Tensor) -> Tensor:
            def asked() -> Tensor:
                nonlocal kept
                if kept[2] is not self.device:  # the CPU has taken over
                    kept = made()
                with torch_threads(threads), running():
                    return kept[0](full)

            return or_on_cpu(self, asked)[0]

        return ask, kept[1].name

    @contextmanager
    def _network(self, scan: HeadScan) -> Iterator[tuple[Callable[[Tensor], Tensor], _Format]]:
        """The network as a function of its input, in a number format checked on this scan."""
        from .prepare import running

        with running():
            name, reason = choose_precision(self._precision, self.device)
            format_ = _Format(name, reason)
            if name != "float32":
                format_ = self._checked(scan, format_)
            release_gaps()
            yield self._function(format_.name), format_

    def _function(self, precision: str) -> Callable[[Tensor], Tensor]:
        import torch

        from ..networks.volumetric import shuffle

        network = self._on_device()
        kind, dtype = self.device.name, torch_dtype(precision)

        def run(full: Tensor) -> Tensor:
            # In the network's own format at once: autocast would make a copy of its own.
            full = full.to(kind, dtype, memory_format=torch.channels_last_3d)
            reduced = precision != "float32"
            with torch.autocast(kind, dtype, enabled=reduced):
                z = network(full)
            # Here memory is highest: what is no longer needed goes, and voxels are put in order
            # while they are small.
            del full
            z = shuffle(z)[0]
            return z.float().sigmoid_().cpu()

        return run

    def _on_device(self) -> torch.nn.Module:
        import torch

        if self._placed_network is None:
            # mypy knows no memory format of modules.
            network = cast(Any, self.model.network.to(self.device.name))
            self._placed_network = network.to(memory_format=torch.channels_last_3d)
        return cast("torch.nn.Module", self._placed_network)

    def _checked(self, scan: HeadScan, format_: _Format) -> _Format:
        """The format, if it agrees with float32 on the middle of this head; else float32."""
        import torch

        started = time.perf_counter()
        k, j, i = (
            slice((n - size) // 2, (n + size) // 2)
            for n, size in zip(INNER_SHAPE, _PROBE, strict=True)
        )
        image, mirror = torch.from_numpy(scan.image), scan.placed.in_mni
        cube = head_channels(image, mirror, empty=10, within=(k, j, i))
        low = self._function(format_.name)(cube)[0].numpy()
        high = self._function("float32")(cube)[0].numpy()
        thresholds = self.model.manifest.operating_point().thresholds
        seconds = time.perf_counter() - started
        check = compare(format_.name, high, low, seconds, thresholds)
        if check.ok or check.max_difference <= _HARMLESS:
            return replace(format_, check=replace(check, ok=True))
        return _Format(
            "float32",
            f"{format_.name} failed its check",
            check,
            f"{format_.name} differs from float32 by {check.max_difference:.3g} in probability on "
            "this scan; float32 is used, which is slower.",
        )

    def _details(
        self,
        scan: HeadScan,
        passes: list[tuple[bool, tuple[int, int, int]]],
        format_: _Format,
        threads: int,
        ventricle: NDArray[np.float32],
    ) -> dict[str, Any]:
        """What happened, JSON-ready."""
        import torch

        check = None if format_.check is None else asdict(format_.check)
        if check is not None and not np.isfinite(check["max_difference"]):
            check["max_difference"] = None  # JSON knows no infinity
        peak = peak_memory_bytes()
        names = [
            ("mirrored" if flipped else "as it is") + (", shifted" if any(shift) else "")
            for flipped, shift in passes
        ]
        return {
            "device": self.device.name,
            "device_reason": self.device.reason,
            "precision": format_.name,
            "precision_reason": format_.reason,
            "precision_check": check,
            "threads": threads,
            "passes": names,
            "box_kji": [[a, a + n] for a, n in zip(scan.start, HEAD_SHAPE, strict=True)],
            "intensity_window": [float(v) for v in scan.window],
            "ventricles_ml": _ventricles_ml(scan, ventricle),
            "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
            "torch": str(torch.__version__),
            "openmp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default").lower(),
        }


def _ventricles_ml(scan: HeadScan, ventricle: NDArray[np.float32]) -> dict[str, float] | None:
    """Volumes of the lateral and third ventricles in the scan's own mL; None if not aligned."""
    if not scan.placed.in_mni:
        return None
    alignment = scan.placed.alignment
    scale = 1.0 if alignment is None else 1 / abs(np.linalg.det(alignment.matrix[:3, :3]))
    there = ventricle > 0.5
    left, right = there[:, :, :80].sum(), there[:, :, 81:].sum()
    return {
        "left": round(float(left) * scale / 1000, 2),
        "right": round(float(right) * scale / 1000, 2),
    }


def _start_of(scan: PlacedScan) -> tuple[int, int, int]:
    """The voxel of the scan that becomes the first one of the box."""
    if scan.in_mni:
        k, j, i = (s.start for s in HEAD_BOX)
        return k, j, i
    from ..images import brain_box

    if scan.canonical is None:
        middle = [n / 2 for n in scan.volume.array.shape]
    else:
        middle = [(s.start + s.stop) / 2 for s in brain_box(scan.canonical)]
    k, j, i = (round(m) - c for m, c in zip(middle, _MIDDLE, strict=True))
    return k, j, i


def _fitting(
    box: NDArray[Any], shape: tuple[int, ...], start: tuple[int, int, int]
) -> tuple[NDArray[Any], tuple[slice, slice, slice]]:
    """The part of ``box`` that an array of ``shape`` fills, and which part of the array it is."""
    inner, outer = [], []
    for a, n, m in zip(start, HEAD_SHAPE, shape, strict=True):
        low, high = max(0, a), max(max(0, a), min(m, a + n))
        outer.append(slice(low, high))
        inner.append(slice(low - a, high - a))
    return box[tuple(inner)], (outer[0], outer[1], outer[2])


def _cut(array: NDArray[Any], start: tuple[int, int, int]) -> NDArray[Any]:
    """The head box of ``array``, a copy; 0 beyond."""
    out = np.zeros(HEAD_SHAPE, array.dtype)
    target, source = _fitting(out, array.shape, start)
    target[...] = array[source]
    return out


def _paste(
    box: NDArray[np.float32], shape: tuple[int, ...], start: tuple[int, int, int]
) -> NDArray[np.float32]:
    """An array of ``shape`` that holds the head box's values where it lies, 0 elsewhere."""
    out = np.zeros(shape, np.float32)
    source, target = _fitting(box, shape, start)
    out[target] = source
    return out
