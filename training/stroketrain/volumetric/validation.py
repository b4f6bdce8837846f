"""Validation of the volumetric network: fixed simulated scans of people kept apart.

Each person of the part "validation" appears three times: with chronic strokes of the usual looks
above half a millilitre, with faint ones, and, unless they have strokes of their own, healthy with
every mimic twice as often. Shapes come from masks that no training scan has. All of it follows from
one seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.inference.head_box import HEAD_ORIGIN_ZYX, HEAD_SHAPE
from StrokeLesionSegLib.inference.volumetric import answer_head
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy
from StrokeLesionSegLib.learning.strokes.head import StrokeFrequencies, scan_of, simulate_head
from StrokeLesionSegLib.operating_point import OperatingPoint
from torch import nn

from .heads import HeadFolder

KINDS = {
    "chronic": StrokeFrequencies(lesion=1.0, kinds=("cavity", "mixed"), mimics=0.7),
    "faint": StrokeFrequencies(lesion=1.0, kinds=("faint",), volume_ml=(2.0, 40.0), mimics=0.5),
    "healthy": StrokeFrequencies(lesion=0.0, mimics=2.0),
}
# Strokes of a validation scan together; drawn again where there is less.
_LEAST_ML = 0.5


@dataclass(frozen=True, eq=False)
class ValidationScan:
    """``name``: person and kind. ``image``: (160, 192, 160) uint8. ``lesions``, ``ventricles``:
    bool."""

    name: str
    kind: str
    image: NDArray[np.uint8]
    lesions: NDArray[np.bool_]
    ventricles: NDArray[np.bool_]

    __repr__ = brief_repr


def validation_scans(folder: HeadFolder, seed: int = 20) -> Iterator[ValidationScan]:
    """The scans, simulated once and kept in the folder."""
    kept = folder.path / f"validation-{seed}"
    kept.mkdir(exist_ok=True)
    anatomy, bank = Anatomy.of_template(), folder.bank("validation")
    for n, person in enumerate(folder.names("validation")):
        head = folder.head(person)
        # Of a head with strokes of its own (``distill``) nobody expects nothing.
        ill = head.lesions is not None and bool(head.lesions.any())
        for m, (kind, recipe) in enumerate(KINDS.items()):
            if ill and kind == "healthy":
                continue
            file = kept / f"{person}-{kind}.npz"
            if not file.exists():
                g = torch.Generator().manual_seed(seed * 100_000 + n * 10 + m)
                for _ in range(20):
                    drawn = simulate_head(g, head, anatomy, bank, recipe)
                    if kind == "healthy" or float(drawn.lesions.sum()) / 1000 >= _LEAST_ML:
                        break
                scan = scan_of(g, drawn, anatomy)
                scratch = file.with_suffix(".part.npz")
                np.savez_compressed(
                    scratch,
                    image=np.round(scan.image.numpy().clip(0, 1) * 255).astype(np.uint8),
                    lesions=np.packbits(scan.lesions.numpy()),
                    ventricles=np.packbits(scan.ventricles.numpy()),
                )
                scratch.replace(file)
            with np.load(file, allow_pickle=False) as z:
                masks = (
                    np.unpackbits(z[name]).reshape(HEAD_SHAPE).astype(bool)
                    for name in ("lesions", "ventricles")
                )
                yield ValidationScan(f"{person} {kind}", kind, z["image"], *masks)


@dataclass(frozen=True)
class ScanScore:
    """One scan at one operating point. ``f1``: lesion-wise, 26-connected, one voxel in common.
    ``in_ventricle``: share of the ventricles that is marked."""

    name: str
    kind: str
    truth_ml: float
    found_ml: float
    dice: float
    f1: float
    in_ventricle: float


def find(probability: NDArray[np.float32], point: OperatingPoint) -> NDArray[np.bool_]:
    """The lesions of a probability map on the head box at an operating point."""
    from StrokeLesionSegLib.lesions import find_lesions

    affine = np.eye(4)
    affine[:3, 3] = HEAD_ORIGIN_ZYX[::-1]
    return find_lesions(probability, affine, point).mask != 0


def score(
    scan: ValidationScan, probability: NDArray[np.float32], points: Sequence[OperatingPoint]
) -> list[ScanScore]:
    """Scores of one answer at several operating points."""
    from StrokeLesionSegLib.lesions.scorers import score_case

    out = []
    for point in points:
        mask = find(probability, point)
        result = score_case(mask, scan.lesions, np.eye(4), "isles2022")
        inside = float((mask & scan.ventricles).sum()) / max(1, int(scan.ventricles.sum()))
        out.append(
            ScanScore(
                scan.name,
                scan.kind,
                float(scan.lesions.sum()) / 1000,
                float(mask.sum()) / 1000,
                result["dice"],
                result["lesion_f1"],
                inside,
            )
        )
    return out


def measure(
    network: nn.Module,
    folder: HeadFolder,
    points: Sequence[OperatingPoint],
    *,
    mirrored_pass: bool = False,
    keep: Path | None = None,
) -> list[list[ScanScore]]:
    """Scores by operating point of all validation scans. ``keep``: folder for the probabilities, in
    float16, so that other points need no network."""
    network.eval()
    brain = _within_brain()
    by_point: list[list[ScanScore]] = [[] for _ in points]
    for scan in validation_scans(folder):
        image = scan.image.astype(np.float32) / np.float32(255)
        p = answer_head(network, image, mirrored_pass=mirrored_pass, bfloat16=True).lesion * brain
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            np.save(keep / f"{scan.name}.npy", p.astype(np.float16))
        for scores, one in zip(by_point, score(scan, p, points), strict=True):
            scores.append(one)
    return by_point


def summary(scores: Sequence[ScanScore]) -> dict[str, float]:
    """Means by kind; for healthy scans the share exactly empty and the worst volume."""
    out: dict[str, float] = {}
    for kind in ("chronic", "faint"):
        part = [s for s in scores if s.kind == kind]
        if part:
            out[f"{kind} Dice"] = float(np.mean([s.dice for s in part]))
            out[f"{kind} F1"] = float(np.mean([s.f1 for s in part]))
    healthy = [s for s in scores if s.kind == "healthy"]
    if healthy:
        out["healthy empty"] = float(np.mean([s.found_ml == 0 for s in healthy]))
        out["healthy worst mL"] = max(s.found_ml for s in healthy)
    sick = [s for s in scores if s.kind != "healthy"]
    if sick:
        out["ventricle share"] = float(np.mean([s.in_ventricle for s in sick]))
        out["ventricle worst"] = max(s.in_ventricle for s in sick)
    return {k: round(v, 4) for k, v in out.items()}


def _within_brain() -> NDArray[np.bool_]:
    from StrokeLesionSegLib.images import mni_brain_mask
    from StrokeLesionSegLib.images.space.distance import squared_distance
    from StrokeLesionSegLib.inference.head_box import HEAD_BOX

    return squared_distance(mni_brain_mask().array[HEAD_BOX] != 0, 3.0) <= 9
