"""What an adapting network is shown: corrected scans, lesions carried from one of them into another
(Zhang et al. 2021, "CarveMix"), and strokes drawn into the same scans outside of their lesions and
into the template, so that it learns the one and does not forget the other.

A dozen scans hold few lesions. Carried over, each of them is seen in every head of its site, with
the look that scanner, disease and rater have there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from ...lesions.scorers.common import dice
from ..heads import load_head
from ..strokes.anatomy import Anatomy, Head, mirrored
from ..strokes.fields import chance, choose, dilate, gaussian
from ..strokes.head import Sample, StrokeFrequencies, scan_of, simulate_head
from ..strokes.shapes import MaskBank

# Shares of what is shown; the rest is the template.
_CORRECTED, _OWN = 0.65, 0.2
# A corrected scan gets the lesions of up to so many others, too: more to learn from in one step.
_CARRIED = 3
_AS_IT_IS = StrokeFrequencies(lesion=0.0, mimics=0.0)
_DRAWN = StrokeFrequencies(lesion=1.0, mimics=0.7)
_TEMPLATE = StrokeFrequencies(lesion=0.65, mimics=1.0)
# A corrected scan keeps its scanner's look this often.
_SITE = 0.6
# Strokes of a regression scan together; drawn again where there is less, in mL.
_LEAST_ML = 1.0
# A lesion is not carried nearer than this to another or to a ventricle, in mm.
_APART = 4
# Within this of a user's own lesion a regression scan is not scored, in mm.
_MARGIN = 3


class Mixture:
    """Samples that follow from ``seed`` and their number alone.

    ``heads``: files of the user's heads that are learnt from. ``template``: a head without stroke.
    ``bank``: the corrected masks, which lend their shapes.
    """

    def __init__(
        self, heads: Sequence[Path], template: Head, bank: MaskBank, anatomy: Anatomy, seed: int
    ) -> None:
        self.heads, self.template, self.bank = tuple(heads), template, bank
        self.anatomy, self.seed = anatomy, seed

    def sample(self, step: int) -> Sample:
        """What step ``step`` is shown."""
        g = Generator().manual_seed(self.seed * 1_000_003 + step)
        r = float(torch.rand((), generator=g))
        if r >= _CORRECTED + _OWN:
            drawn = simulate_head(g, self.template, self.anatomy, self.bank, _TEMPLATE)
            return replace(scan_of(g, drawn, self.anatomy), taught=True)
        head = load_head(self.heads[choose(g, len(self.heads))])
        recipe = _AS_IT_IS if r < _CORRECTED else _DRAWN
        for _ in range(choose(g, _CARRIED + 1) if recipe is _AS_IT_IS else 0):
            head = carried(g, load_head(self.heads[choose(g, len(self.heads))]), head)
        drawn = simulate_head(g, head, self.anatomy, self.bank, recipe)
        scanner = not chance(g, _SITE)
        return replace(scan_of(g, drawn, self.anatomy, scanner), taught=recipe is _DRAWN)

    def samples(self, first: int) -> Iterator[Sample]:
        """Endless samples from step ``first`` on, the next one drawn while one is learnt from."""
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.sample, first)
            step = first
            while True:
                step += 1
                sample = waiting.result()
                waiting = pool.submit(self.sample, step)
                yield sample


def carried(g: Generator, source: Head, target: Head) -> Head:
    """``target`` with the lesions of ``source`` in their places, or in the mirrored ones.

    Both lie on the head box in one window, so that tissue meets its like. Grey values fade over
    about 2 mm around a lesion. What would lie in a ventricle or lesion of the target, or within 4
    mm of one, is left out.
    """
    if source.lesions is None or target.lesions is None:
        raise ValueError("lesions are carried between heads that have some")
    lesions, image = (
        torch.from_numpy(np.ascontiguousarray(a)) for a in (source.lesions, source.image)
    )
    if chance(g, 0.5):
        lesions, image = mirrored(lesions), mirrored(image)
    there = torch.from_numpy(target.lesions)
    fluid = torch.from_numpy(target.ventricles)
    taken = dilate((there | fluid).float(), _APART) > 0
    new = lesions & ~taken
    if not new.any():
        return target
    weight = gaussian(dilate(new.float(), 1), 1.0) * ~dilate(there.float(), 1).bool()
    own = torch.from_numpy(target.image).float()
    mixed = torch.lerp(own, image.float(), weight.clamp(0, 1)).round().clamp(0, 255)
    return replace(target, image=mixed.to(torch.uint8).numpy(), lesions=(there | new).numpy())


def bank_of(heads: Sequence[Path]) -> MaskBank:
    """The lesions of heads as shapes to draw from."""
    return MaskBank.of([m for m in (load_head(p).lesions for p in heads) if m is not None])


class RegressionScan:
    """A simulated scan that a model must not get worse on.

    ``kind``: "own", "template" or "healthy". ``image``: (160, 192, 160) uint8. ``lesions``,
    ``counts``: bool; what is outside of ``counts`` is not scored.
    """

    def __init__(
        self,
        kind: str,
        image: NDArray[np.uint8],
        lesions: NDArray[np.bool_],
        counts: NDArray[np.bool_],
    ) -> None:
        self.kind, self.image = kind, image
        # As bits: a dozen of these lie in memory while the network learns.
        self._bits = np.packbits(lesions), np.packbits(counts)

    @property
    def lesions(self) -> NDArray[np.bool_]:
        return np.unpackbits(self._bits[0]).reshape(self.image.shape).astype(bool)

    @property
    def counts(self) -> NDArray[np.bool_]:
        return np.unpackbits(self._bits[1]).reshape(self.image.shape).astype(bool)

    def dice(self, mask: NDArray[np.bool_]) -> float:
        """Of a mask on the head box with what is true."""
        counts = self.counts
        return dice(mask & counts, self.lesions & counts)

    def found_ml(self, mask: NDArray[np.bool_]) -> float:
        """How much of a mask counts."""
        return float((mask & self.counts).sum()) / 1000


def regression_scan(mixture: Mixture, kind: str, number: int, seed: int) -> RegressionScan:
    """Scan ``number`` of a ``kind``, fixed by ``seed``; of heads that are learnt from."""
    from scipy.ndimage import binary_dilation

    g = Generator().manual_seed(seed * 7_919_001 + number * 13 + len(kind))
    own = kind == "own"
    head = mixture.template
    if own:
        head = load_head(mixture.heads[number % len(mixture.heads)])
    recipe = StrokeFrequencies(lesion=0.0 if kind == "healthy" else 1.0, mimics=1.0)
    for _ in range(20):
        drawn = simulate_head(g, head, mixture.anatomy, mixture.bank, recipe)
        new = drawn.lesions if drawn.own is None else drawn.lesions & ~drawn.own
        if kind == "healthy" or float(new.sum()) / 1000 >= _LEAST_ML:
            break
    scan = scan_of(g, drawn, mixture.anatomy, scanner=not own)
    lesions = scan.lesions.numpy()
    counts = np.ones(lesions.shape, bool)
    if scan.own is not None:
        counts = ~binary_dilation(scan.own.numpy(), iterations=_MARGIN)
    image = np.round(scan.image.numpy().clip(0, 1) * 255).astype(np.uint8)
    return RegressionScan(kind, image, lesions, counts)
