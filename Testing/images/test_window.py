"""The intensity window: percentiles of the foreground, whatever scale, place and background."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from StrokeLesionSegLib.images import apply_window, window_range
from StrokeLesionSegLib.images.window import _low_percentile, foreground_threshold


def head(shape: tuple[int, int, int] = (48, 56, 52), air: float = 3.0) -> np.ndarray:
    """A ball of three tissues, fluid inside, in noisy air; float32."""
    rng = np.random.default_rng(3)
    k, j, i = (np.linspace(-1, 1, n) for n in shape)
    radius = np.sqrt(k[:, None, None] ** 2 + j[None, :, None] ** 2 + i[None, None, :] ** 2)
    array = np.zeros(shape)
    for limit, value in ((0.8, 180.0), (0.7, 90.0), (0.5, 140.0), (0.15, 35.0)):
        array[radius < limit] = value
    array += np.where(radius < 0.8, rng.normal(0, 4, shape), np.abs(rng.normal(0, air, shape)))
    return np.maximum(array, 0).astype(np.float32)


def test_noisy_air_is_background_and_fluid_is_not() -> None:
    array = head()
    threshold = foreground_threshold(array)
    assert 12 < threshold < 35 + 12
    low, high = window_range(array)
    assert low < 50
    assert 175 < high < 200


def test_zeros_around_a_stripped_brain_do_not_count() -> None:
    """More air around the brain must change nothing: percentiles are of the foreground."""
    tight = np.maximum(head(air=0.0) - 12, 0)
    wide = np.pad(tight, 30)
    assert window_range(wide) == pytest.approx(window_range(tight), rel=0.01)
    assert window_range(tight)[0] > 0


def test_percentiles_are_those_of_numpy_over_the_foreground() -> None:
    array = head()
    inside = array[array > foreground_threshold(array)]
    assert window_range(array, 2, 98) == pytest.approx(tuple(np.percentile(inside, [2, 98])))


def test_a_few_bright_spikes_hardly_move_the_window() -> None:
    array = head()
    spiked = array.copy()
    spiked.ravel()[:: array.size // 40] = 30_000
    assert window_range(spiked) == pytest.approx(window_range(array), rel=0.05)


@settings(max_examples=25, deadline=None)
@given(
    slope=st.floats(0.01, 300.0),
    offset=st.floats(-2000.0, 2000.0),
    kind=st.sampled_from(["float32", "float64"]),
)
def test_scaled_intensities_give_the_same_windowed_image(
    slope: float, offset: float, kind: str
) -> None:
    array = head()
    scaled = (array.astype(np.float64) * slope + offset * slope).astype(kind)
    expected = apply_window(array, window_range(array))
    np.testing.assert_allclose(apply_window(scaled, window_range(scaled)), expected, atol=0.01)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_integers_give_the_window_of_their_values_as_floats(dtype: str) -> None:
    array = np.round(head()).astype(dtype)
    assert window_range(array) == window_range(array.astype(np.float32))


def test_axis_order_and_flips_do_not_matter() -> None:
    array = head()
    turned = array.transpose(2, 0, 1)[::-1, :, ::-1]
    assert window_range(turned) == window_range(array)


def test_not_a_number_and_infinity_are_ignored() -> None:
    array = head()
    expected = window_range(array)
    array[0, 0, :5] = np.nan
    array[0, 1, :5] = np.inf
    array[0, 2, :5] = -np.inf
    assert window_range(array) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.full((3, 4, 5), 7.0), "constant"),
        (np.zeros((0, 4, 5)), "no finite voxel"),
        (np.full((3, 4, 5), np.nan), "no finite voxel"),
    ],
)
def test_an_image_without_contrast_is_refused(array: np.ndarray, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        window_range(array)


@pytest.mark.parametrize("limits", [(50, 50), (-1, 99), (1, 101), (99, 1)])
def test_percentiles_out_of_order_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="percentiles"):
        window_range(head(), *limits)


def test_the_low_end_can_be_of_the_whole_volume() -> None:
    array = head()
    low, high = window_range(array, 2, 98, low_of="volume")
    assert low == pytest.approx(np.percentile(array, 2))
    assert high == window_range(array, 2, 98)[1]
    assert low < window_range(array, 2, 98)[0]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=300),
    st.sampled_from([0.0, 0.5, 1.0, 5.0, 50.0]),
    st.sampled_from([np.float32, np.int16, np.float64]),
)
def test_the_low_percentile_is_numpys_to_the_bit(voxels, percent, dtype) -> None:
    values = np.array(voxels, dtype)
    expected = float(np.percentile(values, percent))
    assert _low_percentile(values, float(values.min()), percent) == expected


def test_a_blurred_edge_moves_the_foregrounds_low_end_and_not_the_volumes() -> None:
    """Thick slices fill the gap between air and tissue with values that count as foreground."""
    stripped = head(air=0.0)
    stripped[stripped < 20] = 0
    blurred = sum(np.roll(stripped, n, axis=0) for n in range(-2, 3)) / 5
    shift = {
        low_of: abs(
            window_range(blurred, low_of=low_of)[0] - window_range(stripped, low_of=low_of)[0]
        )
        for low_of in ("foreground", "volume")
    }
    assert shift["volume"] == 0
    assert shift["foreground"] > 5


def test_the_low_end_is_of_one_of_two_things() -> None:
    with pytest.raises(ValueError, match="not of 'brain'"):
        window_range(head(), low_of="brain")


def test_two_values_still_give_a_window() -> None:
    array = np.zeros((9, 9, 9), np.float32)
    array[3:6, 3:6, 3:6] = 5
    assert window_range(array) == (0.0, 5.0)


def test_apply_window_clips_and_scales() -> None:
    array = np.array([[[-5.0, 10.0, 15.0, 20.0, 99.0, np.nan]]])
    out = apply_window(array, (10, 20))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.ravel(), [0, 0, 0.5, 1, 1, 0])


def test_apply_window_can_work_in_place_and_leaves_its_input_alone_otherwise() -> None:
    array = head()
    before = array.copy()
    expected = apply_window(array, (20, 150))
    np.testing.assert_array_equal(array, before)
    assert apply_window(array, (20, 150), out=array) is array
    np.testing.assert_array_equal(array, expected)


def test_apply_window_takes_unsigned_integers_below_the_window() -> None:
    out = apply_window(np.array([[[0, 100, 200]]], np.uint8), (50, 150))
    np.testing.assert_allclose(out.ravel(), [0, 0.5, 1])


@pytest.mark.parametrize("limits", [(5, 5), (6, 5), (0, np.inf), (np.nan, 1)])
def test_apply_window_refuses_an_empty_window(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="window"):
        apply_window(head(), limits)


def test_a_whole_head_takes_well_under_a_second() -> None:
    array = np.tile(head((60, 70, 65)), (3, 3, 4))  # 9.8 million voxels
    started = time.process_time()
    window_range(array)
    assert time.process_time() - started < 1.0
