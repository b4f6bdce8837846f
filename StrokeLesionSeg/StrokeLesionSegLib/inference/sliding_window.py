"""The predictor for networks of others, nnU-Net v2's and SynthStroke's: window by window.

As the originals do it where ``SegmentOptions.exact`` is set; else only those of their windows that
matter for the brain are asked, and in a number format that is faster where it proves close to
float32. Logits are averaged, over windows by their weights, over mirrored windows and over folds;
the probability comes last.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled, InputError
from ..images.volume import Grid
from .device import (
    OnDevice,
    available_threads,
    is_out_of_memory,
    or_on_cpu,
    peak_memory_bytes,
    release_gaps,
    torch_threads,
)
from .options import SegmentOptions
from .placing import NATIVE, PlacedScan, TargetGrid
from .precision import PrecisionCheck, choose_precision, compare, torch_dtype
from .predictor import GridPrediction
from .progress import Cancel, Progress
from .window_grid import mirrorings, pad_to, weights
from .window_plan import SEEN, Tiling, WayWindows, tiling
from .window_scan import WindowScan, map_back, prepare_scan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..models import LoadedModel

# A number format is tried on a cube of about so many voxels.
_PROBE = 64
# Of a voxel that no window holds: surely no lesion.
_SURE = 20.0
# A difference of probability this small moves a border by less than rounding the scan does.
_HARMLESS = 0.02
# Voxels of a window from which on its memory counts.
_LARGE = 64**3
# Below any weight in a window.
_LEAST_WEIGHT = 1e-12


@dataclass(frozen=True)
class _WindowFormat:
    name: str
    reason: str
    check: PrecisionCheck | None = None
    warnings: tuple[str, ...] = ()


class SlidingWindowPredictor(OnDevice):
    """Runs networks of others; see ``Predictor``.

    Raises ``InputError`` for a device that is not there, and for a model that is none of windows.
    """

    def __init__(self, model: LoadedModel, options: SegmentOptions) -> None:
        settings = model.manifest.windows
        if settings is None:
            raise InputError(
                model.manifest.name,
                "its manifest does not define its windows",
                "Install the model again",
            )
        super().__init__(model, options)
        self.settings = settings
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
        most = max(1, plan.most * len(self.settings.folds))
        tell = progress or (lambda stage, done, total: None)
        tell("network", 0, most)
        done = 0

        furthest = 0

        def step(count: int = 1) -> None:
            nonlocal done, furthest
            done += count
            if done > furthest:  # where a CPU begins anew it is not
                furthest = done
                tell("network", done, most)

        def slide() -> tuple[_WindowFormat, Tensor, int]:
            nonlocal done
            done = 0
            format_ = self._format(prepared)
            return format_, *self._slide(plan, format_.name, step, cancel)

        with torch_threads(threads), running(), self._memory():
            (format_, logits, asked), warned = or_on_cpu(self, slide)
        if not plan.most:
            tell("network", 1, 1)
        probability = map_back(logits.numpy(), prepared, self.settings)
        volume = prepared.placed.volume
        return GridPrediction(
            volume.with_array(probability),
            volume.with_array(np.sqrt(probability * (1 - probability))),
            (*warned, *format_.warnings, *self._warnings()),
            {},
            self._details(plan, asked, format_, threads),
        )

    # -- what is asked ----------------------------------------------------------------------------

    @property
    def mirrored(self) -> list[tuple[int, ...]]:
        """The ways in which a window is mirrored."""
        return mirrorings(self.settings.mirror_axes if self.options.mirror else ())

    def _plan(self, scan: WindowScan) -> Tiling:
        settings = self.settings
        # MONAI mirrors the whole image, whose last window then lies elsewhere.
        ways = self.mirrored if settings.rule == "monai" else [()]
        return tiling(
            scan, settings.patch, settings.step, settings.rule, ways, exact=self.options.exact
        )

    # -- the network ------------------------------------------------------------------------------

    def _slide(
        self,
        plan: Tiling,
        precision: str,
        step: Callable[[int], None],
        cancel: Cancel | None,
    ) -> tuple[Tensor, int]:
        """(channels, A, B, C): weighted mean over the windows, the folds, and mirrored images; and
        how many windows were asked."""
        import torch

        image = torch.from_numpy(np.ascontiguousarray(plan.image))
        inner = tuple(
            slice(before, before + n)
            for n, (before, _) in zip(plan.image.shape, plan.pads, strict=True)
        )
        result: Tensor | None = None
        asked = 0
        for windows in plan.ways:
            way = windows.way
            mirrored = _with_room(image.flip(way) if way else image, plan.pads)
            mean, count = self._slide_one_way(mirrored, windows, precision, step, cancel)
            asked += count
            mean = mean[(slice(None), *inner)]
            mean = mean.flip([n + 1 for n in way]) if way else mean
            result = mean if result is None else result.add_(mean)
            del mean
        assert result is not None
        return (result.div_(len(plan.ways)) if len(plan.ways) > 1 else result), asked

    def _slide_one_way(
        self,
        image: Tensor,
        windows: WayWindows,
        precision: str,
        step: Callable[[int], None],
        cancel: Cancel | None,
    ) -> tuple[Tensor, int]:
        """All folds of one image: the windows that are asked at once, then, as long as there are
        such, those that have a say where the answers so far see something."""
        import torch

        folds = len(self.settings.folds)
        gaussian = torch.from_numpy(weights(self.settings.patch, self.settings.rule))
        flat = len(self.settings.patch) < image.ndim
        total = torch.zeros((self._channels, *image.shape))
        weight = torch.zeros(image.shape)
        now, left, asked = windows.first, windows.rest, 0
        while now:
            for number in range(folds):
                network = self._network(number)
                for window in now:
                    # What one window leaves has gaps that the next one's large blocks do not fit:
                    # a fourth of the memory.
                    if math.prod(self.settings.patch) >= _LARGE:
                        release_gaps(always=True)
                    logits = self._window(network, image[window], precision, cancel)
                    logits *= gaussian
                    total[(slice(None), *window)] += logits[:, None] if flat else logits
                    step(1)
                del network
            for window in now:
                weight[window] += gaussian
            asked += len(now)
            called = [False] * len(left)
            if left:
                mean = total / (weight * folds).clamp_min_(_LEAST_WEIGHT)
                seen = self._kept(self._filled(mean, weight == 0)) > SEEN
                called = windows.bear(left, seen, gaussian.numpy())
                del mean
            now = [w for w, is_called in zip(left, called, strict=True) if is_called]
            left = [w for w, is_called in zip(left, called, strict=True) if not is_called]
        step(folds * len(left))
        nothing = weight == 0
        total /= weight.masked_fill_(nothing, 1)
        return self._filled(total.div_(folds), nothing), asked

    def _window(
        self,
        network: Callable[[Tensor], Tensor],
        part: Tensor,
        precision: str,
        cancel: Cancel | None,
    ) -> Tensor:
        """(channels, ...): the logits of a window, the mean over ways to mirror it by nnU-Net's
        rule."""
        inside = self.mirrored if self.settings.rule == "nnunet" else [()]
        # A window of slices is one slice thick.
        part = part[None] if len(self.settings.patch) < part.ndim else part[None, None]
        total: Tensor | None = None
        for axes in inside:
            if cancel is not None and cancel():
                raise Cancelled("cancelled in the network")
            dims = [axis + 2 for axis in axes]
            answer = self._ask(network, part.flip(dims) if dims else part, precision)
            answer = answer.flip([n - 1 for n in dims]) if dims else answer
            total = answer if total is None else total.add_(answer)
        assert total is not None
        return total.div_(len(inside)) if len(inside) > 1 else total

    @property
    def _channels(self) -> int:
        """How many numbers of a voxel have to be averaged: one says all of two classes, and of
        labels that lie in one another; else all classes."""
        settings = self.settings
        return 1 if settings.activation == "sigmoid" or settings.classes <= 2 else settings.classes

    def _filled(self, logits: Tensor, nothing: Tensor) -> Tensor:
        """``logits`` that surely say no lesion where there is ``nothing``; they are changed."""
        lesion = 0 if self._channels == 1 else self.settings.lesion
        logits[lesion].masked_fill_(nothing, -_SURE)
        return logits

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
        from ..models.load import load_network
        from ..networks.joined_up import ready_to_ask

        if number == 0 and self._placed_network is not None:
            return self._placed_network
        network: Any = self.model.network
        if number:
            network = load_network(self.model.manifest, number)
        network = ready_to_ask(network, len(self.settings.patch), self.device.name)
        if number == 0:
            self._placed_network = network
        return cast("torch.nn.Module", network)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                self.model.manifest.name,
                "there is not enough memory for its windows",
                "Close other programs and try again",
            ) from error

    # -- number format ----------------------------------------------------------------------------

    def _format(self, scan: WindowScan) -> _WindowFormat:
        requested = self._precision
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

    def _details(
        self, plan: Tiling, asked: int, format_: _WindowFormat, threads: int
    ) -> dict[str, Any]:
        import torch

        check = None if format_.check is None else asdict(format_.check)
        if check is not None and not np.isfinite(check["max_difference"]):
            check["max_difference"] = None  # JSON knows no infinity
        peak = peak_memory_bytes()
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
            "windows": asked // len(plan.ways),
            "windows_skipped": (plan.skipped + plan.most - asked) // len(plan.ways),
            "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
            "torch": str(torch.__version__),
            "openmp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default").lower(),
        }


def _with_room(image: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    from torch.nn import functional

    if not any(map(sum, pads)):
        return image
    # torch counts axes from the last one.
    return functional.pad(image, [n for pair in reversed(pads) for n in pair])
