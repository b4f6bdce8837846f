"""The predictor for networks of others, nnU-Net v2's and SynthStroke's: window by window.

As the originals do it where ``SegmentOptions.exact`` is set; else only windows around the brain are
asked, and in a number format that is faster where it proves close to float32. Logits are averaged,
over windows by their weights, over mirrored windows and over folds; the probability comes last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from ..errors import Cancelled, InputError
from ..images.volume import Grid
from .device import (
    available_threads,
    choose_device,
    peak_memory_bytes,
    release_gaps,
    torch_threads,
)
from .options import SegmentOptions
from .placing import NATIVE, PlacedScan, TargetGrid
from .precision import PrecisionCheck, choose_precision, compare, torch_dtype
from .predictor import GridPrediction
from .progress import Cancel, Progress
from .window_grid import Window, mirrorings, pad_to, weights, widened, windows
from .window_scan import WindowScan, map_back, prepare_scan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..models import LoadedModel

# Around the brain, in mm: an affine alignment leaves a few of them. With 6 a brain and its margin
# fit into two windows of 128 along each axis.
_MARGIN_MM = 6
# A number format is tried on a cube of about so many voxels.
_PROBE = 64
# Of a voxel that no window holds: surely no lesion.
_SURE = 20.0
# A difference of probability this small moves a border by less than rounding the scan does.
_HARMLESS = 0.02


@dataclass(frozen=True)
class _WindowFormat:
    name: str
    reason: str
    check: PrecisionCheck | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Tiling:
    """``image``: (A, B, C); ``pads``: what is added to it, once mirrored, so that it has room for
    a window; ``windows``: those that are asked, by way to mirror the whole image (one way but for
    MONAI); ``skipped``: how many are not."""

    image: NDArray[np.float32]
    pads: list[tuple[int, int]]
    windows: list[tuple[tuple[int, ...], list[Window]]]
    skipped: int

    __repr__ = brief_repr


class SlidingWindowPredictor:
    """Runs networks of others; see ``Predictor``.

    Raises ``InputError`` for a device that is not there, and for a model that is none of windows.
    """

    def __init__(self, model: LoadedModel, options: SegmentOptions) -> None:
        settings = model.manifest.windows
        if settings is None:
            raise InputError(
                model.manifest.name, "does not define its windows", "Install the model again"
            )
        self.model, self.settings = model, settings
        self.options = options.for_model(model.manifest)
        self.device = choose_device(options.device)
        self.grid: TargetGrid = NATIVE
        space = settings.space
        if space.shape is not None:
            self.grid = TargetGrid(space.name, Grid(space.shape, np.array(space.affine)))

    def prepare(self, scan: PlacedScan) -> WindowScan:
        """Axes, intensities and voxel sizes as the network was trained on."""
        return prepare_scan(scan, self.settings)

    def predict(
        self,
        prepared: WindowScan,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> GridPrediction:
        """The lesion's probability, see ``Predictor.predict``; of three or more classes it is the
        lesion's against the strongest other one, so that a half is where they are equal."""
        from .prepare import running

        threads = available_threads(self.options.threads)
        plan = self._plan(prepared)
        folds = len(self.settings.folds)
        each = sum(len(found) for _, found in plan.windows)
        tell = progress or (lambda stage, done, total: None)
        tell("network", 0, max(1, folds * each))
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            tell("network", done, folds * each)

        with torch_threads(threads), running(), self._memory():
            format_ = self._format(prepared)
            total: Tensor | None = None
            for number in range(folds):
                network = self._network(number)
                release_gaps()
                logits = self._slide(network, plan, format_.name, step, cancel)
                del network
                total = logits if total is None else total.add_(logits)
                del logits
            assert total is not None
            total /= folds
        if not each:
            tell("network", 1, 1)
        probability = map_back(total.numpy(), prepared, self.settings)
        volume = prepared.placed.volume
        return GridPrediction(
            volume.with_array(probability),
            volume.with_array(np.sqrt(probability * (1 - probability))),
            (*format_.warnings, *self._warnings()),
            {},
            self._details(plan, format_, threads),
        )

    # -- what is asked ----------------------------------------------------------------------------

    @property
    def mirrored(self) -> list[tuple[int, ...]]:
        """The ways in which a window is mirrored."""
        return mirrorings(self.settings.mirror_axes if self.options.mirror else ())

    def _plan(self, scan: WindowScan) -> _Tiling:
        settings = self.settings
        patch, rule = settings.patch, settings.rule
        pads = pad_to(scan.image.shape, patch)
        shape = [
            n + before + after for n, (before, after) in zip(scan.image.shape, pads, strict=True)
        ]
        # MONAI mirrors the whole image, whose last window then lies elsewhere.
        ways = self.mirrored if rule == "monai" else [()]
        brain = None if self.options.exact else _brain_box(scan)
        asked, skipped = [], 0
        for way in ways:
            every = list(windows(shape, patch, settings.step, rule))
            chosen = every
            if not self.options.exact:
                if brain is not None:
                    box = _padded(_mirrored_box(brain, scan.image.shape, way), pads)
                    box = widened(box, shape, patch)
                    inner = [part.stop - part.start for part in box]
                    chosen = [
                        _moved(window, box) for window in windows(inner, patch, settings.step, rule)
                    ]
                there = np.flip(scan.there, way) if way else scan.there
                chosen = [w for w in chosen if _holds(w, there, shape, pads)]
            skipped += max(0, len(every) - len(chosen))
            asked.append((way, chosen))
        return _Tiling(scan.image, pads, asked, skipped)

    # -- the network ------------------------------------------------------------------------------

    def _slide(
        self,
        network: Callable[[Tensor], Tensor],
        plan: _Tiling,
        precision: str,
        step: Callable[[], None],
        cancel: Cancel | None,
    ) -> Tensor:
        """(channels, A, B, C): weighted mean over the windows, and over mirrored images."""
        import torch

        settings = self.settings
        image = torch.from_numpy(np.ascontiguousarray(plan.image))
        inner = tuple(
            slice(before, before + n)
            for n, (before, _) in zip(plan.image.shape, plan.pads, strict=True)
        )
        gaussian = torch.from_numpy(weights(settings.patch, settings.rule))
        inside = self.mirrored if settings.rule == "nnunet" else [()]
        flat = len(settings.patch) < image.ndim
        result: Tensor | None = None
        for way, found in plan.windows:
            mirrored = _with_room(image.flip(way) if way else image, plan.pads)
            total = torch.zeros((self._channels, *mirrored.shape))
            weight = torch.zeros(mirrored.shape)
            for window in found:
                part = mirrored[window]
                part = part[None] if flat else part[None, None]
                logits: Tensor | None = None
                for axes in inside:
                    if cancel is not None and cancel():
                        raise Cancelled("cancelled in the network")
                    dims = [axis + 2 for axis in axes]
                    answer = self._ask(network, part.flip(dims) if dims else part, precision)
                    answer = answer.flip([n - 1 for n in dims]) if dims else answer
                    logits = answer if logits is None else logits.add_(answer)
                assert logits is not None
                logits *= gaussian / len(inside)
                total[(slice(None), *window)] += logits[:, None] if flat else logits
                weight[window] += gaussian[None] if flat else gaussian
                step()
            nothing = weight == 0
            total /= weight.masked_fill_(nothing, 1)
            self._fill(total, nothing)
            total = total[(slice(None), *inner)]
            total = total.flip([n + 1 for n in way]) if way else total
            result = total if result is None else result.add_(total)
        assert result is not None
        return result.div_(len(plan.windows)) if len(plan.windows) > 1 else result

    @property
    def _channels(self) -> int:
        """How many numbers of a voxel have to be averaged: one says all of two classes, and of
        labels that lie in one another; else all classes."""
        settings = self.settings
        return 1 if settings.activation == "sigmoid" or settings.classes <= 2 else settings.classes

    def _fill(self, logits: Tensor, nothing: Tensor) -> None:
        lesion = 0 if self._channels == 1 else self.settings.lesion
        logits[lesion].masked_fill_(nothing, -_SURE)

    def _ask(self, network: Callable[[Tensor], Tensor], part: Tensor, precision: str) -> Tensor:
        """(channels, ...) float32 on the CPU, of a window (1, 1, ...)."""
        import torch

        kind, dtype, settings = self.device.name, torch_dtype(precision), self.settings
        last = torch.channels_last if part.ndim == 4 else torch.channels_last_3d
        part = part.to(kind, dtype, memory_format=last)
        with torch.autocast(kind, dtype, enabled=precision != "float32"):
            logits = network(part)[0]
        if settings.activation == "sigmoid" or settings.classes == 1:
            kept = logits[settings.lesion : settings.lesion + 1].float()
        elif settings.classes == 2:
            kept = logits[settings.lesion].float() - logits[1 - settings.lesion].float()
            kept = kept[None]
        else:
            kept = logits.float()
        return kept.contiguous().cpu()

    def _network(self, number: int) -> torch.nn.Module:
        """A fold's network on the device; only the first one stays in memory."""
        import torch

        from ..models.load import load_network

        kept = getattr(self, "_first", None)
        if number == 0 and kept is not None:
            return cast("torch.nn.Module", kept)
        network: Any = self.model.network
        if number:
            network = load_network(self.model.manifest, number)
        last = torch.channels_last if len(self.settings.patch) == 2 else torch.channels_last_3d
        network = network.to(self.device.name).to(memory_format=last)
        if number == 0:
            self._first = network
        return cast("torch.nn.Module", network)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        import torch

        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise InputError(
                self.model.manifest.name,
                "there is too little memory for its windows",
                "Close other programs, or use --device cpu",
            ) from error

    # -- number format ----------------------------------------------------------------------------

    def _format(self, scan: WindowScan) -> _WindowFormat:
        requested = self.options.precision
        if self.options.exact and requested == "auto":
            return _WindowFormat("float32", "the exact answer is asked for")
        name, reason = choose_precision(requested, self.device)
        if name == "float32":
            return _WindowFormat(name, reason)
        started = time.perf_counter()
        network, cube = self._network(0), self._probe(scan)
        high, low = (self._kept(self._ask(network, cube, p)) for p in ("float32", name))
        thresholds = self.model.manifest.operating_point().thresholds
        check = compare(name, high, low, time.perf_counter() - started, thresholds)
        if check.ok or check.max_difference <= _HARMLESS:
            return _WindowFormat(name, reason, check)
        warning = (
            f"{name} differs from float32 by {check.max_difference:.3g} in probability on this "
            "scan; float32 is used, which is slower."
        )
        return _WindowFormat("float32", f"{name} failed its check", check, (warning,))

    def _probe(self, scan: WindowScan) -> Tensor:
        """A cube in the middle of the brain, or of the image: (1, 1, ...)."""
        import torch

        network: Any = self.model.network
        steps = np.prod(np.array(network.strides), axis=0)
        patch = self.settings.patch
        sizes = [
            min(width, -(-_PROBE // int(s)) * int(s)) for width, s in zip(patch, steps, strict=True)
        ]
        image = scan.image
        middle = (
            [n / 2 for n in image.shape] if scan.brain is None else scan.brain.mean(axis=0).tolist()
        )
        sizes = [1] * (image.ndim - len(sizes)) + sizes
        part = image
        for axis, (size, centre) in enumerate(zip(sizes, middle, strict=True)):
            start = int(np.clip(round(centre) - size // 2, 0, max(0, image.shape[axis] - size)))
            part = part.take(range(start, min(image.shape[axis], start + size)), axis)
        part = np.pad(part, pad_to(part.shape, sizes))
        cube = torch.from_numpy(np.ascontiguousarray(part))
        return cube[None] if len(patch) < image.ndim else cube[None, None]

    def _kept(self, logits: Tensor) -> NDArray[np.float32]:
        from .window_scan import kept_probability

        return kept_probability(logits.numpy(), self.settings)

    # -- what is told -----------------------------------------------------------------------------

    def _warnings(self) -> tuple[str, ...]:
        if self.options.views == "triplanar":
            return ("This model has windows of its own: three views change nothing.",)
        return ()

    def _details(self, plan: _Tiling, format_: _WindowFormat, threads: int) -> dict[str, Any]:
        import torch

        check = None if format_.check is None else asdict(format_.check)
        if check is not None and not np.isfinite(check["max_difference"]):
            check["max_difference"] = None  # JSON knows no infinity
        peak = peak_memory_bytes()
        asked = sum(len(found) for _, found in plan.windows)
        return {
            "device": self.device.name,
            "device_reason": self.device.reason,
            "precision": format_.name,
            "precision_reason": format_.reason,
            "precision_check": check,
            "threads": threads,
            "exact": self.options.exact,
            "space": self.settings.space.in_words,
            "folds": list(self.settings.folds),
            "mirrored": len(self.mirrored),
            "windows": asked // len(plan.windows),
            "windows_skipped": plan.skipped // len(plan.windows),
            "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
            "torch": str(torch.__version__),
            "openmp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default").lower(),
        }


# ------------------------------------------------------------------ boxes


def _with_room(image: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    from torch.nn import functional

    if not any(map(sum, pads)):
        return image
    # torch counts axes from the last one.
    return functional.pad(image, [n for pair in reversed(pads) for n in pair])


def _brain_box(scan: WindowScan) -> Window | None:
    """Slices of the image around the brain; None where nobody knows where it lies."""
    if scan.brain is None:
        return None
    box = []
    for axis, size in enumerate(scan.image.shape):
        margin = _MARGIN_MM / scan.step_mm[axis]
        low, high = scan.brain[:, axis].min() - margin, scan.brain[:, axis].max() + margin + 1
        start, stop = int(max(0, np.floor(low))), int(min(size, np.ceil(high)))
        if start >= stop:
            return None  # the scan shows no brain there: its alignment cannot be right
        box.append(slice(start, stop))
    return tuple(box)


def _padded(box: Window, pads: Sequence[tuple[int, int]]) -> Window:
    return tuple(
        slice(part.start + before, part.stop + before)
        for part, (before, _) in zip(box, pads, strict=True)
    )


def _moved(window: Window, box: Window) -> Window:
    return tuple(
        slice(w.start + b.start, w.stop + b.start) for w, b in zip(window, box, strict=True)
    )


def _mirrored_box(box: Window, shape: Sequence[int], axes: Sequence[int]) -> Window:
    return tuple(
        slice(n - part.stop, n - part.start) if axis in axes else part
        for axis, (part, n) in enumerate(zip(box, shape, strict=True))
    )


def _holds(
    window: Window,
    there: NDArray[np.bool_],
    shape: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> bool:
    """Whether a window of the padded image holds something; ``there`` says it of the scan's own
    voxels, which may be larger or smaller."""
    parts = []
    for w, size, n, (before, after) in zip(window, shape, there.shape, pads, strict=True):
        scale = n / (size - before - after)
        low, high = (w.start - before) * scale, (w.stop - before) * scale
        parts.append(slice(max(0, int(low)), max(0, int(np.ceil(high)))))
    return bool(there[tuple(parts)].any())
