"""Whether an adapted model may take its place among the models: five rules on its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .card import Table
from .measure import Figures, RegressionScore

#: Mean Dice on the kept subjects has to rise by this.
GAIN = 0.01
#: No kept subject may fall by more than this.
FALL = 0.05
#: The regression set, and the robot's figures, may fall by this.
FORGOTTEN = 0.01
# Two volumes that differ by less are the same, in mL.
_SAME_ML = 0.1


@dataclass(frozen=True)
class Verdict:
    """``better``: installed or not. ``reasons``: one line for each rule that does not hold.
    ``figures``: counts and means alone, JSON-ready."""

    better: bool
    reasons: tuple[str, ...]
    figures: dict[str, Any]


def judge(before: Figures, after: Figures) -> Verdict:
    """The rules; ``before`` and ``after`` are of the same scans in the same order."""
    reasons = []
    old, new = by_subject(before), by_subject(after)
    gain = float(np.mean(list(new.values())) - np.mean(list(old.values())))
    if gain < GAIN:
        reasons.append(f"mean Dice on the kept subjects changes by {gain:+.3f}, not by {GAIN:+.2f}")
    worst = min(old, key=lambda s: new[s] - old[s])
    if new[worst] - old[worst] < -FALL:
        change = new[worst] - old[worst]
        reasons.append(f"a kept subject falls by {-change:.3f} in Dice, more than {FALL:g}")
    drawn = _mean(after.regression) - _mean(before.regression)
    if drawn < -FORGOTTEN:
        reasons.append(f"simulated strokes are found worse by {-drawn:.3f} in Dice")
    pairs = [
        (b.found_ml, a.found_ml)
        for b, a in zip(before.regression, after.regression, strict=True)
        if b.kind == "healthy"
    ]
    filled = sum(a > 0 for _, a in pairs) - sum(b > 0 for b, _ in pairs)
    more = max((a - b for b, a in pairs), default=0.0)
    if filled > 0 or more > _SAME_ML:
        reasons.append(f"healthy scans are not as empty as before (up to {more:.2f} mL more)")
    clicked_before, clicked = _clicks(before), _clicks(after)
    lower = max((b - a for b, a in zip(clicked_before, clicked, strict=True)), default=0.0)
    if lower > FORGOTTEN:
        reasons.append(f"clicks bring less: Dice of the robot is lower by {lower:.3f}")
    return Verdict(
        not reasons,
        tuple(reasons),
        {
            "kept subjects": len(old),
            "kept Dice": [_mean_of(old.values()), _mean_of(new.values())],
            "kept worst change": round(new[worst] - old[worst], 4),
            "simulated strokes": sum(r.kind != "healthy" for r in before.regression),
            "simulated Dice": [round(_mean(f.regression), 4) for f in (before, after)],
            "healthy": len(pairs),
            "healthy empty": [sum(b == 0 for b, _ in pairs), sum(a == 0 for _, a in pairs)],
            "robot Dice by clicks": [
                [round(v, 4) for v in clicked_before],
                [round(v, 4) for v in clicked],
            ],
        },
    )  # fmt: skip


def tables_of(before: Figures, after: Figures) -> tuple[Table, Table]:
    """The two tables for people: kept subjects, and the regression set."""
    kept: list[tuple[str, ...]] = [
        (b.subject, f"{b.truth_ml:.2f}", f"{b.found_ml:.2f}", f"{a.found_ml:.2f}",
         f"{b.dice:.3f}", f"{a.dice:.3f}", f"{a.dice - b.dice:+.3f}")
        for b, a in zip(before.kept, after.kept, strict=True)
    ]  # fmt: skip
    old, new = (list(by_subject(f).values()) for f in (before, after))
    means = (float(np.mean(old)), float(np.mean(new)))
    kept.append(("mean", "", "", "", *(f"{m:.3f}" for m in means), f"{means[1] - means[0]:+.3f}"))
    drawn: list[tuple[str, ...]] = [
        (f"{n + 1} {b.kind}", f"{b.truth_ml:.2f}", f"{b.found_ml:.2f}", f"{a.found_ml:.2f}",
         *(("", "", "") if b.kind == "healthy" else
           (f"{b.dice:.3f}", f"{a.dice:.3f}", f"{a.dice - b.dice:+.3f}")))
        for n, (b, a) in enumerate(zip(before.regression, after.regression, strict=True))
    ]  # fmt: skip
    means = (_mean(before.regression), _mean(after.regression))
    drawn.append(("mean", "", "", "", *(f"{m:.3f}" for m in means), f"{means[1] - means[0]:+.3f}"))
    columns = ("true mL", "mL before", "mL after", "Dice before", "Dice after", "change")
    return (
        Table("Kept subjects, whom nothing was learnt from", ("subject", *columns), tuple(kept)),
        Table("Simulated scans, on which nothing may be lost", ("scan", *columns), tuple(drawn)),
    )


def by_subject(figures: Figures) -> dict[str, float]:
    """Mean Dice of each kept subject over its scans."""
    scans: dict[str, list[float]] = {}
    for score in figures.kept:
        scans.setdefault(score.subject, []).append(score.dice)
    return {subject: float(np.mean(values)) for subject, values in sorted(scans.items())}


def _mean(scores: Sequence[RegressionScore]) -> float:
    """Mean Dice of the scans with strokes; 1 without any."""
    return float(np.mean([s.dice for s in scores if s.kind != "healthy"] or [1.0]))


def _clicks(figures: Figures) -> list[float]:
    """Mean Dice after 1, 2, ... clicks."""
    rows = [score.clicks[1:] for score in figures.kept if score.clicks]
    return [float(v) for v in np.mean(rows, axis=0)] if rows else []


def _mean_of(values: Any) -> float:
    return round(float(np.mean(list(values))), 4)
