"""A teacher's probability in the target, of the 2D networks and of the volumetric one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID
from StrokeLesionSegLib.learning.heads import load_head, save_head
from StrokeLesionSegLib.learning.step import StepOptions, make_batch, make_step
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy
from StrokeLesionSegLib.learning.strokes.head import StrokeFrequencies, scan_of, simulate_head
from StrokeLesionSegLib.networks.volumetric import VolumetricUNet
from stroketrain.data.cache import Cache, join_caches
from stroketrain.data.resident import ResidentCache
from stroketrain.product.module import LesionModule
from stroketrain.product.options import FitOptions
from stroketrain.product.slices import Sampling, SliceStream
from stroketrain.volumetric.heads import HeadFolder
from stroketrain.volumetric.pack import write_pack
from stroketrain.volumetric.stream import SimulatedScans, pack
from volumetric_support import head_folder

SPEC = {"name": "residual_unet", "in_channels": 1, "filters": [4, 8], "skip": "stem"}
BALL = slice(60, 110)
# Certain inside, half certain in a shell around it.
CERTAIN, DOUBT = 250, 102


def shell() -> np.ndarray:
    """(K, J, I) uint8: what the teacher says."""
    said = np.zeros(MNI_GRID.shape, np.uint8)
    said[50:120, 70:160, 70:140] = DOUBT
    said[BALL, 80:150, 80:130] = CERTAIN
    return said


@pytest.fixture(scope="module")
def taught() -> Cache:
    said = shell()
    images = np.full((1, *MNI_GRID.shape), 120, np.uint8)
    masks = (said == CERTAIN).astype(np.uint8)[None]
    return Cache(images, masks, [{"subject": "a"}], "1", probabilities=said[None])


def targets(module: LesionModule, cache: Cache, resident: bool, steps: int = 12) -> set[float]:
    """Every value that occurs in the targets of some batches."""
    stream = SliceStream(cache, Sampling(batch=4, lesion_share=1.0), steps, seed=1)
    stream.numbers_only = resident
    module.resident = ResidentCache(cache, "cpu") if resident else None
    found: set[float] = set()
    for step, batch in enumerate(stream):
        target = module.training_inputs(batch, torch.Generator().manual_seed(step))[1]
        found |= {round(float(v), 3) for v in target.unique()}
    return found


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize(
    ("soft", "wanted"),
    [(0.0, {0, 1}), (0.5, {0, 0.2, 0.99}), (1.0, {0, 0.4, 0.98})],
)
def test_a_target_is_between_mask_and_probability(
    taught: Cache, soft: float, wanted: set[float], resident: bool
) -> None:
    assert targets(LesionModule(FitOptions(SPEC, steps=10, soft=soft)), taught, resident) == wanted


def test_what_is_painted_is_certain(taught: Cache) -> None:
    module = LesionModule(FitOptions(SPEC, steps=10, soft=1.0, paint=1.0))
    assert targets(module, taught, False) == {0, 0.4, 0.98, 1}


def test_caches_of_people_and_of_a_teacher_are_joined(taught: Cache) -> None:
    people = replace(taught, probabilities=None, fingerprint="2")
    joined = join_caches([people, taught])
    assert joined.probabilities is not None
    places = (0, 80, slice(60, 170), slice(60, 150))
    said = np.asarray(joined.probabilities[places])
    assert set(np.unique(said)) == {0, 255}
    assert np.array_equal(said > 0, taught.masks[places] > 0)
    assert set(np.unique(joined.probabilities[(1, *places[1:])])) == {0, DOUBT, CERTAIN}
    assert join_caches([people, people]).probabilities is None
    resident = ResidentCache(joined, "cpu", room=1)
    resident.put(2, taught.images[0], taught.masks[0])
    assert resident.probabilities is not None
    assert resident.probabilities[2].unique().tolist() == [0, 255]


def test_the_loss_is_least_at_what_the_teacher_says() -> None:
    module = LesionModule(FitOptions(SPEC, steps=10, positive_weight=3.0, soft=1.0))
    target = torch.full((1, 1, 16, 16), 0.4)
    values = [0.05, 0.2, 0.4, 0.6, 0.95]
    losses = [float(module._entropy(torch.full_like(target, p).logit(), target, 0)) for p in values]
    assert int(np.argmin(losses)) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> HeadFolder:
    """The template, in which a teacher has marked a box, and doubts around it."""
    folder = head_folder(tmp_path_factory.mktemp("taught"))
    said = np.zeros((160, 192, 160), np.uint8)
    said[60:100, 70:120, 20:60] = DOUBT
    said[66:94, 76:114, 26:54] = CERTAIN
    marked = replace(folder.head("one"), lesions=said == CERTAIN, said=said)
    save_head(folder.path / "heads" / "one.npz", marked)
    return folder


def test_a_head_keeps_what_was_said(folder: HeadFolder, tmp_path: Path) -> None:
    head = load_head(folder.path / "heads" / "one.npz")
    assert head.said is not None
    assert set(np.unique(head.said)) == {0, DOUBT, CERTAIN}
    with pytest.raises(InputError, match="one has strokes, which a pack cannot hold"):
        write_pack(folder, tmp_path / "w.safetensors", tmp_path / "pack.zip")


def test_the_probability_moves_with_the_head(folder: HeadFolder) -> None:
    anatomy, bank = Anatomy.of_template(), folder.bank("train")
    often = StrokeFrequencies(lesion=1.0)
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        drawn = simulate_head(g, folder.head("one"), anatomy, bank, often)
        scan = scan_of(g, drawn, anatomy)
        assert scan.soft is not None
        assert scan.own is not None
        own, new = scan.own, scan.lesions.bool() & ~scan.own
        # Linear where it moved: certain in the middle of the mask, as a mask is where drawn.
        assert float(scan.soft[own].median()) == pytest.approx(CERTAIN / 255, abs=0.02)
        if new.any():
            assert float(scan.soft[new].min()) == 1
        doubt = (scan.soft > 0.35) & (scan.soft < 0.45)
        assert int(doubt.sum()) > 20_000
        assert not bool(doubt[scan.ventricles].any())
        assert torch.equal(pack(scan, 0.0)[1], scan.lesions)
        half = pack(scan, 0.5)[1].float()
        assert torch.allclose(half, (scan.soft + scan.lesions.float()) / 2, atol=1e-3)


def test_the_stream_gives_it_and_a_step_takes_it(folder: HeadFolder) -> None:
    image, lesions, ventricles = next(iter(SimulatedScans(folder, 0)))
    assert lesions.dtype == torch.float16
    assert bool(((lesions > 0.15) & (lesions < 0.25)).any())
    template, weight = torch.zeros(1, 1, 80, 96, 80), torch.ones(1, 8, 80, 96, 80)
    torch.manual_seed(1)
    network = VolumetricUNet(filters=(4, 6))
    batch = make_batch(image.float(), lesions, ventricles, template, weight)
    assert float(batch.lesions.max()) <= 1
    loss, result = make_step(
        network, network, batch, StepOptions(guided=1.0), np.random.default_rng(0)
    )
    loss.backward()
    assert np.isfinite(result.loss)
    assert result.guided


def test_a_head_of_doubts_alone_counts_as_empty() -> None:
    """Where nothing reaches a half, probability that is given away is charged."""
    image, nothing = torch.rand(160, 192, 160), torch.zeros(160, 192, 160)
    doubt = nothing.clone()
    doubt[60:100, 70:120, 20:60] = 0.05
    template, weight = torch.zeros(1, 1, 80, 96, 80), torch.ones(1, 8, 80, 96, 80)
    network = VolumetricUNet(filters=(4, 6))
    with torch.no_grad():
        network.head.bias.fill_(1.0)
    options = StepOptions(guided=0, hard=0, ventricle=0, never=0)
    rng = np.random.default_rng(0)
    losses = [
        make_step(network, network, make_batch(image, t, nothing, template, weight), options, rng)[
            1
        ].loss
        for t in (nothing, doubt)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
