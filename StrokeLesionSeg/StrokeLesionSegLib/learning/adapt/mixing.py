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

from ...boxes import bounding_box, widen
from ...lesions.scorers.common import dice
from ..heads import load_head
from ..strokes.anatomy import Anatomy, Head, mirrored
from ..strokes.fields import chance, choose, dilate, gaussian
from ..strokes.head import Sample, SimulatedHead, StrokeFrequencies, scan_of, simulate_head
from ..strokes.shapes import MaskBank

# Share of the corrected scans in what is shown; in the rest strokes are drawn.
_CORRECTED = 0.5
# A corrected scan gets the lesions of up to so many others, too: more to learn from in one step.
_CARRIED = 3
_DRAWN = StrokeFrequencies(lesion=1.0, mimics=0.7)
# Two thirds of them healthy, with much that only looks like a stroke: nothing else says what is not
# to be marked, and a network that looks for what it missed marks that first.
_TEMPLATE = StrokeFrequencies(lesion=0.35, mimics=1.5)
# A corrected scan keeps its scanner's look this often.
_SITE = 0.6
# Drawing strokes into a head takes half as long as learning from it. So each one is shown a few
# times, mirrored, moved and with the look of other scanners: of so many that are at hand the oldest
# makes room after so many steps.
_AT_HAND, _STAYS = 6, 10
# Of seven drawn heads so many are the user's own, the others the template.
_OWN_OF_SEVEN = 4
# Strokes of a regression scan together; drawn again where there is less, in mL.
_LEAST_ML = 1.0
# A lesion is not carried nearer than this to another or to a ventricle, in mm.
_APART = 4
# What a carried lesion changes, and what keeps it away, lies within this of it, in mm.
_AROUND = 8
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
        self._at_hand: dict[int, _Packed] = {}

    def sample(self, step: int) -> Sample:
        """What step ``step`` is shown."""
        g = Generator().manual_seed(self.seed * 1_000_003 + step)
        if chance(g, 1 - _CORRECTED):
            number = step // _STAYS + choose(g, _AT_HAND)
            scanner = not _is_own(number) or not chance(g, _SITE)
            return replace(scan_of(g, self._drawn(number), self.anatomy, scanner), taught=True)
        head = self._any(g)
        for _ in range(choose(g, _CARRIED + 1)):
            head = carried(g, self._any(g), head)
        assert head.lesions is not None
        shown = SimulatedHead(
            torch.from_numpy(head.image).float() / 255,
            torch.from_numpy(head.lesions),
            torch.from_numpy(head.ventricles),
            head.coarse,
        )
        return scan_of(g, shown, self.anatomy, not chance(g, _SITE))

    def _any(self, g: Generator) -> Head:
        return load_head(self.heads[choose(g, len(self.heads))])

    def _drawn(self, number: int) -> SimulatedHead:
        """Strokes in one of the user's heads or in the template, the same for the same number."""
        packed = self._at_hand.get(number)
        if packed is None:
            g = Generator().manual_seed(self.seed * 7_368_787 + number)
            own = _is_own(number)
            head, often = (self._any(g), _DRAWN) if own else (self.template, _TEMPLATE)
            packed = _Packed(simulate_head(g, head, self.anatomy, self.bank, often))
            while len(self._at_hand) > _AT_HAND:
                self._at_hand.pop(min(self._at_hand))
            self._at_hand[number] = packed
        return packed.head()

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


def _is_own(number: int) -> bool:
    """Whether this drawn head is one of the user's, and not the template."""
    return number % 7 < _OWN_OF_SEVEN


class _Packed:
    """A head with strokes in a fifth of its memory."""

    def __init__(self, head: SimulatedHead) -> None:
        self._image = (head.image.clamp(0, 1) * 255).round().to(torch.uint8)
        self._masks = [np.packbits(m.numpy()) for m in (head.lesions, head.ventricles)]
        self._coarse = head.coarse

    def head(self) -> SimulatedHead:
        shape = tuple(self._image.shape)
        lesions, ventricles = (
            torch.from_numpy(np.unpackbits(bits).reshape(shape).astype(bool))
            for bits in self._masks
        )
        return SimulatedHead(self._image.float() / 255, lesions, ventricles, self._coarse)


def carried(g: Generator, source: Head, target: Head) -> Head:
    """``target`` with the lesions of ``source`` in their places, or in the mirrored ones.

    Both lie on the head box in one window, so that tissue meets its like. Grey values fade over
    about 2 mm around a lesion. What would lie in a ventricle or lesion of the target, or within 4
    mm of one, is left out.
    """
    if source.lesions is None or target.lesions is None:
        raise ValueError("lesions are carried between heads that have some")
    lesions, image = torch.from_numpy(source.lesions), torch.from_numpy(source.image)
    if chance(g, 0.5):
        lesions, image = mirrored(lesions), mirrored(image)
    box = bounding_box(lesions.numpy())
    if box is None:
        return target
    box = widen(box, _AROUND, lesions.shape)
    lesions, image = lesions[box], image[box].float()
    there, fluid, own = (
        torch.from_numpy(np.ascontiguousarray(a[box]))
        for a in (target.lesions, target.ventricles, target.image)
    )
    taken = dilate((there | fluid).float(), _APART) > 0
    new = lesions & ~taken
    if not new.any():
        return target
    weight = gaussian(dilate(new.float(), 1), 1.0) * ~dilate(there.float(), 1).bool()
    mixed = torch.lerp(own.float(), image, weight.clamp(0, 1)).round().clamp(0, 255)
    both, there_too = target.image.copy(), target.lesions.copy()
    both[box], there_too[box] = mixed.to(torch.uint8).numpy(), (there | new).numpy()
    return replace(target, image=both, lesions=there_too)


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
