"""Training with neighbouring slices and the mirror image beside each slice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
from safetensors.torch import save_file
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.models import load_model
from stroketrain import cli
from stroketrain.data.augment import augment
from stroketrain.data.cache import Cache
from stroketrain.data.neighbourhood import Planes, painted_mirror
from stroketrain.data.resident import ResidentCache
from stroketrain.product.module import LesionModule, named_channels
from stroketrain.product.options import FitOptions
from stroketrain.product.paint import brain_patches, paint_lesions
from stroketrain.product.slices import PATCH, VIEWS, Sampling, SliceStream

CHANNELS = ["t1", "t1_minus_3mm", "t1_plus_2mm", "t1_mirror"]
SPEC = {
    "name": "residual_unet",
    "in_channels": 4,
    "filters": [4, 8, 8],
    "skip": "stem",
    "dropout": 0.0,
}
PLANES = Planes((-3, 2), True)


@pytest.fixture(scope="module")
def cache() -> Cache:
    """Two scans of noise: no voxel is like its neighbour or its mirror image."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 189, 233, 197), dtype=np.uint8)
    masks = (rng.random(images.shape) < 0.01).astype(np.uint8)
    return Cache(images, masks, [{"subject": "a"}, {"subject": "b"}], "0")


def stream(cache: Cache, **options) -> SliceStream:
    made = SliceStream(cache, Sampling(views=(0.4, 0.3, 0.3), batch=4), 9, seed=2, **options)
    made.planes = Planes.of_channels(CHANNELS)
    return made


def test_planes_are_those_of_the_channels():
    assert Planes.of_channels(CHANNELS) == PLANES
    assert PLANES.names(["t1_mirror", *CHANNELS[:3]]) == CHANNELS
    assert Planes.of_channels(["t1"]) == Planes()
    assert Planes().names(["t1"]) == ["t1"]


def test_planes_are_cut_where_they_lie(cache: Cache):
    seen = set()
    for batch in stream(cache):
        axis = int(batch["axis"])
        seen.add(axis)
        height, width = PATCH[VIEWS[axis]]
        for b, (n, at, row, column) in enumerate(batch["places"].tolist()):
            image, mask = (np.moveaxis(a[n], axis, 0) for a in (cache.images, cache.masks))
            mirrored = np.moveaxis(cache.images[n][:, :, ::-1], axis, 0)
            part = (slice(row, row + height), slice(column, column + width))
            planes = [image[at], image[at - 3], image[at + 2], mirrored[at]]
            for got, wanted in zip(batch["image"][b].numpy(), planes, strict=True):
                np.testing.assert_array_equal(got, wanted[part])
            for got, where in zip(batch["mask"][b].numpy(), (at, at - 3, at + 2), strict=True):
                np.testing.assert_array_equal(got, mask[where][part])
    assert seen == {0, 1, 2}


def test_on_the_device_they_are_the_same(cache: Cache):
    resident = ResidentCache(cache, "cpu")
    for batch in stream(cache):
        axis = int(batch["axis"])
        image, mask = resident.patches(axis, batch["places"], PATCH[VIEWS[axis]], PLANES)
        assert torch.equal(image, batch["image"])
        assert torch.equal(mask, batch["mask"])


def test_a_painted_slice_is_painted_in_its_mirror_image(cache: Cache):
    for batch in stream(cache):
        axis, places = int(batch["axis"]), batch["places"]
        image = batch["image"].float()
        same = painted_mirror(image[:, :1], image[:, 3:], axis, places, 197)
        assert torch.equal(same, image[:, 3:])
        painted = image[:, :1].clone()
        painted[:, :, 60:70, 90:100] = -1.0
        mirror = painted_mirror(painted, image[:, 3:], axis, places, 197)
        if axis == 2:
            assert torch.equal(mirror, image[:, 3:])
            continue
        for b, (_, _, _, column) in enumerate(places.tolist()):
            # Columns 90 to 99 of the patch lie at i = column + 90 ...; mirrored at 196 - i.
            first = 196 - (column + 99) - column
            wanted = image[b, 3].clone()
            wanted[60:70, first : first + 10] = -1.0
            assert torch.equal(mirror[b, 0], wanted)


def test_painted_lesions_go_on_through_the_slices():
    image = torch.full((60, 3, 96, 80), 0.7)
    brain = torch.zeros_like(image)
    brain[:, :, 10:86, 10:70] = 1
    none = torch.zeros_like(image)
    painted, mask = paint_lesions(
        torch.Generator().manual_seed(0), image, none, brain, 1.0, (-3, 2)
    )
    assert painted.shape == mask.shape == image.shape
    areas = mask.flatten(2).sum(2)
    some = areas[:, 0] > 80
    assert int(some.sum()) > 20
    shared = (mask[:, :1] * mask[:, 1:]).flatten(2).sum(2)
    # Most go on to both sides, some end; where they go on they lie over each other.
    on = areas[some, 1:] > 20
    assert float(on.float().mean()) > 0.5
    assert bool((areas[some, 1:] == 0).any())
    overlap = shared[some] / areas[some, 1:].clamp_min(1)
    assert float(overlap[on].mean()) > 0.7
    # An ellipsoid is not the same all through.
    assert 0.05 < float((areas[some, 1] / areas[some, 0] - 1).abs().mean()) < 1
    assert bool(((painted == image) | (brain > 0)).all())


def test_the_brain_of_neighbouring_slices():
    places = torch.tensor([[0, 40, 20, 20], [1, 80, 24, 18]])
    three = brain_patches(0, places, PATCH["axial"], (-3, 2))
    assert three.shape == (2, 3, *PATCH["axial"])
    for plane, mm in enumerate((0, -3, 2)):
        moved = places + torch.tensor([0, mm, 0, 0])
        assert torch.equal(three[:, plane : plane + 1], brain_patches(0, moved, PATCH["axial"]))


def test_augmentation_moves_all_planes_alike_but_shades_the_mirror_image_by_itself():
    image = torch.full((6, 4, 64, 64), 0.5)
    moved, _ = augment(
        torch.Generator().manual_seed(3), image, image[:, :3], mirror=True, mirrored=3
    )
    inner = moved[:, :, 24:40, 24:40].mean(dim=(2, 3))
    assert float((inner[:, 0] - inner[:, 1]).abs().max()) < 0.01
    assert float((inner[:, 0] - inner[:, 3]).abs().max()) > 0.01
    point = torch.zeros(6, 4, 64, 64)
    point[:, :, 28:36, 28:36] = 1
    moved, mask = augment(torch.Generator().manual_seed(4), point, point[:, :3], mirror=True)
    assert torch.equal(mask[:, 0], mask[:, 2])
    assert float(((moved > 0.4).float()[:, :3] - mask).abs().mean()) < 0.02


def test_further_channels_weigh_nothing_at_first(tmp_path: Path):
    torch.manual_seed(0)
    narrow = FitOptions({**SPEC, "in_channels": 1}, steps=10)
    before = LesionModule(narrow)
    state = {k: v.contiguous() for k, v in before.network.state_dict().items()}
    save_file(state, str(tmp_path / "old.safetensors"))
    after = LesionModule(FitOptions(SPEC, CHANNELS, steps=10))
    after.start_from(tmp_path / "old.safetensors")
    x = torch.rand(2, 4, 32, 32)
    with torch.no_grad():
        old, new = before.network.eval()(x[:, :1]), after.network.eval()(x)
    torch.testing.assert_close(old, new)
    fewer = LesionModule(narrow)
    torch.manual_seed(1)
    save_file(
        {k: v.contiguous() for k, v in after.network.state_dict().items()},
        str(tmp_path / "four.safetensors"),
    )
    with pytest.raises(InputError, match="do not fit"):
        fewer.start_from(tmp_path / "four.safetensors")


@pytest.mark.parametrize(
    "names",
    [
        ["t1"],
        [*CHANNELS[:3], "flair"],
        [*CHANNELS[:3], "click_positive"],
        [*CHANNELS[1:], "t1"],
        [*CHANNELS[:3], "t1"],
    ],
)
def test_channels_that_do_not_fit_are_refused(names: list[str]):
    with pytest.raises(InputError, match="--channels"):
        named_channels(SPEC, names)


def test_planes_stand_in_the_order_of_the_channels():
    channels = ("t1", "t1_mirror", "t1_plus_2mm", "t1_minus_3mm")
    module = LesionModule(FitOptions(SPEC, channels, steps=10))
    image = torch.rand(3, 4, 32, 32)
    names = module.planes.names(channels)
    for n, name in enumerate(channels):
        assert torch.equal(module._ordered(image)[:, n], image[:, names.index(name)])


def test_deep_supervision_trains_every_level():
    spec = {**SPEC, "in_channels": 1, "deep_supervision": True}
    module = LesionModule(FitOptions(spec, steps=10))
    image = torch.rand(2, 1, 64, 64)
    mask = torch.zeros(2, 1, 64, 64)
    mask[:, :, 20:40, 20:40] = 1
    loss = module._loss(module.network(image), mask)
    plain = module._loss(module.network(image)[0], mask)
    loss.backward()
    heads = [p.grad for p in module.network.auxiliary.parameters()]
    assert all(g is not None and bool(g.abs().sum() > 0) for g in heads)
    # The full resolution counts once, the next level half.
    assert 1.2 * plain.item() < loss.item() < 2.2 * plain.item()


def test_fit_with_channels_becomes_a_model_of_the_engine(drawn: Path, tmp_path: Path, capsys):
    out = tmp_path / "run"
    fit = ["fit", str(drawn / "cache"), str(out), "--network", json.dumps(SPEC), "--steps", "3",
           "--batch", "2", "--paint", "0.5", "--accelerator", "cpu",
           "--precision", "32-true", "--progress", "none"]  # fmt: skip
    capsys.readouterr()
    assert cli.main([*fit, "--channels", "t1", "t2"]) == 2
    assert "--channels" in capsys.readouterr().err
    assert cli.main([*fit, "--guided", "0.5", "--channels", *CHANNELS]) == 2
    assert "takes no clicks" in capsys.readouterr().err
    assert cli.main([*fit, "--channels", *CHANNELS]) == 0
    assert json.loads((out / "run.json").read_text())["channels"] == CHANNELS
    exported = ["export", str(out), str(tmp_path / "model"), "--name", "four", "--version", "1"]
    assert cli.main(exported) == 0
    assert list(load_model(tmp_path / "model").manifest.channels) == CHANNELS
