"""A network made ready to run: folded, in the device's number format, checked against float32."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from .device import Device
from .fold import fold_batch_norms
from .precision import PrecisionCheck, choose_precision, compare, torch_dtype

if TYPE_CHECKING:
    import torch
    from torch import nn

# The largest activations of a batch (9 MB in bfloat16, twice that where skips are joined) should
# stay in the last-level cache, and below the size from which the C library returns memory to the
# system after every use (glibc: 32 MiB): beyond either, everything between the convolutions takes
# several times as long. A smaller batch loses time at the deepest, smallest levels.
_CPU_BATCH_VALUES = 4_500_000
_GPU_BATCH = 32
_MAX_CPU_BATCH = 32


@dataclass(frozen=True, eq=False)
class PreparedNetwork:
    """A network on its device, in its number format.

    Attributes
    ----------
    network: module in evaluation mode, channels last; (N, C, H, W) to logits (N, 1, H, W).
    source: the float32 network on the CPU that it was made from.
    channels: names of the input channels in order; "t1" is one of them.
    device, precision: where it runs and in which format; ``reason`` says why this format.
    check: comparison with float32; None if it runs in float32 anyway or was not compared.
    warnings: one sentence each.
    requested, probe, thresholds: what ``prepare_network`` was given, to do it again elsewhere.
    width: feature maps at full resolution, for choosing the batch size.
    float32_stem: in bfloat16, the network's first block computes in float32, and so is its input.
        Eight bits are too few for T1 intensities and the weights that they meet: nearly all of
        bfloat16's error in the mask comes from there, and hardly any of the work is there.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.inference import choose_device, prepare_network
    >>> from StrokeLesionSegLib.networks import UNet
    >>> network = UNet(filters=(2, 4)).eval().requires_grad_(False)
    >>> prepared = prepare_network(network, ("t1",), choose_device("cpu"), "float32")
    >>> prepared.precision, prepared.empty_batch(2, 16, 16).shape
    ('float32', torch.Size([2, 1, 16, 16]))
    """

    network: nn.Module
    source: nn.Module
    channels: tuple[str, ...]
    device: Device
    precision: str
    reason: str
    check: PrecisionCheck | None = None
    warnings: tuple[str, ...] = ()
    requested: str = "auto"
    probe: NDArray[np.float32] | None = None
    thresholds: tuple[float, ...] = (0.5,)
    width: int = 32
    float32_stem: bool = False
    dtype: torch.dtype = field(init=False)

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        precision = "float32" if self.float32_stem else self.precision
        object.__setattr__(self, "dtype", torch_dtype(precision))

    def empty_batch(self, size: int, rows: int, columns: int) -> torch.Tensor:
        """Zeros (size, channels, rows, columns) in host memory, channels last."""
        import torch

        shape = (size, len(self.channels), rows, columns)
        batch = torch.empty(shape, dtype=self.dtype, memory_format=torch.channels_last)
        return batch.zero_()

    def probability(self, batch: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, H, W), float32 in host memory, of a batch (N, C, H, W).

        Call it within :func:`running`. Raises torch's out-of-memory errors.
        """
        logits = self.network(batch.to(self.device.name))
        if logits.ndim != 4 or logits.shape[1] != 1:
            raise ValueError(f"the network returns {tuple(logits.shape)}, not (N, 1, H, W)")
        return logits[:, 0].float().sigmoid().cpu()

    def batch_size(self, rows: int, columns: int) -> int:
        """A good number of slices of this size for one call."""
        if self.device.is_gpu:
            return _GPU_BATCH
        values = max(1, self.width) * rows * columns
        return int(min(max(1, _CPU_BATCH_VALUES // values), _MAX_CPU_BATCH))


def prepare_network(
    network: nn.Module,
    channels: Sequence[str],
    device: Device,
    precision: str = "auto",
    probe: NDArray[np.float32] | None = None,
    thresholds: Sequence[float] = (0.5,),
) -> PreparedNetwork:
    """Fold, convert and move ``network`` (float32, evaluation mode, on the CPU; left as it is).

    ``probe`` (N, H, W), float32 in [0, 1], is a crop of T1 slices: a format other than float32 is
    compared with float32 on it, and given up with a warning if they differ by more than
    ``precision.MAX_DIFFERENCE``, or their masks at ``thresholds`` too much. H and W are cut to
    multiples of 16 here.

    Raises ``InputError`` for a format that the device does not have, ``ValueError`` for channels
    without "t1".

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import choose_device, prepare_network
    >>> from StrokeLesionSegLib.networks import UNet
    >>> network = UNet(filters=(2, 4)).eval().requires_grad_(False)
    >>> prepare_network(network, ("t1",), choose_device("cpu"), "float32").check is None
    True
    """
    channels = tuple(channels)
    if "t1" not in channels:
        raise ValueError(f"a network without a t1 channel: {channels}")
    name, reason = choose_precision(precision, device)
    folded = fold_batch_norms(network)
    width = _full_resolution_width(network)

    def convert(to: str, why: str, **facts: object) -> PreparedNetwork:
        import copy

        import torch
        from torch import nn

        # The folded network is kept in float32 until the check is over.
        module = folded if to == "float32" else copy.deepcopy(folded)
        module = module.to(device.name, torch_dtype(to))
        # A GPU's float16 has eleven bits, which is enough.
        exact_stem = to == "bfloat16" and isinstance(getattr(folded, "stem", None), nn.Sequential)
        if exact_stem:
            stem = copy.deepcopy(folded.stem).to(device.name)
            module.stem = _stem_in_float32(stem, torch_dtype(to))  # type: ignore[arg-type]
        last: Any = module  # torch's types leave out memory_format
        module = last.to(memory_format=torch.channels_last)
        return PreparedNetwork(
            module,
            network,
            channels,
            device,
            to,
            why,
            requested=precision,
            probe=probe,
            thresholds=tuple(thresholds),
            width=width,
            float32_stem=exact_stem,
            **facts,  # type: ignore[arg-type]
        )

    if name == "float32":
        return convert("float32", reason)
    reduced = convert(name, reason)
    if probe is None:
        return reduced
    started = time.perf_counter()
    low = _run_probe(reduced, probe)
    exact = convert("float32", "float32")
    high = _run_probe(exact, probe)
    check = compare(name, high, low, time.perf_counter() - started, thresholds)
    if check.ok:
        return replace(reduced, check=check)
    warning = (
        f"{name} differs from float32 by {check.max_difference:.3g} in probability on this scan; "
        "float32 is used, which is slower."
    )
    return replace(exact, reason=f"{name} failed its check", check=check, warnings=(warning,))


def on_cpu(prepared: PreparedNetwork) -> PreparedNetwork:
    """The same network on the CPU, for when a GPU gives up; checked as it was there.

    In the format that was asked for, if a CPU has it.
    """
    device = Device("cpu", f"{prepared.device.name} ran out of memory")
    wanted = "auto" if prepared.requested == "float16" else prepared.requested
    return prepare_network(
        prepared.source, prepared.channels, device, wanted, prepared.probe, prepared.thresholds
    )


@contextmanager
def running() -> Iterator[None]:
    """No gradients, and on CUDA only algorithms that give the same result every time."""
    import torch

    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield


def _stem_in_float32(stem: nn.Module, dtype: torch.dtype) -> nn.Module:
    """``stem``, whose answer goes on as ``dtype``."""
    from torch import nn

    class Float32Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = stem

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.stem(x).to(dtype)

    return Float32Stem()


def _run_probe(prepared: PreparedNetwork, probe: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    count, rows, columns = probe.shape
    rows, columns = (max(16, size - size % 16) for size in (rows, columns))
    crop = probe[:, :rows, :columns]
    with running():
        batch = prepared.empty_batch(count, rows, columns)
        t1 = batch[:, prepared.channels.index("t1"), : crop.shape[1], : crop.shape[2]]
        t1.copy_(torch.from_numpy(np.ascontiguousarray(crop)))
        return prepared.probability(batch).numpy()


def _full_resolution_width(network: nn.Module) -> int:
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.out_channels
    return 32
