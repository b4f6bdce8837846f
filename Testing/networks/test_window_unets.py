"""nnU-Net's and SynthStroke's networks in our own code give the logits of the originals.

nnU-Net's weights and logits come from tiny models that nnunetv2 trained, see Testing/nnunet; MONAI
is a witness with random weights.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.networks import build_network, joined_up
from StrokeLesionSegLib.networks.foreign_names import nnunet_tensors, synthstroke_tensors
from StrokeLesionSegLib.networks.joined_up import JoinedUp, ready_to_ask
from StrokeLesionSegLib.networks.window_unets import PlainConvUNet
from torch import nn

MODELS = Path(__file__).resolve().parents[1] / "nnunet" / "models"
# Relative to the largest logit.
BOUND = 1e-4
THINNING = 5
WIDTHS: dict[str, Any] = {"in_channels": 1, "features": [3, 6, 8]}
CUBE = {"kernels": [[3, 3, 3]] * 3, "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]]}
LAYERS = {"layers": [1, 2, 2], "decoder_layers": [1, 1]}
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "plain3d": (
        {"name": "plain_conv_unet", "dimensions": 3, "classes": 2, **CUBE, **LAYERS},
        (24, 24, 32),
    ),
    "residual": (
        {"name": "residual_encoder_unet", "dimensions": 3, "classes": 3, **CUBE, **LAYERS},
        (24, 32, 24),
    ),
    "anisotropic": (
        {
            "name": "plain_conv_unet",
            "dimensions": 3,
            "classes": 2,
            "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            **LAYERS,
        },
        (8, 32, 32),
    ),
    "slices": (
        {
            "name": "plain_conv_unet",
            "dimensions": 2,
            "classes": 2,
            "kernels": [[3, 3]] * 3,
            "strides": [[1, 1], [2, 2], [2, 2]],
            **LAYERS,
        },
        (32, 32),
    ),
}


def trained_weights(name: str) -> dict[str, torch.Tensor]:
    """``network_weights`` of the first fold in an exported zip of nnU-Net."""
    scalar = np.float64(0).__reduce__()[0]
    allowed = [scalar, np.dtype, type(np.dtype("f8")), type(np.dtype("f4"))]
    with zipfile.ZipFile(MODELS / f"{name}.zip") as archive:
        inside = next(n for n in archive.namelist() if n.endswith("fold_0/checkpoint_final.pth"))
        data = io.BytesIO(archive.read(inside))
    with torch.serialization.safe_globals(allowed):
        return torch.load(data, map_location="cpu", weights_only=True)["network_weights"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_logits_are_those_of_nnunet(name: str) -> None:
    spec, patch = NETWORKS[name]
    network = build_network({**spec, **WIDTHS}).eval()
    network.load_state_dict(nnunet_tensors(trained_weights(name)))
    number = 1 + list(NETWORKS).index(name)
    window = np.random.default_rng(number).normal(size=patch).astype(np.float32)
    with np.load(MODELS / f"{name}.npz") as expected:
        theirs = expected["logits"]
    for joined in (False, True):
        asked = ready_to_ask(network, len(patch)) if joined else network
        with torch.inference_mode():
            logits = asked(torch.from_numpy(window)[None, None])[0].numpy().ravel()[::THINNING]
        assert np.abs(logits - theirs).max() <= BOUND * np.abs(theirs).max()
        assert any(isinstance(module, JoinedUp) for module in asked.modules()) is joined


@pytest.mark.parametrize(
    ("kernels", "strides"),
    [
        ([[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]),
        ([[5, 5, 5], [3, 1, 3]], [[1, 1, 1], [4, 2, 3]]),
        ([[3, 3], [3, 3], [3, 3]], [[1, 1], [2, 2], [2, 2]]),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_steps_up_that_are_joined_say_the_same(
    kernels: list[list[int]], strides: list[list[int]], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the border too, where a bias of the first of both convolutions weighs less; and where the
    sum is made in halves."""
    torch.manual_seed(0)
    stages, dimensions = len(kernels), len(kernels[0])
    network = PlainConvUNet(
        dimensions, 1, 3, [4, 6, 8][:stages], kernels, strides, [1] * stages, [2] * (stages - 1),
        bias,
    ).eval()  # fmt: skip
    for parameter in network.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    window = torch.randn(1, 1, *[24] * dimensions)
    with torch.inference_mode():
        plain = network(window)
        network.join()
        network.join()  # nothing is left to do
        joined = [network(window)]
        monkeypatch.setattr(joined_up, "_LARGE", 1)
        joined.append(network(window))
    for answer in joined:
        assert (answer - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_images_that_are_all_border(size: int) -> None:
    torch.manual_seed(0)
    up, conv = nn.ConvTranspose2d(2, 3, 2, 2), nn.Conv2d(5, 2, 5, padding=2)
    low, skip = torch.randn(1, 2, size, 1), torch.randn(1, 2, 2 * size, 2)
    with torch.inference_mode():
        expected = conv(torch.cat([up(low), skip], 1))
        assert torch.allclose(JoinedUp(up, conv)(low, [skip]), expected, atol=1e-5)


@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("classes", [2, 6])
def test_the_logits_are_those_of_monai(units: int, classes: int) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(units)
    features = (4, 6, 8, 10, 12, 12)
    theirs = nets.UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=features,
        strides=(2, 2, 2, 2, 2),
        num_res_units=units,
    ).eval()
    ours = build_network(
        {"name": "synthstroke_unet", "classes": classes, "features": features, "units": units}
    ).eval()
    # SynthStroke's files name the network "unet".
    ours.load_state_dict(
        synthstroke_tensors({f"unet.{name}": t for name, t in theirs.state_dict().items()})
    )
    window = torch.randn(1, 1, 64, 64, 64)
    with torch.inference_mode():
        expected, answer = theirs(window), ours(window)
    assert (answer - expected).abs().max() <= BOUND * expected.abs().max()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"dimensions": 4}, "dimensions"),
        ({"features": [3]}, "stages"),
        ({"layers": [1, 2]}, "one length"),
        ({"kernels": [[2, 3, 3]] * 3}, "even width"),
        ({"norm": "group"}, "normalisation"),
    ],
)
def test_numbers_that_fit_no_network_are_refused(change: dict[str, Any], cause: str) -> None:
    spec, _ = NETWORKS["plain3d"]
    with pytest.raises(ValueError, match=cause):
        build_network({**spec, **WIDTHS, **change})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [False, True])
def test_a_norm_in_place_is_the_same_norm(affine: bool, dtype: torch.dtype) -> None:
    """In each number format, with numbers of its own and without (SynthStroke's has none)."""
    from StrokeLesionSegLib.networks.window_unets import WindowNorm

    torch.manual_seed(0)
    norm = WindowNorm(4, "instance", 1e-5, affine)
    x = torch.randn(1, 4, 6, 7, 8).to(dtype)
    with torch.inference_mode():
        plain = norm(x.clone())
        norm.spends = True
        given = x.clone()
        spent = norm(given)
    assert spent.data_ptr() == given.data_ptr()
    assert torch.equal(plain, spent)
