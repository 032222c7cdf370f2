import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothing.symmetries import SYMMETRIES
from smoothing.tiling import Span, spans
from smoothing.windows import WINDOWS, window_weights


@given(st.integers(1, 400), st.integers(1, 90), st.floats(0.0, 0.95))
def test_tiles_cover_the_axis_symmetrically_with_at_least_the_overlap(length, tile, overlap):
    tiles = spans(length, tile, overlap)
    starts = [span.start for span in tiles]
    gaps = np.diff(starts)
    covered = np.concatenate([np.arange(length)[span.in_image] for span in tiles])
    assert set(covered) == set(range(length))
    assert (gaps >= 1).all()
    assert (gaps <= max(1, round(tile * (1 - overlap)))).all()
    assert [length - tile - start for start in reversed(starts)] == starts
    if length >= tile:
        assert not any(span.sticks_out for span in tiles)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(-60, 60))
def test_beyond_the_border_the_image_is_mirrored(length, tile, start):
    """NumPy's reflection of a far larger surrounding is the oracle."""
    reach = 200
    oracle = np.pad(np.arange(length), reach, mode="reflect")[reach + start : reach + start + tile]
    np.testing.assert_array_equal(Span(start, tile, length).seen, oracle)


@pytest.mark.parametrize("name", sorted(WINDOWS))
@pytest.mark.parametrize("tile_px", [1, 2, 3, 8, 127, 512])
def test_windows_are_positive_symmetric_and_highest_in_the_middle(name, tile_px):
    weights = window_weights(name, tile_px)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    assert weights.max() <= 1
    for turned in (weights[::-1], weights[:, ::-1], weights.T):
        np.testing.assert_array_equal(weights, turned)
    assert (np.diff(weights[tile_px // 2, : (tile_px + 1) // 2]) >= 0).all()


@pytest.mark.parametrize("name", ["spline", "hann"])
def test_at_half_overlap_the_windows_add_up_to_one(name):
    """What makes them smooth: halves of neighbours complement each other."""
    profile = window_weights(name, 64)[:, 32].astype(np.float64)
    profile /= np.sqrt(window_weights(name, 64)[32, 32].astype(np.float64))
    np.testing.assert_allclose(profile[:32] + profile[32:], 1.0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(SYMMETRIES))
def test_symmetries_are_undone_by_their_inverse(name):
    tiles = np.random.default_rng(0).normal(size=(3, 5, 5, 2)).astype(np.float32)
    for view in SYMMETRIES[name]:
        np.testing.assert_array_equal(view.inverse(view.forward(tiles)), tiles)
        np.testing.assert_array_equal(view.forward(view.inverse(tiles)), tiles)


@pytest.mark.parametrize(("name", "number"), [("none", 1), ("flips", 4), ("d4", 8)])
def test_symmetries_are_all_different_and_closed(name, number):
    tile = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    images = {view.forward(tile).tobytes() for view in SYMMETRIES[name]}
    twice = {one.forward(other.forward(tile)).tobytes() for one in SYMMETRIES[name] for other in SYMMETRIES[name]}
    assert len(images) == number
    assert twice == images
