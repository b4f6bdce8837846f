"""The independent simulator, the bench's grids, secondary changes: on small volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from scipy import ndimage
from StrokeLesionSegLib.images import MNI_GRID, Volume, write_volume
from stroketrain.bench import independent_simulator, scanner
from stroketrain.bench.independent_simulator import Tissue
from stroketrain.simulate import secondary_changes
from stroketrain.simulate.appearance import TissueLevels


def _ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2


def _white_ball() -> tuple[np.ndarray, np.ndarray, Tissue]:
    """A head of one tissue: T1, brain, and what ``tissue_of`` would know of a real one."""
    rng = np.random.default_rng(1)
    shape = (64, 60, 56)
    brain = _ball(shape, (32, 30, 28), 26)
    t1 = np.where(brain, 0.8 + 0.02 * rng.standard_normal(shape), 0).astype(np.float32)
    tissue = Tissue(
        local=np.full(shape, 0.8, np.float32),
        classes=np.where(brain, 3, 0).astype(np.uint8),
        fluid=np.sort(rng.normal(0.2, 0.02, 500)).astype(np.float32),
        grey=np.sort(rng.normal(0.75, 0.03, 500)).astype(np.float32),
        white=np.sort(rng.normal(1.0, 0.03, 500)).astype(np.float32),
        ventricles=np.zeros(shape, bool),
        depth=ndimage.distance_transform_edt(brain).astype(np.float32),
    )
    return t1, brain, tissue


def test_transport_carries_ranks_onto_the_other_distribution() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5, 1, (10, 10, 10)).astype(np.float32)
    towards = np.sort(rng.gamma(2.0, 1.0, 4000)).astype(np.float32)
    moved = independent_simulator.transport(values, towards, values)
    assert np.array_equal(np.argsort(moved.ravel()), np.argsort(values.ravel()))
    for q in (0.05, 0.5, 0.95):
        assert np.quantile(moved, q) == pytest.approx(np.quantile(towards, q), rel=0.05)


def test_blending_joins_a_step_and_touches_the_band_alone() -> None:
    inner = np.zeros((9, 9, 24), np.float32)
    inner[:, :, 12:] = 1.0
    outer = np.ones_like(inner)
    band = np.zeros(inner.shape, bool)
    band[2:-2, 2:-2, 9:15] = True
    out = independent_simulator.poisson_blend(inner, outer, band, keep=0.5, steps=200)
    assert np.array_equal(out[~band], inner[~band])
    middle = out[4, 4, 8:16]
    assert np.all(np.diff(middle) > -1e-6)
    assert np.diff(middle).max() < 0.5  # the step of 1 is spread over the band


@pytest.mark.parametrize(("kind", "low", "high"), [("cavity", 0.2, 0.75), ("faint", 0.75, 0.98)])
def test_implanted_lesions_are_as_dark_as_their_kind(kind: str, low: float, high: float) -> None:
    t1, brain, tissue = _white_ball()
    shape = _ball(t1.shape, (32, 34, 26), 9)
    for seed in range(3):
        after = independent_simulator.implant(
            np.random.default_rng(seed), t1, brain, shape, tissue, kind
        )
        ratio = after[shape].mean() / t1[shape].mean()
        assert low < ratio < high
        far = ~ndimage.binary_dilation(shape, iterations=12)
        np.testing.assert_allclose(after[far], t1[far], atol=5e-4)
        # The very middle of a cavity is fluid.
        if kind == "cavity":
            core = _ball(t1.shape, (32, 34, 26), 3)
            assert after[core].mean() / 0.8 < 0.45


@pytest.mark.parametrize("ml", [2.0, 12.0])
def test_real_outlines_keep_their_place_or_its_mirror_image(tmp_path: Path, ml: float) -> None:
    # LAS with 2 mm voxels: what the masks' own headers look like, and not the MNI grid.
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    mask = np.zeros((91, 109, 91), np.uint8)
    where_ras = np.array([-34.0, 10.0, 22.0])
    i, j, k = np.linalg.solve(affine, [*where_ras, 1])[:3]
    mask[_ball(mask.shape, (k, j, i), 6)] = 1
    file = tmp_path / "mask.nii.gz"
    write_volume(file, Volume(mask, affine))
    sides = set()
    for seed in range(4):
        shape = independent_simulator._real_outline(np.random.default_rng(seed), file, ml)
        assert shape.shape == MNI_GRID.shape
        assert shape.sum() / 1000 == pytest.approx(ml, rel=0.35)
        centre = MNI_GRID.affine @ [*np.argwhere(shape).mean(axis=0)[::-1], 1]
        side = 1 if centre[0] > 0 else -1
        sides.add(side)
        assert np.abs(centre[:3] - where_ras * [-side, 1, 1]).max() < 9
    assert sides == {-1, 1}


@pytest.mark.parametrize("thick", [False, True])
def test_native_grids_keep_every_place(thick: bool) -> None:
    places = np.array([[-40.0, 20, 30], [25, -60, 10], [0, 30, -20]])
    array = np.zeros(MNI_GRID.shape, np.float32)
    for x, y, z in places:
        i, j, k, _ = np.linalg.solve(MNI_GRID.affine, [x, y, z, 1])
        array[_ball(array.shape, (k, j, i), 7)] = 1
    orders = set()
    for seed in range(2):
        rng = np.random.default_rng(seed)
        grid = scanner.native_grid(rng, thick=thick)
        assert (max(grid.spacing) >= 3) is thick
        shift = np.array([5.0, -8, 11])
        volume = scanner.regrid(array, grid, shift)
        axes = np.abs(volume.affine[:3, :3]).argmax(axis=0)
        orders.add((*axes, *np.sign(volume.affine[axes, range(3)])))
        labels, count = ndimage.label(volume.array > 0.5)
        assert count == 3
        found = ndimage.center_of_mass(volume.array, labels, range(1, 4))
        world = np.array([(volume.affine @ [*c[::-1], 1])[:3] for c in found]) - shift
        for place in places:
            assert np.linalg.norm(world - place, axis=1).min() < 0.7
        # What is there is neither lost nor doubled.
        assert volume.array.sum() * volume.grid.voxel_volume_ml * 1000 == pytest.approx(
            array.sum(), rel=0.02
        )
    assert len(orders) > 1


def test_secondary_changes_leave_the_lesion_and_what_is_far() -> None:
    t1, brain, _ = _white_ball()
    tensor, inside = torch.from_numpy(t1), torch.from_numpy(brain)
    truth = torch.from_numpy(_ball(t1.shape, (32, 34, 26), 7))
    levels = TissueLevels.of(tensor, inside)
    g = torch.Generator().manual_seed(0)
    after = secondary_changes.gliotic_halo(g, tensor, truth, inside & ~truth, levels)
    assert torch.equal(after[truth], tensor[truth])
    near = torch.from_numpy(ndimage.binary_dilation(truth.numpy(), iterations=2)) & ~truth
    far = torch.from_numpy(~ndimage.binary_dilation(truth.numpy(), iterations=20))
    assert float((after[near] / tensor[near]).mean()) < 0.99
    assert torch.equal(after[far], tensor[far])

    cleft = tensor.clone()
    cleft[30:34, 44:54, 24:26] = 0.15
    dark = cleft < 0.4
    wide = secondary_changes.widen_sulci(g, cleft, truth, inside, levels)
    assert torch.equal(wide[truth], cleft[truth])
    assert int((wide < 0.4)[inside].sum()) > int(dark[inside].sum())

    spotted = secondary_changes.plaques(g, tensor, inside, levels, torch.zeros_like(tensor))
    ratio = (spotted / tensor.clamp_min(1e-6))[inside]
    assert 0.6 < float(ratio.min()) < 0.95
    assert float((ratio < 0.99).float().mean()) < 0.2


def test_a_generator_set_apart_changes_nothing() -> None:
    g = torch.Generator().manual_seed(7)
    torch.rand(3, generator=g)
    expected = torch.Generator()
    expected.set_state(g.get_state())
    first, second = secondary_changes.apart(g), secondary_changes.apart(g)
    assert torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=second))
    assert torch.equal(torch.rand(4, generator=g), torch.rand(4, generator=expected))
