import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import affine_transform
from scipy.signal.windows import gaussian, hann, tukey

from smoothing.diagonals import Turn, reach_px
from smoothing.symmetries import SYMMETRIES
from smoothing.tiling import BORDERS, Axis, Span, spans
from smoothing.windows import WINDOWS, window_weights


@given(st.integers(1, 400), st.integers(1, 90), st.floats(0.0, 0.95), st.sampled_from(BORDERS))
def test_tiles_cover_the_axis_symmetrically_with_at_least_the_overlap(length, tile, overlap, borders):
    tiles = spans(Axis(length, 0, length), tile, overlap, borders)
    starts = [span.start for span in tiles]
    gaps = np.diff(starts)
    covered = np.concatenate([np.arange(length)[span.in_image] for span in tiles])
    assert set(covered) == set(range(length))
    assert (gaps >= 1).all()
    assert ((tile - gaps >= overlap * tile - 1e-6) | (gaps == 1)).all()
    assert [length - tile - start for start in reversed(starts)] == starts
    if length >= tile and borders == "snap":
        assert not any(span.sticks_out for span in tiles)


@pytest.mark.parametrize(("tile", "overlap", "stride"), [(100, 0.9, 10), (131, 0.5, 65), (128, 0.3, 89), (10, 0.0, 10)])
def test_tiles_are_no_closer_than_their_overlap_asks_for(tile, overlap, stride):
    length = tile + 6 * stride
    assert [span.start for span in spans(Axis(length, 0, length), tile, overlap)] == list(range(0, 7 * stride, stride))


@given(st.integers(30, 300), st.sampled_from([10, 16, 20]), st.sampled_from([0.25, 0.5]))
def test_tiles_beyond_the_borders_see_border_pixels_as_often_as_others(length, tile, overlap):
    tiles = spans(Axis(length, 0, length), tile, overlap, "beyond")
    times = np.zeros(length, int)
    for span in tiles:
        times[span.in_image] += 1
    assert times[[0, -1]].min() >= times.min() >= (2 if overlap == 0.5 else 1)
    assert tiles[0].start == -math.ceil(tile * overlap)


@given(st.integers(1, 300), st.data(), st.integers(1, 60))
def test_what_is_mapped_of_an_axis_is_tiled_as_an_image_of_that_length(length, data, tile):
    first = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(first + 1, length))
    part, whole = spans(Axis(length, first, stop), tile, 0.5), spans(Axis(stop - first, 0, stop - first), tile, 0.5)
    assert [span.start - first for span in part] == [span.start for span in whole]
    assert [span.in_map for span in part] == [span.in_map for span in whole]
    assert [span.in_tile for span in part] == [span.in_tile for span in whole]


@given(st.integers(1, 40), st.integers(1, 60), st.integers(-60, 60))
def test_beyond_the_border_the_image_is_mirrored(length, tile, start):
    """NumPy's reflection of a far larger surrounding is the oracle."""
    reach = 200
    oracle = np.pad(np.arange(length), reach, mode="reflect")[reach + start : reach + start + tile]
    span = Span(start, tile, Axis(length, 0, length))
    np.testing.assert_array_equal(span.seen, oracle)
    assert span.needed == slice(oracle.min(), oracle.max() + 1)


@pytest.mark.parametrize("name", sorted(WINDOWS))
@pytest.mark.parametrize("tile_px", [1, 2, 3, 8, 127, 512])
@pytest.mark.parametrize("power", [None, 0.5, 3.0, 200.0])
def test_windows_are_positive_symmetric_and_highest_in_the_middle(name, tile_px, power):
    weights = window_weights(name, tile_px, power=power)
    assert weights.dtype == np.float32
    assert weights.min() >= np.finfo(np.float32).tiny
    assert weights.max() <= 1
    for turned in (weights[::-1], weights[:, ::-1], weights.T):
        np.testing.assert_array_equal(weights, turned)
    assert (np.diff(weights[tile_px // 2, : (tile_px + 1) // 2]) >= 0).all()


def profile(name, tile_px, **options):
    """The weights along the middle of a tile, the highest of them 1."""
    weights = window_weights(name, tile_px, **options)[tile_px // 2].astype(np.float64)
    return weights / weights.max()


@pytest.mark.parametrize(("name", "overlap"), [("spline", 0.5), ("hann", 0.5), ("cosine", 0.5), ("cosine", 0.25)])
def test_over_what_neighbours_share_their_windows_add_up_to_one(name, overlap):
    """What makes them smooth."""
    weights, shared = profile(name, 4096, overlap=overlap), round(4096 * overlap)
    np.testing.assert_allclose(weights[:shared] + weights[-shared:], 1.0, atol=1e-6)
    np.testing.assert_allclose(weights[shared : 4096 - shared], 1.0, atol=1e-6)


def test_windows_are_those_of_scipy():
    middle = (np.arange(64) + 0.5) / 64
    np.testing.assert_allclose(profile("gaussian", 64), gaussian(64, 8) / gaussian(64, 8).max(), rtol=1e-5)
    # SciPy's windows end at 0: ours are theirs between their samples.
    np.testing.assert_allclose(profile("hann", 64), np.interp(middle * 6400, np.arange(6401), hann(6401)), rtol=2e-3)
    np.testing.assert_allclose(
        profile("cosine", 64, overlap=0.2), np.interp(middle * 6400, np.arange(6401), tukey(6401, 0.4)), rtol=1e-3
    )


@pytest.mark.parametrize("name", ["hann", "gaussian", "cosine"])
def test_a_power_is_one_of_the_weights(name):
    np.testing.assert_allclose(profile(name, 33, power=2.5), profile(name, 33) ** 2.5, rtol=1e-5, atol=1e-9)


def test_a_squared_spline_is_two_parabolas_and_a_higher_power_steeper():
    assert profile("spline", 8, power=2.0)[:4] == pytest.approx(np.array([1 / 32, 9 / 32, 23 / 32, 31 / 32]) * 32 / 31)
    assert profile("spline", 8, power=4.0)[0] < profile("spline", 8)[0]


def test_tiles_that_lie_one_way_are_turned_further_to_lie_another():
    tiles = np.arange(2 * 3 * 3 * 2).reshape(2, 3, 3, 2)
    for view in SYMMETRIES["d4"].upright:
        for other in SYMMETRIES["d4"].upright:
            further = view.relative_to(other)
            np.testing.assert_array_equal(further.forward(other.forward(tiles)), view.forward(tiles))
            assert further.lies_across == (view.lies_across != other.lies_across)


@pytest.mark.parametrize("name", sorted(SYMMETRIES))
def test_symmetries_are_undone_by_their_inverse(name):
    tiles = np.random.default_rng(0).normal(size=(3, 5, 5, 2)).astype(np.float32)
    for view in SYMMETRIES[name].upright:
        np.testing.assert_array_equal(view.inverse(view.forward(tiles)), tiles)
        np.testing.assert_array_equal(view.forward(view.inverse(tiles)), tiles)


@pytest.mark.parametrize(("name", "number"), [("none", 1), ("flips", 4), ("d4", 8), ("d8", 16)])
def test_symmetries_are_all_different_and_closed(name, number):
    tile = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    views = SYMMETRIES[name].upright
    images = {view.forward(tile).tobytes() for view in views}
    twice = {one.forward(other.forward(tile)).tobytes() for one in views for other in views}
    assert len(images) == len(views)
    assert SYMMETRIES[name].num_views == number
    assert SYMMETRIES[name].diagonal in ((), views)
    assert twice == images


@pytest.mark.parametrize("tile_px", [1, 2, 7, 16, 33])
def test_a_tile_at_45_degrees_is_seen_as_scipy_turns_it(tile_px):
    """With as much around it as its corners reach."""
    side = tile_px + 2 * reach_px(tile_px)
    image = np.random.default_rng(0).normal(size=(1, side, side, 2)).astype(np.float32)
    half = np.sqrt(0.5)
    matrix = np.array([[half, half], [-half, half]])
    offset = (side - 1) / 2 - matrix @ np.full(2, (tile_px - 1) / 2)
    oracle = [affine_transform(image[0, ..., k], matrix, offset, (tile_px, tile_px), order=1) for k in range(2)]
    turn = Turn(side, tile_px)
    assert turn.sees.all()
    np.testing.assert_allclose(turn.apply(image)[0], np.stack(oracle, axis=-1), atol=1e-5)


def test_what_is_turned_and_turned_back_is_where_it_was():
    y, x = np.mgrid[:47, :47] / 15.0
    image = (np.sin(x) * np.cos(0.7 * y) + 0.3 * x)[None, :, :, None].astype(np.float32)
    tile_px = 47 - 2 * 8
    assert reach_px(tile_px) <= 8
    there, back = Turn(47, tile_px), Turn(tile_px, tile_px, backwards=True)
    found = back.apply(there.apply(image))[0, ..., 0]
    np.testing.assert_allclose(found[back.sees], image[0, 8:-8, 8:-8, 0][back.sees], atol=0.005)
    assert not found[~back.sees].any()
    assert back.sees.mean() == pytest.approx(2 * np.sqrt(2) - 2, abs=0.03), "an octagon is in both squares"
