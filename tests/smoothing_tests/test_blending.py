"""Identities that blending must keep for every shape, window, overlap and set of symmetries."""

import threading
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothing.blending import blend, num_tiles, stream
from smoothing.errors import BlendingError, PredictorNumberError, PredictorShapeError
from smoothing.settings import Blending
from smoothing.streams import ArraySink, ArraySource
from smoothing.symmetries import SYMMETRIES
from smoothing.tiling import BORDERS
from smoothing.windows import WINDOWS

SIDES = st.sampled_from([1, 2, 3, 5, 7, 11, 13, 16, 23, 31, 47, 67, 89, 90, 149, 150])
EXACT = ("none", "flips", "d4")
SETTINGS = st.fixed_dictionaries(
    {
        "tile_px": st.sampled_from([1, 2, 7, 16, 31, 32]),
        "overlap": st.sampled_from([0.0, 0.25, 0.5, 0.7]),
        "symmetries": st.sampled_from(EXACT),
        "window": st.sampled_from(sorted(WINDOWS)),
        "power": st.sampled_from([None, 0.5, 3.0]),
        "borders": st.sampled_from(BORDERS),
        "average": st.sampled_from(["mean", "median"]),
        "batch_size": st.sampled_from([1, 3, 16]),
    }
)
ALL_SETTINGS = st.builds(
    lambda options, symmetries: {**options, "symmetries": symmetries}, SETTINGS, st.sampled_from(sorted(SYMMETRIES))
)
THOROUGH = settings(max_examples=60, deadline=None)


def random_image(height, width, bands=2, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, bands)).astype(np.float32)


def identity(tiles):
    return tiles


def crooked(tiles):
    """Neither linear nor the same after a turn, and every pixel depends on the whole tile."""
    rows = np.linspace(0.5, 2.0, tiles.shape[1], dtype=np.float32)[:, None, None]
    return np.tanh(tiles * rows) + np.maximum(tiles.mean(axis=2, keepdims=True), tiles[:, :1, :1])


def slow_enough(height, width, options):
    """Tiles of a pixel are only tried on small images, as there are so many of them."""
    return {**options, "tile_px": max(options["tile_px"], 7 if height * width > 400 else 1)}


@THOROUGH
@given(SIDES, st.sampled_from([1, 2, 5, 13, 37, 60, 89]), SETTINGS)
def test_the_identity_gives_the_image_back(height, width, options):
    image = random_image(height, width)
    np.testing.assert_allclose(blend(image, identity, **slow_enough(height, width, options)), image, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 500), st.sampled_from([0, 5, 16]), SETTINGS, st.data())
def test_the_identity_gives_images_of_any_size_back(height, width, margin_px, options, data):
    tile_px = data.draw(st.integers(60, 160)) + 2 * margin_px
    options = {**options, "tile_px": tile_px, "margin_px": margin_px, "overlap": min(0.5, options["overlap"])}
    first, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = data.draw(st.sampled_from([None, (slice(first, height), slice(left, width))]))
    image = np.abs(random_image(height, width, bands=1))

    def inner(tiles):
        return tiles[:, margin_px : tile_px - margin_px, margin_px : tile_px - margin_px]

    average = data.draw(st.sampled_from(["mean", "median", "geometric"]))
    result = blend(image, inner, region=region, **{**options, "average": average})
    np.testing.assert_allclose(result, image if region is None else image[region], atol=1e-5)


@THOROUGH
@given(SIDES, st.sampled_from([1, 3, 17, 61]), ALL_SETTINGS, st.sampled_from(["mean", "median", "geometric"]))
def test_a_constant_stays_constant_up_to_the_corners(height, width, options, average):
    options = {**slow_enough(height, width, options), "average": average}

    def constant(tiles):
        return np.full((*tiles.shape[:3], 3), 0.7, np.float32)

    result = blend(random_image(height, width), constant, **options)
    assert result.shape == (height, width, 3)
    np.testing.assert_allclose(result, 0.7, rtol=2e-6)


@THOROUGH
@given(SIDES, st.sampled_from([1, 3, 17, 61]), SETTINGS)
def test_linear_predictors_commute_with_blending(height, width, options):
    options = {**slow_enough(height, width, options), "average": "mean"}
    matrix = np.array([[0.3, -1.0, 2.0], [0.5, 0.25, -0.1]], np.float32)
    image = random_image(height, width)
    mixed = blend(image, lambda tiles: tiles @ matrix, **options)
    np.testing.assert_allclose(mixed, image @ matrix, atol=1e-5)


@THOROUGH
@given(st.data(), SIDES, st.sampled_from([1, 2, 5, 30, 61]), ALL_SETTINGS)
def test_turning_the_image_turns_the_result(data, height, width, options):
    """For any predictor, also one that is not the same after a turn, as tiles lie symmetrically."""
    options = slow_enough(height, width, options)
    if options["symmetries"] == "none":
        options = {**options, "symmetries": "d4"}
    view = data.draw(st.sampled_from(SYMMETRIES[options["symmetries"]].upright))

    def turn(array):
        return view.forward(array[None])[0]

    image = random_image(height, width)
    np.testing.assert_allclose(
        blend(turn(image), crooked, **options), turn(blend(image, crooked, **options)), atol=1e-5
    )


def test_every_pixel_is_the_weighted_mean_of_the_tiles_that_saw_it():
    """Against the definition, written out for a flat window and no symmetries on a grid that divides evenly."""
    image = random_image(12, 20)
    result = blend(image, crooked, tile_px=8, overlap=0.5, symmetries="none", window="flat")
    sums, counts = np.zeros_like(image), np.zeros((12, 20, 1))
    for top in (0, 4):
        for left in (0, 4, 8, 12):
            place = np.s_[top : top + 8, left : left + 8]
            sums[place] += crooked(image[place][None])[0]
            counts[place] += 1
    np.testing.assert_allclose(result, sums / counts, atol=1e-5)


def test_no_data_stays_no_data_and_is_not_predicted():
    image = random_image(40, 64)
    valid = np.zeros((40, 64), bool)
    valid[5:30, 3:20] = True
    image[~valid] = np.nan
    seen = []

    def spy(tiles):
        seen.extend(np.isfinite(tiles).any(axis=(1, 2, 3)))
        return tiles

    result = blend(image, spy, tile_px=8, overlap=0.5, symmetries="flips", valid=valid, batch_size=1)
    assert all(seen)
    np.testing.assert_allclose(result, image, atol=1e-5, equal_nan=True)


def test_an_image_without_data_gives_a_map_without_data():
    image = np.full((9, 13, 2), np.nan, np.float32)
    result = blend(
        image, lambda tiles: np.zeros((*tiles.shape[:3], 5), np.float32), tile_px=8, valid=np.zeros((9, 13), bool)
    )
    assert result.shape == (9, 13, 5)
    assert np.isnan(result).all()


def test_infinities_where_there_is_no_data_do_no_harm():
    image = random_image(20, 20)
    valid = np.ones((20, 20), bool)
    valid[3, 4] = valid[15, 2] = False
    image[3, 4], image[15, 2] = np.inf, (-np.inf, np.nan)
    result = blend(image, identity, tile_px=8, valid=valid)
    np.testing.assert_allclose(result[valid], image[valid], atol=1e-5)
    assert np.isnan(result[~valid]).all()


@pytest.mark.parametrize("symmetries", sorted(SYMMETRIES))
@pytest.mark.parametrize("average", ["mean", "median", "geometric"])
def test_infinities_that_cancel_out_where_there_is_no_data_are_not_told_of(symmetries, average):
    """NumPy would warn of them."""
    image = np.abs(random_image(20, 20))
    valid = np.ones((20, 20), bool)
    valid[3, 4] = valid[15, 2] = False
    image[~valid] = np.inf
    upper = (np.arange(8) < 4)[:, None, None]

    def torn(tiles):
        return np.where(np.isfinite(tiles), tiles, np.where(upper, np.float32(np.inf), np.float32(-np.inf)))

    result = blend(image, torn, tile_px=8, valid=valid, symmetries=symmetries, average=average)
    if symmetries != "d8":
        np.testing.assert_allclose(result[valid], image[valid], rtol=1e-5)
    assert np.isfinite(result[valid]).all()
    assert np.isnan(result[~valid]).all()


def test_the_last_batch_is_filled_up():
    sizes = set()
    blend(random_image(30, 50), lambda tiles: sizes.add(tiles.shape) or tiles, tile_px=16, batch_size=7)
    assert sizes == {(7, 16, 16, 2)}


def test_a_predictor_may_overwrite_its_tiles():
    def destructive(tiles):
        result = tiles.copy()
        tiles[:] = -99.0
        return result

    image = random_image(30, 17)
    np.testing.assert_allclose(blend(image, destructive, tile_px=8), image, atol=1e-5)


def test_a_read_only_prediction_is_left_alone():
    def frozen(tiles):
        tiles.setflags(write=False)
        return tiles

    image = random_image(30, 17)
    np.testing.assert_allclose(blend(image, frozen, tile_px=8), image, atol=1e-5)


def test_integer_memory_maps_are_read_tile_by_tile(tmp_path):
    values = np.random.default_rng(0).integers(0, 2047, (53, 31, 3)).astype(np.uint16)
    np.save(tmp_path / "cube.npy", values)
    mapped = np.load(tmp_path / "cube.npy", mmap_mode="r")
    np.testing.assert_allclose(blend(mapped, identity, tile_px=16), values, rtol=1e-5)


def test_progress_tells_tiles_done_and_all_tiles():
    told = []
    blend(
        random_image(40, 40),
        identity,
        tile_px=16,
        batch_size=8,
        progress=lambda done, total: told.append((done, total)),
    )
    totals = {total for _, total in told}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert totals == {told[-1][0]}


def test_a_wrong_shape_is_refused_with_both_shapes():
    with pytest.raises(PredictorShapeError, match=r"\(4, 16, 16, K\) .*Received \(4, 14, 16, 2\)"):
        blend(random_image(40, 40), lambda tiles: tiles[:, 1:-1], tile_px=16, batch_size=4)
    with pytest.raises(PredictorShapeError, match=r"Received \(4, 16, 16\)"):
        blend(random_image(40, 40), lambda tiles: tiles[..., 0], tile_px=16, batch_size=4)
    with pytest.raises(PredictorShapeError, match=r"Received \(\)"):
        blend(random_image(40, 40), lambda tiles: np.float32(1.0), tile_px=16, batch_size=4)


@pytest.mark.parametrize("said", [(tile for tile in ()), {"masks": 1}, "road", [[1], [1, 2]]])
def test_what_is_no_array_is_refused(said):
    with pytest.raises(PredictorShapeError, match=r"must return an array of numbers\. Received") as caught:
        blend(random_image(9, 9), lambda tiles: said, tile_px=8)
    assert type(said).__name__ in str(caught.value)


def test_images_of_which_a_part_would_be_lost_are_refused():
    image = random_image(9, 9)
    with pytest.raises(BlendingError, match="`valid`"):
        blend(np.ma.masked_less(image, 0.0), identity, tile_px=8)
    with pytest.raises(BlendingError, match=r"real numbers\. Received complex64"):
        blend(image.astype(np.complex64), identity, tile_px=8)


@pytest.mark.parametrize("symmetries", sorted(SYMMETRIES))
def test_what_is_below_0_where_there_is_no_data_does_a_geometric_mean_no_harm(symmetries):
    image = np.abs(random_image(20, 20)) + 0.1
    valid = np.ones((20, 20), bool)
    valid[3:6, 4] = valid[15, 2] = False

    def said(tiles):
        return np.where(tiles > 50.0, np.float32(-1.0), tiles)

    image[~valid] = 99.0
    options = {"tile_px": 8, "valid": valid, "average": "geometric", "symmetries": symmetries}
    expected = blend(image, lambda tiles: np.where(tiles > 50.0, np.float32(0.0), tiles), **options)
    np.testing.assert_array_equal(blend(image, said, **options), expected)
    inside = (slice(8, 13), slice(8, 13))
    assert (blend(image, said, **options, region=inside) > 0.0).all()
    image[10, 10] = 99.0
    with pytest.raises(BlendingError, match=r"not below 0\. Received -1 of the predictor"):
        blend(image, said, **options)


def test_a_changing_number_of_classes_is_refused():
    calls = []

    def fickle(tiles):
        calls.append(1)
        return tiles if len(calls) < 5 else tiles[..., :1]

    for symmetries in ("none", "d4"):
        calls.clear()
        with pytest.raises(PredictorShapeError, match=r"\(1, 16, 16, 2\) .*Received \(1, 16, 16, 1\)"):
            blend(random_image(40, 40), fickle, tile_px=16, batch_size=1, symmetries=symmetries)


@pytest.mark.parametrize("symmetries", sorted(SYMMETRIES))
@pytest.mark.parametrize("average", ["mean", "median", "geometric"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_is_reported_with_its_place(symmetries, average, bad):
    image = random_image(50, 70)
    valid = np.ones((50, 70), bool)
    valid[:40:3, 20:30] = False
    image[6, 25] = 1000.0
    image[33, 61, 1] = 1000.0

    def sick(tiles):
        return np.where(tiles > 500.0, np.float32(bad), np.abs(tiles))

    with pytest.raises(PredictorNumberError, match=r"of class 1 at \(row, column\) \(33, 61\)"):
        blend(image, sick, tile_px=16, symmetries=symmetries, average=average, valid=valid)
    region = (slice(20, 50), slice(10, 70))
    with pytest.raises(PredictorNumberError, match=r"of class 1 at \(row, column\) \(33, 61\)"):
        blend(image, sick, tile_px=16, symmetries=symmetries, average=average, region=region)


def test_a_number_that_is_bad_at_45_degrees_only_is_reported_near_its_place():
    image = np.zeros((50, 70, 1), np.float32)
    image[30:, 40:] = 1.0

    def sick(tiles):
        """Refuses what is neither 0 nor 1, which only turning by 45° makes."""
        return np.where(np.abs(tiles - 0.5) < 0.4, np.float32(np.nan), tiles)

    for average in ("mean", "median"):
        with pytest.raises(PredictorNumberError, match=r"of class 0 near \(row, column\) \((2[89]|3\d|4\d), "):
            blend(image, sick, tile_px=16, symmetries="d8", average=average)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_px": 0}, "`tile_px`"),
        ({"tile_px": True}, "`tile_px` must be a whole number. Received True"),
        ({"tile_px": 10**9}, "`tile_px` must be at most 32768. Received 1000000000"),
        ({"overlap": 1.0}, r"`overlap` must be in \[0, 1\)"),
        ({"overlap": -0.1}, "`overlap`"),
        ({"symmetries": "d3"}, "none, flips, d4, d8"),
        ({"average": "mode"}, "mean, geometric, median"),
        ({"window": "round"}, "spline, hann, gaussian, cosine, flat"),
        ({"power": 0.0}, "`power` must be a number above 0. Received 0.0"),
        ({"power": float("inf")}, "`power` must be a number above 0"),
        ({"borders": "open"}, "snap, beyond"),
        ({"region": (slice(0, 10), slice(0, 9))}, "`region` must be two slices within the image of 9 x 9 px"),
        ({"region": (slice(3, 3), slice(0, 9))}, "`region`"),
        ({"region": (slice(0, 9, 2), slice(0, 9))}, "`region`"),
        ({"region": (0, 5)}, "`region`"),
        ({"region": (slice(0, 5),)}, "`region`"),
        ({"region": (slice(0.0, 5.0), slice(0, 5))}, "`region`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"tile_px": 8.0}, "`tile_px` must be a whole number. Received 8.0"),
        ({"margin_px": "1"}, "`margin_px` must be a whole number"),
        ({"batch_size": None}, "`batch_size` must be a whole number"),
        ({"overlap": None}, "`overlap` must be a number. Received None"),
        ({"power": "2"}, "`power` must be a number"),
        ({"symmetries": ["d4"]}, "`symmetries` must be a name"),
        ({"valid": np.ones((3, 3), bool)}, "`valid`"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(options, message):
    with pytest.raises(BlendingError, match=message) as caught:
        blend(random_image(9, 9), identity, **{"tile_px": 8, **options})
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("shape", [(9, 9), (0, 9, 1), (9, 9, 0)])
def test_an_image_without_pixels_or_bands_is_refused(shape):
    with pytest.raises(BlendingError, match="`image`"):
        blend(np.zeros(shape, np.float32), identity, tile_px=8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[[1.0]]], r"`image` must be an array \(H, W, B\)\. Received list"),
        (None, "Received NoneType"),
        (np.full((9, 9, 1), "1"), "`image` must hold real numbers. Received <U1"),
        (np.zeros((9, 9, 1), "datetime64[s]"), "`image` must hold real numbers. Received datetime64"),
        (np.zeros((9, 9, 1), object), "`image` must hold real numbers. Received object"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(BlendingError, match=message):
        blend(image, identity, tile_px=8)


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        ([[True]], r"`valid` must be a plain array of bool\. Received list"),
        (True, "Received bool"),
        (np.ma.ones((9, 9), bool), "Received MaskedArray"),
        (np.full((9, 9), "False"), r"`valid` must be an array of bool\. Received <U5"),
        (np.full((9, 9), np.nan), "Received float64"),
        (np.ones((9, 8), bool), r"`valid` must have the shape \(9, 9\) of the image\. Received \(9, 8\)"),
    ],
)
def test_what_does_not_tell_where_there_is_data_is_refused(valid, message):
    with pytest.raises(BlendingError, match=message):
        blend(random_image(9, 9), identity, tile_px=8, valid=valid)
    with pytest.raises(BlendingError, match=message):
        num_tiles((9, 9), tile_px=8, valid=valid)

    class Wrong(Slow):
        def read(self, rows):
            return super().read(rows)[0], valid

    with pytest.raises(BlendingError, match=r"`valid` must"):
        stream(Wrong(random_image(9, 9)), identity, Rows(), Blending(tile_px=8))


def test_a_stream_refuses_what_does_not_belong_together():
    image, blending = ArraySource(random_image(9, 9)), Blending(tile_px=8)
    with pytest.raises(BlendingError, match=r"The sink must have the 9 rows of the map\. Received 8"):
        stream(image, identity, ArraySink(8), blending)
    with pytest.raises(BlendingError, match=r"`first_row` must be in the map of 9 rows\. Received 1\.5"):
        stream(image, identity, ArraySink(9), blending, first_row=1.5)
    with pytest.raises(BlendingError, match=r"`predict` must be a function of tiles\. Received NoneType"):
        stream(image, None, ArraySink(9), blending)
    with pytest.raises(BlendingError, match=r"`shape` must be \(H, W, \.\.\.\) with no side of 0\. Received \(9,\)"):
        num_tiles((9,), tile_px=8)


def test_narrow_numbers_of_numpy_are_sizes_too():
    image = random_image(300, 40)
    sizes = {"tile_px": np.uint8(200), "margin_px": np.int8(60), "batch_size": np.uint8(3)}

    def inner(tiles):
        return tiles[:, 60:-60, 60:-60]

    np.testing.assert_allclose(blend(image, inner, **sizes), image, atol=1e-5)


@THOROUGH
@given(SIDES, st.sampled_from([1, 2, 5, 13, 37, 60, 89]), SETTINGS, st.sampled_from([1, 3, 8]))
def test_a_predictor_with_a_margin_gives_the_image_back(height, width, options, margin_px):
    options = slow_enough(height, width, options)
    options["tile_px"] += 2 * margin_px
    image = random_image(height, width)

    def inner(tiles):
        return tiles[:, margin_px:-margin_px, margin_px:-margin_px]

    np.testing.assert_allclose(blend(image, inner, margin_px=margin_px, **options), image, atol=1e-5)


def test_a_margin_shows_the_neighbours_and_beyond_the_border_the_mirrored_image():
    image = np.arange(30, dtype=np.float32)[None, :, None] * np.ones((30, 1, 1), np.float32)
    seen = []

    def inner(tiles):
        seen.extend(tiles[:, 0, :, 0].tolist())
        return tiles[:, 4:-4, 4:-4]

    blend(image, inner, tile_px=18, margin_px=4, overlap=0.0, symmetries="none", window="flat", batch_size=1)

    assert [4, 3, 2, 1, *range(14)] in seen
    assert list(range(6, 24)) in seen
    assert [*range(16, 30), 28, 27, 26, 25] in seen


@pytest.mark.parametrize("margin_px", [-1, 8, 20])
def test_a_margin_must_leave_something_of_the_tile(margin_px):
    with pytest.raises(BlendingError, match="`margin_px` must leave something of a tile of 16 px"):
        blend(random_image(20, 20), identity, tile_px=16, margin_px=margin_px)


def smooth_image(height, width):
    y, x = np.mgrid[:height, :width] / 20.0
    return np.stack([np.sin(x) * np.cos(y), np.cos(0.7 * x + y)], axis=-1).astype(np.float32)


@pytest.mark.parametrize("average", ["mean", "median"])
@pytest.mark.parametrize("shape", [(90, 131), (31, 67), (8, 5)])
@pytest.mark.parametrize("margin_px", [0, 5])
def test_turns_by_45_degrees_give_a_smooth_image_back_within_what_interpolation_loses(average, shape, margin_px):
    image = smooth_image(*shape)

    def inner(tiles):
        return tiles[:, margin_px : tiles.shape[1] - margin_px, margin_px : tiles.shape[1] - margin_px]

    result = blend(image, inner, tile_px=32, margin_px=margin_px, symmetries="d8", average=average)
    # A straight line between pixels misses a wave of 20 px per radian by 1 / 8 / 400; there and back, along both axes.
    np.testing.assert_allclose(result[2:-2, 2:-2], image[2:-2, 2:-2], atol=0.003)
    np.testing.assert_allclose(result, image, atol=0.03)


def test_a_view_at_45_degrees_says_nothing_of_what_it_did_not_see():
    """A predictor that knows only how far a pixel lies from the middle of what it sees."""
    places = np.abs(np.arange(33) - 16)
    distance = np.maximum(places[:, None], places)[None, :, :, None].astype(np.float32)

    def said(tiles):
        return np.broadcast_to(distance, (*tiles.shape[:3], 1))

    result = blend(np.zeros((33, 33, 1), np.float32), said, tile_px=33, symmetries="d8", window="flat")
    # At the middle of a side both see: upright it is at the border, at 45° on the way to it.
    y, x = np.mgrid[-16:17, -16:17]
    upright, diagonal = np.maximum(abs(y), abs(x)), (abs(y) + abs(x)) * np.sqrt(0.5)
    mean = np.where(diagonal <= 16, (upright + diagonal) / 2, upright)
    # Between pixels a fold is cut straight.
    np.testing.assert_allclose(result[..., 0], mean, atol=0.3)
    np.testing.assert_allclose(result[[0, 0, -1, -1], [0, -1, 0, -1], 0], 16.0, rtol=1e-6)


def test_without_data_nothing_spreads_through_turns_by_45_degrees():
    image = smooth_image(90, 130)
    valid = np.ones((90, 130), bool)
    valid[20:50, 30:70] = valid[60, 60] = False
    holey = np.where(valid[..., None], image, np.float32(np.nan))
    for average in ("mean", "median"):
        result = blend(holey, identity, tile_px=32, symmetries="d8", valid=valid, average=average)
        assert np.isnan(result[~valid]).all()
        np.testing.assert_allclose(result[valid], image[valid], atol=0.03)


@THOROUGH
@given(SIDES, st.sampled_from([1, 5, 37, 60]), SETTINGS, st.data())
def test_a_region_with_real_neighbours_gives_its_part_of_the_image_back(height, width, options, data):
    options = slow_enough(height, width, options)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = (slice(top, data.draw(st.integers(top + 1, height))), slice(left, data.draw(st.integers(left + 1, width))))
    image = random_image(height, width)
    result = blend(image, identity, region=region, **options)
    np.testing.assert_allclose(result, image[region], atol=1e-5)


def test_tiles_at_the_border_of_a_region_see_what_lies_beyond():
    image = np.arange(60, dtype=np.float32)[None, :, None] * np.ones((60, 1, 1), np.float32)
    seen = []

    def inner(tiles):
        seen.extend(tiles[:, 0, :, 0].tolist())
        return tiles[:, 4:-4, 4:-4]

    region = (slice(20, 40), slice(20, 40))
    blend(image, inner, tile_px=18, margin_px=4, symmetries="none", batch_size=1, region=region)
    assert list(range(16, 34)) in seen
    assert list(range(26, 44)) in seen
    seen.clear()
    blend(image, inner, tile_px=18, margin_px=4, symmetries="none", batch_size=1, region=region, borders="beyond")
    assert list(range(11, 29)) in seen


def test_the_geometric_mean_and_the_median_are_those_of_the_views():
    image = np.abs(random_image(16, 16)) + 0.1

    def slanted(tiles):
        return tiles * np.linspace(0.5, 2.0, 16, dtype=np.float32)[:, None, None]

    views = SYMMETRIES["d4"].upright
    said = np.stack([view.inverse(slanted(view.forward(image[None])))[0] for view in views])
    for average, oracle in (
        ("mean", said.mean(axis=0)),
        ("geometric", np.prod(said.astype(np.float64), axis=0) ** (1 / 8)),
        ("median", np.median(said, axis=0)),
    ):
        np.testing.assert_allclose(blend(image, slanted, tile_px=16, average=average), oracle, rtol=1e-5)


def test_of_a_geometric_mean_one_zero_makes_zero_and_less_is_refused():
    image = np.ones((16, 16, 1), np.float32)
    image[3, 5] = 0.0
    result = blend(image, identity, tile_px=8, average="geometric")
    np.testing.assert_allclose(result, image, atol=1e-6)
    with pytest.raises(BlendingError, match=r"not below 0\. Received -1 of the predictor"):
        blend(-image, identity, tile_px=8, average="geometric")


def test_one_side_says_nothing_less_with_a_window_of_any_power():
    image = random_image(60, 40)
    for window in WINDOWS:
        np.testing.assert_allclose(blend(image, identity, tile_px=16, window=window, power=300.0), image, rtol=1e-4)


class Slow(ArraySource):
    """An image that is read once, row by row."""

    is_slow = True

    def __init__(self, image, valid=None):
        super().__init__(image, valid)
        self.reads = []

    def read(self, rows):
        self.reads.append((rows.start, rows.stop))
        return super().read(rows)


class Rows:
    """Takes note of what it gets; unlike an array it has no memory where a map could be summed up."""

    def __init__(self):
        self.places = []
        self._parts = []

    @property
    def result(self):
        return np.concatenate(self._parts)

    def write(self, first_row, rows):
        self.places.append((first_row, first_row + len(rows)))
        self._parts.append(rows.copy())


@THOROUGH
@given(SIDES, st.sampled_from([1, 5, 37, 60]), ALL_SETTINGS, st.sampled_from([0, 3]), st.booleans(), st.integers(0, 9))
def test_a_stream_is_the_map_of_the_whole_image(height, width, options, margin_px, is_holey, seed):
    options = slow_enough(height, width, options)
    options = {**options, "tile_px": options["tile_px"] + 2 * margin_px, "margin_px": margin_px}
    image = random_image(height, width)
    rng = np.random.default_rng(seed)
    valid = rng.random((height, 1)) * rng.random((1, width)) > 0.3 if is_holey else None

    def inner(tiles):
        side = tiles.shape[1] - margin_px
        return crooked(tiles)[:, margin_px:side, margin_px:side]

    source, sink = Slow(image, valid), Rows()
    stream(source, inner, sink, Blending(**options))
    np.testing.assert_array_equal(sink.result, blend(image, inner, valid=valid, **options))
    edges = [0, *(stop for _, stop in sink.places)]
    assert sink.places == list(pairwise(edges))
    assert edges[-1] == height


@pytest.mark.parametrize("borders", BORDERS)
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("symmetries", ["d4", "d8"])
def test_a_stream_reads_no_row_twice_and_never_much_at_a_time(borders, overlap, symmetries):
    source, sink = Slow(random_image(500, 30)), Rows()
    options = {"tile_px": 32, "borders": borders, "overlap": overlap, "symmetries": symmetries}
    stream(source, identity, sink, Blending(**options, batch_size=2))
    assert source.reads[0][0] == 0
    assert [start for start, _ in source.reads[1:]] == [stop for _, stop in source.reads[:-1]]
    assert source.reads[-1][1] == 500
    reach_px = Blending(**options).reach_px
    assert max(stop - start for start, stop in source.reads) <= 32 + 2 * reach_px
    assert max(stop - start for start, stop in sink.places) <= 64


@pytest.mark.parametrize("batch_size", [1, 50])
def test_where_data_is_sparse_few_rows_are_open(batch_size):
    """Tiles that wait for others to fill their batch would keep the whole map in memory."""
    valid = np.zeros((4000, 40), bool)
    valid[::400, 3] = True
    sink = Rows()
    stream(Slow(np.ones((4000, 40, 1), np.float32), valid), identity, sink, Blending(tile_px=16, batch_size=batch_size))
    np.testing.assert_array_equal(sink.result[..., 0], np.where(valid, 1.0, np.nan))
    assert max(stop - start for start, stop in sink.places) <= 16 * (3 + batch_size // 4)


@pytest.mark.parametrize("first_row", [0, 100])
@pytest.mark.parametrize("begin", [3500, 4000])
def test_rows_without_data_before_the_first_tile_are_not_kept(first_row, begin):
    """They could not be given away as long as nobody knows how many classes there are."""
    valid = np.zeros((4000, 40), bool)
    valid[begin:] = True
    sink = Rows()
    blending = Blending(tile_px=16, batch_size=3)
    stream(Slow(np.ones((4000, 40, 1), np.float32), valid), identity, sink, blending, first_row=first_row)
    expected = np.where(valid, 1.0, np.nan)
    np.testing.assert_allclose(sink.result[..., 0], expected[first_row:], rtol=1e-6)
    assert sink.places == list(pairwise([first_row, *(stop for _, stop in sink.places)]))
    assert max(stop - start for start, stop in sink.places) <= 256
    assert len(sink.places) < 120


def test_rows_are_read_ahead_and_written_behind():
    """Each waits for what only the other's going on at the same time can bring."""
    read, predicted = threading.Event(), [threading.Event() for _ in range(5)]

    class Ahead(Slow):
        def read(self, rows):
            if rows.start >= 16:
                read.set()
            return super().read(rows)

    class Late(Rows):
        def write(self, first_row, rows):
            # The rows after these are predicted meanwhile, and divided, which does these no harm.
            assert predicted[min(first_row // 16 + 2, 4)].wait(20.0)
            time.sleep(0.02)
            super().write(first_row, rows)

    num_calls = 0

    def predict(tiles):
        nonlocal num_calls
        num_calls += 1
        assert num_calls > 1 or read.wait(20.0)
        predicted[num_calls - 1].set()
        return tiles

    image, sink = random_image(80, 16), Late()
    stream(Ahead(image), predict, sink, Blending(tile_px=16, overlap=0.0, symmetries="none", batch_size=1))
    np.testing.assert_allclose(sink.result, image, atol=1e-6)
    assert not [each.name for each in threading.enumerate() if each.name.startswith(("read-rows", "write-rows"))]


@pytest.mark.parametrize("symmetries", SYMMETRIES)
@pytest.mark.parametrize("average", ["mean", "geometric", "median"])
@pytest.mark.parametrize("place", [(3, 4), (50, 25), (99, 49)])
def test_a_hole_changes_nothing_elsewhere(symmetries, average, place):
    """Rows of tiles that have data everywhere are weighed at once, others tile by tile."""
    image, valid = random_image(100, 50), np.ones((100, 50), bool)
    valid[place] = False
    options = {"tile_px": 16, "symmetries": symmetries, "average": average, "window": "gaussian"}

    def positive(tiles):
        return np.abs(crooked(tiles))

    holey = blend(image, positive, valid=valid, **options)
    whole = blend(image, positive, **options)
    assert np.isnan(holey[~valid]).all()
    rows, columns = np.indices(valid.shape)
    # Views at 45° are shown 0 there, which tells on what a tile that sees it predicts.
    alike = np.hypot(rows - place[0], columns - place[1]) > 40.0 if symmetries == "d8" else valid
    np.testing.assert_allclose(holey[alike], whole[alike], atol=1e-5)


@pytest.mark.parametrize("first_row", [0, 1, 8, 37, 99, 100])
@pytest.mark.parametrize("symmetries", ["none", "d8"])
def test_a_stream_that_goes_on_gives_the_rows_that_were_missing(first_row, symmetries):
    image = random_image(100, 50)
    options = {"tile_px": 16, "symmetries": symmetries, "batch_size": 5}
    whole, calls = blend(image, crooked, **options), []

    def counted(tiles):
        calls.append(1)
        return crooked(tiles)

    sink = Rows()
    stream(Slow(image), counted, sink, Blending(**options), first_row=first_row)
    if first_row < 100:
        np.testing.assert_allclose(sink.result, whole[first_row:], atol=1e-6)
        assert sink.places[0][0] == first_row
        begun = ArraySink(100)
        for rows in (np.full_like(whole, 7.0), whole[:first_row]):
            begun.write(0, rows)
        stream(ArraySource(image), crooked, begun, Blending(**options), first_row=first_row)
        np.testing.assert_allclose(begun.result, whole, atol=1e-6)
    else:
        assert not sink.places
        assert not calls
    if first_row >= 37:
        assert len(calls) < 0.75 * SYMMETRIES[symmetries].num_views * -(-num_tiles((100, 50), tile_px=16) // 5)


@pytest.mark.parametrize("symmetries", sorted(SYMMETRIES))
@pytest.mark.parametrize("average", ["mean", "median", "geometric"])
@pytest.mark.parametrize(("num_bands", "num_classes"), [(20, 1), (3, 20)])
def test_a_batch_takes_the_memory_that_is_told(symmetries, average, num_bands, num_classes):
    class Nowhere:
        def write(self, first_row, rows):
            pass

    image = np.ones((130, 64, num_bands), np.float32)
    blending = Blending(tile_px=64, batch_size=32, symmetries=symmetries, average=average)
    told = blending.batch_bytes(num_bands, num_classes)
    tracemalloc.start()
    try:
        stream(ArraySource(image), lambda tiles: tiles[..., :1].repeat(num_classes, -1), Nowhere(), blending)
        assert 0.5 * told < tracemalloc.get_traced_memory()[1] < 1.1 * told
    finally:
        tracemalloc.stop()


def test_tiles_with_data_are_counted():
    valid = np.zeros((64, 48), bool)
    assert num_tiles((64, 48), tile_px=16) == 7 * 5
    assert num_tiles((64, 48), tile_px=16, valid=valid) == 0
    valid[20, 20] = True
    assert num_tiles((64, 48), tile_px=16, valid=valid) == 4
    # One more tile at either end, half of it beyond the image.
    assert num_tiles((64, 48), tile_px=16, borders="beyond") == 9 * 7
    assert num_tiles((64, 48), tile_px=16, borders="beyond", valid=valid) == 4
    with pytest.raises(BlendingError, match=r"`valid` must have the shape \(64, 48\) of the image"):
        num_tiles((64, 48), tile_px=16, valid=valid.T)


def test_a_stream_goes_on_only_within_its_map():
    with pytest.raises(BlendingError, match=r"`first_row` must be in the map of 40 rows\. Received 41"):
        stream(Slow(random_image(40, 9)), identity, Rows(), Blending(tile_px=8), first_row=41)


@pytest.mark.parametrize("wrong", ["read", "write"])
def test_what_goes_wrong_with_reading_and_writing_is_told(wrong):
    class Failing(Slow):
        def read(self, rows):
            if wrong == "read" and rows.start > 40:
                raise OSError("the disk is gone")
            return super().read(rows)

    class Full(Rows):
        def write(self, first_row, rows):
            if wrong == "write" and first_row > 40:
                raise OSError("the disk is gone")
            super().write(first_row, rows)

    sink = Full()
    with pytest.raises(OSError, match="the disk is gone"):
        stream(Failing(random_image(200, 20)), identity, sink, Blending(tile_px=16, batch_size=2))
    assert sink.places
    assert sink.places[-1][1] < 200
    assert not [each.name for each in threading.enumerate() if each.name.startswith(("read-rows", "write-rows"))]


def test_progress_ends_with_all_tiles_also_where_some_have_no_data():
    valid = np.zeros((200, 40), bool)
    valid[50:90] = True
    told = []
    blend(random_image(200, 40), identity, tile_px=16, valid=valid, progress=lambda *each: told.append(each))
    assert told == sorted(set(told))
    assert told[-1][0] == told[-1][1] == num_tiles((200, 40), tile_px=16)
    assert len(told) > 3
