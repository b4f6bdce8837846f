"""A simulated scan: the truth lies in the brain, is darker than before, and follows its seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("nilearn")
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.learning.strokes.fields import dilate
from stroketrain.simulate.anatomy import Person, template_anatomy
from stroketrain.simulate.appearance import TissueLevels, implant
from stroketrain.simulate.scan import simulate_scan
from stroketrain.simulate.shapes import draw_volume_ml, ellipsoid
from stroketrain.simulate.subject_split import load_subject_split
from stroketrain.simulate.tree import TreeOptions, simulate_tree


@pytest.fixture(scope="module")
def template() -> Person:
    return template_anatomy()


def test_volume_law_has_the_quantiles_of_atlas() -> None:
    g = torch.Generator().manual_seed(0)
    volumes = [draw_volume_ml(g, 0.01, 1000.0) for _ in range(6000)]
    low, middle, high = np.percentile(volumes, [5, 50, 95])
    assert low == pytest.approx(0.14, rel=0.2)
    assert middle == pytest.approx(4.3, rel=0.12)
    assert high == pytest.approx(136, rel=0.2)


@pytest.mark.parametrize(("kind", "darkest"), [("cavity", 0.75), ("mixed", 0.9), ("faint", 0.95)])
def test_lesions_darken_the_brain_and_leave_the_rest(
    template: Person, kind: str, darkest: float
) -> None:
    g = torch.Generator().manual_seed(3)
    t1, brain = template.t1(g), torch.from_numpy(template.brain)
    levels = TissueLevels.of(t1, brain)
    soft = ellipsoid(g, tuple(t1.shape), torch.tensor([100.0, 120.0, 60.0]), 12.0)
    after, truth = implant(g, t1, soft, brain.float(), levels, kind)
    assert 4_000 < int(truth.sum()) < 30_000
    assert not bool((truth & ~brain).any())
    assert float(after[truth].mean()) < darkest * float(t1[truth].mean())
    # The softest edge fades out within 7 voxels.
    far = dilate(truth.float(), 9) == 0
    assert torch.equal(after[far], t1[far])


def test_a_scan_follows_its_seed(template: Person, drawn: Path) -> None:
    t1, truth, record = simulate_scan(
        torch.Generator().manual_seed(1_000_003), template, None, kind="cavity"
    )
    kept = _of_the_first_session(drawn / "tree")
    for array, file in zip((t1, truth), kept, strict=True):
        np.testing.assert_array_equal(array, np.asarray(nib.load(file).dataobj).T)
    assert truth.any()
    assert record.volume_ml == pytest.approx(truth.sum() / 1000)


def _of_the_first_session(tree: Path) -> list[Path]:
    """T1 and mask."""
    return [next(tree.rglob(f"*ses-1_*_{kind}.nii.gz")) for kind in ("T1w", "mask")]


def test_healthy_means_no_lesion(template: Person) -> None:
    _, truth, record = simulate_scan(
        torch.Generator().manual_seed(2), template, None, kind="healthy"
    )
    assert not truth.any()
    assert record.lesions == []


def test_nobody_plays_in_two_parts(tmp_path: Path) -> None:
    split = load_subject_split()
    for what in ("people", "masks"):
        parts = [set(split[what][part]) for part in ("train", "val", "test")]
        assert all(parts)
        assert not (parts[0] & parts[1])
        assert not (parts[0] & parts[2])
        assert not (parts[1] & parts[2])
    split["people"]["val"] = split["people"]["train"][:1]
    twice = tmp_path / "subject_split.json"
    twice.write_text(json.dumps(split))
    with pytest.raises(ValueError, match="both in train and in val"):
        load_subject_split(twice)


def test_tree_has_the_names_of_atlas_and_is_kept(drawn: Path, tmp_path: Path) -> None:
    tree, asked = tmp_path / "tree", TreeOptions(seed=1, kinds=["cavity"])
    shutil.copytree(drawn / "tree", tree, copy_function=shutil.copy2)
    t1s = sorted(tree.rglob("*_space-MNI152NLin2009aSym_T1w.nii.gz"))
    masks = sorted(tree.rglob("*_label-L_desc-T1lesion_mask.nii.gz"))
    assert len(t1s) == len(masks) == 2
    assert t1s[0].relative_to(tree).parts[:2] == ("ATLAS_2", "Training")
    image = nib.load(t1s[0])
    assert image.shape == (197, 233, 189)
    np.testing.assert_allclose(image.affine[:3, 3], [-98, -134, -72])
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    before = [p.stat().st_mtime_ns for p in t1s]
    assert len(simulate_tree(tree, 2, asked)) == 2
    assert [p.stat().st_mtime_ns for p in t1s] == before
    # The scans of another seed have the same names.
    for options, other in (
        (TreeOptions(seed=5, kinds=["cavity"]), "seed"),
        (TreeOptions(seed=1), "kinds"),
        (TreeOptions(seed=1, kinds=["cavity"], layout="r1.1"), "layout"),
    ):
        with pytest.raises(InputError, match=rf"in another way \({other}\)"):
            simulate_tree(tree, 2, options)
    # Whoever reads the tree would take the second one, too.
    with pytest.raises(InputError, match="holds more scans than are asked for, by 1"):
        simulate_tree(tree, 1, asked)
