"""Convolution and fully connected network of "Automated Segmentation Mask Generation of MRI scans
for Post-Stroke Lesions", figure 2 and section 4.4 (PAPERS.md B2, B9, B10)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

POOLS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
# Kernel of the convolutions of the two stages; the decoder mirrors them.
KERNELS = (3, 5)


class CS230Network(nn.Module):
    """AlexNet-like encoder, two fully connected layers, and the mirrored decoder.

    Input (N, in_channels, H, W) of exactly ``input_size``; output logits (N, out_channels, H, W).
    The fully connected layers tie it to one size: ATLAS slices of 233 x 197 are cropped to
    232 x 196. Two stages of "same" convolution, ReLU and 2x2 pooling (58 x 49 x 16), fully
    connected layers of 1024, 256 (the code), 1024 and 45,472 units, then twice bilinear x2 and a
    transposed convolution. Fully connected and transposed convolutions are linear. The paper's
    settings give 93,705,297 parameters.

    Parameters
    ----------
    input_size: height and width in pixels, both multiples of 4.
    pool: "max" (the paper's) or "avg" (its experiment, B9).
    convs_per_stage: convolutions before each reduction: 1 (the paper's) or 3 (B10).
    filters: channels of the two stages.
    hidden: units of the first fully connected layer and of the code.
    dropout: after each pooling, the encoder's first and both of the decoder's fully connected
        layers.

    Raises ``ValueError`` for an unknown ``pool``, a size that is no multiple of 4, fewer than one
    convolution per stage, and in ``forward`` for an input of another size.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import CS230Network
    >>> network = CS230Network(input_size=(16, 16), hidden=(8, 4)).eval()
    >>> network(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        input_size: Sequence[int] = (232, 196),
        pool: str = "max",
        convs_per_stage: int = 1,
        filters: Sequence[int] = (8, 16),
        hidden: Sequence[int] = (1024, 256),
        dropout: float = 0.15,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}, not {pool!r}")
        if convs_per_stage < 1:
            raise ValueError(f"convs_per_stage must be at least 1, not {convs_per_stage}")
        height, width = input_size
        if height % 4 or width % 4:
            raise ValueError(f"input_size must be multiples of 4, not {height} x {width}")
        self.input_size = (int(height), int(width))
        stages: list[nn.Module] = []
        inputs = in_channels
        for outputs, kernel in zip(filters, KERNELS, strict=True):
            for _ in range(convs_per_stage):
                stages += [nn.Conv2d(inputs, outputs, kernel, padding="same"), nn.ReLU()]
                inputs = outputs
            stages += [POOLS[pool](2), nn.Dropout(dropout)]
        self.encoder = nn.Sequential(*stages)
        self.inner_shape = (filters[1], height // 4, width // 4)
        flat = filters[1] * (height // 4) * (width // 4)
        self.code = nn.Sequential(
            nn.Linear(flat, hidden[0]), nn.Dropout(dropout), nn.Linear(hidden[0], hidden[1])
        )
        self.uncode = nn.Sequential(
            nn.Linear(hidden[1], hidden[0]),
            nn.Dropout(dropout),
            nn.Linear(hidden[0], flat),
            nn.Dropout(dropout),
        )
        self.up1 = nn.ConvTranspose2d(filters[1], filters[0], KERNELS[1], padding=KERNELS[1] // 2)
        self.up2 = nn.ConvTranspose2d(filters[0], out_channels, KERNELS[0], padding=KERNELS[0] // 2)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != self.input_size:
            raise ValueError(
                f"input of {x.shape[-2]} x {x.shape[-1]} pixels, but the fully connected layers "
                f"are made for {self.input_size[0]} x {self.input_size[1]}"
            )
        y = self.uncode(self.code(self.encoder(x).flatten(1)))
        y = y.unflatten(1, self.inner_shape)
        y = self.up1(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False))
        return self.up2(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False))
