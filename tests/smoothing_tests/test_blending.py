"""Identities that blending must keep for every shape, window, overlap and set of symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothing.blending import blend
from smoothing.errors import BlendingError, PredictorNumberError, PredictorShapeError
from smoothing.symmetries import SYMMETRIES
from smoothing.windows import WINDOWS

SIDES = st.sampled_from([1, 2, 3, 5, 7, 11, 13, 16, 23, 31, 47, 67, 89, 90, 149, 150])
SETTINGS = st.fixed_dictionaries(
    {
        "tile_px": st.sampled_from([1, 2, 7, 16, 31, 32]),
        "overlap": st.sampled_from([0.0, 0.25, 0.5, 0.7]),
        "symmetries": st.sampled_from(sorted(SYMMETRIES)),
        "window": st.sampled_from(sorted(WINDOWS)),
        "batch_size": st.sampled_from([1, 3, 16]),
    }
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


@THOROUGH
@given(SIDES, st.sampled_from([1, 3, 17, 61]), SETTINGS)
def test_a_constant_stays_constant_up_to_the_corners(height, width, options):
    options = slow_enough(height, width, options)

    def constant(tiles):
        return np.full((*tiles.shape[:3], 3), 0.7, np.float32)

    result = blend(random_image(height, width), constant, **options)
    assert result.shape == (height, width, 3)
    np.testing.assert_allclose(result, 0.7, rtol=1e-6)


@THOROUGH
@given(SIDES, st.sampled_from([1, 3, 17, 61]), SETTINGS)
def test_linear_predictors_commute_with_blending(height, width, options):
    options = slow_enough(height, width, options)
    matrix = np.array([[0.3, -1.0, 2.0], [0.5, 0.25, -0.1]], np.float32)
    image = random_image(height, width)
    mixed = blend(image, lambda tiles: tiles @ matrix, **options)
    np.testing.assert_allclose(mixed, image @ matrix, atol=1e-5)


@THOROUGH
@given(st.data(), SIDES, st.sampled_from([1, 2, 5, 30, 61]), SETTINGS)
def test_turning_the_image_turns_the_result(data, height, width, options):
    """For any predictor, also one that is not the same after a turn, as tiles lie symmetrically."""
    options = slow_enough(height, width, options)
    if options["symmetries"] == "none":
        options["symmetries"] = "d4"
    view = data.draw(st.sampled_from(SYMMETRIES[options["symmetries"]]))

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
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_is_reported_with_its_place(symmetries, bad):
    image = random_image(50, 70)
    image[33, 61, 1] = 1000.0

    def sick(tiles):
        return np.where(tiles > 500.0, np.float32(bad), tiles)

    with pytest.raises(PredictorNumberError, match=r"of class 1 at \(row, column\) \(33, 61\)"):
        blend(image, sick, tile_px=16, symmetries=symmetries)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_px": 0}, "`tile_px`"),
        ({"overlap": 1.0}, r"`overlap` must be in \[0, 1\)"),
        ({"overlap": -0.1}, "`overlap`"),
        ({"symmetries": "d8"}, "none, flips, d4"),
        ({"window": "round"}, "spline, hann, flat"),
        ({"batch_size": 0}, "`batch_size`"),
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
