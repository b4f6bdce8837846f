"""A model with weights set by hand that finds what is as dark as fluid: lesions and ventricles.

It stands for a trained model in the tests of the module: tiny, quick, the same everywhere, and
with an answer that is known beforehand.
"""

from __future__ import annotations

from pathlib import Path


def write_fluid_model(directory: Path, name: str = "fluid") -> None:
    """Write the model to ``directory/name``."""
    import torch
    from model_manifest import model_manifest
    from StrokeLesionSegLib.models import write_model
    from StrokeLesionSegLib.networks import build_network

    spec = {"name": "unet", "in_channels": 4, "filters": [2, 2]}
    network = build_network(spec).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1.0)
                module.eps = 0.0
        first, second = network.encoder[0][0], network.encoder[0][3]
        # Two ramps of the mean over 3 x 3 pixels: above .10 and above .28 of the window.
        first.weight[:, 0] = 1 / 9
        first.bias.copy_(torch.tensor([-0.10, -0.28]))
        for convolution in (second, network.decoder[0].block[0], network.decoder[0].block[3]):
            for channel in range(2):
                convolution.weight[channel, channel, 1, 1] = 1.0
        network.head.weight[0, :, 0, 0] = torch.tensor([50.0, -160.0])
        network.head.bias.fill_(-3.0)
    manifest = model_manifest(
        name,
        spec,
        description="Weights set by hand; marks what is as dark as fluid.",
        inference={
            "threshold": 0.5,
            "second_threshold": None,
            "min_volume_ml": 1.0,
            "views": "axial",
        },
    )
    write_model(directory / name, manifest, network.state_dict(), "float32")
