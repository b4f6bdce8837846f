"""From a windowed canonical volume to the lesion probability and its uncertainty on that grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, check_box, whole_box
from ..brief import brief_repr
from ..errors import Cancelled, InputError
from ..models.channels import MIRROR, T1, offset_mm
from .device import is_out_of_memory
from .prepare import PreparedNetwork, on_cpu, running
from .progress import Cancel, Progress
from .views import Pass, SliceStack, passes

if TYPE_CHECKING:
    import torch

#: Networks with four downsamplings need planes that are multiples of 16.
PAD_MULTIPLE = 16


@dataclass(frozen=True, eq=False)
class SlicesPrediction:
    """What the network says about a canonical volume.

    Attributes
    ----------
    mean: (K, J, I) float32, probability of lesion, 0 outside the box.
    uncertainty: (K, J, I) float32 in [0, 0.5], 0 outside the box: standard deviation of the
        probability over the passes. With a single pass there is nothing to compare, and it is
        ``sqrt(p (1 - p))``, the standard deviation of a yes-or-no answer of that probability.
    passes: names of the passes (views and flips).
    slices: slices that the network saw, all passes together; ``skipped`` held no signal.
    batch_sizes: slices per call, by view, after any shrinking.
    prepared: the network as it ended; on the CPU if a GPU ran out of memory.
    warnings: one sentence each.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import SlicesOptions, choose_device
    >>> from StrokeLesionSegLib.inference import predict_volume, prepare_network
    >>> from StrokeLesionSegLib.networks import UNet
    >>> network = UNet(filters=(2, 4)).eval().requires_grad_(False)
    >>> prepared = prepare_network(network, ("t1",), choose_device("cpu"), "float32")
    >>> t1 = np.zeros((6, 16, 16), np.float32)
    >>> t1[:4] = 0.5
    >>> result = predict_volume(t1, prepared)
    >>> result.passes, result.slices, result.skipped
    (('axial',), 4, 2)
    """

    mean: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    passes: tuple[str, ...]
    slices: int
    skipped: int
    batch_sizes: dict[str, int]
    prepared: PreparedNetwork
    warnings: tuple[str, ...]

    __repr__ = brief_repr


@dataclass(frozen=True)
class SlicesOptions:
    """How a network runs over the slices of a volume.

    Attributes
    ----------
    views: "axial" or "triplanar".
    tta: mirrored along ``flip_axes`` too, see ``views.passes``.
    flip_axes: of "i", "j", "k".
    multiple: the planes that the network sees are grown to a multiple of this.
    batch_size: slices per call; None chooses.
    mirror: the array lies on the MNI grid, whose middle is the midsagittal plane, and a channel
        for the mirror image is filled with it.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import SlicesOptions
    >>> SlicesOptions(views="triplanar").tta
    False
    """

    views: str = "axial"
    tta: bool = False
    flip_axes: Sequence[str] = ("i",)
    multiple: int = PAD_MULTIPLE
    batch_size: int | None = None
    mirror: bool = False


def predict_volume(
    array01: NDArray[np.floating],
    prepared: PreparedNetwork,
    options: SlicesOptions | None = None,
    *,
    box: Box | None = None,
    guidance: Mapping[str, NDArray[np.floating]] | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> SlicesPrediction:
    """Run a prepared network over the slices of a canonical volume.

    Parameters
    ----------
    array01: windowed T1, (K, J, I) in RAS+, values in [0, 1].
    options: None for the axial slices as they lie.
    box: (k, j, i) slices; probability is 0 outside. The planes that the network sees are the box,
        grown to ``options.multiple`` with what surrounds it (no cost, since they need that size
        anyway) and padded with zeros beyond the array. None is the whole array.
    guidance: further channels by name, (K, J, I) each; channels that are not given are zero.
        Those of neighbouring slices (``models.channels``) need not be given.
    progress: called with ("network", slices done, slices in all), never decreasing.
    cancel: asked before every batch.

    Slices without any signal are not computed: their probability is 0. When memory runs out the
    batch is halved, and in the end the CPU takes over from a GPU, with a warning.

    Raises ``Cancelled``; ``InputError`` if memory does not suffice for a single slice;
    ``ValueError`` for a box outside the array, unknown views or channels, or guidance of another
    shape.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import SlicesOptions, choose_device
    >>> from StrokeLesionSegLib.inference import predict_volume, prepare_network
    >>> from StrokeLesionSegLib.networks import UNet
    >>> network = UNet(filters=(2, 4)).eval().requires_grad_(False)
    >>> prepared = prepare_network(network, ("t1",), choose_device("cpu"), "float32")
    >>> t1 = np.full((4, 16, 16), 0.5, np.float32)
    >>> predict_volume(t1, prepared, SlicesOptions(tta=True)).mean.shape
    (4, 16, 16)
    """
    options = options or SlicesOptions()
    array01 = np.ascontiguousarray(array01, dtype=np.float32)
    box = whole_box(array01.shape) if box is None else check_box(box, array01.shape)
    inputs = {T1: array01, **_checked_guidance(guidance, prepared.channels, array01.shape)}
    if options.mirror and MIRROR in prepared.channels:
        inputs[MIRROR] = array01[:, :, ::-1]
    todo = passes(options.views, options.tta, options.flip_axes)
    runner = _Runner(prepared, options.batch_size, progress, cancel)
    stacks = {p.view: SliceStack(array01.shape, box, p.view, options.multiple) for p in todo}
    signal = {view: _with_signal(stack, array01) for view, stack in stacks.items()}
    runner.total = sum(len(signal[p.view]) for p in todo)
    runner.tell(0)

    mean, uncertainty = (np.zeros(array01.shape, np.float32) for _ in range(2))
    average = _Average(mean[box], uncertainty[box], len(todo))
    with running():
        for one in todo:
            average.begin(one.weight)
            stack = stacks[one.view]
            target = stack.axis
            wanted = signal[one.view]
            average.add_zeros(target, np.flatnonzero(~wanted))
            runner.tell(int((~wanted).sum()))
            for indices, values in runner.run(one, stack, np.flatnonzero(wanted), inputs):
                average.add(target, indices, values)
    average.finish()
    seen = sum(int(signal[p.view].sum()) for p in todo)
    return SlicesPrediction(
        mean,
        uncertainty,
        tuple(p.name for p in todo),
        seen,
        runner.total - seen,
        runner.batch_sizes,
        runner.prepared,
        tuple(runner.warnings),
    )


class _Average:
    """Running weighted mean and variance (West 1979) over ``count`` passes, none of them kept.

    ``mean`` and ``squares`` are zeros of the box's shape, views of the results; ``finish`` turns
    ``squares`` into the uncertainty.
    """

    def __init__(self, mean: NDArray[np.float32], squares: NDArray[np.float32], count: int) -> None:
        self._count = count
        self._mean, self._squares = mean, squares
        self._before = self._weight = 0.0

    def begin(self, weight: float) -> None:
        """Start a pass; every voxel is then added exactly once."""
        self._before += self._weight
        self._weight = weight

    def add(self, axis: int, indices: NDArray[np.intp], values: NDArray[np.float32]) -> None:
        """Add ``values`` (slices, rows, columns) at ``indices`` along ``axis``."""
        mean = np.moveaxis(self._mean, axis, 0)
        if self._count == 1:
            mean[indices] = values
            return
        old = mean[indices]
        delta = values - old
        new = old + delta * np.float32(self._weight / (self._before + self._weight))
        mean[indices] = new
        np.moveaxis(self._squares, axis, 0)[indices] += np.float32(self._weight) * (
            delta * (values - new)
        )

    def add_zeros(self, axis: int, indices: NDArray[np.intp]) -> None:
        """Add probability 0 for whole slices."""
        # In the first pass the mean is 0 already and stays so.
        if self._before > 0 and indices.size:
            shape = np.moveaxis(self._mean, axis, 0).shape[1:]
            self.add(axis, indices, np.zeros((indices.size, *shape), np.float32))

    def finish(self) -> None:
        """Bring the mean into [0, 1] and turn the squares into the uncertainty, both in place."""
        mean, uncertainty = self._mean, self._squares
        np.clip(mean, 0, 1, out=mean)
        if self._count == 1:
            np.subtract(1, mean, out=uncertainty)
            uncertainty *= mean
        else:
            np.maximum(uncertainty, 0, out=uncertainty)
            uncertainty /= np.float32(self._before + self._weight)
        np.sqrt(uncertainty, out=uncertainty)


class _Runner:
    """Feeds batches to the network; shrinks them, or changes to the CPU, when memory runs out."""

    def __init__(
        self,
        prepared: PreparedNetwork,
        batch_size: int | None,
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> None:
        self.prepared = prepared
        self.total = 0
        self.warnings: list[str] = []
        self.batch_sizes: dict[str, int] = {}
        self._requested = batch_size
        self._limit: int | None = None
        self._done = 0
        self._progress = progress
        self._cancel = cancel

    def tell(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress("network", self._done, self.total)

    def run(
        self,
        one: Pass,
        stack: SliceStack,
        indices: NDArray[np.intp],
        inputs: Mapping[str, NDArray[np.float32]],
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Yield (indices, probabilities (slices, rows, columns) of the box) batch by batch."""
        planes = {name: stack.planes(array) for name, array in inputs.items()}
        beside = _Beside(stack, inputs[T1], self.prepared.channels)
        batch: torch.Tensor | None = None
        position = 0
        while position < len(indices):
            if self._cancel is not None and self._cancel():
                raise Cancelled("prediction was cancelled")
            size = min(self._size(stack), len(indices))
            chosen = indices[position : position + size]
            try:
                if batch is None:
                    batch = self.prepared.empty_batch(size, *stack.size)
                used = batch[: len(chosen)]
                beside.fill(used, chosen)
                values = self._one_batch(one, stack, used, chosen, planes)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(len(chosen), error)
                batch = None
                continue
            self.batch_sizes[one.view] = size
            position += len(chosen)
            yield chosen, values
            self.tell(len(chosen))

    def _size(self, stack: SliceStack) -> int:
        size = self._requested or self.prepared.batch_size(*stack.size)
        return size if self._limit is None else min(size, self._limit)

    def _one_batch(
        self,
        one: Pass,
        stack: SliceStack,
        batch: torch.Tensor,
        chosen: NDArray[np.intp],
        planes: Mapping[str, NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        import torch

        for name, array in planes.items():
            channel = batch[(slice(None), self.prepared.channels.index(name), *stack.inside)]
            channel.copy_(torch.from_numpy(np.ascontiguousarray(array[chosen])))
        axes = [1 + flip for flip in one.flips]
        seen = batch
        if axes:
            seen = torch.flip(batch, [1 + axis for axis in axes])
            seen = seen.contiguous(memory_format=torch.channels_last)
        probability = self.prepared.probability(seen)
        if axes:
            probability = torch.flip(probability, axes)
        return probability[(slice(None), *stack.wanted)].numpy()

    def _shrink(self, tried: int, error: BaseException) -> None:
        import torch

        device = self.prepared.device
        if device.name == "cuda":
            torch.cuda.empty_cache()
        if tried > 1:
            self._limit = tried // 2
            self.warnings.append(
                f"Memory ran out on {device.name} with {tried} slices at a time; "
                f"going on with {self._limit}."
            )
            return
        if device.is_gpu:
            self.warnings.append(
                f"Memory ran out on {device.name} even with a single slice; the CPU goes on."
            )
            self.prepared = on_cpu(self.prepared)
            self.warnings += self.prepared.warnings
            self._limit = None
            return
        raise InputError(
            "memory",
            "there is not enough of it for a single slice",
            "Close other programs and try again",
        ) from error


class _Beside:
    """Fills the channels of planes that lie beside the slices, all slices of a view."""

    def __init__(
        self, stack: SliceStack, array: NDArray[np.float32], channels: Sequence[str]
    ) -> None:
        self._inside = stack.inside
        self._planes = stack.all_planes(array)
        self._first = stack.box[stack.axis].start
        offsets = {n: offset_mm(name) for n, name in enumerate(channels)}
        self._offsets = {n: mm for n, mm in offsets.items() if mm is not None}

    def fill(self, batch: torch.Tensor, chosen: NDArray[np.intp]) -> None:
        """``chosen``: numbers of the batch's slices within the box. Zeros beyond the array."""
        import torch

        for channel, mm in self._offsets.items():
            numbers = chosen + self._first + mm
            last = len(self._planes) - 1
            there = (numbers >= 0) & (numbers <= last)
            planes = self._planes[np.clip(numbers, 0, last)] * there[:, None, None]
            target = batch[(slice(None), channel, *self._inside)]
            target.copy_(torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32)))


def _with_signal(stack: SliceStack, array: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(stack.planes(array).any(axis=(1, 2)))


def _checked_guidance(
    guidance: Mapping[str, NDArray[np.floating]] | None,
    channels: Sequence[str],
    shape: tuple[int, ...],
) -> dict[str, NDArray[np.float32]]:
    checked = {}
    for name, array in (guidance or {}).items():
        if name == T1 or name not in channels or offset_mm(name) is not None:
            raise ValueError(f"the network has no guidance channel {name!r}: {tuple(channels)}")
        if array.shape != shape:
            raise ValueError(f"guidance {name!r} has shape {array.shape}, the volume {shape}")
        checked[name] = np.asarray(array, dtype=np.float32)
    return checked
