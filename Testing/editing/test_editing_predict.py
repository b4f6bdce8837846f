"""Predictions on demand: on the way the slices on view, in the end what segment_volume says."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from editing_support import (
    GRIDS,
    PLAIN,
    finish,
    head,
    places,
    pointwise_model,
    random_model,
    turned,
)
from nibabel.processing import resample_from_to
from StrokeLesionSegLib.editing import EditingSession
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.images import MNI_GRID, Alignment, from_canonical, to_canonical
from StrokeLesionSegLib.images.space.partial import NativeParts
from StrokeLesionSegLib.inference import (
    SegmentOptions,
    before_network,
    make_predictor,
    segment_volume,
)

TRIPLANAR = replace(PLAIN, views="triplanar", tta=True)


def an_alignment() -> Alignment:
    """Turned, scaled, sheared and moved: what an affine registration may find."""
    matrix = np.eye(4)
    matrix[:3, :3] = turned(0, 7) @ turned(1, -5) @ np.diag([1.1, 0.95, 1.2])
    matrix[0, 1] += 0.05
    matrix[:3, 3] = 3, -20, 10
    return Alignment(matrix, True, "", 1.0, 1.0, 0.0)


# --- parts of the native grid


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("aligned", [False, True])
def test_boxes_are_those_of_the_whole_way_back(name: str, aligned: bool) -> None:
    volume = head(name)
    canonical = to_canonical(volume, an_alignment() if aligned else None)
    random = np.random.default_rng(3)
    array = random.random(canonical.volume.array.shape, dtype=np.float32)
    whole = from_canonical(array, canonical).array
    parts = NativeParts(canonical)
    k, j, i = whole.shape
    boxes = [
        (slice(0, k), slice(0, j), slice(0, i)),
        (slice(k // 2, k // 2 + 1), slice(0, j), slice(0, i)),
        (slice(0, k), slice(j // 3, j // 3 + 1), slice(0, i)),
        (slice(0, k), slice(0, j), slice(i - 1, i)),
        (slice(1, 4), slice(j - 7, j), slice(3, 11)),
    ]
    for box in boxes:
        np.testing.assert_allclose(parts(array, box), whole[box], atol=2e-5)


@pytest.mark.parametrize("name", ["fine", "oblique", "coronal, oblique", "sheared"])
def test_the_way_back_agrees_with_nibabel(name: str) -> None:
    volume = head(name)
    canonical = to_canonical(volume)
    smooth = np.cos(places(canonical.volume.affine, canonical.volume.grid.shape) / 6).sum(axis=-1)
    image = nibabel.Nifti1Image(smooth.T, canonical.volume.affine)
    shape = volume.grid.shape[::-1]
    witness = resample_from_to(image, (shape, volume.affine), order=1, cval=-9).get_fdata().T
    box = (slice(4, 30), slice(8, 11), slice(2, 41))
    mine = NativeParts(canonical)(smooth.astype(np.float32), box)
    inside = witness[box] > -9
    assert inside.mean() > 0.5
    np.testing.assert_allclose(mine[inside], witness[box][inside], atol=2e-3)


@pytest.mark.parametrize("name", GRIDS)
def test_a_canonical_change_shows_in_its_native_box_only(name: str) -> None:
    canonical = to_canonical(head(name))
    array = np.zeros(canonical.volume.array.shape, np.float32)
    box = (slice(18, 22), slice(20, 26), slice(20, 23))
    array[box] = 1
    whole = from_canonical(array, canonical).array
    assert whole.any()
    inner = NativeParts(canonical).native_box(box)
    assert np.count_nonzero(whole[inner]) == np.count_nonzero(whole)
    assert np.prod(whole[inner].shape) < 0.2 * whole.size


# --- the whole volume


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, PLAIN) for name in GRIDS] + [("thick", TRIPLANAR), ("coronal, oblique", TRIPLANAR)],
)
def test_ends_where_segment_volume_ends(name: str, options: SegmentOptions) -> None:
    volume = head(name)
    wanted = segment_volume(volume, random_model(), options).probability.array
    session = EditingSession.open(volume, random_model(), options=options)
    assert not session.complete
    assert session.fraction_done < 0.5
    # In whatever order it comes about.
    session.predict_visible(1, volume.array.shape[1] // 2)
    assert session.work(1, near=(0, volume.array.shape[0] - 3)) is not None
    session.predict_visible(2, volume.array.shape[2] // 2)
    session.predict_plane((0, 0, 0), (1, 0.3, 0), (0, 0.4, 1))
    finish(session)
    assert session.complete
    assert session.fraction_done == 1.0
    assert wanted.std() > 0.05
    np.testing.assert_allclose(session.probability, wanted, atol=1e-5)
    whole = tuple(slice(0, n) for n in volume.array.shape)
    assert session.known(whole).all()
    assert session.work(1) is None


def test_ends_there_aligned_and_masked_too() -> None:
    volume = head("oblique")
    model = random_model()
    preprocessing = replace(model.manifest.preprocessing, brain_mask_margin_mm=3.0)
    model = replace(model, manifest=replace(model.manifest, preprocessing=preprocessing))
    options = replace(PLAIN, align="auto")
    wanted = segment_volume(volume, model, options, alignment=an_alignment())
    session = EditingSession.open(volume, model, options=options, alignment=an_alignment())
    assert session.alignment is not None
    finish(session)
    assert wanted.details["brain_mask_margin_mm"] == 3
    assert wanted.probability.array.max() > 0.3
    np.testing.assert_allclose(session.probability, wanted.probability.array, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [("coronal, oblique", PLAIN), ("thick", TRIPLANAR)])
@pytest.mark.parametrize("aligned", [False, True])
def test_ends_there_with_neighbours_and_mirror_image(
    name: str, options: SegmentOptions, aligned: bool
) -> None:
    volume, model = head(name), random_model(7)
    found = an_alignment() if aligned else None
    options = replace(options, align="auto" if aligned else "none")
    wanted = segment_volume(volume, model, options, alignment=found).probability.array
    without = segment_volume(volume, random_model(4), options, alignment=found)
    assert np.abs(wanted - without.probability.array).max() > 0.05
    session = EditingSession.open(volume, model, options=options, alignment=found)
    session.predict_visible(1, volume.array.shape[1] // 2)
    finish(session)
    np.testing.assert_allclose(session.probability, wanted, atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 17])
@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_planes_beside_an_oblique_one(view: str, degrees: float) -> None:
    """A network sees neighbours and mirror image of any plane, not of canonical slices alone."""
    from scipy.ndimage import map_coordinates
    from StrokeLesionSegLib.editing.planes import oblique_plane

    rng = np.random.default_rng(1)
    array = rng.random((40, 50, 45)).astype(np.float32)
    axis = ("sagittal", "coronal", "axial").index(view)  # of ijk
    normal = turned((axis + 1) % 3, degrees) @ np.eye(3)[axis]
    box = (slice(2, 38), slice(3, 47), slice(4, 43))
    plane = oblique_plane(np.array([21.3, 24.0, 19.6]), normal, box, 16)
    assert plane is not None
    assert plane.view == view
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    at = plane.origin + rows[..., None] * plane.row + columns[..., None] * plane.column
    for mm in (3, -2):
        shifted = plane.shifted(mm)
        # The normal was made to point up, forward or right.
        assert normal[axis] > 0
        kji = np.moveaxis(at + mm * normal, -1, 0)[::-1]
        wanted = map_coordinates(array, kji, order=1)
        inside = np.all([(c > 1) & (c < n - 2) for c, n in zip(kji, array.shape, strict=True)], 0)
        assert inside.mean() > 0.3
        np.testing.assert_allclose(shifted.sample(array)[inside], wanted[inside], atol=1e-4)
    kji = np.moveaxis(at, -1, 0)[::-1]
    wanted = map_coordinates(array[:, :, ::-1], kji, order=1)
    inside = np.all([(c > 1) & (c < n - 2) for c, n in zip(kji, array.shape, strict=True)], 0)
    np.testing.assert_allclose(plane.sample_mirrored(array)[inside], wanted[inside], atol=1e-4)


def test_steps_are_short_and_go_near_first() -> None:
    volume = head("ras")
    session = EditingSession.open(volume, random_model(), options=PLAIN)
    seen = []
    box = session.work(0.001, near=(0, 8))
    assert box is not None
    for _ in range(12):
        session.work(0.001, near=(0, 8))
    known = [
        k for k in range(44) if session.known((slice(k, k + 1), slice(0, 56), slice(0, 48))).all()
    ]
    seen = [k for k in known if 5 <= k < 40]
    assert set(range(5, 12)) <= set(seen)
    assert 30 not in seen


def test_boxes_of_the_work_cover_what_has_changed() -> None:
    volume = head("oblique")
    session = EditingSession.open(volume, random_model(), options=PLAIN)
    before = np.array(session._scan.native.values)
    for _ in range(10_000):
        box = session.work(5)
        if box is None:
            break
        changed = session._scan.native.values != before
        changed[box] = False
        assert not changed.any()
        before = np.array(session._scan.native.values)


def test_a_finished_map_is_taken() -> None:
    volume = head("oblique")
    given = np.random.default_rng(0).random(volume.array.shape).astype(np.float32)
    session = EditingSession.open(volume, random_model(), options=PLAIN, probability=given)
    assert session.complete
    assert session.work() is None
    np.testing.assert_array_equal(session.probability, given)
    box, mask = session.mask(0.7)
    whole = np.zeros(given.shape, bool)
    whole[box] = mask
    np.testing.assert_array_equal(whole, given >= np.float32(0.7))
    with pytest.raises(ValueError, match="shape"):
        EditingSession.open(volume, random_model(), options=PLAIN, probability=given[1:])


# --- slices and planes on view


def says_pointwise(session: EditingSession, volume) -> np.ndarray:
    """What ``Pointwise`` says of each native voxel, by way of nibabel."""
    ready = before_network(volume, make_predictor(pointwise_model(), PLAIN))
    image = nibabel.Nifti1Image(ready.prepared.array.T, ready.placed.volume.affine)
    shape = volume.grid.shape[::-1]
    t1 = resample_from_to(image, (shape, volume.affine), order=1).get_fdata().T
    return 1 / (1 + np.exp(-4 * (0.5 - t1)))


@pytest.mark.parametrize("name", [n for n in GRIDS if "thick" not in n])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_predicted_in_its_own_plane(name: str, axis: int) -> None:
    volume = head(name)
    session = EditingSession.open(volume, pointwise_model(), options=PLAIN)
    index = volume.array.shape[axis] // 2 + 1
    calls = session._scan.network.calls
    box = session.predict_visible(axis, index)
    assert session._scan.network.calls == calls + 1
    assert [p.stop - p.start for p in box][axis] == 1
    assert session.known(box).all()
    wanted = says_pointwise(session, volume)
    # Away from edges, which linear interpolation in another place blurs otherwise.
    from scipy.ndimage import uniform_filter

    calm = uniform_filter(wanted**2, 5) - uniform_filter(wanted, 5) ** 2 < 4e-4
    inside = calm & (wanted < 0.6)
    got = session.probability_in(box)
    assert inside[box].sum() > 200
    error = np.abs(got - wanted[box])[inside[box]]
    assert error.max() < 0.06
    assert error.mean() < 0.01
    # The texture must be that of this place and no other.
    assert np.corrcoef(got[inside[box]], wanted[box][inside[box]])[0, 1] > 0.97
    for shift in (-3, 3):
        other = [slice(p.start, p.stop) for p in box]
        other[axis] = slice(index + shift, index + shift + 1)
        moved = wanted[tuple(other)]
        assert np.abs(got - moved)[inside[box]].mean() > 2 * error.mean()
    # Known slices cost nothing.
    calls = session._scan.network.calls
    session.predict_visible(axis, index)
    assert session._scan.network.calls == calls


def test_a_sagittal_slice_is_the_networks_answer_to_it() -> None:
    volume = head("lps")
    session = EditingSession.open(volume, random_model(), options=PLAIN)
    box = session.predict_visible(2, 20)
    ready = before_network(volume, make_predictor(random_model(), PLAIN)).prepared
    # The box of 44 or fewer by 56 or fewer voxels, padded to multiples of 16 around its middle.
    from StrokeLesionSegLib.inference.views import SliceStack

    stack = SliceStack(ready.array.shape, ready.box, "sagittal", 16)
    right = 48 - 1 - 20
    x = torch.zeros(1, 4, *stack.size)
    plane = np.ascontiguousarray(stack.planes(ready.array)[right - ready.box[2].start])
    x[(0, 0, *stack.inside)] = torch.from_numpy(plane)
    with torch.inference_mode():
        wanted = torch.sigmoid(random_model().network(x))[(0, 0, *stack.wanted)].numpy()
    got = session.probability_in(box)[:, ::-1, 0]
    # Axial slices without signal have their final answer, 0, from the start.
    signal = ready.array[ready.box].any(axis=(1, 2))
    assert signal.mean() > 0.7
    got = got[ready.box[0], ready.box[1]]
    np.testing.assert_allclose(got[signal], wanted[signal], atol=1e-5)
    assert not got[~signal].any()


@pytest.mark.parametrize("name", ["ras", "oblique", "sheared", "thick"])
def test_any_plane_of_a_viewer(name: str) -> None:
    volume = head(name)
    session = EditingSession.open(volume, pointwise_model(), options=PLAIN)
    origin = np.array([2.0, 1.0, -1.0])
    u, v = np.array([1.0, 0.2, 0.5]), np.array([-0.1, 1.0, 0.4])
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    box = session.predict_plane(origin, 3 * u, 0.5 * v)
    whole = tuple(slice(0, n) for n in volume.array.shape)
    provisional = session._scan.native.known[whole] == 1
    distance = (places(volume.affine, volume.grid.shape) - origin) @ normal
    steps = np.abs(normal @ volume.affine[:3, :3])
    assert np.abs(distance[provisional]).max() <= steps.max() + 1e-6
    # The nearest voxel of every row is known.
    near = np.abs(distance) <= steps.max() / 2 - 1e-6
    assert session.known(whole)[near].all()
    assert not provisional[np.abs(distance) > 3 * steps.max()].any()
    provisional[box] = False
    assert not provisional.any()
    if name != "thick":
        wanted = says_pointwise(session, volume)
        from scipy.ndimage import uniform_filter

        calm = uniform_filter(wanted**2, 5) - uniform_filter(wanted, 5) ** 2 < 4e-4
        chosen = (session._scan.native.known == 1) & calm & (wanted < 0.6)
        chosen &= np.abs(distance) <= 0.5
        assert chosen.sum() > 100
        error = np.abs(session._scan.native.values - wanted)[chosen]
        assert error.mean() < 0.015
    # A plane beside the scan, and one that is none.
    beside = session.predict_plane((900, 0, 0), (0, 1, 0), (0, 0, 1))
    assert all(part.stop == part.start for part in beside)
    with pytest.raises(ValueError, match="plane"):
        session.predict_plane(origin, u, -2 * u)


def test_a_plane_along_native_slices_is_that_slice() -> None:
    volume = head("oblique")
    session = EditingSession.open(volume, pointwise_model(), options=PLAIN)
    origin = volume.affine[:3, :3] @ [20, 20, 17.2] + volume.affine[:3, 3]
    box = session.predict_plane(origin, volume.affine[:3, 0], volume.affine[:3, 1])
    assert box[0] == slice(17, 18)
    assert box[1:] == (slice(0, 52), slice(0, 52))


def test_what_was_shown_at_first_gives_way_to_the_final_answer() -> None:
    volume = head("oblique")
    session = EditingSession.open(volume, random_model(), options=PLAIN)
    box = session.predict_visible(2, 26)
    first = np.array(session.probability_in(box))
    finish(session)
    last = session.probability_in(box)
    assert np.abs(first - last).max() > 0.01
    wanted = segment_volume(volume, random_model(), PLAIN).probability.array
    np.testing.assert_allclose(last, wanted[box], atol=1e-5)


def test_places_are_predicted_when_asked() -> None:
    volume = head("oblique")
    wanted = segment_volume(volume, random_model(), PLAIN).probability.array
    session = EditingSession.open(volume, random_model(), options=PLAIN)
    place = volume.affine[:3, :3] @ [26.2, 20, 18.9] + volume.affine[:3, 3]
    assert session.probability_at(place) == pytest.approx(wanted[19, 20, 26], abs=1e-5)
    assert session.probability_at((500, 0, 0)) == 0.0
    with pytest.raises(ValueError, match="finite"):
        session.probability_at((np.nan, 0, 0))


def test_slices_that_do_not_exist() -> None:
    session = EditingSession.open(head("ras"), random_model(), options=PLAIN)
    for axis, index in ((0, 44), (0, -1), (3, 0)):
        with pytest.raises(ValueError, match="no slice"):
            session.predict_visible(axis, index)


def test_results_are_read_only() -> None:
    session = EditingSession.open(head("ras"), random_model(), options=PLAIN)
    with pytest.raises(ValueError, match="read-only"):
        session.probability[0, 0, 0] = 1


def test_cancelled_and_unusable_scans() -> None:
    with pytest.raises(Cancelled):
        EditingSession.open(head("ras"), random_model(), options=PLAIN, cancel=lambda: True)
    constant = head("ras").with_array(np.ones((44, 56, 48), np.float32))
    with pytest.raises(InputError, match="constant"):
        EditingSession.open(constant, random_model(), options=PLAIN)


def test_a_scan_on_the_mni_grid_is_searched_in_the_brain_only() -> None:
    # Small enough to be quick: the grid decides, not the content.
    array = np.zeros(MNI_GRID.shape, np.float32)
    array[60:90, 80:120, 70:110] = 500 + 100 * np.random.default_rng(0).random((30, 40, 40))
    volume = replace(head("ras"), array=array, affine=MNI_GRID.affine.copy())
    options = replace(PLAIN, align="auto")
    session = EditingSession.open(volume, pointwise_model(), options=options)
    assert session.alignment is None
    corner = (slice(0, 5), slice(0, 5), slice(0, 5))
    assert session.known(corner).all()
    assert not session.probability_in(corner).any()
