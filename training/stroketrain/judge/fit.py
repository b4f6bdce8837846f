"""Fit the perceptron of ``editing/judge.py`` to records of robot users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from StrokeLesionSegLib.editing.clues import CLUES, REACH_MM
from StrokeLesionSegLib.editing.judge import FADE_MM, before_judging, scaled
from torch import Tensor, nn

from .collect import Record

_HIDDEN, _BATCH, _RATE, _ENTROPY = 32, 16, 3e-3, 0.15


def perceptron() -> nn.Sequential:
    """Of scaled clues (..., len(CLUES)); it begins as one that says nothing."""
    net = nn.Sequential(
        nn.Linear(len(CLUES), _HIDDEN), nn.ReLU(),
        nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(),
        nn.Linear(_HIDDEN, 1),
    )  # fmt: skip
    with torch.no_grad():
        net[-1].weight.mul_(0.1)
        net[-1].bias.zero_()
    return net


def _batch(records: Sequence[Record]) -> dict[str, Tensor]:
    """Records as padded tensors (B, n, ...); padding weighs nothing."""
    n = max(len(r.lesion) for r in records)

    def padded(arrays: Sequence[np.ndarray], value: float = 0.0) -> Tensor:
        out = np.full((len(arrays), n, *arrays[0].shape[1:]), value, np.float32)
        for row, array in zip(out, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(out)

    clues = padded([r.clues for r in records])
    base = before_judging(clues.permute(2, 0, 1).numpy())
    return {
        "clues": clues,
        "base": torch.from_numpy(base),
        "lesion": padded([r.lesion for r in records]),
        "weight": padded([r.weight for r in records]),
        "distance": padded([r.distance for r in records], REACH_MM),
        "beyond": torch.tensor([float(r.beyond) for r in records]),
    }


def _odds(net: nn.Module, b: dict[str, Tensor], mean: Tensor, scale: Tensor) -> Tensor:
    fade = ((REACH_MM - b["distance"]) / FADE_MM).clamp(0, 1)
    return b["base"] + fade * net(scaled(b["clues"], mean, scale))[..., 0]


def _dice(marked: Tensor, b: dict[str, Tensor], smooth: float = 0.0) -> Tensor:
    """(B,): Dice of the whole neighbourhood of the clicks, and of the lesions beyond it."""
    weight, lesion = b["weight"], b["lesion"]
    total = (weight * (marked + lesion)).sum(1) + b["beyond"] + smooth
    return (2 * (weight * marked * lesion).sum(1) + smooth) / total.clamp_min(1)


def fit(
    records: Sequence[Record],
    *,
    epochs: int = 12,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors for ``editing.judge.Judge``, and what they do for scans that were held out.

    A sixth of the scans is held out. The loss of a record is 1 - soft Dice plus cross entropy, so
    that each record counts alike, however large its lesion.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scans = sorted({r.scan for r in records})
    held = set(rng.permutation(scans)[: max(1, len(scans) // 6)].tolist())
    train = [r for r in records if r.scan not in held]
    test = [r for r in records if r.scan in held]
    if not train or not test:
        raise ValueError("records of at least two scans are needed")
    clues = np.concatenate([r.clues for r in train[::2]]).astype(np.float32)
    mean, scale = torch.from_numpy(clues.mean(0)), torch.from_numpy(clues.std(0) + 1e-3)
    net = perceptron()
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-3)
    total = epochs * max(1, len(train) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=total + 1)

    def tested() -> dict[str, Any]:
        with torch.no_grad():
            parts = [_batch(test[n : n + _BATCH]) for n in range(0, len(test), _BATCH)]
            after = torch.cat([_dice((_odds(net, b, mean, scale) > 0).float(), b) for b in parts])
            before = torch.cat([_dice((b["base"] > 0).float(), b) for b in parts])
        clicks = np.array([r.clicks for r in test])
        rows = {
            int(k): [round(float(d[torch.from_numpy(clicks == k)].mean()), 4)
                     for d in (before, after)]
            for k in np.unique(clicks)
        }  # fmt: skip
        return {"scans": len(held), "dice_by_clicks_before_and_after": rows}

    for epoch in range(epochs):
        order = rng.permutation(len(train))
        for first in range(0, len(train) - _BATCH + 1, _BATCH):
            b = _batch([train[n] for n in order[first : first + _BATCH]])
            odds = _odds(net, b, mean, scale)
            each = F.binary_cross_entropy_with_logits(odds, b["lesion"], reduction="none")
            lesion = (b["weight"] * b["lesion"]).sum(1) + b["beyond"]
            entropy = ((b["weight"] * each).sum(1) / (lesion + 500)).clamp_max(5)
            loss = (1 - _dice(torch.sigmoid(odds), b, 1.0) + _ENTROPY * entropy).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if epoch in (0, epochs // 2):
            say(f"epoch {epoch + 1}: {tested()}")
    tensors = {"mean": mean, "scale": scale}
    for number, layer in enumerate(m for m in net if isinstance(m, nn.Linear)):
        tensors[f"weight{number + 1}"] = layer.weight.detach().contiguous()
        tensors[f"bias{number + 1}"] = layer.bias.detach().contiguous()
    result = tested()
    say(f"held out: {result}")
    return tensors, result
