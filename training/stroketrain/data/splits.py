"""Splits into train, validation and test (PAPERS.md A3, B12), seeded and written to JSON.

``subject``  60/20/20 of the subjects: the papers' tables.
``scan``     60/20/20 of the scans, all sessions of a subject together.
``site``     whole sites, as near to 60/20/20 of the scans as they allow: for claims.
``slice``    60/20/20 of the axial slices, whoever they belong to: the leaky one, to be measured.

A ``fold`` gives one of five such splits whose test parts do not overlap (as many as there are
sites, where these are fewer).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.outputs import atomic_file

PARTS = ("train", "val", "test")
WAYS = ("subject", "site", "scan", "slice")
SHARES = (0.6, 0.2, 0.2)
FOLDS = 5


@dataclass(frozen=True)
class Split:
    """``parts[part][scan name]`` is a list of axial slices, or None for all of them."""

    by: str
    seed: int
    fingerprint: str
    parts: dict[str, dict[str, list[int] | None]]
    fold: int | None = None

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Split:
        """Read a split without any check of its scans; raises ``InputError``."""
        try:
            return Split(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise InputError(
                path, f"is not a split ({error})", "Make one with stroketrain split"
            ) from error

    @staticmethod
    def load(path: Path, scans: Sequence[dict[str, Any]], fingerprint: str = "") -> Split:
        """Read a split and check it against the cache's scans; raises ``InputError``, also where it
        was made of other data than ``fingerprint`` names."""
        split = Split.read(path)
        if fingerprint and split.fingerprint and split.fingerprint != fingerprint:
            raise InputError(
                path,
                f"it was made of other data ({split.fingerprint[:8]}) than these "
                f"({fingerprint[:8]})",
                "Make a new one with stroketrain split",
            )
        check_split(split, scans, path)
        return split


def make_split(
    scans: Sequence[dict[str, Any]],
    by: str = "subject",
    *,
    seed: int = 0,
    fingerprint: str = "",
    slices: range = range(189),
    fold: int | None = None,
) -> Split:
    """Draw a split of a cache's scans (dicts with name, subject and site).

    With ``fold`` the units are dealt into five parts, of which number ``fold`` is the test part,
    the next one validation and the other three training.

    Raises ``InputError`` for an unknown way and where there are fewer than three units to deal.
    """
    if by not in WAYS:
        raise InputError("--by", f"unknown way to split {by!r}", f"Use {', '.join(WAYS)}")
    rng = np.random.default_rng((seed, WAYS.index(by)))
    if by == "slice":
        parts = _by_slice(scans, slices, rng, fold)
    else:
        key = "site" if by == "site" else "subject"
        groups: dict[str, list[str]] = {}
        for scan in scans:
            groups.setdefault(str(scan[key]), []).append(str(scan["name"]))
        if len(groups) < 3:
            raise InputError(
                f"--by {by}",
                f"{counted(len(groups), key)}, and three parts need at least three",
                "Split in another way, or add data",
            )
        weigh = (lambda names: 1.0) if by == "subject" else (lambda names: float(len(names)))
        if fold is None:
            parts = _deal(groups, weigh, rng)
        else:
            parts = _fold(groups, weigh, rng, fold)
    split = Split(by, seed, fingerprint, parts, fold)
    check_split(split, scans, Path(f"--by {by}"))
    return split


def _deal(groups: dict[str, list[str]], weigh: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Each group to the part that lacks most of its share; no part stays empty."""
    order = [sorted(groups)[n] for n in rng.permutation(len(groups))]
    total = sum(weigh(names) for names in groups.values())
    filled = dict.fromkeys(PARTS, 0.0)
    parts: dict[str, dict[str, None]] = {part: {} for part in PARTS}
    for number, group in enumerate(order):
        empty = [p for p in PARTS if not parts[p]]
        left = len(order) - number
        choices = empty if len(empty) >= left else PARTS
        lack = {p: SHARES[PARTS.index(p)] - filled[p] / total for p in choices}
        part = max(choices, key=lambda p: lack[p])
        filled[part] += weigh(groups[group])
        parts[part].update(dict.fromkeys(groups[group]))
    return {part: dict(sorted(names.items())) for part, names in parts.items()}


def _fold(
    groups: dict[str, list[str]], weigh: Any, rng: np.random.Generator, fold: int
) -> dict[str, Any]:
    """The heaviest groups first, each to the lightest of five folds; then one of the rotations."""
    order = [sorted(groups)[n] for n in rng.permutation(len(groups))]
    order.sort(key=lambda group: -weigh(groups[group]))
    dealt: list[list[str]] = [[] for _ in range(min(FOLDS, len(groups)))]
    weights = [0.0] * len(dealt)
    for group in order:
        at = weights.index(min(weights))
        dealt[at] += groups[group]
        weights[at] += weigh(groups[group])
    test, val = fold % len(dealt), (fold + 1) % len(dealt)
    rest = [name for n, names in enumerate(dealt) if n not in (test, val) for name in names]
    parts = {"train": rest, "val": dealt[val], "test": dealt[test]}
    return {part: dict.fromkeys(sorted(names)) for part, names in parts.items()}


def _by_slice(
    scans: Sequence[dict[str, Any]], slices: range, rng: np.random.Generator, fold: int | None
) -> dict[str, Any]:
    units = [(str(scan["name"]), z) for scan in scans for z in slices]
    if len(units) < 3:
        raise InputError("--by slice", "there are fewer than three slices", "Add data")
    order = rng.permutation(len(units))
    if fold is not None:  # rotate, so that the test part, the last fifth, is another one
        order = np.roll(order, (fold % FOLDS) * -(-len(units) // FOLDS))
    first = round(SHARES[0] * len(units))
    second = first + round(SHARES[1] * len(units))
    parts: dict[str, dict[str, list[int]]] = {}
    for part, chosen in zip(PARTS, np.split(order, [first, second]), strict=True):
        rows: dict[str, list[int]] = {}
        for n in sorted(chosen):
            rows.setdefault(units[n][0], []).append(units[n][1])
        parts[part] = rows
    return parts


def check_split(split: Split, scans: Sequence[dict[str, Any]], where: Path) -> None:
    """Raises ``InputError`` if a part or a scan is missing or unknown, a subject (or, in a split
    by site, a site) stands on two sides and the split is not by slice, or a slice does."""
    known = {str(scan["name"]): scan for scan in scans}
    if set(split.parts) != set(PARTS):
        raise InputError(where, f"its parts are {sorted(split.parts)}", f"They must be {PARTS}")
    side: dict[Any, str] = {}
    for part in PARTS:
        for name, chosen in split.parts[part].items():
            if name not in known:
                raise InputError(where, f"{name} is not in the data", "Make a new split")
            keys: list[Any]
            if split.by == "slice":
                keys = [(name, z) for z in chosen or ()]
            else:
                keys = [("subject", known[name]["subject"])]
                if split.by == "site":
                    keys.append(("site", known[name]["site"]))
            for key in keys:
                if side.setdefault(key, part) != part:
                    raise InputError(
                        where,
                        f"{' '.join(map(str, key))} is both in {side[key]} and in {part}",
                        "Make a new split",
                    )
