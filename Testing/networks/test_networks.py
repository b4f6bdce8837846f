"""The papers' networks: sizes, costs, shapes, both readings of the skips, gradients, the block."""

from __future__ import annotations

import pytest
import torch
from StrokeLesionSegLib.networks import (
    NETWORKS,
    ResidualUNet,
    UNet,
    build_network,
    count_macs,
    count_parameters,
)
from StrokeLesionSegLib.networks.blocks import ConvBlock, ResidualBlock, UpBlock
from torch.nn import functional as F

PADDED_SLICE = (1, 1, 208, 240)  # an ATLAS slice of 197 x 233, padded (A6)

# PAPERS.md A7 to A9: specification, parameters, GMAC a slice
PAPER = [
    ({"name": "unet"}, 7_765_409, 9.2),
    ({"name": "residual_unet", "skip": "block_input"}, 7_412_929, 6.1),
    ({"name": "residual_unet", "skip": "stem"}, 7_940_449, 9.3),
]
SMALL = [
    {"name": "unet", "filters": [4, 6, 8]},
    {"name": "residual_unet", "skip": "block_input", "filters": [4, 6, 8]},
    {"name": "residual_unet", "skip": "stem", "filters": [4, 6, 8]},
    {"name": "residual_unet", "skip": "stem", "filters": [4, 6, 8], "inner_activation": True},
]


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel * kernel + outputs


def conv_block(inputs: int, outputs: int) -> int:
    """Two 3x3 convolutions with bias, two batch normalisations with scale and shift."""
    return conv(inputs, outputs, 3) + conv(outputs, outputs, 3) + 4 * outputs


def residual_block(inputs: int, outputs: int) -> int:
    return conv_block(inputs, outputs) + conv(inputs, outputs, 1)


def up_block(deep: int, skipped: int, outputs: int) -> int:
    return conv(deep, outputs, 2) + conv_block(outputs + skipped, outputs)


@pytest.mark.parametrize(("spec", "parameters", "gmac"), PAPER)
def test_paper_sizes_and_costs(spec, parameters, gmac):
    network = build_network(spec)
    assert count_parameters(network) == parameters
    assert count_macs(network, PADDED_SLICE) / 1e9 == pytest.approx(gmac, abs=0.05)
    assert network.training  # counting must not leave it in evaluation mode


def test_sizes_from_the_papers_text():
    """The same numbers, added up block by block from what the paper says."""
    f = (32, 64, 128, 256, 512)
    decoder = sum(up_block(f[n + 1], f[n], f[n]) for n in range(4)) + conv(32, 1, 1)
    encoder = sum(conv_block(a, b) for a, b in zip((1, *f[:3]), f[:4], strict=True))
    assert encoder + conv_block(256, 512) + decoder == 7_765_409
    stem = conv_block(1, 32) + sum(residual_block(f[n], f[n + 1]) for n in range(4))
    assert stem + decoder == 7_940_449
    literal = sum(residual_block(a, b) for a, b in zip((1, *f[:3]), f[:4], strict=True))
    skips = (1, 32, 64, 128)
    literal += conv_block(256, 512) + conv(32, 1, 1)
    literal += sum(up_block(f[n + 1], skips[n], f[n]) for n in range(4))
    assert literal == 7_412_929


def test_macs_of_one_convolution():
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert count_macs(layer, (2, 3, 7, 11)) == 2 * 7 * 11 * 5 * 3 * 9


@pytest.mark.parametrize("spec", SMALL)
@pytest.mark.parametrize(
    ("channels", "outputs", "size"), [(1, 1, (16, 24)), (4, 1, (32, 16)), (2, 3, (4, 4))]
)
def test_shapes(spec, channels, outputs, size):
    network = build_network({**spec, "in_channels": channels, "out_channels": outputs})
    y = network(torch.randn(2, channels, *size))
    assert y.shape == (2, outputs, *size)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("spec", SMALL)
def test_output_is_logits(spec):
    torch.manual_seed(0)
    network = build_network(spec)
    torch.nn.init.constant_(network.head.bias, -7.0)
    y = network(torch.randn(1, 1, 16, 16))
    assert y.max() < 0  # a sigmoid at the end could not be negative


@pytest.mark.parametrize("spec", SMALL)
def test_sizes_that_do_not_divide_are_errors(spec):
    with pytest.raises(RuntimeError):
        build_network(spec)(torch.randn(1, 1, 18, 16))


def test_where_the_skips_are_taken():
    """Channels that the decoder receives by skip, from full resolution down (A9)."""

    def skips(network):
        widths = [up.block[0].in_channels - up.up.out_channels for up in network.decoder]
        return widths[::-1]

    assert skips(ResidualUNet(skip="block_input")) == [1, 32, 64, 128]
    assert skips(ResidualUNet(skip="stem")) == [32, 64, 128, 256]
    assert skips(UNet()) == [32, 64, 128, 256]


@pytest.mark.parametrize("skip", ["block_input", "stem"])
def test_the_first_skip_carries_full_resolution(skip):
    """With everything deep silenced, one changed pixel reaches its own place by the skip alone."""
    torch.manual_seed(0)
    network = ResidualUNet(skip=skip, filters=(4, 6, 8), dropout=0.0).eval()
    with torch.no_grad():
        for parameter in network.decoder[-1].up.parameters():
            parameter.zero_()
        x = torch.zeros(1, 1, 16, 16)
        y = x.clone()
        y[0, 0, 5, 9] = 1
        changed = (network(y) - network(x)).abs()[0, 0] > 1e-7
    where = torch.nonzero(changed)
    assert len(where) > 0
    reach = 2 if skip == "block_input" else 4  # two or four 3x3 convolutions
    assert (where - torch.tensor([5, 9])).abs().max() <= reach


@pytest.mark.parametrize("inner_activation", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (12, 6)])
def test_residual_block_is_the_formula(inner_activation, size):
    """y = BN(ReLU(BN(conv2(conv1_s2(x)))) + conv1x1_s2(x)), written out with functions (A8)."""
    torch.manual_seed(3)
    block = ResidualBlock(3, 5, dropout=0.5, inner_activation=inner_activation).double().eval()
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)

    def norm(x, layer):
        scale = layer.weight / torch.sqrt(layer.running_var + 1e-5)
        shift = layer.bias - layer.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    x = torch.randn(2, 3, *size, dtype=torch.float64)
    main = F.conv2d(x, block.conv1.weight, block.conv1.bias, stride=2, padding=1)
    if inner_activation:
        main = norm(main, block.inner[0]).clamp(min=0)
    main = F.conv2d(main, block.conv2.weight, block.conv2.bias, stride=1, padding=1)
    main = norm(main, block.norm2).clamp(min=0)
    # A 1x1 convolution of stride 2 is a matrix product on every second pixel.
    short = torch.einsum("oi,nihw->nohw", block.shortcut.weight[:, :, 0, 0], x[:, :, ::2, ::2])
    expected = norm(main + short + block.shortcut.bias[:, None, None], block.norm_out)
    assert torch.allclose(block(x), expected, atol=1e-12)
    assert expected.shape == (2, 5, size[0] // 2, size[1] // 2)


def test_residual_block_drops_half_while_training():
    torch.manual_seed(0)
    block = ResidualBlock(2, 64, dropout=0.5).train()
    y = block(torch.randn(4, 2, 32, 32))
    assert (y == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.count_nonzero(block.eval()(torch.randn(4, 2, 32, 32)) == 0) == 0


def test_blocks_are_made_of_what_the_paper_names():
    kinds = [type(m).__name__ for m in ConvBlock(1, 2)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    up = UpBlock(8, 3, 4).up
    assert (type(up), up.kernel_size, up.stride) == (torch.nn.ConvTranspose2d, (2, 2), (2, 2))
    assert (up.in_channels, up.out_channels) == (8, 4)
    pools = [m for m in UNet().modules() if isinstance(m, torch.nn.MaxPool2d)]
    assert [p.kernel_size for p in pools] == [2]
    assert not any(isinstance(m, torch.nn.MaxPool2d) for m in ResidualUNet().modules())


@pytest.mark.parametrize("spec", SMALL)
def test_gradients_reach_every_parameter(spec):
    torch.manual_seed(0)
    network = build_network(spec)
    x = torch.randn(2, 1, 16, 16, requires_grad=True)
    network(x).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert x.grad.abs().sum() > 0
    # A bias before batch normalisation has no effect and so no gradient worth the name.
    weights = {n: p for n, p in network.named_parameters() if n.endswith("weight")}
    silent = [n for n, p in weights.items() if p.grad.abs().max() == 0]
    assert silent == []


@pytest.mark.parametrize("spec", SMALL)
def test_a_few_steps_learn_a_square(spec):
    torch.manual_seed(0)
    network = build_network({**spec, **({"dropout": 0.0} if "skip" in spec else {})})
    x = torch.randn(4, 1, 16, 16) * 0.1
    target = torch.zeros(4, 1, 16, 16)
    target[:, :, 4:12, 6:14] = 1
    x = x + target
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(network(x), target).backward()
        optimiser.step()
    # Still in training mode: so few steps do not settle the running statistics.
    found = network(x) > 0
    dice = 2 * (found & (target > 0)).sum() / (found.sum() + target.sum())
    assert dice > 0.95


@pytest.mark.parametrize("spec", SMALL)
def test_evaluation_is_deterministic_and_slices_are_independent(spec):
    torch.manual_seed(0)
    network = build_network(spec).eval()
    x = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        together = network(x)
        assert torch.equal(together, network(x))
        alone = torch.cat([network(x[n : n + 1]) for n in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_build_network_leaves_the_specification_alone():
    spec = {"name": "unet", "filters": [4, 8]}
    before = dict(spec)
    build_network(spec)
    assert spec == before


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ({}, "unknown network None; known are .*residual_unet.*unet"),
        ({"name": "vnet"}, "unknown network 'vnet'"),
        ({"name": "unet", "skip": "stem"}, "network unet: .*skip"),
        ({"name": "residual_unet", "colour": 1}, "colour"),
        ({"name": "residual_unet", "skip": "both"}, "skip must be one of block_input, stem"),
    ],
)
def test_specifications_that_make_no_sense(spec, cause):
    with pytest.raises(ValueError, match=cause):
        build_network(spec)


def test_every_network_of_the_table_is_reached_by_its_name():
    assert {"unet", "residual_unet"} <= set(NETWORKS)
    assert type(build_network({"name": "unet"})) is UNet
    assert type(build_network({"name": "residual_unet"})) is ResidualUNet
