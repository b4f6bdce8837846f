"""The predictor of the volumetric network: geometry, passes, formats, heads that do not fit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from model_manifest import model_manifest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Volume
from StrokeLesionSegLib.images.space.template import template_head, upsample_linear
from StrokeLesionSegLib.inference import (
    Device,
    SegmentOptions,
    after_network,
    before_network,
    make_predictor,
    run_network,
    segment_volume,
)
from StrokeLesionSegLib.inference.volumetric import head_channels
from StrokeLesionSegLib.inference.whole_head import WholeHeadPredictor
from StrokeLesionSegLib.models import LoadedModel, Manifest
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet

CHANNELS = (
    "t1",
    "t1_mirror",
    "template",
    "click_positive",
    "click_negative",
    "previous_probability",
)


class Thresholding(VolumetricUNet):
    """Says lesion where the scan is bright, so that geometry can be checked voxel by voxel."""

    def __init__(self) -> None:
        super().__init__(filters=(4, 6))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        logits = (x[:, :8].float() - 0.5) * 40
        return torch.cat([logits, -logits], dim=1)


def model(network: torch.nn.Module | None = None, **changes: Any) -> LoadedModel:
    content = model_manifest("whole", {"name": "volumetric_unet"}, channels=list(CHANNELS))
    content["kind"] = "volumetric"
    content["weights"] = {
        "file": "w.safetensors",
        "sha256": "0" * 64,
        "bytes": 8,
        "dtype": "float16",
    }
    content["preprocessing"]["window_percentiles"] = [0.0, 100.0]
    content.update(changes)
    return LoadedModel(Manifest.from_dict(content), network or Thresholding(), Path())


@functools.cache
def head_volume() -> Volume:
    """The template, dim, with two bright balls of unequal size to the left and the right; made
    once, and left as it is."""
    array = upsample_linear(template_head().array)[:189, :233, :197] / 255 * 0.3
    k, j, i = np.ogrid[:189, :233, :197]
    array[(k - 100) ** 2 + (j - 120) ** 2 + (i - 60) ** 2 < 12**2] = 1
    array[(k - 80) ** 2 + (j - 90) ** 2 + (i - 130) ** 2 < 7**2] = 1
    array = array.astype(np.float32)
    array.flags.writeable = False
    return Volume(array, MNI_GRID.affine)


def reoriented(volume: Volume, codes: str) -> Volume:
    """The same image with other axes, by nibabel."""
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.affine)
    to = nib.orientations.axcodes2ornt(tuple(codes))
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), to)
    )
    return Volume(
        np.ascontiguousarray(turned.get_fdata(dtype=np.float32).transpose(2, 1, 0)), turned.affine
    )


IDENTITY = Alignment.identity()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA", "AIL"])
def test_the_answer_lies_where_the_scan_is_bright_in_every_orientation(codes: str) -> None:
    volume = reoriented(head_volume(), codes)
    found = segment_volume(volume, model(), SegmentOptions(align="mni"), alignment=IDENTITY)
    assert found.probability.affine == pytest.approx(volume.affine)
    assert np.array_equal(found.probability.array > 0.5, volume.array > 0.5)


def test_an_oblique_anisotropic_scan_gets_its_answer_back_in_place() -> None:
    from scipy.ndimage import map_coordinates

    # 12 degrees about x, 3 mm slices: the same world, sampled by nibabel's affine algebra.
    angle = np.deg2rad(12)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.2, 0.9, 3.0])
    affine[:3, 3] = nib.affines.apply_affine(affine, [-80, -110, -28])
    reference = head_volume()
    i, j, k = np.meshgrid(range(160), range(220), range(62), indexing="ij")
    world = nib.affines.apply_affine(affine, np.stack([i, j, k], axis=-1))
    back = nib.affines.apply_affine(np.linalg.inv(reference.affine), world)
    array = map_coordinates(reference.array, back[..., ::-1].transpose(3, 2, 1, 0), order=1)
    volume = Volume(array.astype(np.float32), affine)
    found = segment_volume(volume, model(), SegmentOptions(align="mni"), alignment=IDENTITY)
    a, b = found.probability.array > 0.5, volume.array > 0.5
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_the_mirrored_pass_shows_the_network_the_other_side_first() -> None:
    network = Thresholding()
    volume = head_volume()
    predictor = make_predictor(model(network), SegmentOptions(precision="float32"))
    segment_volume(volume, predictor.model, predictor.options, alignment=IDENTITY)
    straight, flipped = network.seen
    assert torch.equal(straight[:, :8], flipped[:, 8:16])
    assert torch.equal(straight[:, 8:16], flipped[:, :8])
    assert not straight[:, 17:].any()


def test_shifted_passes_are_shifted_back() -> None:
    volume = head_volume()
    found = segment_volume(
        volume, model(), SegmentOptions(tta=True, precision="float32"), alignment=IDENTITY
    )
    assert found.details["passes"] == [
        "as it is",
        "mirrored",
        "as it is, shifted",
        "mirrored, shifted",
    ]
    assert ((found.probability.array > 0.5) == (volume.array > 0.5)).all()
    # All four agree on everything, so that nothing is uncertain.
    assert float(found.uncertainty.array.max()) < 1e-4


def test_a_scan_without_alignment_is_centred_and_not_mirrored() -> None:
    network = Thresholding()
    reference = head_volume()
    # Far from the origin, and 40 mm more air on one side.
    affine = reference.affine.copy()
    affine[:3, 3] += 300
    array = np.pad(reference.array, ((0, 0), (0, 40), (0, 0)))
    volume = Volume(array, affine)
    found = segment_volume(
        volume, model(network), SegmentOptions(align="none", precision="float32")
    )
    assert ((found.probability.array > 0.5) == (array > 0.5)).all()
    assert not any(bool(x[:, 8:16].any()) for x in network.seen)
    assert found.details["ventricles_ml"] is None


@pytest.mark.parametrize("shape", [(40, 50, 60), (300, 260, 250)])
def test_heads_that_do_not_fit_the_box_are_cut_or_filled(shape: tuple[int, int, int]) -> None:
    array = np.zeros(shape, np.float32)
    middle = tuple(slice(n // 2 - 8, n // 2 + 8) for n in shape)
    array[tuple(slice(n // 4, 3 * n // 4) for n in shape)] = 0.2
    array[middle] = 1
    found = segment_volume(
        Volume(array, np.eye(4)), model(), SegmentOptions(align="none", precision="float32")
    )
    assert found.probability.array.shape == shape
    assert ((found.probability.array > 0.5) == (array > 0.5)).all()


def test_a_manifest_that_says_volumetric_of_a_2d_network_is_refused() -> None:
    from StrokeLesionSegLib.networks import ResidualUNet

    with pytest.raises(InputError, match="its network is not"):
        make_predictor(model(ResidualUNet(in_channels=1, filters=(4, 8))))


def test_a_number_format_that_fails_its_check_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Rough(Thresholding):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = super().forward(x)
            return z * 0 - 9 if torch.is_autocast_enabled("cpu") else z

    found = segment_volume(
        head_volume(), model(Rough()), SegmentOptions(precision="bfloat16"), alignment=IDENTITY
    )
    assert found.details["precision"] == "float32"
    assert any("bfloat16 differs from float32" in w for w in found.warnings)
    assert found.probability.array.max() > 0.9


def starving(monkeypatch: pytest.MonkeyPatch, made: WholeHeadPredictor, answers: int) -> None:
    """``made`` runs on what is called a GPU, whose memory lasts for so many answers."""
    real, left = WholeHeadPredictor._function, [answers]

    def function(self: WholeHeadPredictor, precision: str) -> Callable[..., torch.Tensor]:
        device = self.device
        # Everything is on the CPU, only the name and the error are the GPU's.
        self.device = Device("cpu", device.reason)
        run = real(self, "float32" if precision == "float16" else precision)
        self.device = device

        def ask(full: torch.Tensor) -> torch.Tensor:
            if device.is_gpu:
                left[0] -= 1
                if left[0] < 0:
                    raise RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)")
            return run(full)

        return ask

    made.device = Device("mps", "pretended")
    monkeypatch.setattr(WholeHeadPredictor, "_function", function)


@pytest.mark.parametrize(("answers", "precision"), [(0, "auto"), (3, "float16")])
def test_a_gpu_without_memory_leaves_the_head_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, answers: int, precision: str
) -> None:
    """Without memory for the check of the number format, or for the second pass."""
    whole, options = model(), SegmentOptions(device="cpu", precision="float32")
    expected = segment_volume(head_volume(), whole, options, alignment=IDENTITY)
    made = WholeHeadPredictor(whole, replace(options, precision=precision))
    starving(monkeypatch, made, answers)
    told: list[int] = []
    ready = before_network(head_volume(), made, alignment=IDENTITY)
    run_network(ready, made, progress=lambda stage, done, total: told.append(done))
    found = after_network(ready)
    assert found.warnings[0] == "Memory ran out on mps; the CPU goes on."
    assert found.details["device"] == "cpu"
    assert found.details["device_reason"] == "mps ran out of memory"
    assert told == sorted(told)
    np.testing.assert_allclose(found.probability.array, expected.probability.array, atol=0.05)


def test_clicks_go_on_without_the_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made = WholeHeadPredictor(model(), SegmentOptions(device="cpu", precision="float32"))
    scan = before_network(head_volume(), made, alignment=IDENTITY).prepared
    starving(monkeypatch, made, 1)
    ask, _ = made.runner(scan)
    channels = head_channels(torch.from_numpy(scan.image), empty=10)
    first, second = ask(channels), ask(channels)
    assert made.device.name == "cpu"
    assert torch.equal(first, second)


def test_a_cpu_without_memory_has_nothing_to_go_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    class Huge(Thresholding):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    options = SegmentOptions(device="cpu", precision="float32")
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        segment_volume(head_volume(), model(Huge()), options, alignment=IDENTITY)


def test_a_difference_that_no_reader_would_see_is_no_failure() -> None:
    class Wavering(Thresholding):
        """Its bright voxels lie at the threshold, a hair above in float32, a hair below else."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = super().forward(x)
            hair = -0.002 if torch.is_autocast_enabled("cpu") else 0.002
            return torch.where(z > 0, torch.full_like(z, hair), z)

    found = segment_volume(
        head_volume(), model(Wavering()), SegmentOptions(precision="bfloat16"), alignment=IDENTITY
    )
    assert found.details["precision"] == "bfloat16"
    assert found.warnings == ()


def test_views_that_change_nothing_are_told() -> None:
    found = segment_volume(
        head_volume(),
        model(),
        SegmentOptions(views="triplanar", precision="float32"),
        alignment=IDENTITY,
    )
    assert any("three views change nothing" in w for w in found.warnings)


def test_cancelling_stops_between_passes() -> None:
    from StrokeLesionSegLib.errors import Cancelled

    network = Thresholding()
    with pytest.raises(Cancelled):
        segment_volume(
            head_volume(),
            model(network),
            SegmentOptions(precision="float32"),
            alignment=IDENTITY,
            cancel=lambda: len(network.seen) > 0,
        )
    assert len(network.seen) == 1


def test_channels_of_a_box_are_those_of_the_whole_head() -> None:
    g = torch.Generator().manual_seed(3)
    image = torch.rand((160, 192, 160), generator=g)
    box = (slice(24, 56), slice(10, 58), slice(0, 44))
    for mirror, flipped in ((True, False), (True, True), (False, False)):
        for dtype in (torch.float32, torch.bfloat16):
            whole = head_channels(image, mirror, flipped, empty=2, dtype=dtype)
            part = head_channels(image, mirror, flipped, empty=2, dtype=dtype, within=box)
            assert torch.equal(part, whole[(slice(None), slice(None), *box)])
