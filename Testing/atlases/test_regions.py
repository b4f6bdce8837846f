"""Volumes by region against counting voxel by voxel; label files; which atlases can be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from oblique_grid import AFFINE, TO_MNI
from StrokeLesionSegLib.atlases import (
    CORTICOSPINAL,
    Atlas,
    AtlasChoice,
    read_atlas,
    region_table,
    shipped_atlas,
)
from StrokeLesionSegLib.atlases.labels import read_labels, without_side
from StrokeLesionSegLib.atlases.template_shift import NLIN6_TO_OURS, template_of
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Alignment,
    Grid,
    Volume,
    mni_brain_mask,
)
from StrokeLesionSegLib.lesions import RegionTable, RegionVolume, read_table, write_regions
from StrokeLesionSegLib.lesions.regions import UNION


def small_atlas() -> Atlas:
    rng = np.random.default_rng(3)
    # Blocks of labels on a 3 mm LAS grid.
    values = np.kron(rng.integers(0, 5, (8, 9, 7)), np.ones((5, 6, 6), dtype=int)).astype(np.int32)
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (63.0, -80.0, -60.0)
    return Atlas("blocks", values, affine, {1: "one", 2: "two", 4: "four"})


def random_mask() -> Volume:
    rng = np.random.default_rng(5)
    array = (rng.random((22, 30, 40)) > 0.8).astype(np.uint8)
    return Volume(array, AFFINE)


def by_region(table: RegionTable) -> dict[tuple[str, str], RegionVolume]:
    return {(row.region, row.side): row for row in table.rows}


def test_regions_are_what_counting_gives() -> None:
    atlas, mask = small_atlas(), random_mask()
    expected: dict[tuple[str, str], float] = {}
    voxel_ml = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    inverse = np.linalg.inv(atlas.affine)
    outside = 0.0
    for k, j, i in np.argwhere(mask.array):
        point = TO_MNI @ (AFFINE @ (i, j, k, 1.0))
        ai, aj, ak = (int(v) for v in np.rint((inverse @ point)[:3]))
        value = 0
        if 0 <= ak < 40 and 0 <= aj < 54 and 0 <= ai < 42:
            value = int(atlas.values[ak, aj, ai])
        if not value:
            outside += voxel_ml
            continue
        key = (atlas.name(value), "left" if point[0] < 0 else "right")
        expected[key] = expected.get(key, 0.0) + voxel_ml
    table = region_table(mask, TO_MNI, atlas)
    assert table.title == "blocks"
    assert table.outside_ml == pytest.approx(outside)
    found = by_region(table)
    assert {key: row.volume_ml for key, row in found.items()} == pytest.approx(expected)
    total = mask.array.sum() * voxel_ml
    assert table.total_ml == pytest.approx(total)
    for (name, side), row in found.items():
        assert row.share_of_lesion == pytest.approx(expected[name, side] / total)
        # The region's size on that side, counted voxel by voxel.
        value = next(v for v in range(1, 5) if atlas.name(v) == name)
        x = [(atlas.affine @ (i, 0, 0, 1))[0] for _, _, i in np.argwhere(atlas.values == value)]
        side_ml = 0.027 * sum(0.5 if v == 0 else (v < 0) == (side == "left") for v in x)
        growth = np.linalg.det(TO_MNI[:3, :3])
        assert row.share_of_region == pytest.approx(row.volume_ml * growth / side_ml)
    volumes = [row.volume_ml for row in table.rows]
    assert volumes == sorted(volumes, reverse=True)


@pytest.mark.parametrize("turned", [False, True])
def test_share_of_a_region_is_one_when_it_is_all_lesion(turned: bool) -> None:
    atlas = small_atlas()
    if turned:
        turn = np.eye(4)
        turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
        atlas = Atlas("turned", atlas.values, turn @ atlas.affine, atlas.names)
    # The lesion is region 2 itself, seen through a scan that is 20 % smaller than MNI space.
    shrink = np.diag([0.8, 0.8, 0.8, 1.0])
    mask = Volume((atlas.values == 2).astype(np.uint8), shrink @ atlas.affine)
    table = region_table(mask, np.linalg.inv(shrink), atlas)
    assert {(row.region, row.side) for row in table.rows} == {("two", "left"), ("two", "right")}
    assert [row.share_of_region for row in table.rows] == pytest.approx([1.0, 1.0])
    assert table.total_ml == pytest.approx(0.8**3 * sum(atlas.voxels[2]) * 0.027)


def test_no_lesion_no_regions(tmp_path: Path) -> None:
    empty = random_mask().with_array(np.zeros((22, 30, 40), dtype=np.uint8))
    table = region_table(empty, TO_MNI, small_atlas())
    assert (table.rows, table.outside_ml) == ((), 0.0)
    write_regions(tmp_path / "regions.tsv", table)
    assert read_table(tmp_path / "regions.tsv") == []


def test_voxels_in_the_midplane_count_half_for_each_side() -> None:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-3.0, -20.0, 0.0)  # three columns: x -3, 0 and 3
    mask = Volume(np.ones((1, 1, 3), dtype=np.uint8), affine)
    atlas = Atlas("all", np.ones((9, 9, 9), dtype=np.int32), affine, {})
    found = by_region(region_table(mask, np.eye(4), atlas))
    assert set(found) == {("region 1", "left"), ("region 1", "right")}
    assert [row.volume_ml for row in found.values()] == pytest.approx([0.0405, 0.0405])


def test_a_region_with_a_side_in_its_name_keeps_it_across_the_midline() -> None:
    affine = np.eye(4)
    affine[0, 3] = -8.0
    values = np.full((2, 2, 12), 1, np.int32)  # x from -8 to 3
    values[:, :, 9:] = 2  # from 1 on
    atlas = Atlas("two", values, affine, {1: "L_Peduncle", 2: "Peduncle right"})
    found = by_region(region_table(Volume(np.ones((2, 2, 12), np.uint8), affine), np.eye(4), atlas))
    assert {key: row.volume_ml for key, row in found.items()} == pytest.approx(
        {("Peduncle", "left"): 0.036, ("Peduncle", "right"): 0.012}
    )
    assert [row.share_of_region for row in found.values()] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "bare", "side"),
    [
        ("L_Cerebral_Peduncle", "Cerebral_Peduncle", "left"),
        ("insula R", "insula", "right"),
        ("anterior cerebral artery left", "anterior cerebral artery", "left"),
        ("ctx-rh-insula", "ctx insula", "right"),
        ("Insula (L)", "Insula", "left"),
        ("Right-Thalamus", "Thalamus", "right"),
        ("lingual", "lingual", ""),
        ("left and right", "left and right", ""),
        ("L", "L", ""),
    ],
)
def test_sides_in_names(name: str, bare: str, side: str) -> None:
    assert without_side(name) == (bare, side)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", '{"labels": ["Air", "OB", "AON"]}', {1: "OB", 2: "AON"}),
        ("a.json", '{"1": "left insula", "17": "x_y", "R": [1]}', {1: "left insula", 17: "x y"}),
        ("a.json", '["Background", "one"]', {1: "one"}),
        ("a.csv", '1,Middle_Peduncle\n2,"Fornix, x"\n', {1: "Middle Peduncle", 2: "Fornix, x"}),
        ("a.csv", "index,name\n3,three\n", {3: "three"}),
        ("a.csv", "Wert;Name\n1;Fornix, x\n2;two\n", {1: "Fornix, x", 2: "two"}),
        ("a.csv", "1,Fornix; x\n2,two\n", {1: "Fornix; x", 2: "two"}),
        ("a.tsv", "index\tname\tcolor\n3\tthree\t#fff\n", {3: "three"}),
        ("a.txt", "1|ACAL|anterior artery left|1\n2|B|\n", {1: "anterior artery left", 2: "B"}),
        ("a.txt", "# No. Label R G B A\n0 Air 0 0 0 0\n10 L-Pons 0 1 14 0\n", {10: "L-Pons"}),
        ("a.txt", '5  255 0 0  1 1 1  "left lobe"\n', {5: "left lobe"}),
        ("a.lut", "5 0.2 0.0 1.0 Area 4\n", {5: "Area 4"}),
        ("a.txt", "17 Brodmann area 17\n18 area 18\n", {17: "Brodmann area 17", 18: "area 18"}),
        ("a.txt", "7 Lobule 6 0 1 14 0\n8 3 parts\n9 1 2 3\n", {7: "Lobule 6", 8: "3 parts"}),
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
        ("a.json", "3", "no names of regions"),
        ("a.csv", "name\n", "names no region"),
        ("a.xml", "<a/>", "not a known kind of label list"),
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
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\)"):
        read_labels(tmp_path / "missing.csv")
    (tmp_path / "b.csv").write_bytes(b"1,\xff\xfe\n")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        read_labels(tmp_path / "b.csv")


def in_brain(values: np.ndarray) -> np.ndarray:
    """``values`` on the MNI grid, 0 outside the brain."""
    return np.where(mni_brain_mask().array > 0, values, 0)


def write_image(path: Path, values: np.ndarray, affine: np.ndarray = MNI_GRID.affine) -> Path:
    """A NIfTI file of ``values`` (K, J, I)."""
    nibabel.save(nibabel.Nifti1Image(values.T, affine), path)
    return path


def halves() -> np.ndarray:
    """1 on the left of the MNI brain, 2 on the right."""
    values = np.ones(MNI_GRID.shape, np.int16)
    values[:, :, 98:] = 2
    return in_brain(values).astype(np.int16)


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
    with pytest.raises(InputError, match="26999 labels"):
        read_atlas(write_image(tmp_path / "many.nii.gz", many))
    empty = write_image(tmp_path / "empty.nii.gz", np.zeros((4, 4, 4), np.int16))
    with pytest.raises(InputError, match="it is empty"):
        read_atlas(empty)


def test_labels_are_needed_and_found_beside_the_image(tmp_path: Path) -> None:
    image = write_image(tmp_path / "halves.nii.gz", halves())
    with pytest.raises(InputError, match=r"halves\.nii\.gz: has no list of labels"):
        read_atlas(image)
    (tmp_path / "halves.json").write_text(json.dumps({"8": "eight"}))
    with pytest.raises(InputError, match=r"names none of 2 regions of halves\.nii\.gz"):
        read_atlas(image)
    (tmp_path / "halves.json").write_text(json.dumps({"1": "one"}))
    atlas = read_atlas(image)
    assert [atlas.name(1), atlas.name(2)] == ["one", "region 2"]
    assert "halves.json names all regions but one" in atlas.notes[0]


def test_another_atlas_is_another_identity(tmp_path: Path) -> None:
    image = write_image(tmp_path / "halves.nii.gz", halves())
    (tmp_path / "halves.csv").write_text("1,one\n")
    before = AtlasChoice(image).identity
    (tmp_path / "halves.csv").write_text("1,two\n")
    assert len({*before, *AtlasChoice(image).identity}) == 3


def test_an_atlas_in_no_mni_space_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("1,one\n2,two\n")
    away = MNI_GRID.affine.copy()
    away[:3, 3] += (0, 60, -40)
    image = write_image(tmp_path / "away.nii.gz", halves(), away)
    with pytest.raises(InputError, match=r"is not in MNI space: \d\d % of its regions"):
        read_atlas(image, tmp_path / "labels.csv")


def test_left_for_right_is_refused_and_a_few_wrong_names_are_told(tmp_path: Path) -> None:
    image = write_image(tmp_path / "halves.nii.gz", halves())
    labels = tmp_path / "labels.csv"
    labels.write_text("1,hemisphere R\n2,hemisphere L\n")
    with pytest.raises(InputError, match="left and right swapped: 2 of 2"):
        read_atlas(image, labels)
    values = halves()
    values[90:] *= 3  # 3 and 6 above
    image = write_image(tmp_path / "quarters.nii.gz", values)
    labels.write_text("1,low L\n2,low R\n3,high L\n6,high L\n")
    atlas = read_atlas(image, labels)
    assert atlas.regions[6] == ("high", "right")
    assert "1 region lies on the other side than its name says (high L)" in atlas.notes[0]


def test_regions_that_the_list_does_not_name_are_told(tmp_path: Path) -> None:
    values = halves()
    values[90:] *= 3  # 3 and 6 above
    image = write_image(tmp_path / "quarters.nii.gz", values)
    labels = tmp_path / "labels.csv"
    for names, told in (
        ("1,a\n2,b\n3,c\n6,d\n9,e\n", ()),
        ("1,a\n2,b\n3,c\n", ("names all regions but one, which goes by its value (6)",)),
        ("1,a\n", ("does not name 3 regions, which go by values (2, 3, 6)",)),
    ):
        labels.write_text(names)
        assert read_atlas(image, labels).notes == tuple(f"labels.csv {text}." for text in told)


def test_lateral_ventricles_are_left_out(tmp_path: Path) -> None:
    image = write_image(tmp_path / "halves.nii.gz", halves())
    labels = tmp_path / "labels.csv"
    labels.write_text("1,Left-Lateral-Ventricle\n2,rest\n")
    atlas = read_atlas(image, labels)
    assert set(atlas.regions) == {2}


def test_the_template_is_known_by_name_and_grid() -> None:
    fsl = np.diag([-1.0, 1.0, 1.0, 1.0])
    fsl[:3, 3] = (90, -126, -72)
    spm = np.diag([2.0, 2.0, 2.0, 1.0])
    spm[:3, 3] = (-90, -126, -72)
    odd = np.diag([3.0, 3.0, 3.0, 1.0])
    assert template_of("a.nii.gz", Grid((182, 218, 182), fsl)) == "MNI152NLin6Asym"
    assert template_of("a.nii.gz", Grid((91, 109, 91), spm)) == "MNI152NLin6Asym"
    assert template_of("a.nii.gz", Grid((60, 60, 60), odd)) == ""
    name = "tpl-MNI152NLin2009cAsym_dseg.nii.gz"
    assert template_of(name, Grid((60, 60, 60), odd)) == "MNI152NLin2009cAsym"


def test_the_shift_of_fsls_template_is_corrected_and_others_are_told(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("1,one\n2,two\n")
    fsl = np.diag([-1.0, 1.0, 1.0, 1.0])
    fsl[:3, 3] = (90, -126, -72)
    values = np.zeros((182, 218, 182), np.int16)
    values[92, 126 + 30, 90 - 40] = 1  # (40, 30, 20) mm
    values[92, 126 + 30, 90 + 40] = 2
    image = write_image(tmp_path / "fsl.nii.gz", values, fsl)
    atlas = read_atlas(image, tmp_path / "labels.csv")
    assert "the shift to MNI152NLin2009aSym (1.5 mm on average) is corrected" in atlas.notes[0]
    spot = NLIN6_TO_OURS @ (40, 30, 20, 1)
    affine = np.eye(4)
    affine[:3, 3] = np.rint(spot[:3])
    (row,) = region_table(Volume(np.ones((1, 1, 1), np.uint8), affine), np.eye(4), atlas).rows
    assert row.region == "one"
    assert np.abs(spot[:3] - (40, 30, 20)).max() > 0.8
    odd = write_image(tmp_path / "odd.nii.gz", halves()[1:])
    assert "cannot be told" in read_atlas(odd, tmp_path / "labels.csv").notes[0]
    other = write_image(tmp_path / "space-MNI152NLin2009cAsym_x.nii.gz", halves()[1:])
    told = read_atlas(other, tmp_path / "labels.csv")
    assert "not corrected" in told.notes[0]
    assert np.array_equal(told.affine, MNI_GRID.affine)


def test_large_label_values_cost_no_memory(tmp_path: Path) -> None:
    values = np.where(halves() == 1, 614454272, 0).astype(np.int32)  # as in Allen's ontology
    (tmp_path / "allen.csv").write_text("614454272,a part\n")
    atlas = read_atlas(write_image(tmp_path / "allen.nii.gz", values))
    assert atlas.voxels == {614454272: (float((values > 0).sum()), 0.0)}


def test_the_corticospinal_pathway_is_a_union() -> None:
    parts = (
        "Corticospinal_Tract",
        "Cerebral_Peduncle",
        "Internal_Capsule_Posterior_Limb",
        "Superior_Corona_Radiata",
        "Fornix",
    )
    values = np.zeros((5, 4, 12), np.int32)  # one plane a part, x from -6 to 5
    affine = np.eye(4)
    affine[0, 3] = -6
    names = {}
    for n, part in enumerate(parts):
        values[n, :, :6], values[n, :, 6:] = 2 * n + 1, 2 * n + 2
        names |= {2 * n + 1: f"L {part}", 2 * n + 2: f"R {part}"}
    values[:, :, 6] = 0  # the midline
    atlas = Atlas("tracts", values, affine, names)
    mask = np.zeros((5, 4, 12), np.uint8)
    mask[:2, :, :3] = 1  # half of two parts on the left
    mask[4] = 1  # and all of another tract
    table = region_table(Volume(mask, affine), np.eye(4), atlas)
    (union,) = [row for row in table.rows if row.kind == UNION]
    assert (union.region, union.side) == (CORTICOSPINAL, "left")
    assert union.volume_ml == pytest.approx(0.024)
    assert union.share_of_region == pytest.approx(24 / 96)
    assert table.total_ml == pytest.approx(mask.sum() / 1000)
    # Without one of the four there is no pathway.
    del names[1], names[2]
    few = Atlas("tracts", values, affine, names)
    assert all(r.kind != UNION for r in region_table(Volume(mask, affine), np.eye(4), few).rows)


@pytest.mark.parametrize(
    ("point", "region"),
    [
        ((-27, 4, 2), "Putamen"),
        ((12, -18, 8), "Thalamus"),
        ((-54, 20, 10), "Inferior frontal gyrus"),
        ((10, 14, 10), "Head of caudate"),
        ((-8, -78, 8), "Cuneus|Lingual|White"),
        ((-40, -22, 52), "Precentral|Postcentral|White"),
        ((0, -30, -30), "Pontine|Basal part of pons"),
        ((38, -62, -32), "hemisphere of cerebellum"),
    ],
)
def test_the_shipped_atlas_at_known_places(point: tuple[int, int, int], region: str) -> None:
    import re

    affine = np.eye(4)
    affine[:3, 3] = point
    rows = region_table(Volume(np.ones((1, 1, 1), np.uint8), affine), np.eye(4)).rows
    assert all(re.search(region, row.region) for row in rows), rows
    assert {row.side for row in rows} == (
        {"left", "right"} if point[0] == 0 else {"left" if point[0] < 0 else "right"}
    )


def test_the_shipped_atlas_is_whole() -> None:
    atlas = shipped_atlas()
    counted = Atlas(atlas.title, atlas.values, atlas.affine, atlas.names)
    assert counted.voxels == atlas.voxels
    assert set(atlas.names) == set(atlas.voxels)
    assert len(set(atlas.names.values())) == len(atlas.names) == 129
    assert not [name for name in atlas.names.values() if "entricle" in name]
    assert Volume(atlas.values, atlas.affine).grid.same_as(MNI_GRID)
    # The ventricles' middle is in no region.
    affine = np.eye(4)
    affine[:3, 3] = (-16, -28, 20)
    table = region_table(Volume(np.ones((1, 1, 1), np.uint8), affine), np.eye(4))
    assert (table.rows, table.outside_ml) == ((), 0.001)


@pytest.mark.shared
def test_the_shipped_atlas_is_made_of_allens(shared_data: Path, repository: Path) -> None:
    import sys

    sys.path.insert(0, str(repository / "training" / "tools"))
    try:
        from make_atlas import reduce_atlas
    finally:
        sys.path.pop(0)
    made = reduce_atlas(shared_data / "atlases")
    file = "StrokeLesionSeg/Resources/Atlases/allen_human_reference_1mm.npz"
    with np.load(repository / file) as shipped:
        assert all(np.array_equal(shipped[name], array) for name, array in made.items())


@pytest.mark.shared
def test_the_shift_of_fsls_template_is_what_we_measure(
    shared_data: Path, aligned: Callable[[Path], Alignment]
) -> None:
    (file,) = (shared_data / "t1" / "templates").glob("MNI152_T1_1mm*")
    found = aligned(file)
    assert found.ok
    assert np.abs(found.matrix - NLIN6_TO_OURS).max() < 0.02
    k, j, i = np.nonzero(mni_brain_mask().array[::8, ::8, ::8])
    points = np.stack([8 * i - 98, 8 * j - 134, 8 * k - 72, np.ones(len(k))])
    shift = np.linalg.norm(((np.linalg.inv(NLIN6_TO_OURS) - np.eye(4)) @ points)[:3], axis=0)
    assert shift.mean() == pytest.approx(1.5, abs=0.1)
    assert shift.max() < 3


@pytest.mark.shared
@pytest.mark.parametrize(
    ("image", "labels", "point", "region"),
    [
        ("ArterialAtlas136.nii.gz", None, (-40, 0, 4), "insular .*"),
        ("ArterialAtlas136.nii.gz", None, (40, 0, 4), "insular .*"),
        (
            "JHU_ICBM-DTI-81_MNI152NLin6_1mm.nii.gz",
            "JHU_ICBM-DTI-81.csv",
            (1, -32, 14),
            "Corpus Callosum Splenium",
        ),
        ("JHU_ICBM-DTI-81_MNI152NLin6_1mm.nii.gz", "JHU_ICBM-DTI-81.csv", (-23, -12, 14), ".*Limb"),
    ],
)
def test_real_atlases(
    shared_data: Path, image: str, labels: str | None, point: tuple[int, int, int], region: str
) -> None:
    import re

    folder = shared_data / "atlases"
    atlas = read_atlas(folder / image, folder / labels if labels else None)
    affine = np.eye(4)
    affine[:3, 3] = point
    rows = region_table(Volume(np.ones((1, 1, 1), dtype=np.uint8), affine), np.eye(4), atlas).rows
    assert re.fullmatch(region, rows[0].region), rows
    assert rows[0].side == ("left" if point[0] < 0 else "right")
    if "JHU" in image and "Limb" in region:
        assert {row.region for row in rows} == {"Internal Capsule Posterior Limb", CORTICOSPINAL}
