"""One scan through one model: prediction, scores, calibration, clicks; each kept as JSON."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.correction import CorrectionSession, Known, load_click_model
from StrokeLesionSegLib.correction.robot import robot_corrections
from StrokeLesionSegLib.images import Volume, atomic_output, brain_mask_for
from StrokeLesionSegLib.inference import (
    SegmentOptions,
    after_network,
    before_network,
    make_predictor,
    run_network,
)
from StrokeLesionSegLib.inference.volumetric import takes_clicks
from StrokeLesionSegLib.lesions import (
    expected_dice,
    find_lesions,
    read_sidecar,
    score_case,
    write_sidecar,
)
from StrokeLesionSegLib.lesions.find import label_components
from StrokeLesionSegLib.models import LoadedModel
from StrokeLesionSegLib.operating_point import OperatingPoint, OperatingPointChoice

from .scans import BenchScan

SCORERS = ("atlas2022", "isles2022", "isles2026")
VIEWS = ("axial", "triplanar", "axial+flips", "triplanar+flips")
# Passes of the network, for the estimate of time.
PASSES = {"axial": 1, "triplanar": 3, "axial+flips": 2, "triplanar+flips": 5}
BINS = 20
# Lower probabilities are not kept: they take most of the room and belong to no lesion.
_LEAST = 0.002


def operating_point(
    model: LoadedModel,
    view: str = "axial",
    threshold: float | None = None,
    min_volume_ml: float | None = None,
) -> OperatingPoint:
    """The model's own for a view (``axial``, ``triplanar+flips``), but for what is given."""
    recommended = model.manifest.operating_point(view.partition("+")[0])
    choice = OperatingPointChoice(threshold, min_volume_ml=min_volume_ml)
    return choice.resolve(recommended)


def key_of(model: LoadedModel) -> str:
    """A folder's name that tells weights apart: the model's name and the head of their SHA-256."""
    return f"{model.manifest.name}-{model.manifest.sha256[:8]}"


def predict(
    scan: BenchScan, model: LoadedModel, views: list[str], folder: Path, threads: int | None
) -> None:
    """Predict ``scan`` with each of ``views``; writes ``<view>.npz`` and ``<view>.prediction.json``
    into ``folder``. Views that are there already are left alone."""
    missing = [v for v in views if not (folder / f"{v}.prediction.json").exists()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    base = SegmentOptions(threads=threads, device="cpu" if threads else "auto")
    ready = before_network(scan.volume, make_predictor(model, base), alignment=scan.alignment)
    before = time.perf_counter() - started
    brain: NDArray[np.bool_] | None = None
    if scan.alignment is None or scan.alignment.ok:
        canonical = ready.placed.canonical
        assert canonical is not None
        inside = brain_mask_for(canonical).astype(np.float32)
        brain = ready.placed.to_native(inside).array >= 0.5
    for view in missing:
        name, _, flips = view.partition("+")
        options = SegmentOptions(views=name, tta=bool(flips), threads=threads, device=base.device)
        begun = time.perf_counter()
        # Bringing the result back empties what was made ready.
        one = replace(ready, timings=dict(ready.timings), warnings=list(ready.warnings))
        run_network(one, make_predictor(model, options))
        result = after_network(one)
        p = np.asarray(result.probability.array)
        _save(folder / f"{view}.npz", p, np.asarray(result.uncertainty.array))
        facts = {
            "view": view,
            "passes": result.details["passes"],
            "precision": result.details["precision"],
            "device": result.details["device"],
            "aligned": result.details["aligned"],
            "warnings": list(result.warnings),
            "seconds_before": before,
            "seconds_network": result.timings["network"],
            "seconds": time.perf_counter() - begun,
            "calibration": None
            if brain is None
            else calibration(p, scan.truth, brain, scan.volume.grid.voxel_volume_ml),
        }
        write_sidecar(folder / f"{view}.prediction.json", facts)


def _save(path: Path, p: NDArray[np.float32], uncertainty: NDArray[np.float32]) -> None:
    """The part of both maps that is not next to 0, as float16, with where it lies."""
    where = np.argwhere(p >= _LEAST)
    low = where.min(axis=0) if len(where) else np.zeros(3, int)
    high = where.max(axis=0) + 1 if len(where) else np.zeros(3, int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = np.where(p[box] >= _LEAST, p[box], 0)
    with atomic_output(path, overwrite=True) as temporary:
        np.savez_compressed(
            temporary,
            shape=np.array(p.shape),
            low=low,
            probability=part.astype(np.float16),
            uncertainty=np.where(part > 0, uncertainty[box], 0).astype(np.float16),
        )


def load_maps(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probability and uncertainty (K, J, I) float32 as ``predict`` kept them."""
    with np.load(path, allow_pickle=False) as kept:
        low, part = kept["low"], kept["probability"]
        box = tuple(slice(a, a + n) for a, n in zip(low, part.shape, strict=True))
        p, uncertainty = (np.zeros(kept["shape"], np.float32) for _ in range(2))
        p[box], uncertainty[box] = part, kept["uncertainty"]
    return p, uncertainty


def calibration(
    p: NDArray[np.floating], truth: NDArray[Any], brain: NDArray[np.bool_], voxel_ml: float
) -> dict[str, list[float]]:
    """What the brain's voxels promise and hold, by ``BINS`` equal bins of probability: volume,
    sum of the probabilities and lesion, each in mL (grids of other voxels can be added up)."""
    inside = np.asarray(p)[brain].astype(np.float64)
    hit = (np.asarray(truth)[brain] > 0).astype(np.float64)
    which = np.minimum((inside * BINS).astype(int), BINS - 1)
    return {
        "volume_ml": (np.bincount(which, minlength=BINS) * voxel_ml).tolist(),
        "probability_ml": (np.bincount(which, inside, BINS) * voxel_ml).tolist(),
        "lesion_ml": (np.bincount(which, hit, BINS) * voxel_ml).tolist(),
    }


def score(
    scan: BenchScan,
    folder: Path,
    view: str,
    point: OperatingPoint,
    calibrated: Calibration | None = None,
) -> dict[str, Any]:
    """Scores of a prediction that ``predict`` kept, at ``point``; in ``<view>.scores.json``,
    and worked out anew only for another operating point or calibration.

    ``calibrated``: how the model's probabilities are, for the Dice that its users are told to
    expect."""
    path = folder / f"{view}.scores.json"
    worth = None if calibrated is None else calibrated.as_dict()
    if path.exists():
        kept = read_sidecar(path)
        if kept["operating_point"] == point.as_dict() and kept.get("calibrated") == worth:
            return kept
    p, uncertainty = load_maps(folder / f"{view}.npz")
    affine, voxel_ml = scan.volume.affine, scan.volume.grid.voxel_volume_ml
    found = find_lesions(p, affine, point)
    row: dict[str, Any] = {"operating_point": point.as_dict(), "calibrated": worth}
    for scorer in SCORERS:
        soft = p if scorer == "isles2026" else None
        row[scorer] = score_case(found.mask, scan.truth, affine, scorer, soft)
    row["dice"] = row["isles2022"]["dice"]
    row["predicted_ml"] = float(np.count_nonzero(found.mask)) * voxel_ml
    row["largest_false_ml"] = _largest_false(found.labels, scan.truth) * voxel_ml
    row["lesions"] = _true_lesions(found.mask, scan.truth, voxel_ml)
    expected = expected_dice(p, found.mask, uncertainty, calibration=calibrated)
    row["expected_dice"] = expected.value
    row["agreement"] = expected.agreement
    write_sidecar(path, row)
    return read_sidecar(path)


def _largest_false(labels: NDArray[np.int32], truth: NDArray[Any]) -> int:
    """Voxels of the largest component that touches no true lesion."""
    sizes = np.bincount(labels.ravel())
    sizes[np.unique(labels[truth > 0])] = 0
    sizes[0] = 0
    return int(sizes.max())


def _true_lesions(
    mask: NDArray[np.uint8], truth: NDArray[Any], voxel_ml: float
) -> list[dict[str, float]]:
    """Every component of the truth (26 neighbours): its volume, and the share that was marked."""
    labels = label_components(truth > 0, 26)
    sizes = np.bincount(labels.ravel())[1:]
    marked = np.bincount(labels[mask > 0], minlength=len(sizes) + 1)[1:]
    return [
        {"volume_ml": float(n * voxel_ml), "marked": float(m / n)}
        for n, m in zip(sizes, marked, strict=True)
    ]


@dataclass(frozen=True)
class Robot:
    """``noise_mm``: how far its ``clicks`` miss. ``point``: at which the mask that it corrects was
    cut; None: the model's own."""

    noise_mm: float
    clicks: int
    point: OperatingPoint | None = None


def click(
    scan: BenchScan,
    model: LoadedModel,
    folder: Path,
    view: str,
    robot: Robot,
    threads: int | None,
) -> dict[str, Any]:
    """The robot user on a scan, starting from the prediction that is kept;
    ``robot-<noise>.json``, done anew only for another operating point.

    Its Dice at 0 clicks is that of the automatic mask. The mask of a model without clicks is
    corrected by the default model, as in the effects.
    """
    noise_mm, own = robot.noise_mm, operating_point(model, view)
    path, point = folder / f"robot-{noise_mm:g}mm.json", robot.point or own
    if path.exists():
        kept = read_sidecar(path)
        # What version 0.2 has kept is of the model's own.
        if kept.get("operating_point", own.as_dict()) == point.as_dict():
            return kept
    p, _ = load_maps(folder / f"{view}.npz")
    started = time.perf_counter()
    volume = Volume(np.array(scan.volume.array, np.float32), scan.volume.affine)
    session = CorrectionSession.open(
        volume,
        model if takes_clicks(model.network) else load_click_model(),
        Known(
            mask=find_lesions(p, volume.affine, point).mask,
            probability=p,
            alignment=scan.alignment,
        ),
        options=SegmentOptions(threads=threads, device="cpu" if threads else "auto"),
    )
    rng = np.random.default_rng((scan.case.seed, round(noise_mm * 10)))
    dice = robot_corrections(session, scan.truth, robot.clicks, noise_mm=noise_mm, rng=rng)
    row = {
        "noise_mm": noise_mm,
        "operating_point": point.as_dict(),
        "dice": dice,
        "seconds": time.perf_counter() - started,
    }
    write_sidecar(path, row)
    return read_sidecar(path)
