"""One simulated scan: a person, none to many lesions, mimics, a warp, and a scanner."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from StrokeLesionSegLib.learning.strokes.fields import (
    chance,
    choose,
    dilate,
    random_affine,
    random_displacement,
    sample_at,
    uniform,
    warp_points,
)
from torch import Generator, Tensor

from . import appearance as look
from . import shapes
from .acquisition import acquire
from .anatomy import Person
from .bank import LesionBank
from .secondary_changes import apart, gliotic_halo, plaques, widen_sulci

# Lateral ventricles in voxels (k, j, i) of the MNI grid, left and right.
_VENTRICLE = {"left": (92.0, 124.0, 82.0), "right": (92.0, 124.0, 114.0)}


@dataclass
class SimulationRecord:
    """What was drawn into one scan; written beside it so that results can be split by it."""

    person: str = ""
    kind: str = "healthy"
    lesions: list[dict[str, Any]] = field(default_factory=list)
    mimics: list[str] = field(default_factory=list)
    secondary_changes: list[str] = field(default_factory=list)
    acquisition: dict[str, bool] = field(default_factory=dict)
    volume_ml: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _one_shape(
    g: Generator, brain: Tensor, levels: look.TissueLevels, bank: LesionBank | None, volume: float
) -> tuple[Tensor, str]:
    """A soft lesion shape of about ``volume`` mL and where it comes from."""
    shape = (brain.shape[0], brain.shape[1], brain.shape[2])
    if bank and len(bank) and (volume > 1.0 or chance(g, 0.5)) and chance(g, 0.85):
        for _ in range(6):
            n = choose(g, len(bank))
            # A mask is resized down freely but hardly up: a blown-up outline is too smooth.
            if bank.volumes_ml[n] > 0.2 and volume / bank.volumes_ml[n] < 2.2:
                mask = bank.mask(n, brain.device)
                return shapes.warp_real_mask(g, mask, volume), bank.names[n]
    if volume < 1.2 and chance(g, 0.6):
        deep = torch.nonzero(brain & (levels.depth > 8))
        return shapes.ellipsoid(g, shape, deep[choose(g, len(deep))].float(), volume), "lacune"
    if volume < 25 and chance(g, 0.25):
        side = -1 if chance(g, 0.5) else 1
        centre = torch.tensor([uniform(g, 105, 125), 125.0, 98 + side * uniform(g, 24, 34)])
        return shapes.border_zone(g, shape, centre, volume), "border zone"
    if chance(g, 0.6):
        return shapes.wedge(g, brain, levels.depth, volume), "wedge"
    inside = torch.nonzero(brain & (levels.depth > 3))
    return shapes.ellipsoid(g, shape, inside[choose(g, len(inside))].float(), volume), "ellipsoid"


def _ventricle_growth(points: Tensor, centre: tuple[float, float, float], amount: float) -> Tensor:
    """Magnify what lies around ``centre``: points are drawn towards it by up to ``amount``."""
    c = torch.tensor(centre, device=points.device).view(3, 1, 1, 1)
    away = points - c
    weight = torch.exp(-(away**2).sum(dim=0) / (2 * 20.0**2))
    return points - amount * weight * away


def simulate_scan(
    g: Generator,
    anatomy: Person,
    bank: LesionBank | None,
    *,
    kind: str | None = None,
    min_volume_ml: float = 0.1,
) -> tuple[np.ndarray, np.ndarray, SimulationRecord]:
    """Draw one scan on the MNI152 grid.

    Parameters
    ----------
    g: source of all randomness.
    anatomy: whose head; a person listed for multiple sclerosis or a healthy one alike.
    bank: real masks to draw shapes from; procedural shapes only where None.
    kind: "cavity", "mixed", "faint", "healthy", or None for the usual odds.
    min_volume_ml: smallest lesion drawn.

    Returns (t1, truth, record): t1 (189, 233, 197) uint16, truth of the same shape uint8.
    """
    record = SimulationRecord(person=anatomy.person)
    more = apart(g)
    t1 = anatomy.t1(g)
    brain = torch.from_numpy(anatomy.brain).to(g.device)
    if kind is None:
        draw = uniform(g, 0, 1)
        kind = (
            "healthy"
            if draw < 0.16
            else "cavity"
            if draw < 0.58
            else "mixed"
            if draw < 0.8
            else "faint"
        )
    record.kind = kind

    growth: dict[str, float] = {}
    if chance(g, 0.45):
        record.mimics.append("atrophy")
        t1 = look.widen_fluid(g, t1, brain)
        if chance(g, 0.6):
            growth = dict.fromkeys(_VENTRICLE, uniform(g, 0.1, 0.45))
            record.mimics.append("large ventricles")
    levels = look.TissueLevels.of(t1, brain)
    fluid_space = look.ventricles(t1, brain, levels)
    if chance(g, 0.55):
        record.mimics.append("white matter hypointensities")
        t1 = look.white_matter_spots(g, t1, brain, levels, fluid_space)
    if chance(g, 0.4):
        record.mimics.append("perivascular spaces")
        t1 = look.perivascular_spaces(g, t1, brain, levels)

    if chance(more, 0.15):
        record.mimics.append("plaques")
        t1 = plaques(more, t1, brain, levels, fluid_space)

    truth = torch.zeros_like(brain)
    if kind != "healthy":
        allowed = brain.float() * (1 - dilate(fluid_space).clamp(0, 1))
        count = 1 if chance(g, 0.6) else 2 + choose(g, 4)
        for n in range(count):
            volume = shapes.draw_volume_ml(g, min_volume_ml)
            if n:
                volume = min(volume, shapes.draw_volume_ml(g, min_volume_ml))
            # One look per scan most of the time, so that results can be told apart by it.
            this = kind if n == 0 or chance(g, 0.75) else look.KINDS[choose(g, 3)]
            soft, source = _one_shape(g, brain, levels, bank, volume)
            t1, drawn = look.implant(g, t1, soft, allowed, levels, this)
            size = float(drawn.sum()) / 1000
            if size <= 0:
                continue
            truth |= drawn
            record.lesions.append({"kind": this, "shape": source, "volume_ml": round(size, 3)})
            if this != "faint" and chance(more, 0.5):
                record.secondary_changes.append("gliotic halo")
                t1 = gliotic_halo(more, t1, drawn, brain & ~truth, levels)
            if this != "faint" and size > 8 and chance(more, 0.5):
                record.secondary_changes.append("wide sulci")
                t1 = widen_sulci(more, t1, truth, brain, levels)
            if this == "cavity" and size > 15 and chance(g, 0.7):
                middle = float(torch.nonzero(drawn)[:, 2].float().mean())
                side = "left" if middle < 98 else "right"
                growth[side] = max(growth.get(side, 0.0), min(0.5, 0.12 + size / 300))

    grid = (t1.shape[0], t1.shape[1], t1.shape[2])
    matrix, offset = random_affine(g, 5.0, 0.07, 3.0)
    wobble = random_displacement(g, grid, uniform(g, 0.5, 2.2), uniform(g, 25, 45))
    points = warp_points(grid, matrix, offset, wobble)
    for side, amount in growth.items():
        points = _ventricle_growth(points, _VENTRICLE[side], amount)
    if chance(g, 0.5):
        points[2] = grid[2] - 1 - points[2]
    warped = sample_at(torch.stack([t1, truth.float(), brain.float()]), points)
    t1, truth, brain = warped[0], warped[1] > 0.5, warped[2] > 0.5

    t1, truth, record.acquisition = acquire(g, t1, truth, brain, has_skull=anatomy.kind != "brain")
    record.volume_ml = round(float(truth.sum()) / 1000, 3)
    if record.volume_ml == 0 and kind != "healthy":
        record.kind = "healthy"
    top = torch.quantile(t1.flatten()[::53], 0.999).clamp_min(1e-6)
    scaled = (t1 / top * 1000).clamp(0, 4000)
    return (
        scaled.round().cpu().numpy().astype(np.uint16),
        truth.cpu().numpy().astype(np.uint8),
        record,
    )
