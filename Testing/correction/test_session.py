"""The session: what the network is asked, what the user is told, and input that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from correction_support import AS_IT_LIES, BallAnswers, RandomField, head_map, session_on
from model_manifest import model_manifest
from StrokeLesionSegLib.boxes import EMPTY
from StrokeLesionSegLib.correction import CorrectionSession, Known
from StrokeLesionSegLib.correction.network import cube_around
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Grid, Volume
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.inference.head_box import HEAD_SHAPE, INNER_SHAPE
from StrokeLesionSegLib.learning.clicks import TrainingClick, channels_of
from StrokeLesionSegLib.learning.step import make_batch
from StrokeLesionSegLib.models import LoadedModel, Manifest
from StrokeLesionSegLib.networks import build_network
from StrokeLesionSegLib.networks.volumetric import shuffle, unshuffle

# The head box itself, as a native grid: voxel and place are the same.
BOX = np.eye(4)
BOX[:3, 3] = (-80, -116, -70)
GRID = Grid(HEAD_SHAPE, BOX)
OPTIONS = SegmentOptions(align="none", device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def head():
    return head_map(GRID)


def volumetric(kind: str = "volumetric", **spec) -> LoadedModel:
    """A small volumetric network with fixed random weights."""
    spec = {"name": "volumetric_unet", "filters": [4, 4], **spec}
    torch.manual_seed(3)
    network = build_network(spec).eval().requires_grad_(False)
    with torch.no_grad():
        network.head.weight.mul_(20)
        network.head.bias.zero_()
    weights = {"file": "w.safetensors", "sha256": "0" * 64, "bytes": 100, "dtype": "float16"}
    content = model_manifest("small", {"name": "volumetric_unet"}, kind=kind, weights=weights)
    content["channels"] = ["t1"]
    content["inference"]["min_volume_ml"] = 0.1
    return LoadedModel(Manifest.from_dict(content), network, Path())


def phantom(shape=(90, 110, 100), seed: int = 0) -> Volume:
    """An ellipsoid of tissue with noise, 2 mm voxels, about where a head lies."""
    rng = np.random.default_rng(seed)
    k, j, i = (np.linspace(-1, 1, n) for n in shape)
    inside = k[:, None, None] ** 2 + j[None, :, None] ** 2 + i[None, None, :] ** 2 < 0.6
    array = inside * (500 + 100 * rng.standard_normal(shape))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-n for n in shape[::-1]]
    return Volume(array.astype(np.float32), affine)


@pytest.fixture(scope="module")
def opened() -> CorrectionSession:
    return CorrectionSession.open(phantom(), volumetric(), options=OPTIONS)


# --- what a click brings -----------------------------------------------------------------------


def test_a_lesion_is_taken_whole_and_taken_away_whole(head) -> None:
    answers = BallAnswers((80, 96, 80), 10.0)
    session = session_on(GRID, answers, head=head)
    change = session.click((83, 96, 78), True)
    np.testing.assert_array_equal(session.mask, answers.field >= 0.5)
    assert change.voxels == change.model_voxels == session.mask.sum()
    assert change.volume_ml == pytest.approx(change.voxels / 1000)
    assert change.sentence == f"{change.volume_ml:.2f} mL added."
    answers.field[:] = 0
    change = session.click((80, 98, 80), False)
    # The voxel that was clicked first stays.
    assert np.argwhere(session.mask).tolist() == [[83, 96, 78]]
    assert change.sentence.endswith("removed.")


def test_where_the_model_has_nothing_to_say_it_paints_and_says_so(head) -> None:
    answers = RandomField(share=0.0)
    session = session_on(GRID, answers, head=head)
    change = session.click((80, 96, 80), True)
    assert change.painted_only
    assert change.sentence == "The model finds no lesion here: painted 0.03 mL."
    k, j, i = np.nonzero(session.mask)
    assert ((k - 80) ** 2 + (j - 96) ** 2 + (i - 80) ** 2).max() == 4
    assert session.mask.sum() == 33


def test_a_click_that_says_what_the_mask_says_asks_nothing_and_is_remembered(head) -> None:
    answers = BallAnswers((80, 96, 80), 6.0)
    session = session_on(GRID, answers, answers.field >= 0.5, head)
    before = session.mask.copy()
    change = session.click((80, 96, 80), True)
    assert change.box == EMPTY
    assert change.sentence == "Already so in the mask; nothing changed."
    assert not answers.calls
    # From now on no other click takes it away.
    answers.field[:] = 0
    session.click((82, 96, 80), False)
    assert session.mask[80, 96, 80]
    assert not session.mask[82, 96, 80]
    session.undo()
    session.undo()
    np.testing.assert_array_equal(session.mask, before)
    assert session.clicks == ()
    assert session.undo() is None


def test_hand_made_voxels_are_held_until_they_are_clicked(head) -> None:
    answers = BallAnswers((80, 96, 80), 9.0)
    session = session_on(GRID, answers, head=head)
    session.click((80, 96, 80), True)
    mask = session.mask.astype(np.uint8)
    mask[80, 96, 84:88] = 0  # erased
    mask[80, 96, 100:104] = 1  # painted
    session.click((80, 100, 80), False, mask)  # takes most of it away
    session.click((80, 96, 78), True)
    assert not session.mask[80, 96, 84:88].any()
    assert session.mask[80, 96, 100:104].all()
    session.click((80, 96, 86), True)
    assert session.mask[80, 96, 84:88].tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match="mask of shape"):
        session.click((80, 96, 80), True, mask[1:])


def test_a_mask_to_start_from_is_not_hand_made(head) -> None:
    answers = BallAnswers((80, 96, 80), 9.0)
    session = session_on(GRID, answers, head=head)
    session.start_from(answers.field >= 0.5)
    answers.field[:] = 0
    session.click((80, 96, 80), False)
    assert not session.mask.any()


def test_a_change_that_reaches_the_face_of_the_cube_is_taken_from_the_whole_head(head) -> None:
    answers = BallAnswers((80, 96, 80), 55.0)
    session = session_on(GRID, answers, head=head)
    change = session.click((80, 96, 80), True)
    assert [tuple(p.stop - p.start for p in box) for box, _ in answers.calls] == [
        (48, 48, 48),
        INNER_SHAPE,
    ]
    assert change.whole_head
    np.testing.assert_array_equal(session.mask, answers.field >= 0.5)
    session.undo()
    assert not session.mask.any()


def test_a_face_of_the_head_box_is_no_reason_for_the_whole_head(head) -> None:
    answers = BallAnswers((5, 96, 80), 12.0)
    session = session_on(GRID, answers, head=head)
    session.click((5, 96, 80), True)
    assert len(answers.calls) == 1
    np.testing.assert_array_equal(session.mask, answers.field >= 0.5)


def test_a_stroke_is_one_call_and_one_step(head) -> None:
    answers = BallAnswers((80, 96, 80), 6.0)
    session = session_on(GRID, answers, head=head)
    change = session.stroke([(80, 96, 80 + n) for n in range(0, 20, 2)], True)
    assert len(answers.calls) == 1
    assert len(answers.calls[0][1]) == 10
    assert session.mask[80, 96, 80:98:2].all()
    assert 0 < change.model_voxels < change.voxels
    session.undo()
    assert not session.mask.any()
    assert session.stroke([], True).voxels == 0
    assert session.undo() is None


def test_a_long_stroke_asks_about_the_whole_head(head) -> None:
    answers = BallAnswers((80, 96, 80), 6.0)
    session = session_on(GRID, answers, head=head)
    session.stroke([(80, n, 80) for n in range(40, 150, 10)], True)
    assert answers.calls[0][0] == tuple(slice(0, n) for n in INNER_SHAPE)


def test_clicks_that_the_mask_does_not_bear_out_are_not_told(head) -> None:
    answers = BallAnswers((80, 96, 80), 6.0)
    session = session_on(GRID, answers, head=head)
    session.click((80, 96, 80), True)
    session.click((80, 96, 90), True)
    assert answers.calls[-1][1] == [((40, 48, 40), True), ((40, 48, 45), True)]
    mask = session.mask.copy()
    mask[80, 96, 80] = False
    session.click((80, 100, 100), True, mask)
    assert answers.calls[-1][1] == [((40, 48, 45), True), ((40, 50, 50), True)]
    # Two voxels, one of 2 mm: the later one counts.
    session.click((81, 100, 100), False)
    assert answers.calls[-1][1] == [((40, 48, 45), True), ((40, 50, 50), False)]


def test_cubes_lie_in_the_head_and_on_even_voxels() -> None:
    for place in [(0, 0, 0), (79, 95, 79), (40, 50, 30)]:
        box = cube_around(place, place, 48)
        assert all(part.stop - part.start == 48 for part in box)
        assert all(
            part.start >= 0 and part.stop <= n for part, n in zip(box, INNER_SHAPE, strict=True)
        )
        assert all(p.start <= n < p.stop for p, n in zip(box, place, strict=True))
    assert cube_around((10, 10, 10), (10, 60, 10), 48) is None


# --- threshold, probability, whole head ----------------------------------------------------------


def test_the_threshold_moves_and_the_mask_stays(head) -> None:
    answers = BallAnswers((80, 96, 80), 8.0)
    p = 0.8 * answers.field
    session = CorrectionSession(
        GRID, head, answers, session_on(GRID, answers, head=head).point, Known(probability=p)
    )
    before = session.mask.copy()
    np.testing.assert_array_equal(session.probability, p)
    np.testing.assert_array_equal(before, p >= 0.5)
    session.change_threshold(0.2)
    np.testing.assert_array_equal(session.mask, before)
    np.testing.assert_array_equal(session.automatic_mask(), p >= 0.2)
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="threshold"):
            session.change_threshold(wrong)
    with pytest.raises(ValueError, match="probability of shape"):
        CorrectionSession(GRID, head, answers, session.point, Known(probability=p[1:]))


def test_renewing_changes_the_probability_and_never_the_mask(head) -> None:
    answers = BallAnswers((80, 96, 80), 8.0)
    session = session_on(GRID, answers, head=head)
    session.click((80, 96, 80), True)
    mask = session.mask.copy()
    assert session.probability.max() == 1
    session.renew()
    np.testing.assert_allclose(session.probability, 0.1, atol=1e-6)
    np.testing.assert_array_equal(session.mask, mask)
    session.undo()
    assert not session.mask.any()
    np.testing.assert_allclose(session.probability, 0.1, atol=1e-6)


def test_what_is_handed_out_cannot_be_written(head) -> None:
    session = session_on(GRID, RandomField(), head=head)
    for array in (session.mask, session.probability, session.uncertainty):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1


# --- places that make no sense -------------------------------------------------------------------


def test_a_click_beyond_the_scan_is_one_line_and_loses_nothing(head) -> None:
    session = session_on(GRID, BallAnswers((80, 96, 80), 5.0), head=head)
    session.click((80, 96, 80), True)
    before, clicks = session.mask.copy(), session.clicks
    for voxel in [(-1, 0, 0), (0, 192, 0), (160, 191, 159)]:
        with pytest.raises(InputError, match="outside the scan"):
            session.click(voxel, True)
    with pytest.raises(InputError, match="outside the scan"):
        session.voxel_at((500.0, 0.0, 0.0))
    np.testing.assert_array_equal(session.mask, before)
    assert session.clicks == clicks


def test_a_click_beyond_the_head_box_is_painted() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-60, -60, -180)  # a neck
    grid = Grid((60, 60, 60), affine)
    answers = RandomField(share=1.0)
    session = session_on(grid, answers)
    change = session.click((10, 30, 30), True)
    assert not answers.calls
    assert change.painted_only
    assert change.voxels == 7
    assert session.click((10, 30, 30), False).voxels == 7
    session.undo()
    session.undo()
    assert not session.mask.any()


# --- the network ---------------------------------------------------------------------------------


def test_the_network_is_asked_as_in_training(opened: CorrectionSession) -> None:
    network = opened._answers
    rng = np.random.default_rng(4)
    box = (slice(16, 64), slice(30, 78), slice(20, 68))
    previous = rng.random((96, 96, 96), dtype=np.float32)
    clicks = [((20, 40, 30), True), ((50, 60, 60), False), ((5, 5, 5), True)]
    found = network.cube(box, clicks, previous)

    from StrokeLesionSegLib.inference.volumetric import template_channel

    template = torch.from_numpy(template_channel().copy())[None, None]
    empty = torch.zeros(HEAD_SHAPE)
    image = torch.from_numpy(network._scan.image)
    batch = make_batch(image, empty, empty, template, unshuffle(empty[None, None]), mirror=False)
    inside = [TrainingClick((4, 10, 10), True), TrainingClick((34, 30, 40), False)]
    extra = [
        channels_of(inside, (48, 48, 48))[None],
        unshuffle(torch.from_numpy(previous)[None, None]),
    ]
    with torch.inference_mode():
        logits = volumetric().network(torch.cat([batch.cut(box).scan, *extra], dim=1))
    wanted = shuffle(torch.sigmoid(logits))[0, 0].numpy()
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_clicks_are_mirrored_with_the_head() -> None:
    volume = phantom()
    session = CorrectionSession.open(
        volume,
        volumetric(),
        Known(alignment=AS_IT_LIES),
        options=replace(OPTIONS, align="auto"),
    )
    network = session._answers
    previous = np.random.default_rng(5).random(HEAD_SHAPE, dtype=np.float32)
    clicks = [((30, 40, 20), True), ((40, 50, 60), False)]
    mean, uncertainty = network.head(clicks, previous)
    first = network.cube(tuple(slice(0, n) for n in INNER_SHAPE), clicks, previous)
    # The other pass is the same network on the mirrored scan.
    network._image = torch.roll(network._image.flip(-1), 1, -1)
    from StrokeLesionSegLib.inference.volumetric import head_channels

    network._channels = head_channels(network._image)
    mirrored = [((k, j, 80 - i), lesion) for (k, j, i), lesion in clicks]
    other = network.cube(
        tuple(slice(0, n) for n in INNER_SHAPE), mirrored, np.roll(previous[..., ::-1], 1, -1)
    )
    second = np.roll(other[..., ::-1], 1, -1)
    np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-3)
    np.testing.assert_allclose(uncertainty, np.abs(first - second) / 2, atol=1e-3)


def test_a_scan_that_is_not_aligned_is_corrected_too(opened: CorrectionSession) -> None:
    before = opened.mask.copy()
    voxel = tuple(int(n) for n in np.argwhere(~before[30:60, 40:70, 40:60])[50] + [30, 40, 40])
    change = opened.click(voxel, True)
    assert opened.mask[voxel]
    assert change.voxels == (opened.mask != before).sum() > 0
    # On the background, where a stripped scan has nothing.
    assert opened.click((2, 2, 2), True).voxels > 0
    opened.renew()
    assert opened.uncertainty.max() > 0
    opened.undo()
    opened.undo()
    np.testing.assert_array_equal(opened.mask, before)


def test_the_scan_is_not_changed_and_mask_and_probability_are_taken() -> None:
    volume = phantom()
    kept = volume.array.copy()
    mask = np.zeros(volume.array.shape, np.uint8)
    mask[40:50, 50:60, 50:60] = 1
    session = CorrectionSession.open(
        volume,
        volumetric(),
        Known(mask, mask.astype(np.float32)),
        options=OPTIONS,
    )
    np.testing.assert_array_equal(volume.array, kept)
    np.testing.assert_array_equal(session.mask, mask != 0)
    np.testing.assert_array_equal(session.automatic_mask(), mask != 0)
    session.click((45, 55, 55), False)
    assert mask[45, 55, 55] == 1
    with pytest.raises(ValueError, match="mask of shape"):
        CorrectionSession.open(volume, volumetric(), Known(mask=mask[1:]), options=OPTIONS)


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        (volumetric(in_channels=17), "made without clicks"),
        (
            replace(volumetric("slices"), network=torch.nn.Conv2d(1, 1, 1)),
            "slice by slice",
        ),
    ],
)
def test_a_model_that_does_not_answer_clicks_is_one_line(model, cause: str) -> None:
    with pytest.raises(InputError, match=cause) as caught:
        CorrectionSession.open(phantom(), model, options=OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_scan_without_anything_is_one_line() -> None:
    volume = phantom()
    with pytest.raises(InputError):
        CorrectionSession.open(
            volume.with_array(np.zeros_like(volume.array)), volumetric(), options=OPTIONS
        )
