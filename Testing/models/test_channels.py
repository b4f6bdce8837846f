"""Networks that see neighbouring slices and the mirror image: what stands in those channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.inference import SlicesOptions, predict_volume, prepare_network
from StrokeLesionSegLib.inference.device import Device
from StrokeLesionSegLib.inference.views import VIEW_AXES
from StrokeLesionSegLib.models.channels import known, offset_mm
from torch import nn

CPU = Device("cpu", "test")
NAMES = ("t1", "t1_plus_3mm", "t1_minus_2mm", "t1_mirror", "click_positive")
BOXES = [None, (slice(3, 17), slice(5, 40), slice(2, 31)), (slice(0, 4), slice(0, 30), slice(1, 3))]


class Channel(nn.Module):
    """The probability is one of the inputs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.number = NAMES.index(name)
        self.eval()

    def forward(self, x):
        return torch.logit(x[:, self.number : self.number + 1].float(), eps=1e-6)


def volume() -> np.ndarray:
    """No slice is empty, and no voxel like its mirror image."""
    return np.random.default_rng(0).uniform(0.1, 0.9, (21, 45, 38)).astype(np.float32)


def answer(name: str, views: str, box, *, tta: bool = False, mirror: bool = True) -> np.ndarray:
    prepared = prepare_network(Channel(name), NAMES, CPU, "float32")
    how = SlicesOptions(views=views, tta=tta, mirror=mirror, batch_size=3)
    return predict_volume(volume(), prepared, how, box=box).mean


def shifted(array: np.ndarray, axis: int, mm: int) -> np.ndarray:
    """``array[n + mm]`` at n, zeros beyond."""
    moved = np.zeros_like(array)
    count = array.shape[axis]
    for n in range(count):
        if 0 <= n + mm < count:
            np.moveaxis(moved, axis, 0)[n] = np.moveaxis(array, axis, 0)[n + mm]
    return moved


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize(("name", "mm"), [("t1_plus_3mm", 3), ("t1_minus_2mm", -2)])
def test_neighbouring_slices_come_from_the_whole_volume(name, mm, box, tta):
    part = box or (slice(None),) * 3
    whole = volume()
    seen = answer(name, "axial", box, tta=tta)
    np.testing.assert_allclose(seen[part], shifted(whole, 0, mm)[part], atol=2e-6)
    three = answer(name, "triplanar", box, tta=tta)
    wanted = np.mean([shifted(whole, axis, mm) for axis in VIEW_AXES.values()], axis=0)
    np.testing.assert_allclose(three[part], wanted[part], atol=2e-6)


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("views", ["axial", "triplanar"])
@pytest.mark.parametrize("box", BOXES)
def test_the_mirror_image_is_that_of_the_whole_volume(views, box, tta):
    part = box or (slice(None),) * 3
    seen = answer("t1_mirror", views, box, tta=tta)
    np.testing.assert_allclose(seen[part], volume()[:, :, ::-1][part], atol=2e-6)


def test_without_a_midsagittal_plane_there_is_no_mirror_image():
    # The probability of a logit is clipped at 1e-6.
    assert answer("t1_mirror", "triplanar", None, mirror=False).max() < 1e-5


def test_slices_without_guidance_stay_without():
    assert answer("click_positive", "axial", None).max() < 1e-5


def test_planes_beside_are_not_given_as_guidance():
    prepared = prepare_network(Channel("t1"), NAMES, CPU, "float32")
    whole = volume()
    with pytest.raises(ValueError, match="t1_plus_3mm"):
        predict_volume(whole, prepared, guidance={"t1_plus_3mm": whole})


@pytest.mark.parametrize(
    ("name", "mm"),
    [("t1_plus_3mm", 3), ("t1_minus_12mm", -12), ("t1", None), ("t1_plus_0mm", None),
     ("t1_plus_3mm2", None), ("t1_mirror", None)],
)  # fmt: skip
def test_names_of_channels(name, mm):
    assert offset_mm(name) == mm
    assert known(name) == (mm is not None or name in ("t1", "t1_mirror"))
