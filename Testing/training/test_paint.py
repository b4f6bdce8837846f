"""Lesions painted into slices while training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
from StrokeLesionSegLib.images import mni_brain_mask
from stroketrain.product.paint import brain_patches, paint_lesions, widen_fluid
from stroketrain.product.slices import PATCH, VIEWS


def heads(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey heads with a bright rim (a scalp) and a dark middle (ventricles); and their brains."""
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(80.0), indexing="ij")
    from_middle = ((rows - 48) ** 2 + (columns - 40) ** 2).sqrt()
    image = torch.where(from_middle < 34, 0.6, torch.where(from_middle < 38, 0.9, 0.0))
    image = torch.where(from_middle < 6, 0.1, image)
    brain = (from_middle < 30).float()
    return image.expand(n, 1, -1, -1).clone(), brain.expand(n, 1, -1, -1).clone()


def test_what_is_painted_is_marked_darker_and_inside_the_brain() -> None:
    image, brain = heads()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(3))
    image = (image + 0.02 * noise).clamp(0, 1)
    none = torch.zeros_like(image)
    painted, mask = paint_lesions(torch.Generator().manual_seed(0), image, none, brain, 1.0)
    assert bool(((painted == image) | (brain > 0)).all())
    assert not bool((mask * (1 - brain)).any())
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    got = mask.flatten(1).any(1)
    assert int(got.sum()) > 30
    darker = ((image - painted) * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)
    assert bool((darker[got] > 0.01).all())
    # From hardly visible to black.
    assert float(darker[got].min()) < 0.1
    assert float(darker[got].max()) > 0.35
    sizes = mask.flatten(1).sum(1)[got]
    assert float(sizes.max() / sizes.min()) > 10
    # Fluid is no lesion, but for its rim.
    deep = (image < 0.3) & (torch.nn.functional.max_pool2d(image, 9, 1, 4) < 0.3)
    assert not bool((mask.bool() & deep).any())


def test_only_a_share_of_the_slices_is_painted_and_lesions_stay() -> None:
    image, brain = heads(200)
    mask = torch.zeros_like(image)
    mask[:, :, 60:66, 50:56] = 1
    image = torch.where(mask > 0, 0.15, image)
    painted, more = paint_lesions(torch.Generator().manual_seed(1), image, mask, brain, 0.3)
    assert bool((more >= mask).all())
    inner = (..., slice(61, 65), slice(51, 55))
    # A neighbour's soft edge may reach into a lesion, never brighten it.
    assert bool((painted[inner] <= image[inner] + 1e-6).all())
    new = ((more - mask).flatten(1).sum(1) > 0).float().mean()
    assert 0.15 < float(new) < 0.35
    same, unchanged = paint_lesions(torch.Generator().manual_seed(1), image, mask, brain, 0.0)
    assert torch.equal(unchanged, mask)
    # Without a lesion a third of them still get wider fluid spaces, which are not marked.
    changed = (same != image).flatten(1).any(1).float().mean()
    assert 0.2 < float(changed) < 0.47


def test_shapes_of_other_slices_are_carried_over() -> None:
    """A square in one image comes back elsewhere, with straight edges; ellipses have none."""
    image, brain = heads(2)
    mask = torch.zeros_like(image)
    mask[0, :, 30:50, 10:14] = 1
    seen = 0
    for seed in range(60):
        g = torch.Generator().manual_seed(seed)
        _, more = paint_lesions(g, image, mask, brain, 1.0)
        seen += bool(more[1].any())
    assert seen > 40


def test_the_same_seed_paints_the_same() -> None:
    image, brain = heads(6)
    mask = torch.zeros_like(image)
    first, again, other = (
        paint_lesions(torch.Generator().manual_seed(seed), image, mask, brain, 0.8)
        for seed in (5, 5, 6)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_fluid_widens_inside_the_brain_alone() -> None:
    image, brain = heads(30)
    wider = widen_fluid(torch.Generator().manual_seed(2), image, brain, 1.0)
    assert bool((wider <= image + 1e-6).all())
    assert torch.equal(wider[brain == 0], image[brain == 0])
    middle = (..., slice(36, 60), slice(28, 52))
    assert int((wider[middle] < 0.5).sum()) > 1.05 * int((image[middle] < 0.5).sum())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_brain_patches_are_cut_where_the_stream_cuts(axis: int) -> None:
    size = PATCH[VIEWS[axis]]
    places = torch.tensor([[3, 80, 4, 9], [0, 100, 12, 2]])
    cut = brain_patches(axis, places, size)
    assert cut.shape == (2, 1, *size)
    whole = mni_brain_mask().array != 0
    for n, (_, at, row, column) in enumerate(places.tolist()):
        wanted = np.take(whole, at, axis)[row : row + size[0], column : column + size[1]]
        np.testing.assert_array_equal(cut[n, 0].numpy() > 0, wanted)
