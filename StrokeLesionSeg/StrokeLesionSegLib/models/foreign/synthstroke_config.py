"""SynthStroke's ``config.json``: which network, and how SynthStroke asks it.

Chalcroft et al., MELBA 3 (2025), 317-346.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..window_settings import Resampling, Space, WindowSettings
from .nnunet_plans import Unusable

_AGAIN = "Take the model from its publisher again"
#: Voxels of a window, of 1 mm.
PATCH = 128
_LABELS = {
    2: ("background", "lesion"),
    6: (
        "background",
        "grey matter",
        "white matter",
        "partial volume",
        "cerebrospinal fluid",
        "lesion",
    ),
}
_USUAL = {"act": "PRELU", "norm": "INSTANCE", "adn_ordering": "NDA", "spatial_dims": 3}


def network_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The spec for ``networks.build_network``. Raises ``Unusable``."""
    inputs, classes = config.get("in_channels", 1), config.get("out_channels", 2)
    if inputs != 1:
        raise Unusable(
            f"the model wants {inputs} images of each head", "Choose a SynthStroke model of one"
        )
    if classes not in _LABELS:
        raise Unusable(f"the model has {classes} classes, not 2 or 6", _AGAIN)
    for name, usual in _USUAL.items():
        value = config.get(name, usual)
        if (value.upper() if isinstance(value, str) else value) != usual:
            raise Unusable(f"the network's setting {name} ({value}) is unknown here", _AGAIN)
    return {
        "name": "synthstroke_unet",
        "in_channels": 1,
        "classes": classes,
        "features": config.get("channels", [32, 64, 128, 256, 320, 320]),
        "strides": config.get("strides", [2, 2, 2, 2, 2]),
        "units": config.get("num_res_units", 1),
        "kernel": config.get("kernel_size", 3),
        "up_kernel": config.get("up_kernel_size", 3),
        "bias": config.get("bias", True),
    }


def windows_of(classes: int) -> WindowSettings:
    """How SynthStroke asks a network of so many classes."""
    return WindowSettings(
        rule="monai",
        patch=(PATCH, PATCH, PATCH),
        # Its arrays are indexed i, j, k.
        transpose=(2, 1, 0),
        spacing=(1.0, 1.0, 1.0),
        crop_to_nonzero=False,
        normalization="histogram",
        mirror_axes=(0, 1, 2),
        classes=classes,
        lesion=classes - 1,
        labels=_LABELS[classes],
        folds=("model",),
        space=Space(),
        resample_image=Resampling("torch"),
        resample_logits=Resampling("torch"),
    )
