"""Clicks of a simulated user on what the network has got wrong, on the grid of 2 mm.

A click is a Gaussian of 2.4 mm about a voxel, in the channel of lesion or of not lesion. The same
stamp is made when a person clicks (``inference.volumetric``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..inference.click_stamp import stamp

# Errors below this many voxels of 2 mm are border noise, on which nobody clicks.
_LEAST = 3


@dataclass(frozen=True)
class TrainingClick:
    """``place``: k, j, i at 2 mm. ``lesion``: what the user says it is."""

    place: tuple[int, int, int]
    lesion: bool


def channels_of(clicks: list[TrainingClick], shape: tuple[int, int, int]) -> torch.Tensor:
    """(2, K, J, I) float32: lesion clicks, other clicks."""
    out = np.zeros((2, *shape), np.float32)
    for click in clicks:
        stamp(out[0 if click.lesion else 1], click.place)
    return torch.from_numpy(out)


def clicks_on_errors(
    predicted: NDArray[np.float32],
    truth: NDArray[np.float32],
    rng: np.random.Generator,
    count: int,
) -> list[TrainingClick]:
    """``count`` clicks on errors, larger ones more often; none if nothing is wrong or there.

    ``predicted``, ``truth``: (K, J, I) at 2 mm, mean probability and share of lesion. Half of the
    clicks go to the middle of an error, a quarter anywhere in it, a quarter near its border, and
    some of all miss their mark by a voxel. Where nothing is wrong a lesion is confirmed.
    """
    from scipy.ndimage import label

    pieces: list[tuple[int, bool, NDArray[np.int64]]] = []
    for lesion, wrong in (
        (True, (truth > 0.5) & (predicted < 0.5)),
        (False, (truth < 0.5) & (predicted > 0.5)),
    ):
        labels, n = label(wrong)
        if not n:
            continue
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        for value in np.argsort(sizes)[::-1][:6]:
            if sizes[value] >= _LEAST:
                pieces.append((int(sizes[value]), lesion, np.argwhere(labels == value)))
    if not pieces:
        inside = np.argwhere(truth > 0.5)
        if not len(inside):
            return []
        return [TrainingClick(_tuple(inside[rng.integers(len(inside))]), True)]
    weights = np.array([p[0] for p in pieces], float) ** 0.7
    weights /= weights.sum()
    out = []
    for _ in range(count):
        _, lesion, where = pieces[rng.choice(len(pieces), p=weights)]
        place = _somewhere(where, rng)
        if rng.random() < 0.15:
            place = np.clip(place + rng.integers(-1, 2, 3), 0, np.array(truth.shape) - 1)
        out.append(TrainingClick(_tuple(place), lesion))
    return out


def _somewhere(where: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    from scipy.ndimage import distance_transform_edt

    r = rng.random()
    if r < 0.25:
        return where[rng.integers(len(where))]
    low = where.min(0) - 1
    crop = np.zeros(where.max(0) - low + 2, bool)
    crop[tuple((where - low).T)] = True
    depth = distance_transform_edt(crop)
    if r < 0.5:  # near the border
        values = 1 / (depth[crop] ** 2)
        return np.argwhere(crop)[rng.choice(len(values), p=values / values.sum())] + low
    depth *= 1 + 0.6 * rng.random(depth.shape)
    return np.array(np.unravel_index(depth.argmax(), depth.shape)) + low


def _tuple(place: NDArray[np.int64]) -> tuple[int, int, int]:
    k, j, i = (int(v) for v in place)
    return k, j, i
