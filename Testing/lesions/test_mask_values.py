"""What the values of an image say: a mask, labels, or a soft map; nothing is scored in silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from StrokeLesionSegLib.lesions.scorers import score_case
from StrokeLesionSegLib.lesions.scorers.values import lesion_mask, look_at

SHAPE = (20, 22, 24)


def lesion() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[6:14, 7:15, 8:16] = True
    return mask


def brain() -> np.ndarray:
    labels = np.zeros(SHAPE, np.int16)
    labels[2:-2, 2:-2, 2:-2] = 1
    labels[4:-4, 4:-4, 4:-4] = 2
    labels[8:12, 8:12, 2:6] = 3
    return labels


def soft() -> np.ndarray:
    return ndimage.gaussian_filter(lesion().astype(np.float32), 2)


@pytest.mark.parametrize(
    "values",
    [
        lesion(),
        lesion().astype(np.uint8),
        lesion() * np.uint8(255),
        lesion() * np.float32(0.9999),
        lesion() * 254.998,
        lesion() * 7,
        np.where(lesion(), 1.0, np.nan),
        np.where(lesion(), np.where(np.arange(24) % 2, 1.0, 0.9999), 1e-6),
    ],
)
def test_masks_of_any_one_value_are_masks(values: np.ndarray) -> None:
    assert look_at(values).kind == "mask"
    assert (lesion_mask(values)[0] == lesion()).all()


def test_a_mask_with_values_far_below_0_is_none() -> None:
    assert look_at(np.where(lesion(), 1.0, -0.5)).kind == "soft"
    assert look_at(np.where(lesion(), 1.0, -0.001)).kind == "mask"
    with pytest.raises(ValueError, match="and 1: neither probabilities nor percent"):
        lesion_mask(np.where(lesion(), 1.0, -0.5), threshold=0.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_have_to_be_named(dtype: type) -> None:
    labels = brain().astype(dtype)
    labels[lesion()] = 99
    with pytest.raises(ValueError, match="several labels \\(1, 2, 3, 99\\)"):
        lesion_mask(labels)
    assert (lesion_mask(labels, label=[99])[0] == lesion()).all()
    united = lesion_mask(labels, label=[99, 3])[0]
    assert (united == ((labels == 99) | (labels == 3))).all()
    # A person without lesion: the label is not there, and that is no error.
    assert not lesion_mask(brain(), label=[99])[0].any()


def test_many_labels_are_no_soft_map_and_percent_are_no_labels() -> None:
    blocks = np.kron(np.arange(1, 28).reshape(3, 3, 3), np.ones((6, 6, 6), int))
    assert look_at(blocks).kind == "labels"
    percent = np.rint(100 * soft()).astype(np.uint8)
    assert look_at(percent) == look_at(100 * soft())
    assert look_at(percent).scale == 100


@pytest.mark.parametrize("scale", [1, 100, 255])
@pytest.mark.parametrize("whole", [False, True])
def test_soft_maps_need_a_threshold(scale: int, whole: bool) -> None:
    values = soft() * scale
    if whole and scale > 1:
        values = np.rint(values).astype(np.uint8)
    with pytest.raises(ValueError, match="threshold"):
        lesion_mask(values)
    for threshold in (0.25, 0.5):
        cut = lesion_mask(values, threshold=threshold)[0]
        assert (cut == (values >= threshold * scale)).all()
    with pytest.raises(ValueError, match="neither probabilities nor percent"):
        lesion_mask(soft() * 3000.5, threshold=0.5)


def test_a_plain_mask_beside_labels_is_taken_whole_and_told() -> None:
    mask, note = lesion_mask(lesion(), label=[99])
    assert (mask == lesion()).all()
    mask, note = lesion_mask(lesion().astype(np.uint8), label=[99])
    assert "taken whole" in note
    assert not lesion_mask(lesion().astype(np.uint8), label=[99], strict=True)[0].any()
    # A map of labels that happens to hold just one is no plain mask.
    assert not lesion_mask((brain() > 0) * 2, label=[99])[0].any()


def test_segments_by_name() -> None:
    labels, names = brain(), {"Brain": 2, "Old stroke": 3, "Head": 1}
    mask, note = lesion_mask(labels, segments=names)
    assert (mask == (labels == 3)).all()
    assert "Old stroke" in note
    assert (lesion_mask(labels, label=["brain"], segments=names)[0] == (labels == 2)).all()
    with pytest.raises(ValueError, match="Head \\(1\\)"):
        lesion_mask(labels, segments={"Brain": 2, "Head": 1})
    with pytest.raises(ValueError, match='no segment "tumour"'):
        lesion_mask(labels, label=["tumour"], segments=names)
    with pytest.raises(ValueError, match="Lesion left"):
        lesion_mask(labels, segments={"Lesion left": 2, "Lesion right": 3})


@pytest.mark.parametrize("values", [np.zeros(SHAPE), np.full(SHAPE, np.nan), np.zeros(SHAPE, bool)])
def test_nothing_is_an_empty_mask(values: np.ndarray) -> None:
    assert not lesion_mask(values)[0].any()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("values", [soft(), brain()])
def test_neither_side_is_scored_in_silence(which: int, values: np.ndarray) -> None:
    pair = [lesion(), lesion()]
    pair[which] = values
    with pytest.raises(ValueError, match=("prediction", "reference")[which]):
        score_case(*pair, np.eye(4), "isles2022")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.floats(0.02, 300), st.sampled_from(["<f4", "<f8", "u1", "<i2"])
)
def test_a_mask_times_anything_stays_that_mask(seed: int, factor: float, dtype: str) -> None:
    mask = np.random.default_rng(seed).random((5, 6, 7)) < 0.3
    values = mask * factor
    if dtype in ("u1", "<i2"):
        values = np.minimum(np.rint(values), 255 if dtype == "u1" else 32767)
    values = values.astype(dtype)
    if values.max() >= 0.99:
        assert (lesion_mask(values)[0] == mask).all()
    elif values.max() > 0.01:
        with pytest.raises(ValueError, match="threshold"):
            lesion_mask(values)
