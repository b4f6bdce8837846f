"""The prediction on the canonical grid against plain loops and networks whose answer is known."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.boxes import grow_box, whole_box
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.inference import SlicesOptions, predict_volume, prepare_network
from StrokeLesionSegLib.inference.device import Device
from StrokeLesionSegLib.inference.fold import fold_batch_norms
from StrokeLesionSegLib.inference.views import SliceStack, passes
from StrokeLesionSegLib.networks import build_network
from torch import nn

CPU = Device("cpu", "test")
GUIDED = ("t1", "click_positive", "click_negative", "previous_probability")


HOW = {field.name for field in fields(SlicesOptions)}


def predicted(array, network, *, channels=("t1",), precision="float32", **options):
    """Mean and uncertainty of the lesion probability of a network that is prepared on the CPU."""
    prepared = prepare_network(network, channels, CPU, precision)
    how = {name: options.pop(name) for name in HOW & options.keys()}
    result = predict_volume(array, prepared, SlicesOptions(**how), **options)
    return result.mean, result.uncertainty


class Fake(nn.Module):
    """A network in evaluation mode that is not copied, so that a test can look into it."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def __deepcopy__(self, memo):
        return self


class Logit(Fake):
    """logit of one input channel: the probability is the input itself."""

    def __init__(self, channel: int = 0) -> None:
        super().__init__()
        self.channel = channel
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return torch.logit(x[:, self.channel : self.channel + 1].float(), eps=1e-6)


class Ramp(Fake):
    """Probability grows along the columns of the plane: knows left from right."""

    def forward(self, x):
        columns = torch.linspace(-3, 3, x.shape[3])
        return torch.broadcast_to(columns, (x.shape[0], 1, *x.shape[2:])).clone()


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics as after training: batch normalisations that do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, -1.5, 1.5),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                with torch.no_grad():
                    tensor.uniform_(low, high, generator=generator)
    return network.eval()


def small_network(channels: int = 1, filters=(4, 8, 8), **more) -> nn.Module:
    torch.manual_seed(3)
    spec = {"name": "residual_unet", "in_channels": channels, "filters": filters, **more}
    return randomised(build_network(spec))


def blob(shape=(21, 45, 38), seed: int = 0) -> np.ndarray:
    """A smooth off-centre head in [0, 1] with a background of 0, no symmetry at all."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = ((k - 0.05) / 0.8) ** 2 + ((j + 0.1) / 0.75) ** 2 + ((i - 0.1) / 0.7) ** 2 < 1
    value = 0.5 + 0.2 * np.sin(3 * k + 1) + 0.15 * np.sin(5 * j) + 0.1 * np.cos(4 * i + j)
    return ((value + 0.03 * rng.standard_normal(shape)).clip(0.01, 0.99) * head).astype(np.float32)


def plain_loop(array: np.ndarray, network: nn.Module, axis: int, multiple: int = 16) -> np.ndarray:
    """One slice at a time, float32, zero padded in the same way, nothing else: the witness."""
    out = np.zeros_like(array)
    for index in range(array.shape[axis]):
        plane = np.take(array, index, axis)
        if not plane.any():
            continue
        pads = [(-n) % multiple for n in plane.shape]
        x = np.pad(plane, [(p // 2, p - p // 2) for p in pads])
        with torch.no_grad():
            y = torch.sigmoid(network(torch.from_numpy(x)[None, None]))[0, 0].numpy()
        where = tuple(slice(p // 2, p // 2 + n) for p, n in zip(pads, plane.shape, strict=True))
        target = [slice(None)] * 3
        target[axis] = index
        out[tuple(target)] = y[where]
    return out


# ------------------------------------------------------------------ geometry


@pytest.mark.parametrize("views", ["axial", "triplanar"])
@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("box", [None, (slice(3, 17), slice(5, 40), slice(2, 31))])
def test_identity_network_returns_its_input(views, tta, box):
    array = blob()
    mean, uncertainty = predicted(
        array, Logit(), views=views, tta=tta, flip_axes=("i", "j", "k"), box=box
    )
    expected = np.zeros_like(array)
    inside = box or whole_box(array.shape)
    expected[inside] = array[inside]
    np.testing.assert_allclose(mean, expected, atol=2e-6)
    if views == "triplanar" or tta:  # all passes agree
        assert uncertainty.max() < 1e-3
    else:
        np.testing.assert_allclose(uncertainty, np.sqrt(mean * (1 - mean)), atol=1e-7)


def test_each_view_shows_the_right_planes():
    array = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    axial, coronal, sagittal = (
        SliceStack(array.shape, whole_box(array.shape), view, 16)
        for view in ("axial", "coronal", "sagittal")
    )
    np.testing.assert_array_equal(axial.planes(array)[2], array[2])
    np.testing.assert_array_equal(coronal.planes(array)[2], array[:, 2])
    np.testing.assert_array_equal(sagittal.planes(array)[2], array[:, :, 2])
    assert axial.size == coronal.size == sagittal.size == (16, 16)


def test_left_right_flip_mirrors_the_answer():
    """A network that says "right" by column must average to its own mirror image."""
    array = np.full((4, 16, 16), 0.5, np.float32)
    plain, _ = predicted(array, Ramp())
    ramp = 1 / (1 + np.exp(-np.linspace(-3, 3, 16)))
    np.testing.assert_allclose(plain, np.broadcast_to(ramp, plain.shape), atol=1e-6)
    mean, uncertainty = predicted(array, Ramp(), tta=True)
    np.testing.assert_allclose(mean, 0.5, atol=1e-6)
    np.testing.assert_allclose(
        uncertainty, np.broadcast_to(np.abs(ramp - 0.5), mean.shape), atol=1e-6
    )


def test_passes_and_their_weights():
    names = [p.name for p in passes("triplanar", True)]
    assert names == ["axial", "axial, flipped i", "coronal", "coronal, flipped i", "sagittal"]
    for views in ("axial", "triplanar"):
        for axes in (("i",), ("i", "j"), ("i", "j", "k")):
            todo = passes(views, True, axes)
            assert sum(p.weight for p in todo) == pytest.approx(1)
            weights = {
                v: sum(p.weight for p in todo if p.view == v) for v in {p.view for p in todo}
            }
            assert len({round(w, 9) for w in weights.values()}) == 1
    assert [p.name for p in passes("axial", False, ("i", "j"))] == ["axial"]
    assert len(passes("axial", True, ("i", "j"))) == 4
    with pytest.raises(ValueError, match="unknown views"):
        passes("oblique")


@pytest.mark.parametrize("shape", [(21, 45, 38), (189, 233, 197), (10, 16, 200)])
def test_grown_box_contains_the_box_and_stays_inside(shape):
    rng = np.random.default_rng(1)
    for _ in range(50):
        starts = [int(rng.integers(0, n - 1)) for n in shape]
        box = tuple(
            slice(s, int(rng.integers(s + 1, n + 1))) for s, n in zip(starts, shape, strict=True)
        )
        for old, new, size in zip(box, grow_box(box, shape, 16), shape, strict=True):
            assert 0 <= new.start <= old.start < old.stop <= new.stop <= size
            extent = new.stop - new.start
            assert extent % 16 == 0 or extent == size
            assert extent < old.stop - old.start + 16


# ------------------------------------------------------------------ against the plain loop


@pytest.mark.parametrize("skip", ["stem", "block_input"])
def test_full_volume_agrees_with_a_plain_loop(skip):
    array, network = blob(), small_network(filters=(4, 8, 8, 8, 8), skip=skip)
    mean, _ = predicted(array, network)
    np.testing.assert_allclose(mean, plain_loop(array, network, 0), atol=1e-5)
    assert mean.std() > 0.01


def test_triplanar_is_mean_and_deviation_of_three_plain_loops():
    array, network = blob(), small_network(filters=(4, 8, 8, 8, 8))
    three = np.stack([plain_loop(array, network, axis) for axis in range(3)])
    mean, uncertainty = predicted(array, network, views="triplanar")
    np.testing.assert_allclose(mean, three.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(uncertainty, three.std(axis=0), atol=1e-5)


def test_flips_are_weighted_by_view():
    array, network = blob(), small_network(filters=(4, 8, 8, 8, 8))
    mirrored = array[:, :, ::-1]
    axial, coronal, sagittal = (plain_loop(array, network, axis) for axis in range(3))
    # 38 columns are padded by 5 on both sides, so mirroring before or after padding is the same.
    axial2, coronal2 = (plain_loop(mirrored, network, axis)[:, :, ::-1] for axis in (0, 1))
    values = np.stack([axial, axial2, coronal, coronal2, sagittal])
    weights = np.array([1, 1, 1, 1, 2]) / 6
    mean, uncertainty = predicted(array, network, views="triplanar", tta=True)
    expected = np.tensordot(weights, values, 1)
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    deviation = np.sqrt(np.tensordot(weights, (values - expected) ** 2, 1))
    np.testing.assert_allclose(uncertainty, deviation, atol=1e-5)


def test_crop_is_the_prediction_of_the_grown_box():
    array, network = blob(), small_network(filters=(4, 8, 8, 8, 8))
    box = (slice(4, 15), slice(9, 37), slice(4, 30))
    mean, uncertainty = predicted(array, network, box=box)
    _, rows, columns = grow_box(box, array.shape, 16)
    alone = np.zeros_like(array)
    alone[box[0], rows, columns] = plain_loop(array[box[0], rows, columns], network, 0)
    np.testing.assert_allclose(mean[box], alone[box], atol=1e-5)
    outside = np.ones(array.shape, bool)
    outside[box] = False
    assert not mean[outside].any()
    assert not uncertainty[outside].any()


def test_crop_changes_nothing_beyond_the_reach_of_the_network():
    """Two levels: a voxel sees 15 pixels around it, by counting and by asking the network."""
    network = small_network(filters=(4, 8), skip="stem")
    impulse = torch.zeros(1, 1, 64, 64)
    impulse.requires_grad_(True)
    network(impulse)[0, 0, 32, 32].backward()
    rows, columns = torch.nonzero(impulse.grad[0, 0], as_tuple=True)
    reach = int(max((rows - 32).abs().max(), (columns - 32).abs().max()))
    assert 4 <= reach <= 15

    array = blob((6, 96, 96))
    full, _ = predicted(array, network)
    box = (slice(0, 6), slice(16, 80), slice(16, 80))
    cropped, _ = predicted(array, network, box=box)
    inner = (slice(0, 6), slice(16 + reach, 80 - reach), slice(16 + reach, 80 - reach))
    np.testing.assert_allclose(cropped[inner], full[inner], atol=2e-5)
    assert np.abs(cropped[box] - full[box]).max() > 1e-4  # at the rim the padding does show


def test_empty_slices_are_skipped_and_zero():
    array = blob()
    array[:6] = 0
    network = Logit()
    prepared = prepare_network(network, ["t1"], CPU, "float32")
    result = predict_volume(array, prepared, SlicesOptions(views="triplanar"))
    assert result.mean[:6].max() < 1e-5  # logit's eps, in the other two views
    assert result.skipped >= 6
    assert result.slices + result.skipped == sum(array.shape)
    seen = sum(shape[0] for shape in prepared.network.shapes)
    assert seen == result.slices


# ------------------------------------------------------------------ batches, memory, hooks


def test_batch_size_does_not_matter():
    array, network = blob(), small_network(filters=(8, 16, 16, 16, 16))
    results = [predicted(array, network, batch_size=n)[0] for n in (1, 2, 7, 32)]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_input_same_output_bit_for_bit(precision):
    array, network = blob(), small_network(filters=(8, 16, 16, 16, 16))
    options = {"views": "triplanar", "tta": True, "precision": precision}
    first = predicted(array, network, **options)
    second = predicted(array.copy(), network, **options)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


class Hungry(Logit):
    """Runs out of memory for more than ``most`` slices, in one of the ways that torch has."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__()
        self.most, self.error = most, error

    def forward(self, x):
        if len(x) > self.most:
            raise self.error
        return super().forward(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
        MemoryError(),
    ],
)
def test_batch_shrinks_when_memory_runs_out(error):
    array, network = blob(), Hungry(3, error)
    steps: list[tuple[int, int]] = []
    prepared = prepare_network(network, ["t1"], CPU, "float32")
    result = predict_volume(
        array,
        prepared,
        SlicesOptions(batch_size=16),
        progress=lambda stage, done, of: steps.append((done, of)),
    )
    np.testing.assert_allclose(result.mean, array, atol=2e-6)
    assert result.batch_sizes == {"axial": 2}
    assert [w.split("with ")[1].split(" slices")[0] for w in result.warnings] == ["16", "8", "4"]
    assert steps[-1] == (21, 21)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_gpu_without_memory_leaves_the_rest_to_the_cpu(monkeypatch):
    array, network = blob(), Logit()
    prepared = prepare_network(network, ["t1"], CPU, "float32")

    def starving(batch):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    # Stands for a GPU: everything is on the CPU, only the name and the error are the GPU's.
    object.__setattr__(prepared, "device", Device("mps", "pretended"))
    object.__setattr__(prepared, "probability", starving)
    result = predict_volume(array, prepared, SlicesOptions(batch_size=4))
    np.testing.assert_allclose(result.mean, array, atol=0.005)  # the CPU may use bfloat16
    assert result.prepared.device.name == "cpu"
    assert "the CPU goes on" in result.warnings[-1]
    assert len(result.warnings) == 3


@pytest.mark.parametrize(
    ("requested", "then"), [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "auto")]
)
def test_the_cpu_takes_over_in_the_format_asked_for_and_checks_it(monkeypatch, requested, then):
    """Bfloat16 fails its check on the probe, and float32 is used with a warning."""
    from StrokeLesionSegLib.inference import prepare as prepare_module

    array, network = blob(), Logit()
    prepared = prepare_network(
        network, ["t1"], CPU, "float32", probe=array[8:10], thresholds=(0.1, 0.7)
    )
    object.__setattr__(prepared, "device", Device("mps", "pretended"))
    object.__setattr__(prepared, "requested", requested)
    asked = []
    real = prepare_module.choose_precision

    def choose(wanted, device):
        asked.append(wanted)
        return real("bfloat16" if wanted == "auto" else wanted, device)

    def fails(name, high, low, seconds, thresholds):
        assert thresholds == (0.1, 0.7)
        return prepare_module.PrecisionCheck(name, 0.3, None, False, seconds)

    def starving(batch):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(prepare_module, "choose_precision", choose)
    monkeypatch.setattr(prepare_module, "compare", fails)
    object.__setattr__(prepared, "probability", starving)
    result = predict_volume(array, prepared, SlicesOptions(batch_size=1))
    assert asked == [then]  # what the GPU had, or what a CPU takes instead
    assert result.prepared.precision == "float32"
    assert ("0.3 in probability" in result.warnings[-1]) == (requested != "float32")


def test_too_little_memory_for_one_slice_is_said():
    with pytest.raises(InputError, match="single slice"):
        predicted(blob(), Hungry(0, MemoryError()))


@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_no_slice_is_computed_twice_and_no_call_is_wasted(batch_size):
    """Counts that no machine changes: calls, slices, and the size of the planes."""
    array, network = np.full((20, 30, 40), 0.5, np.float32), Logit()
    prepared = prepare_network(network, GUIDED, CPU, "float32")
    box = (slice(2, 13), slice(4, 28), slice(9, 39))
    how = SlicesOptions(views="triplanar", tta=True, batch_size=batch_size)
    predict_volume(array, prepared, how, box=box)
    slices = [11, 11, 24, 24, 30]  # of the box: axial and coronal twice, sagittal once
    assert len(network.shapes) == sum(-(-n // batch_size) for n in slices)
    assert sum(shape[0] for shape in network.shapes) == sum(slices)
    # j 24 grows to 30 (all there is) and is padded to 32, i 30 grows to 32, k 11 to 16.
    assert {shape[1:] for shape in network.shapes} == {(4, 32, 32), (4, 16, 32)}


def test_other_errors_are_not_taken_for_lack_of_memory():
    with pytest.raises(RuntimeError, match="a defect"):
        predicted(blob(), Hungry(0, RuntimeError("a defect")))


def test_cancel_is_asked_before_every_batch():
    network, asked = Hungry(99, MemoryError()), []

    def cancel():
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        predicted(blob(), network, batch_size=2, cancel=cancel)
    assert len(network.shapes) == 3


@pytest.mark.parametrize("views", ["axial", "triplanar"])
def test_progress_counts_slices_and_never_goes_back(views):
    steps = []
    predicted(blob(), Logit(), views=views, progress=lambda *step: steps.append(step))
    assert {stage for stage, _, _ in steps} == {"network"}
    done = [d for _, d, _ in steps]
    total = 21 if views == "axial" else 21 + 45 + 38
    assert {t for _, _, t in steps} == {total}
    assert done[0] == 0
    assert done[-1] == total
    assert done == sorted(done)


# ------------------------------------------------------------------ channels, number formats


def test_guidance_is_zero_unless_given():
    array = blob()
    clicks = np.random.default_rng(0).random(array.shape).astype(np.float32) * 0.9 + 0.05
    for channel, name in enumerate(GUIDED[1:], start=1):
        automatic, _ = predicted(array, Logit(channel), channels=GUIDED)
        assert automatic.max() < 1e-5
        guided, _ = predicted(
            array, Logit(channel), channels=GUIDED, views="triplanar", guidance={name: clicks}
        )
        inside = array > 0
        np.testing.assert_allclose(guided[inside], clicks[inside], atol=1e-5)


def test_guidance_that_does_not_fit_is_refused():
    array = blob()
    with pytest.raises(ValueError, match="no guidance channel"):
        predicted(array, Logit(), guidance={"click_positive": array})
    with pytest.raises(ValueError, match="shape"):
        predicted(array, Logit(), channels=GUIDED, guidance={"click_positive": array[1:]})
    with pytest.raises(ValueError, match="t1"):
        predicted(array, Logit(), channels=("flair",))


def test_t1_may_be_any_channel():
    mean, _ = predicted(blob(), Logit(1), channels=("click_positive", "t1"))
    np.testing.assert_allclose(mean, blob(), atol=2e-6)


@pytest.mark.parametrize("box", [(slice(0, 5), slice(0, 99), slice(0, 5)), (slice(5, 5),) * 3])
def test_impossible_boxes_are_refused(box):
    with pytest.raises(ValueError, match="box"):
        predicted(blob(), Logit(), box=box)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "unet", "filters": (4, 8, 8)},
        {"name": "residual_unet", "filters": (4, 8, 8), "skip": "stem"},
        {"name": "residual_unet", "filters": (4, 8, 8), "skip": "block_input"},
        {"name": "residual_unet", "filters": (4, 8, 8), "inner_activation": True},
    ],
)
def test_folding_normalisations_changes_nothing(spec):
    torch.manual_seed(0)
    network = randomised(build_network(spec))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batch_norms(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network(x), atol=2e-5, rtol=1e-5)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_folding_needs_evaluation_mode():
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_batch_norms(build_network({"name": "unet", "filters": (4, 8)}).train())


def test_reduced_precision_is_close_and_checked():
    array, network = blob(), small_network(filters=(8, 16, 16, 16, 16))
    prepared = prepare_network(network, ["t1"], CPU, "bfloat16", probe=array[8:10])
    assert prepared.precision == "bfloat16"
    assert prepared.check.ok
    assert 0 < prepared.check.max_difference < 0.05
    reduced = predict_volume(array, prepared).mean
    exact, _ = predicted(array, network)
    assert 0 < np.abs(reduced - exact).max() < 0.05


def test_a_network_that_does_not_bear_bfloat16_runs_in_float32():
    class Steep(nn.Module):
        """Logit that turns on the fourth digit, which bfloat16 does not have."""

        def __init__(self):
            super().__init__()
            self.offset = nn.Parameter(torch.tensor(-0.5))

        def forward(self, x):
            return (x.float() + self.offset.float())[:, :1] * 3000

    array = np.full((4, 32, 32), 0.5004, np.float32)
    prepared = prepare_network(Steep().eval(), ["t1"], CPU, "bfloat16", probe=array[:2])
    assert prepared.precision == "float32"
    assert not prepared.check.ok
    assert "float32 is used" in prepared.warnings[0]
    assert f"{prepared.check.max_difference:.3g}" in prepared.warnings[0]
    expected = 1 / (1 + np.exp(-(np.float32(0.5004) - 0.5) * 3000))
    np.testing.assert_allclose(predict_volume(array, prepared).mean, expected, atol=1e-3)


def test_networks_of_other_shape_are_refused():
    class Two(Fake):
        def forward(self, x):
            return x.repeat(1, 2, 1, 1)

    with pytest.raises(ValueError, match="returns"):
        predicted(blob(), Two())
