"""The canonical grid and back; nibabel and scipy are the witnesses."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from StrokeLesionSegLib.images import Grid, Volume, from_canonical, read_scan, to_canonical
from StrokeLesionSegLib.images.space.grid_map import nearest_ras

ORIENTATIONS = [
    np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)])
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
GEOMETRIES = ["exact", "anisotropic", "oblique", "thick oblique", "sheared", "fine"]


def _rotation(x: float, y: float, z: float) -> np.ndarray:
    cx, sx, cy, sy, cz, sz = (f(a) for a in (x, y, z) for f in (np.cos, np.sin))
    return (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )


def _grid(kind: str) -> Grid:
    """A grid of about 40 x 48 x 44 mm around (4, -6, 9)."""
    turn, zooms = np.eye(3), np.ones(3)
    if kind == "anisotropic":
        zooms = np.array([0.86, 1.0, 1.4])
    elif kind == "oblique":
        turn = _rotation(0.25, -0.15, 0.3)
    elif kind == "thick oblique":
        turn, zooms = _rotation(0.2, 0.1, -0.1), np.array([0.9, 0.9, 3.0])
    elif kind == "sheared":
        turn, zooms = _rotation(0.1, 0.0, 0.05), np.array([1.0, 0.9, 1.2])
    elif kind == "fine":
        zooms = np.array([0.5, 0.5, 0.5])
    else:
        assert kind == "exact"
    affine = np.eye(4)
    affine[:3, :3] = turn * zooms
    if kind == "sheared":
        affine[:3, 1] += 0.25 * affine[:3, 0]
    counts = np.round(np.array([40, 48, 44]) / zooms).astype(int)
    affine[:3, 3] = np.array([4, -6, 9]) - affine[:3, :3] @ ((counts - 1) / 2)
    return Grid((int(counts[2]), int(counts[1]), int(counts[0])), affine)


def _world(grid: Grid) -> np.ndarray:
    """(K, J, I, 3) RAS mm of every voxel."""
    k, j, i = np.indices(grid.shape)
    return np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def _blob(grid: Grid, centre: tuple[float, float, float], sigma: float) -> np.ndarray:
    distance = ((_world(grid) - centre) ** 2).sum(axis=-1)
    return np.exp(-distance / (2 * sigma**2)).astype(np.float32)


def _noisy(kind: str) -> Volume:
    grid = _grid(kind)
    noise = np.random.default_rng(3).normal(size=grid.shape)
    return Volume((_blob(grid, (10, -12, 14), 6) * 100 + noise).astype(np.float32), grid.affine)


def _reoriented(volume: Volume, ornt: np.ndarray) -> Volume:
    """The same scan stored otherwise; done by nibabel, not by the code under test."""
    image = nib.Nifti1Image(volume.array.T, volume.affine).as_reoriented(ornt)
    return Volume(np.ascontiguousarray(np.asarray(image.dataobj).T), image.affine)


def _axis_codes(grid: Grid) -> str:
    return "".join(nib.aff2axcodes(grid.affine))


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_all_48_orientations_give_the_same_bits(kind: str) -> None:
    volume = _noisy(kind)
    reference = to_canonical(volume)
    back = from_canonical(reference.volume.array, reference)
    assert _axis_codes(reference.volume.grid) == "RAS"
    np.testing.assert_allclose(reference.volume.spacing, 1, atol=1e-9)
    for ornt in ORIENTATIONS:
        stored = _reoriented(volume, ornt)
        canonical = to_canonical(stored)
        np.testing.assert_array_equal(canonical.volume.array, reference.volume.array)
        np.testing.assert_allclose(
            canonical.volume.affine, reference.volume.affine, rtol=0, atol=1e-9
        )
        assert canonical.volume.array.flags.c_contiguous
        again = from_canonical(canonical.volume.array, canonical)
        assert again.grid.same_as(stored.grid, 1e-12)
        expected = _reoriented(back, ornt)
        np.testing.assert_array_equal(again.array, expected.array)


@pytest.mark.parametrize("ornt", ORIENTATIONS, ids=lambda o: "".join(map(str, o.ravel())))
def test_exact_both_ways_where_axes_are_only_permuted(ornt: np.ndarray) -> None:
    stored = _reoriented(_noisy("exact"), ornt)
    canonical = to_canonical(stored)
    assert canonical.exact
    witness = nib.as_closest_canonical(nib.Nifti1Image(stored.array.T, stored.affine))
    np.testing.assert_array_equal(canonical.volume.array, np.asarray(witness.dataobj).T)
    np.testing.assert_allclose(canonical.volume.affine, witness.affine, atol=1e-12)
    back = from_canonical(canonical.volume.array, canonical)
    np.testing.assert_array_equal(back.array, stored.array)
    assert not np.shares_memory(back.array, canonical.volume.array)
    assert not np.shares_memory(canonical.volume.array, stored.array)


@pytest.mark.parametrize("kind", GEOMETRIES)
@pytest.mark.parametrize("ornt", ORIENTATIONS[::5], ids=lambda o: "".join(map(str, o.ravel())))
def test_a_marker_stays_at_its_place_in_the_world(kind: str, ornt: np.ndarray) -> None:
    """Right anterior superior of the centre, in world mm, on both grids; left stays left."""
    marker = (14.0, 2.0, 17.0)
    grid = _grid(kind)
    volume = _reoriented(Volume(_blob(grid, marker, 3), grid.affine), ornt)
    canonical = to_canonical(volume)
    for v in (canonical.volume, from_canonical(canonical.volume.array, canonical)):
        weights = v.array.astype(float)
        ijk = np.array(ndimage.center_of_mass(weights))[::-1]
        place = nib.affines.apply_affine(v.affine, ijk)
        np.testing.assert_allclose(place, marker, atol=0.12)


@pytest.mark.parametrize("kind", ["anisotropic", "oblique", "thick oblique", "sheared"])
def test_interpolation_is_scipys(kind: str) -> None:
    """Inside the volume, away from its edge, where nothing is finer than .79 mm."""
    volume = _noisy(kind)
    if kind == "anisotropic":  # .86 mm is widened to 1 mm in the separable way; see the next test
        affine = volume.affine.copy()
        affine[:3, 0] = (1.2, 0, 0)
        volume = Volume(volume.array, affine)
    canonical = to_canonical(volume)
    to_index = np.linalg.inv(volume.affine) @ canonical.volume.affine
    flip = np.eye(4)[[2, 1, 0, 3]]  # scipy's indices run (k, j, i)
    mapping = flip @ to_index @ flip
    expected = ndimage.affine_transform(
        volume.array.astype(float), mapping, output_shape=canonical.volume.array.shape, order=1
    )
    inside = ndimage.affine_transform(
        np.pad(np.ones(np.subtract(volume.array.shape, 4)), 2),
        mapping,
        output_shape=expected.shape,
        order=1,
    )
    certain = inside > 0.999
    assert certain.sum() > 20000
    np.testing.assert_allclose(canonical.volume.array[certain], expected[certain], atol=2e-3)


def test_canonical_box_holds_the_whole_volume() -> None:
    for kind in GEOMETRIES:
        volume = _noisy(kind)
        canonical = to_canonical(volume).volume
        k, j, i = volume.array.shape
        edge = list(itertools.product((-0.5, i - 0.5), (-0.5, j - 0.5), (-0.5, k - 0.5)))
        corners = nib.affines.apply_affine(
            np.linalg.inv(canonical.affine) @ volume.affine, np.array(edge)
        )
        limits = np.array(canonical.array.shape[::-1])
        assert (corners > -0.5 - 0.06).all()
        assert (corners < limits - 0.5 + 0.06).all()
        # and no more than a voxel too large
        assert (limits - 0.5 - corners.max(axis=0) < 1).all()


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("spacing", [0.2, 0.4, 0.5])
def test_fine_voxels_are_averaged_not_skipped(turn: bool, spacing: float) -> None:
    """Noise of independent fine voxels has to shrink as an average does, and means must stay."""
    affine = np.eye(4)
    affine[:3, :3] = (_rotation(0.2, 0.1, 0.3) if turn else np.eye(3)) * spacing
    noise = np.random.default_rng(0).normal(50, 10, (60, 60, 60)).astype(np.float32)
    canonical = to_canonical(Volume(noise, affine)).volume.array
    middle = tuple(slice(n // 2 - 2, n // 2 + 3) for n in canonical.shape)
    assert abs(canonical[middle].mean() - 50) < 1.0
    assert canonical[middle].std() < 10 * (0.45 if spacing == 0.5 else 0.25)
    assert np.abs(canonical[middle] - 50).max() > 0


@pytest.mark.parametrize(
    ("kind", "worst", "dice"),
    [
        ("anisotropic", 0.06, 0.97),
        ("oblique", 0.06, 0.97),
        ("thick oblique", 0.12, 0.94),
        ("sheared", 0.07, 0.97),
        ("fine", 0.06, 0.97),
    ],
)
def test_a_smooth_probability_survives_the_round_trip(kind: str, worst: float, dice: float) -> None:
    grid = _grid(kind)
    probability = np.clip(1.4 * _blob(grid, (6, -8, 11), 5), 0, 1).astype(np.float32)
    canonical = to_canonical(Volume(probability, grid.affine))
    back = from_canonical(canonical.volume.array, canonical)
    assert back.array.dtype == np.float32
    assert back.array.flags.c_contiguous
    assert np.abs(back.array - probability).max() < worst
    a, b = back.array > 0.5, probability > 0.5
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > dice


@pytest.mark.parametrize("turn", [0.0, 0.15])
def test_a_thin_lesion_is_not_lost_in_thick_slices(turn: float) -> None:
    """A sheet of 1 mm shows in every 5 mm slice position, diluted, with its volume kept."""
    affine = np.eye(4)
    affine[:3, :3] = _rotation(turn, 0, 0) * (1, 1, 5)
    native = Volume(np.random.default_rng(0).random((10, 50, 50)).astype(np.float32), affine)
    canonical = to_canonical(native)
    shape = canonical.volume.array.shape
    for k in range(shape[0] // 2 - 4, shape[0] // 2 + 4):
        sheet = np.zeros(shape, np.float32)
        sheet[k, 20:30, 20:30] = 1
        back = from_canonical(sheet, canonical)
        assert back.array.sum() * 5 == pytest.approx(100, rel=0.15)
        assert back.array.max() > 0.12


def test_outside_the_canonical_grid_is_zero() -> None:
    native = Grid((20, 20, 20), np.diag([30.0, 30, 30, 1]) + np.eye(4) * 0)
    native.affine[:3, 3] = -285
    field = Volume(np.random.default_rng(1).random(native.shape).astype(np.float32), native.affine)
    canonical = to_canonical(field, SimpleNamespace(matrix=np.eye(4)))  # type: ignore[arg-type]
    ones = np.ones(canonical.volume.array.shape, np.float32)
    back = from_canonical(ones, canonical).array
    world = _world(native)
    low, high = np.array([-98, -134, -72]), np.array([98, 98, 116])
    outside = ((world < low - 31) | (world > high + 31)).any(axis=-1)
    inside = ((world > low + 16) & (world < high - 16)).all(axis=-1)
    assert outside.sum() > 1000
    assert inside.sum() > 50
    assert (back[outside] == 0).all()
    np.testing.assert_allclose(back[inside], 1, atol=1e-6)


def test_negative_background_is_kept_outside() -> None:
    volume = _noisy("oblique")
    scored = Volume(volume.array - 50, volume.affine)
    corner = to_canonical(scored).volume.array[0, 0, 0]
    assert corner == scored.array.min()
    assert to_canonical(Volume(volume.array + 50, volume.affine)).volume.array[0, 0, 0] == 0


def test_with_alignment_onto_the_mni_grid() -> None:
    """One interpolation straight from the native grid; a marker lands where the matrix says."""
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation(0.1, -0.05, 0.08) * (1.05, 0.95, 1.1)
    matrix[:3, 3] = (3, -20, 12)
    marker = (14.0, 2.0, 17.0)
    for kind in GEOMETRIES:
        grid = _grid(kind)
        for ornt in (ORIENTATIONS[0], ORIENTATIONS[29]):
            volume = _reoriented(Volume(_blob(grid, marker, 3), grid.affine), ornt)
            canonical = to_canonical(volume, SimpleNamespace(matrix=matrix))  # type: ignore[arg-type]
            assert canonical.volume.array.shape == (189, 233, 197)
            assert canonical.volume.affine[:3, 3].tolist() == [-98, -134, -72]
            assert not canonical.exact
            ijk = np.array(ndimage.center_of_mass(canonical.volume.array))[::-1]
            place = nib.affines.apply_affine(canonical.volume.affine, ijk)
            np.testing.assert_allclose(place, nib.affines.apply_affine(matrix, marker), atol=0.15)
            back = from_canonical(canonical.volume.array, canonical)
            assert back.grid.same_as(volume.grid, 1e-12)
            ijk = np.array(ndimage.center_of_mass(back.array))[::-1]
            np.testing.assert_allclose(
                nib.affines.apply_affine(back.affine, ijk), marker, atol=0.12
            )


def test_threads_do_not_show_in_the_result() -> None:
    import SimpleITK as sitk

    volume = _noisy("thick oblique")
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    results = []
    try:
        for threads in (1, 2, 7):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            canonical = to_canonical(volume)
            results.append(
                (canonical.volume.array, from_canonical(canonical.volume.array, canonical).array)
            )
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    for there, back in results[1:]:
        np.testing.assert_array_equal(there, results[0][0])
        np.testing.assert_array_equal(back, results[0][1])


@settings(max_examples=150, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    zooms=st.tuples(*[st.floats(0.4, 6)] * 3),
    counts=st.tuples(*[st.integers(2, 30)] * 3),
    which=st.integers(0, 47),
)
def test_reordering_depends_on_the_geometry_alone(angles, zooms, counts, which) -> None:
    affine = np.eye(4)
    affine[:3, :3] = _rotation(*angles) * zooms
    grid = Grid(counts, affine)
    stored = _reoriented(Volume(np.zeros(counts, np.float32), affine), ORIENTATIONS[which]).grid
    a, b = nearest_ras(grid).grid, nearest_ras(stored).grid
    assert a.shape == b.shape
    np.testing.assert_array_equal(a.affine[:3, :3], b.affine[:3, :3])
    np.testing.assert_allclose(a.affine, b.affine, atol=1e-9)
    assert (np.diag(a.affine)[:3] >= 0).all()


def test_forty_five_degrees_is_settled_the_same_for_every_storage_order() -> None:
    affine = np.eye(4)
    affine[:3, :3] = _rotation(0, 0, np.pi / 4)
    data = np.random.default_rng(0).random((9, 10, 11)).astype(np.float32)
    reference = to_canonical(Volume(data, affine)).volume.array
    for ornt in ORIENTATIONS:
        stored = _reoriented(Volume(data, affine), ornt)
        np.testing.assert_array_equal(to_canonical(stored).volume.array, reference)


def test_shape_of_another_grid_is_refused() -> None:
    canonical = to_canonical(_noisy("exact"))
    with pytest.raises(ValueError, match="shape"):
        from_canonical(np.zeros((3, 3, 3), np.float32), canonical)


@pytest.mark.shared
def test_shared_scans_keep_their_anatomy(shared_data: Path) -> None:
    """Real heads (PIR, LPS, LAS, thick slices): mean and extent agree on both grids."""
    for name in ("heads/uih1_T1w", "heads/openms_patient03_study2_T1W",
                 "brains/ds002748_sub-64_T1w_brain", "templates/MNI152_T1_1mm"):  # fmt: skip
        scan = read_scan(shared_data / "t1" / f"{name}.nii.gz")
        canonical = to_canonical(scan.volume)
        assert _axis_codes(canonical.volume.grid) == "RAS"
        native_sum = scan.volume.array.sum(dtype=float) * scan.volume.grid.voxel_volume_ml
        ours = canonical.volume.array.sum(dtype=float) * canonical.volume.grid.voxel_volume_ml
        assert ours == pytest.approx(native_sum, rel=0.02)
        places = [
            nib.affines.apply_affine(v.affine, np.array(ndimage.center_of_mass(v.array))[::-1])
            for v in (scan.volume, canonical.volume)
        ]
        np.testing.assert_allclose(places[0], places[1], atol=0.6)
        back = from_canonical(canonical.volume.array, canonical)
        correlation = np.corrcoef(back.array.ravel(), scan.volume.array.ravel())[0, 1]
        assert correlation > 0.97


def test_volumes_compare_and_print_without_their_voxels() -> None:
    volume = Volume(np.zeros((4, 5, 6), np.float32), np.diag([1, 1, 2.5, 1.0]))
    twin = Volume(volume.array.copy(), volume.affine.copy())
    assert volume == volume
    assert volume != twin
    assert len({volume, twin, volume}) == 2
    assert volume.grid.same_as(twin.grid)
    assert (
        repr(volume)
        == "Volume(float32, Grid(4 x 5 x 6 voxels (k, j, i), 1 x 1 x 2.5 mm (i, j, k)))"
    )
