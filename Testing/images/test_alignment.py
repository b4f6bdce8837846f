"""Alignment to MNI152: known affines are found, every real scan fits, and failures are noticed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from StrokeLesionSegLib.errors import Cancelled
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Volume, align_to_mni, mni_brain_mask
from StrokeLesionSegLib.images.space.template import template_brain, template_head, template_t1

REVERSE = np.eye(4)[[2, 1, 0, 3]]  # (i, j, k, 1) to (k, j, i, 1) and back


def affine(
    degrees: tuple[float, float, float] = (0, 0, 0),
    scales: tuple[float, float, float] = (1, 1, 1),
    shift: tuple[float, float, float] = (0, 0, 0),
) -> np.ndarray:
    """4x4: scales, then rotations about x, y, z, then shift in mm."""
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scales)
    out[:3, 3] = shift
    return out


def subject(skull: bool, to_native: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    """The template moved by ``to_native`` (MNI mm to native mm), sampled on a grid of its own.

    Shaded by a coil and noisy, so that it is not the template's own intensities that are found.
    """
    source = template_head() if skull else template_t1()
    corners = np.array([[x, y, z, 1] for x in (-99, 99) for y in (-135, 99) for z in (-73, 117)])
    native = (corners @ to_native.T)[:, :3]
    grid = np.diag([*spacing, 1.0])
    grid[:3, 3] = native.min(axis=0)
    shape = np.ceil((native.max(axis=0) - grid[:3, 3]) / spacing).astype(int)[::-1]
    index = REVERSE @ np.linalg.inv(source.affine) @ np.linalg.inv(to_native) @ grid @ REVERSE
    array = ndimage.affine_transform(
        source.array.astype(np.float32), index[:3, :3], index[:3, 3], tuple(shape), order=1
    )
    rng = np.random.default_rng(5)
    shade = np.exp(np.linspace(-0.4, 0.4, array.shape[1]))[None, :, None]
    noise = rng.normal(0, 4, array.shape) * (array > 0)
    return Volume((array * shade + noise).astype(np.float32) * 3 + 1, grid)


def landmarks() -> np.ndarray:
    """(N, 4) homogeneous MNI mm all over the brain."""
    brain = template_brain()
    k, j, i = np.nonzero(brain.array[::5, ::5, ::5] >= 128)
    index = np.stack([5 * i, 5 * j, 5 * k, np.ones_like(i)], axis=1)
    return index @ brain.affine.T


def error_mm(found: Alignment, to_native: np.ndarray) -> float:
    """Mean distance in MNI mm between where landmarks should and do arrive."""
    points = landmarks()
    arrived = points @ (found.matrix @ to_native).T
    return float(np.linalg.norm((arrived - points)[:, :3], axis=1).mean())


def reordered(volume: Volume, order: tuple[int, int, int], flips: tuple[bool, ...]) -> Volume:
    """The same image stored with other axes: i, j, k permuted by ``order``, then flipped."""
    array = volume.array.transpose([2 - a for a in order[::-1]])
    matrix = volume.affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            matrix[:3, 3] += matrix[:3, axis] * (array.shape[2 - axis] - 1)
            matrix[:3, axis] *= -1
            array = np.flip(array, 2 - axis)
    return Volume(np.ascontiguousarray(array), matrix)


KNOWN = [
    pytest.param(True, affine(), (2, 2, 2), id="head as it is"),
    pytest.param(True, affine((20, 0, 0), (0.9, 0.95, 0.9), (12, 30, -25)), (2, 2, 2), id="nod"),
    pytest.param(
        True, affine((-12, 15, -10), (0.95, 0.9, 1.0), (300, -250, 180)), (2, 2, 3), id="head, far"
    ),
    pytest.param(False, affine((0, 20, 0), (1.1, 1, 1.05), (-9, 4, 20)), (2, 2, 2), id="roll"),
    pytest.param(
        False, affine((10, -8, 18), (0.9, 0.9, 0.95), (5, 5, 5)), (1.5, 1.5, 5), id="thick slices"
    ),
]


@pytest.mark.parametrize(("skull", "to_native", "spacing"), KNOWN)
def test_a_known_affine_is_found(
    skull: bool, to_native: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    found = align_to_mni(subject(skull, to_native, spacing))
    assert found.ok, found.reason
    assert found.reason == ""
    assert error_mm(found, to_native) < 3.0
    assert found.matrix.dtype == np.float64
    np.testing.assert_array_equal(found.matrix[3], [0, 0, 0, 1])


def with_cavity(volume: Volume, to_mni: np.ndarray, size_ml: float) -> Volume:
    """A dark ellipsoid of ``size_ml`` (in MNI space) in the left middle cerebral territory."""
    radii = np.array([24.0, 55.0, 34.0])
    radii *= (1000 * size_ml / (4 / 3 * np.pi * radii.prod())) ** (1 / 3)
    k, j, i = np.indices(volume.array.shape, sparse=True)
    to_mni = to_mni @ volume.affine
    distance = sum(
        ((to_mni[n, 0] * i + to_mni[n, 1] * j + to_mni[n, 2] * k + to_mni[n, 3] - c) / r) ** 2
        for n, (c, r) in enumerate(zip((-40, -10, 15), radii, strict=True))
    )
    return volume.with_array(np.where(distance < 1, 0.15 * volume.array, volume.array))


HEAD = affine((8, -5, 5), (0.92, 0.92, 0.92), (10, 10, -10))


def test_a_large_cavity_does_not_pull_the_brain_along() -> None:
    volume = with_cavity(subject(True, HEAD, (2, 2, 2)), np.linalg.inv(HEAD), 240)
    found = align_to_mni(volume)
    assert found.ok, found.reason
    assert error_mm(found, HEAD) < 3.0


@pytest.mark.parametrize("skull", [True, False])
@pytest.mark.parametrize("size_ml", [200, 350])
def test_a_cavity_does_not_make_a_good_pose_look_bad(skull: bool, size_ml: float) -> None:
    """And makes no bad one look good: front for back, and half the size."""
    from StrokeLesionSegLib.images.space import registration_start as start

    whole = subject(skull, HEAD, (2, 2, 2))
    hollow = with_cavity(whole, np.linalg.inv(HEAD), size_ml)
    smooth = [start.smooth_copy(start.reduce_scan(v)) for v in (whole, hollow)]
    good, with_hole = (start.healthy_similarity(s, HEAD) for s in smooth)
    assert good > 0.95
    assert with_hole > good - 0.04
    about = np.eye(4)
    about[:3, 3] = start.CENTRE_MM
    for wrong in (affine((0, 0, 180)), np.diag([0.7, 0.7, 0.7, 1.0])):
        pose = HEAD @ about @ wrong @ np.linalg.inv(about)
        assert max(start.healthy_similarity(s, pose) for s in smooth) < 0.7


def test_every_axis_order_and_repetition_gives_the_same_matrix() -> None:
    volume = subject(True, affine((6, 4, -5), (0.9, 0.9, 0.9), (3.25, -7.5, 11)), (4, 4, 4))
    expected = align_to_mni(volume)
    assert expected.ok
    for order, flips in (
        ((0, 1, 2), (False, False, False)),
        ((1, 2, 0), (True, False, True)),
        ((0, 2, 1), (True, True, True)),
    ):
        again = align_to_mni(reordered(volume, order, flips))
        np.testing.assert_array_equal(again.matrix, expected.matrix)
        assert (again.overlap, again.similarity) == (expected.overlap, expected.similarity)


def ball(radii_mm: tuple[float, float, float]) -> np.ndarray:
    k, j, i = np.indices((80, 80, 80)) * 3.0 - 120.0
    return ((i / radii_mm[0]) ** 2 + (j / radii_mm[1]) ** 2 + (k / radii_mm[2]) ** 2 < 1) * 100.0


def abdomen() -> np.ndarray:
    """An oval trunk with a rim of fat, a liver, a spine and round organs."""
    rng = np.random.default_rng(2)
    z, y, x = np.indices((60, 100, 140))
    array = np.zeros(z.shape)
    array[((y - 50) / 40) ** 2 + ((x - 70) / 60) ** 2 < 1] = 180
    array[((y - 48) / 32) ** 2 + ((x - 70) / 51) ** 2 < 1] = 80
    array[((y - 46) / 20) ** 2 + ((x - 93) / 23) ** 2 + ((z - 36) / 30) ** 2 < 1] = 120
    array[((y - 76) / 8) ** 2 + ((x - 70) / 9) ** 2 < 1] = 40
    for _ in range(12):
        c = rng.uniform([6, 26, 33], [54, 66, 100])
        r = rng.uniform(5, 11)
        array[(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < r**2] = rng.uniform(20, 160)
    return array + rng.normal(0, 4, array.shape)


def noise(smooth: float) -> Volume:
    array = np.random.default_rng(1).normal(0, 20, (64, 64, 64))
    return Volume(ndimage.gaussian_filter(array, smooth), THREE_MM)


def head(*parts: slice, moved: np.ndarray | None = None) -> Volume:
    """The template's head, cut to ``parts`` and with another (wrong) affine."""
    whole = subject(True, affine(scales=(0.9, 0.9, 0.9)), (2, 2, 2))
    return Volume(whole.array[parts], whole.affine if moved is None else moved @ whole.affine)


THREE_MM = np.diag([3.0, 3.0, 3.0, 1.0])
NOT_BRAINS = {
    "noise": lambda: noise(0),
    "smooth noise": lambda: noise(3),
    "sphere": lambda: Volume(ball((85, 85, 85)), THREE_MM),
    "ellipsoid": lambda: Volume(ball((70, 85, 65)), THREE_MM),
    "abdomen": lambda: Volume(abdomen(), THREE_MM),
    "front for back": lambda: head(moved=affine((0, 0, 180))),
    "upside down": lambda: head(moved=affine((180, 0, 0))),
    "half a head": lambda: head(slice(48, None)),
    "half the spacing": lambda: head(moved=np.diag([0.5, 0.5, 0.5, 1])),
    "constant": lambda: Volume(np.ones((9, 9, 9)), np.eye(4)),
    "nothing finite": lambda: Volume(np.full((9, 9, 9), np.nan), np.eye(4)),
    "one slice": lambda: head(slice(50, 51)),
    "few voxels": lambda: Volume(np.arange(12.0).reshape(2, 3, 2) % 5, np.eye(4)),
}


@pytest.mark.parametrize("name", list(NOT_BRAINS))
def test_what_is_no_upright_brain_is_noticed_and_not_raised(name: str) -> None:
    volume = NOT_BRAINS[name]()
    found = align_to_mni(volume.with_array(volume.array.astype(np.float32)))
    assert not found.ok, (found.overlap, found.similarity)
    assert found.reason.endswith(".")
    assert found.reason.count("\n") == 0
    assert np.isfinite(found.matrix).all()
    assert np.linalg.det(found.matrix[:3, :3]) > 0


@pytest.mark.parametrize("after", [0, 3, 300])
def test_it_can_be_cancelled_at_any_time(after: int) -> None:
    asked = 0

    def cancel() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(Cancelled):
        align_to_mni(subject(False, affine(), (4, 4, 4)), cancel=cancel)
    assert asked == after + 1


def test_the_hook_is_asked_during_the_refinement_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked during the search only, a slow refinement could not be stopped."""
    from StrokeLesionSegLib.images.space import registration

    refining = False
    original = registration.refine

    def watched(*arguments: object) -> np.ndarray:
        nonlocal refining
        refining = True
        return original(*arguments)

    monkeypatch.setattr(registration, "refine", watched)
    with pytest.raises(Cancelled):
        align_to_mni(subject(False, affine(), (4, 4, 4)), cancel=lambda: refining)


def test_after_its_time_an_alignment_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and in the midst of the refinement, by a clock that leaps."""
    from StrokeLesionSegLib.images.space import registration

    volume = subject(False, affine(), (4, 4, 4))
    leap = 0.0
    original, clock = registration.refine, time.thread_time

    def slow(*arguments: object) -> np.ndarray:
        nonlocal leap
        leap = 20.0
        return original(*arguments)

    at_once = align_to_mni(volume, budget_s=0.0)
    monkeypatch.setattr(registration, "refine", slow)
    monkeypatch.setattr(registration.time, "thread_time", lambda: clock() + leap)
    for found, seconds in ((at_once, "0"), (align_to_mni(volume), "15")):
        assert not found.ok
        assert found.reason == f"The alignment was given up after {seconds} seconds."
        np.testing.assert_array_equal(found.matrix, np.eye(4))
        assert (found.overlap, found.similarity) == (0.0, 0.0)


def test_time_to_spare_changes_no_answer_and_nothing_the_input() -> None:
    volume = subject(False, affine(), (4, 4, 4))
    before = volume.array.copy()
    free, bound = (align_to_mni(volume, budget_s=s) for s in (None, 1000.0))
    np.testing.assert_array_equal(volume.array, before)
    assert free.ok
    np.testing.assert_array_equal(free.matrix, bound.matrix)


def test_a_spacing_that_no_head_has_is_refused_at_once() -> None:
    volume = subject(True, affine(), (2, 2, 2))
    huge = Volume(volume.array, np.diag([4.0, 4.0, 4.0, 1.0]) @ volume.affine)
    found = align_to_mni(huge)
    assert not found.ok
    assert "voxel spacing must be wrong" in found.reason
    assert found.reason.endswith(".")


REAL = [
    "heads/uih1_T1w.nii.gz",
    "heads/studyforrest_sub02_T1w.nii.gz",
    "heads/openms_patient01_study1_T1W.nii.gz",
    "heads/openms_patient03_study2_T1W.nii.gz",
    "brains/ds002748_sub-02_T1w_brain.nii.gz",
    "brains/ds002748_sub-68_T1w_brain.nii.gz",
    "templates/colin27_ch2_T1.nii.gz",
    "templates/elderly_betsct1_T1_brain.nii.gz",
]


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_real_scans_are_aligned(
    shared_data: Path, name: str, aligned: Callable[[Path], Alignment]
) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(shared_data / "t1" / name)
    volume = Volume(np.asarray(image.dataobj, dtype=np.float32).T, image.affine)
    found = aligned(shared_data / "t1" / name)
    assert found.ok, found.reason
    assert found.similarity > 0.8
    if "brain" in name:  # stripped: the outline is known
        coarse = MNI_GRID.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        mask = mni_brain_mask().array[::2, ::2, ::2] > 0
        index = REVERSE @ np.linalg.inv(volume.affine) @ np.linalg.inv(found.matrix)
        index = index @ coarse @ REVERSE
        filled = ndimage.binary_closing(volume.array > 0, iterations=2).astype(np.float32)
        moved = ndimage.affine_transform(filled, index[:3, :3], index[:3, 3], mask.shape, order=1)
        dice = 2 * np.sum(mask & (moved > 0.5)) / (mask.sum() + (moved > 0.5).sum())
        assert dice > 0.9


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["heads/uih1_T1w.nii.gz", "brains/ds002748_sub-02_T1w_brain.nii.gz"]
)
def test_a_third_of_the_left_hemisphere_may_be_gone(
    shared_data: Path, name: str, aligned: Callable[[Path], Alignment]
) -> None:
    """300 mL in a real scan: the alignment is that of the whole brain, and is accepted. With axes
    that are labelled wrongly it is refused, as without the cavity."""
    from StrokeLesionSegLib.images import read_scan

    volume = read_scan(shared_data / "t1" / name).volume
    whole = aligned(shared_data / "t1" / name)
    hollow = with_cavity(volume, whole.matrix, 300)
    found = align_to_mni(hollow)
    assert found.ok, found.reason
    assert found.similarity > 0.8
    assert error_mm(found, np.linalg.inv(whole.matrix)) < 4.0
    turned = Volume(hollow.array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ hollow.affine)
    refused = align_to_mni(turned)
    assert not refused.ok, refused.similarity


def test_an_alignment_leaves_nothing_behind() -> None:
    """A batch of thousands of scans must not keep a megabyte of each."""
    import gc
    import weakref

    class Never:
        def __call__(self) -> bool:
            return False

    cancel = Never()
    held = weakref.ref(cancel)
    align_to_mni(subject(False, affine(), (4, 4, 4)), cancel=cancel)
    del cancel
    gc.collect()
    assert held() is None
