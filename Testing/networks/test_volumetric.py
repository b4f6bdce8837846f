"""The volumetric network: its size, its lossless way to 2 mm and back, heads apart in a batch."""

from __future__ import annotations

import pytest
import torch
from StrokeLesionSegLib.networks import build_network, count_macs, count_parameters
from StrokeLesionSegLib.networks.volumetric import (
    CHANNELS,
    Conv3d,
    HeadNorm,
    VolumetricUNet,
    shuffle,
    unshuffle,
)


def test_unshuffling_is_undone_by_shuffling() -> None:
    x = torch.rand(2, 3, 8, 6, 4)
    assert torch.equal(shuffle(unshuffle(x)), x)
    # Each voxel of 2 mm holds its own eight of 1 mm.
    assert torch.equal(
        unshuffle(x)[0, :8, 1, 2, 1].sort().values, x[0, 0, 2:4, 4:6, 2:4].flatten().sort().values
    )


def test_its_size_is_within_what_was_allowed() -> None:
    network = build_network({"name": "volumetric_unet"})
    assert count_parameters(network) <= 5_000_000
    assert count_macs(network, (1, CHANNELS, 80, 96, 80)) <= 45e9


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_two_heads_in_a_batch_equal_one_after_the_other(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = VolumetricUNet(filters=(4, 8, 8)).eval()
    x = torch.randn(2, CHANNELS, 16, 16, 16).contiguous(memory_format=layout)
    x[1] *= 5
    with torch.no_grad():
        both = network(x)
        apart = torch.cat([network(one) for one in x.split(1)])
    # Convolutions add in another order when there are two; normalising must not mix the heads.
    assert torch.allclose(both, apart, atol=1e-4)
    norm = HeadNorm(CHANNELS)
    assert torch.equal(norm(x), torch.cat([norm(one) for one in x.split(1)]))


def test_the_norm_is_instance_norm() -> None:
    norm = HeadNorm(3)
    x = torch.randn(2, 3, 4, 5, 6) * 7 + 3
    assert torch.allclose(norm(x), torch.nn.functional.instance_norm(x), atol=1e-5)


def test_training_and_evaluation_give_the_same_answer() -> None:
    network = VolumetricUNet(filters=(4, 8))
    x = torch.randn(1, CHANNELS, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(network.train()(x), network.eval()(x))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="two levels"):
        build_network({"name": "volumetric_unet", "filters": [4]})


@pytest.mark.parametrize("side", [2, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_a_convolution_of_few_voxels_is_that_of_torch(
    side: int, kernel: int, stride: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(1)
    ours = Conv3d(6, 5, kernel, stride, kernel // 2, bias=kernel == 1)
    x = torch.randn(1, 6, side, side, side).contiguous(memory_format=layout).requires_grad_()
    found = ours(x)
    wanted = torch.nn.functional.conv3d(x.double(), *_doubled(ours), stride, kernel // 2)
    assert torch.allclose(found.double(), wanted, atol=1e-5)
    slopes = torch.autograd.grad(found.square().sum(), [x, ours.weight])
    expected = torch.autograd.grad(wanted.square().sum(), [x, ours.weight])
    for one, other in zip(slopes, expected, strict=True):
        assert torch.allclose(one, other.to(one.dtype), rtol=1e-3, atol=1e-3)


def _doubled(layer: torch.nn.Conv3d) -> tuple[torch.Tensor, torch.Tensor | None]:
    return layer.weight.double(), None if layer.bias is None else layer.bias.double()


def test_other_number_formats_go_torchs_way() -> None:
    layer = Conv3d(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 6, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    assert layer.to("meta")(x.double().to("meta")).shape == x.shape
