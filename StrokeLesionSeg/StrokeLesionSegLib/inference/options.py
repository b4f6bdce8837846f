"""What the user may choose about a run of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..models import Manifest

VIEW_SETS = ("axial", "triplanar")
ALIGNMENTS = ("auto", "mni", "none")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class SegmentOptions:
    """Choices for ``segment_volume``.

    Attributes
    ----------
    views: of a model of slices: "axial" (one pass) or "triplanar" (axial, coronal and sagittal
        slices, averaged); None takes what the model recommends.
    tta: average over further passes (test-time augmentation): of slices over mirrored ones, of a
        whole head that is aligned over shifted ones; it is mirrored in any case.
    align: "auto" aligns to MNI152 unless the scan lies on its grid already; "mni" always aligns;
        "none" never. A failed alignment is a warning, and the scan is used as it lies.
    device: "auto" takes a GPU where there is one; a device that is asked for has to exist.
    precision: "auto" takes the fastest number format that the device computes natively and that
        agrees with float32 on a crop of the scan.
    batch_size: of a model of slices: how many a call of the network takes; None picks by their
        size.
    crop: of a model of slices: run only on the box that holds the brain.
    threads: CPU threads; None takes what this process may use.
    exact: of a model of others: every window as its authors ask it, in float32; no brain box.
    mirror: of a model of others: the mean over mirrored windows, if it was trained for them.

    Raises ``InputError`` for values that do not exist.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> SegmentOptions(views="triplanar", tta=True).align
    'auto'
    >>> SegmentOptions(device="abacus")
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: device 'abacus': there is no such choice...
    """

    views: str | None = None
    tta: bool = False
    align: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    crop: bool = True
    threads: int | None = None
    exact: bool = False
    mirror: bool = True

    def __post_init__(self) -> None:
        if self.views is not None:
            _one_of("views", self.views, VIEW_SETS)
        _one_of("align", self.align, ALIGNMENTS)
        _one_of("device", self.device, DEVICES)
        _one_of("precision", self.precision, PRECISIONS)
        _positive("batch size", self.batch_size, 1024)
        _positive("threads", self.threads, 4096)
        for name in ("tta", "crop", "exact", "mirror"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(name, "is neither True nor False", "Give one of the two")

    def for_model(self, manifest: Manifest) -> SegmentOptions:
        """The same with the views that ``manifest`` recommends, if none were asked for."""
        return self if self.views else replace(self, views=manifest.inference.views)


def _one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} {value!r}", "there is no such choice", f"Use {_either(allowed)}")


def _positive(name: str, value: Any, most: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"{name} {value!r}", "is out of range", f"Give a number from 1 to {most}")


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
