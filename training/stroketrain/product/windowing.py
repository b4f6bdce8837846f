"""The intensity window on the training device: what ``images.window_range`` does, in torch."""

from __future__ import annotations

import torch
from StrokeLesionSegLib.images.window import _AIR_FRACTION, _BINS, _OTSU_BINS
from torch import Tensor

from ..data.reading import WINDOW, WINDOW_LOW_OF


def percentile(values: Tensor, q: float) -> Tensor:
    """The ``q``-th percentile of all values, interpolated between neighbours as numpy does."""
    ordered = values.flatten().sort().values
    at = q / 100 * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], at - low)


def _otsu(counts: Tensor, low: float, high: float) -> float:
    edges = torch.linspace(low, high, len(counts) + 1, dtype=torch.float64, device=counts.device)
    centres = 0.5 * (edges[:-1] + edges[1:])
    below = counts.cumsum(0)[:-1]
    above = counts.sum() - below
    first = (counts * centres).cumsum(0)
    gap = first[:-1] / below - (first[-1] - first[:-1]) / above
    between = torch.where((below > 0) & (above > 0), below * above * gap**2, 0.0)
    return float(edges[1 + int(between.argmax())])


def foreground_threshold(values: Tensor) -> float:
    """As ``images.window.foreground_threshold``; float values, all finite."""
    low, high = float(values.min()), float(values.max())
    inside = values[values > low] if float((values == low).float().mean()) > 0.05 else values
    counts = torch.histc(inside, _BINS, low, high).double()
    step = (high - low) / _BINS
    top = low + step * (1 + int(torch.searchsorted(counts.cumsum(0), 0.995 * len(inside))))
    kept = inside[(inside >= low) & (inside <= top)]
    return low + _AIR_FRACTION * (
        _otsu(torch.histc(kept, _OTSU_BINS, low, top).double(), low, top) - low
    )


def window_to_bytes(volume: Tensor) -> Tensor:
    """A T1 (K, J, I) of any real type as the cache keeps it: windowed, 0..255 uint8.

    Stays on the volume's device. Agrees with the engine's window to one step of 255 or so, since
    its histograms are float32. A volume of one value gives zeros.
    """
    values = volume.float().flatten()
    if float(values.min()) == float(values.max()):
        return torch.zeros_like(volume, dtype=torch.uint8)
    threshold = foreground_threshold(values)
    inside = values[values > threshold]
    bottom = percentile(values if WINDOW_LOW_OF == "volume" else inside, WINDOW[0])
    top = percentile(inside, WINDOW[1])
    if not bool(bottom < top):
        bottom, top = values.min(), inside.max()
    scaled = ((volume.float() - bottom) / (top - bottom)).clamp(0, 1)
    return (scaled * 255).round().to(torch.uint8)
