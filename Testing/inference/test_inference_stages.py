"""From a volume on its own grid to probabilities on that grid: what happens in which order."""

from __future__ import annotations

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import StrokeLesionSegLib.images as images
import torch
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Volume, apply_window, window_range
from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
from StrokeLesionSegLib.models import Inference, Preprocessing
from StrokeLesionSegLib.networks import build_network
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.pipeline.runner import matrix_to_mni
from torch import nn

GUIDED = ("t1", "click_positive", "click_negative", "previous_probability")
STAGES = ["align", "canonical", "window", "network", "back"]
WHOLE = SegmentOptions(align="none", device="cpu", precision="float32", crop=False)


class Logit(nn.Module):
    """The probability is the T1 itself."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, x):
        return torch.logit(x[:, :1].float(), eps=1e-6)


def model(network=None, channels=("t1",), **preprocessing):
    """What ``load_model`` returns, as far as inference looks at it."""
    manifest = SimpleNamespace(
        channels=channels,
        preprocessing=Preprocessing(
            **{
                "grid": "mni152-2009a-1mm",
                "window_percentiles": (0.5, 99.5),
                "window_low_of": "foreground",
                "pad_multiple": 16,
                "brain_mask_margin_mm": None,
                **preprocessing,
            }
        ),
        name="test",
        kind="slices",
        inference=Inference(OperatingPoint(0.5)),
        operating_point=lambda views: OperatingPoint(0.5),
    )
    return SimpleNamespace(manifest=manifest, network=network or Logit(), directory=None)


def small_network(channels: int) -> nn.Module:
    torch.manual_seed(1)
    spec = {"name": "residual_unet", "in_channels": channels, "filters": (4, 8, 8, 8, 8)}
    return build_network(spec).eval()


def head(shape=(40, 52, 44), affine=None, seed: int = 0) -> Volume:
    """A smooth ellipsoid of tissue, 100 to 900, brighter towards the right front, on 0."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (k / 0.8) ** 2 + (j / 0.85) ** 2 + (i / 0.75) ** 2 < 1
    value = 450 + 200 * i + 150 * j + 60 * np.sin(6 * k) + 10 * rng.standard_normal(shape)
    if affine is None:
        affine = np.eye(4)
        affine[:3, 3] = (-20.0, -30.0, -10.0)
    return Volume((value * inside).astype(np.float32), affine)


def on_mni_grid() -> Volume:
    return Volume(head(MNI_GRID.shape).array, MNI_GRID.affine.copy())


def alignment(ok: bool = True, shift=(0.0, 0.0, 0.0), reason: str = "") -> Alignment:
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return Alignment(matrix, ok, reason, 0.9, 0.8, 0.01)


def forbidden(*args, **kwargs):
    raise AssertionError("nothing has to be registered here")


def windowed(volume: Volume) -> np.ndarray:
    return apply_window(volume.array, window_range(volume.array))


# ------------------------------------------------------------------ the way there and back


def test_identity_network_gives_the_windowed_scan_back():
    volume = head()
    before = volume.array.copy()
    prediction = segment_volume(volume, model(), WHOLE)
    assert prediction.probability.grid.same_as(volume.grid)
    assert prediction.probability.array.dtype == np.float32
    np.testing.assert_allclose(prediction.probability.array, windowed(volume), atol=3e-6)
    p = prediction.probability.array
    np.testing.assert_allclose(prediction.uncertainty.array, np.sqrt(p * (1 - p)), atol=1e-6)
    np.testing.assert_array_equal(volume.array, before)
    assert prediction.alignment is None
    assert prediction.warnings == ()


@pytest.mark.parametrize(
    ("order", "flips"),
    [
        ((0, 1, 2), (1, 1, 0)),
        ((2, 0, 1), (0, 0, 0)),
        ((1, 2, 0), (1, 0, 1)),
        ((2, 1, 0), (0, 1, 1)),
    ],
)
def test_storage_order_changes_nothing_in_the_world(order, flips):
    volume = head()
    network = model(small_network(1))
    expected = segment_volume(volume, network, WHOLE).probability.array
    # The same head, its (k, j, i) axes permuted and flipped, with the affine that says so.
    array = volume.array.transpose(order)
    affine = volume.affine.copy()
    columns = [volume.affine[:, 2 - axis] for axis in order]  # of the new k, j, i
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            affine[:3, 3] += columns[axis][:3] * (array.shape[axis] - 1)
            columns[axis] = -columns[axis]
    for axis, column in enumerate(columns):
        affine[:, 2 - axis] = column
    stored = Volume(np.ascontiguousarray(array), affine)
    result = segment_volume(stored, network, WHOLE).probability
    assert result.grid.same_as(stored.grid)
    back = np.flip(result.array, [axis for axis, flip in enumerate(flips) if flip])
    np.testing.assert_allclose(back.transpose(np.argsort(order)), expected, atol=1e-6)


def test_crop_is_zero_outside_its_box_and_says_where_it_is():
    volume = head((64, 90, 80))
    options = SegmentOptions(align="none", device="cpu", precision="float32")
    prediction = segment_volume(volume, model(), options)
    box = tuple(slice(*bounds) for bounds in prediction.details["box_kji"])
    expected = np.zeros_like(volume.array)
    expected[box] = windowed(volume)[box]
    np.testing.assert_allclose(prediction.probability.array, expected, atol=3e-6)
    whole = segment_volume(volume, model(), WHOLE)
    assert whole.details["box_kji"] == [[0, 64], [0, 90], [0, 80]]


def test_same_scan_same_result_bit_for_bit():
    options = SegmentOptions(align="none", device="cpu", views="triplanar", tta=True)
    first, second = (
        segment_volume(head(), model(small_network(4), GUIDED), options) for _ in range(2)
    )
    assert first.probability.array.tobytes() == second.probability.array.tobytes()
    assert first.uncertainty.array.tobytes() == second.uncertainty.array.tobytes()


def test_guidance_channels_are_zero_in_automatic_mode():
    """A network with guidance equals one without it whose weights are those of its T1."""
    guided, plain = small_network(4), small_network(1)
    state = guided.state_dict()
    first = "stem.0.weight"
    plain.load_state_dict({**state, first: state[first][:, :1]})
    a = segment_volume(head(), model(guided, GUIDED), WHOLE)
    b = segment_volume(head(), model(plain), WHOLE)
    np.testing.assert_allclose(a.probability.array, b.probability.array, atol=1e-5)
    assert a.probability.array.std() > 1e-4


# ------------------------------------------------------------------ alignment


def test_a_scan_on_the_mni_grid_is_not_registered(monkeypatch):
    monkeypatch.setattr(images, "align_to_mni", forbidden)
    options = SegmentOptions(device="cpu", precision="float32")
    volume = on_mni_grid()
    prediction = segment_volume(volume, model(brain_mask_margin_mm=4), options)
    assert prediction.alignment is None
    # It lies in MNI space all the same, so the brain mask holds for it.
    assert prediction.details["brain_mask_margin_mm"] == 4
    brain = images.mni_brain_mask().array != 0
    probability = prediction.probability.array
    np.testing.assert_allclose(probability[brain], windowed(volume)[brain], atol=3e-6)
    far = (slice(None), slice(225, None), slice(None))  # 9 cm in front of the commissure
    assert not probability[far].any()
    unmasked = segment_volume(volume, model(), SegmentOptions(align="none", crop=False))
    assert unmasked.details["brain_mask_margin_mm"] is None


def test_nor_is_one_whose_axes_are_stored_in_another_order(monkeypatch):
    monkeypatch.setattr(images, "align_to_mni", forbidden)
    volume, options = on_mni_grid(), SegmentOptions(device="cpu", precision="float32")
    order = nibabel.orientations.axcodes2ornt("LIP")
    stored = nibabel.Nifti1Image(volume.array.T, volume.affine).as_reoriented(order)
    there = images.Volume(np.asarray(stored.dataobj).T, stored.affine)
    prediction = segment_volume(there, model(brain_mask_margin_mm=4), options)
    assert prediction.alignment is None
    assert np.array_equal(matrix_to_mni(None, there.grid), np.eye(4))
    plain = segment_volume(volume, model(brain_mask_margin_mm=4), options).probability
    expected = nibabel.Nifti1Image(plain.array.T, plain.affine).as_reoriented(order)
    assert np.array_equal(prediction.probability.array.T, np.asarray(expected.dataobj))


def test_align_mni_registers_even_on_the_mni_grid(monkeypatch):
    calls = []
    monkeypatch.setattr(
        images, "align_to_mni", lambda volume, **more: calls.append(volume) or alignment()
    )
    options = SegmentOptions(align="mni", device="cpu", precision="float32")
    prediction = segment_volume(on_mni_grid(), model(), options)
    assert len(calls) == 1
    assert prediction.alignment.ok
    assert prediction.details["aligned"]


@pytest.mark.parametrize("align", ["auto", "mni"])
def test_a_failed_alignment_is_a_warning_and_not_used(monkeypatch, align):
    failed = alignment(False, (500, 0, 0), "Only 3 % of the brain overlap.")
    monkeypatch.setattr(images, "align_to_mni", lambda volume, **more: failed)
    options = SegmentOptions(align=align, device="cpu", precision="float32", crop=False)
    volume = head()
    prediction = segment_volume(volume, model(brain_mask_margin_mm=4), options)
    assert prediction.alignment is failed
    assert "Only 3 % of the brain overlap" in prediction.warnings[0]
    assert not prediction.details["aligned"]
    assert prediction.details["brain_mask_margin_mm"] is None
    np.testing.assert_allclose(prediction.probability.array, windowed(volume), atol=3e-6)


def test_a_known_alignment_is_not_searched_again(monkeypatch):
    """The head is moved by the alignment, masked in MNI space and moved back."""
    monkeypatch.setattr(images, "align_to_mni", forbidden)
    affine = np.eye(4)
    affine[:3, 3] = (300, -400, 77)  # a scanner's arbitrary origin
    volume = head((120, 150, 130), affine)
    known = alignment(shift=(-65 - 300, -90 + 400, -50 - 77))
    options = SegmentOptions(device="cpu", precision="float32", crop=False)
    prediction = segment_volume(volume, model(), options, alignment=known)
    assert prediction.alignment is known
    np.testing.assert_allclose(prediction.probability.array, windowed(volume), atol=0.02)
    ignored = segment_volume(
        volume,
        model(),
        SegmentOptions(align="none", device="cpu", precision="float32", crop=False),
        alignment=known,
    )
    assert ignored.alignment is None


# ------------------------------------------------------------------ what is told


def test_stages_are_told_and_timed():
    told = []
    prediction = segment_volume(head(), model(), WHOLE, progress=lambda *step: told.append(step))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == STAGES
    for stage in STAGES:
        steps = [(done, total) for name, done, total in told if name == stage]
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]
        assert [d for d, _ in steps] == sorted(d for d, _ in steps)
    assert set(STAGES) < set(prediction.timings)
    assert all(seconds >= 0 for seconds in prediction.timings.values())
    assert prediction.timings["prepare"] <= prediction.timings["network"]


@pytest.mark.parametrize("stage", STAGES)
def test_cancel_stops_before_each_stage(monkeypatch, stage):
    reached = []

    def cancel():
        # Asked at the begin of each stage, before that stage is told.
        return len(reached) == STAGES.index(stage)

    with pytest.raises(Cancelled):
        segment_volume(
            head(),
            model(),
            WHOLE,
            progress=lambda name, done, total: reached.append(name) if done == total else None,
            cancel=cancel,
        )
    assert reached == STAGES[: STAGES.index(stage)]


def test_cancel_is_handed_to_the_registration(monkeypatch):
    def patient(volume, cancel=None, **more):
        for _ in range(100):
            if cancel():
                raise Cancelled("alignment was cancelled")
        raise AssertionError("nobody was asked")

    monkeypatch.setattr(images, "align_to_mni", patient)
    asked = []
    options = SegmentOptions(device="cpu")
    with pytest.raises(Cancelled):
        segment_volume(head(), model(), options, cancel=lambda: asked.append(1) or len(asked) > 10)


def test_details_are_json_and_true():
    threads = torch.get_num_threads()
    options = SegmentOptions(
        views="triplanar", tta=True, align="none", device="cpu", threads=2, batch_size=3
    )
    prediction = segment_volume(head((20, 24, 22)), model(small_network(1)), options)
    details = json.loads(json.dumps(prediction.details, allow_nan=False))
    assert details["device"] == "cpu"
    assert details["threads"] == 2
    assert details["batch_sizes"] == {"axial": 3, "coronal": 3, "sagittal": 3}
    assert len(details["passes"]) == 5
    assert details["options"]["views"] == "triplanar"
    low, high = details["intensity_window"]
    assert 0 <= low < high < 1000
    if details["precision"] != "float32":
        assert 0 <= details["precision_check"]["max_difference"] < 0.05
    assert torch.get_num_threads() == threads


def test_a_network_that_fails_the_check_is_told():
    class Broken(nn.Module):
        """Overflows in anything but float32."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.eval()

        def forward(self, x):
            if self.weight.dtype != torch.float32:
                return x[:, :1] * float("nan")
            return torch.logit(x[:, :1], eps=1e-6)

    options = SegmentOptions(align="none", device="cpu", precision="bfloat16", crop=False)
    prediction = segment_volume(head(), model(Broken()), options)
    assert prediction.details["precision"] == "float32"
    assert prediction.details["precision_check"]["max_difference"] is None
    json.dumps(prediction.details, allow_nan=False)
    assert "float32 is used" in prediction.warnings[0]
    np.testing.assert_allclose(prediction.probability.array, windowed(head()), atol=3e-6)


@pytest.mark.parametrize("array", [np.zeros((20, 20, 20)), np.full((20, 20, 20), 7.0)])
def test_an_image_without_contrast_is_an_input_error(array):
    volume = Volume(array.astype(np.float32), np.eye(4))
    with pytest.raises(InputError, match="constant"):
        segment_volume(volume, model(), WHOLE)
