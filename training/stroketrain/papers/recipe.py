"""Recipes: everything that makes one of the papers' runs, as plain data, with presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from StrokeLesionSegLib.errors import InputError

from .planes import Frame, slice_range

PRESETS = Path(__file__).resolve().parents[1] / "presets"
AUGMENTATIONS = ("paper", "none")
BATCHINGS = ("scan", "slices")


@dataclass(frozen=True)
class Recipe:
    """One run but for its data, its split and its seed.

    Attributes
    ----------
    network: the spec for ``build_network``.
    frame: see ``planes.Frame``: mode, multiple, shrink.
    window, index_base: which axial slices are trained on, see ``slice_range``; None for all.
    evaluate_window: which are scored; None for all, "same" for those trained on.
    batching: "scan" (all slices of one scan, A4) or "slices" (drawn from everywhere).
    batch: slices in a batch; slabs for a volumetric network.
    depth: slices of a slab.
    repeats: how often an epoch shows each slice, every time with fresh augmentation.
    augment: "paper" (A5) or "none".
    loss, schedule: see ``losses.py`` and ``schedules.py``.
    optimizer: name "adam" or "adamw", lr, weight_decay; clip: largest gradient norm or None.
    epochs, patience: at most so many, stop when volume Dice has not risen for so many.
    steps_per_epoch, evaluate_scans: bounds for quick runs; None for none.
    evaluate_step: every so many slices are scored; more than 1 for quick runs only.
    monitor_scans: after each epoch, and of the training part, so many scans are scored, spread
        over the part; None for all.
    """

    network: dict[str, Any]
    frame: dict[str, Any] = field(default_factory=lambda: {"mode": "pad", "multiple": 16})
    window: list[int] | None = None
    index_base: str = "absolute"
    evaluate_window: list[int] | str | None = None
    batching: str = "slices"
    batch: int = 20
    depth: int = 32
    repeats: int = 1
    augment: str = "paper"
    loss: dict[str, Any] = field(default_factory=lambda: {"name": "dice"})
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "adam", "lr": 1e-3})
    clip: float | None = None
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "constant"})
    epochs: int = 100
    patience: int = 15
    steps_per_epoch: int | None = None
    evaluate_scans: int | None = None
    evaluate_step: int = 1
    monitor_scans: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("augment", self.augment, AUGMENTATIONS),
            ("batching", self.batching, BATCHINGS),
        ):
            if value not in known:
                raise InputError(
                    f"recipe.{name}", f"unknown value {value!r}", f"Use {', '.join(known)}"
                )
        _ = self.slices  # raises for a window that is none

    @property
    def framing(self) -> Frame:
        return Frame(**self.frame)

    @property
    def slices(self) -> range:
        return slice_range(self.window, self.index_base)

    @property
    def scored(self) -> range:
        if self.evaluate_window == "same":
            return self.slices[:: self.evaluate_step]
        return slice_range(self.evaluate_window)[:: self.evaluate_step]  # type: ignore[arg-type]

    @property
    def dimensions(self) -> int:
        return 3 if str(self.network.get("name", "")).endswith("_3d") else 2

    @property
    def neighbours(self) -> int:
        """Slices that go into one prediction as channels."""
        if self.network.get("name") == "residual_unet_25d":
            return int(self.network.get("slices", 5))
        return 1

    def spec(self, height: int = 233, width: int = 197) -> dict[str, Any]:
        """The network's spec; a fully connected one gets the size that slices are framed to."""
        if self.network.get("name") == "cs230":
            return {**self.network, "input_size": list(self.framing.size(height, width))}
        return dict(self.network)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid onto ``base``, dict by dict; a dict with another ``name`` replaces whole."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        renamed = isinstance(value, Mapping) and value.get("name") not in (
            None,
            old.get("name") if isinstance(old, Mapping) else None,
        )
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not renamed:
            out[key] = merge(old, value)
        else:
            out[key] = dict(value) if isinstance(value, Mapping) else value
    return out


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_recipe(preset: str, over: Mapping[str, Any] | None = None) -> Recipe:
    """The preset with ``over`` laid onto it; raises ``InputError`` for unknown names."""
    path = PRESETS / f"{preset}.yaml"
    if not path.is_file():
        raise InputError(
            "--preset", f"unknown preset {preset!r}", f"Use {', '.join(preset_names())}"
        )
    content = merge(yaml.safe_load(path.read_text(encoding="utf-8")), over or {})
    known = {f.name for f in fields(Recipe)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise InputError(
            f"recipe {preset}", f"unknown fields {', '.join(unknown)}", "See papers/recipe.py"
        )
    return Recipe(**content)
