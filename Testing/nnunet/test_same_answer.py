"""Models of others give the answers that their own programs give, up to rounding.

nnU-Net's answers were made by nnunetv2 (``make_fixtures.py``); it sums windows in float16, which is
most of the difference that is left. MONAI is asked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_support import dice, fixture, installed, write_synthstroke
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Volume, mni_brain_mask
from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
from StrokeLesionSegLib.inference.placing import place
from StrokeLesionSegLib.inference.sliding_window import SlidingWindowPredictor
from StrokeLesionSegLib.inference.window_plan import WayWindows
from StrokeLesionSegLib.models import ImportChoices, install_model, load_model

EXACT_PROBABILITY, EXACT_DICE, DEFAULT_DICE = 5e-3, 0.999, 0.99
NAMES = ("plain3d", "residual", "anisotropic", "slices")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))


def answer(name: str, volume: Volume, **options: Any) -> np.ndarray:
    chosen = SegmentOptions(align="none", threads=1, device="cpu", **options)
    return segment_volume(volume, load_model(name), chosen).probability.array


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_nnunets(name: str) -> None:
    volume, expected = fixture(name)
    model = installed(name).name
    for mirror, key in ((False, "plain"), (True, "mirrored")):
        theirs = expected[key].astype(np.float32)
        exact = answer(model, volume, mirror=mirror, exact=True)
        assert np.abs(exact - theirs).max() <= EXACT_PROBABILITY
        assert dice(exact, theirs) >= EXACT_DICE
    usual = answer(model, volume)
    assert dice(usual, expected["mirrored"].astype(np.float32)) >= DEFAULT_DICE


def test_a_whole_head_gets_nnunets_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where windows beyond and between others are left out unless something is seen there."""
    volume, expected = fixture("head")
    # On the template's grid, every fourth voxel along each axis.
    coarse = np.diag([4.0, 4, 4, 1])
    coarse[:3, 3] = 1.5
    volume = Volume(volume.array, MNI_GRID.affine @ coarse)
    brain = mni_brain_mask().array[1::4, 1::4, 1::4] != 0
    model = load_model(installed("head", ImportChoices(space="native")).name)

    def ask(**options: Any) -> tuple[np.ndarray, SlidingWindowPredictor, Any]:
        chosen = SegmentOptions(align="none", threads=1, device="cpu", **options)
        made = SlidingWindowPredictor(model, chosen)
        scan = made.prepare(place(volume, Alignment.identity(), made.grid))
        return made.predict(scan).probability.array, made, scan

    for mirror, key in ((False, "plain"), (True, "mirrored")):
        theirs = expected[key].astype(np.float32)
        exact, *_ = ask(mirror=mirror, exact=True)
        # In the image's corners nnU-Net's sums in float16 leave of small logits but whole numbers.
        assert np.abs(exact - theirs)[brain].max() <= EXACT_PROBABILITY
        assert dice(exact, theirs) >= EXACT_DICE
        usual, made, scan = ask(mirror=mirror)
        assert dice(usual, theirs) >= DEFAULT_DICE
        (windows,) = made._plan(scan).ways
        assert len(windows.first) < len(windows.first) + len(windows.rest) == 12
    # Without those that are called for, it would be another answer.
    monkeypatch.setattr(WayWindows, "bear", lambda self, left, *_: [False] * len(left))
    assert dice(ask(mirror=True)[0], theirs) < DEFAULT_DICE


@pytest.mark.parametrize("name", ["plain3d", "residual", "anisotropic", "head"])
def test_the_fixtures_hold_lesions(name: str) -> None:
    """Equal masks would say little if they were empty."""
    _, expected = fixture(name)
    assert (expected["mirrored"] >= 0.5).sum() > 200


def monai_answer(network: Any, volume: Volume, classes: int) -> np.ndarray:
    """SynthStroke's chain as its repository describes it, in MONAI's own functions; (K, J, I)."""
    import torch
    from monai.data import MetaTensor
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import (
        Compose,
        HistogramNormalized,
        NormalizeIntensityd,
        Orientationd,
        Spacingd,
    )

    image = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))[None],
        affine=torch.from_numpy(volume.affine),
    )
    chain = Compose(
        [
            Orientationd(keys=["img"], axcodes="RAS", labels=None),
            Spacingd(keys=["img"], pixdim=1.0),
            HistogramNormalized(keys="img"),
            NormalizeIntensityd(keys="img", nonzero=False, channel_wise=True),
        ]
    )
    ready = chain({"img": image})["img"]
    x = ready.as_tensor()[None].float()
    window = SlidingWindowInferer(
        roi_size=[128] * 3, sw_batch_size=1, overlap=0.5, mode="gaussian", sigma_scale=0.125
    )
    total = 0
    with torch.inference_mode():
        for n in range(8):
            dims = [axis + 2 for axis in range(3) if n >> axis & 1]
            flipped = torch.flip(x, dims) if dims else x
            logits = window(flipped, network)
            total = total + (torch.flip(logits, dims) if dims else logits)
        p = torch.softmax(total / 8, 1)[0]
    lesion = p[classes - 1]
    if classes > 2:
        lesion = lesion / (lesion + p[:-1].amax(0))
    kept = MetaTensor(lesion[None], affine=ready.affine)
    # Back as MONAI's inverse does it: linear, on the scan's own grid.
    from monai.transforms import SpatialResample

    back = SpatialResample(mode="bilinear", padding_mode="border")(
        kept, dst_affine=image.affine, spatial_size=image.shape[1:]
    )
    return back[0].numpy().transpose(2, 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, pytest.param(6, marks=pytest.mark.long)])
def test_the_answer_is_synthstrokes(classes: int, tmp_path: Path) -> None:
    pytest.importorskip("monai")
    network = write_synthstroke(tmp_path / "theirs", classes)
    rng = np.random.default_rng(classes)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (44, 110, 132)), indexing="ij")
    head = (k**2 + j**2 + i**2 < 0.9) * (400 + 200 * np.sin(6 * i) * np.cos(5 * j))
    array = (head + rng.normal(scale=12, size=head.shape) * (head != 0)).astype(np.float32)
    affine = np.array([[-1.1, 0, 0, 70], [0, 1.0, 0, -60], [0, 0, 2.0, -40], [0, 0, 0, 1.0]])
    volume = Volume(array, affine)
    theirs = monai_answer(network, volume, classes)
    model = install_model(tmp_path / "theirs").name
    exact = answer(model, volume, exact=True)
    assert np.abs(exact - theirs).max() <= EXACT_PROBABILITY
    assert dice(exact, theirs) >= EXACT_DICE
    assert theirs.std() > 0.005
    assert dice(answer(model, volume), theirs) >= DEFAULT_DICE
