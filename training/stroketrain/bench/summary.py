"""The bench's figures from its per-scan JSON: means with bootstrap 95 % intervals, by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.lesions import read_sidecar
from StrokeLesionSegLib.lesions.scorers.summary import bootstrap_interval

from .measure import SCORERS
from .plan import BenchCase
from .scans import FACTS

Row = dict[str, Any]
Figure = dict[str, Any]

BANDS = ((0.0, 1.0), (1.0, 5.0), (5.0, 20.0), (20.0, np.inf))
KINDS = ("cavity", "mixed", "faint")


def collect(cases: Sequence[BenchCase], out: Path, model_key: str, view: str) -> list[Row]:
    """One row per scan that has been predicted and scored with ``view``."""
    rows = []
    for case in cases:
        folder = out / "models" / model_key / case.name
        facts, made = out / "scans" / case.name / FACTS, folder / f"{view}.prediction.json"
        scores = folder / f"{view}.scores.json"
        if facts.exists() and made.exists() and scores.exists():
            row = {**read_sidecar(facts), **read_sidecar(scores), **read_sidecar(made)}
            row["name"] = case.name
            row["robot"] = {
                kept["noise_mm"]: kept
                for kept in map(read_sidecar, sorted(folder.glob("robot-*mm.json")))
            }
            rows.append(row)
    return rows


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> Figure:
    """n, mean, median and 95 % interval (percentile bootstrap of 10000 draws, seed 0)."""
    array = np.asarray(values, float)
    low, high = bootstrap_interval(array)
    return {
        "n": len(array),
        "value": float(array.mean()) if len(array) else None,
        "median": float(np.median(array)) if len(array) else None,
        "low": low,
        "high": high,
    }


def resampled(
    rows: Sequence[Row], figure: Callable[[Sequence[Row]], float | None], draws: int = 2000
) -> Figure:
    """A figure of all rows together, with the interval of ``draws`` bootstrap samples of rows."""
    rng = np.random.default_rng(0)
    value = figure(rows)
    drawn = []
    if value is not None and len(rows) > 2:
        for _ in range(draws):
            some = figure([rows[n] for n in rng.integers(0, len(rows), len(rows))])
            if some is not None:
                drawn.append(some)
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) > 20 else (None, None)
    return {
        "n": len(rows),
        "value": value,
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
    }


def lesioned(rows: Sequence[Row], above_ml: float = 0.0) -> list[Row]:
    return [r for r in rows if r["volume_ml"] > above_ml]


def free(rows: Sequence[Row]) -> list[Row]:
    return [r for r in rows if r["volume_ml"] == 0]


def dice(rows: Sequence[Row]) -> Figure:
    return mean_of([r["dice"] for r in rows])


def ece(rows: Sequence[Row], first_bin: int = 0) -> float | None:
    """Expected calibration error of the brain's voxels of all rows together, by volume.

    ``first_bin`` 1 leaves the lowest bin out, which holds nearly all of a brain and hides what
    happens where the model sees something.
    """
    total, promised, held = _bins(rows)
    total, promised, held = total[first_bin:], promised[first_bin:], held[first_bin:]
    if total.sum() == 0:
        return None
    return float(np.abs(promised - held).sum() / total.sum())


def _bins(rows: Sequence[Row]) -> tuple[NDArray[np.float64], ...]:
    known = [r["calibration"] for r in rows if r["calibration"]]
    names = ("volume_ml", "probability_ml", "lesion_ml")
    if not known:
        return tuple(np.zeros(1) for _ in names)
    return tuple(np.sum([c[name] for c in known], axis=0) for name in names)


def reliability(rows: Sequence[Row]) -> list[tuple[float, float, float]]:
    """(mean probability, share of lesion, volume in mL) of each bin that holds anything."""
    return [
        (float(p / v), float(y / v), float(v))
        for v, p, y in zip(*_bins(rows), strict=True)
        if v > 0
    ]


def correlation(rows: Sequence[Row], what: str = "expected_dice") -> float | None:
    """Pearson's correlation of ``what`` with the Dice that was reached."""
    x = np.array([r[what] for r in rows], float)
    y = np.array([r["dice"] for r in rows], float)
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def robot_figures(rows: Sequence[Row]) -> dict[str, list[Figure]]:
    """Mean Dice after 0, 1, 2, ... clicks, by how far they miss ("0 mm")."""
    noises = sorted({noise for r in rows for noise in r["robot"]})
    result = {}
    for noise in noises:
        series = [r["robot"][noise]["dice"] for r in rows if noise in r["robot"]]
        result[f"{noise:g} mm"] = [mean_of(list(at)) for at in zip(*series, strict=True)]
    return result


def paired(rows: Sequence[Row], others: Sequence[Row], value: str = "dice") -> Row:
    """Both means over the scans that both have, the mean difference with its interval, and
    Wilcoxon's signed-rank test."""
    from scipy import stats

    mine = {r["name"]: r[value] for r in rows}
    both = [(mine[r["name"]], r[value]) for r in others if r["name"] in mine]
    a, b = (np.array(x, float) for x in zip(*both, strict=True)) if both else (np.zeros(0),) * 2
    difference = b - a
    p = None
    if len(both) > 5 and np.any(difference != 0):
        p = float(stats.wilcoxon(difference).pvalue)
    return {"n": len(both), "first": mean_of(a), "second": mean_of(b),
            "difference": mean_of(difference), "p": p}  # fmt: skip


def targets(rows: Sequence[Row]) -> list[tuple[str, Figure, str, bool | None]]:
    """The figures that were asked for before the training: name, figure, target, reached."""
    quiet = [r for r in free(rows) if not r["multiple_sclerosis"]]
    hard = [r for r in free(rows) if r["multiple_sclerosis"] or r["thick"]]
    above = lesioned(rows, 1.0)
    listed = [
        ("Dice, cavity-like lesions above 1 mL", dice(_kind(above, "cavity")), 0.82),
        ("Dice, faint lesions above 1 mL", dice(_kind(above, "faint")), 0.55),
        ("lesion-wise F1 (isles2022), lesioned scans",
         mean_of([r["isles2022"]["lesion_f1"] for r in lesioned(rows)]), 0.60),
        ("lesion-free scans exactly empty (without multiple sclerosis)",
         mean_of([float(r["predicted_ml"] == 0) for r in quiet]), 0.90),
        ("multiple sclerosis or thick slices, lesion-free: no false lesion above .5 mL",
         mean_of([float(r["largest_false_ml"] <= 0.5) for r in hard]), 0.80),
        ("correlation of expected and reached Dice, lesioned scans",
         resampled(lesioned(rows), correlation), 0.60),
    ]  # fmt: skip
    exact = robot_figures(above).get("0 mm", [])
    for clicks, target in ((3, 0.80), (10, 0.87)):
        if len(exact) > clicks:
            listed.append(
                (f"Dice after {clicks} clicks, lesions above 1 mL", exact[clicks], target)
            )
    result: list[tuple[str, Figure, str, bool | None]] = [
        (name, f, f"at least {t:.2f}", None if f["value"] is None else f["value"] >= t)
        for name, f, t in listed
    ]
    error = resampled(rows, ece, 500)
    reached = None if error["value"] is None else error["value"] <= 0.05
    result.append(("ECE inside the brain", error, "at most 0.05", reached))
    return result


def _kind(rows: Sequence[Row], kind: str) -> list[Row]:
    return [r for r in rows if r["kind"] == kind]


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The scans by geometry, slices and skull."""
    return {
        "MNI grid": [r for r in rows if r["geometry"] == "mni"],
        "native, thin slices": [r for r in rows if r["geometry"] != "mni" and not r["thick"]],
        "native, thick slices": [r for r in rows if r["geometry"] != "mni" and r["thick"]],
        "head with skull": [r for r in rows if r["skull"]],
        "brain without skull": [r for r in rows if not r["skull"]],
    }


def found_by_size(rows: Sequence[Row]) -> list[tuple[tuple[float, float], Figure]]:
    """Share of single lesions (components of the truth) that were touched, by their own volume."""
    sizes = ((0.0, 0.1), (0.1, 0.5), (0.5, 1.0), *BANDS[1:])
    single = [lesion for r in rows for lesion in r["lesions"] if "marked" in lesion]
    return [
        (band, mean_of([float(x["marked"] > 0) for x in single
                        if band[0] <= x["volume_ml"] < band[1]]))
        for band in sizes
    ]  # fmt: skip


def scorer_means(rows: Sequence[Row]) -> dict[str, dict[str, Figure]]:
    """Every official metric of the three scorers, over all rows."""
    from StrokeLesionSegLib.lesions import metrics_of

    return {
        scorer: {m: mean_of([r[scorer][m] for r in rows]) for m in metrics_of(scorer)}
        for scorer in SCORERS
    }


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """All of it as one JSON-ready dict, each procedure apart and together."""
    result: dict[str, Any] = {}
    for name, chosen in by_procedure(rows).items():
        sick = lesioned(chosen)
        result[name] = {
            "targets": [
                {"what": what, **figure, "target": target, "reached": reached}
                for what, figure, target, reached in targets(chosen)
            ],
            "dice": {
                f"{kind}, {a:g} to {b:g} mL": dice(
                    [r for r in _kind(sick, kind) if a <= r["volume_ml"] < b]
                )
                for kind in KINDS
                for a, b in BANDS
            },
            "scorers_lesioned": scorer_means(sick),
            "robot": robot_figures(lesioned(chosen, 1.0)),
            "ece": ece(chosen),
            "ece_without_lowest_bin": ece(chosen, 1),
        }
    return result


def by_procedure(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of both procedures, and of each: untouched scans count to every one, since a
    lesion-free scan of a real person is nobody's drawing."""
    return {
        "all": list(rows),
        "first": [r for r in rows if r["procedure"] in ("first", "none")],
        "second": [r for r in rows if r["procedure"] in ("second", "none")],
    }
