"""The bench's scans on disk: T1, truth and alignment of every case, made once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Alignment,
    Volume,
    align_to_mni,
    read_scan,
    write_volume,
)
from StrokeLesionSegLib.lesions import read_sidecar, write_sidecar

from ..simulate.subject_split import kind_of
from .plan import BenchCase, test_masks
from .scanner import native_grid, regrid

T1, TRUTH, FACTS = "t1.nii", "truth.nii.gz", "case.json"


@dataclass(frozen=True, eq=False)
class BenchScan:
    """A case with its voxels.

    Attributes
    ----------
    case: what it is. volume: the T1 as a user would open it. truth: uint8 (K, J, I), same grid.
    alignment: to MNI152, found once with ``align_to_mni`` as ``segment_volume`` does; None for a
        scan on the MNI grid.
    facts: ``case.json``: the case and what was drawn; ``volume_ml`` is that of the truth here.
    """

    case: BenchCase
    volume: Volume
    truth: np.ndarray
    alignment: Alignment | None
    facts: dict[str, Any]

    __repr__ = brief_repr


def make_scan(case: BenchCase, data: Path, anatomies: Path, folder: Path) -> dict[str, Any]:
    """Draw a case and write it to ``folder``; returns its facts. A finished one is left alone."""
    if (folder / FACTS).exists():
        return read_sidecar(folder / FACTS)
    if case.procedure == "none":
        volume = read_scan(data / case.person).volume
        truth, record = np.zeros(volume.array.shape, np.uint8), {"kind": "healthy", "lesions": []}
    else:
        t1, drawn, record = _draw(case, data, anatomies)
        volume, truth = Volume(t1, MNI_GRID.affine), drawn.astype(np.uint8)
        if case.geometry == "native":
            rng = np.random.default_rng((case.seed, 7))
            grid = native_grid(rng, thick=case.thick)
            shift = rng.uniform(-15, 15, 3)
            volume = regrid(t1.astype(np.float32), grid, shift)
            truth = (regrid(drawn.astype(np.float32), grid, shift).array >= 0.5).astype(np.uint8)
    aligned = None if volume.grid.same_as(MNI_GRID) else align_to_mni(volume)
    t1_array = np.asarray(volume.array, np.float32)
    top = max(float(t1_array.max()), 1e-6)
    stored = np.round(t1_array / top * 4095).astype(np.int16)  # as scanners store: whole numbers
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / T1, Volume(stored, volume.affine), overwrite=True)
    write_volume(folder / TRUTH, Volume(truth, volume.affine), overwrite=True)
    facts = {
        **record,
        **case.as_dict(),
        "kind": case.kind if truth.any() else "healthy",
        "volume_ml": float(truth.sum()) * volume.grid.voxel_volume_ml,
        "skull": _has_skull(case, record),
        "spacing_mm": list(volume.spacing),
        "alignment": aligned,
    }
    write_sidecar(folder / FACTS, facts)  # last: it says that the rest is there
    return read_sidecar(folder / FACTS)


def read_back(case: BenchCase, folder: Path) -> BenchScan:
    """A finished case from its folder."""
    facts = read_sidecar(folder / FACTS)
    known = facts.get("alignment")
    alignment = None
    if known:
        alignment = Alignment(**{**known, "matrix": np.array(known["matrix"], float)})
    truth = read_scan(folder / TRUTH, allow_constant=True).volume
    return BenchScan(
        case,
        read_scan(folder / T1).volume,
        (truth.array > 0).astype(np.uint8),
        alignment,
        facts,
    )


def _draw(
    case: BenchCase, data: Path, anatomies: Path
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """T1 and truth on the MNI grid, and the record of the procedure."""
    from ..simulate.anatomy import cached_anatomy

    anatomy = cached_anatomy(data / case.person, kind_of(case.person), anatomies)
    if case.procedure == "first":
        import torch

        from ..simulate.scan import simulate_scan

        g = torch.Generator().manual_seed(case.seed)
        t1, truth, record = simulate_scan(g, anatomy, _bank(data), kind=case.kind)
        return t1.astype(np.float32), truth > 0, record.as_dict()
    from .independent_simulator import draw

    drawn = draw(
        np.random.default_rng(case.seed),
        anatomy.image.astype(np.float32) / np.float32(255),
        anatomy.brain,
        test_masks(data),
        kind=case.kind,
        strip=case.strip,
    )
    return drawn.t1, drawn.truth, drawn.record


@lru_cache(maxsize=1)
def _bank(data: Path) -> Any:
    from ..simulate.bank import read_mask_bank

    return read_mask_bank(test_masks(data))


def _has_skull(case: BenchCase, record: dict[str, Any]) -> bool:
    return kind_of(case.person) != "brain" and not record.get("acquisition", {}).get("stripped")


def write_plan(cases: list[BenchCase], path: Path) -> None:
    """The list of cases as JSON, for the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([c.as_dict() for c in cases], indent=1), encoding="utf-8")
