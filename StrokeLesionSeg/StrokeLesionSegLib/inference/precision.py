"""Number formats: which one a device computes natively, and whether a network bears it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .options import PRECISIONS

if TYPE_CHECKING:
    import torch

    from .device import Device

#: A format is used only if its probabilities are at most this far from those of float32 ...
MAX_DIFFERENCE = 0.05
#: ... and the masks of the probe have at least this Dice at each threshold that decides, where they
#: hold enough to count. In a mask of 50 pixels one that changes costs .01 already.
MIN_DICE = 0.98
_MIN_LESION_PIXELS = 50
# oneDNN's names for sets of instructions, from its documentation.
_WITHOUT_BFLOAT16 = {
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"
}  # fmt: skip


@dataclass(frozen=True)
class PrecisionCheck:
    """A reduced number format against float32 on the same crop of the scan.

    Attributes
    ----------
    precision: the format that was tried.
    max_difference: largest absolute difference of the probabilities; infinite if not finite.
    dice: the lowest of the masks' at the thresholds; None if the crop holds (almost) no lesion.
    thresholds: probabilities at which masks were compared.
    ok: within ``MAX_DIFFERENCE`` and ``MIN_DICE``.
    seconds: time of both runs.
    """

    precision: str
    max_difference: float
    dice: float | None
    ok: bool
    seconds: float
    thresholds: tuple[float, ...] = (0.5,)


def torch_dtype(precision: str) -> torch.dtype:
    """The torch dtype of "float32", "bfloat16" or "float16"."""
    import torch

    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[precision]


def choose_precision(requested: str, device: Device) -> tuple[str, str]:
    """Number format ("float32", "bfloat16" or "float16") for ``device``, and why, in words.

    Raises ``InputError`` for a format that the device computes very slowly or not at all.
    """
    if requested not in PRECISIONS:
        raise InputError(f"precision {requested!r}", "there is no such precision", "Use auto")
    if requested == "auto":
        if device.is_gpu:
            return "float16", "half precision on a GPU"
        if cpu_has_bfloat16():
            return "bfloat16", "this CPU computes it natively"
        return "float32", "this CPU has no native bfloat16"
    if requested == "float16" and not device.is_gpu:
        raise InputError("precision float16", "is for GPUs only", "Use auto, bfloat16 or float32")
    if requested == "bfloat16" and device.name == "mps":
        raise InputError("precision bfloat16", "is not for Apple GPUs", "Use auto or float16")
    if requested == "bfloat16" and not device.is_gpu and not cpu_has_bfloat16():
        return requested, "asked for, though this CPU only emulates it"
    return requested, "asked for"


def cpu_has_bfloat16() -> bool:
    """True if this CPU multiplies bfloat16 natively and torch's convolutions make use of it.

    x86: AVX512-BF16 or AMX through oneDNN. ARM: the bf16 extension, on Linux, where torch is
    built with a library that uses it. Emulated bfloat16 is slower than float32 and does not count:
    it takes minutes for a head where ``ONEDNN_MAX_CPU_ISA`` keeps oneDNN to older instructions.
    """
    import torch

    if not torch.backends.mkldnn.is_available() or _kept_to_older_instructions():
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        asked = [
            getattr(torch.cpu, name, None)
            for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        ]
        if asked[0] is not None:
            return any(bool(ask()) for ask in asked if ask is not None)
        return bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return "bf16" in _cpu_flags()


def _kept_to_older_instructions() -> bool:
    """Whether the user's environment forbids oneDNN the instructions that multiply bfloat16."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return limit.upper() in _WITHOUT_BFLOAT16


def _cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Flags (x86) or features (ARM) of the first CPU on Linux; empty elsewhere."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def compare(
    precision: str,
    reference: NDArray[np.float32],
    reduced: NDArray[np.float32],
    seconds: float,
    thresholds: Sequence[float] = (0.5,),
) -> PrecisionCheck:
    """Compare probabilities of ``precision`` with those of float32; both any one shape.

    ``thresholds`` are those at which the model decides; each mask is compared.
    """
    thresholds = tuple(thresholds)
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(reference - reduced).max())
    if not np.isfinite(difference):
        return PrecisionCheck(precision, float("inf"), None, False, seconds, thresholds)
    found = []
    for threshold in thresholds:
        a, b = reference >= threshold, reduced >= threshold
        pixels = int(a.sum()) + int(b.sum())
        if pixels >= 2 * _MIN_LESION_PIXELS:
            found.append(2.0 * int((a & b).sum()) / pixels)
    dice = min(found, default=None)
    ok = difference <= MAX_DIFFERENCE and (dice is None or dice >= MIN_DICE)
    return PrecisionCheck(precision, difference, dice, ok, seconds, thresholds)


def probe_crop(
    array: NDArray[np.float32], box: tuple[slice, slice, slice], size: int = 80
) -> NDArray[np.float32]:
    """Two axial crops of a canonical volume, (2, H, W) float32, to try a number format on.

    The crops are ``size`` pixels wide at most, in the middle of the box, at two and three fifths
    of its height: deep white matter, ventricles and cortex. A view or a copy of ``array``.
    """
    k, j, i = box
    height = k.stop - k.start
    levels = [k.start + (height * fifths) // 5 for fifths in (2, 3)]
    planes = []
    for part in (j, i):
        middle = (part.start + part.stop) // 2
        start = max(part.start, middle - size // 2)
        planes.append(slice(start, min(part.stop, start + size)))
    return array[
        np.ix_(
            levels,
            range(*planes[0].indices(array.shape[1])),
            range(*planes[1].indices(array.shape[2])),
        )
    ]
