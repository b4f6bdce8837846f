"""Volumes by region against counting voxel by voxel, label files, and the frequency map."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.images import MNI_GRID, Volume
from StrokeLesionSegLib.report import lesion_frequency, read_atlas, region_table
from StrokeLesionSegLib.report.atlas import Atlas, read_labels

# Oblique, anisotropic, with the axes of the voxels in another order than RAS.
_TURN = np.deg2rad(12)
AFFINE = np.array(
    [
        [0, -2.0 * np.cos(_TURN), 2.5 * np.sin(_TURN), 40.0],
        [1.5, 0, 0, -50.0],
        [0, 2.0 * np.sin(_TURN), 2.5 * np.cos(_TURN), -20.0],
        [0, 0, 0, 1],
    ]
)
# No voxel centre falls between two voxels: both roundings would be right.
TO_MNI = np.array(
    [
        [1.1013, 0.0207, 0, 3.31],
        [0, 0.9537, 0.1019, -4.17],
        [0, -0.1031, 1.0043, 5.29],
        [0, 0, 0, 1],
    ]
)


def small_atlas() -> Atlas:
    rng = np.random.default_rng(3)
    # Blocks of labels on a 3 mm LAS grid.
    values = np.kron(rng.integers(0, 5, (8, 9, 7)), np.ones((5, 6, 6), dtype=int)).astype(np.int32)
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (63.0, -80.0, -60.0)
    present, counts = np.unique(values, return_counts=True)
    voxels = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return Atlas("blocks", values, affine, {1: "one", 2: "two", 4: "four"}, voxels)


def random_mask() -> Volume:
    rng = np.random.default_rng(5)
    array = (rng.random((22, 30, 40)) > 0.8).astype(np.uint8)
    return Volume(array, AFFINE)


def test_regions_are_what_counting_gives() -> None:
    atlas, mask = small_atlas(), random_mask()
    expected: dict[str, list[float]] = {}
    voxel_ml = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    inverse = np.linalg.inv(atlas.affine)
    for k, j, i in np.argwhere(mask.array):
        point = TO_MNI @ (AFFINE @ (i, j, k, 1.0))
        ai, aj, ak = (int(v) for v in np.rint((inverse @ point)[:3]))
        value = 0
        if 0 <= ak < 40 and 0 <= aj < 54 and 0 <= ai < 42:
            value = int(atlas.values[ak, aj, ai])
        name = {0: "none", 1: "one", 2: "two", 3: "region 3", 4: "four"}[value]
        sides = expected.setdefault(name, [0.0, 0.0])
        sides[0 if point[0] < 0 else 1] += voxel_ml
    table = region_table(atlas, mask, TO_MNI)
    assert table.title == "blocks"
    assert table.outside_ml == pytest.approx(sum(expected.pop("none")))
    assert {row.name for row in table.rows} == set(expected)
    for row in table.rows:
        assert (row.left_ml, row.right_ml) == pytest.approx(tuple(expected[row.name]))
        assert row.left_ml > 0
        assert row.right_ml > 0
    total = sum(row.volume_ml for row in table.rows) + table.outside_ml
    assert total == pytest.approx(mask.array.sum() * voxel_ml)
    volumes = [row.volume_ml for row in table.rows]
    assert volumes == sorted(volumes, reverse=True)


def test_share_of_a_region_is_one_when_it_is_all_lesion() -> None:
    atlas = small_atlas()
    # The lesion is region 2 itself, seen through a scan that is 20 % smaller than MNI space.
    shrink = np.diag([0.8, 0.8, 0.8, 1.0])
    mask = Volume((atlas.values == 2).astype(np.uint8), shrink @ atlas.affine)
    (row,) = region_table(atlas, mask, np.linalg.inv(shrink)).rows
    assert row.name == "two"
    assert row.share == pytest.approx(1.0)
    assert row.volume_ml == pytest.approx(0.8**3 * atlas.voxels[2] * 0.027)
    half = mask.array.copy()
    half[::2] = 0
    table = region_table(atlas, mask.with_array(half), np.linalg.inv(shrink))
    for row in table.rows:
        assert row.share == pytest.approx(half.sum() / atlas.voxels[2])


def test_no_lesion_no_regions() -> None:
    empty = random_mask().with_array(np.zeros((22, 30, 40), dtype=np.uint8))
    table = region_table(small_atlas(), empty, TO_MNI)
    assert (table.rows, table.outside_ml) == ((), 0.0)


def test_voxels_in_the_midplane_count_half_for_each_side() -> None:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-3.0, -20.0, 0.0)  # three columns: x -3, 0 and 3
    mask = Volume(np.ones((1, 1, 3), dtype=np.uint8), affine)
    atlas = Atlas("all", np.ones((9, 9, 9), dtype=np.int32), affine, {}, {1: 729})
    (row,) = region_table(atlas, mask, np.eye(4)).rows
    assert (row.name, row.left_ml, row.right_ml) == ("region 1", pytest.approx(0.0405), row.left_ml)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", '{"labels": ["Air", "OB", "AON"]}', {1: "OB", 2: "AON"}),
        ("a.json", '{"1": "left insula", "17": "x_y", "R": [1]}', {1: "left insula", 17: "x y"}),
        ("a.json", '["Background", "one"]', {1: "one"}),
        ("a.csv", '1,Middle_Peduncle\n2,"Fornix, x"\n', {1: "Middle Peduncle", 2: "Fornix, x"}),
        ("a.csv", "index,name\n3,three\n", {3: "three"}),
        ("a.tsv", "index\tname\tcolor\n3\tthree\t#fff\n", {3: "three"}),
        ("a.txt", "1|ACAL|anterior artery left|1\n2|B|\n", {1: "anterior artery left", 2: "B"}),
        ("a.txt", "# No. Label R G B A\n0 Air 0 0 0 0\n10 L-Pons 0 1 14 0\n", {10: "L-Pons"}),
        ("a.txt", '5  255 0 0  1 1 1  "left lobe"\n', {5: "left lobe"}),
        ("a.csv", "\ufeff1,one\n", {1: "one"}),
    ],
)  # fmt: skip
def test_label_files(tmp_path: Path, name: str, content: str, expected: dict[int, str]) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert read_labels(file) == expected


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", "3", "neither names"),
        ("a.csv", "name\n", "names no region"),
        ("a.xml", "<a/>", "no list of labels that is known"),
        ("a.txt", "x" * (5 << 20), "too large"),
    ],
)
def test_bad_label_files(tmp_path: Path, name: str, content: str, cause: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(InputError, match=cause) as caught:
        read_labels(file)
    assert name in str(caught.value)


def test_unreadable_label_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "missing.csv")
    (tmp_path / "b.csv").write_bytes(b"1,\xff\xfe\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "b.csv")


def write_image(path: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), path)
    return path


def test_what_is_no_atlas_is_refused(tmp_path: Path) -> None:
    half = write_image(
        tmp_path / "half.nii.gz", np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    )
    with pytest.raises(InputError, match="whole numbers"):
        read_atlas(half)
    negative = np.zeros((4, 4, 4), dtype=np.int16)
    negative[0, 0, 0] = -1
    with pytest.raises(InputError, match="whole numbers"):
        read_atlas(write_image(tmp_path / "negative.nii.gz", negative))
    many = np.arange(30**3, dtype=np.int32).reshape(30, 30, 30)
    with pytest.raises(InputError, match="27000 labels"):
        read_atlas(write_image(tmp_path / "many.nii.gz", many))
    few = np.zeros((4, 4, 4), dtype=np.int16)
    few[1, 2, 3] = 7
    atlas = write_image(tmp_path / "few.nii.gz", few)
    labels = tmp_path / "other.json"
    labels.write_text(json.dumps({"8": "eight"}))
    with pytest.raises(InputError, match=r"names none of the 1 regions of few\.nii\.gz"):
        read_atlas(atlas, labels)
    assert read_atlas(atlas).name(7) == "region 7"
    assert read_atlas(atlas).voxels[7] == 1


def test_large_label_values_cost_no_memory(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 4), dtype=np.int32)
    values[0] = 614454277  # as in Allen's ontology
    atlas = read_atlas(write_image(tmp_path / "allen.nii.gz", values))
    assert atlas.voxels == {0: 48, 614454272: 16} or atlas.voxels == {0: 48, 614454277: 16}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("image", "labels", "point", "region"),
    [
        ("ArterialAtlas136.nii.gz", "ArterialAtlas136.txt", (-40, 0, 4), "insular .* left"),
        ("ArterialAtlas136.nii.gz", "ArterialAtlas136.txt", (40, 0, 4), "insular .* right"),
        (
            "JHU_ICBM-DTI-81_MNI152NLin6_1mm.nii.gz",
            "JHU_ICBM-DTI-81.csv",
            (0, -32, 14),
            "Corpus Callosum Splenium",
        ),
        ("AllenAtlas_0p5mm.nii.gz", "AllenAtlas.json", (-40, 0, 4), r"\w+"),
    ],
)
def test_real_atlases(
    shared_data: Path, image: str, labels: str, point: tuple[int, int, int], region: str
) -> None:
    folder = shared_data / "atlases"
    atlas = read_atlas(folder / image, folder / labels)
    affine = np.eye(4)
    affine[:3, 3] = point
    mask = Volume(np.ones((1, 1, 1), dtype=np.uint8), affine)
    (row,) = region_table(atlas, mask, np.eye(4)).rows
    import re

    assert re.fullmatch(region, row.name), row.name
    if point[0]:
        assert (row.left_ml > 0) == (point[0] < 0)


def test_frequency_is_what_looking_up_gives() -> None:
    mask = random_mask()
    found = lesion_frequency([(mask, TO_MNI), (mask, None), (mask, TO_MNI)])
    assert (found.scans, found.left_out) == (2, 1)
    back = np.linalg.inv(TO_MNI @ AFFINE) @ MNI_GRID.affine
    rng = np.random.default_rng(0)
    ones = np.argwhere(found.counts)
    assert len(ones) > 1000
    everywhere = np.column_stack([rng.integers(0, n, 4000) for n in MNI_GRID.shape])
    near = ones[rng.integers(0, len(ones), 4000)] + rng.integers(-2, 3, (4000, 3))
    for k, j, i in np.vstack([everywhere, near]):
        si, sj, sk = (int(v) for v in np.rint((back @ (i, j, k, 1.0))[:3]))
        inside = 0 <= sk < 22 and 0 <= sj < 30 and 0 <= si < 40
        expected = 2 * int(mask.array[sk, sj, si]) if inside else 0
        assert found.counts[k, j, i] == expected
    assert found.background.shape == found.counts.shape
    assert found.background.max() > 100


def test_frequency_of_nothing_and_far_away() -> None:
    empty = random_mask().with_array(np.zeros((22, 30, 40), dtype=np.uint8))
    away = np.eye(4)
    away[0, 3] = 5000.0
    found = lesion_frequency([(empty, TO_MNI), (random_mask(), away)])
    assert found.counts.max() == 0
    assert found.scans == 2
    with pytest.raises(Cancelled):
        lesion_frequency([(empty, TO_MNI)], cancel=lambda: True)
