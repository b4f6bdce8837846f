"""The CS230 network and its options, 2.5D and 3D, the cascade, deep supervision, reach."""

from __future__ import annotations

import pytest
import torch
from StrokeLesionSegLib.networks import (
    build_network,
    count_macs,
    count_parameters,
    encoder_receptive_field,
    neighbours,
    receptive_field,
    true_boxes,
)
from StrokeLesionSegLib.networks.cascade import OUTSIDE, Cascade
from StrokeLesionSegLib.networks.receptive_field import contracting_path, measured_receptive_field
from torch import nn

SMALL_CS230 = {"name": "cs230", "input_size": [16, 12], "filters": [3, 4], "hidden": [10, 6]}
SMALL_CASCADE = {
    "name": "cascade",
    "filters": [3, 4, 5],
    "mask_filters": [3, 4],
    "crop": [16, 16],
    "dropout": 0.0,
}


def on_meta(spec):
    """The network without its memory: 94 million weights are 375 MB."""
    with torch.device("meta"):
        return build_network(spec)


def test_cs230_has_the_papers_size():
    network = on_meta({"name": "cs230"})
    assert count_parameters(network) == 93_705_297
    # The same, added up from row B2.
    flat = 58 * 49 * 16
    assert flat == 45_472
    convolutions = (9 + 1) * 8 + (8 * 25 + 1) * 16 + (16 * 25 * 8 + 8) + (8 * 9 + 1)
    dense = (flat + 1) * 1024 + 1025 * 256 + 257 * 1024 + 1025 * flat
    assert convolutions + dense == 93_705_297


def test_cs230_is_made_of_what_the_paper_names():
    network = build_network(SMALL_CS230)
    kinds = [type(m).__name__ for m in network.encoder]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Dropout"] * 2
    assert [m.kernel_size for m in network.encoder if isinstance(m, nn.Conv2d)] == [(3, 3), (5, 5)]
    drops = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.15] * 5
    assert not any(isinstance(m, nn.ReLU) for m in (*network.code, *network.uncode))


def test_cs230_options():
    averaging = build_network({**SMALL_CS230, "pool": "avg"})
    assert sum(isinstance(m, nn.AvgPool2d) for m in averaging.modules()) == 2
    assert not any(isinstance(m, nn.MaxPool2d) for m in averaging.modules())
    deep = build_network({**SMALL_CS230, "convs_per_stage": 3})
    assert sum(isinstance(m, nn.Conv2d) for m in deep.modules()) == 6
    extra = 2 * (3 * 3 * 9 + 3) + 2 * (4 * 4 * 25 + 4)
    assert count_parameters(deep) == count_parameters(build_network(SMALL_CS230)) + extra
    assert deep(torch.randn(2, 1, 16, 12)).shape == (2, 1, 16, 12)


def test_cs230_starts_xavier_normal():
    torch.manual_seed(0)
    layer = build_network({"name": "cs230", "input_size": [40, 40], "hidden": [200, 100]}).code[0]
    expected = (2 / (layer.in_features + layer.out_features)) ** 0.5
    assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert torch.count_nonzero(layer.bias) == 0


def test_cs230_sees_the_whole_slice():
    """Fully connected: one pixel in a corner reaches the opposite corner."""
    torch.manual_seed(0)
    network = build_network(SMALL_CS230).eval()
    x = torch.rand(1, 1, 16, 12)
    y = x.clone()
    y[0, 0, 0, 0] += 5
    with torch.no_grad():
        assert (network(y) - network(x))[0, 0, -1, -1].abs() > 1e-6


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ({**SMALL_CS230, "pool": "min"}, "pool must be one of max, avg"),
        ({**SMALL_CS230, "input_size": [18, 12]}, "multiples of 4"),
        ({**SMALL_CS230, "convs_per_stage": 0}, "at least 1"),
        ({"name": "residual_unet_25d", "slices": 4}, "slices must be odd"),
        ({"name": "residual_unet_3d", "norm": "layer"}, "norm must be one of instance, batch"),
        ({**SMALL_CASCADE, "crop": [15, 16]}, "crop must be multiples of 2"),
    ],
)
def test_options_that_make_no_sense(spec, cause):
    with pytest.raises(ValueError, match=cause):
        build_network(spec)


def test_cs230_refuses_another_size():
    with pytest.raises(ValueError, match="made for 16 x 12"):
        build_network(SMALL_CS230)(torch.zeros(1, 1, 16, 16))


def test_neighbours_are_in_order_and_end_at_the_ends():
    volume = torch.arange(6.0).view(6, 1, 1).expand(6, 2, 3)
    stack = neighbours(volume, torch.tensor([0, 3, 5]), 5)
    assert stack.shape == (3, 5, 2, 3)
    assert stack[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 2], [1, 2, 3, 4, 5], [3, 4, 5, 5, 5]]


def test_25d_is_the_residual_unet_with_more_channels():
    network = build_network({"name": "residual_unet_25d", "slices": 3, "filters": [4, 6, 8]})
    flat = build_network({"name": "residual_unet", "in_channels": 3, "filters": [4, 6, 8]})
    assert count_parameters(network) == count_parameters(flat)
    assert network(torch.randn(2, 3, 16, 8)).shape == (2, 1, 16, 8)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_3d_shapes_and_gradients(norm):
    torch.manual_seed(0)
    network = build_network({"name": "residual_unet_3d", "filters": [3, 4, 5], "norm": norm})
    x = torch.randn(2, 1, 8, 16, 12)
    y = network(x)
    assert y.shape == x.shape
    y.square().mean().backward()
    weights = {n: p for n, p in network.named_parameters() if n.endswith("weight")}
    assert [n for n, p in weights.items() if p.grad.abs().max() == 0] == []
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 1, 9, 16, 12))


def test_3d_counts_its_operations():
    network = build_network({"name": "residual_unet_3d", "filters": [2, 3]})
    d, h, w = 4, 6, 8
    voxels = d * h * w
    macs = voxels * 27 * (1 * 2 + 2 * 2)  # stem
    macs += voxels // 8 * (27 * (2 * 3 + 3 * 3) + 2 * 3)  # residual block
    macs += voxels // 8 * 8 * 3 * 2  # transposed convolution
    macs += voxels * (27 * (4 * 2 + 2 * 2) + 2)  # decoder block and head
    assert count_macs(network, (1, 1, d, h, w)) == macs


def test_boxes_of_masks():
    mask = torch.zeros(2, 1, 20, 40)
    mask[0, 0, 4:10, 8:24] = 1
    boxes, found = true_boxes(mask)
    assert found.tolist() == [True, False]
    assert boxes[0].tolist() == pytest.approx([7 / 20, 16 / 40, 6 / 20, 16 / 40])
    assert boxes[1].tolist() == [0.5, 0.5, 1, 1]


def test_cascade_cuts_and_pastes_back():
    network = Cascade(filters=(3, 4), mask_filters=(3, 4), crop=(16, 16), margin=0.0)
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 8:16, 12:20] = 5.0
    box = torch.tensor([[12 / 32, 16 / 32, 8 / 32, 8 / 32]])
    cut = network.cut(image, box)
    assert cut[0, 0, 1:-1, 1:-1].min() == 5
    back = network.paste(cut, box, (32, 32))
    inside = image > 0
    assert back[inside].min() > (5 + OUTSIDE) / 2
    assert back[0, 0, 10:14, 14:18].min() == pytest.approx(5)
    outside = torch.nn.functional.max_pool2d(inside.float(), 3, 1, 1) == 0
    assert back[outside].max() == pytest.approx(OUTSIDE)


def test_cascade_multiplies_its_probabilities():
    torch.manual_seed(0)
    network = build_network(SMALL_CASCADE).eval()
    x = torch.rand(2, 1, 32, 24)
    with torch.no_grad():
        box = network.boxes(x)
        pixels = torch.sigmoid(network.paste(network.mask(network.cut(x, box)), box, (32, 24)))
        gate = torch.sigmoid(network.slice_logits(x)).view(-1, 1, 1, 1)
        got = torch.sigmoid(network(x))
        torch.testing.assert_close(got, gate * pixels, atol=1e-5, rtol=1e-4)
        # A closed gate closes everything.
        network.classifier[-1].bias.fill_(-30.0)
        assert network(x).max() < -20


def test_cascade_gradients_reach_every_part():
    torch.manual_seed(0)
    network = build_network(SMALL_CASCADE)
    network(torch.rand(4, 1, 32, 32)).sigmoid().mean().backward()
    for part in (network.classifier, network.box, network.mask):
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0


DEEP = [
    ({"name": "unet", "filters": [4, 6, 8, 10]}, (2, 1, 16, 24)),
    ({"name": "residual_unet", "skip": "stem", "filters": [4, 6, 8, 10]}, (2, 1, 16, 24)),
    ({"name": "residual_unet", "skip": "block_input", "filters": [4, 6, 8, 10]}, (2, 1, 16, 24)),
    ({"name": "residual_unet_25d", "slices": 1, "filters": [4, 6, 8, 10]}, (2, 1, 16, 24)),
    ({"name": "residual_unet_3d", "filters": [4, 6, 8, 10]}, (2, 1, 16, 16, 24)),
]


@pytest.mark.parametrize(("spec", "shape"), DEEP)
def test_deep_supervision(spec, shape):
    torch.manual_seed(0)
    plain = build_network(spec)
    deep = build_network({**spec, "deep_supervision": True})
    # Off by default, and then nothing of it is left in the state.
    assert not any("auxiliary" in name for name in plain.state_dict())
    assert count_parameters(deep) == count_parameters(plain) + (8 + 1) + (6 + 1)
    x = torch.randn(shape)
    levels = deep(x)
    sizes = [tuple(level.shape[2:]) for level in levels]
    assert sizes == [tuple(n // 2**level for n in shape[2:]) for level in range(3)]
    missing = deep.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(name.startswith("auxiliary") for name in missing)
    with torch.no_grad():
        assert torch.equal(deep.eval()(x), plain.eval()(x))


def test_receptive_field_of_a_chain():
    """VGG's argument: two 3x3 convolutions see what one 5x5 sees; a stride doubles what follows."""
    assert receptive_field([(3, 1), (3, 1)]) == receptive_field([(5, 1)])
    found = receptive_field([(3, 1), (2, 2), (3, 1), (2, 2)])
    assert (found.size, found.stride) == (10, 4)


@pytest.mark.parametrize(
    ("spec", "size", "stride"),
    [
        # By hand: 3, pool, 5, pool = 1 + 2 + 1 + 4*2 + 2
        ({"name": "cs230"}, 14, 4),
        ({"name": "cs230", "convs_per_stage": 3}, 1 + 6 + 1 + 24 + 2, 4),
        ({"name": "unet"}, 140, 16),
        ({"name": "residual_unet", "skip": "block_input"}, 1 + 6 * 15 + 64, 16),
        ({"name": "residual_unet", "skip": "stem"}, 5 + 6 * 15, 16),
        ({"name": "residual_unet_3d"}, 5 + 6 * 7, 8),
    ],
)
def test_receptive_fields_of_the_networks(spec, size, stride):
    found = encoder_receptive_field(on_meta(spec))
    assert (found.size, found.stride) == (size, stride)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "cs230", "input_size": [64, 64], "convs_per_stage": 3, "hidden": [2, 2]},
        {"name": "unet", "filters": [2, 2, 2, 2]},
        {"name": "residual_unet", "skip": "stem", "filters": [2, 2, 2, 2]},
        {"name": "residual_unet", "skip": "block_input", "filters": [2, 2, 2, 2]},
    ],
)
def test_receptive_fields_are_what_gradients_show(spec):
    network = build_network(spec)
    measured = measured_receptive_field(contracting_path(network), 192)
    assert measured == encoder_receptive_field(network).size


def test_no_receptive_field_for_a_cascade():
    with pytest.raises(ValueError, match="Cascade"):
        encoder_receptive_field(build_network(SMALL_CASCADE))
