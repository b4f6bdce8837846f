"""The tiny nnU-Nets beside this file, installed; and a SynthStroke folder with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.models import ImportChoices, Manifest, install_model

MODELS = Path(__file__).resolve().parent / "models"
NATIVE = ImportChoices(space="native", orientation="RAS")
SYNTHSTROKE = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [3, 4, 4, 4, 4, 4],
    "strides": [2, 2, 2, 2, 2],
    "kernel_size": 3,
    "up_kernel_size": 3,
    "num_res_units": 1,
    "act": "PRELU",
    "norm": "INSTANCE",
    "dropout": 0.0,
    "bias": True,
    "adn_ordering": "NDA",
    "model_type": "baseline",
}


def installed(name: str, choices: ImportChoices = NATIVE) -> Manifest:
    """A tiny nnU-Net by its zip's name, in the user cache of this test."""
    return install_model(MODELS / f"{name}.zip", choices)


def fixture(name: str) -> tuple[Volume, dict[str, np.ndarray]]:
    """The image that nnunetv2 was asked about, and its answers ("plain", "mirrored")."""
    with np.load(MODELS / f"{name}.npz") as archive:
        found = {key: archive[key] for key in archive.files}
    spacing = found["spacing"]
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    return Volume(found["image"].astype(np.float32), affine), found


def write_synthstroke(folder: Path, classes: int = 2, **changes: Any) -> Any:
    """A folder as SynthStroke publishes it; returns MONAI's network with the same weights."""
    import torch
    from monai.networks.nets import UNet
    from StrokeLesionSegLib.models.safetensors_io import write_safetensors

    config = {**SYNTHSTROKE, "out_channels": classes, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(classes)
        network = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=classes,
            channels=config["channels"],
            strides=config["strides"],
            num_res_units=config["num_res_units"],
        ).eval()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {f"unet.{name}": tensor for name, tensor in network.state_dict().items()}
    write_safetensors(folder / "model.safetensors", state)
    return network


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Of two probability maps at a half; 1 where neither holds anything."""
    first, second = a >= 0.5, b >= 0.5
    total = int(first.sum() + second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
