"""Scans on odd grids and models with answers known beforehand, for the tests of the session."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.models import LoadedModel, Manifest, load_model, write_model
from StrokeLesionSegLib.networks import build_network
from StrokeLesionSegLib.operating_point import OperatingPoint

CHANNELS = ["t1", "click_positive", "click_negative", "previous_probability"]
# Four inputs, or with neighbouring slices and the mirror image seven.
CHANNELS += ["t1_minus_3mm", "t1_plus_3mm", "t1_mirror"]
PLAIN = SegmentOptions(align="none", device="cpu", precision="float32", threads=1)
# Half-axes of the head in mm, and the two lesions: centre, radius, darkness.
HEAD = np.array([20.0, 24.0, 18.0])
DARK = (np.array([-8.0, 4.0, 2.0]), 4.0)
FAINT = (np.array([8.0, -5.0, 1.0]), 4.5)


class Listening(torch.nn.Module):
    """Marks what is dark; what is merely darkish only near a positive click, in any case not near
    a negative one, and more readily where the previous probability is high."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t1, positive, negative, previous = (x[:, n : n + 1] for n in range(4))
        dark = 40 * (0.25 - t1)
        near = torch.nn.functional.max_pool2d(positive, 9, 1, 4)
        far = torch.nn.functional.max_pool2d(negative, 9, 1, 4)
        darkish = 40 * (0.55 - t1)
        logit = torch.maximum(dark, torch.where(near > 0, darkish, dark))
        logit = torch.maximum(logit, torch.where(previous > 0.7, darkish, dark))
        # Where tissue ends in air, half of each looks dark too.
        air = -torch.nn.functional.max_pool2d(-t1, 5, 1, 2) < 0.02
        logit = torch.where(air, torch.full_like(t1, -20.0), logit)
        return torch.where(far > 0, torch.full_like(logit, -20.0), logit)


class Pointwise(torch.nn.Module):
    """The darker a pixel the more lesion, whatever is around it: the same in every plane."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 4 * (0.5 - x[:, :1])


@lru_cache
def random_model(channels: int = 4, multiple: int = 16) -> LoadedModel:
    """A small residual U-Net with fixed random weights, whose answer is different everywhere."""
    spec = {
        "name": "residual_unet",
        "in_channels": channels,
        "skip": "stem",
        "filters": [4, 4, 8, 8, 8],
    }
    state = torch.random.get_rng_state()
    torch.manual_seed(11)
    network = build_network(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    torch.random.set_rng_state(state)
    manifest = {
        "schema": 1,
        "name": "random",
        "version": "0",
        "title": "Random weights for tests",
        "description": "Finds nothing sensible.",
        "license": "Apache-2.0",
        "intended_use": "Tests only.",
        "created": "2026-01-01",
        "network": spec,
        "channels": CHANNELS[:channels],
        "contrast": "T1w",
        "labels": {"1": "stroke lesion"},
        "preprocessing": {
            "grid": "mni152-2009a-1mm",
            "window_percentiles": [0.5, 99.5],
            "window_low_of": "volume",
            "pad_multiple": multiple,
            "brain_mask_margin_mm": None,
        },
        "inference": {
            "threshold": 0.5,
            "second_threshold": None,
            "min_volume_ml": 0,
            "views": "axial",
        },
        "training": {},
        "metrics": {},
    }
    with TemporaryDirectory() as folder:
        write_model(Path(folder) / "random", manifest, network.state_dict(), "float32")
        return load_model(Path(folder) / "random")


def listening_model(threshold: float = 0.5) -> LoadedModel:
    """The model of ``Listening``."""
    model = random_model()
    inference = replace(model.manifest.inference, operating_point=OperatingPoint(threshold))
    manifest: Manifest = replace(model.manifest, inference=inference)
    return replace(model, network=Listening().eval(), manifest=manifest)


def pointwise_model() -> LoadedModel:
    """The model of ``Pointwise``."""
    return replace(random_model(), network=Pointwise().eval())


def turned(axis: int, degrees: float) -> NDArray[np.float64]:
    """3x3, a turn about a RAS axis."""
    a, b = (n for n in range(3) if n != axis)
    turn = np.eye(3)
    turn[a, a] = turn[b, b] = np.cos(np.radians(degrees))
    turn[a, b], turn[b, a] = -np.sin(np.radians(degrees)), np.sin(np.radians(degrees))
    return turn


def affine_of(axes: NDArray[np.float64], shape_kji: tuple[int, int, int]) -> NDArray[np.float64]:
    """An affine with the columns ``axes`` and the middle of the grid at RAS (0, 0, 0)."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ ((np.array(shape_kji[::-1]) - 1) / 2)
    return affine


# name: (3x3 of ijk to RAS, shape kji)
GRIDS: dict[str, tuple[NDArray[np.float64], tuple[int, int, int]]] = {
    "ras": (np.eye(3), (44, 56, 48)),
    "lps": (np.diag([-1.0, -1.0, 1.0]), (44, 56, 48)),
    "sagittal, pir": (np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), (48, 44, 56)),
    "fine": (np.diag([-0.7, 0.8, 1.0]), (44, 70, 66)),
    "thick": (np.diag([0.9, 0.9, 4.0]), (11, 60, 52)),
    "oblique": (turned(0, 12) @ turned(2, 9) @ np.diag([1.0, -1.1, 1.2]), (40, 52, 52)),
    "oblique, thick": (turned(1, 17) @ np.diag([-1.0, 1.0, 3.0]), (18, 56, 52)),
    "coronal, oblique": (
        turned(2, 14) @ np.array([[-1.0, 0, 0], [0, 0, 1.3], [0, -1, 0]]),
        (42, 44, 48),
    ),
    "sheared": (np.array([[1.0, 0.15, 0], [0, 1.0, 0.2], [0, 0, 1.1]]), (40, 56, 50)),
}


def grid_affine(name: str) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    axes, shape = GRIDS[name]
    return affine_of(axes, shape), shape


def places(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """(K, J, I, 3) RAS mm of the voxels."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]


def head(name: str = "ras", *, texture: float = 0.1) -> Volume:
    """An ellipsoid of tissue with a dark and a faint ball in it, sampled on a grid of ``GRIDS``."""
    affine, shape = grid_affine(name)
    ras = places(affine, shape)
    x, y, z = (ras[..., n] for n in range(3))
    values = 0.8 + texture * np.sin(x / 5) * np.cos(y / 4 + 1) * np.sin(z / 6 + 0.5)
    for (centre, radius), dark in ((DARK, 0.1), (FAINT, 0.4)):
        distance = np.linalg.norm(ras - centre, axis=-1)
        values = np.where(distance < radius, dark, values)
    inside = ((ras / HEAD) ** 2).sum(axis=-1) < 1
    return Volume(np.where(inside, 1000 * values, 0).astype(np.float32), affine)


def ball(volume: Volume, centre: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """The voxels of ``volume`` within ``radius`` mm."""
    return np.linalg.norm(places(volume.affine, volume.grid.shape) - centre, axis=-1) < radius


def finish(session, milliseconds: float = 5000) -> None:
    """Let the background do all of its work."""
    for _ in range(100_000):
        if session.work(milliseconds) is None:
            return
    raise AssertionError("the background never ends")


def refine(session) -> None:
    """Let the clicks be worked out to the end."""
    for _ in range(100_000):
        if session.refine_more(5000) is None:
            return
    raise AssertionError("the clicks never end")
