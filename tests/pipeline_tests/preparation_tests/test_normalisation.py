"""Scaling against NumPy, SciPy and scikit-image; no-data never counts and never leaks; finite whatever comes."""

from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from skimage.exposure import rescale_intensity

from pipeline.preparation.normalisation import BandScaling, Normalisation
from search_space.decode import decode, encode
from search_space.errors import MalformedError, MapgroveError
from search_space.records import BandNumbers
from search_space.training_plan import Scaling, ScalingKind, ScalingScope

KINDS = get_args(ScalingKind)
ORDINARY = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)
ANY = st.floats(width=32, allow_subnormal=False)
EVERY = [Scaling(kind=kind, scope=scope) for kind, scope in product(KINDS, get_args(ScalingScope))]


@dataclass(frozen=True)
class Imagery:
    cube: NDArray[np.float32]
    valid: NDArray[np.bool_]


def make(seed: int, scale: float = 1.0, no_data: bool = False) -> Imagery:
    """Two bands of noise, and a constant one."""
    rng = np.random.default_rng(seed)
    cube = (rng.normal(100, 20, (40, 50, 3)) * [1, 10, 0] * scale).astype(np.float32)
    valid = np.ones((40, 50), bool)
    if no_data:
        valid[:, :10] = False
        cube[~valid] = np.nan
    return Imagery(cube, valid)


def column(values: Any) -> Imagery:
    """A scene of one band that holds the values."""
    cube = np.asarray(values, np.float32).reshape(-1, 1, 1)
    return Imagery(cube, np.ones(cube.shape[:2], bool))


def scaled(scaling: Scaling, training: list[Imagery], scene: Imagery) -> NDArray[np.float32]:
    return Normalisation.fit(scaling, training).for_scene(scene).apply(scene.cube)


def training_pixels(scenes: list[Imagery]) -> NDArray[np.float64]:
    return np.concatenate([scene.cube[scene.valid] for scene in scenes]).astype(np.float64)


def test_clipped_takes_percentiles_mean_and_deviation_of_the_valid_training_pixels() -> None:
    scenes = [make(0), make(1, no_data=True)]
    pixels = training_pixels(scenes)
    low, high = np.percentile(pixels, (1, 99), axis=0)
    clipped = np.clip(pixels, low, high)

    scaling = Normalisation.fit(Scaling(), scenes).for_scene(make(2))

    np.testing.assert_allclose(scaling.low, low, rtol=1e-6)
    np.testing.assert_allclose(scaling.high, high, rtol=1e-6)
    np.testing.assert_allclose(scaling.mean, clipped.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scaling.std[:2], clipped.std(axis=0)[:2], rtol=1e-4)
    assert scaling.steps is None


def test_standard_is_the_score_in_deviations_and_clips_nothing() -> None:
    scenes, other = [make(0), make(1)], make(2)
    other.cube[0, 0, :2] = 1e6

    expected = stats.zmap(other.cube[..., :2].astype(np.float64), training_pixels(scenes)[:, :2], axis=0)

    np.testing.assert_allclose(scaled(Scaling(kind="standard"), scenes, other)[..., :2], expected, rtol=1e-4, atol=1e-4)
    assert expected.max() > 1000


@pytest.mark.parametrize("percentiles", [(1.0, 99.0), (2.0, 98.0), (0.0, 100.0)])
def test_percentile_stretches_what_lies_between_them_to_plus_and_minus_one(percentiles: tuple[float, float]) -> None:
    scenes, other = [make(0), make(1, no_data=True)], make(2)
    scaling = Scaling(kind="percentile", low_percentile=percentiles[0], high_percentile=percentiles[1])

    found = scaled(scaling, scenes, other)

    for k in range(2):
        ends = tuple(np.percentile(training_pixels(scenes)[:, k], percentiles))
        stretched = rescale_intensity(other.cube[..., k].astype(np.float64), in_range=ends, out_range=(-1.0, 1.0))
        np.testing.assert_allclose(found[..., k], stretched, atol=1e-5)
    assert np.abs(found).max() < 1 + 1e-6


def test_bytes_are_what_an_eight_bit_copy_would_hold() -> None:
    scene = make(0)
    scaling = Scaling(kind="bytes", low_percentile=2.0, high_percentile=98.0)

    found = scaled(scaling, [scene], scene)[..., :2]

    low, high = np.percentile(scene.cube[..., :2], (2, 98), axis=(0, 1))
    copy = np.clip((scene.cube[..., :2].astype(np.float64) - low) / (high - low) * 255, 0, 255)
    levels = (found.astype(np.float64) + 1) * 127.5
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    # A value in the middle between two levels may go to either: float32 against float64.
    assert np.abs(levels - copy).max() < 0.5 + 1e-3
    assert len(np.unique(np.rint(levels))) == 256


def test_rounding_takes_the_nearest_level() -> None:
    scaling = BandScaling(*(np.array([value], np.float32) for value in (0, 4, 2, 2)), steps=4)

    levels = scaling.apply(np.array([[-9.0], [0.4], [0.6], [2.2], [3.9], [9.0], [np.nan]], np.float32))

    assert levels.ravel().tolist() == [-1.0, -1.0, -0.5, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("scaling", EVERY, ids=str)
def test_no_data_and_constant_bands_become_zero(scaling: Scaling) -> None:
    scene = make(0, no_data=True)

    found = scaled(scaling, [scene], scene)

    assert (found[~scene.valid] == 0).all()
    assert (found[..., 2] == 0).all()
    # Of a symmetric distribution mean and middle are about the same.
    assert abs(found[scene.valid][:, 0].mean()) < 0.1
    assert np.isnan(scene.cube).any(), "the cube itself must stay as it was"


@pytest.mark.parametrize("kind", KINDS)
def test_a_band_that_training_shows_nothing_of_is_zero_elsewhere_too(kind: ScalingKind) -> None:
    constant, empty, other = make(0), make(0), make(1)
    empty.cube[..., 2] = np.nan
    other.cube[..., 2] = np.linspace(-1e6, 1e6, 2000, dtype=np.float32).reshape(40, 50)

    for training in (constant, empty):
        found = scaled(Scaling(kind=kind), [training], other)
        assert (found[..., 2] == 0).all()
        assert found[..., :2].std() > 0.1


@pytest.mark.parametrize("scaling", EVERY, ids=str)
@settings(max_examples=60, deadline=None)
@given(
    training=st.lists(ORDINARY, min_size=1, max_size=40),
    other=st.lists(ANY, min_size=1, max_size=20),
)
def test_it_is_finite_whatever_comes(scaling: Scaling, training: list[float], other: list[float]) -> None:
    normalisation = Normalisation.fit(scaling, [column(training)])
    scene = column(training) if scaling.scope == "scene" else column(other)

    with np.errstate(over="ignore", invalid="ignore"):
        found = normalisation.for_scene(scene).apply(column(other).cube)

    assert np.isfinite(found).all()
    if scaling.kind in ("percentile", "bytes"):
        assert np.abs(found).max() <= 1 + 1e-3


def test_a_pixel_without_end_is_clipped_like_any_other_and_without_clipping_counts_as_no_data() -> None:
    endless = column([np.inf, -np.inf])

    assert scaled(Scaling(kind="standard"), [make(0)], endless).tolist() == [[[0.0] * 3]] * 2
    assert scaled(Scaling(kind="percentile"), [make(0)], endless)[:, 0, 0] == pytest.approx([1.0, -1.0])


def test_a_deviation_that_no_float_holds_divides_by_no_zero() -> None:
    least = np.float32(1.2e-38)
    scene = column([least, np.nextafter(least, np.float32(1.0))])

    scaling = Normalisation.fit(Scaling(kind="standard"), [scene]).for_scene(scene)

    assert (scaling.std > 0).all()
    assert np.isfinite(scaling.apply(scene.cube)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_scope_scene_makes_differently_stretched_scenes_alike(kind: ScalingKind) -> None:
    normalisation = Normalisation.fit(Scaling(kind=kind, scope="scene"), [])
    plain, stretched = make(0), make(0, scale=4.0)

    np.testing.assert_allclose(
        normalisation.for_scene(plain).apply(plain.cube),
        normalisation.for_scene(stretched).apply(stretched.cube),
        atol=1e-4,
    )
    assert normalisation.numbers is None


@pytest.mark.parametrize("kind", KINDS)
def test_scope_dataset_keeps_a_brighter_scene_brighter(kind: ScalingKind) -> None:
    dark, bright = make(0), make(0, scale=1.2)
    normalisation = Normalisation.fit(Scaling(kind=kind), [dark, bright])

    def level(scene: Imagery) -> float:
        return float(normalisation.for_scene(scene).apply(scene.cube)[..., :2].mean())

    assert level(bright) > level(dark) + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_survive_being_written_down(kind: ScalingKind) -> None:
    fitted = Normalisation.fit(Scaling(kind=kind), [make(0)])
    assert fitted.numbers is not None

    again = Normalisation(fitted.scaling, decode(BandNumbers, encode(fitted.numbers), where="test"))

    assert again == fitted
    np.testing.assert_array_equal(
        again.for_scene(make(1)).apply(make(1).cube), scaled(fitted.scaling, [make(0)], make(1))
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"std": [1.0]}, "must have as many numbers"),
        ({"std": [1.0, 0.0]}, "must be above 0. Received 0"),
        ({"mean": [0.0, None]}, "must be a number"),
    ],
)
def test_numbers_that_cannot_scale_are_refused(change: dict[str, Any], match: str) -> None:
    plain = {"low": [None, 0.0], "high": [None, 1.0], "mean": [0.0, 0.5], "std": [1.0, 0.5], **change}

    with pytest.raises(MalformedError, match=match):
        decode(BandNumbers, plain, where="model_set.json")


@pytest.mark.parametrize("scope", get_args(ScalingScope))
def test_imagery_without_data_is_refused(scope: ScalingScope) -> None:
    scene = make(0)
    empty = Imagery(scene.cube, np.zeros_like(scene.valid))

    with pytest.raises(MapgroveError, match="no pixel has data"):
        Normalisation.fit(Scaling(scope=scope), [empty]).for_scene(empty)
