"""One simulated head: which strokes and mimics it gets, in which order they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ...brief import brief_repr
from .anatomy import Anatomy, Head, mirrored
from .fields import chance, choose, dilate, gaussian, uniform
from .looks import Levels, PlannedLesion, draw_kind, draw_lesion
from .mimics import (
    atrophy,
    cleft,
    cyst,
    leukoaraiosis,
    perivascular_spaces,
    plexus,
    spots,
    wide_sulci,
    wide_ventricles,
)
from .scanner import scanned
from .secondary import Displacement, after_stroke, darken_tract, open_into
from .shapes import MaskBank, draw_shape, draw_volume_ml

# An expert's mask in native space is of lesions of this size upwards.
_LEAST_ML = 0.03
_SMALL_ML = (0.7, 9.0)
# Nothing is drawn nearer than this to a stroke that a head has already, in mm.
_APART = 4


@dataclass(frozen=True, eq=False)
class SimulatedHead:
    """A head with what was drawn into it, before the scanner.

    ``image``: (160, 192, 160) float32 in about [0, 1]. ``lesions``, ``ventricles``: bool, apart
    from each other. ``kinds``: the look of each lesion drawn, with its volume in mL. ``mimics``:
    names. ``coarse``: of ``Head``. ``own``: bool, which of the lesions the head had before.
    ``soft``: float32, ``lesions`` with a teacher's probability in their place, or None.
    """

    image: Tensor
    lesions: Tensor
    ventricles: Tensor
    coarse: bool
    kinds: tuple[tuple[str, float], ...] = ()
    mimics: tuple[str, ...] = ()
    own: Tensor | None = None
    soft: Tensor | None = None

    __repr__ = brief_repr


@dataclass(frozen=True)
class StrokeFrequencies:
    """How often what occurs.

    ``lesion``: share of heads with strokes. ``kinds``: looks to draw from, or () for all of them
    in their usual shares. ``volume_ml``: limits of the first lesion's volume; None follows the law.
    ``small``: share of heads whose first lesion is small, .7 to 9 mL, whatever the law says.
    ``mimics``: factor on the frequency of everything that only looks like a stroke.
    """

    lesion: float = 0.8
    kinds: tuple[str, ...] = ()
    volume_ml: tuple[float, float] | None = None
    small: float = 0.0
    mimics: float = 1.0


@dataclass(frozen=True, eq=False)
class Sample:
    """What the network is shown: one scan.

    ``image``: (160, 192, 160) float32. ``lesions``: bool, or float in [0, 1] where it is uncertain
    what is lesion. ``ventricles``: bool. ``own``, ``soft``: of ``SimulatedHead``. ``taught``:
    whether a teacher has a say.
    """

    image: Tensor
    lesions: Tensor
    ventricles: Tensor
    kinds: tuple[tuple[str, float], ...] = field(default=())
    own: Tensor | None = None
    taught: bool = False
    soft: Tensor | None = None

    __repr__ = brief_repr


def simulate_head(
    g: Generator,
    head: Head,
    anatomy: Anatomy,
    bank: MaskBank,
    often: StrokeFrequencies | None = None,
) -> SimulatedHead:
    """Strokes and mimics in a real head; about half a second on one core.

    Strokes that the head has already stay as they look, and belong to the truth.
    """
    often = often or StrokeFrequencies()
    image = torch.from_numpy(head.image).float() / 255
    ventricles = torch.from_numpy(head.ventricles)
    levels = Levels.of(image, ventricles, anatomy)
    plan = _plan(g, anatomy, bank, often) if chance(g, often.lesion) else []
    own = None if head.lesions is None else torch.from_numpy(head.lesions)
    said = None if head.said is None else torch.from_numpy(head.said).float() / 255
    if own is not None:
        near = dilate(own.float(), _APART) > 0
        plan = [s for s in plan if not (near[s.shape.box] & (s.shape.soft > 0.5)).any()]
    mimics: list[str] = []

    def mimic(name: str, share: float) -> bool:
        if not chance(g, share * often.mimics):
            return False
        mimics.append(name)
        return True

    # First whatever moves tissue, all at once.
    to = Displacement()
    for lesion in plan:
        after_stroke(g, to, lesion.shape, ventricles, anatomy)
    if mimic("wide ventricles", 0.22):
        wide_ventricles(g, to, both=chance(g, 0.7))
    if chance(g, 0.6):
        to.misalign(g, 5.0, 0.06, 4.0)
    if not to.nothing:
        more = [t for t in (own, said) if t is not None]
        image, moved, *rest = to.carry(image, ventricles, *more)
        ventricles = moved > 0.5
        own = None if own is None else rest.pop(0) > 0.5
        said = None if said is None else rest.pop(0)
    else:
        ventricles = ventricles.clone()
    before = None if own is None else image.clone()
    # Then what changes it, from the inside out.
    if mimic("atrophy", 0.3):
        atrophy(g, image, anatomy)
    if mimic("wide sulci", 0.2):
        for _ in range(1 + choose(g, 2)):
            wide_sulci(g, image, anatomy, levels)
    if mimic("leukoaraiosis", 0.2):
        leukoaraiosis(g, image, ventricles, anatomy, levels)
    if mimic("spots", 0.12):
        spots(g, image, ventricles, anatomy, levels)
    if mimic("perivascular spaces", 0.15):
        perivascular_spaces(g, image, anatomy, levels)
    if mimic("plexus", 0.15):
        plexus(g, image, ventricles, levels)
    if mimic("cyst", 0.14):
        cyst(g, image, anatomy, levels)
    if mimic("cleft", 0.08):
        cleft(g, image, anatomy, levels)
    truth = torch.zeros_like(anatomy.brain)
    drawn: list[tuple[str, float]] = []
    for lesion in plan:
        shape, kind = lesion.shape, lesion.kind
        if shape.ml > 3 and kind in ("cavity", "mixed") and chance(g, 0.35):
            open_into(g, image, ventricles, shape, anatomy, levels)
        ml = draw_lesion(g, image, truth, ventricles, lesion, anatomy, levels)
        if ml > _LEAST_ML:
            drawn.append((kind, ml))
        if ml > 20 and chance(g, 0.4):
            darken_tract(g, image, (shape.box[2].start + shape.box[2].stop) / 2 < 80, levels)
    if own is not None and before is not None:
        image = torch.lerp(image, before, gaussian(dilate(own.float(), 2), 1.0))
        ventricles &= ~own
        truth |= own
    truth &= ~ventricles
    soft = None
    if said is not None:
        new = truth if own is None else truth & ~own
        soft = torch.maximum(said * ~ventricles, new.float())
    return SimulatedHead(
        image, truth, ventricles, head.coarse, tuple(drawn), tuple(mimics), own, soft
    )


def scan_of(g: Generator, head: SimulatedHead, anatomy: Anatomy, scanner: bool = True) -> Sample:
    """One scan of a simulated head, mirrored half of the time, moved by up to 4 mm.

    ``scanner``: False leaves it the look of the scanner that it came from.
    """
    image = scanned(g, head.image, anatomy, head.coarse) if scanner else head.image
    flip = chance(g, 0.5)
    shift = [choose(g, 9) - 4 for _ in range(2)]

    def placed(t: Tensor) -> Tensor:
        return torch.roll(mirrored(t) if flip else t, shift, (0, 1))

    return Sample(
        placed(image), placed(head.lesions), placed(head.ventricles), head.kinds,
        None if head.own is None else placed(head.own),
        soft=None if head.soft is None else placed(head.soft),
    )  # fmt: skip


def _plan(
    g: Generator, anatomy: Anatomy, bank: MaskBank, often: StrokeFrequencies
) -> list[PlannedLesion]:
    """The strokes of one head: mostly one event, at times several of different ages."""
    count = 1 if chance(g, 0.6) else 2 + choose(g, 3)
    plan: list[PlannedLesion] = []
    for n in range(count):
        first = n == 0
        if first and often.volume_ml is not None:
            volume = uniform(g, *often.volume_ml)
        elif first and often.small and chance(g, often.small):
            volume = math.exp(uniform(g, *map(math.log, _SMALL_ML)))
        else:
            volume = draw_volume_ml(g) if first else draw_volume_ml(g, high=20.0)
        for _ in range(4):
            shape = draw_shape(g, anatomy, bank, volume)
            if shape is not None:
                kinds = often.kinds
                kind = kinds[choose(g, len(kinds))] if kinds else draw_kind(g, shape.ml)
                plan.append(PlannedLesion(shape, kind))
                break
    return plan
