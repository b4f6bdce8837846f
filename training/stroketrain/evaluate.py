"""``stroketrain evaluate``: a model against a tree of truths, file to mask as users run it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.brief import brief_repr, counted
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan
from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.lesions.scorers import score_case
from StrokeLesionSegLib.lesions.scorers.summary import bootstrap_interval
from StrokeLesionSegLib.models.load import LoadedModel
from StrokeLesionSegLib.operating_point import OperatingPoint, OperatingPointChoice

from .data.atlas import AtlasScan, find_scans
from .data.cache import simulation_records
from .data.reading import unite_masks
from .data.splits import Split

SCORER_NAMES = ("atlas2022", "isles2022", "isles2026")


@dataclass(frozen=True, eq=False)
class Case:
    """One predicted scan: its truth, its probability and what the simulator knew of it."""

    scan: AtlasScan
    kind: str
    volume_ml: float
    affine: np.ndarray
    probability: np.ndarray
    truth: np.ndarray

    __repr__ = brief_repr


def part_of_split(path: Path, part: str) -> set[str]:
    """Names of the scans of one part of a split; ``InputError`` where it is by slice, of which no
    scan is on one side."""
    split = Split.read(path)
    if split.by == "slice":
        raise InputError(path, "a split by slice has every scan in every part", "Use another")
    if part not in split.parts:
        raise InputError(path, f"has no part {part}", "Make a new one with stroketrain split")
    return set(split.parts[part])


def tell(text: str) -> None:
    """Say on the way what is no result."""
    print(text, file=sys.stderr, flush=True)


def predict_tree(
    model: LoadedModel,
    tree: Path,
    options: SegmentOptions,
    say: Callable[[str], None] = tell,
    names: set[str] | None = None,
) -> Iterable[Case]:
    """Run the engine on every labelled scan of an ATLAS tree of any layout, one at a time; with
    ``names`` on those alone. ``say`` hears of each.

    Raises ``InputError`` if none of them is there, or if not one could be used.
    """
    records = simulation_records(tree)
    scans = find_scans(tree).labelled
    if names is not None:
        scans = [scan for scan in scans if scan.name in names]
        if not scans:
            raise InputError(
                tree,
                "contains no scan of that part of the split",
                "Use the tree of the split",
            )
        if len(scans) < len(names):
            say(f"{tree} lacks {counted(len(names) - len(scans), 'scan')} of that part")
    used = False
    for scan in scans:
        try:
            volume = read_scan(scan.t1).volume
            truth = unite_masks(scan, volume).array
            result = segment_volume(volume, model, options)
        except InputError as error:
            say(f"left out: {error}")
            continue
        record = records.get((scan.subject, scan.session), {})
        volume_ml = float(truth.sum()) * volume.grid.voxel_volume_ml
        kind = record.get("kind", "lesion" if truth.any() else "healthy")
        say(f"{scan.name} {kind} {volume_ml:.1f} mL")
        used = True
        yield Case(scan, kind, volume_ml, volume.affine, result.probability.array, truth)
    if not used:
        cause = "no scan with a lesion mask could be used"
        raise InputError(tree, cause, "Check its scans with stroketrain prepare")


def score(
    case: Case,
    point: OperatingPoint,
    scorers: Sequence[str] = SCORER_NAMES,
) -> dict[str, Any]:
    """The scorers on one case, at one operating point."""
    found = find_lesions(case.probability, case.affine, point)
    row: dict[str, Any] = {
        "name": case.scan.name,
        "kind": case.kind,
        "volume_ml": case.volume_ml,
        "predicted_ml": float(found.mask.sum()) * abs(np.linalg.det(case.affine[:3, :3])) / 1000,
    }
    for scorer in scorers:
        soft = case.probability if scorer == "isles2026" else None
        for key, value in score_case(found.mask, case.truth, case.affine, scorer, soft).items():
            row[f"{scorer}.{key}"] = value
    return row


def _mean(values: list[float]) -> dict[str, Any]:
    low, high = bootstrap_interval(np.asarray(values, float))
    return {
        "n": len(values),
        "mean": round(float(np.mean(values)), 4) if values else None,
        "median": round(float(np.median(values)), 4) if values else None,
        "interval_95": [None if v is None else round(v, 4) for v in (low, high)],
    }


def summarise(rows: list[dict[str, Any]], scorers: Sequence[str] = SCORER_NAMES) -> dict[str, Any]:
    """Volume Dice by kind and size, every metric of each scorer by its name over scans with lesion,
    and the share of empty scans kept empty."""
    sick = [r for r in rows if r["volume_ml"] > 0]
    well = [r for r in rows if r["volume_ml"] == 0]

    def dice(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        return _mean([r[f"{scorers[0]}.dice"] for r in chosen])  # the same in all of them

    def metric(name: str) -> dict[str, Any]:
        return _mean([r[name] for r in sick if not np.isnan(r[name])])

    found = list(rows[0]) if rows else []

    return {
        "dice_all_lesioned": dice(sick),
        "dice_above_1_ml": dice([r for r in sick if r["volume_ml"] > 1]),
        "dice_cavity_above_5_ml": dice(
            [r for r in sick if r["kind"] == "cavity" and r["volume_ml"] > 5]
        ),
        "dice_mixed_above_1_ml": dice(
            [r for r in sick if r["kind"] == "mixed" and r["volume_ml"] > 1]
        ),
        "dice_faint_above_1_ml": dice(
            [r for r in sick if r["kind"] == "faint" and r["volume_ml"] > 1]
        ),
        "scorers": {
            scorer: {
                name.removeprefix(f"{scorer}."): metric(name)
                for name in found
                if name.startswith(f"{scorer}.")
            }
            for scorer in scorers
        },
        "healthy_exactly_empty": {
            "n": len(well),
            "share": round(float(np.mean([r["predicted_ml"] == 0 for r in well])), 4)
            if well
            else None,
        },
        "healthy_false_ml": _mean([r["predicted_ml"] for r in well]) if well else None,
    }


def evaluate(
    model: LoadedModel,
    tree: Path,
    options: SegmentOptions | None = None,
    choice: OperatingPointChoice | None = None,
    *,
    out: Path | None = None,
    scorers: Sequence[str] = SCORER_NAMES,
    names: set[str] | None = None,
) -> dict[str, Any]:
    """Predict and score a tree; writes ``out`` (JSON with every case) if given.

    The operating point is the model's own but for what is given. ``names`` are the
    scans to be scored, all without; see ``part_of_split``.
    """
    options = (options or SegmentOptions(views="axial")).for_model(model.manifest)
    views = str(options.views)
    point = (choice or OperatingPointChoice()).resolve(model.manifest.operating_point(views))
    rows = [score(case, point, scorers) for case in predict_tree(model, tree, options, names=names)]
    result = {
        "model": model.manifest.name,
        "operating_point": point.as_dict(),
        "views": views,
        "tta": options.tta,
        "summary": summarise(rows, scorers),
    }
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**result, "cases": rows}, indent=1), encoding="utf-8")
    return result
