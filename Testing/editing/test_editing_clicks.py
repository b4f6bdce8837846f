"""Clicks: obeyed, local, carried to the neighbours, and the same whatever the order of events."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from editing_support import (
    DARK,
    FAINT,
    GRIDS,
    PLAIN,
    ball,
    finish,
    head,
    listening_model,
    places,
    random_model,
    refine,
)
from numpy.typing import NDArray
from StrokeLesionSegLib.editing import EditingSession
from StrokeLesionSegLib.editing.clicks import OBEYED_MM
from StrokeLesionSegLib.editing.guidance import (
    Disk,
    Tissue,
    carried_on,
    correction,
    level,
    onward,
    within_reach,
)
from StrokeLesionSegLib.errors import InputError

pytestmark = pytest.mark.usefixtures("silent_judge")


def opened(name: str = "ras", threshold: float = 0.5, **options) -> EditingSession:
    return EditingSession.open(
        head(name), listening_model(threshold), options=replace(PLAIN, **options)
    )


def whole(session: EditingSession) -> NDArray[np.bool_]:
    box, mask = session.guided_mask()
    result = np.zeros(session.grid.shape, bool)
    result[box] = mask
    return result


def dice(a: NDArray, b: NDArray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("name", [n for n in GRIDS if "thick" not in n])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_click_finds_the_faint_lesion_and_keeps_the_rest(name: str, axis: int) -> None:
    volume = head(name)
    session = EditingSession.open(volume, listening_model(), options=PLAIN)
    finish(session)
    before = whole(session)
    faint, dark = ball(volume, *FAINT), ball(volume, *DARK)
    assert not before[faint].any()
    assert dice(before & ball(volume, DARK[0], 8), dark) > 0.7
    session.add_click(FAINT[0], True, axis=axis)
    box, mask = session.refine_visible()
    # At once: in the slice of the click alone.
    assert box[axis].stop - box[axis].start == 1
    index = np.rint(np.linalg.inv(volume.affine) @ [*FAINT[0], 1])[2 - axis]
    assert box[axis].start == index
    near = ball(volume, FAINT[0], 9)
    assert dice(mask.astype(bool) & near[box], faint[box]) > 0.75
    refine(session)
    after = whole(session)
    assert dice(after & near, faint) > 0.8
    # What the model was nearly sure of in tissue that looks alike may turn over further away.
    assert (after ^ before)[~near].mean() < 2e-4


@pytest.mark.parametrize("name", ["thick", "oblique, thick"])
def test_clicks_in_thick_slices(name: str) -> None:
    volume = head(name)
    session = EditingSession.open(volume, listening_model(), options=PLAIN)
    finish(session)
    session.add_click(FAINT[0], True, axis=0)
    session.refine_visible()
    refine(session)
    after = whole(session)
    assert dice(after & ball(volume, FAINT[0], 9), ball(volume, *FAINT)) > 0.6


def test_a_negative_click_takes_the_lesion_away() -> None:
    volume = head("oblique")
    session = EditingSession.open(volume, listening_model(), options=PLAIN)
    session.add_click(DARK[0], False, axis=0)
    refine(session)
    finish(session)
    dark = ball(volume, *DARK)
    assert session.mask(0.5)[1].sum() > 100
    assert (whole(session) & dark).sum() < 0.1 * dark.sum()


@pytest.mark.parametrize(
    "place", [(0.2, 15.1, 0.3), (0.3, 0.1, 0.2), (-19.2, 0.2, 3.1), (22.6, 26.7, 20.6)]
)
@pytest.mark.parametrize("name", ["ras", "oblique", "thick"])
def test_clicks_are_obeyed_whatever_the_network_says(name: str, place) -> None:
    # Tissue that the network will not take for a lesion, its rim, and air beside the head.
    volume = head(name)
    session = EditingSession.open(volume, listening_model(), options=PLAIN)
    session.add_click(place, True, axis=0)
    box, mask = session.refine_visible()
    near = np.linalg.norm(places(volume.affine, volume.grid.shape) - place, axis=-1)
    if near.min() > 2:
        pytest.skip("this grid does not reach so far")
    nearest = np.unravel_index(np.argmin(near), near.shape)
    shown = np.zeros(volume.grid.shape, bool)
    shown[box] = mask
    assert shown[nearest]
    refine(session)
    result = whole(session)
    assert result[nearest]
    assert result[near <= OBEYED_MM - 1e-6].all()
    session.add_click(place, False, axis=0)
    session.refine_visible()
    refine(session)
    assert not whole(session)[near <= OBEYED_MM - 1e-6].any()


def test_a_click_beyond_the_scan_changes_nothing() -> None:
    session = opened()
    finish(session)
    before = whole(session)
    session.add_click((300, 0, 0), True, axis=2)
    _, mask = session.refine_visible()
    assert mask.size == 0
    refine(session)
    np.testing.assert_array_equal(whole(session), before)


def test_moving_and_taking_back_leave_no_trace() -> None:
    session = opened("oblique")
    finish(session)
    before = whole(session)
    first = session.add_click(FAINT[0], True, axis=0)
    session.refine_visible()
    refine(session)
    clicked = whole(session)
    second = session.add_click(DARK[0], False, axis=1)
    refine(session)
    moved = session.move_click(second.id, (0, 15, 0))
    assert moved.id == second.id
    assert session.clicks == (first, moved)
    session.refine_visible()
    refine(session)
    now = whole(session)
    changed = clicked ^ now
    assert not changed[~ball(head("oblique"), np.array([0, 15, 0]), 8)].any()
    session.remove_click(second.id)
    session.refine_visible()
    refine(session)
    np.testing.assert_array_equal(whole(session), clicked)
    session.remove_click(first.id)
    refine(session)
    np.testing.assert_array_equal(whole(session), before)
    assert session.clicks == ()
    assert session.refine_more() is None


def test_the_pieces_together_are_the_whole() -> None:
    """Whoever writes piece after piece into a segment ends with ``guided_mask``."""
    session = opened("coronal, oblique")
    finish(session)
    segment = whole(session)
    script = [
        lambda: session.add_click(FAINT[0], True, axis=1),
        lambda: session.add_click(DARK[0], False, axis=2),
        lambda: session.move_click(1, FAINT[0] + [0, 2, 0]),
        lambda: session.remove_click(2),
        lambda: session.add_click((0, 15, 0), True, axis=0),
        lambda: session.remove_click(1),
    ]
    for step in script:
        step()
        box, mask = session.refine_visible()
        segment[box] = mask
        while (piece := session.refine_more(1)) is not None:
            segment[piece[0]] = piece[1]
        np.testing.assert_array_equal(segment, whole(session))


def test_the_result_depends_on_the_clicks_alone() -> None:
    results = []
    for order in range(3):
        session = opened("oblique")
        if order == 0:
            finish(session)
        session.add_click(FAINT[0], True, axis=0)
        if order < 2:
            refine(session)
        session.add_click(DARK[0] + [2, 0, 0], False, axis=0)
        if order == 1:
            session.refine_visible()
            session.refine_more(1)
            session.work(5)
        session.add_click((0, 12, 3), True, axis=2)
        session.refine_visible()
        refine(session)
        finish(session)
        results.append(whole(session))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    assert results[0].any()


def test_answers_are_not_computed_twice() -> None:
    session = opened()
    finish(session)
    session.add_click(FAINT[0], True, axis=0)
    refine(session)
    other = session.add_click((0, 15, 0), True, axis=0)
    refine(session)
    calls = session._scan.network.calls
    session.remove_click(other.id)
    refine(session)
    assert session._scan.network.calls == calls


@pytest.mark.parametrize("start", ["axial", "mask", "triplanar"])
def test_sagittal_clicks_on_every_kind_of_start(start: str) -> None:
    volume = head("lps")
    session = opened("lps", views="triplanar" if start == "triplanar" else "axial")
    if start == "mask":
        session.start_from(ball(volume, DARK[0], 3.0))
    session.add_click(FAINT[0], True, axis=2)
    session.refine_visible()
    refine(session)
    finish(session)
    faint = ball(volume, *FAINT)
    assert dice(whole(session) & ball(volume, FAINT[0], 9), faint) > 0.8


def test_a_mask_made_by_hand_is_the_starting_point() -> None:
    volume = head("oblique")
    session = opened("oblique")
    hand = ball(volume, np.array([0, 12, 0]), 5.2)
    session.start_from(hand.astype(np.uint8) * 7)
    np.testing.assert_array_equal(whole(session), hand)
    session.add_click(FAINT[0], True, axis=0)
    box, _ = session.refine_visible()
    refine(session)
    after = whole(session)
    near = ball(volume, FAINT[0], 9)
    assert dice(after & near, ball(volume, *FAINT)) > 0.8
    np.testing.assert_array_equal(after[~near], hand[~near])
    # The mask is the network's previous probability: the darkish rest of a lesion that is begun
    # by hand is taken for lesion.
    begun = ball(volume, FAINT[0], 1.8)
    session.start_from(begun)
    session.remove_click(1)
    session.add_click(FAINT[0] + [0, 0, 1], True, axis=0)
    refine(session)
    assert dice(whole(session), ball(volume, *FAINT)) > 0.75
    session.remove_click(2)
    session.start_from(None)
    refine(session)
    finish(session)
    box, mask = session.mask(0.5)
    model = np.zeros(session.grid.shape, bool)
    model[box] = mask
    np.testing.assert_array_equal(whole(session), model)
    with pytest.raises(ValueError, match="shape"):
        session.start_from(hand[1:])


def test_the_models_threshold_cuts_its_own_answer_and_not_the_clicks() -> None:
    volume = head("ras")
    session = EditingSession.open(volume, listening_model(0.9), options=PLAIN)
    assert session.threshold == 0.9
    finish(session)
    values = session.probability
    np.testing.assert_array_equal(whole(session), values >= np.float32(0.9))
    session.add_click(FAINT[0], True, axis=0)
    refine(session)
    high = whole(session)
    box, mask = session.guided_mask(0.2)
    refine(session)
    low = whole(session)
    far = ~ball(volume, FAINT[0], 10)
    np.testing.assert_array_equal(high[far], (values >= np.float32(0.9))[far])
    box, mask = session.guided_mask(0.2)
    low = np.zeros_like(high)
    low[box] = mask
    np.testing.assert_array_equal(low[far], (values >= np.float32(0.2))[far])
    assert high[ball(volume, FAINT[0], FAINT[1] - 1)].all()
    with pytest.raises(ValueError, match="threshold"):
        session.guided_mask(0)


def test_models_without_the_channels_say_so() -> None:
    session = EditingSession.open(head("ras"), random_model(1), options=PLAIN)
    assert not session.takes_clicks
    for attempt in (
        lambda: session.add_click((0, 0, 0), True, axis=0),
        lambda: session.start_from(np.zeros(session.grid.shape)),
    ):
        with pytest.raises(InputError, match=r"no channels for them.*manifest"):
            attempt()
    finish(session)
    assert session.complete


def test_ids_and_places() -> None:
    session = opened()
    assert session.takes_clicks
    click = session.add_click((1, 2, 3), True, axis=1, id=7)
    assert click.id == 7
    assert session.add_click((1, 2, 3), False, axis=1).id == 8
    with pytest.raises(ValueError, match="already"):
        session.add_click((1, 2, 3), True, axis=1, id=7)
    with pytest.raises(ValueError, match="axis"):
        session.add_click((1, 2, 3), True, axis=4)
    with pytest.raises(ValueError, match="finite"):
        session.add_click((1, np.nan, 3), True, axis=0)
    for attempt in (session.remove_click, lambda n: session.move_click(n, (0, 0, 0))):
        with pytest.raises(KeyError):
            attempt(99)


def test_state_goes_through_json_and_back() -> None:
    session = opened("oblique")
    session.add_click(FAINT[0], True, axis=0)
    session.add_click((0, 12, 3), False, axis=1)
    refine(session)
    finish(session)
    state = json.loads(json.dumps(session.to_state()))
    other = opened("oblique")
    other.add_click((1, 1, 1), True, axis=0)
    other.restore(state)
    assert other.clicks == session.clicks
    refine(other)
    finish(other)
    np.testing.assert_array_equal(whole(other), whole(session))
    broken = [
        {},
        {**state, "version": 99},
        {**state, "clicks": [{"id": 1}]},
        {**state, "clicks": 2 * state["clicks"]},
        {**state, "review": {"verdicts": [{"ras_mm": [0, 0], "state": "accepted"}]}},
        {**state, "review": {"verdicts": [{"ras_mm": [0, 0, 0], "state": "perhaps"}]}},
    ]
    for each in broken:
        with pytest.raises(InputError, match="editing state"):
            other.restore(each)
    assert other.clicks == session.clicks
    deaf = EditingSession.open(head("oblique"), random_model(1), options=PLAIN)
    with pytest.raises(InputError, match="no channels"):
        deaf.restore(state)


# --- one slice


def test_restored_clicks_are_behind_until_they_are_worked_out() -> None:
    session = opened()
    assert not session.is_behind()
    session.add_click(FAINT[0], True, axis=0)
    assert not session.is_behind(), "a new click is work that the segment waits for"
    refine(session)
    done = whole(session)
    state = session.to_state()
    session.restore(state)
    assert session.is_behind()
    assert (whole(session) != done).any()
    refine(session)
    assert not session.is_behind()
    np.testing.assert_array_equal(whole(session), done)
    assert session.is_behind(0.4)
    assert not opened().is_behind(0.4)


def test_levels_keep_the_side_of_the_threshold() -> None:
    values = np.random.default_rng(0).random(20_000).astype(np.float32)
    for threshold in (0.05, 0.3, 0.5, 0.8, 0.97, 1.0):
        values[:2] = threshold, 1.0
        bent = level(values, threshold)
        np.testing.assert_array_equal(bent >= 0.5, values >= np.float32(threshold))
        order = np.argsort(values)
        assert (np.diff(bent[order]) >= -1e-6).all()
        assert bent.min() >= 0
        assert bent.max() <= 1


def test_corrections_stay_with_the_clicks() -> None:
    before, answer = np.zeros((40, 40), np.float32), np.zeros((40, 40), np.float32)
    answer[5:12, 5:12] = 0.9  # clicked
    answer[25:30, 25:30] = 0.9  # not clicked
    before[5:12, 30:36] = 0.9  # falls, clicked as negative
    before[20:24, 2:6] = 0.9  # falls, not clicked
    none = np.zeros((40, 40), bool)
    positive, negative = none.copy(), none.copy()
    positive[8, 8] = negative[8, 33] = True
    found = correction(answer, before, positive, negative)
    wanted = none.copy()
    wanted[5:12, 5:12] = wanted[5:12, 30:36] = True
    np.testing.assert_array_equal(found, wanted)
    # A positive click never takes away.
    assert not correction(answer, before, negative, none).any()
    assert not correction(answer, before, none, none).any()


def test_a_correction_goes_on_only_in_like_tissue_that_is_still_wrong() -> None:
    corrected = np.zeros((40, 40), bool)
    corrected[10:20, 10:22] = True
    before = np.zeros((40, 40), np.float32)
    t1 = np.full((40, 40), 0.8, np.float32)
    t1[10:20, 10:22] = 0.4
    tissue = Tissue.of(t1, corrected)
    assert tissue.contrast == pytest.approx(-0.4)
    disk = onward(corrected, before, t1, tissue, True)
    assert disk is not None
    assert disk.positive
    assert not disk.real
    assert corrected[disk.row, disk.column]
    assert 13 <= disk.row <= 16
    assert onward(corrected, before, np.full_like(t1, 0.8), tissue, True) is None
    assert onward(corrected, before + 1, t1, tissue, True) is None
    assert onward(corrected, before, t1, tissue, False) is None
    assert onward(corrected, before + 1, t1, tissue, False) is not None
    thin = t1.copy()
    thin[12:] = 0.8
    assert onward(corrected, before, thin, tissue, True) is None


def test_a_correction_ends_where_the_network_only_obeys() -> None:
    rows, columns = np.ogrid[:60, :60]
    disk = Disk(30, 30, True, False)
    lesion = ((rows - 30) / 6) ** 2 + ((columns - 32) / 11) ** 2 < 1
    assert carried_on(lesion, lesion, disk)
    # Smaller than the disk is an answer of its own, too.
    small = (rows - 30) ** 2 + (columns - 30) ** 2 < 12
    assert carried_on(small, small, disk)
    mere = disk.mask((60, 60))
    assert not carried_on(mere, mere, disk)
    elsewhere = (rows - 20) ** 2 + (columns - 20) ** 2 < 40
    assert not carried_on(lesion, elsewhere, disk)
    assert not carried_on(np.zeros((60, 60), bool), lesion, disk)


def test_a_correction_ends_where_the_tissue_has_no_edge() -> None:
    rows, columns = np.ogrid[:60, :60]
    lesion = (rows - 30) ** 2 + (columns - 30) ** 2 < 64
    t1 = np.where(lesion, 0.3, 0.8).astype(np.float32)
    tissue = Tissue.of(t1, lesion)
    assert tissue.stands_out(t1, lesion)
    assert tissue.stands_out(np.where(lesion, 0.5, 0.8).astype(np.float32), lesion)
    assert not tissue.stands_out(np.where(lesion, 0.7, 0.8).astype(np.float32), lesion)
    assert not tissue.stands_out(np.where(lesion, 1.0, 0.8).astype(np.float32), lesion)
    # What had no edge where it was clicked need not have one further on.
    even = np.full((60, 60), 0.8, np.float32)
    assert Tissue.of(even, lesion).stands_out(even, lesion)


def test_disks_are_those_of_the_training() -> None:
    torch = pytest.importorskip("torch")
    clicks = pytest.importorskip("stroketrain.product.simulated_clicks")
    centres = torch.tensor([[9, 14]])
    wanted = clicks.disks(centres, (24, 30))[0].numpy()
    np.testing.assert_array_equal(Disk(9, 14, True, True).mask((24, 30)), wanted)


def test_a_click_speaks_for_its_surroundings() -> None:
    before, answer = np.full((9, 21), 0.8, np.float32), np.full((9, 21), 0.2, np.float32)
    rows, columns = np.ogrid[:9, :21]

    def squares(column: int, off: float = 0.0) -> NDArray:
        return (rows - 4) ** 2 + (columns - column) ** 2 + off**2

    # A click on the right, "not", takes what is nearer to it than to "lesion" on the left.
    both = within_reach(answer, before, [(squares(4), True), (squares(16), False)])
    np.testing.assert_array_equal(both[:, :10], before[:, :10])
    np.testing.assert_array_equal(both[:, 10:], answer[:, 10:])
    # The other way round, and with the second of two clicks in a slice far away.
    clicks = [(squares(4), False), (squares(16, 50.0), True), (squares(16), True)]
    turned = within_reach(before, answer, clicks)
    np.testing.assert_array_equal(turned[:, :10], answer[:, :10])
    np.testing.assert_array_equal(turned[:, 11:], before[:, 11:])
    far = within_reach(before, answer, [(squares(4), False), (squares(16, 50.0), True)])
    np.testing.assert_array_equal(far, answer)
    # Nothing says otherwise: the answer as it is. So it is where both agree with the click.
    np.testing.assert_array_equal(within_reach(answer, before, [(squares(4), False)]), answer)
    agreed = within_reach(before, before * 1.1, [(squares(4), True), (squares(16), False)])
    np.testing.assert_array_equal(agreed, before)


@pytest.mark.parametrize("name", ["ras", "oblique"])
def test_a_click_on_the_rim_leaves_the_clicked_middle(name: str) -> None:
    """ "Not" beside "lesion" trims; it does not take what lies nearer to the click before."""
    volume = head(name)
    session = EditingSession.open(volume, listening_model(), options=PLAIN)
    finish(session)
    session.add_click(FAINT[0], True, axis=0)
    refine(session)
    kept = whole(session) & ball(volume, *FAINT)
    rim = FAINT[0] + np.array([FAINT[1] - 1.0, 0.0, 0.0])
    session.add_click(rim, False, axis=0)
    box, mask = session.refine_visible()
    at_once = whole(session)
    at_once[box] = mask
    refine(session)
    ras = places(volume.affine, volume.grid.shape)
    middle_mm, rim_mm = (np.linalg.norm(ras - p, axis=-1) for p in (FAINT[0], rim))
    nearer = kept & (middle_mm + 1 < rim_mm) & (rim_mm > OBEYED_MM)
    assert nearer.sum() > 0.3 * kept.sum()
    for after in (at_once, whole(session)):
        assert after[nearer].mean() > 0.95
    taken = kept & (rim_mm + 1 < middle_mm)
    assert taken.sum() > 20
    assert whole(session)[taken].mean() < 0.5
